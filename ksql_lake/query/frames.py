"""Committed rows of one feed for Python: pandas, Arrow, DuckDB or polars.

Only the files asked for are opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ksql_lake.errors import ConfigError, CorruptLakeError, LakeError
from ksql_lake.feeds import Feed
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.rows.scan import PATH_COLUMNS, unified_columns
from ksql_lake.query.choice import Moment, StreamChoice, TableChoice
from ksql_lake.query.engines import ENGINES, Rows
from ksql_lake.query.known_feeds import Holdings, check_kept
from ksql_lake.query.moments import Given

_Given = TypeVar("_Given")

_TRIES = 5
"""How often rows are read again because files were merged or removed while they were read."""


def read_stream(  # noqa: PLR0913 - what to read, and in what form
    name: str,
    start: Given = None,
    end: Given = None,
    *,
    from_time: Given = None,
    to_time: Given = None,
    as_of: Given = None,
    commit: int | None = None,
    columns: Sequence[str] | None = None,
    as_: str = "pandas",
    allow_missing: bool = False,
    allow_open: bool = False,
    root: str | Path | None = None,
    feeds: str | Path | None = None,
) -> Any:
    """Read a stream's rows of some days or event times, now or as the lake showed them earlier.

    Dates are text, `date`, `datetime`, or values of pandas and numpy. `2025-03` means the month, `2025-03-15`
    the day, both in the feed's time zone; anything with a time is an instant, in UTC where it names no offset.

    Args:
        name: The feed.
        start: First day or month; None begins with the oldest. Days are the partitions.
        end: Last day or month, included, as `--to` is; None ends with the newest.
        from_time: First event time.
        to_time: Event times before it; a day or a month is included.
        as_of: What the lake showed then, by the times of its commits; of a day or a month, at its end.
        commit: What the lake showed at the commit of this number.
        columns: Which columns, in this order; None means all, `year`, `month` and `day` last.
        as_: `pandas` (a DataFrame with Arrow's types, read at once), `arrow` (a `pyarrow.dataset.Dataset`),
            `duckdb` (a relation) or `polars` (a LazyFrame); the last three read when they are asked for rows.
        allow_missing: Take days of the range that no export has read for days without rows.
        allow_open: Take days that were read before they had ended as they are; asked for only where `end` or
            `to_time` is given, since the newest day is open as a rule.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.

    Returns:
        The rows that are committed and in place, of all days that have any; without such a day, no rows of the
        right types.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: It is a table, a date or a column cannot be meant, or `as_` is none of the above.
        LakeError: The feed was never exported, a day of the range was not read, or not to its end, there is no
            such commit, or rows that were committed then are gone.
    """
    choice = StreamChoice(
        start,
        end,
        from_time,
        to_time,
        Moment(commit, as_of),
        allow_missing=allow_missing,
        allow_open=allow_open,
    )
    choice.check()
    lake = feed_lake(name, "stream", root, feeds)
    return read_rows(lake, lambda state: replace(choice.rows(lake, state), columns=columns), engine(as_))


def read_table(  # noqa: PLR0913 - what to read, and in what form
    name: str,
    version: str | int | None = None,
    *,
    as_of: Given = None,
    commit: int | None = None,
    columns: Sequence[str] | None = None,
    as_: str = "pandas",
    root: str | Path | None = None,
    feeds: str | Path | None = None,
) -> Any:
    """Read one version of a table, a whole snapshot, with the columns that version has.

    Args:
        name: The feed.
        version: `latest`, which is the default, `previous`, or one that is kept: `v3` or 3.
        as_of: Instead, the newest version whose reading had begun then, as in `NAME__as_of`; dates as in
            `read_stream`, days and months in UTC.
        commit: Instead, the newest version at the commit of this number.
        columns: Which columns, in this order; None means all, `version` last.
        as_: As in `read_stream`.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: It is a stream, a column or a time cannot be meant, or `as_` is none of the above.
        VersionError: The version is not in the lake, e.g. because retention removed it.
        LakeError: The feed was never exported.
    """
    lake, choice = feed_lake(name, "table", root, feeds), TableChoice(version, Moment(commit, as_of))
    return read_rows(lake, lambda state: replace(choice.rows(lake, state), columns=columns), engine(as_))


def feed_lake(name: str, kind: str, root: str | Path | None, feeds: str | Path | None) -> FeedLake:
    """Find a feed of a kind.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: It is of the other kind.
    """
    holdings = Holdings.open(root, feeds)
    feed: Feed = holdings.get(name)
    if feed.kind != kind:
        raise ConfigError(f"feed {name!r} is a {feed.kind}, not a {kind}", hint=f"Say read_{feed.kind}.")
    return holdings.lake.feed(feed)


def read_rows(lake: FeedLake, choose: Callable[[FeedState], Rows], give: Callable[[Rows], _Given]) -> _Given:
    """Read chosen rows of one commit; once more where a merge or a retention takes files away meanwhile.

    Args:
        lake: The feed's lake.
        choose: Chooses among what is committed and in place.
        give: Makes of the rows what is wanted; one of `ENGINES`, or what uses one.

    Raises:
        ConfigError: A column cannot be meant.
        LakeError: The feed was never exported, or never with a row, or what `choose` raises.
        CorruptLakeError: A committed file is gone.
    """
    for left in reversed(range(_TRIES)):
        state = lake.published()
        _check_exported(lake, state)
        try:
            rows = choose(state)
            _check_columns_known(lake, state)
            _check_columns(rows)
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


def engine(as_: str) -> Callable[[Rows], Any]:
    """Return the engine of a name.

    Raises:
        ConfigError: There is none.
    """
    if as_ not in ENGINES:
        raise ConfigError(f"rows cannot be given as {as_!r}", hint="Say as_= pandas, arrow, duckdb or polars.")
    return ENGINES[as_]


def _check_exported(lake: FeedLake, state: FeedState) -> None:
    if state.columns is None and not state.looked:
        check_kept(lake, state)
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
