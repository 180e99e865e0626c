"""Check that a feed's folders hold the files that its log names, before a run adds rows."""

# A restored, copied or edited folder may hold files that the log does not name, or lack some. Rows added to it
# would be double for readers that glob. `doctor` repairs such a folder.

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import cache

from ksql_lake.errors import CorruptLakeError
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.manifest import FileEntry, Manifest, is_intact
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.layout import file_sequence, partition_folder
from ksql_lake.lake.storage.abreast import abreast

_log = logging.getLogger(__name__)

_LISTED_AT_ONCE = 8
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

    A store may finish a copy for a killed run after a merge has removed the file; the removal is repeated then.

    Raises:
        CorruptLakeError: Names the files. The caller checks whether the state is merely older than the folder.
    """
    folders = [log.layout.data(partition_folder(state.kind, key)) for key in partitions]
    for partition, folder, names in zip(partitions, folders, _listed(log, state, folders), strict=True):
        there = {name for name in names if name.endswith(".parquet")}
        named = {entry.path.rsplit("/", 1)[1] for entry in state.files_of(partition)}
        if log.storage.delayed and named < there:
            there -= _removed_again(log, state, partition, there - named)
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


def _removed_again(log: CommitLog, state: FeedState, partition: str, names: Collection[str]) -> set[str]:
    """Remove late copies; return their names, and those of files that another run has removed meanwhile."""
    folder = log.layout.data(partition_folder(state.kind, partition))
    late = _late_copies(log, state, partition, names)
    for name in sorted(late):
        _log.warning("%s, %s: removed %s again, which a merge had replaced", log.layout.name, partition, name)
        log.storage.remove(f"{folder}/{name}")
    return {name for name in names if name in late or log.storage.size(f"{folder}/{name}") is None}


def _late_copies(log: CommitLog, state: FeedState, partition: str, names: Collection[str]) -> set[str]:
    """Return the files, equal to the byte, that a merge has replaced and whose rows the merged file holds."""
    folder = partition_folder(state.kind, partition)
    numbers = {name: file_sequence(name) or 0 for name in names}
    known = {name for name, number in numbers.items() if 0 < number < state.sequence}
    if not known:
        return set()
    added: dict[str, FileEntry] = {}
    gone: dict[str, Manifest] = {}
    for number in range(min(numbers[name] for name in known), state.sequence + 1):
        manifest = log.manifest(number, ahead=state.sequence)
        added.update((entry.path, entry) for entry in manifest.added)
        gone.update((path, manifest) for path in manifest.removed)
    live = {entry.path for entry in state.files_of(partition)}

    @cache
    def held(path: str) -> bool:
        """Whether the rows of a file are in live files that are as they were written."""
        if path in live:
            return path in added and is_intact(log.storage, log.layout, added[path])
        manifest = gone.get(path)
        if manifest is None or manifest.operation != "compact" or not manifest.added:
            return False  # doctor compares the rows
        return all(held(entry.path) for entry in manifest.added)

    paths = {name: f"{folder}/{name}" for name in known}
    return {
        name
        for name, path in paths.items()
        if path in added and path in gone and is_intact(log.storage, log.layout, added[path]) and held(path)
    }


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
