"""Committed rows of one feed for Python: pandas, Arrow, DuckDB or polars.

Only the files of the asked days or version are opened, and all but pandas are lazy: nothing is read before it
is asked for. Values arrive as what they are, BIGINT and DECIMAL with NULLs among them too. It refuses to guess:
a day that is an instant, a column that is not there and a version that is gone are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

from ksql_lake.errors import ConfigError, CorruptLakeError, LakeError
from ksql_lake.feeds import Feed, StreamFeed
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.scan import PATH_COLUMNS, unified_columns
from ksql_lake.query.day_range import check_closed, check_read, days_between
from ksql_lake.query.engines import ENGINES, Rows
from ksql_lake.query.holdings import Holdings
from ksql_lake.query.versions import kept_version

_Given = TypeVar("_Given")

_TRIES = 5
"""How often rows are read again because files were merged or removed while they were read."""


def read_stream(  # noqa: PLR0913 - what to read, and in what form
    name: str,
    start: date | str | None = None,
    end: date | str | None = None,
    *,
    columns: Sequence[str] | None = None,
    as_: str = "pandas",
    allow_missing: bool = False,
    allow_open: bool = False,
    root: str | Path | None = None,
    feeds: str | Path | None = None,
) -> Any:
    """Read a stream's rows of some days: those named, or all that were read.

    Args:
        name: The feed.
        start: First day, a date or `YYYY-MM-DD`; None begins with the oldest. Days are the partitions, so they
            are days of the feed's time zone.
        end: Last day, included, as `--to` is; None ends with the newest.
        columns: Which columns, in this order; None means all, `year`, `month` and `day` last.
        as_: `pandas` (a DataFrame with Arrow's types, read at once), `arrow` (a `pyarrow.dataset.Dataset`),
            `duckdb` (a relation) or `polars` (a LazyFrame); the last three read when they are asked for rows.
        allow_missing: Take days of the range that no export has read for days without rows.
        allow_open: Take days that were read before they had ended as they are; asked for only where `end` is
            given, since the newest day is open as a rule.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.

    Returns:
        The rows that are committed and in place, of all days that have any; without such a day, no rows of the
        right types.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: It is a table, a day or a column cannot be meant, or `as_` is none of the above.
        LakeError: The feed was never exported, or a day of the range was not read, or not to its end.
    """
    first, last = _day(start, "start"), _day(end, "end")
    if first and last and first > last:
        raise ConfigError(f"start {first} lies after end {last}", hint="Both days are included.")

    lake = _feed_lake(name, "stream", root, feeds)
    feed = lake.feed

    def days(state: FeedState) -> list[str]:
        if isinstance(feed, StreamFeed) and (first or last):
            wanted = days_between(state, first, last)
            if not allow_missing:
                check_read(feed, state, wanted)
            if last and not allow_open:
                check_closed(feed, state, wanted)
        return [day for day in state.partition_keys() if (first or day) <= day <= (last or day)]

    return _read(lake, days, columns, as_)


def read_table(
    name: str,
    version: str | int = "latest",
    *,
    columns: Sequence[str] | None = None,
    as_: str = "pandas",
    root: str | Path | None = None,
    feeds: str | Path | None = None,
) -> Any:
    """Read one version of a table, a whole snapshot, with the columns that version has.

    Args:
        name: The feed.
        version: `latest`, `previous`, or one that is kept: `v3` or 3.
        columns: Which columns, in this order; None means all, `version` last.
        as_: As in `read_stream`.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: It is a stream, a column cannot be meant, or `as_` is none of the above.
        VersionError: The version is not in the lake, e.g. because retention removed it.
        LakeError: The feed was never exported.
    """
    lake = _feed_lake(name, "table", root, feeds)
    return _read(lake, lambda state: [kept_version(state, name, version)], columns, as_)


def _feed_lake(name: str, kind: str, root: str | Path | None, feeds: str | Path | None) -> FeedLake:
    holdings = Holdings.open(root, feeds)
    feed: Feed = holdings.get(name)
    if feed.kind != kind:
        raise ConfigError(f"feed {name!r} is a {feed.kind}, not a {kind}", hint=f"Say read_{feed.kind}.")
    return holdings.lake.feed(feed)


def read_rows(
    lake: FeedLake,
    partitions: Callable[[FeedState], list[str]],
    columns: Sequence[str] | None,
    give: Callable[[Rows], _Given],
) -> _Given:
    """Give a feed's rows of one commit; read again where a merge or a retention takes files away meanwhile.

    Args:
        lake: The feed's lake.
        partitions: Chooses among what is committed and in place.
        columns: Which columns, in this order; None means all.
        give: Makes of them what is wanted.

    Raises:
        LakeError: The feed was never exported, or never with a row.
        CorruptLakeError: A committed file is gone.
        ConfigError: A column cannot be meant.
    """
    for left in reversed(range(_TRIES)):
        state = lake.published()
        _check_exported(lake, state)
        chosen = partitions(state)
        _check_columns_known(lake, state)
        rows = Rows(lake, state, chosen, columns)
        _check_columns(rows)
        try:
            return give(rows)
        except FileNotFoundError as error:
            # A merge or a retention may have taken away what was just listed; without one the lake is damaged.
            if not left or lake.published().sequence == state.sequence:
                raise CorruptLakeError(
                    f"a committed file is gone: {error}",
                    hint="Run `ksql-lake doctor` to see everything that is missing.",
                    feed=lake.feed.name,
                ) from error
    raise AssertionError("the loop ends by itself")


def _read(
    lake: FeedLake,
    partitions: Callable[[FeedState], list[str]],
    columns: Sequence[str] | None,
    as_: str,
) -> Any:
    if as_ not in ENGINES:
        raise ConfigError(f"rows cannot be given as {as_!r}", hint="Say as_= pandas, arrow, duckdb or polars.")
    return read_rows(lake, partitions, columns, ENGINES[as_])


def _check_exported(lake: FeedLake, state: FeedState) -> None:
    if state.columns is None and not state.looked:
        raise LakeError(
            "nothing was exported yet",
            hint=f"Run `ksql-lake export --{lake.feed.kind} {lake.feed.name}` first.",
            feed=lake.feed.name,
        )


def _check_columns_known(lake: FeedLake, state: FeedState) -> None:
    if state.columns is None:
        raise LakeError(
            "every day that was read is empty, so its columns are not known yet",
            hint="They are known as soon as one row was exported.",
            feed=lake.feed.name,
        )


def _check_columns(rows: Rows) -> None:
    if rows.columns is None:
        return
    if isinstance(rows.columns, str):
        raise ConfigError(f"columns must be a list of names, not the text {rows.columns!r}")
    known = [*unified_columns(rows.state, rows.partitions)[0].names, *PATH_COLUMNS[rows.state.kind]]
    for at, name in enumerate(rows.columns):
        if name not in known:
            hint = did_you_mean(name, known) or f"There are: {', '.join(known)}."
            raise ConfigError(f"there is no column {name!r}", hint=hint, feed=rows.lake.feed.name)
        if name in rows.columns[:at]:
            raise ConfigError(f"column {name!r} is asked for twice", feed=rows.lake.feed.name)
    if not rows.columns:
        raise ConfigError("columns names no column", hint="Leave it out for all.", feed=rows.lake.feed.name)


def _day(value: date | str | None, argument: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            value = repr(value)
    elif not isinstance(value, datetime):
        return value.isoformat()
    raise ConfigError(
        f"{argument} must be a day, not {value}",
        hint="Give a datetime.date or a text such as '2025-01-31'; rows are read by whole days.",
    )
