"""Check a feed's lake: manifests, footers, checksums, days, files that no commit names. It only reads."""

# The state is folded from the manifests one by one, without the checkpoint.

from __future__ import annotations

import builtins
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from ksql_lake.errors import CorruptLakeError, SchemaChangeError
from ksql_lake.lake.closing import in_the_future
from ksql_lake.lake.commit.commit_facts import facts_of
from ksql_lake.lake.commit.derived_files import decode_checkpoint, decode_facts, encode_summary
from ksql_lake.lake.commit.manifest import FileEntry, Manifest, decode_manifest, is_intact
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.doctor.committed_files import CommittedFiles
from ksql_lake.lake.doctor.findings import Finding, Problem
from ksql_lake.lake.doctor.unnamed_files import Unnamed, fresh_counts, known_since, read_unnamed
from ksql_lake.lake.layout import FeedLayout, attempt_parts, file_sequence, manifest_sequence
from ksql_lake.lake.storage.boundary import Storage


@dataclass(slots=True)
class Examination:
    """The result of examining one feed's lake.

    Attributes:
        layout: The feed's layout.
        findings: Everything that is wrong, in the order in which it was found.
        state: The state after the readable manifests.
        manifests: The readable manifests by number.
        files: How many committed files were checked.
        bytes: Their size.
        unnamed: Data files of the feed that are in its folder, but not in its log.
        seen: The keys in the feed's folder before the manifests were read.
        checkpoint: The bytes of the checkpoint, read before the manifests.
        saved: The state that the checkpoint holds; None if it cannot be read.
        at_checkpoint: The state after the manifests up to the checkpoint's.
    """

    layout: FeedLayout
    findings: list[Finding] = field(default_factory=list)
    state: FeedState = field(default_factory=lambda: FeedState(kind="stream"))
    manifests: dict[int, Manifest] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    unnamed: list[Unnamed] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    checkpoint: builtins.bytes | None = None
    saved: FeedState | None = None
    at_checkpoint: FeedState | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def of(self, *problems: Problem) -> list[Finding]:
        """Return the findings of some kinds."""
        return [finding for finding in self.findings if finding.problem in problems]


def examine(storage: Storage, layout: FeedLayout, *, contents: bool = True) -> Examination:
    """Check everything of one feed.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        contents: Whether to read every file's bytes and event times as well as its size and footer.
    """
    result = Examination(layout, state=FeedState(kind=layout.kind))
    result.findings += _manifests(storage, result)
    result.findings += _ahead(result)
    result.findings += _files(storage, result, contents=contents)
    result.findings += _strays(storage, result)
    result.findings += _derived(storage, result)
    result.findings = _without_outdated(storage, result)
    return result


def feeds_in(storage: Storage) -> list[FeedLayout]:
    """Return every feed of which the lake holds anything, whether or not its feed file exists."""
    found = {
        FeedLayout(kind, name)
        for kind in ("stream", "table")
        for folder in (f"{kind}s", f"metadata/{kind}s")
        for name in storage.names(folder)
        if not name.startswith(".")
    }
    return sorted(found, key=lambda layout: (layout.kind, layout.name))


def _manifests(storage: Storage, result: Examination) -> Iterator[Finding]:
    layout = result.layout
    # First the files: each of them has a manifest by then, also if an export commits while doctor looks.
    result.seen, numbers = set(storage.walk(layout.dataset)), set[int]()
    result.checkpoint = storage.read(layout.checkpoint)
    for name in storage.names(layout.commits):
        number = manifest_sequence(name)
        key = f"{layout.commits}/{name}"
        if number is None:
            yield Finding(Problem.FILE_FOREIGN, key, "not a manifest")
            continue
        numbers.add(number)
        try:
            manifest = decode_manifest(storage.read(key) or b"", path=key)
        except CorruptLakeError as error:
            yield Finding(Problem.MANIFEST_DAMAGED, key, error.message, number)
            continue
        if (manifest.sequence, manifest.feed) != (number, layout.name):
            detail = f"it holds commit {manifest.sequence} of {manifest.feed}"
            yield Finding(Problem.MANIFEST_DAMAGED, key, detail, number)
            continue
        result.manifests[number] = manifest
    head = max([0, *numbers, *filter(None, map(file_sequence, result.seen))])
    for number in sorted(set(range(1, head + 1)) - numbers):
        yield Finding(Problem.MANIFEST_MISSING, layout.manifest(number), "there are later commits", number)
    yield from _fold(result)


def _fold(result: Examination) -> Iterator[Finding]:
    """Set the state, and find manifests whose columns do not fit."""
    ordered = [result.manifests[number] for number in sorted(result.manifests)]
    saved = result.saved = decode_checkpoint(result.checkpoint, result.layout.kind, compared=True)
    upto = bisect_right(ordered, saved.sequence, key=lambda manifest: manifest.sequence) if saved else 0
    try:
        result.at_checkpoint = result.state.after(ordered[:upto])
        result.state = result.at_checkpoint.after(ordered[upto:])
    except SchemaChangeError:
        # One by one, to name each of them: that copies the state for every commit.
        for manifest in ordered:
            try:
                result.state = result.state.after([manifest])
            except SchemaChangeError as error:
                key = result.layout.manifest(manifest.sequence)
                yield Finding(Problem.MANIFEST_DAMAGED, key, error.message, manifest.sequence)


def _ahead(result: Examination) -> Iterator[Finding]:
    """Find the commits that are dated in the future, as long as a day's reading still has that date."""
    now, state = datetime.now(UTC), result.state
    live = {file.path for file in state.files()}
    for number, manifest in sorted(result.manifests.items()):
        read_at = manifest.read.read_at if manifest.read is not None else ""
        if state.kind == "stream":
            days = [
                count.partition for count in manifest.counts if state.looked.get(count.partition) == read_at
            ]
            reading = f"the reading of {len(days)} days"
        else:
            days = [entry.partition for entry in manifest.added if entry.path in live]
            reading = ", ".join(days)
        if days and read_at and in_the_future(read_at, now):
            detail = f"{reading} is dated {read_at}: by a clock that is ahead"
            yield Finding(Problem.COMMIT_AHEAD, result.layout.manifest(number), detail, number)


def _files(storage: Storage, result: Examination, *, contents: bool) -> list[Finding]:
    files = CommittedFiles(storage, result.layout, result.manifests, contents=contents)
    files.check(result.state.files())
    result.files, result.bytes = files.count, files.bytes
    return files.findings


def _strays(storage: Storage, result: Examination) -> Iterator[Finding]:
    layout = result.layout
    live = {layout.data(file.path) for file in result.state.files()}
    if result.seen <= live:
        return
    lost = {finding.sequence for finding in result.of(Problem.MANIFEST_MISSING, Problem.MANIFEST_DAMAGED)}
    there = set(storage.walk(layout.dataset))  # again: some may have been removed meanwhile
    unreadable = {finding.key for finding in result.of(Problem.FILE_UNREADABLE)}
    gone = _gone(result)

    @cache
    def holds(merged: FileEntry) -> bool | None:
        key = layout.data(merged.path)
        return None if key in unreadable else key in there and is_intact(storage, layout, merged)

    for key in sorted(there - live):
        number = file_sequence(key)
        left = _left(result, gone, holds, key)
        if left is not None and left[1] is None:
            continue  # its rows may be in the merged file, once that can be read again
        if left is not None and left[1]:
            yield Finding(Problem.FILE_NOT_REMOVED, key, f"removed by commit {left[0]}", left[0])
        elif left is None and number is not None and (number in lost or number > result.state.sequence):
            continue  # doctor rebuilds its manifest, or its commit was made meanwhile
        else:
            file = read_unnamed(storage, layout, key) if number is not None else None
            if file is None:
                yield Finding(Problem.FILE_FOREIGN, key, "no commit names it")
            else:
                after = left[0] if left is not None else None
                result.unnamed.append(known_since(file, result.manifests, after=after))
    yield from _unnamed(storage, result)


def _gone(result: Examination) -> dict[str, Manifest]:
    """Return the files that the log removed, each with the commit that removed it."""
    layout = result.layout
    return {
        layout.data(path): manifest
        for _, manifest in sorted(result.manifests.items())
        for path in manifest.removed
    }


def _left(
    result: Examination, gone: dict[str, Manifest], holds: Callable[[FileEntry], bool | None], key: str
) -> tuple[int, bool | None] | None:
    """Return the commit that removed a file, and whether the file may be absent; None if none removed it.

    A file that a merge replaced is still needed if the merged file, and every later merge of it, is lost or
    damaged.

    Args:
        result: The examination.
        gone: The files that the log removed, each with the commit that removed it.
        holds: Whether a merged file is in place as it was written; None if it cannot be read.
        key: The file.
    """
    manifest = gone.get(key)
    if manifest is None:
        return None
    if manifest.operation == "forget":
        return manifest.sequence, False
    held = [holds(entry) for entry in manifest.added]
    if not held or True in held:
        return manifest.sequence, True
    if None in held:
        return manifest.sequence, None
    heirs = [result.layout.data(entry.path) for entry in manifest.added]
    later = [_left(result, gone, holds, heir) for heir in heirs if heir in gone]
    return later[0] if later else (max(result.manifests), False)


def _unnamed(storage: Storage, result: Examination) -> Iterator[Finding]:
    lost = {finding.key for finding in result.of(Problem.FILE_MISSING, Problem.FILE_DAMAGED)}
    fresh = fresh_counts(storage, result.layout, result.state, result.unnamed, lost=lost)
    for file in result.unnamed:
        key, new = result.layout.data(file.path), fresh[file.path]
        if result.layout.kind == "table":
            yield Finding(Problem.FILE_FOREIGN, key, f"another snapshot than the log has of {file.partition}")
        elif new == file.records:
            detail = f"{new} rows of {file.partition} that no other file holds"
            yield Finding(Problem.FILE_UNNAMED, key, detail, file.number)
        else:
            detail = f"{file.records - new} of its {file.records} rows of {file.partition} are in other files"
            yield Finding(Problem.FILE_DOUBLED, key, detail, file.number)


def _derived(storage: Storage, result: Examination) -> Iterator[Finding]:
    layout, state = result.layout, result.state
    for name in storage.staged(layout.staging):
        parts = attempt_parts(name)
        if parts is None:
            yield Finding(Problem.FILE_FOREIGN, f"{layout.staging}/{name}", "no export made it")
        elif parts[0] < state.sequence and not _unpublished(result, *parts):
            # The attempt that lost the newest number may be about to move to the next; the next commit clears
            # it.
            yield Finding(Problem.STAGING_LEFT, f"{layout.staging}/{name}", f"meant for commit {parts[0]}")
    if result.of(Problem.MANIFEST_MISSING, Problem.MANIFEST_DAMAGED):
        return  # their right content is not known yet
    if state.sequence and storage.read(layout.summary) != encode_summary(layout.name, state):
        yield Finding(Problem.SUMMARY_STALE, layout.summary, "it differs from the manifests")
    if result.checkpoint is not None and not _checkpoint_fits(result.checkpoint, result):
        yield Finding(Problem.CHECKPOINT_DAMAGED, layout.checkpoint, "it differs from the manifests")


def _without_outdated(storage: Storage, result: Examination) -> list[Finding]:
    """Leave out what commits that were made meanwhile explain: files that they removed, and a newer summary."""
    findings, layout = result.findings, result.layout
    if not result.of(Problem.FILE_MISSING, Problem.SUMMARY_STALE):
        return findings
    known = {*result.manifests, *(finding.sequence for finding in result.of(Problem.MANIFEST_DAMAGED))}
    newer = {manifest_sequence(name) for name in storage.names(layout.commits)} - {*known, None}
    keys = [layout.manifest(number) for number in newer if number is not None]
    manifests = [decode_manifest(storage.read(key) or b"", path=key) for key in keys]
    removed = {layout.data(path) for manifest in manifests for path in manifest.removed}
    return [
        finding
        for finding in findings
        if not (finding.problem is Problem.FILE_MISSING and finding.key in removed)
        and not (finding.problem is Problem.SUMMARY_STALE and newer)
    ]


def _unpublished(result: Examination, number: int, attempt: str) -> bool:
    manifest = result.manifests.get(number)
    unpublished = {finding.sequence for finding in result.of(Problem.FILE_UNPUBLISHED)}
    return manifest is not None and manifest.attempt == attempt and number in unpublished


def _checkpoint_fits(data: bytes, result: Examination) -> bool:
    saved = result.saved
    if saved is None or saved.sequence > result.state.sequence:
        return False
    facts = decode_facts(data, result.layout.kind, through=saved.sequence, compared=True)
    if facts is None or result.at_checkpoint != saved:
        return False
    of = result.manifests
    return all(
        each.sequence <= saved.sequence
        and each.sequence in of
        and each == facts_of(of[each.sequence], stamp=each.stamp)
        for each in facts
    )
