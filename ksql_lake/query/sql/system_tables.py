"""The lake's feeds, partitions, versions and commits as tables. It reads manifests and no rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.layout import Kind, partition_folder
from ksql_lake.query.sql.views import Committed

_TIME = pa.timestamp("ms", "UTC")
Row = tuple[Any, ...]


def _feeds(committed: Committed, _log: CommitLog) -> Iterator[Row]:
    feed, state = committed.feed, committed.state
    files = sum(len(part.files) for part in state.partitions.values())
    yield (
        *(feed.name, feed.kind, feed.source, feed.description, len(state.partitions), files),
        *(state.records, state.bytes, state.sequence, _moment(state.last_export)),
    )


def _partitions(committed: Committed, _log: CommitLog) -> Iterator[Row]:
    feed, state = committed.feed, committed.state
    for key in sorted({*state.partitions, *state.looked}):
        part = state.partitions.get(key)
        folder = partition_folder(feed.kind, key)
        if part is None:
            yield feed.name, feed.kind, key, folder, 0, 0, 0, None, None, None, _moment(state.looked[key]), None
            continue
        yield (
            *(feed.name, feed.kind, key, folder, part.records, part.bytes, len(part.files)),
            *(part.min_event, part.max_event, _moment(part.committed_at)),
            *(_read_at(committed, feed.kind, key), state.evidence.get(key)),
        )


def _read_at(committed: Committed, kind: Kind, key: str) -> datetime | None:
    return committed.read_at(key) if kind == "table" else _moment(committed.state.looked.get(key, ""))


def _versions(committed: Committed, _log: CommitLog) -> Iterator[Row]:
    if committed.feed.kind == "table":
        for key in committed.state.partition_keys():
            part = committed.state.partitions[key]
            yield (
                *(committed.feed.name, key, committed.read_at(key), part.records, part.bytes),
                *(_moment(part.committed_at), committed.state.evidence.get(key)),
            )


def _commits(committed: Committed, log: CommitLog) -> Iterator[Row]:
    for number in range(1, committed.state.sequence + 1):
        manifest = log.manifest(number, ahead=committed.state.sequence)
        # A merge adds no rows: it rewrites existing ones.
        rows = 0 if manifest.operation == "compact" else sum(file.records for file in manifest.added)
        late = sum(count.late for count in manifest.counts)
        yield (
            *(committed.feed.name, number, _moment(manifest.committed_at), manifest.operation, rows, late),
            *(len(manifest.added), len(manifest.removed), manifest.attempt),
        )


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


_Source = Callable[[Committed, CommitLog], Iterable[Row]]

SYSTEM_TABLES: Mapping[str, tuple[str, _Source, Mapping[str, pa.DataType]]] = {
    "ksql_lake_feeds": (
        "the feeds, and the lake's contents of each",
        _feeds,
        {
            **dict.fromkeys(("feed", "kind", "source", "description"), pa.string()),
            **dict.fromkeys(("partitions", "files", "rows", "bytes", "commit"), pa.int64()),
            "exported_at": _TIME,
        },
    ),
    "ksql_lake_partitions": (
        "days that were read, and versions; sizes, event times, evidence",
        _partitions,
        {
            **dict.fromkeys(("feed", "kind", "partition", "folder"), pa.string()),
            **dict.fromkeys(("rows", "bytes", "files"), pa.int64()),
            **dict.fromkeys(("min_event", "max_event", "committed_at", "read_at"), _TIME),
            "evidence": pa.string(),
        },
    ),
    "ksql_lake_versions": (
        "the kept versions of tables, and when each was read",
        _versions,
        {
            "feed": pa.string(),
            "version": pa.string(),
            "read_at": _TIME,
            "rows": pa.int64(),
            "bytes": pa.int64(),
            "committed_at": _TIME,
            "evidence": pa.string(),
        },
    ),
    "ksql_lake_commits": (
        "every commit: what it did, and how many rows it added",
        _commits,
        {
            "feed": pa.string(),
            "commit": pa.int64(),
            "committed_at": _TIME,
            "operation": pa.string(),
            **dict.fromkeys(("rows", "late_rows", "files_added", "files_removed"), pa.int64()),
            "attempt": pa.string(),
        },
    ),
}
"""Name -> its comment, the function for its rows of one feed, and its columns."""


def system_table(name: str, feeds: Iterable[tuple[Committed, CommitLog]]) -> pa.Table:
    """Return one of `SYSTEM_TABLES`.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    _, rows_of, columns = SYSTEM_TABLES[name]
    schema = pa.schema(list(columns.items()))
    rows = [row for committed, log in feeds for row in rows_of(committed, log)]
    found = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.table(
        [pa.array(list(values), field.type) for values, field in zip(found, schema, strict=True)], schema=schema
    )
