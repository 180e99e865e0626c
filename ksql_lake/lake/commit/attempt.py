"""One attempt at a commit number, and its staging folder."""

# The folder is removed at the end unless its manifest exists. If it does, the staged files are the data, and
# the next process that opens the feed publishes them.

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from ksql_lake.errors import ConflictError, LakeError, StoreError
from ksql_lake.lake.commit.holdings import check_beginning, check_partitions
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.manifest import FileEntry, Manifest
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.files.writer import StagedFile
from ksql_lake.lake.layout import data_file
from ksql_lake.lake.storage.boundary import staging_cleared

MAX_CONFLICTS = 50
"""How often one attempt plans again before it fails; each time another export of the feed has succeeded."""


_SMALL = 1 << 18
"""Bytes up to which a file is read at once."""


class Attempt:
    """A context manager: a staging folder and the commit number it is meant for.

    Args:
        log: The feed's commit log; recovered first.

    Attributes:
        id: Random name of this attempt.
        sequence: The commit number it is meant for.
    """

    def __init__(self, log: CommitLog) -> None:
        self.log = log
        self.id = uuid.uuid4().hex[:8]
        self.sequence = log.recover().sequence + 1
        self._committing = False
        log.storage.begin(self.folder)
        log.storage.announce(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(after=error)

    @property
    def folder(self) -> str:
        """Key of the staging folder."""
        return self.log.layout.attempt(self.sequence, self.id)

    def path(self, name: str) -> Path:
        """Return the local path of a staged file."""
        return self.log.storage.local_file(f"{self.folder}/{name}")

    def announce(self) -> None:
        """Mark the staging folder as in use, for other processes; called at intervals."""
        self.log.storage.announce(self.folder)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn errors of the operating system while a staged file is written into a `WriteError`.

        Raises:
            ConflictError: The staging was cleared by another run.
            WriteError: Any other error of the operating system.
        """
        with self.log.storage.writing(self.folder):
            try:
                yield
            except FileNotFoundError as error:
                raise staging_cleared(self.log.storage.uri(self.folder)) from error

    def states(self) -> Iterator[FeedState]:
        """Yield the feed's newest state, again and again, each time with this attempt moved to the next number.

        Raises:
            ConflictError: The staging was cleared by another run, or other runs took the number each time.
        """
        for _ in range(MAX_CONFLICTS):
            state = self.log.recover()
            check_beginning(self.log, state)
            self._move_to(state.sequence + 1)
            yield state
        raise ConflictError(
            f"lost the commit number {MAX_CONFLICTS} times in a row to other runs of this feed",
            hint="Run fewer exports of the same feed at once.",
        )

    def check_partitions(self, state: FeedState, partitions: Collection[str]) -> None:
        """Raise if partitions hold other files than the state names; see `holdings.py`.

        Raises:
            CorruptLakeError: Names files; the state may also be older than the folder.
        """
        check_partitions(self.log, state, partitions)

    def overtaken(self, state: FeedState) -> bool:
        """Whether there are commits after this state, so that files it names may have been removed."""
        return self.log.load().sequence > state.sequence

    def entry(self, file: StagedFile, partition: str, *, at: datetime) -> FileEntry:
        """Return the manifest's entry for a finished staged file.

        Raises:
            ConflictError: The staging was cleared by another run.
        """
        path = self.path(file.name)
        try:
            with path.open("rb", buffering=0) as data:
                size = os.fstat(data.fileno()).st_size
                # `file_digest` gets a buffer of this size first, which takes longer than to hash a small file.
                small = size <= _SMALL
                hashed = hashlib.sha256(data.read()) if small else hashlib.file_digest(data, "sha256")
        except FileNotFoundError as error:
            raise staging_cleared(str(path.parent)) from error
        return FileEntry(
            path=data_file(self.log.layout.kind, partition, at=at, sequence=self.sequence),
            partition=partition,
            staged=file.name,
            records=file.records,
            bytes=size,
            sha256=hashed.hexdigest(),
            checksum=file.checksum,
            min_event=file.min_event,
            max_event=file.max_event,
        )

    def commit(self, manifest: Manifest) -> bool:
        """Make staged files durable and create the manifest; False when another attempt has the number.

        Raises:
            ConflictError: The staging was cleared by another run.
            StoreError: The object store has not kept what it accepted; nothing was committed.
            WriteError: The disk is full or not writable; nothing was committed.
        """
        if not self.log.storage.stage(self.folder, [entry.staged for entry in manifest.added]):
            if self.log.load().sequence >= self.sequence:
                return False
            raise StoreError(
                "a staged file is missing, and no other run can have cleared it",
                hint="Nothing was committed. The store does not keep what it accepts; check it first.",
                path=self.log.storage.uri(self.folder),
            )
        self._committing = True
        self._committing = self.log.commit(manifest)
        return self._committing

    def close(self, *, after: BaseException | None = None) -> None:
        """Remove the staging folder, unless it belongs to a commit.

        Args:
            after: The error that ended the attempt; an error of the removal does not replace it.

        Raises:
            WriteError: The folder cannot be removed.
        """
        storage = self.log.storage
        try:
            # If the manifest may still appear after the error, its rows must be in place by then.
            committed = self._committing and (storage.delayed or self.log.holds(self.sequence, self.id))
            if committed:
                storage.let_go(self.folder)
            else:
                storage.remove_folder(self.folder)
        except LakeError:
            # Files that stay staged do no harm, and the next commit clears them.
            if after is None:
                raise

    def _move_to(self, sequence: int) -> None:
        if sequence == self.sequence:
            return
        old, self.sequence = self.folder, sequence
        # Under its old number the folder counts as lost, and any other run may clear it.
        if not self.log.storage.move_folder(old, self.folder):
            raise staging_cleared(self.log.storage.uri(old))
        self.announce()
