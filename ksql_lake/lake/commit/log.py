"""The commit log of one feed: manifests in order, and the steps that follow a commit."""

# A commit is the exclusive creation of manifest N. Every later step (publishing, `_metadata.json`, the
# checkpoint, clearing staging) can be repeated by any process, and the next one that opens the feed finishes
# it. Readers wait for no writer. A gap in the numbers is an error.

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator

from ksql_lake.errors import CorruptLakeError, LakeError, StoreError, WriteError
from ksql_lake.lake.commit.commit_facts import FACTS_KEPT, CommitFacts, facts_of
from ksql_lake.lake.commit.derived_files import (
    decode_checkpoint,
    decode_facts,
    encode_checkpoint,
    encode_summary,
    published_through,
)
from ksql_lake.lake.commit.manifest import FileEntry, Manifest, decode_manifest, is_intact
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.layout import FeedLayout, attempt_parts, file_sequence, manifest_sequence
from ksql_lake.lake.storage.boundary import Storage

CHECKPOINT_EVERY = 32
"""Commits between two checkpoints, and so the most manifests that are read to open a feed."""

_KEPT = 64
"""The most manifests that are kept in memory or read ahead."""

StepHook = Callable[[str], None]
"""Called before a step is taken: `commit` (the manifest), `publish` (each new file), `remove` (each old one),
`derive` (`_metadata.json`) and `clear` (staging); and `committed` once the manifest is durable."""


def published_state(log: CommitLog) -> FeedState:
    """Return what is committed and in place; changes nothing.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable, or a committed file is neither in place nor
            staged.
    """
    state = log.load()
    through = published_through(log.storage.read(log.layout.summary))
    if through == state.sequence:
        return state
    # Without `_metadata.json` every file has to be looked for.
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
    """Raise if a file is neither staged nor published."""
    folder = log.layout.attempt(sequence, log.manifest(sequence).attempt)
    for file in files:
        # A file published meanwhile counts as in place; the state before its commit is still correct.
        if log.storage.size(f"{folder}/{file.staged}") is None and not _in_place(log, file):
            raise CorruptLakeError(
                f"commit {sequence} holds this file, but it is neither in place nor staged",
                hint="Run `ksql-lake doctor` to see everything that is missing.",
                feed=log.layout.name,
                path=log.storage.uri(log.layout.data(file.path)),
            )


def state_at(log: CommitLog, sequence: int) -> FeedState:
    """Return the state after a commit, whether its files are in place or not.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    saved = decode_checkpoint(log.storage.read(log.layout.checkpoint), log.layout.kind)
    state = saved if saved is not None and saved.sequence <= sequence else FeedState(kind=log.layout.kind)
    return state.after(
        log.manifest(number, ahead=sequence) for number in range(state.sequence + 1, sequence + 1)
    )


def no_step(_name: str) -> None:
    """Do nothing before a step of the protocol."""


class CommitLog:
    """The commit log of one feed.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        on_step: Called with the name of each step before it is taken; tests interrupt the process here.
    """

    def __init__(self, storage: Storage, layout: FeedLayout, *, on_step: StepHook = no_step) -> None:
        self.storage = storage
        self.layout = layout
        self.on_step = on_step
        self._durable = 0
        self._published = 0
        self._known: FeedState | None = None
        self._recent: dict[int, Manifest] = {}
        self._ahead: dict[int, bytes | None] = {}

    def load(self) -> FeedState:
        """Fold the manifests into the feed's state; changes nothing.

        Raises:
            CorruptLakeError: A manifest is missing or unreadable.
        """
        # The checkpoint comes first: read after the listing, it could be newer than the listed head.
        known = self._known or decode_checkpoint(self.storage.read(self.layout.checkpoint), self.layout.kind)
        begin = known.sequence if known is not None else 0
        numbers = self._numbers(begin)
        first = max(begin, 1) if self.storage.paged else 1
        head = numbers[-1] if numbers else first - 1
        if len(numbers) != head - first + 1 or head < begin:
            raise self._gap(numbers, max(head, begin), first)
        if known is None or head > begin:
            known = (known or FeedState(kind=self.layout.kind)).after(
                self.manifest(sequence, ahead=head) for sequence in range(begin + 1, head + 1)
            )
        self._known = known
        return known

    def manifest(self, sequence: int, *, ahead: int = 0) -> Manifest:
        """Read one manifest.

        Args:
            sequence: Its number.
            ahead: The last number that will be read next; saves time where each manifest takes a request.

        Raises:
            CorruptLakeError: It is missing or unreadable.
        """
        if sequence not in self._recent:
            key = self.layout.manifest(sequence)
            data = self._read(sequence, ahead)
            if data is None:
                raise self._gap([], sequence)
            if len(self._recent) >= _KEPT:
                self._recent.pop(next(iter(self._recent)))
            self._recent[sequence] = self._decoded(data, sequence, path=self.storage.uri(key))
        return self._recent[sequence]

    def _decoded(self, data: bytes, sequence: int, *, path: str) -> Manifest:
        manifest = decode_manifest(data, path=path)
        if (manifest.sequence, manifest.kind) != (sequence, self.layout.kind):
            raise CorruptLakeError(
                f"this manifest holds commit {manifest.sequence} of a {manifest.kind}",
                hint="A manifest is never edited or moved. Run `ksql-lake doctor`.",
                path=path,
            )
        return manifest

    def _read(self, sequence: int, ahead: int) -> bytes | None:
        if sequence not in self._ahead and self.storage.paged and ahead > sequence:
            numbers = range(sequence, min(ahead + 1, sequence + _KEPT))
            found = self.storage.read_all([self.layout.manifest(number) for number in numbers])
            self._ahead = dict(zip(numbers, found, strict=True))
        if sequence in self._ahead:
            return self._ahead.pop(sequence)
        return self.storage.read(self.layout.manifest(sequence))

    def facts(
        self, *, through: int, commits: int = FACTS_KEPT, reread: Collection[int] = ()
    ) -> Iterator[tuple[int, CommitFacts | LakeError]]:
        """Yield what each of the newest commits did, oldest first, or why its manifest cannot be read.

        What the checkpoint says of a commit is taken while the manifest is as it was when it was read for it.

        Args:
            through: The last commit.
            commits: How many at most.
            reread: Commits whose manifests are read in any case.

        Raises:
            LakeError: The manifests cannot be listed.
        """
        numbers = range(max(1, through - commits + 1), through + 1)
        stamps = self._stamps(numbers)
        saved = decode_facts(self.storage.read(self.layout.checkpoint), self.layout.kind, through=through)
        known = {
            each.sequence: each
            for each in saved or ()
            if each.stamp == stamps.get(each.sequence) and each.sequence not in reread
        }
        for number in numbers:
            if number in known:
                yield number, known[number]
                continue
            last = next((each - 1 for each in range(number + 1, number + _KEPT) if each in known), through)
            try:
                yield number, facts_of(self.manifest(number, ahead=last), stamp=stamps.get(number, ""))
            except LakeError as error:
                yield number, error

    def _stamps(self, numbers: range) -> dict[int, str]:
        """Return what the storage says of these manifests without reading them."""
        before = self.layout.manifest(max(numbers.start - 1, 0)).rsplit("/", 1)[1]
        found = self.storage.stamps(self.layout.commits, after=before).items()
        named = ((manifest_sequence(name), stamp) for name, stamp in found)
        return {number: stamp for number, stamp in named if number is not None and number in numbers}

    def recover(self, *, strict: bool = True) -> FeedState:
        """Finish what a killed process left behind, and return the state after the last commit.

        Args:
            strict: Whether a live file that is neither in place nor staged is an error; doctor repairs without
                it.

        Raises:
            CorruptLakeError: A manifest or a live file is missing.
            WriteError: A write that finishing needs fails.
        """
        state = self.load()
        if state.sequence == self._published:
            return state
        through = published_through(self.storage.read(self.layout.summary))
        if through > state.sequence:
            # Another run may have committed since the log was read.
            state = self.load()
        if through > state.sequence and strict:
            raise CorruptLakeError(
                f"`_metadata.json` is at commit {through}, but the log ends with {state.sequence}: "
                "manifests were lost, or not restored",
                hint=self.layout.way_out,
                path=self.storage.uri(self.layout.summary),
            )
        if through == state.sequence:
            self._published = through
            return state
        self._settle(state.sequence)
        first = 1 if through > state.sequence else through + 1
        for sequence in range(first, state.sequence + 1):
            self._publish(self.manifest(sequence, ahead=state.sequence), strict=strict)
        return self._derive(state)

    def commit(self, manifest: Manifest) -> bool:
        """Create the manifest exclusively, which makes the export visible as a whole.

        Returns:
            False when another attempt has the number.

        Raises:
            ConflictError: This attempt's staging folder was removed.
            WriteError: The manifest could not be written; nothing was committed.
        """
        key = self.layout.manifest(manifest.sequence)
        temporary = f"{self.layout.attempt(manifest.sequence, manifest.attempt)}/manifest.tmp"
        self.on_step("commit")
        if self.storage.create(key, manifest.encode(), temporary=temporary):
            self._durable = manifest.sequence
            self.on_step("committed")
            return True
        # A creation that succeeded, lost its answer and was retried looks like a conflict.
        return self.holds(manifest.sequence, manifest.attempt)

    def finish(self) -> FeedState:
        """Publish, derive and clear after a commit; this is the same as recovery.

        Raises:
            WriteError: As in `recover`; the commit is made, and the hint says so.
        """
        try:
            return self.recover()
        except (StoreError, WriteError) as error:
            error.hint = (
                f"The commit is made; the next run of the feed finishes what is left of it. {error.hint}"
            )
            raise

    def clear_staging(self, sequence: int, *, attempt: str | None = None) -> None:
        """Remove staging folders below a commit number, and one attempt's folder at it; no clock is involved.

        Attempts that lost the last number stay until the next commit: they may be about to move to the next
        number, and with their rows kept they need not read the source again.
        """
        for name in self.storage.staged(self.layout.staging):
            parts = attempt_parts(name)
            if parts is not None and (parts[0] < sequence or parts == (sequence, attempt)):
                doomed = self.layout.attempt(0, uuid.uuid4().hex[:8])
                self.storage.clear_folder(f"{self.layout.staging}/{name}", aside=doomed)

    def holds(self, sequence: int, attempt: str) -> bool:
        """Whether this attempt won its number."""
        if sequence not in self._recent and self.storage.read(self.layout.manifest(sequence)) is None:
            return False
        return self.manifest(sequence).attempt == attempt

    def _numbers(self, begin: int) -> list[int]:
        """Return the numbers of the manifests in order; those before `begin` may be left out."""
        after = self.layout.manifest(begin - 1).rsplit("/", 1)[1] if begin > 1 else ""
        names = self.storage.names(self.layout.commits, after=after)
        return [number for number in map(manifest_sequence, names) if number is not None]

    def _gap(self, numbers: list[int], head: int, first: int = 1) -> CorruptLakeError:
        missing = sorted(set(range(first, head + 1)) - set(numbers)) if numbers else [head]
        shown = ", ".join(str(number) for number in missing[:5]) + (", ..." if len(missing) > 5 else "")
        return CorruptLakeError(
            f"manifest {shown} is missing",
            hint=f"Manifests are never deleted. Restore the file from a backup; or {self.layout.way_out}",
            path=self.storage.uri(self.layout.commits),
        )

    def _settle(self, head: int) -> None:
        # The manifest of a killed process can be readable and not yet on disk; it must be durable before its
        # rows are.
        if head > self._durable:
            self.storage.sync({self.layout.commits})
            self._durable = head

    def _publish(self, manifest: Manifest, *, strict: bool = True) -> None:
        staging = self.layout.attempt(manifest.sequence, manifest.attempt)
        name = staging.rsplit("/", 1)[1]
        settled = not self.storage.syncs or name not in self.storage.staged(self.layout.staging)
        if manifest.removed:
            # Without its staged file a slow process cannot publish again a file that is removed now.
            self.clear_staging(manifest.sequence)
        # A file that replaces others stays staged until the end: if power fails after the old files went, the
        # new one can be published again, and no sync is needed between the two.
        replacing = bool(manifest.added and manifest.removed)
        moves = [(f"{staging}/{entry.staged}", self.layout.data(entry.path)) for entry in manifest.added]
        published = self.storage.publish_all(moves, keep=replacing)
        earlier: list[FileEntry] = []
        for entry in manifest.added:
            self.on_step("publish")
            if not next(published):
                earlier.append(entry)
        going = [self.layout.data(path) for path in manifest.removed]
        # A file that doctor forgot was missing then; if it has come back since, doctor decides about it.
        if manifest.operation == "forget" or (replacing and earlier and self._needed(going, earlier)):
            going.clear()
        removed = self.storage.remove_all(going)
        for _ in going:
            self.on_step("remove")
            next(removed)
        paths = [*(entry.path for entry in manifest.added), *manifest.removed]
        if paths and not settled:
            self.storage.sync({self.layout.data(path).rsplit("/", 1)[0] for path in paths})
        self._check_missing(manifest.sequence, earlier, strict=strict)

    def _needed(self, replaced: list[str], merged: list[FileEntry]) -> bool:
        """Whether replaced files that are there may be the only ones with their rows."""
        there = any(self.storage.size(key) is not None for key in replaced)
        return there and not all(is_intact(self.storage, self.layout, entry) for entry in merged)

    def _check_missing(self, sequence: int, entries: list[FileEntry], *, strict: bool) -> None:
        # A file that is neither staged nor in place is no error if a later commit removed it.
        missing = [each.path for each in entries if self.storage.size(self.layout.data(each.path)) is None]
        live = {file.path for file in self.load().files()} if missing and strict else set[str]()
        for path in missing:
            if path in live and self.storage.size(self.layout.data(path)) is None:
                raise CorruptLakeError(
                    f"commit {sequence} holds this file, but it is neither in place nor staged",
                    hint=self.layout.way_out,
                    path=self.storage.uri(self.layout.data(path)),
                )

    def _checkpoint(self, state: FeedState) -> bytes:
        found = self.facts(through=state.sequence)
        return encode_checkpoint(state, [facts for _, facts in found if isinstance(facts, CommitFacts)])

    def _derive(self, state: FeedState) -> FeedState:
        while True:
            scratch = self.layout.attempt(state.sequence, uuid.uuid4().hex[:8])
            self.on_step("derive")
            self.storage.begin(scratch)
            self.storage.replace(
                self.layout.summary,
                encode_summary(self.layout.name, state),
                temporary=f"{scratch}/metadata.tmp",
            )
            if state.sequence % CHECKPOINT_EVERY == 0:
                self.storage.replace(
                    self.layout.checkpoint, self._checkpoint(state), temporary=f"{scratch}/checkpoint.tmp"
                )
            self.storage.remove_folder(scratch)
            self.on_step("clear")
            self.clear_staging(state.sequence, attempt=self.manifest(state.sequence).attempt)
            numbers = self._numbers(state.sequence)
            if not numbers or numbers[-1] <= state.sequence:
                self._published = state.sequence
                return state
            # Another run has committed, and may have derived before us: our older files must not stay.
            self._settle(numbers[-1])
            for sequence in range(state.sequence + 1, numbers[-1] + 1):
                manifest = self.manifest(sequence)
                self._publish(manifest)
                state = state.after([manifest])
