"""What an export did, as plain data for the shell, Dagster and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import Commit, FeedLake
from ksql_lake.lake.closing import Clock
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.lake.layout import partition_folder
from ksql_lake.schema import Schema


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running export is: rows and response bytes received so far; `attempt` counts from 1.

    `note` says what the export waits for; empty while rows come.
    """

    feed: str
    rows: int
    bytes: int
    attempt: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """What happened in one partition.

    Attributes:
        partition: `2025-01-15` or `v4`.
        read: Rows received for it.
        new: Rows that were added.
        already_there: Rows the lake held before.
        late: New rows of a day that had been read before and is earlier than the newest one.
        records: Rows the lake now holds in it.
        bytes: Size of its files now.
        files: Paths this export added, absolute.
        path: Folder of the partition, absolute.
        dropped: Rows received whose key a later row of the same reading has.
    """

    partition: str
    read: int
    new: int
    already_there: int
    late: int
    records: int
    bytes: int
    files: tuple[str, ...]
    path: str
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What one export did.

    Attributes:
        feed: The feed.
        plan: What was to be read.
        commit: Number of the commit; None when there was nothing to read.
        partitions: One entry per day of the window, or the one version.
        removed: Versions that retention removed afterwards.
        statement: The query as sent.
        caught_up: What showed that a push query had caught up; empty for a pull query.
        evidence: Why the rows were taken for all of them; None when there was nothing to read.
        replaced_texts: How many texts held half a surrogate pair, which became U+FFFD.
        outside: Why rows were seen that belong to no day of the feed -> how many.
        fell_back: Why a pull query read a `continue` feed this time; empty where none did.
        received: Rows that the server sent in the reading that landed.
        requests: Requests that were sent by the client, from its beginning to its end.
        compared: Files of the lake that were opened to compare rows with.
        query_id: The query's id on the server.
        schema: Columns of the rows in the lake's names; None when nothing was read.
        started_at: When it began by our clock (UTC).
        read_at: Up to when the days were read, as the lake noted it (UTC); None when nothing was read.
        clock: Whose clock bounds `read_at`; `disputed` closes no day.
        shrunk: Share of rows that the version has lost against the one before, where the commit notes it.
        seconds: How long it took.
        bytes_read: Response bytes.
        attempts: How many readings it took.
        open_version: Number of the version that is open now (tables).
        held_records: Rows a reader sees now; for a table those of its newest version; 0 when nothing was read.
        held_bytes: Size of their files.
    """

    feed: Feed
    plan: ExportPlan
    started_at: datetime
    commit: int | None = None
    partitions: tuple[PartitionResult, ...] = ()
    removed: tuple[str, ...] = ()
    statement: str = ""
    caught_up: str = ""
    evidence: Evidence | None = None
    replaced_texts: int = 0
    query_id: str | None = None
    schema: Schema | None = None
    seconds: float = 0.0
    bytes_read: int = 0
    attempts: int = 1
    open_version: int | None = None
    held_records: int = 0
    held_bytes: int = 0
    read_at: datetime | None = None
    clock: Clock = ""
    shrunk: float = 0.0
    outside: Mapping[str, int] = field(default_factory=dict)
    fell_back: str = ""
    received: int = 0
    requests: int = 0
    compared: int = 0

    @property
    def read(self) -> int:
        """Rows received."""
        return sum(part.read for part in self.partitions)

    @property
    def new(self) -> int:
        """Rows added."""
        return sum(part.new for part in self.partitions)

    @property
    def already_there(self) -> int:
        """Rows the lake held before."""
        return sum(part.already_there for part in self.partitions)

    @property
    def dropped(self) -> int:
        """Rows whose key a later row of the same reading has; the rest is new or already there."""
        return sum(part.dropped for part in self.partitions)

    @property
    def late(self) -> int:
        """New rows that came late."""
        return sum(part.late for part in self.partitions)

    @property
    def covered(self) -> str:
        """The partitions as a text: one, or the first and the last; empty when nothing was read."""
        keys = [part.partition for part in self.partitions]
        return f"{keys[0]} to {keys[-1]}" if len(keys) > 1 else "".join(keys)

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON-ready data; times ISO 8601 UTC."""
        return {
            "feed": self.feed.name,
            "kind": self.feed.kind,
            "source": self.feed.source,
            "commit": self.commit,
            "read": self.read,
            "new": self.new,
            "already_there": self.already_there,
            "dropped": self.dropped,
            "late": self.late,
            "partitions": [
                {
                    "partition": part.partition,
                    "read": part.read,
                    "new": part.new,
                    "already_there": part.already_there,
                    "dropped": part.dropped,
                    "late": part.late,
                    "records": part.records,
                    "bytes": part.bytes,
                    "files": list(part.files),
                }
                for part in self.partitions
            ],
            "removed_versions": list(self.removed),
            "statement": self.statement,
            "caught_up": self.caught_up,
            "evidence": None if self.evidence is None else msgspec.to_builtins(self.evidence),
            "replaced_texts": self.replaced_texts,
            "outside": dict(self.outside),
            "fell_back": self.fell_back,
            "received": self.received,
            "requests": self.requests,
            "compared": self.compared,
            "query_id": self.query_id,
            "started_at": self.started_at.isoformat(timespec="milliseconds"),
            "clock": self.clock,
            "shrunk": round(self.shrunk, 4),
            "seconds": round(self.seconds, 3),
            "bytes_read": self.bytes_read,
            "attempts": self.attempts,
        }


def held_partitions(lake: FeedLake, keys: Sequence[str]) -> tuple[PartitionResult, ...]:
    """Return what the lake holds of partitions that this export did not read."""
    found = []
    for key in keys:
        held = lake.state().partitions.get(key)
        path = lake.storage.uri(lake.layout.data(partition_folder(lake.layout.kind, key)))
        records, size = (held.records, held.bytes) if held else (0, 0)
        found.append(PartitionResult(key, 0, 0, 0, 0, records, size, (), path))
    return tuple(found)


def in_order(*parts: Sequence[PartitionResult]) -> tuple[PartitionResult, ...]:
    """Return partitions oldest first; of a table there is one."""
    return tuple(sorted((part for some in parts for part in some), key=lambda part: part.partition))


def partition_results(lake: FeedLake, commit: Commit) -> tuple[PartitionResult, ...]:
    """Return what a commit did in each partition."""
    added: dict[str, list[str]] = {}
    for entry in commit.manifest.added:
        added.setdefault(entry.partition, []).append(lake.storage.uri(lake.layout.data(entry.path)))
    results = []
    for count in commit.manifest.counts:
        held = commit.state.partitions.get(count.partition)
        results.append(
            PartitionResult(
                partition=count.partition,
                read=count.read,
                new=count.new,
                already_there=count.already_there,
                late=count.late,
                records=held.records if held else 0,
                bytes=held.bytes if held else 0,
                files=tuple(added.get(count.partition, ())),
                path=lake.storage.uri(lake.layout.data(partition_folder(lake.layout.kind, count.partition))),
                dropped=count.dropped,
            )
        )
    return tuple(results)
