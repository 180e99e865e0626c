"""Changes since a cursor: a stream's new rows, each once, and a table's changes by key."""

# A cursor is a commit number with that commit's attempt id, so that a cursor of another feed or of a restored
# lake is an error. So is the loss of rows after the cursor.

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from ksql_lake.errors import ConfigError, CorruptLakeError, LakeError
from ksql_lake.lake import FeedLake, FeedState, FileEntry
from ksql_lake.lake.timeline import Timeline, narrowed
from ksql_lake.query.engines import Rows
from ksql_lake.query.frames import engine, read_rows, settled
from ksql_lake.query.known_feeds import Holdings
from ksql_lake.query.sql.connection import blank_connection
from ksql_lake.query.sql.views import Committed, change_rows, change_types

_CURSOR = re.compile(r"([^@\s]+)@(0|[1-9][0-9]{0,18})(?:\.([0-9A-Za-z-]+))?")


class Changes(NamedTuple):
    """The rows since a cursor, and the cursor for the next call."""

    rows: Any
    cursor: str


def changes_since(
    name: str,
    cursor: str | None = None,
    *,
    as_: str = "pandas",
    root: str | Path | None = None,
    feeds: str | Path | None = None,
) -> Changes:
    """Read the changes since a cursor, with the cursor for the next call.

    For a stream the changes are the rows that exports added since, also late ones, each once; without a cursor
    all rows. For a table they are the changes between the versions since: `version`, `changed_at`, `op`
    (`insert`, `update`, `delete`), `key`, `changed`, `before`, `after`, version by version; without a cursor
    the rows of the latest version as inserts.

    Store the cursor with the rows, in one transaction if possible: a second call with the same cursor returns
    the same rows again, and those that were added meanwhile.

    Args:
        name: The feed.
        cursor: The cursor of the last call; None for the first call.
        as_: As in `read_stream`.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.

    Raises:
        UnknownFeedError: No feed has this name.
        ConfigError: The cursor is invalid or belongs to another feed, or `as_` names no engine.
        VersionError: Retention removed the version of the cursor.
        SchemaChangeError: The table's key has changed since the cursor.
        LakeError: The cursor's commit is not in this lake, rows were removed since, or a commit since is lost.
        CorruptLakeError: A committed file is missing or cannot be read.
    """
    give = engine(as_)
    holdings = Holdings.open(root, feeds)
    lake = holdings.lake.feed(holdings.get(name))
    since = _parsed(cursor, name)
    if lake.feed.kind == "table":
        return _table(lake, since, as_)
    reached: list[FeedState] = []

    def choose(state: FeedState) -> Rows:
        reached[:] = [state]
        return _stream(lake, state, since)

    rows = read_rows(lake, choose, give)
    return Changes(rows, _cursor(lake, reached[0]))


@dataclass(frozen=True, slots=True)
class _Since:
    commit: int
    attempt: str


def _parsed(cursor: str | None, name: str) -> _Since:
    if cursor is None:
        return _Since(0, "")
    found = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if found is None or bool(int(found[2])) != bool(found[3]):
        raise ConfigError(f"{cursor!r} is no cursor", hint="Pass the cursor of the last changes_since.")
    if found[1] != name:
        raise ConfigError(
            f"this cursor belongs to feed {found[1]}, not to {name}", hint="Each feed has its own."
        )
    return _Since(int(found[2]), found[3] or "")


def _cursor(lake: FeedLake, state: FeedState) -> str:
    number = state.sequence
    return f"{lake.feed.name}@{number}" + (f".{lake.log.manifest(number).attempt}" if number else "")


def _check_commit(lake: FeedLake, now: FeedState, since: _Since) -> None:
    """Check that a cursor belongs to this lake's history.

    Raises:
        LakeError: It does not.
    """
    if since.commit == 0:
        return
    if since.commit > now.sequence:
        why = f"the lake ends with commit {now.sequence}"
    elif (made := lake.log.manifest(since.commit).attempt) != since.attempt:
        why = f"commit {since.commit} is another one, {made}"
    else:
        return
    raise LakeError(
        f"the cursor is at commit {since.commit} ({since.attempt}), but {why}: was the lake restored?",
        hint=_ANEW,
        feed=lake.feed.name,
    )


_ANEW = "Start again: changes_since without a cursor returns all rows."


def _stream(lake: FeedLake, now: FeedState, since: _Since) -> Rows:
    _check_commit(lake, now, since)
    if since.commit == 0:
        return Rows(lake, now, now.partition_keys())
    timeline = Timeline(lake.log, now)
    base = timeline.state(since.commit)
    found = timeline.find(_added(lake, timeline, base), base)
    held = narrowed(now, found.whole)
    more = timeline.rows(held, found.pieces) if found.pieces else None
    return Rows(lake, held, held.partition_keys(), more=more)


def _added(lake: FeedLake, timeline: Timeline, base: FeedState) -> list[FileEntry]:
    """Return the files that exports committed since and whose rows still exist.

    Raises:
        LakeError: Rows from before the cursor were removed since; a new export of them would look like new
            rows. Or rows were merged whose commit is lost, so that they may be new ones.
    """
    seen = {file.path for file in base.files()}
    added: dict[str, FileEntry] = {}
    merged: dict[str, set[str]] = {}
    for manifest in timeline.manifests(base.sequence):
        origins = {path: merged.get(path, {path}) for path in manifest.removed}
        if manifest.operation == "compact":
            if not seen | added.keys() | merged.keys() >= set(manifest.removed):
                raise LakeError(
                    f"commit {manifest.sequence} merged rows of a commit that is lost, so that it is not known "
                    "which rows came since the cursor",
                    hint=_ANEW,
                    feed=lake.feed.name,
                )
            for entry in manifest.added:
                merged[entry.path] = set().union(*origins.values())
            continue
        for path in set().union(*origins.values()):
            if path in seen:
                raise LakeError(
                    f"commit {manifest.sequence} removed rows from before the cursor, so that an export "
                    "may add them again",
                    hint=_ANEW,
                    feed=lake.feed.name,
                )
            # No caller has received them; if they are exported again, they are new.
            added.pop(path, None)
        added |= {entry.path: entry for entry in manifest.added}
    return list(added.values())


def _table(lake: FeedLake, since: _Since, as_: str) -> Changes:
    def read(state: FeedState) -> Changes:
        return _table_changes(lake, Committed.at(lake, state), since, as_)

    def unreadable(error: Exception) -> CorruptLakeError:
        return CorruptLakeError(
            f"a committed file cannot be read: {error}",
            hint="Run `ksql-lake doctor` to list all missing files.",
            feed=lake.feed.name,
        )

    return settled(lake, read, gone=duckdb.IOException, damage=unreadable)


def _table_changes(lake: FeedLake, committed: Committed, since: _Since, as_: str) -> Changes:
    _check_commit(lake, committed.state, since)
    if committed.state.columns is None:
        read_rows(lake, lambda state: Rows(lake, state, []), engine(as_))  # raises: no export yet
    at = Timeline(lake.log, committed.state).state(since.commit).partition_keys()
    statement = change_rows(committed, at[-1] if at else None)
    cursor = _cursor(lake, committed.state)
    relation = blank_connection(lake.storage).sql(statement)
    if as_ == "duckdb":
        return Changes(relation, cursor)
    return Changes(_AS[as_](relation.to_arrow_table().cast(change_types(committed))), cursor)


def _pandas(table: pa.Table) -> Any:
    import pandas as pd  # noqa: PLC0415 - the other engines do without it

    return table.to_pandas(types_mapper=pd.ArrowDtype)


def _arrow(table: pa.Table) -> Any:
    import pyarrow.dataset as ds  # noqa: PLC0415 - it brings pandas along

    return ds.dataset(table)


def _polars(table: pa.Table) -> Any:
    import polars as pl  # noqa: PLC0415 - an extra

    return pl.DataFrame(pl.from_arrow(table)).lazy()


_AS = {"pandas": _pandas, "arrow": _arrow, "polars": _polars}
