"""What the report says of one feed, as plain values. The JSON report is these classes, field by field."""

# Sizes are bytes, times are UTC, days are calendar days of the feed's time zone.

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Literal

from ksql_lake.lake.commit.manifest import EvidenceLevel
from ksql_lake.lake.days import Days
from ksql_lake.report.check_model import CheckFacts

Kind = Literal["stream", "table"]


class Status(StrEnum):
    """The state of a feed in one word; of several that apply, the first of this list."""

    DISABLED = "disabled"
    """Its file says `enabled: false`; no export is expected."""

    FAILING = "failing"
    """The newest attempt to export it failed or was killed, its manifests cannot be read, or a check that is an
    error does not hold."""

    NEVER_RAN = "never_ran"
    """No export of it was tried yet."""

    EMPTY = "empty"
    """It was exported, and there are no rows: in the lake, or in a table's newest version."""

    STALE = "stale"
    """Its last export is older than its target, `checks.max_age_hours`."""

    INCOMPLETE = "incomplete"
    """Days are missing, or ended more than 24 hours ago and were not read to their end."""

    HEALTHY = "healthy"
    """Exported, with rows, in time, without a day missing, and no check fails as error or block."""

    @property
    def label(self) -> str:
        """The status for people."""
        return self.value.replace("_", " ")

    @property
    def calm(self) -> bool:
        """Whether the feed needs no action."""
        return self in (Status.HEALTHY, Status.DISABLED)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The days of a stream by how the lake has read them, from its `start_date` to today.

    Attributes:
        first: The feed's `start_date`.
        last: Today in the feed's time zone; it is always open.
        timezone: The time zone of the days.
        complete: How many days were read after they had ended, with rows or without.
        open: How many days were read before they had ended, or have not ended yet.
        missing: How many ended days were never read.
        open_days: The open ones.
        missing_days: The missing ones.
    """

    first: date
    last: date
    timezone: str
    complete: int
    open: int
    missing: int
    open_days: tuple[Days, ...]
    missing_days: tuple[Days, ...]


@dataclass(frozen=True, slots=True)
class EvidenceFacts:
    """Why the rows of the last reading that landed were taken for all of them.

    Attributes:
        level: `proven`, `checked` (it looked right and cannot be proven) or `unchecked` (the server did not
            report what would prove it).
        text: Why, in a sentence.
        isolation: `committed`, `uncommitted`, or `unknown` where another query wrote what was read.
        caveats: What the server refused, and what was lost with it.
    """

    level: EvidenceLevel
    text: str
    isolation: str
    caveats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DayPoint:
    """A day that has rows.

    Attributes:
        day: The day.
        records: Rows the lake holds for it.
        bytes: Size of its files.
        late: Rows of it that came after newer days had been read, as far as `history_from` goes back.
        evidence: How strong the evidence of its last reading is; null where an earlier release kept none.
    """

    day: date
    records: int
    bytes: int
    late: int
    evidence: EvidenceLevel | None = None


@dataclass(frozen=True, slots=True)
class VersionPoint:
    """A table version.

    Attributes:
        version: Its number.
        records: Its rows.
        bytes: Size of its file.
        committed_at: When it landed.
        kept: Whether the lake still holds it; retention removes old ones.
        evidence: How strong the evidence is that it is complete; null where a release kept none, and for
            removed versions.
    """

    version: int
    records: int
    bytes: int
    committed_at: datetime
    kept: bool
    evidence: EvidenceLevel | None = None


@dataclass(frozen=True, slots=True)
class ExportPoint:
    """One export that landed, whether it brought new rows or not.

    Attributes:
        commit: Its commit number.
        at: When it was committed.
        seconds: From the start of the reading that landed to the commit, without failed readings before it.
        read: Rows the server sent.
        new: Rows that were added.
        already_there: Rows the lake held before.
        late: Rows among the new that came late.
        response_bytes: Bytes the server sent.
        dropped: Rows whose key a later row of the same reading has; with those new and already there, all read.
    """

    commit: int
    at: datetime
    seconds: float | None
    read: int
    new: int
    already_there: int
    late: int
    response_bytes: int
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """Age of the last export against the feed's target.

    Attributes:
        age_hours: Hours since the last export was committed; null before the first.
        target_hours: `checks.max_age_hours`; null without one.
        met: Whether the age is within the target, and the export not dated ahead; null when age or target is.
    """

    age_hours: float | None
    target_hours: float | None
    met: bool | None


@dataclass(frozen=True, slots=True)
class FailureFacts:
    """Exports that failed since the last one that landed.

    Attributes:
        count: How many.
        at: When the newest failed.
        error: Its error's class.
        message: What happened.
        hint: What to do next; may be empty.
    """

    count: int
    at: datetime
    error: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Recency:
    """How recent the rows are, by their own times.

    Attributes:
        event_age_hours: Hours since the newest event; null for tables and without rows.
        last_new_at: When an export last brought new rows; null where none did since `history_from`.
        exports_without_new: How many exports since then brought none.
    """

    event_age_hours: float | None
    last_new_at: datetime | None
    exports_without_new: int


@dataclass(frozen=True, slots=True)
class OutsideDays:
    """Days with rows before the feed's `start_date` or after today.

    Attributes:
        days: The days.
        records: Rows the lake holds for them.
    """

    days: tuple[Days, ...]
    records: int


@dataclass(frozen=True, slots=True)
class ColumnPoint:
    """A column of the feed in the lake.

    Attributes:
        name: Its name in the lake.
        type: Its type, in ksqlDB's words.
    """

    name: str
    type: str


def evidence_text(feed: FeedReport) -> str:
    """Return in a word how strong the evidence of the last reading is."""
    if feed.evidence is None:
        return "before evidence" if feed.last_export is not None else "-"
    return feed.evidence.level


@dataclass(frozen=True, slots=True)
class FeedReport:
    """Everything about one feed.

    Attributes:
        name: The feed.
        kind: `stream` or `table`.
        source: The ksqlDB stream or table.
        description: The description in the feed file.
        enabled: Whether it is exported.
        status: Its state, in one word.
        reason: Why, in a sentence.
        next_step: What to do about it; empty when nothing has to be done.
        running: Whether an export of it is running right now.
        records: Rows in the lake; of a table all kept versions together.
        current_records: Rows a reader of the newest state sees: of a table its newest version, else `records`.
        bytes: Size of all files.
        files: How many files.
        partitions: How many days or versions have files.
        first_partition: The oldest of them; null without any.
        last_partition: The newest of them.
        min_event_time: Smallest event time of all rows; null for tables.
        max_event_time: Largest one.
        last_export: The last export that landed; null before the first.
        evidence: The evidence of the last reading; null before the first, and where a release kept none.
        freshness: Its age against the target.
        failures: Failed exports since then; null when there are none.
        coverage: Complete, open and missing days; null for tables.
        late_rows: Rows that came late, as far as `history_from` goes back.
        parquet_ratio: How many times smaller compression made the sampled files; null without any.
        json_ratio: Bytes the server sent per byte in the lake; null when no export brought new rows only.
        days: Days with rows, oldest first; empty for tables.
        versions: Table versions, oldest first, removed ones too as far as the history goes; empty for streams.
        exports: The newest exports that landed, oldest first.
        history_from: The oldest commit that `late_rows`, `versions`, `json_ratio` and `exports` come from.
        remarks: Other remarks, one sentence each.
        fell_back: Why a pull query read a continued feed in the last export; empty where none did.
        checks: Its checks and their results, in the order in which they are evaluated.
        recency: How recent its rows are, by their own times.
        outside: Days with rows before `start_date` or after today; null when there are none.
        owners: The owners in the feed file.
        columns: Its columns in the lake; empty before the first export.
        schedule: Cron expression by which Dagster exports it, its own or its kind's default.
        schedule_default: Whether that is the default.
        left_out: Rows that the last export saw and left out, as no day of the feed has them: why, and how many.
    """

    name: str
    kind: Kind
    source: str
    description: str
    enabled: bool
    status: Status
    reason: str
    next_step: str
    running: bool
    records: int
    current_records: int
    bytes: int
    files: int
    partitions: int
    first_partition: str | None
    last_partition: str | None
    min_event_time: datetime | None
    max_event_time: datetime | None
    last_export: ExportPoint | None
    evidence: EvidenceFacts | None
    freshness: Freshness
    failures: FailureFacts | None
    coverage: Coverage | None
    late_rows: int
    parquet_ratio: float | None
    json_ratio: float | None
    days: tuple[DayPoint, ...]
    versions: tuple[VersionPoint, ...]
    exports: tuple[ExportPoint, ...]
    history_from: datetime | None
    remarks: tuple[str, ...]
    fell_back: str = ""
    checks: tuple[CheckFacts, ...] = ()
    recency: Recency = Recency(None, None, 0)
    outside: OutsideDays | None = None
    owners: tuple[str, ...] = ()
    columns: tuple[ColumnPoint, ...] = ()
    schedule: str = ""
    schedule_default: bool = False
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def failed_checks(self) -> list[CheckFacts]:
        """The checks that do not hold."""
        return [check for check in self.checks if check.state == "failed"]

    @property
    def failing_by_checks(self) -> bool:
        """Whether its checks make it failing."""
        return self.status is Status.FAILING and self.reason.startswith("check ")

    @property
    def promises_unevaluated(self) -> list[str]:
        """The checks that its file names and no export has evaluated, although there was something to judge."""
        return [
            check.name for check in self.unevaluated if check.promised and (check.judged or check.at is None)
        ]

    @property
    def unevaluated(self) -> list[CheckFacts]:
        """The checks without a result that counts."""
        return [check for check in self.checks if check.state == "not_evaluated"]
