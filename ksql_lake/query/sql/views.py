"""The SQL views of one feed, as text made from the feed and a committed state of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import msgspec
import pyarrow as pa

from ksql_lake.errors import LakeError, SchemaChangeError, VersionError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.files.evolution import unify, versioned_names
from ksql_lake.lake.files.sql_values import sql_name, sql_text
from ksql_lake.lake.rows.scan import committed_rows
from ksql_lake.lake.timeline import Timeline, narrowed
from ksql_lake.query.comparison import Side, changes_sql, compare, same_key
from ksql_lake.query.known_feeds import check_kept
from ksql_lake.query.sql.history_states import Version, history_sql
from ksql_lake.schema import Schema, arrow_schema, parse_schema

CHANGE_VIEWS = {
    "_changes": "what changed from version to version",
    "_history": "every state of every row, with its time",
}
"""Endings of the views' names, and what the views show."""


@dataclass(frozen=True, slots=True)
class View:
    """The definition of a view: its name, its SELECT, and its comment."""

    name: str
    sql: str
    comment: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A feed at one commit.

    Attributes:
        feed: The feed.
        state: The committed state.
        address: Returns the address of a file from its path in the dataset folder.
        read_at: When the reading of a table's version began.
    """

    feed: Feed
    state: FeedState
    address: Callable[[str], str]
    read_at: Callable[[str], datetime]

    @classmethod
    def of(cls, lake: FeedLake, commit: int | None = None) -> Committed:
        """Read the committed state of a feed, at present or at a commit.

        Raises:
            LakeError: Files of that commit were merged with later ones since, or were removed.
            CorruptLakeError: The feed has files and no commits.
        """
        return cls.at(lake, lake.published(), commit)

    @classmethod
    def at(cls, lake: FeedLake, state: FeedState, commit: int | None = None) -> Committed:
        """Return what a feed shows by its present state; see `of`."""
        check_kept(lake, state)
        if commit is not None and commit < state.sequence:
            state = _earlier(lake, state, commit)
        return cls(lake.feed, state, lake.address, lambda version: lake.read_at(state, version))


def _earlier(lake: FeedLake, now: FeedState, commit: int) -> FeedState:
    timeline = Timeline(lake.log, now)
    then = timeline.state(commit)
    if lake.feed.kind == "table" or not then.partitions:
        return then
    found = timeline.find(then.files(), then)
    if found.pieces:
        raise LakeError(
            "its files were merged with later ones since the connection was made",
            hint="Connect again, or use read_stream(commit=...) for that commit.",
            feed=lake.feed.name,
        )
    return msgspec.structs.replace(
        then, shapes=now.shapes, forms=now.forms, partitions=narrowed(now, found.whole).partitions
    )


Builder = Callable[[Committed, "str | None"], list[View]]


def change_views(committed: Committed, name: str | None = None) -> list[View]:
    """Return a table's views of changes and history; none for a stream, or a table without its key columns.

    Args:
        committed: The table.
        name: The only view to return; the texts are long.
    """
    if committed.feed.kind != "table":
        return []
    versions = _versions(committed)
    if not versions:
        return []
    table = committed.feed.name
    about = committed.feed.description or f"table {committed.feed.source}"
    made = zip(CHANGE_VIEWS.items(), (_changes, history_sql), strict=True)
    return [
        View(f"{table}{ending}", build(versions), f"{about} ({what})")
        for (ending, what), build in made
        if name in {None, f"{table}{ending}"}
    ]


def change_rows(committed: Committed, after: str | None) -> str:
    """Return the SELECT of the changes since a version, step by step; None means the latest version as inserts.

    Raises:
        VersionError: The lake no longer holds the version.
        SchemaChangeError: The key has changed since the version.
        LakeError: The table lacks its key columns.
    """
    state, name = committed.state, committed.feed.name
    kept, versions = state.partition_keys(), _versions(committed)
    if not versions:
        raise LakeError(
            "this table lacks its key columns, so its rows cannot be followed",
            hint="The feed's `columns` left the key out. Add it there (or drop `columns`) and export again.",
            feed=name,
        )
    if after is None:
        return _inserts(versions[-1])
    if after not in kept:
        raise VersionError(
            f"the cursor is at version {after}, which the lake no longer holds",
            hint=f"There are {', '.join(kept)}. Start again without a cursor, and ask more often or keep more "
            "versions (`retention`).",
            feed=name,
        )
    known = [sql_text(key) for key in followed(state)]
    if sql_text(after) not in known:
        raise SchemaChangeError(
            f"the key has changed since version {after}, the cursor's version",
            hint="Start again without a cursor.",
            feed=name,
        )
    behind = versions[known.index(sql_text(after)) :]
    steps = [
        f"SELECT {at} AS step, {new.key} AS version, {new.read_at} AS changed_at, * FROM ("
        f"\n{_between(old, new)}\n)"
        for at, (old, new) in enumerate(pairwise(behind))
    ]
    if not steps:
        return f"FROM ({_inserts(versions[-1])}) WHERE false"
    listed = "\nUNION ALL\n".join(steps)
    return f"SELECT * EXCLUDE (step) FROM (\n{listed}\n) ORDER BY step, key"


def change_types(committed: Committed) -> pa.Schema:
    """Return the Arrow types of `change_rows`."""
    shape = _versions(committed)[-1].side.shown
    rows = pa.struct(arrow_schema(shape))
    keys = pa.struct(arrow_schema(Schema(tuple(column for column in shape if column.key))))
    listed = {"op": pa.string(), "key": keys, "changed": pa.list_(pa.string()), "before": rows, "after": rows}
    when = {"version": pa.string(), "changed_at": pa.timestamp("ms", "UTC")}
    return pa.schema(list((when | listed).items()))


def _inserts(version: Version) -> str:
    side, shape = version.side, version.side.shown
    key = side.struct("o", [column for column in shape if column.key])
    row = side.struct("o", shape.columns)
    return (
        f"SELECT {version.key} AS version, {version.read_at} AS changed_at, 'insert' AS op, {key} AS key, "
        f"CAST(NULL AS VARCHAR[]) AS changed, CASE WHEN false THEN {row} END AS before, {row} AS after "
        f"FROM {side.rows()} AS o"
    )


def followed(state: FeedState) -> dict[str, Schema]:
    """Return the newest kept versions that have the same key, oldest first, with their columns."""
    found: dict[str, Schema] = {}
    newer: Schema | None = None
    for key in reversed(state.partition_keys()):
        schema = parse_schema(state.partitions[key].schema)
        if not any(column.key for column in schema) or (newer is not None and not same_key(schema, newer)):
            break
        found[key] = newer = schema
    return dict(reversed(found.items()))


def _versions(committed: Committed) -> list[Version]:
    schemas = followed(committed.state)
    names: dict[str, Mapping[str, str]] = {}
    shape: Schema | None = None
    for key, schema in schemas.items():
        names[key] = _names(shape, schema)
        renamed = Schema(tuple(replace(column, name=names[key][column.name]) for column in schema))
        shape = unify(shape, renamed) if shape else renamed
    return [
        Version(
            key=sql_text(key),
            read_at=f"TIMESTAMPTZ {sql_text(committed.read_at(key).isoformat())}",
            side=Side(
                [committed.address(file.path) for file in committed.state.files_of(key)],
                schema,
                shape=shape,
                names=names[key],
            ),
        )
        for key, schema in schemas.items()
    ]


def _names(held: Schema | None, schema: Schema) -> dict[str, str]:
    """Return names for a version's columns such that each name, in any case, has one type in all versions."""
    spelled = {column.name.casefold(): column.name for column in held or ()}
    named = versioned_names(held, schema)
    return {column: spelled.get(name.casefold(), name) for column, name in named.items()}


def _changes(versions: list[Version]) -> str:
    steps = [
        f"SELECT {new.key} AS version, {new.read_at} AS changed_at, * FROM (\n{_between(old, new)}\n)"
        for old, new in pairwise(versions)
    ]
    if steps:
        return "\nUNION ALL\n".join(steps)
    # There are no changes yet; this SELECT defines the types.
    only = versions[0]
    nothing = f"({_between(only, only)}) WHERE false"
    return f"SELECT {only.key} AS version, {only.read_at} AS changed_at, * FROM {nothing}"


def rows_as_of(committed: Committed, at: int) -> str | None:
    """Return the SELECT of a history's states at a time, epoch microseconds: the rows of one version.

    Returns None if a column of the table has a name of the time columns, or the times are out of order.
    """
    versions, times = _versions(committed), [committed.read_at(key) for key in followed(committed.state)]
    if not versions or any(one >= other for one, other in pairwise(times)):
        return None
    shape = versions[0].side.shown
    if {column.name.casefold() for column in shape} & {"valid_from", "valid_to", "from_version", "to_version"}:
        return None
    past = [time for time in times if round(time.timestamp() * 1_000_000) <= at]
    version = versions[max(len(past) - 1, 0)]
    listed = ", ".join(f"c{at} AS {sql_name(column.name)}" for at, column in enumerate(shape))
    return (
        f"SELECT {listed}, {version.read_at} AS valid_from, CAST(NULL AS TIMESTAMPTZ) AS valid_to "
        f"FROM {version.side.aligned().rows()}{'' if past else ' WHERE false'}"
    )


def _between(old: Version, new: Version) -> str:
    return changes_sql(old.side, new.side, compare(old.side.schema, new.side.schema))


DERIVED: tuple[Builder, ...] = (change_views,)
"""Makers of views over a feed's base views, `NAME` and for a table `NAME_versions`, which their SQL names.

Each is called for every feed that was ever exported, with the name of the only wanted view or None, and returns
an empty list for feeds without such views.
"""


def lake_views(committed: Committed) -> list[View]:
    """Return a feed's views, base views first; before its first export they are empty.

    A stream `NAME` has the view `NAME`. A table has `NAME`, its latest version, and `NAME_versions`, all
    versions.
    """
    return [*base_views(committed), *derived_views(committed)]


def base_views(committed: Committed) -> list[View]:
    """Return the views that read files."""
    feed, state, address = committed.feed, committed.state, committed.address
    about = feed.description or f"{feed.kind} {feed.source}"
    if feed.kind == "stream":
        return [View(feed.name, committed_rows(state, address), about)]
    newest = state.partition_keys()[-1:]
    return [
        View(feed.name, committed_rows(state, address, partitions=newest), f"{about} (the latest version)"),
        View(f"{feed.name}_versions", committed_rows(state, address), f"{about} (all kept versions)"),
    ]


def derived_views(committed: Committed, name: str | None = None) -> list[View]:
    """Return the views over the base views, or only the one of a name; none before the first export."""
    if committed.state.columns is None:
        return []
    return [view for build in DERIVED for view in build(committed, name)]


def listed_views(committed: Committed | Feed) -> list[tuple[str, str]]:
    """Return the names of a feed's views with their comments, without making their SQL.

    For a stream the feed is enough; a table's views depend on its committed state.
    """
    feed = committed.feed if isinstance(committed, Committed) else committed
    about, name = feed.description or f"{feed.kind} {feed.source}", feed.name
    if not isinstance(committed, Committed) or feed.kind == "stream":
        return [(name, about)]
    found = [(name, f"{about} (the latest version)"), (f"{name}_versions", f"{about} (all kept versions)")]
    if committed.state.columns is not None and followed(committed.state):
        found += [(f"{name}{ending}", f"{about} ({what})") for ending, what in CHANGE_VIEWS.items()]
    return found
