"""The lake of one feed, and the lake of all feeds. Opening either reads and writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ksql_lake.feeds.model import Feed, StreamFeed, TableFeed
from ksql_lake.lake.commit.attempt import Attempt
from ksql_lake.lake.commit.check_record import CheckFinding, CheckNotes, read_checks, record_checks
from ksql_lake.lake.commit.failed_exports import Failures, clear_failures, read_failures, record_failure
from ksql_lake.lake.commit.holdings import check_beginning
from ksql_lake.lake.commit.log import CommitLog, StepHook, no_step, published_state
from ksql_lake.lake.commit.manifest import DayCertificate, Manifest, ReadFacts
from ksql_lake.lake.commit.marks import KnownDays
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.lake.commit.pinning import Pinning, early_meaning
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.compaction import CompactedDay, compact_day, misleading_files
from ksql_lake.lake.compaction_plan import CompactionPlan, plan_compaction
from ksql_lake.lake.layout import FeedLayout, file_sequence, version_number
from ksql_lake.lake.rows import committed_rows
from ksql_lake.lake.rows.staging import Staging
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.locking import LOCK_SECONDS, exclusive
from ksql_lake.lake.storage.opening import open_storage
from ksql_lake.schema import Schema

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """The versions that retention would remove.

    Attributes:
        keep: Version keys that stay, oldest first.
        remove: Version keys that go, oldest first.
        files: Paths that go, relative to the dataset folder.
        bytes: The size of these files.
    """

    keep: tuple[str, ...]
    remove: tuple[str, ...]
    files: tuple[str, ...]
    bytes: int


def plan_retention(state: FeedState, keep: int) -> RetentionPlan:
    """List the versions beyond the `keep` newest.

    Raises:
        ValueError: `keep` is less than 1; the newest version always stays.
    """
    if keep < 1:
        raise ValueError("retention keeps at least one version")
    versions = sorted(state.partitions, key=version_number)
    staying, going = versions[-keep:], versions[:-keep]
    files = [file for version in going for file in state.partitions[version].files]
    return RetentionPlan(
        keep=tuple(staying),
        remove=tuple(going),
        files=tuple(file.path for file in files),
        bytes=sum(file.bytes for file in files),
    )


class FeedLake:
    """The lake of one feed.

    Args:
        storage: The lake's storage.
        feed: The feed.
        on_step: Called before each step of the commit protocol (tests interrupt there).
    """

    def __init__(self, storage: Storage, feed: Feed, *, on_step: StepHook = no_step) -> None:
        self.feed = feed
        self.storage = storage
        self.layout = FeedLayout(feed.kind, feed.name)
        self.log = CommitLog(storage, self.layout, on_step=on_step)

    @property
    def dataset_path(self) -> str:
        """The address of the feed's Parquet files, for any reader."""
        return self.storage.uri(self.layout.dataset)

    def address(self, path: str) -> str:
        """Return the address of a data file whose path is relative to the dataset folder."""
        return self.storage.uri(self.layout.data(path))

    def read_at(self, state: FeedState, version: str) -> datetime:
        """Return when the reading of a committed version of a table began (UTC).

        Raises:
            CorruptLakeError: Its manifest is missing or unreadable.
        """
        file, *_ = state.files_of(version)
        read = self.log.manifest(file_sequence(file.path) or 0).read
        # Only a manifest that doctor rebuilt for files of an unknown release can lack the time.
        return datetime.fromisoformat(
            read.read_at if read and read.read_at else state.partitions[version].committed_at
        )

    def state(self) -> FeedState:
        """Return the committed state; changes nothing.

        Raises:
            CorruptLakeError: A manifest is missing or unreadable.
        """
        return self.log.load()

    def published(self) -> FeedState:
        """Return the state whose files are all in place, for reading rows; changes nothing.

        Raises:
            CorruptLakeError: A manifest is missing or unreadable, or a committed file is neither in place nor
                staged.
        """
        return published_state(self.log)

    def recover(self) -> FeedState:
        """Finish what a killed export left behind, and return the committed state.

        Raises:
            CorruptLakeError: A manifest or a committed file is missing.
            WriteError: A write that finishing needs fails.
        """
        return self.log.recover()

    def exclusive(self, *, wait: float = LOCK_SECONDS) -> AbstractContextManager[None]:
        """Make other exports of this feed on this machine wait; see `locking.exclusive`."""
        return exclusive(self.storage, self.layout, wait=wait)

    def stage(
        self,
        schema: Schema,
        *,
        read: ReadFacts,
        days: tuple[date, date] | None = None,
        known: KnownDays | None = None,
        origin: Origin | None = None,
    ) -> Staging:
        """Begin an export; use the result as a context manager and `commit` it inside.

        Args:
            schema: Columns of the rows in the lake's names.
            read: How the rows are read.
            days: First and last day of the window (streams).
            known: Days whose rows were read from their marks on, so that all of them are new.
            origin: What the server reported about the source; without it nothing is pinned.

        Raises:
            CorruptLakeError: A manifest or a committed file is missing.
            WriteError: The lake cannot be written to.
        """
        pinning = Pinning(self.feed, origin)
        return Staging(self.log, pinning, schema, read=read, days=days, known=known)

    def check(self, origin: Origin | None = None) -> None:
        """Raise if an export must not begin; reads nothing from the server and changes nothing.

        Args:
            origin: What the server reported about the source; without it only the feed's own keys are compared.

        Raises:
            CorruptLakeError: The log does not name what the lake holds, or a manifest is missing or unreadable.
            MeaningChangeError: The feed's rows would mean something else than those that the lake holds.
        """
        state = self.log.load()
        check_beginning(self.log, state)
        pinned = state.meaning or early_meaning(self.log, state)
        Pinning(self.feed, origin).check(state, pinned)

    def failures(self) -> Failures:
        """Return the failed exports since the last success."""
        return read_failures(self.storage, self.layout)

    def record_failure(self, error: Exception) -> None:
        """Record that an export failed, for the report; raises nothing."""
        record_failure(self.storage, self.layout, error)

    def clear_failures(self) -> None:
        """Remove the record of failed exports after a success; raises nothing."""
        clear_failures(self.storage, self.layout)

    def checks(self) -> CheckNotes:
        """Return the newest results of the feed's checks; none if no check was evaluated."""
        return read_checks(self.storage, self.layout)

    def record_checks(
        self, findings: Sequence[CheckFinding], *, commit: int, held: Collection[str]
    ) -> CheckNotes:
        """Record the results of the checks after a commit, and return what is recorded now; raises nothing.

        Args:
            findings: The results.
            commit: The commit that was judged.
            held: The partitions that the lake holds; results of others are dropped.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        kept = held if self.layout.kind == "table" else None
        return record_checks(self.storage, self.layout, findings, commit=commit, at=at, held=kept)

    def certificate(self, day: str) -> DayCertificate | None:
        """Return the newest certificate of a day; None if the day was never read after its end."""
        sequence = self.state().certified.get(day)
        if sequence is None:
            return None
        return next(item for item in self.log.manifest(sequence).certificates if item.partition == day)

    def plan_retention(self) -> RetentionPlan:
        """List the versions the feed's retention would remove now."""
        return plan_retention(self.state(), _keep(self.feed))

    def apply_retention(self) -> RetentionPlan:
        """Remove the versions beyond the feed's retention in one commit; no versions, no commit.

        Raises:
            ConflictError: Other runs took the commit number each time.
            WriteError: The commit could not be written; no file was removed.
        """
        with Attempt(self.log) as attempt:
            for state in attempt.states():
                plan = plan_retention(state, _keep(self.feed))
                if not plan.remove:
                    return plan
                manifest = Manifest(
                    sequence=attempt.sequence,
                    attempt=attempt.id,
                    feed=self.feed.name,
                    kind=self.feed.kind,
                    operation="retention",
                    committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                    removed=list(plan.files),
                )
                if attempt.commit(manifest):
                    self.log.finish()
                    return plan
        raise AssertionError("states() ends with an error")

    def plan_compaction(
        self,
        *,
        older_than: int = 1,
        now: datetime | None = None,
        nan: bool = False,
        open_files: int | None = None,
    ) -> CompactionPlan:
        """List the days whose files could be merged, or with `nan` rewritten; none for a table."""
        if not isinstance(self.feed, StreamFeed):
            return CompactionPlan((), 0, 0)
        state = self.state()
        return plan_compaction(
            self.feed,
            state,
            older_than=older_than,
            now=now or datetime.now(UTC),
            misleading=partial(misleading_files, self.log, state) if nan else None,
            open_files=open_files,
        )

    def compact(
        self,
        *,
        older_than: int = 1,
        now: datetime | None = None,
        nan: bool = False,
        open_files: int | None = None,
    ) -> Iterator[CompactedDay]:
        """Finish what a killed run left, merge the files of each closed day in a commit, and yield each day.

        Args:
            older_than: Full days between the end of a day and today.
            now: The present; for tests.
            nan: Also rewrite files whose statistics leave NaN out, as older releases wrote them.
            open_files: Also merge small files of younger days that have at least this many.

        Raises:
            CorruptLakeError: A file does not hold what its manifest says.
            WriteError: The disk is full or not writable; days already merged stay merged.
        """
        if isinstance(self.feed, StreamFeed):
            # A killed merge may have left replaced files in place, with nothing more to merge.
            self.recover()
            plan = self.plan_compaction(older_than=older_than, now=now, nan=nan, open_files=open_files)
            todo = [(day, None) for day in plan.days] + [(day, open_files) for day in plan.open_days]
            for day, least in todo:
                done = compact_day(self.log, self.feed, day, nan=nan, open_files=least)
                if done is not None:
                    yield done

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a DuckDB connection read the feed's files by their addresses."""
        self.storage.attach(connection)

    def dataset(
        self, *, partitions: Collection[str] | None = None, columns: Sequence[str] | None = None
    ) -> ds.Dataset:
        """Return a lazy pyarrow dataset over committed rows; None means all partitions, all columns."""
        state = self.published()
        return committed_rows.dataset(self.storage, self.layout, state, partitions=partitions, columns=columns)

    def relation(
        self, connection: duckdb.DuckDBPyConnection | None = None, *, partitions: Collection[str] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """Return a lazy DuckDB relation over committed rows; `partitions` None means all.

        Without a connection it uses a new one in memory.
        """
        import duckdb  # noqa: PLC0415 - exports read nothing with it

        connection = connection or duckdb.connect()
        state = self.published()
        return committed_rows.relation(connection, self.storage, self.layout, state, partitions=partitions)


class Lake:
    """The lake of all feeds.

    Args:
        root: A folder, made on the first write; or `s3://BUCKET/PREFIX`, `gs://...`, `az://...`.
        on_step: Called before each step of the commit protocol (tests interrupt there).
    """

    def __init__(self, root: str | Path, *, on_step: StepHook = no_step) -> None:
        self.storage: Storage = open_storage(root)
        self.on_step = on_step

    @property
    def root(self) -> str:
        """The lake's folder or address."""
        return self.storage.uri("").rstrip("/")

    @property
    def begun(self) -> bool:
        """Whether there is a lake: its folder, or anything in its bucket."""
        return self.storage.begun()

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a DuckDB connection read the lake's files by their addresses."""
        self.storage.attach(connection)

    def feed(self, feed: Feed) -> FeedLake:
        """Return the lake of one feed; reads and writes nothing."""
        return FeedLake(self.storage, feed, on_step=self.on_step)


def _keep(feed: Feed) -> int:
    if not isinstance(feed, TableFeed):
        raise TypeError(f"{feed.name} is a stream; only table versions are ever removed")
    return feed.retention
