"""The difference between two versions of a table: rows inserted, updated and deleted, by key."""

# DuckDB joins the two versions once and spills to disk. The join also finds deletes, which ksqlDB does not
# report.

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import finalize

import duckdb
import pyarrow as pa

from ksql_lake.errors import ConfigError, KsqlLakeError, LakeError, WriteError
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.files.evolution import widened
from ksql_lake.lake.rows.scan import spilling
from ksql_lake.lake.storage.boundary import free_space
from ksql_lake.query.comparison import Comparison, SchemaChange, Side, changes_sql, compare
from ksql_lake.query.known_feeds import Holdings
from ksql_lake.query.version_names import kept_version
from ksql_lake.schema import Column, Schema, arrow_schema, parse_schema

MEMORY: tuple[tuple[str | None, int], ...] = (("512MB", 2), ("2GB", 1), (None, 1))
"""DuckDB's memory limits and threads, tried in turn, for rows too long to spill."""
_BATCH_ROWS = 10_000
_OPS = ("insert", "update", "delete")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a table: its key (`v4`), when its reading began (UTC), and its rows."""

    version: str
    read_at: datetime
    rows: int

    def as_dict(self) -> dict[str, object]:
        """The version as JSON-ready data."""
        read_at = self.read_at.isoformat(timespec="milliseconds")
        return {"version": self.version, "read_at": read_at, "rows": self.rows}


class TableDiff:
    """The difference of two versions of a table; a context manager, because it may hold files until closed.

    Attributes:
        table: The feed's name.
        old: The version compared with.
        new: The version compared.
        key: The columns that identify a row.
        schema_changes: Columns that differ between both; they do not make a row an update.
        inserted: Rows only the new version has.
        updated: Rows with the same key and other values.
        deleted: Rows only the old version has.
        columns: For each compared column, in how many updates it changed.
        schema: The Arrow schema of `batches`: `op` (`insert`, `update`, `delete`), `key` (a struct of the key
            columns), `changed` (names of the columns an update changed, else NULL), `before` and `after`
            (structs of all columns; NULL if there is no such row).
    """

    def __init__(self, table: str, old: Snapshot, new: Snapshot, compared: Comparison, work: _Work) -> None:
        self.table = table
        self.old = old
        self.new = new
        self.key = tuple(column.name for column in compared.key)
        self.schema_changes: tuple[SchemaChange, ...] = compared.changes
        self.schema = work.schema
        self._work = work
        found = dict(work.rows("SELECT op, count(*) FROM changes GROUP BY op"))
        self.inserted, self.updated, self.deleted = (int(found.get(op, 0)) for op in _OPS)
        times = dict(
            work.rows("SELECT name, count(*) FROM (SELECT unnest(changed) AS name FROM changes) GROUP BY 1")
        )
        self.columns = {column.name: int(times.get(column.name, 0)) for column in compared.values}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        counts = f"{self.inserted} inserted, {self.updated} updated, {self.deleted} deleted"
        return f"<TableDiff {self.table} {self.old.version} to {self.new.version}: {counts}>"

    @property
    def unchanged(self) -> int:
        """Rows that are the same in both versions."""
        return self.new.rows - self.inserted - self.updated

    def batches(self, *, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the changes in batches, in the order of their keys, at most `limit` changes."""
        return self._work.batches(limit)

    def to_arrow(self) -> pa.Table:
        """Return all changes as one Arrow table; with many changes `batches` needs less memory."""
        return pa.Table.from_batches(self.batches(), schema=self.schema)

    def summary(self) -> dict[str, object]:
        """Return everything but the changes themselves, as JSON-ready data."""
        return {
            "table": self.table,
            "from": self.old.as_dict(),
            "to": self.new.as_dict(),
            "key": list(self.key),
            "schema_changes": [change.as_dict() for change in self.schema_changes],
            "inserted": self.inserted,
            "updated": self.updated,
            "deleted": self.deleted,
            "unchanged": self.unchanged,
            "updates_by_column": self.columns,
        }

    def close(self) -> None:
        """Release the changes and delete the files they spilled to."""
        self._work.close()


class _Work:
    """A separate connection whose table `changes` holds the changes, with its folder for spilled data."""

    def __init__(self, lake: FeedLake, statement: str, schema: pa.Schema) -> None:
        self.lake = lake
        self.schema = schema
        self.folder = Path(tempfile.mkdtemp(prefix="ksql-lake-diff-"))
        self._finalizer = finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self.connection = self._compared(statement)
        except KsqlLakeError:
            self._finalizer()
            raise

    def _compared(self, statement: str) -> duckdb.DuckDBPyConnection:
        full: Exception | None = None
        for limit, threads in MEMORY:
            connection = spilling(self.folder, limit, threads)
            self.lake.attach(connection)
            try:
                connection.execute(f"CREATE TABLE changes AS {statement}")
            except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
                connection.close()
                if isinstance(error, duckdb.IOException) and str(self.folder) not in str(error):
                    raise LakeError(
                        f"a file of these versions cannot be read: {error}",
                        hint="If retention has just removed it, try again; else run `ksql-lake doctor`.",
                    ) from error
                full = error
            else:
                return connection
        reason = str(full).partition("\n")[0]
        raise WriteError(
            f"memory and disk are too small to compare the versions: {reason}{free_space(self.folder)}",
            hint="Free space there, or set TMPDIR to a folder with more space.",
            path=str(self.folder),
        ) from full

    def rows(self, statement: str) -> list[tuple[str, int]]:
        return self.connection.execute(statement).fetchall()

    def batches(self, limit: int | None) -> Iterator[pa.RecordBatch]:
        most = "" if limit is None else f" LIMIT {limit}"
        # A separate cursor, so that two readers of one diff do not take each other's rows.
        with self.connection.cursor() as cursor:
            reader = cursor.sql(f"SELECT * FROM changes ORDER BY key{most}").to_arrow_reader(_BATCH_ROWS)
            for batch in reader:
                yield batch.cast(self.schema)

    def close(self) -> None:
        self.connection.close()
        self._finalizer()


def diff(
    table: str,
    old: str | int = "previous",
    new: str | int = "latest",
    *,
    root: str | Path | None = None,
    feeds: str | Path | None = None,
) -> TableDiff:
    """Compare two versions of a table, by key.

    Args:
        table: Name of a table feed.
        old: `v3`, `3`, `latest`, or `previous`, the one before the latest.
        new: As `old`.
        root: The lake; default `KSQL_LAKE_ROOT`.
        feeds: The folder of feed files; default `KSQL_LAKE_FEEDS`.

    Raises:
        ConfigError: There is no such feed, or it is a stream.
        VersionError: The lake does not hold a version.
        SchemaChangeError: The keys of the two versions differ.
        LakeError: A version has no key, or a file cannot be read.
    """
    holdings = Holdings.open(root, feeds)
    feed = holdings.get(table)
    if feed.kind != "table":
        raise ConfigError(
            f"feed {table!r} is a stream; only versions of a table can be compared", hint="Name a table feed."
        )
    return diff_versions(holdings.lake.feed(feed), old, new)


def diff_versions(lake: FeedLake, old: str | int, new: str | int) -> TableDiff:
    """Compare two versions of a table's lake, by key; see `diff`."""
    state = lake.published()
    name = lake.feed.name
    before, after = (_snapshot(lake, state, kept_version(state, name, wanted)) for wanted in (old, new))
    sides = [_side(lake, state, snapshot.version) for snapshot in (before, after)]
    try:
        compared = compare(sides[0].schema, sides[1].schema)
        types = _arrow(sides[0].schema, sides[1].schema)
        work = _Work(lake, changes_sql(sides[0], sides[1], compared), types)
    except KsqlLakeError as error:
        raise error.at(feed=name, versions=f"{before.version} and {after.version}") from error.__cause__
    return TableDiff(name, before, after, compared, work)


def _snapshot(lake: FeedLake, state: FeedState, version: str) -> Snapshot:
    return Snapshot(version, lake.read_at(state, version), state.partitions[version].records)


def _side(lake: FeedLake, state: FeedState, version: str) -> Side:
    partition = state.partitions[version]
    return Side([lake.address(file.path) for file in partition.files], parse_schema(partition.schema))


def _arrow(old: Schema, new: Schema) -> pa.Schema:
    # In the order of the old version, with the names of the new one.
    found = {column.name.casefold(): column for column in new}
    pairs = [(column, found[column.name.casefold()]) for column in old if column.key]
    keys = [Column(now.name, widened(column.type, now.type) or column.type) for column, now in pairs]
    return pa.schema(
        [
            pa.field("op", pa.string()),
            pa.field("key", pa.struct(arrow_schema(Schema(tuple(keys))))),
            pa.field("changed", pa.list_(pa.string())),
            pa.field("before", pa.struct(arrow_schema(old))),
            pa.field("after", pa.struct(arrow_schema(new))),
        ]
    )
