"""The state of a feed's lake after a commit: a fold over its manifests. Pure and immutable."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

from ksql_lake.lake.closing import in_the_future, unclosed
from ksql_lake.lake.commit.continued import Continued
from ksql_lake.lake.commit.manifest import EvidenceLevel, FileEntry, Manifest, ReadFacts
from ksql_lake.lake.commit.marks import Marks
from ksql_lake.lake.commit.meaning import Meaning, other_rows
from ksql_lake.lake.files.checksum_sums import combined
from ksql_lake.lake.files.evolution import unify
from ksql_lake.lake.files.precision import OLDEST
from ksql_lake.lake.layout import Kind, file_sequence, version_number
from ksql_lake.schema import Schema, parse_schema

_CONDITION = re.compile(r" WHERE \(*(`(?:[^`]|``)+`|ROWTIME) >= ")
"""Where a stream's query names the column that decides a row's day."""


class PartitionState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One partition's committed files.

    Attributes:
        files: Live files, oldest first.
        committed_at: When the last of them was committed, ISO 8601 UTC.
        schema: Columns of a table version as ksqlDB schema text (versions may differ).
        shrunk: Share of rows that a table version has lost against the one before; 0 within bounds.
    """

    files: tuple[FileEntry, ...] = ()
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


_MAPPINGS = ("partitions", "looked", "certified", "marks", "marked", "evidence")
"""The fields of a state that are mappings."""


class FeedState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything committed for a feed; immutable.

    Attributes:
        kind: `stream` or `table`.
        sequence: Number of the last commit; 0 before the first.
        partitions: Committed partitions by key.
        looked: Day -> when it was last read, ISO 8601 UTC; also for days without rows (streams). The beginning
            of the day if the clock of its reading is disputed.
        schema: The unified columns as ksqlDB schema text; for tables those of the newest version.
        shapes: (first commit number, columns) of each change of a stream's columns, oldest first.
        forms: (first commit number, form) of each change of the form in which rows were read, oldest first.
        certified: Day -> number of the commit that holds its newest certificate (streams).
        marks: Name -> marks (streams read by push query).
        marked: Day -> name of its marks.
        continued: The marks of a `continue` feed; None if none of its rows were read that way.
        evidence: Partition -> level of the evidence of its last reading; none for releases that kept no
            evidence.
        last_read: How the last export read its rows.
        last_export: When the last export was committed, ISO 8601 UTC.
        latest_version: Number of the newest version ever committed (tables); 0 before the first.
        meaning: What the rows mean; None before the first rows, and in a lake of an early release.
        settings: The feed's other keys as they were last recorded.
    """

    kind: Kind
    sequence: int = 0
    partitions: Mapping[str, PartitionState] = {}
    looked: Mapping[str, str] = {}
    schema: str = ""
    shapes: tuple[tuple[int, str], ...] = ()
    forms: tuple[tuple[int, int], ...] = ()
    certified: Mapping[str, int] = {}
    marks: Mapping[str, Marks] = {}
    marked: Mapping[str, str] = {}
    continued: Continued | None = None
    evidence: Mapping[str, EvidenceLevel] = {}
    last_read: ReadFacts | None = None
    last_export: str = ""
    latest_version: int = 0
    meaning: Meaning | None = None
    settings: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in _MAPPINGS:
            held = getattr(self, name)
            if isinstance(held, dict):
                msgspec.structs.force_setattr(self, name, MappingProxyType(held))

    @property
    def next_version(self) -> int:
        """Number of the open version (tables)."""
        return self.latest_version + 1

    @property
    def columns(self) -> Schema | None:
        """The unified columns, or None before the first rows."""
        return parse_schema(self.schema) if self.schema else None

    @property
    def reading(self) -> tuple[ReadFacts | None, Continued | None]:
        """The facts that every reading changes and a merge of files does not."""
        return self.last_read, self.continued

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
        """Return the partitions that a reader sees: every day of a stream, the newest version of a table."""
        keys = self.partition_keys()
        return [self.partitions[key] for key in (keys if self.kind == "stream" else keys[-1:])]

    def files(self) -> Iterator[FileEntry]:
        """Every live file, partition by partition."""
        for key in self.partition_keys():
            yield from self.partitions[key].files

    def files_of(self, partition: str) -> tuple[FileEntry, ...]:
        """One partition's live files; none when it has none."""
        return self.partitions[partition].files if partition in self.partitions else ()

    def shape(self, file: FileEntry) -> Schema:
        """Return the columns that a live file has itself, without those added to the feed later.

        Raises:
            KeyError: The file's name carries no commit number with columns; impossible for files that we wrote.
        """
        return parse_schema(self.shape_text(file))

    def shape_text(self, file: FileEntry) -> str:
        """Return the columns that a live file has itself, as ksqlDB schema text; see `shape`."""
        if self.kind == "table":
            return self.partitions[file.partition].schema
        sequence = file_sequence(file.path) or 0
        position = bisect_right(self.shapes, sequence, key=lambda shape: shape[0]) - 1
        if position < 0:
            raise KeyError(file.path)
        return self.shapes[position][1]

    @property
    def event_clock(self) -> str:
        """The column that decided a row's day when the stream was last read; empty if unknown."""
        if self.last_read is None:
            return ""
        if self.last_read.event_time:
            return self.last_read.event_time
        # Older releases recorded no event time; they read milliseconds only, and their query names the column.
        asked = _CONDITION.search(self.last_read.statement)
        return asked[1].strip("`").replace("``", "`") if asked else ""

    def form(self, file: FileEntry) -> int:
        """Return the form in which a live file's rows were read; see `forms`."""
        sequence = file_sequence(file.path) or 0
        position = bisect_right(self.forms, sequence, key=lambda form: form[0]) - 1
        return self.forms[position][1] if position >= 0 else OLDEST

    def after(self, manifests: Iterable[Manifest]) -> FeedState:
        """Return the state after the next commits; this one does not change.

        Raises:
            SchemaChangeError: A manifest's columns do not fit; impossible for manifests that we wrote.
        """
        fold = _Fold(self)
        for manifest in manifests:
            fold.add(manifest)
        return fold.state


class _Fold:
    """Folds commits into a state; copies the state's mappings once for any number of commits.

    Args:
        state: Where to begin.
    """

    def __init__(self, state: FeedState) -> None:
        self._begin = state
        self._kind = state.kind
        self._partitions = dict(state.partitions)
        self._looked = dict(state.looked)
        # At least the newest of them: finding that anew for each commit takes a fifth of the fold.
        self._newest = max(self._looked.values(), default="")
        self._certified = dict(state.certified)
        self._marks, self._marked = dict(state.marks), dict(state.marked)
        self._evidence = dict(state.evidence)
        # Fields that are replaced as a whole, by name.
        self._whole: dict[str, Any] = {}

    @property
    def state(self) -> FeedState:
        """Return the state after the added commits; nothing can be added any more."""
        return msgspec.structs.replace(
            self._begin,
            partitions=self._partitions,
            looked=self._looked,
            certified=self._certified,
            marks=self._marks,
            marked=self._marked,
            evidence=self._evidence,
            **self._whole,
        )

    def _now(self, name: str) -> Any:
        return self._whole[name] if name in self._whole else getattr(self._begin, name)

    def add(self, manifest: Manifest) -> None:
        """Add the next commit."""
        self._forget_readings(manifest)
        self._whole["sequence"] = manifest.sequence
        for entry in manifest.added:
            partition = self._partitions.get(entry.partition, PartitionState())
            self._partitions[entry.partition] = PartitionState(
                files=(*partition.files, entry),
                committed_at=manifest.committed_at,
                schema=manifest.schema if self._kind == "table" else "",
                shrunk=manifest.read.shrunk if manifest.read else 0.0,
            )
            if self._kind == "table":
                newest = max(self._now("latest_version"), version_number(entry.partition))
                self._whole["latest_version"] = newest
        self._read_as(manifest)
        if manifest.removed:
            touched = self._remove(set(manifest.removed))
            if manifest.operation == "forget":
                # Rows were lost: the days count as not read, so that the next export reads them again.
                for day in touched:
                    self._looked.pop(day, None)
                    self._certified.pop(day, None)
                    self._marked.pop(day, None)
        if manifest.schema:
            self._widen(manifest)
        for certificate in manifest.certificates:
            self._certified[certificate.partition] = manifest.sequence
        if manifest.read is not None:
            self._whole |= {"last_read": manifest.read, "last_export": manifest.committed_at}
            for count in manifest.counts:
                self._evidence.pop(count.partition, None)
                if manifest.read.evidence is not None:
                    self._evidence[count.partition] = manifest.read.evidence.level
            if self._kind == "stream":
                self._look(manifest, manifest.read)
        if manifest.read is not None or manifest.new_topic:
            self._mark(manifest)
        self._continue(manifest)
        recorded = {"meaning": manifest.meaning, "settings": manifest.settings}
        self._whole |= {name: value for name, value in recorded.items() if value is not None}

    def _forget_readings(self, manifest: Manifest) -> None:
        """Forget readings before a repair, and those that another source answered in a lake without rows."""
        if manifest.unread:
            self._looked, self._certified, self._evidence, self._newest = {}, {}, {}, ""
        read = manifest.read
        if self._partitions or read is None:
            return
        last: ReadFacts | None = self._now("last_read")
        clock = FeedState(kind=self._kind, last_read=last).event_clock
        before = last.meant if last is not None else None
        # Older releases did not record what the rows of an empty lake would have meant.
        other = read.meant is not None and (before is None or bool(other_rows(before, read.meant)))
        if other or (read.event_time and clock not in ("", read.event_time)):
            # These days have no row of the old source, or by the old event time, so they are read again.
            self._looked, self._certified = {}, {}
        if read.meant is not None:
            # Until the first rows every export reads the whole topic, also a recreated one.
            self._marked = {}

    def _look(self, manifest: Manifest, read: ReadFacts) -> None:
        """Record when days were read; a disputed clock closes no day, and closed days stay closed."""
        if read.clock == "disputed":
            for count in manifest.counts:
                self._looked.setdefault(count.partition, unclosed(count.partition))
            self._newest = max(self._looked.values(), default="")
            return
        now = datetime.fromisoformat(read.read_at)
        if in_the_future(self._newest, now):
            # The clock of an earlier commit was ahead: the days that it closed are read once more.
            for day, read_at in self._looked.items():
                if in_the_future(read_at, now):
                    self._looked[day] = unclosed(day)
                    self._certified.pop(day, None)
            self._newest = max(self._looked.values(), default="")
        for count in manifest.counts:
            self._looked[count.partition] = read.read_at
        self._newest = max(self._newest, read.read_at)

    def _mark(self, manifest: Manifest) -> None:
        """Set the marks of the days that were read; days read without offsets lose theirs."""
        if manifest.new_topic:
            self._marked = {}
        for count in manifest.counts:
            self._marked.pop(count.partition, None)
        for number, group in enumerate(manifest.positions):
            name = f"{manifest.sequence}.{number}"
            self._marks[name] = group.marks
            self._marked.update(dict.fromkeys(group.days, name))
        if not self._marks:
            return
        used = set(self._marked.values())
        self._marks = {name: marks for name, marks in self._marks.items() if name in used}

    def _continue(self, manifest: Manifest) -> None:
        """Set the marks of a `continue` feed; they become invalid if rows were lost or read in another way."""
        held: Continued | None = self._now("continued")
        if manifest.continued is not None:
            self._whole["continued"] = manifest.continued
        elif held is not None and manifest.operation not in ("compact", "retention"):
            lost = manifest.operation in ("forget", "rebuilt")
            why = "rows were lost" if lost else "its days were read in another way"
            why = (manifest.read.fell_back if manifest.read is not None else "") or why
            self._whole["continued"] = held.outdated(f"commit {manifest.sequence}: {why}", lost=lost)

    def _remove(self, paths: set[str]) -> list[str]:
        """Remove files; return the partitions that lost some."""
        touched = []
        for key in list(self._partitions):
            partition = self._partitions[key]
            left = tuple(file for file in partition.files if file.path not in paths)
            if len(left) < len(partition.files):
                touched.append(key)
                self._partitions[key] = msgspec.structs.replace(partition, files=left)
            if not left:
                del self._partitions[key]
                self._evidence.pop(key, None)
        return touched

    def _widen(self, manifest: Manifest) -> None:
        text = manifest.schema
        if self._kind == "table":
            self._whole["schema"] = text
            return
        shapes: Sequence[tuple[int, str]] = self._now("shapes")
        if not shapes or shapes[-1][1] != text:
            known = self._now("schema")
            self._whole["shapes"] = (*shapes, (manifest.sequence, text))
            self._whole["schema"] = unify(parse_schema(known), parse_schema(text)).text if known else text

    def _read_as(self, manifest: Manifest) -> None:
        forms: Sequence[tuple[int, int]] = self._now("forms")
        if manifest.added and manifest.form != (forms[-1][1] if forms else OLDEST):
            self._whole["forms"] = (*forms, (manifest.sequence, manifest.form))
