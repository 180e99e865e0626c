"""Check that a feed's folders hold the files that its log names, before a run adds rows."""

# A restored, copied or edited folder may hold files that the log does not name, or lack some. Rows added to it
# would be double for readers that glob. `doctor` repairs such a folder.

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from ksql_lake.errors import CorruptLakeError
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.layout import file_sequence, partition_folder
from ksql_lake.lake.storage.abreast import abreast

_log = logging.getLogger(__name__)

_LISTED_AT_ONCE = 8
_REMOVING = {"compact", "retention"}
_PAGE = 1000
"""How many names an object store lists in one answer."""


def check_beginning(log: CommitLog, state: FeedState) -> None:
    """Raise if the log has no commit but the folder has data files.

    Raises:
        CorruptLakeError: There is no commit, but there are data files.
    """
    if state.sequence:
        return
    found = next((key for key in log.storage.walk(log.layout.dataset) if key.endswith(".parquet")), None)
    # Another run may have made the first commit since the log was read.
    if found is not None and not log.load().sequence:
        raise CorruptLakeError(
            "this feed has data files but no commit that names them: its metadata was lost, or not restored",
            hint=log.layout.way_out,
            feed=log.layout.name,
            path=log.storage.uri(found),
        )


def check_partitions(log: CommitLog, state: FeedState, partitions: Collection[str]) -> None:
    """Raise if a partition's folder holds other Parquet files than the state names.

    A store may finish a copy for a killed run after a merge or retention has removed the file; the removal is
    repeated then.

    Raises:
        CorruptLakeError: Names the files. The caller checks whether the state is merely older than the folder.
    """
    folders = [log.layout.data(partition_folder(state.kind, key)) for key in partitions]
    for partition, folder, names in zip(partitions, folders, _listed(log, state, folders), strict=True):
        there = {name for name in names if name.endswith(".parquet")}
        named = {entry.path.rsplit("/", 1)[1] for entry in state.files_of(partition)}
        if log.storage.delayed and named <= there:
            late = {name for name in there - named if _was_removed(log, state, partition, name)}
            for name in sorted(late):
                _log.warning("%s: removed %s again: the store copied it late", log.layout.name, name)
                log.storage.remove(f"{folder}/{name}")
            there -= late
        for wrong, what in (
            (there - named, "a data file that no commit names"),
            (named - there, "no longer a file that a commit names"),
        ):
            if wrong:
                shown = sorted(wrong)
                more = f" (and {len(shown) - 1} more)" if len(shown) > 1 else ""
                raise CorruptLakeError(
                    f"its folder holds {what}: {shown[0]}{more}; was it restored, copied or edited?",
                    hint=log.layout.way_out,
                    feed=log.layout.name,
                    partition=partition,
                    path=log.storage.uri(folder),
                )


def _was_removed(log: CommitLog, state: FeedState, partition: str, name: str) -> bool:
    """Whether a file is, to the byte, one that a merge or retention has removed."""
    path = f"{partition_folder(state.kind, partition)}/{name}"
    number = file_sequence(name) or 0
    if not 0 < number < state.sequence:
        return False
    manifests = (log.manifest(each, ahead=state.sequence) for each in range(number, state.sequence + 1))
    entry = next((each for each in next(manifests).added if each.path == path), None)
    if entry is None or not any(path in each.removed and each.operation in _REMOVING for each in manifests):
        return False
    key = log.layout.data(path)
    try:
        with log.storage.local_copies([key]) as copies, Path(copies[key]).open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest() == entry.sha256
    except FileNotFoundError:
        return True  # another run has removed it since the folder was listed


def _listed(log: CommitLog, state: FeedState, folders: Sequence[str]) -> list[list[str]]:
    """List each folder; in an object store list all of them at once if that takes fewer requests."""
    if not log.storage.paged:
        return [log.storage.names(folder) for folder in folders]
    files = sum(len(partition.files) for partition in state.partitions.values())
    if len(folders) <= _LISTED_AT_ONCE + files // _PAGE:
        return abreast(log.storage.names, folders, threads=_LISTED_AT_ONCE)
    found: dict[str, list[str]] = {folder: [] for folder in folders}
    for key in log.storage.walk(log.layout.dataset):
        folder, _, name = key.rpartition("/")
        if folder in found:
            found[folder].append(name)
    return list(found.values())
