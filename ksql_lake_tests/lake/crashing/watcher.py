"""The reader of a crash run: lists the Parquet files of a feed as any program would, and reads each of them.

It takes rows from what it lists alone. Beside it an auditor looks up the manifests to judge what was seen: no
file may be visible before its commit, differ from it, or go before a commit removes it; no row may be there
more often than in the source, and what was there once may not be missing later. A merge is the one case in
which a plain reader may see rows twice: the merged file beside the files that it replaces. That is counted, and
anything beyond it is a finding.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import CorruptLakeError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake.commit.manifest import FileEntry, decode_manifest
from ksql_lake.lake.layout import FeedLayout, version_number
from ksql_lake_tests.lake.crashing.board import Board
from ksql_lake_tests.lake.crashing.source import Source, snapshot_rows
from ksql_lake_tests.stores.places import Place

_PAUSE_SECONDS = 0.02
_MAX_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was first read; the same path must never hold anything else."""

    mark: str
    size: int
    values: npt.NDArray[np.int64]


class FeedWatcher:
    """What the reader sees of one feed, poll by poll.

    Args:
        root: The lake's folder or address.
        feed: The feed.
        source: What may be there.
        board: The present, and where findings go.
    """

    def __init__(self, root: str, feed: Feed, source: Source, board: Board) -> None:
        self.place = Place(root)
        self.layout = FeedLayout(feed.kind, feed.name)
        self.source = source
        self.board = board
        self.figures: Counter[str] = Counter()
        self._files: dict[str, _Seen] = {}
        self._entries: dict[str, FileEntry] = {}
        self._removed: set[str] = set()
        self._manifests = 0
        self._before: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def poll(self) -> None:
        """List, read and judge once."""
        listed = self.place.marks(self.layout.dataset)
        seen = {path: file for path in sorted(listed) if (file := self._read(path, listed[path])) is not None}
        self._audit(seen, set(listed))
        whole = len(seen) == len(listed)
        self.figures["polls"] += 1
        self.figures["interrupted polls"] += not whole
        if self.layout.kind == "stream":
            self._judge_rows(seen, whole=whole)
        else:
            self._judge_versions(seen, whole=whole)

    def _read(self, path: str, mark: str) -> _Seen | None:
        known = self._files.get(path)
        if not mark:
            self.figures["gone when opened"] += 1
            return None
        if known is not None:
            if mark != known.mark:
                self._found("torn", f"{path} was written twice")
            return known
        try:
            data = self.place.read(f"{self.layout.dataset}/{path}")
        except FileNotFoundError:
            self.figures["gone when opened"] += 1
            return None
        try:
            table = pq.read_table(io.BytesIO(data))
        except (pa.ArrowException, OSError) as error:
            self._found("torn", f"{path} cannot be read: {error}")
            return None
        self.figures["files"] += 1
        self._files[path] = _Seen(mark, len(data), self._values(path, table))
        return self._files[path]

    def _values(self, path: str, table: pa.Table) -> npt.NDArray[np.int64]:
        if self.layout.kind == "table":
            ticks = table.column("NAME").unique().to_pylist()
            if len(ticks) != 1 or table.num_rows != snapshot_rows(int(ticks[0].split()[1])):
                self._found("torn", f"{path} holds {table.num_rows} rows of {ticks}")
        values: npt.NDArray[np.int64] = table.column("ID").to_numpy()
        return values

    def _audit(self, seen: dict[str, _Seen], listed: set[str]) -> None:
        """Hold what was seen against the manifests that exist now."""
        while True:
            commit = self.layout.manifest(self._manifests + 1)
            try:
                manifest = decode_manifest(self.place.read(commit), path=commit)
            except FileNotFoundError:
                break
            except CorruptLakeError as error:
                self._found("unsound", f"{commit}: {error}")
                return
            self._entries |= {entry.path: entry for entry in manifest.added}
            self._removed |= set(manifest.removed)
            self._manifests += 1
        for path in self._files.keys() - listed - self._removed:
            self._found("missing", f"{path} is gone, and no commit removed it")
        for path, file in seen.items():
            entry = self._entries.get(path)
            if entry is None:
                self._found("unsound", f"{path} is visible, but no commit holds it")
            elif (entry.records, entry.bytes) != (len(file.values), file.size):
                self._found("torn", f"{path} has {len(file.values)} rows, its commit says {entry.records}")

    def _judge_rows(self, seen: dict[str, _Seen], *, whole: bool) -> None:
        there = self.source.counts(self.board.tick)
        counts = self._counted(seen.values())
        if (counts > there).any():
            # A merged file beside those it replaces; without these, nothing may be left over.
            rest = self._counted(file for path, file in seen.items() if path not in self._removed)
            if (rest > there).any():
                self._found("double", f"ID {int(np.argmax(rest > there))} is there too often")
            self.figures["polls that saw rows twice"] += 1
        if whole:
            if len(self._before) and (counts < self._before).any():
                self._found("missing", f"ID {int(np.argmax(counts < self._before))} was there before")
            if self._removed.isdisjoint(seen):
                # Rows seen twice in a merge are not expected to stay.
                self._before = counts

    def _counted(self, files: Iterable[_Seen]) -> npt.NDArray[np.int64]:
        values = [file.values for file in files]
        together = np.concatenate(values) if values else np.zeros(0, dtype=np.int64)
        counts: npt.NDArray[np.int64] = np.bincount(together, minlength=len(self.source.identity))
        return counts

    def _judge_versions(self, seen: dict[str, _Seen], *, whole: bool) -> None:
        versions = Counter(path.split("/")[0].removeprefix("version=") for path in seen)
        if any(count > 1 for count in versions.values()):
            self._found("double", f"versions with several files: {versions}")
        newest = max((version_number(version) for version in versions), default=0)
        if whole:
            if len(self._before) and newest < self._before[0]:
                self._found("missing", f"version v{self._before[0]} was the newest before v{newest}")
            self._before = np.array([newest])

    def _found(self, kind: str, text: str) -> None:
        self.figures[kind] += 1
        if self.figures[kind] <= _MAX_FINDINGS:
            self.board.say(what=kind, feed=self.layout.name, text=text)


def watch(root: str, feeds: tuple[Feed, ...], source: Source, board: Board) -> None:
    """Poll the feeds in turn until the run is over, and once more; then report the figures."""
    watchers = [FeedWatcher(root, feed, source, board) for feed in feeds]
    over = False
    while not over:
        over = board.over
        for watcher in watchers:
            watcher.poll()
        time.sleep(_PAUSE_SECONDS)
    for watcher in watchers:
        board.say(what="watched", feed=watcher.layout.name, figures=dict(watcher.figures))
