"""Read everything the lake knows about its feeds, without a feed file and without changing anything."""

# The manifests decide, proven by their digests. A feed that cannot be read is a problem in the report and does
# not end it.

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from ksql_lake.errors import KsqlLakeError, LakeError
from ksql_lake.lake import Failures, FeedState
from ksql_lake.lake.commit.check_record import CheckNotes, read_checks
from ksql_lake.lake.commit.commit_facts import FACTS_KEPT, CommitFacts
from ksql_lake.lake.commit.failed_exports import read_failures
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.doctor.examination import feeds_in
from ksql_lake.lake.files.sql_values import literally
from ksql_lake.lake.layout import FeedLayout, attempt_parts, version_number
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.opening import open_storage
from ksql_lake.report.feed_model import ExportPoint, VersionPoint

QUIET = timedelta(minutes=30)
"""An attempt without lock that has written nothing for this long is dead. The lock of one on another machine
may not be seen from here, and its rows may come slowly."""

_QUERY = """
    SELECT filename,
           TRY_CAST(content ->> '$.commit' AS BIGINT),
           TRY_CAST(content ->> '$.total_records' AS BIGINT),
           TRY_CAST(content ->> '$.total_bytes' AS BIGINT)
    FROM read_text(?)
    WHERE json_valid(content)
"""

SAMPLED_MANIFESTS = 10
"""Manifests of each feed that are read although the checkpoint knows what they say, other ones each day."""


@dataclass(frozen=True, slots=True)
class OngoingExport:
    """An attempt that has neither committed nor been removed: when it last wrote, and whether it is alive."""

    written_at: datetime
    alive: bool


def newest_attempt(storage: Storage, layout: FeedLayout, *, after: int, now: datetime) -> OngoingExport | None:
    """Return the last attempt at a commit number that is not taken, if there is one.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        after: The newest number that is taken.
        now: The present.
    """
    names = (name for name in storage.staged(layout.staging) if (attempt_parts(name) or (0, ""))[0] > after)
    folders = (f"{layout.staging}/{name}" for name in names)
    written = [when for when in map(storage.touched, folders) if when is not None]
    if not written:
        return None
    last = max(written)
    return OngoingExport(last, alive=now - last < QUIET or _held(storage.lock_file(layout.lock)))


def _held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no lock file, or a filesystem without locks: the clock alone must do
    return False


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals of one `_metadata.json`; None for a total that is missing or no number."""

    commit: int | None
    records: int | None
    bytes: int | None


def read_summaries(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> dict[str, Summary]:
    """Read the files that can be read; files that are no JSON are left out."""
    if not paths:
        return {}
    try:
        rows = connection.execute(_QUERY, [[literally(path) for path in paths]]).fetchall()
    except duckdb.Error:
        if len(paths) == 1:
            return {}
        # One file that is no text stops the query for all; read one by one, only that one is missing.
        found = (read_summaries(connection, [path]) for path in paths)
        return {path: summary for one in found for path, summary in one.items()}
    return {path: Summary(commit, records, size) for path, commit, records, size in rows}


@dataclass(slots=True)
class History:
    """The newest commits of a feed, condensed.

    Attributes:
        exports: Commits that read rows, oldest first.
        late: Partition -> rows that came late.
        versions: Version number -> what was committed, kept or not.
        response_bytes: Bytes received by exports that brought new rows only.
        new_bytes: Bytes those exports added to the lake.
        first: Number of the oldest of the commits; 0 when there is none.
        first_at: When it was made.
        damage: What kept a manifest from being read.
    """

    exports: list[ExportPoint] = field(default_factory=list)
    late: dict[str, int] = field(default_factory=dict)
    versions: dict[int, VersionPoint] = field(default_factory=dict)
    response_bytes: int = 0
    new_bytes: int = 0
    first: int = 0
    first_at: datetime | None = None
    damage: list[str] = field(default_factory=list)

    @property
    def json_ratio(self) -> float | None:
        """Bytes received per byte in the lake, of exports whose rows were all new."""
        return self.response_bytes / self.new_bytes if self.new_bytes and self.response_bytes else None

    @property
    def late_rows(self) -> int:
        """Rows that came late, in all partitions."""
        return sum(self.late.values())

    def add(self, facts: CommitFacts) -> None:
        """Take in the next commit."""
        at = datetime.fromisoformat(facts.committed_at)
        if not self.first:
            self.first, self.first_at = facts.sequence, at
        for version, (records, size) in facts.versions.items():
            number = version_number(version)
            self.versions[number] = VersionPoint(number, records, size, at, kept=True)
        if not facts.read_at:
            return
        export = _export(facts, at)
        self.exports.append(export)
        if export.read and export.new == export.read:
            self.response_bytes += export.response_bytes
            self.new_bytes += facts.added_bytes
        for partition, late in facts.late_days.items():
            self.late[partition] = self.late.get(partition, 0) + late


def read_history(log: CommitLog, *, through: int, commits: int, turn: int | None = None) -> History:
    """Read what the newest commits of a feed did.

    Args:
        log: The feed's commit log.
        through: The last commit.
        commits: How many at most.
        turn: Which of the older manifests are read again, whatever the checkpoint knows; the day's number.
    """
    history = History()
    # A store's mark proves an object's content. A disk's times do not show that it lost a bit.
    step = -(-min(through, commits) // SAMPLED_MANIFESTS) or 1
    reread = range(through - turn % step, 0, -step) if turn is not None and not log.storage.paged else ()
    for sequence, found in log.facts(through=through, commits=commits, reread=reread):
        if isinstance(found, LakeError):
            history.damage.append(f"commit {sequence}: {found.message}")
        else:
            history.add(found)
    return history


def _export(facts: CommitFacts, at: datetime) -> ExportPoint:
    seconds = (at - datetime.fromisoformat(facts.read_at)).total_seconds()
    return ExportPoint(
        commit=facts.sequence,
        at=at,
        # The clock was set back in between, so there is no duration.
        seconds=seconds if seconds >= 0 else None,
        read=facts.read,
        new=facts.new,
        already_there=facts.already_there,
        late=facts.late,
        response_bytes=facts.response_bytes,
        dropped=facts.dropped,
    )


@dataclass(frozen=True, slots=True)
class FeedMetadata:
    """What the lake knows about one feed.

    Attributes:
        layout: Its name, kind and places.
        state: What is committed; None when the manifests cannot be read.
        problem: Why they cannot be read.
        history: The newest commits, condensed.
        failures: Failed exports since the last one that landed.
        attempt: An attempt that is running or was killed.
        summary: The totals of `_metadata.json`; None when there are none.
        checks: The last results of its checks.
    """

    layout: FeedLayout
    state: FeedState | None
    problem: KsqlLakeError | None = None
    history: History = field(default_factory=History)
    failures: Failures = field(default_factory=Failures)
    attempt: OngoingExport | None = None
    summary: Summary | None = None
    checks: CheckNotes = field(default_factory=CheckNotes)

    @property
    def name(self) -> str:
        """The feed's name."""
        return self.layout.name


class MetadataReader:
    """Reads a lake's metadata.

    Args:
        lake_root: The lake's folder, which need not exist, or its address.
        connection: DuckDB to read with; without one the reader has its own, in memory.
        history: How many of a feed's newest commits are returned one by one.
    """

    def __init__(
        self,
        lake_root: str | Path,
        *,
        connection: duckdb.DuckDBPyConnection | None = None,
        history: int = FACTS_KEPT,
    ) -> None:
        self.storage: Storage = open_storage(lake_root)
        self.connection = connection or duckdb.connect()
        self.storage.attach(self.connection)
        self.history = history

    @property
    def root(self) -> str:
        """Where the lake is."""
        return self.storage.uri("").rstrip("/")

    def list_all_metadata(self, *, now: datetime | None = None) -> tuple[FeedMetadata, ...]:
        """Read the metadata of every feed the lake holds anything of, by kind and name.

        Args:
            now: The present; for tests.

        Raises:
            LakeError: The lake's folder cannot be listed.
        """
        layouts = feeds_in(self.storage)
        summaries = self._summaries(layouts)
        moment = now or datetime.now(UTC)
        return tuple(self._read(layout, summaries.get(layout.summary), moment) for layout in layouts)

    def _read(self, layout: FeedLayout, summary: Summary | None, now: datetime) -> FeedMetadata:
        log = CommitLog(self.storage, layout)
        failures, checks = read_failures(self.storage, layout), read_checks(self.storage, layout)
        try:
            state = log.load()
            history = read_history(log, through=state.sequence, commits=self.history, turn=now.toordinal())
            attempt = newest_attempt(self.storage, layout, after=state.sequence, now=now)
        except KsqlLakeError as error:
            return FeedMetadata(layout, None, problem=error, failures=failures, summary=summary)
        return FeedMetadata(
            layout,
            state,
            history=history,
            failures=failures,
            attempt=attempt,
            summary=summary,
            checks=checks,
        )

    def _summaries(self, layouts: Sequence[FeedLayout]) -> dict[str, Summary]:
        with self.storage.local_copies([layout.summary for layout in layouts]) as paths:
            # Path.is_file() of Python 3.11 raises an error where a folder cannot be entered.
            keys = {path: key for key, path in paths.items() if os.path.isfile(path)}  # noqa: PTH113
            found = read_summaries(self.connection, list(keys))
        return {keys[path]: summary for path, summary in found.items()}
