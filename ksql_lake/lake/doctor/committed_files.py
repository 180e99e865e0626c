"""Check the files that a feed's commits name: sizes, bytes, footers, event times. It only reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import date, timedelta
from functools import lru_cache
from io import BufferedReader
from typing import TypeVar
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import LakeError
from ksql_lake.lake.commit.manifest import FileEntry, Manifest
from ksql_lake.lake.days import day_start
from ksql_lake.lake.doctor.findings import Finding, Problem
from ksql_lake.lake.files.statistics import misleading_columns, stated_range
from ksql_lake.lake.files.writer import footer_facts
from ksql_lake.lake.layout import FeedLayout, file_sequence
from ksql_lake.lake.rows.event_days import event_times
from ksql_lake.lake.storage.boundary import Storage

_SMALL = 1 << 18
"""Bytes up to which a file is read at once."""

_AT_ONCE = 32
"""Small files that go through each step together: one file after the other takes half as long again."""

_Data = bytes | BufferedReader
_Given = TypeVar("_Given")
_Done = TypeVar("_Done")
_Each = list[tuple[FileEntry, _Given]]


class CommittedFiles:
    """The files that a feed's commits name, and what is wrong with them.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        manifests: The readable manifests by number.
        contents: Whether to read every file's bytes and check its event times.

    Attributes:
        findings: Everything that is wrong.
        count: How many files were there.
        bytes: Their size.
    """

    def __init__(
        self, storage: Storage, layout: FeedLayout, manifests: Mapping[int, Manifest], *, contents: bool
    ) -> None:
        self._storage, self._layout, self._manifests = storage, layout, manifests
        self._contents = contents
        self.findings: list[Finding] = []
        self.count = self.bytes = 0

    def check(self, entries: Iterable[FileEntry]) -> None:
        """Check files; what is wrong is added to the findings."""
        small: list[FileEntry] = []
        for entry in entries:
            if entry.bytes > _SMALL:
                self._check([entry])
            else:
                small.append(entry)
            if len(small) == _AT_ONCE:
                self._check(small)
                small.clear()
        self._check(small)

    def _check(self, entries: list[FileEntry]) -> None:
        with ExitStack() as files:
            there = self._each(self._there, [(entry, entry) for entry in entries])
            data: _Each[_Data] = self._each(lambda entry, _: self._opened(entry, files), there)
            if self._contents:
                data = self._each(self._undamaged, data)
            self._each(self._footer, data)

    def _each(self, step: Callable[[FileEntry, _Given], _Done | None], given: _Each[_Given]) -> _Each[_Done]:
        """Do a step for some files, and return those for which it returned something."""
        done = []
        for entry, value in given:
            try:
                result = step(entry, value)
            except (LakeError, OSError) as error:
                # The file cannot be reached, but its bytes may be sound, so no repair may act on it.
                detail = error.message if isinstance(error, LakeError) else str(error)
                self._found(Problem.FILE_UNREADABLE, entry, detail)
            else:
                if result is not None:
                    done.append((entry, result))
        return done

    def _found(self, problem: Problem, entry: FileEntry, detail: str) -> None:
        key = self._layout.data(entry.path)
        self.findings.append(Finding(problem, key, detail, file_sequence(entry.path)))

    def _there(self, entry: FileEntry, _: FileEntry) -> FileEntry | None:
        key = self._layout.data(entry.path)
        size = self._storage.size(key)
        if size is None:
            if self._storage.size(self._staged(entry)) is not None:
                self._found(Problem.FILE_UNPUBLISHED, entry, "committed, still staged")
                return None
            size = self._storage.size(key)  # an export may have published it between the two looks
        if size is None:
            self._missing(entry)
            return None
        self.count += 1
        self.bytes += size
        if size != entry.bytes:
            self._found(Problem.FILE_DAMAGED, entry, f"{size} bytes, its manifest says {entry.bytes}")
            return None
        return entry

    def _staged(self, entry: FileEntry) -> str:
        number = file_sequence(entry.path) or 0
        manifest = self._manifests.get(number)
        return f"{self._layout.attempt(number, manifest.attempt if manifest else '')}/{entry.staged}"

    def _missing(self, entry: FileEntry) -> None:
        self._found(Problem.FILE_MISSING, entry, f"{entry.records} rows of {entry.partition}")

    def _opened(self, entry: FileEntry, files: ExitStack) -> _Data | None:
        key, data = self._layout.data(entry.path), None
        try:
            if entry.bytes > _SMALL:
                return files.enter_context(self._storage.open(key, whole=self._contents))
            # Arrow reads Python's files by calls into Python, which takes longer than to read a small one.
            data = self._storage.read(key)
        except LakeError:
            if self._storage.size(key) is not None:
                raise
        if data is None:  # it was removed meanwhile
            self.count -= 1
            self.bytes -= entry.bytes
            self._missing(entry)
        return data

    def _undamaged(self, entry: FileEntry, data: _Data) -> _Data | None:
        digest = hashlib.sha256(data) if isinstance(data, bytes) else hashlib.file_digest(data, "sha256")
        if digest.hexdigest() == entry.sha256:
            return data
        self._found(Problem.FILE_DAMAGED, entry, "its bytes are not those that were written (sha256 differs)")
        return None

    def _footer(self, entry: FileEntry, data: _Data) -> None:
        try:
            with pq.ParquetFile(pa.BufferReader(data) if isinstance(data, bytes) else data) as parquet:
                self._content(entry, parquet)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # an error of the operating system; Arrow's own errors carry no number
            self._found(Problem.FILE_DAMAGED, entry, f"cannot be read as Parquet: {error}")
        except (KeyError, ValueError) as error:  # an unknown time zone or column
            self._found(Problem.FOOTER_DIFFERS, entry, f"its footer cannot be true: {error}")

    def _content(self, entry: FileEntry, parquet: pq.ParquetFile) -> None:
        facts, rows = footer_facts(parquet), parquet.metadata.num_rows
        if rows != entry.records or facts.get("feed") != self._layout.name:
            detail = f"{rows} rows of feed {facts.get('feed')}; manifest: {entry.records}"
            self._found(Problem.FOOTER_DIFFERS, entry, detail)
        elif self._contents:
            if self._layout.kind == "stream" and (stray := _outside(parquet, facts, entry)):
                self._found(Problem.ROW_OUTSIDE_DAY, entry, stray)
            if misleading := misleading_columns(parquet):
                detail = f"filters on {', '.join(misleading)} miss rows: its statistics are an older release's"
                self._found(Problem.NAN_LEFT_OUT, entry, detail)


def _outside(parquet: pq.ParquetFile, facts: dict[str, str], entry: FileEntry) -> str:
    """Describe the first rows outside their day; an empty text if there are none."""
    low, high = _bounds(entry.partition, facts.get("timezone", "UTC"))
    event_time, unit = facts.get("event_time", "ROWTIME"), facts.get("event_time_unit", "ms")
    times = stated_range(parquet, event_time) if unit == "ms" else None
    if times is not None and low <= times[0] and times[1] < high:
        return ""
    for batch in parquet.iter_batches(columns=list({"ROWTIME", event_time}), use_threads=False):
        events = event_times(batch, event_time, unit)
        strays = events[(events < low) | (events >= high)]
        if len(strays):
            return f"{len(strays)} rows, e.g. event time {strays[0]} (epoch ms)"
    return ""


@lru_cache(maxsize=4096)
def _bounds(partition: str, timezone: str) -> tuple[int, int]:
    """Return the epoch ms at which a day of a zone begins and ends."""
    day, zone = date.fromisoformat(partition), ZoneInfo(timezone)
    return day_start(day, zone), day_start(day + timedelta(days=1), zone)
