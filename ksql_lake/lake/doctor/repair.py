"""Repair the findings of an examination; take files out of the lake on request only."""

# Only staging that no commit owns is deleted. A data file moves to the feed's quarantine folder, and the next
# export of its day reads its rows again.

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from ksql_lake.errors import ConflictError
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.manifest import Manifest
from ksql_lake.lake.doctor.examination import Examination, examine
from ksql_lake.lake.doctor.findings import Finding, Problem
from ksql_lake.lake.doctor.reconstruction import rebuilt_manifests
from ksql_lake.lake.doctor.unnamed_files import keep_aside, keep_rows
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage


def repair(storage: Storage, examination: Examination, *, apply: bool = False) -> Iterator[Finding]:
    """Repair an examination's findings, and yield each one when it is repaired.

    Args:
        storage: The lake's storage.
        examination: The findings, which the caller has seen.
        apply: Also take files out of the lake (findings whose remedy is `apply`).

    Raises:
        ConflictError: Another run committed to the feed meanwhile.
        CorruptLakeError: The manifests contradict each other, and only a person can repair that.
        WriteError: The disk is full or not writable.
    """
    layout = examination.layout
    lost = examination.of(Problem.MANIFEST_MISSING, Problem.MANIFEST_DAMAGED)
    yield from _restore_manifests(storage, examination, lost)
    # The restored manifests may change the other findings.
    now = examine(storage, layout) if lost else examination
    if apply:
        yield from _forget(storage, now)
        yield from _quarantine_foreign(storage, now)
        yield from _keep_rows(storage, now)
    for finding in now.of(Problem.SUMMARY_STALE, Problem.CHECKPOINT_DAMAGED):
        storage.remove(finding.key)
        yield finding
    for finding in now.of(Problem.STAGING_LEFT):
        # The process that owns it may be alive, and about to move it to the next number and commit it.
        storage.clear_folder(finding.key, aside=layout.attempt(0, uuid.uuid4().hex[:8]))
        yield finding
    if storage.names(layout.commits):
        # Without its summary the feed is published and derived from the first manifest on.
        storage.remove(layout.summary)
        CommitLog(storage, layout).recover(strict=False)
    for finding in now.of(Problem.FILE_NOT_REMOVED):
        storage.remove(finding.key)
    yield from now.of(Problem.FILE_UNPUBLISHED, Problem.FILE_NOT_REMOVED)


def _restore_manifests(storage: Storage, found: Examination, lost: list[Finding]) -> Iterator[Finding]:
    layout = found.layout
    numbers = [finding.sequence for finding in lost if finding.sequence is not None]
    manifests = rebuilt_manifests(storage, layout, numbers, found.manifests)
    # First of all: a repair that is killed then leaves a log that says less, and is repaired again.
    _void(storage, found, manifests)
    for finding in lost:
        if finding.problem is Problem.MANIFEST_DAMAGED:
            keep_aside(storage, layout, finding.key)
    scratch = layout.attempt(0, uuid.uuid4().hex[:8])
    if numbers:
        storage.begin(scratch)
    for manifest, finding in zip(manifests, lost, strict=True):
        storage.create(
            layout.manifest(manifest.sequence), manifest.encode(), temporary=f"{scratch}/manifest.tmp"
        )
        yield finding
    if numbers:
        storage.remove_folder(scratch)


def _void(storage: Storage, found: Examination, rebuilt: Sequence[Manifest]) -> None:
    """Commit that what later commits say of lost ones does not count: marks, and days as read.

    Raises:
        ConflictError: Another run committed to the feed meanwhile.
    """
    layout = found.layout
    # A commit without a file may have had rows that are lost, of any day.
    unread = any(manifest.operation == "rebuilt" for manifest in rebuilt)
    marked = any(each.positions or each.continued is not None for each in found.manifests.values())
    if layout.kind == "table" or not rebuilt or not (unread or marked):
        return
    sequence, attempt = max([*found.manifests, *(each.sequence for each in rebuilt)]) + 1, uuid.uuid4().hex[:8]
    manifest = msgspec.structs.replace(_forgetting(layout, sequence, attempt), new_topic=True, unread=unread)
    scratch = layout.attempt(sequence, attempt)
    storage.begin(scratch)
    made = storage.create(layout.manifest(sequence), manifest.encode(), temporary=f"{scratch}/manifest.tmp")
    storage.remove_folder(scratch)
    if not made:
        raise _committed_meanwhile(layout)


def _forget(storage: Storage, examination: Examination) -> Iterator[Finding]:
    layout = examination.layout
    findings = [
        finding
        for finding in examination.of(Problem.FILE_MISSING, Problem.FILE_DAMAGED)
        if finding.problem is Problem.FILE_DAMAGED or storage.size(finding.key) is None
    ]
    if not findings:
        return
    log = CommitLog(storage, layout)
    sequence, attempt = log.load().sequence + 1, uuid.uuid4().hex[:8]
    if sequence != examination.state.sequence + 1:
        raise _committed_meanwhile(layout)
    for finding in findings:
        if finding.problem is Problem.FILE_DAMAGED:
            keep_aside(storage, layout, finding.key)
    # An ordinary attempt would first try to publish the missing files.
    storage.begin(layout.attempt(sequence, attempt))
    removed = [finding.key.removeprefix(f"{layout.dataset}/") for finding in findings]
    manifest = msgspec.structs.replace(_forgetting(layout, sequence, attempt), removed=removed)
    if not log.commit(manifest):
        raise _committed_meanwhile(layout)
    yield from findings


def _forgetting(layout: FeedLayout, sequence: int, attempt: str) -> Manifest:
    """Return a commit that forgets; the caller adds what."""
    return Manifest(
        sequence=sequence,
        attempt=attempt,
        feed=layout.name,
        kind=layout.kind,
        operation="forget",
        committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def _committed_meanwhile(layout: FeedLayout) -> ConflictError:
    return ConflictError(
        "another run committed to the feed meanwhile", hint="Run doctor again.", feed=layout.name
    )


def _quarantine_foreign(storage: Storage, examination: Examination) -> Iterator[Finding]:
    for finding in examination.of(Problem.FILE_FOREIGN):
        keep_aside(storage, examination.layout, finding.key)
        yield finding


def _keep_rows(storage: Storage, examination: Examination) -> Iterator[Finding]:
    """Commit the rows of files that are not in the log, one history after the other."""
    layout, findings = examination.layout, examination.of(Problem.FILE_UNNAMED, Problem.FILE_DOUBLED)
    shown = {finding.key for finding in findings}
    left = [file for file in examination.unnamed if layout.data(file.path) in shown]
    while left:
        keep_rows(storage, layout, left)
        again = examine(storage, layout, contents=False)
        gone = {file.path for file in left} - {file.path for file in again.unnamed}
        if not gone:
            raise ConflictError(
                "another run worked on the feed meanwhile", hint="Run doctor again.", feed=layout.name
            )
        left = [file for file in again.unnamed if layout.data(file.path) in shown]
    yield from findings
