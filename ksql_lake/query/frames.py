"""Committed rows of one feed for Python: pandas, Arrow, DuckDB or polars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

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
"""Most repeated reads after files were merged or removed during a read."""


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
    """Read a stream's rows of some days or event times, in the present or an earlier state of the lake.

    Dates are text, `date`, `datetime`, or values of pandas and numpy. `2025-03` means the month, `2025-03-15`
    the day, both in the feed's time zone; a value with a time is an instant, in UTC unless it has an offset.

    Args:
        name: The feed.
        start: First day or month; None means the oldest. Days are the partitions.
        end: Last day or month, included, as with `--to`; None means the newest.
        from_time: First event time.
        to_time: End of the event times, not included; a day or a month is included.
        as_of: Read the state of the lake at this time, by its commits; of a day or a month, at its end.
        commit: Read the state of the lake at the commit of this number.
        columns: The columns, in this order; None means all, with `year`, `month` and `day` last.
        as_: `pandas` (a DataFrame with Arrow's types, read at once), `arrow` (a `pyarrow.dataset.Dataset`),
            `duckdb` (a relation) or `polars` (a LazyFrame); the last three read rows when they are used.
        allow_missing: Read days of the range that no export has read as days without rows.
        allow_open: Accept days that were read before they had ended; needed only with `end` or `to_time`,
            because the newest day is usually open.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.

    Returns:
        The committed rows of all days in the range; if there are none, an empty result with the right types.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: The feed is a table, a date or a column is invalid, or `as_` is none of the above.
        LakeError: The feed was never exported, a day of the range was not read, or not to its end, there is no
            such commit, or rows of that commit were removed.
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
    """Read one version of a table, a whole snapshot, with the columns of that version.

    Args:
        name: The feed.
        version: `latest` (the default), `previous`, or a kept version: `v3` or 3.
        as_of: Instead, the newest version whose reading had begun by this time, as in `NAME__as_of`; but a
            day or a month means its end here, in UTC, and its beginning there.
        commit: Instead, the newest version at the commit of this number.
        columns: The columns, in this order; None means all, with `version` last.
        as_: As in `read_stream`.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: The feed is a stream, a column or a time is invalid, or `as_` is none of the above.
        VersionError: The lake does not hold the version, e.g. because retention removed it.
        LakeError: The feed was never exported.
    """
    lake, choice = feed_lake(name, "table", root, feeds), TableChoice(version, Moment(commit, as_of))
    return read_rows(lake, lambda state: replace(choice.rows(lake, state), columns=columns), engine(as_))


def feed_lake(name: str, kind: str, root: str | Path | None, feeds: str | Path | None) -> FeedLake:
    """Return the lake of a feed of a kind.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: The feed is of the other kind.
    """
    holdings = Holdings.open(root, feeds)
    feed: Feed = holdings.get(name)
    if feed.kind != kind:
        raise ConfigError(f"feed {name!r} is a {feed.kind}, not a {kind}", hint=f"Say read_{feed.kind}.")
    return holdings.lake.feed(feed)


def read_rows(lake: FeedLake, choose: Callable[[FeedState], Rows], give: Callable[[Rows], _Given]) -> _Given:
    """Read chosen rows of one commit; repeat if a merge or a retention removes files meanwhile.

    Args:
        lake: The feed's lake.
        choose: Chooses the rows by the present state.
        give: Converts the rows; one of `ENGINES`, or a function that uses one.

    Raises:
        ConfigError: A column is invalid.
        LakeError: The feed was never exported, or never with a row, or what `choose` raises.
        CorruptLakeError: A committed file is missing or damaged.
    """

    def read(state: FeedState) -> _Given:
        _check_exported(lake, state)
        try:
            rows = choose(state)
            _check_columns_known(lake, state)
            _check_columns(rows)
            return give(rows)
        except FileNotFoundError:
            raise
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # an error of the operating system; Arrow's own errors carry no number
            raise CorruptLakeError(
                f"a committed file cannot be read: {error}",
                hint="Run `ksql-lake doctor` to list all damaged files.",
                feed=lake.feed.name,
            ) from error

    def missing(error: Exception) -> CorruptLakeError:
        return CorruptLakeError(
            f"a committed file is missing: {error}",
            hint="Run `ksql-lake doctor` to list all missing files.",
            feed=lake.feed.name,
        )

    return settled(lake, read, gone=FileNotFoundError, damage=missing)


def settled(
    lake: FeedLake,
    read: Callable[[FeedState], _Given],
    *,
    gone: type[Exception],
    damage: Callable[[Exception], CorruptLakeError],
) -> _Given:
    """Read one commit; read again if a merge or a retention removes files meanwhile.

    Args:
        lake: The feed's lake.
        read: Reads by the present state.
        gone: The error of a file that is not there.
        damage: Makes the error to raise if no merge or retention removed that file.

    Raises:
        CorruptLakeError: A committed file is missing.
    """
    for left in reversed(range(_TRIES)):
        state = lake.published()
        try:
            return read(state)
        except gone as error:
            # A merge or a retention may have removed a listed file; without one the lake is damaged.
            if not left or lake.published().sequence == state.sequence:
                raise damage(error) from error
    raise AssertionError("the loop always returns or raises")


def engine(as_: str) -> Callable[[Rows], Any]:
    """Return the engine of a name.

    Raises:
        ConfigError: There is no such engine.
    """
    if as_ not in ENGINES:
        raise ConfigError(f"rows cannot be read as {as_!r}", hint="Say as_= pandas, arrow, duckdb or polars.")
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
            hint="The first exported row determines them.",
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
            raise ConfigError(f"column {name!r} is named twice", feed=rows.lake.feed.name)
    if not rows.columns:
        raise ConfigError(
            "columns names no column", hint="Leave it out to read all columns.", feed=rows.lake.feed.name
        )
