"""What a feed's lake holds after a commit: a fold over manifests, pure.

State is only ever computed from manifests. A checkpoint is a saved fold that makes opening cheap; one that does
not prove itself by its digest is ignored, never trusted.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime

import msgspec

from ksql_lake.lake.checksum import combined
from ksql_lake.lake.closing import in_the_future, unclosed
from ksql_lake.lake.evolution import unify
from ksql_lake.lake.layout import Kind, file_sequence, version_number
from ksql_lake.lake.manifest import EvidenceLevel, FileEntry, Manifest, ReadFacts, check_read
from ksql_lake.lake.positions import Marks
from ksql_lake.lake.soundness import (
    UnsoundError,
    check_days,
    check_files,
    check_moments,
    check_numbers,
    check_partition,
    check_schema,
)
from ksql_lake.schema import Schema, parse_schema

_CONDITION = re.compile(r" WHERE \(*(`(?:[^`]|``)+`|ROWTIME) >= ")
"""Where a stream's query names the column that decides a row's day."""


class PartitionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One partition's committed files.

    Attributes:
        files: Live files, oldest first.
        committed_at: When the last of them was committed, ISO 8601 UTC.
        schema: Columns of a table version as ksqlDB schema text (versions may differ).
        shrunk: Share of rows that a table version has lost against the one before, where that was remarkable.
    """

    files: list[FileEntry] = []
    committed_at: str = ""
    schema: str = ""
    shrunk: float = 0.0

    @property
    def records(self) -> int:
        """Rows in all files."""
        return sum(file.records for file in self.files)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def checksum(self) -> str:
        """The checksum of all rows, in any order."""
        return combined(file.checksum for file in self.files)

    @property
    def min_event(self) -> int | None:
        """Smallest event time, epoch ms."""
        return min((file.min_event for file in self.files if file.min_event is not None), default=None)

    @property
    def max_event(self) -> int | None:
        """Largest event time, epoch ms."""
        return max((file.max_event for file in self.files if file.max_event is not None), default=None)


class FeedState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything committed for a feed.

    Attributes:
        kind: `stream` or `table`.
        sequence: Number of the last commit; 0 before the first.
        partitions: Committed partitions by key.
        looked: Day -> when it was last read, ISO 8601 UTC; also for days without rows (streams). The day's own
            beginning where the time of its reading cannot be believed.
        schema: The unified columns as ksqlDB schema text; for tables those of the newest version.
        shapes: (first commit number, columns) of each change of a stream's columns, oldest first.
        certified: Day -> number of the commit that holds its newest certificate (streams).
        marks: Name -> up to which Kafka offsets (streams read by push query).
        marked: Day -> name of the marks up to which it is held.
        evidence: Partition -> how strong the evidence of the reading is that filled it last; none for those of
            releases that kept no evidence.
        last_read: How the last export read its rows.
        last_export: When the last export was committed, ISO 8601 UTC.
        latest_version: Number of the newest version ever committed (tables); 0 before the first.
    """

    kind: Kind
    sequence: int = 0
    partitions: dict[str, PartitionState] = {}
    looked: dict[str, str] = {}
    schema: str = ""
    shapes: list[tuple[int, str]] = []
    certified: dict[str, int] = {}
    marks: dict[str, Marks] = {}
    marked: dict[str, str] = {}
    evidence: dict[str, EvidenceLevel] = {}
    last_read: ReadFacts | None = None
    last_export: str = ""
    latest_version: int = 0

    @property
    def next_version(self) -> int:
        """The open version (tables)."""
        return self.latest_version + 1

    @property
    def columns(self) -> Schema | None:
        """The unified columns, or None before the first rows."""
        return parse_schema(self.schema) if self.schema else None

    @property
    def newest_day(self) -> str:
        """The newest day with rows; empty before the first."""
        return max((key for key, part in self.partitions.items() if part.files), default="")

    @property
    def records(self) -> int:
        """Rows in all partitions."""
        return sum(part.records for part in self.partitions.values())

    @property
    def bytes(self) -> int:
        """Size of all partitions."""
        return sum(part.bytes for part in self.partitions.values())

    def partition_keys(self) -> list[str]:
        """Partition keys in order: days by date, versions by number (v10 after v9)."""
        return sorted(self.partitions, key=version_number if self.kind == "table" else str)

    def readable(self) -> list[PartitionState]:
        """What a reader of the feed sees: every day of a stream, the newest version of a table."""
        keys = self.partition_keys()
        return [self.partitions[key] for key in (keys if self.kind == "stream" else keys[-1:])]

    def files(self) -> Iterator[FileEntry]:
        """Every live file, partition by partition."""
        for key in self.partition_keys():
            yield from self.partitions[key].files

    def files_of(self, partition: str) -> list[FileEntry]:
        """One partition's live files; none when it has none."""
        return self.partitions[partition].files if partition in self.partitions else []

    def shape(self, file: FileEntry) -> Schema:
        """Give the columns a live file itself has, without those that came after it.

        Raises:
            KeyError: The file's name carries no commit number with columns; cannot happen for files we wrote.
        """
        return parse_schema(self.shape_text(file))

    def shape_text(self, file: FileEntry) -> str:
        """Give the columns a live file itself has as ksqlDB schema text; see `shape`."""
        if self.kind == "table":
            return self.partitions[file.partition].schema
        sequence = file_sequence(file.path) or 0
        position = bisect_right(self.shapes, sequence, key=lambda shape: shape[0]) - 1
        if position < 0:
            raise KeyError(file.path)
        return self.shapes[position][1]

    def copy(self) -> FeedState:
        """Give a state that can be folded on without changing this one."""
        return msgspec.structs.replace(
            self,
            partitions=dict(self.partitions),
            looked=dict(self.looked),
            certified=dict(self.certified),
            evidence=dict(self.evidence),
        )

    @property
    def event_clock(self) -> str:
        """What decided a row's day when the stream was last read; empty where it is not known."""
        if self.last_read is None:
            return ""
        if self.last_read.event_time:
            return self.last_read.event_time
        # Older releases read milliseconds only, and said it in their query.
        asked = _CONDITION.search(self.last_read.statement)
        return asked[1].strip("`").replace("``", "`") if asked else ""

    def apply(self, manifest: Manifest) -> None:
        """Fold in the next commit.

        Raises:
            SchemaChangeError: The manifest's columns do not fit; cannot happen for manifests we wrote.
        """
        self.sequence = manifest.sequence
        asked = manifest.read.event_time if manifest.read is not None else ""
        if asked and not self.partitions and self.event_clock not in ("", asked):
            # Not one row was found by another event time: what that closed is read by the new one.
            self.looked, self.certified = {}, {}
        for entry in manifest.added:
            partition = self.partitions.get(entry.partition, PartitionState())
            self.partitions[entry.partition] = PartitionState(
                files=[*partition.files, entry],
                committed_at=manifest.committed_at,
                schema=manifest.schema if self.kind == "table" else "",
                shrunk=manifest.read.shrunk if manifest.read else 0.0,
            )
            if self.kind == "table":
                self.latest_version = max(self.latest_version, version_number(entry.partition))
        if manifest.removed:
            touched = self._remove(set(manifest.removed))
            if manifest.operation == "forget":
                # Rows were lost: the days count as not read, so that the next export reads them again.
                for day in touched:
                    self.looked.pop(day, None)
                    self.certified.pop(day, None)
                    self.marked.pop(day, None)
        if manifest.schema:
            self._widen(manifest)
        for certificate in manifest.certificates:
            self.certified[certificate.partition] = manifest.sequence
        if manifest.read is not None:
            self.last_read, self.last_export = manifest.read, manifest.committed_at
            for count in manifest.counts:
                self.evidence.pop(count.partition, None)
                if manifest.read.evidence is not None:
                    self.evidence[count.partition] = manifest.read.evidence.level
            if self.kind == "stream":
                self._look(manifest, manifest.read)
            self._mark(manifest)

    def _look(self, manifest: Manifest, read: ReadFacts) -> None:
        """Note when days were read; by a disputed clock none is closed, and closed ones stay closed."""
        if read.clock == "disputed":
            for count in manifest.counts:
                self.looked.setdefault(count.partition, unclosed(count.partition))
            return
        now = datetime.fromisoformat(read.read_at)
        if self.looked and in_the_future(max(self.looked.values()), now):
            # An earlier commit was made by a clock that is ahead: the days that it closed are read once more.
            for day, read_at in self.looked.items():
                if in_the_future(read_at, now):
                    self.looked[day] = unclosed(day)
                    self.certified.pop(day, None)
        for count in manifest.counts:
            self.looked[count.partition] = read.read_at

    def _mark(self, manifest: Manifest) -> None:
        """Set the marks of the days that were read; those read without offsets have none any more."""
        if manifest.new_topic:
            self.marked = {}
        for count in manifest.counts:
            self.marked.pop(count.partition, None)
        for number, group in enumerate(manifest.positions):
            name = f"{manifest.sequence}.{number}"
            self.marks[name] = group.marks
            self.marked.update(dict.fromkeys(group.days, name))
        used = set(self.marked.values())
        self.marks = {name: marks for name, marks in self.marks.items() if name in used}

    def _remove(self, paths: set[str]) -> list[str]:
        """Drop files; gives the partitions that lost some."""
        touched = []
        for key in list(self.partitions):
            partition = self.partitions[key]
            left = [file for file in partition.files if file.path not in paths]
            if len(left) < len(partition.files):
                touched.append(key)
                self.partitions[key] = msgspec.structs.replace(partition, files=left)
            if not left:
                del self.partitions[key]
                self.evidence.pop(key, None)
        return touched

    def _widen(self, manifest: Manifest) -> None:
        text = manifest.schema
        if self.kind == "table":
            self.schema = text
            return
        if not self.shapes or self.shapes[-1][1] != text:
            self.shapes = [*self.shapes, (manifest.sequence, text)]
            self.schema = unify(parse_schema(self.schema), parse_schema(text)).text if self.schema else text


class Checkpoint(msgspec.Struct, frozen=True):
    """A saved state with the digest that proves it."""

    digest: str
    state: msgspec.Raw


_STATE = msgspec.json.Decoder(FeedState)
_CHECKPOINT = msgspec.json.Decoder(Checkpoint)


def encode_checkpoint(state: FeedState) -> bytes:
    """Save a state with its digest."""
    body = msgspec.json.encode(state)
    return msgspec.json.encode(Checkpoint(hashlib.sha256(body).hexdigest(), msgspec.Raw(body)))


def decode_checkpoint(data: bytes | None, kind: Kind) -> FeedState | None:
    """Read a saved state back, or None when it is absent, torn, edited, of another shape or another kind."""
    if data is None:
        return None
    try:
        checkpoint = _CHECKPOINT.decode(data)
        body = bytes(checkpoint.state)
        if hashlib.sha256(body).hexdigest() != checkpoint.digest:
            return None
        state = _STATE.decode(body)
        _check(state)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnsoundError):
        return None
    return state if state.kind == kind else None


def _check(state: FeedState) -> None:
    check_numbers(state.sequence, state.latest_version, *state.certified.values())
    check_days(state.looked)
    check_days(state.certified)
    check_moments(*state.looked.values(), state.last_export or None)
    check_schema(state.schema, *(text for _, text in state.shapes))
    if state.last_read is not None:
        check_read(state.last_read)
    for key, partition in state.partitions.items():
        check_partition(state.kind, key)
        check_moments(partition.committed_at)
        check_schema(partition.schema)
        if any(file.partition != key for file in partition.files):
            raise UnsoundError(f"partition {key!r} holds a file of another")
        check_files(state.kind, partition.files)
