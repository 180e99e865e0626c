"""The state of a feed's lake at an earlier commit, and where its rows are now."""

# A merged file holds the rows of the files that it replaced one after another. A piece of it is returned only
# if its rows have the checksum that its commit recorded.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import CorruptLakeError, LakeError
from ksql_lake.lake.commit.log import CommitLog, state_at
from ksql_lake.lake.commit.manifest import FileEntry, Manifest
from ksql_lake.lake.commit.state import FeedState, PartitionState
from ksql_lake.lake.files.checksum import RowChecksum
from ksql_lake.lake.rows import committed_rows


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of a committed file inside the merged file that replaced it.

    Attributes:
        file: The merged file.
        first: Number of the piece's first row in the merged file.
        origin: The file as it was committed.
    """

    file: FileEntry
    first: int
    origin: FileEntry


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Where rows are now: whole files, and pieces of merged files."""

    whole: tuple[FileEntry, ...]
    pieces: tuple[Piece, ...]


class Timeline:
    """A feed's commits up to the state that a reader sees.

    Args:
        log: The feed's commit log.
        now: The state whose files are all in place.
    """

    def __init__(self, log: CommitLog, now: FeedState) -> None:
        self.log = log
        self.now = now

    def manifests(self, after: int) -> Iterator[Manifest]:
        """Return the manifests after a commit, oldest first."""
        last = self.now.sequence
        return (self.log.manifest(number, ahead=last) for number in range(after + 1, last + 1))

    def state(self, commit: int) -> FeedState:
        """Return the state after a commit.

        Raises:
            LakeError: There is no such commit.
        """
        if not 0 <= commit <= self.now.sequence:
            raise LakeError(
                f"there is no commit {commit}",
                hint=f"The newest is {self.now.sequence}.",
                feed=self.log.layout.name,
            )
        return self.now if commit == self.now.sequence else state_at(self.log, commit)

    def commit_by(self, moment: int) -> int:
        """Return the number of the last commit made in or before an epoch millisecond; 0 if there is none."""
        for number in range(self.now.sequence, 0, -1):
            at = datetime.fromisoformat(self.log.manifest(number).committed_at)
            if round(at.timestamp() * 1000) <= moment:
                return number
        return 0

    def find(self, wanted: Iterable[FileEntry], base: FeedState) -> FoundRows:
        """Find the rows of files that were committed at `base` or later.

        Raises:
            LakeError: Rows of these files are no longer in the lake.
            CorruptLakeError: A merge replaced a file that no commit named.
        """
        files, live = list(wanted), {file.path: file for file in self.now.files()}
        moved = {} if all(file.path in live for file in files) else self._moves(base)
        whole: dict[str, FileEntry] = {}
        pieces: dict[str, list[Piece]] = {}
        for origin in files:
            path, first = origin.path, 0
            while path not in live and path in moved:
                path, before = moved[path]
                first += before
            if path not in live:
                raise LakeError(
                    f"{origin.records} rows of {origin.partition} that were committed then are not in the "
                    "lake any more",
                    hint="Doctor or retention removed them; read a later commit.",
                    feed=self.log.layout.name,
                )
            if path == origin.path:
                whole[path] = origin
            else:
                pieces.setdefault(path, []).append(Piece(live[path], first, origin))
        for path in [path for path, parts in pieces.items() if _all(live[path], parts)]:
            whole[path] = live[path]
            del pieces[path]
        return FoundRows(tuple(whole.values()), tuple(piece for parts in pieces.values() for piece in parts))

    def _moves(self, base: FeedState) -> dict[str, tuple[str, int]]:
        """Return, for each file merged since, the merged file and how many rows precede its own."""
        rows = {file.path: file.records for file in base.files()}
        moved: dict[str, tuple[str, int]] = {}
        for manifest in self.manifests(base.sequence):
            rows |= {file.path: file.records for file in manifest.added}
            if manifest.operation != "compact" or len(manifest.added) != 1:
                continue
            before = 0
            for path in manifest.removed:
                if path not in rows:
                    raise CorruptLakeError(
                        f"commit {manifest.sequence} merged {path}, which no commit named before",
                        hint="Run `ksql-lake doctor`.",
                        feed=self.log.layout.name,
                    )
                moved[path] = (manifest.added[0].path, before)
                before += rows[path]
        return moved

    def rows(self, state: FeedState, pieces: Sequence[Piece]) -> pa.Table:
        """Read pieces, with the columns of a state and the path columns.

        Raises:
            CorruptLakeError: A piece does not hold the rows that were committed.
        """
        tables = []
        for file in {piece.file.path: piece.file for piece in pieces}.values():
            own = [piece for piece in pieces if piece.file.path == file.path]
            self._check(file, own)
            only = narrowed(state, [file])
            rows = committed_rows.dataset(self.log.storage, self.log.layout, only).to_table()
            tables += [rows.slice(piece.first, piece.origin.records) for piece in own]
        return pa.concat_tables(tables)

    def _check(self, file: FileEntry, pieces: Sequence[Piece]) -> None:
        with (
            self.log.storage.open(self.log.layout.data(file.path), whole=True) as source,
            pq.ParquetFile(source) as parquet,
        ):
            table = parquet.read()
        for piece in pieces:
            found = RowChecksum()
            for batch in table.slice(piece.first, piece.origin.records).to_batches():
                found.add(batch)
            if piece.origin.checksum and found.text != piece.origin.checksum:
                raise CorruptLakeError(
                    f"its rows {piece.first} to {piece.first + piece.origin.records} are not those of "
                    f"{piece.origin.path}, which was merged into it",
                    hint="Run `ksql-lake doctor` to see whether the file is damaged.",
                    feed=self.log.layout.name,
                    path=file.path,
                )


def narrowed(state: FeedState, files: Iterable[FileEntry]) -> FeedState:
    """Return a state with only some of its files and the same columns."""
    kept: dict[str, list[FileEntry]] = {}
    for file in files:
        kept.setdefault(file.partition, []).append(file)
    parts = {
        key: msgspec.structs.replace(state.partitions.get(key, PartitionState()), files=tuple(own))
        for key, own in kept.items()
    }
    return msgspec.structs.replace(state, partitions=parts)


def _all(file: FileEntry, pieces: Iterable[Piece]) -> bool:
    return sum(piece.origin.records for piece in pieces) == file.records
