"""The lake with one of its guards taken out: what the harness must notice, or its zeros mean nothing.

Each is the product's own code with a single decision reversed, and opens a feed for a writer; recovery and
judgement at the end of a run are always the product's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ksql_lake.errors import WriteError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import FeedLake, FeedState, Manifest, ReadFacts, RetentionPlan, Staging
from ksql_lake.lake.commit.attempt import Attempt
from ksql_lake.lake.commit.log import CommitLog, StepHook
from ksql_lake.lake.commit.marks import KnownDays
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.lake.layout import attempt_parts
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake.schema import Schema
from ksql_lake_tests.lake.crashing.writers import Opening


class _Overwriting(LocalStorage):
    """A manifest replaces one that is there."""

    def create(self, key: str, data: bytes, *, temporary: str) -> bool:
        source = self.root / temporary
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(data)
        source.replace(self.root / key)
        return True


class _Copying(LocalStorage):
    """Files are written where readers look, not renamed there."""

    def __init__(self, root: str | Path, on_step: StepHook) -> None:
        super().__init__(root)
        self.on_step = on_step

    def publish(self, source: str, target: str, *, keep: bool = False) -> bool:
        origin, destination = self.root / source, self.root / target
        if not origin.exists():
            return False
        data = origin.read_bytes()
        destination.parent.mkdir(parents=True, exist_ok=True)
        with destination.open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            self.on_step("publish")
            file.write(data[len(data) // 2 :])
        if not keep:
            origin.unlink(missing_ok=True)
        return True


class _PublishingFirst(CommitLog):
    """Files become visible before their manifest exists."""

    def commit(self, manifest: Manifest) -> bool:
        staging = self.layout.attempt(manifest.sequence, manifest.attempt)
        for entry in manifest.added:
            self.storage.publish(f"{staging}/{entry.staged}", self.layout.data(entry.path))
        return super().commit(manifest)


class _ClearingAll(CommitLog):
    """All staging counts as left over, whatever number it is meant for."""

    def clear_staging(self, sequence: int, *, attempt: str | None = None) -> None:
        del sequence, attempt
        for name in self.storage.names(self.layout.staging):
            if attempt_parts(name) is not None:
                self.storage.remove_folder(f"{self.layout.staging}/{name}")


class _RemovingFirst(CommitLog):
    """The files that a merge replaces go before the merged one is there."""

    def _publish(self, manifest: Manifest, *, strict: bool = True) -> None:
        for path in manifest.removed:
            self.storage.remove(self.layout.data(path))
            self.on_step("remove")
        super()._publish(manifest, strict=strict)


class _PlanningOnce(Attempt):
    """Whoever loses a number commits what it planned for that number under the next one."""

    def states(self) -> Iterator[FeedState]:
        first: FeedState | None = None
        for state in super().states():
            first = first or state
            yield first

    def check_partitions(self, state: FeedState, partitions: Collection[str]) -> None:
        """The folder would show that others have committed."""


class _Staged(FeedLake):
    """Each staging is changed before it is used."""

    change: Callable[[Staging], None]

    def stage(
        self,
        schema: Schema,
        *,
        read: ReadFacts,
        days: tuple[date, date] | None = None,
        known: KnownDays | None = None,
        origin: Origin | None = None,
    ) -> Staging:
        staging = super().stage(schema, read=read, days=days, known=known, origin=origin)
        self.change(staging)
        return staging


class _Unheld(Staging):
    """Rows beyond marks are added, whoever has read since."""

    def _check_marks(self, state: FeedState, days: Collection[str]) -> None:
        del state, days


class _Rash(FeedLake):
    """Retention removes files, and then commits that it did."""

    def apply_retention(self) -> RetentionPlan:
        for path in self.plan_retention().files:
            self.log.on_step("remove")
            self.storage.remove(self.layout.data(path))
        return super().apply_retention()


def _with_log(kind: type[CommitLog]) -> Opening:
    def opening(root: str | Path, feed: Feed, on_step: StepHook) -> FeedLake:
        lake = FeedLake(LocalStorage(root), feed, on_step=on_step)
        lake.log = kind(lake.storage, lake.layout, on_step=on_step)
        return lake

    return opening


def _with_storage(make: Callable[[str | Path, StepHook], Storage]) -> Opening:
    return lambda root, feed, on_step: FeedLake(make(root, on_step), feed, on_step=on_step)


def _with_staging(change: Callable[[Staging], None]) -> Opening:
    def opening(root: str | Path, feed: Feed, on_step: StepHook) -> FeedLake:
        lake = _Staged(LocalStorage(root), feed, on_step=on_step)
        lake.change = change
        return lake

    return opening


def _plans_once(staging: Staging) -> None:
    staging.attempt.__class__ = _PlanningOnce


def _holds_no_marks(staging: Staging) -> None:
    staging.__class__ = _Unheld


def _tidies(staging: Staging) -> None:
    staging.attempt.__class__ = _Tidy


def _with_lake(kind: type[FeedLake]) -> Opening:
    return lambda root, feed, on_step: kind(LocalStorage(root), feed, on_step=on_step)


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard of the lake.

    Attributes:
        opening: Opens a feed without it.
        points: Where to kill to see its absence soon.
        findings: What its absence must be found as, one of these at least.
    """

    opening: Opening
    points: tuple[str, ...]
    findings: frozenset[str]


GUARDS: dict[str, Guard] = {
    "the manifest comes before the files": Guard(
        _with_log(_PublishingFirst),
        ("commit", "before link", "in a write"),
        frozenset({"unsound", "double", "torn"}),
    ),
    "a manifest is created exclusively": Guard(
        _with_storage(lambda root, _step: _Overwriting(root)), ("clear",), frozenset({"missing", "unsound"})
    ),
    "files are renamed into place": Guard(
        _with_storage(_Copying), ("publish",), frozenset({"torn", "unsound"})
    ),
    "staging is cleared by number": Guard(
        _with_log(_ClearingAll), ("committed", "publish"), frozenset({"missing", "unsound", "failed"})
    ),
    "the loser of a number plans again": Guard(_with_staging(_plans_once), ("clear",), frozenset({"double"})),
    "marks are the last reading's": Guard(_with_staging(_holds_no_marks), ("clear",), frozenset({"double"})),
    "the merged file comes before the removals": Guard(
        _with_log(_RemovingFirst), ("remove",), frozenset({"missing"})
    ),
    "removals are committed first": Guard(_with_lake(_Rash), ("remove",), frozenset({"unsound", "missing"})),
}


class _Untranslated(LocalStorage):
    """What the operating system says reaches the caller as it is."""

    @contextmanager
    def writing(self, key: str) -> Iterator[None]:
        del key
        yield


class _Unsynced(LocalStorage):
    """A sync that fails is ignored."""

    def stage(self, folder: str, names: list[str]) -> bool:
        with suppress(WriteError):
            super().stage(folder, names)
        return True


class _InPlace(LocalStorage):
    """A manifest is written where it is read."""

    def create(self, key: str, data: bytes, *, temporary: str) -> bool:
        del temporary
        with self.writing(key), (self.root / key).open("xb") as file:
            file.write(data)
        return True


class _Tidy(Attempt):
    """A run that fails removes its staging, whatever has become of it."""

    def close(self, *, after: BaseException | None = None) -> None:
        del after
        self.log.storage.remove_folder(self.folder)


DISK_GUARDS: dict[str, Opening] = {
    "errors are the lake's own": _with_storage(lambda root, _step: _Untranslated(root)),
    "a failed sync is an error": _with_storage(lambda root, _step: _Unsynced(root)),
    "a manifest is linked when it is whole": _with_storage(lambda root, _step: _InPlace(root)),
    "files are renamed into place": _with_storage(_Copying),
    "the staging of a commit stays": _with_staging(_tidies),
}
"""Openings without the guards that matter on a bad disk."""


class _LosingFiles(LocalStorage):
    """Staged files are not synced before the commit."""

    def stage(self, folder: str, names: list[str]) -> bool:
        del folder, names
        return True


class _LosingNames(LocalStorage):
    """Folders are not synced after publishing."""

    def sync(self, folders: set[str]) -> None:
        del folders


class _LosingManifests(CommitLog):
    """A manifest that is readable counts as durable, whoever made it."""

    def _settle(self, head: int) -> None:
        del head


class _Clearing(CommitLog):
    """Publishing counts as durable once the files are in place, whoever put them there."""

    def _publish(self, manifest: Manifest, *, strict: bool = True) -> None:
        files = [self.layout.data(entry.path) for entry in manifest.added]
        if not files or any(self.storage.size(file) is None for file in files):
            super()._publish(manifest, strict=strict)


POWER_GUARDS: dict[str, Opening] = {
    "staged files are synced": _with_storage(lambda root, _step: _LosingFiles(root)),
    "published names are synced": _with_storage(lambda root, _step: _LosingNames(root)),
    "another's manifest is synced": _with_log(_LosingManifests),
    "another's publishing is synced": _with_log(_Clearing),
}
"""Openings without the guards that only a power failure can miss."""
