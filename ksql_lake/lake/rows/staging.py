"""One attempt at a commit: stage rows, drop those that the lake holds, write the manifest."""

# Without a commit no file stays. Row identity runs at commit time against the newest state, and again when
# another run takes the number.

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.errors import ConflictError, LakeError, VersionError
from ksql_lake.feeds.feed_columns import POSITION_COLUMNS, ROWTIME
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake.commit.attempt import Attempt
from ksql_lake.lake.commit.certificates import certificates
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.manifest import Evidence, FileEntry, Manifest, Operation, PartitionCount, ReadFacts
from ksql_lake.lake.commit.marks import KnownDays, Pushed
from ksql_lake.lake.commit.pinning import Pinning
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.files.checksum import batch_hashes, sums
from ksql_lake.lake.files.evolution import evolved, versioned_names
from ksql_lake.lake.files.precision import OLDEST
from ksql_lake.lake.files.writer import PartitionWriter, StagedFile
from ksql_lake.lake.rows.change_log import ChangeLog
from ksql_lake.lake.rows.distinct_keys import DistinctKeys
from ksql_lake.lake.rows.event_days import DaySplitter, event_times
from ksql_lake.lake.rows.identity import Candidate, Held, copy_rows, new_rows
from ksql_lake.lake.storage.boundary import staging_cleared
from ksql_lake.schema import Schema, arrow_schema

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Commit:
    """The result of a commit: manifest, the feed's state after it, and how many files it compared with."""

    manifest: Manifest
    state: FeedState
    compared: int = 0

    @property
    def sequence(self) -> int:
        """The commit number."""
        return self.manifest.sequence


class Staging:
    """The rows of one export until they are committed.

    Args:
        log: The feed's commit log.
        pinning: The feed, and what its rows mean.
        schema: Columns of the rows, in the lake's names; `new_version` may add a number to a name.
        read: How the rows are read; `commit` fills in `rows` and `response_bytes`.
        days: First and last day of the window (streams).
        known: Days whose rows were read from their marks on, so that all of them are new.
    """

    def __init__(
        self,
        log: CommitLog,
        pinning: Pinning,
        schema: Schema,
        *,
        read: ReadFacts,
        days: tuple[date, date] | None = None,
        known: KnownDays | None = None,
    ) -> None:
        self.pinning = pinning
        self.feed = feed = pinning.feed
        self.known = known or KnownDays()
        self.read = read
        self.rows = 0
        self.attempt = Attempt(log)
        held = log.load().columns if feed.on_schema_change == "new_version" and feed.kind == "stream" else None
        self._names = versioned_names(held, schema)
        self.schema = Schema(tuple(replace(column, name=self._names[column.name]) for column in schema))
        self._arrow = arrow_schema(self.schema)
        self._splitter = DaySplitter(*days, feed.zone) if days else None
        self._closed: list[StagedFile] | None = None
        self._pushed = Pushed()
        self._key = [column.name for column in self.schema if column.key]
        self._keys = DistinctKeys(self._key)
        self._compared = 0
        self._writer = self._new_writer("tmp")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed is None:
            self._writer.abandon()
        self.attempt.close(after=error)

    def write(self, batch: pa.RecordBatch) -> None:
        """Stage a batch of rows, split by day for a stream.

        Raises:
            LakeError: A row is outside the window.
            WriteError: The disk is full or not writable.
        """
        self.attempt.announce()
        self.rows += batch.num_rows
        if not isinstance(self.feed, StreamFeed) or self._splitter is None:
            rows = self._writer.encoded(batch)
            self._keys.add(rows)
            self._writer.write("snapshot", rows)
            return
        named = self.feed.lake_name(self.feed.event_time)
        events = event_times(batch, named, self.feed.event_time_unit)
        renamed = pa.RecordBatch.from_arrays(batch.columns, schema=self._arrow)
        ordered, days = self._splitter.split(renamed, events)
        ordered = self._writer.encoded(ordered)
        hashes = batch_hashes(ordered)
        per_row = ordered.nbytes / max(ordered.num_rows, 1)
        for part in days:
            rows = ordered.slice(part.rows.start, part.rows.stop - part.rows.start)
            times, size = (part.min_event, part.max_event), round(per_row * rows.num_rows)
            self._writer.write(part.day, rows, events=times, hashed=sums(hashes, part.rows), size=size)

    def change_log(self, schema: Schema, key: Sequence[str]) -> ChangeLog:
        """Return a file of this staging for a table's changes; the last change of each key makes the snapshot.

        Args:
            schema: Columns of the changes; those of the key need not be among the snapshot's.
            key: The columns that identify a row of the table.
        """
        return ChangeLog(self.attempt, schema, key)

    def commit(
        self,
        *,
        response_bytes: int = 0,
        version: int | None = None,
        pushed: Pushed | None = None,
        evidence: Evidence | None = None,
    ) -> Commit:
        """Commit the rows: row identity, manifest, publishing, `_metadata.json`.

        Args:
            response_bytes: Bytes the server sent.
            version: The version that a table's snapshot must become; None takes the open one.
            pushed: How a push query was read; None for a pull query.
            evidence: Why the rows count as complete.

        Raises:
            ConflictError: Staging was cleared by another run; read again.
            SchemaChangeError: The columns do not fit the lake's.
            VersionError: `version` is not the open one.
            WriteError: The disk is full or not writable; every visible file is whole.
        """
        self._pushed = pushed or Pushed()
        self.read = msgspec.structs.replace(
            self.read,
            **{
                "rows": self.rows,
                "response_bytes": response_bytes,
                "evidence": evidence,
                **(pushed.facts if pushed else {}),
            },
        )
        if not isinstance(self.feed, StreamFeed):
            self._writer.touch("snapshot")
        self._closed = self._writer.close()
        for state in self.attempt.states():
            try:
                manifest = self._plan(state, version)
            except (LakeError, FileNotFoundError):
                # A merge or a retention may have removed a file during the comparison: plan against the newer
                # state.
                if not self.attempt.overtaken(state):
                    raise
                continue
            if self.attempt.commit(manifest):
                return Commit(manifest, self.attempt.log.finish(), self._compared)
            _log.info("commit %d of %s went to another run", self.attempt.sequence, self.feed.name)
        raise AssertionError("states() ends with an error")

    def _plan(self, state: FeedState, version: int | None) -> Manifest:
        now = datetime.now(UTC)
        # Another run may have pinned another meaning since this one was checked.
        self.pinning.check(state)
        if isinstance(self.feed, StreamFeed):
            manifest = self._plan_append(state, self.feed, now)
        else:
            manifest = self._plan_overwrite(state, now, version)
        return self.pinning.recorded(state, manifest)

    def _plan_append(self, state: FeedState, feed: StreamFeed, now: datetime) -> Manifest:
        staged = self._closed or []
        received = {file.partition: file.records for file in staged}
        days = self._days(received)
        self.attempt.check_partitions(state, [day for day in days if day in received or state.files_of(day)])
        self._check_marks(state, days)
        if staged:
            evolved(state.columns, self.schema, feed.on_schema_change)
        repeats: Counter[str] = Counter()
        fresh = self._drop_held(state, feed, staged, repeats)
        added = [self.attempt.entry(file, file.partition, at=now) for file in fresh.values() if file.records]
        counts = []
        for day in days:
            read = received.get(day, 0)
            new = fresh[day].records if day in fresh else 0
            # A new row of a day that was read before, and is older than the newest day, is a late row.
            late = new if day in state.looked and day < state.newest_day else 0
            dropped = repeats[day]
            there = read - new - dropped
            counts.append(
                PartitionCount(
                    partition=day, read=read, new=new, already_there=there, late=late, dropped=dropped
                )
            )
        self.pinning.check_return(state, counts, fresh, marked=self.known.names)
        manifest = self._manifest("append" if added else "look", now, added, counts)
        pushed = self._pushed
        return msgspec.structs.replace(
            manifest,
            read=self.pinning.meant(state, self.read),
            certificates=certificates(feed, self.read, state, days, fresh, received),
            positions=self.known.moved([count.partition for count in counts], pushed.seen),
            new_topic=pushed.new_topic,
            continued=pushed.continuation.marks if pushed.continuation else None,
        )

    def _days(self, received: Collection[str]) -> list[str]:
        """Return the days of the manifest: those of the window, and others of an open window that got rows."""
        days, first = self._splitter.days if self._splitter else [], self.read.first_day or ""
        return [day for day in days if first <= day <= (self.read.last_day or day) or day in received]

    def _plan_overwrite(self, state: FeedState, now: datetime, version: int | None) -> Manifest:
        if version is not None and version != state.next_version:
            raise VersionError(
                f"version v{version} cannot be written: the open version is v{state.next_version}",
                hint=f"Export v{state.next_version}; a snapshot that exists is never written again.",
                feed=self.feed.name,
            )
        if self.feed.on_schema_change == "freeze":
            evolved(state.columns, self.schema, "freeze")
        key = f"v{state.next_version}"
        self.attempt.check_partitions(state, [key])
        (staged,) = self._closed or []
        unique = self._drop_repeats(staged)
        entry = self.attempt.entry(unique, key, at=now)
        count = PartitionCount(
            partition=key,
            read=staged.records,
            new=entry.records,
            already_there=0,
            dropped=staged.records - entry.records,
        )
        return self._manifest("overwrite", now, [entry], [count])

    def _drop_repeats(self, staged: StagedFile) -> StagedFile:
        """Keep one row per key: a server that retries at a standby sends a partition's rows twice."""
        # By ksqlDB's HARouting, the forward to the next replica starts from the partition's first row.
        if not self._key or self._keys.shown:
            return staged
        candidate = Candidate(staged.partition, str(self.attempt.path(staged.name)), staged.records, ())
        spill = self.attempt.path("spill")
        rows = new_rows([candidate], self.schema, key=self._key, spill=spill)[staged.partition]
        if len(rows) == staged.records:
            return staged
        _log.warning("%s: %d rows repeated a key", self.feed.name, staged.records - len(rows))
        return self._copy(staged, rows)

    def _manifest(
        self, operation: Operation, now: datetime, added: list[FileEntry], counts: list[PartitionCount]
    ) -> Manifest:
        return Manifest(
            sequence=self.attempt.sequence,
            attempt=self.attempt.id,
            feed=self.feed.name,
            kind=self.feed.kind,
            operation=operation,
            committed_at=now.isoformat(timespec="milliseconds"),
            schema=self.schema.text if added else "",
            read=self.read,
            added=added,
            counts=counts,
        )

    def _check_marks(self, state: FeedState, days: Collection[str]) -> None:
        """Raise if a day's marks, or that it had none, are not what they were when the reading began."""
        stale, known = list[str](), self.known.marked
        if known is not None:
            # Another run may have read further than this one, also days that had no marks: marks never go back.
            moved = {*known, *state.marked} if self._pushed.new_topic else days
            stale = [day for day in sorted(moved) if state.marked.get(day) != known.get(day)]
        if (going_on := self._pushed.continuation) and going_on.base != state.reading:
            stale = ["the source"]
        if stale:
            raise ConflictError(
                f"another run has read {', '.join(stale[:3])}{' and more' if len(stale) > 3 else ''} meanwhile",
                hint="Read again: the rows are compared with what that run committed.",
                feed=self.feed.name,
            )

    def _drop_held(
        self, state: FeedState, feed: StreamFeed, staged: list[StagedFile], repeats: Counter[str]
    ) -> dict[str, StagedFile]:
        """Return, per day, a staged file with only the new rows; count the repeated keys."""
        result = {file.partition: file for file in staged}
        if (going_on := self._pushed.continuation) and going_on.fresh:
            return result
        # A recreated topic has the same offsets again; another ROWTIME there means another event. Where nothing
        # else recognises a recreated topic, other values must show it too.
        columns = (*feed.identity.columns, *((ROWTIME,) if feed.positions else ()))
        key = tuple(self._names[feed.lake_name(column)] for column in columns)
        storage, layout = self.attempt.log.storage, self.attempt.log.layout
        held = {file.partition: state.files_of(file.partition) for file in staged}
        # Offsets prove more than values: a row beyond a day's marks is new, even if it equals an earlier row.
        placed = feed.identity.by == "row" or set(feed.identity.columns) == set(POSITION_COLUMNS)
        compared = [
            file
            for file in staged
            if (held[file.partition] or key) and not (placed and file.partition in self.known.names)
        ]
        if not compared:
            return result
        keys = [layout.data(entry.path) for entries in held.values() for entry in entries]
        self._compared = len(keys)
        try:
            with storage.local_copies(keys) as paths:
                candidates = [self._candidate(state, file, paths) for file in compared]
                rows = new_rows(
                    candidates,
                    self.schema,
                    key=key,
                    null_keys=feed.identity.null_keys == "equal",
                    time=self._names[ROWTIME] if feed.known_by == "offset" and not feed.positions else "",
                    repeats=repeats,
                    spill=self.attempt.path("spill"),
                )
            for day, numbers in rows.items():
                if len(numbers) < result[day].records:
                    result[day] = self._copy(result[day], numbers)
        except (FileNotFoundError, LakeError) as error:
            if not self.attempt.path(compared[0].name).exists():
                raise staging_cleared(self.attempt.folder) from error
            raise
        return result

    def _candidate(self, state: FeedState, file: StagedFile, paths: Mapping[str, str]) -> Candidate:
        held = tuple(
            Held(paths[self.attempt.log.layout.data(entry.path)], state.shape(entry), state.form(entry))
            for entry in state.files_of(file.partition)
        )
        return Candidate(file.partition, str(self.attempt.path(file.name)), file.records, held, self.read.form)

    def _copy(self, file: StagedFile, rows: npt.NDArray[np.int64]) -> StagedFile:
        """Write the numbered rows of a staged file to another file; without rows there is no file."""
        writer = self._new_writer(f"{self.attempt.sequence}.new.tmp")
        for batch in copy_rows(self.attempt.path(file.name), rows):
            writer.write(file.partition, batch, events=self._event_range(batch))
        copied = writer.close()
        return copied[0] if copied else StagedFile("", file.partition, 0)

    def _event_range(self, batch: pa.RecordBatch) -> tuple[int, int] | None:
        if not isinstance(self.feed, StreamFeed):
            return None
        named = self._names[self.feed.lake_name(self.feed.event_time)]
        events = event_times(batch, named, self.feed.event_time_unit)
        return int(events.min()), int(events.max())

    def _new_writer(self, suffix: str) -> PartitionWriter:
        facts = {
            "feed": self.feed.name,
            "kind": self.feed.kind,
            "source": self.read.source,
            "statement": self.read.statement,
            "read_at": self.read.read_at,
            "window": f"{self.read.first_day}/{self.read.last_day}" if self.read.first_day else "",
            "server_version": self.read.server_version or "",
            "schema": self.schema.text,
            "attempt": self.attempt.id,
        }
        if isinstance(self.feed, StreamFeed):
            facts["timezone"] = self.feed.timezone
            facts["event_time"] = self._names[self.feed.lake_name(self.feed.event_time)]
            if self.feed.event_time_unit != "ms":
                facts["event_time_unit"] = self.feed.event_time_unit
        facts |= self.pinning.footer | ({"form": str(self.read.form)} if self.read.form != OLDEST else {})
        metadata = {f"ksql_lake.{name}": value for name, value in facts.items() if value}
        return PartitionWriter(
            self.attempt, self._arrow, compression=self.feed.compression, metadata=metadata, suffix=suffix
        )
