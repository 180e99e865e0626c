"""What a reader may rely on: the newest commit whose files are all in place.

A commit counts the moment its manifest exists, but its files are published one by one afterwards, by whoever
opens the feed to write. A reader writes nothing and waits for nobody: until the last file is in place, it is
given the commits before, whole. It refuses to show a part of a commit.
"""

from __future__ import annotations

from ksql_lake.errors import CorruptLakeError
from ksql_lake.lake.checkpoint import decode_checkpoint
from ksql_lake.lake.layout import file_sequence
from ksql_lake.lake.log import CommitLog
from ksql_lake.lake.manifest import FileEntry
from ksql_lake.lake.metadata import published_through
from ksql_lake.lake.state import FeedState


def published_state(log: CommitLog) -> FeedState:
    """Give what is committed and in place; changes nothing.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable, or a committed file is nowhere.
    """
    state = log.load()
    through = published_through(log.storage.read(log.layout.summary))
    if through == state.sequence:
        return state
    # Where `_metadata.json` is lost it says nothing, and every file has to be looked for.
    known = through if through < state.sequence else 0
    while waiting := [file for file in state.files() if _sequence(file) > known and not _in_place(log, file)]:
        first = min(map(_sequence, waiting))
        _check_staged(log, first, [file for file in waiting if _sequence(file) == first])
        state = state_at(log, first - 1)
    return state


def _sequence(file: FileEntry) -> int:
    return file_sequence(file.path) or 0


def _in_place(log: CommitLog, file: FileEntry) -> bool:
    return log.storage.size(log.layout.data(file.path)) is not None


def _check_staged(log: CommitLog, sequence: int, files: list[FileEntry]) -> None:
    """Make sure that each file is only late, not lost."""
    folder = log.layout.attempt(sequence, log.manifest(sequence).attempt)
    for file in files:
        # Published between two looks counts as in place; the state before its commit is right all the same.
        if log.storage.size(f"{folder}/{file.staged}") is None and not _in_place(log, file):
            raise CorruptLakeError(
                f"commit {sequence} holds this file, but it is neither in place nor staged",
                hint="Run `ksql-lake doctor` to see everything that is missing.",
                feed=log.layout.name,
                path=log.storage.uri(log.layout.data(file.path)),
            )


def state_at(log: CommitLog, sequence: int) -> FeedState:
    """Give what was committed up to a commit, in place or not.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    saved = decode_checkpoint(log.storage.read(log.layout.checkpoint), log.layout.kind)
    state = saved if saved is not None and saved.sequence <= sequence else FeedState(kind=log.layout.kind)
    return state.after(
        log.manifest(number, ahead=sequence) for number in range(state.sequence + 1, sequence + 1)
    )
