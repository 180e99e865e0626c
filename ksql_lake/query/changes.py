"""A table's kept versions as a change feed and as a history: two more views, plain SQL.

`NAME_changes` has a row per change between neighbouring versions, judged as a diff does. `NAME_history` has a
row per state of a row with the time it was seen from and to (a slowly changing dimension of type 2); there a
column that came or went does make a new state, so that the states of any moment are the whole version. Both
begin with the oldest kept version that has the newest one's key; what lies before another one is left out.
Columns are those of all these versions; one whose types cannot be read as one becomes two, as a stream's do
(`PRICE`, `PRICE_V2`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa

from ksql_lake.errors import LakeError, SchemaChangeError, VersionError
from ksql_lake.lake import FeedState
from ksql_lake.lake.equality import sql_name, sql_text, terms
from ksql_lake.lake.evolution import unify, versioned_names
from ksql_lake.query.comparison import Side, changes_sql, compare, same_key
from ksql_lake.query.view import Committed, View
from ksql_lake.schema import Schema, arrow_schema, parse_schema


@dataclass(frozen=True, slots=True)
class _Version:
    """One kept version: its key as SQL text, when it was read as an SQL timestamp, and its rows."""

    key: str
    read_at: str
    side: Side


def change_views(committed: Committed) -> list[View]:
    """Give a table's change feed and history; none for a stream, or a table that does not know its key."""
    if committed.feed.kind != "table":
        return []
    versions = _versions(committed)
    if not versions:
        return []
    name = committed.feed.name
    about = committed.feed.description or f"table {committed.feed.source}"
    return [
        View(f"{name}_changes", _changes(versions), f"{about} (what changed from version to version)"),
        View(f"{name}_history", _history(versions), f"{about} (every state of every row, with its time)"),
    ]


def change_rows(committed: Committed, after: str | None) -> str:
    """Give the SELECT of what changed since a version, step by step; None means the latest version as inserts.

    Raises:
        VersionError: The version is not in the lake any more.
        SchemaChangeError: The key is not the one the version has.
        LakeError: The table does not know its key.
    """
    state, name = committed.state, committed.feed.name
    kept, versions = state.partition_keys(), _versions(committed)
    if not versions:
        raise LakeError(
            "this table does not know its key, so its rows cannot be followed",
            hint="The feed's `columns` left the key out. Add it there (or drop `columns`) and export again.",
            feed=name,
        )
    if after is None:
        return _inserts(versions[-1])
    if after not in kept:
        raise VersionError(
            f"the cursor stands at version {after}, which is not in the lake any more",
            hint=f"There are {', '.join(kept)}. Begin anew without a cursor, and ask more often or keep more "
            "versions (`retention`).",
            feed=name,
        )
    known = [sql_text(key) for key in followed(state)]
    if sql_text(after) not in known:
        raise SchemaChangeError(
            f"the key has changed since version {after}, where the cursor stands",
            hint="Begin anew without a cursor.",
            feed=name,
        )
    behind = versions[known.index(sql_text(after)) :]
    steps = [
        f"SELECT {at} AS step, {new.key} AS version, {new.read_at} AS changed_at, * FROM (\n{_between(old, new)}\n)"
        for at, (old, new) in enumerate(pairwise(behind))
    ]
    if not steps:
        return f"FROM ({_inserts(versions[-1])}) WHERE false"
    listed = "\nUNION ALL\n".join(steps)
    return f"SELECT * EXCLUDE (step) FROM (\n{listed}\n) ORDER BY step, key"


def change_types(committed: Committed) -> pa.Schema:
    """Give the Arrow types of `change_rows`."""
    shape = _versions(committed)[-1].side.shown
    rows = pa.struct(arrow_schema(shape))
    keys = pa.struct(arrow_schema(Schema(tuple(column for column in shape if column.key))))
    listed = {"op": pa.string(), "key": keys, "changed": pa.list_(pa.string()), "before": rows, "after": rows}
    when = {"version": pa.string(), "changed_at": pa.timestamp("ms", "UTC")}
    return pa.schema(list((when | listed).items()))


def _inserts(version: _Version) -> str:
    side, shape = version.side, version.side.shown
    key = side.struct("o", [column for column in shape if column.key])
    row = side.struct("o", shape.columns)
    return (
        f"SELECT {version.key} AS version, {version.read_at} AS changed_at, 'insert' AS op, {key} AS key, "
        f"CAST(NULL AS VARCHAR[]) AS changed, CASE WHEN false THEN {row} END AS before, {row} AS after "
        f"FROM {side.rows()} AS o"
    )


def followed(state: FeedState) -> dict[str, Schema]:
    """Give the newest kept versions that have one and the same key, oldest first, with their columns."""
    found: dict[str, Schema] = {}
    newer: Schema | None = None
    for key in reversed(state.partition_keys()):
        schema = parse_schema(state.partitions[key].schema)
        if not any(column.key for column in schema) or (newer is not None and not same_key(schema, newer)):
            break
        found[key] = newer = schema
    return dict(reversed(found.items()))


def _versions(committed: Committed) -> list[_Version]:
    schemas = followed(committed.state)
    names: dict[str, Mapping[str, str]] = {}
    shape: Schema | None = None
    for key, schema in schemas.items():
        names[key] = _names(shape, schema)
        renamed = Schema(tuple(replace(column, name=names[key][column.name]) for column in schema))
        shape = unify(shape, renamed) if shape else renamed
    return [
        _Version(
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
    """Name a version's columns so that each name, in any case of letters, has one type in all versions."""
    spelled = {column.name.casefold(): column.name for column in held or ()}
    named = versioned_names(held, schema)
    return {column: spelled.get(name.casefold(), name) for column, name in named.items()}


def _changes(versions: list[_Version]) -> str:
    steps = [
        f"SELECT {new.key} AS version, {new.read_at} AS changed_at, * FROM (\n{_between(old, new)}\n)"
        for old, new in pairwise(versions)
    ]
    if steps:
        return "\nUNION ALL\n".join(steps)
    # Nothing has happened yet; this gives the types.
    only = versions[0]
    nothing = f"({_between(only, only)}) WHERE false"
    return f"SELECT {only.key} AS version, {only.read_at} AS changed_at, * FROM {nothing}"


def _history(versions: list[_Version]) -> str:
    shape = versions[0].side.shown
    aligned = [replace(version, side=version.side.aligned()) for version in versions]
    first = aligned[0].side
    key = first.struct("o", [column for column in shape if column.key])
    found = [f"SELECT {key} AS key, {first.struct('o', shape.columns)} AS after FROM {first.rows()} AS o"]
    found += [f"SELECT key, after FROM (\n{_between(old, new)}\n)" for old, new in pairwise(aligned)]
    steps = [
        f"SELECT {at} AS step, {version.key} AS version, {version.read_at} AS seen_at, * FROM ({rows})"
        for at, (version, rows) in enumerate(zip(versions, found, strict=True))
    ]
    same = [
        term for column in shape if column.key for term in terms(f"key.{sql_name(column.name)}", column.type)
    ]
    taken = {column.name.casefold() for column in shape}
    since, until, since_version, until_version = (
        _free(name, taken) for name in ("valid_from", "valid_to", "from_version", "to_version")
    )
    listed = ", ".join(f"after.{sql_name(column.name)} AS {sql_name(column.name)}" for column in shape)
    return (
        f"SELECT {listed}, seen_at AS {since}, gone_at AS {until}, "
        f"version AS {since_version}, gone_version AS {until_version} FROM (\n"
        "SELECT after, seen_at, version, lead(seen_at) OVER row_states AS gone_at, "
        "lead(version) OVER row_states AS gone_version\nFROM (\n" + "\nUNION ALL\n".join(steps) + "\n)\n"
        f"WINDOW row_states AS (PARTITION BY {', '.join(same)} ORDER BY step)\n) WHERE after IS NOT NULL"
    )


def _between(old: _Version, new: _Version) -> str:
    return changes_sql(old.side, new.side, compare(old.side.schema, new.side.schema))


def _free(name: str, taken: set[str]) -> str:
    """Give a name that no column of the table has."""
    while name in taken:
        name += "_"
    return name
