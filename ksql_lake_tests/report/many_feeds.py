"""Reports of as many feeds as one likes, with every status and something to say about each; none is random."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from ksql_lake.lake.days import Days
from ksql_lake.report import FeedReport, Report, Status
from ksql_lake.report.analyzer import totals_of
from ksql_lake.report.check_model import CheckFacts, FailedPartitionFacts
from ksql_lake.report.feed_model import (
    ColumnPoint,
    Coverage,
    DayPoint,
    EvidenceFacts,
    ExportPoint,
    FailureFacts,
    Freshness,
    Recency,
    VersionPoint,
)
from ksql_lake.report.lake_model import FORMAT, CrossCheck, ServerSide, SourceWithoutFeed

NOW = datetime(2025, 6, 30, 9, 12, tzinfo=UTC)
TODAY = NOW.date()
OUTAGE = "cannot connect to http://ksql.example.com:8088: connection refused"
_NAMES = (
    ("orders", "Every order as the shop took it, one row per state."),
    ("payments", "Card payments with amount, currency and merchant."),
    ("logins", "Who logged in, from where, and whether it worked."),
    ("customers", "The newest state of each customer."),
    ("shipments", "Parcels by their tracking events."),
    ("clicks", "Clicks on the web shop's pages."),
    ("merchants", "Merchants with their country and category."),
    ("refunds", "Money that went back, with the reason."),
)
_STATES = (
    (Status.FAILING, Status.FAILING, Status.STALE, Status.HEALTHY)
    + (Status.INCOMPLETE, Status.NEVER_RAN, Status.HEALTHY, Status.FAILING)
    + (Status.HEALTHY,) * 11
    + (Status.EMPTY, Status.DISABLED)
)  # fmt: skip
_COLUMNS = (
    "ID BIGINT",
    "PLACED_AT TIMESTAMP",
    "CUSTOMER STRUCT<NAME STRING, CITY STRING>",
    "AMOUNT DECIMAL(12, 2)",
)


def large_report(count: int, *, days: int = 120) -> Report:
    """Make a report of so many feeds, each stream with so many days."""
    feeds = sorted((_feed(number, days) for number in range(count)), key=lambda feed: feed.name)
    totals = totals_of(feeds)
    server = ServerSide(
        asked=True,
        url="http://ksql.example.com:8088",
        sources_without_feed=(SourceWithoutFeed("AUDIT_LOG", "stream"), SourceWithoutFeed("RATES", "table")),
    )
    check = CrossCheck(files=totals.files, sampled=10 * count, summaries=count, disagreements=())
    return Report(FORMAT, NOW, "/data/lake", totals, tuple(feeds), (), (), check, server)


def _feed(number: int, days: int) -> FeedReport:
    base, description = _NAMES[number % len(_NAMES)]
    name = base if number < len(_NAMES) else f"{base}_{number:03}"
    status = _STATES[number % len(_STATES)]
    table = base in ("customers", "merchants")
    tried = status is not Status.NEVER_RAN
    points = () if table or not tried or status is Status.EMPTY else _days(number, days)
    versions = _versions(number) if table and tried else ()
    records = sum(point.records for point in points) or sum(version.records for version in versions)
    exports = _exports(number, status) if tried else ()
    age = (NOW - exports[-1].at).total_seconds() / 3600 if exports else None
    return FeedReport(
        name=name,
        kind="table" if table else "stream",
        source=name.upper(),
        description=description,
        enabled=status is not Status.DISABLED,
        status=status,
        reason=_reason(number, status),
        next_step="" if status.calm else f"ksql-lake export --{'table' if table else 'stream'} {name}",
        running=False,
        records=records,
        current_records=versions[-1].records if versions else records,
        bytes=records * 41,
        files=len(points) or len(versions),
        partitions=len(points) or len(versions),
        first_partition=str(points[0].day) if points else "v1" if versions else None,
        last_partition=str(points[-1].day) if points else f"v{len(versions)}" if versions else None,
        min_event_time=None,
        max_event_time=NOW - timedelta(hours=number % 7 + 0.4) if points else None,
        last_export=exports[-1] if exports else None,
        evidence=EvidenceFacts("proven", "the offsets of all partitions were reached", "committed", ())
        if exports
        else None,
        freshness=Freshness(age, 26.0, None if age is None else age <= 26),
        failures=FailureFacts(3, NOW - timedelta(hours=1), "ServerUnavailableError", OUTAGE, "Is it up?")
        if status is Status.FAILING and number % 2
        else None,
        coverage=None if table else _coverage(status, days),
        late_rows=sum(point.late for point in points),
        parquet_ratio=3.1,
        json_ratio=11.8,
        days=points,
        versions=versions,
        exports=exports,
        history_from=None,
        remarks=(),
        checks=_checks(number, status, tried=tried, table=table),
        recency=Recency(
            (number % 7) + 0.4 if points else None, exports[-1].at if exports else None, number % 3
        ),
        owners=(f"team:{('shop', 'payments', 'web')[number % 3]}", "data@example.com"),
        columns=tuple(ColumnPoint(*text.split(" ", 1)) for text in _COLUMNS) if tried else (),
        schedule="30 1 * * *" if table else "5 * * * *",
        schedule_default=True,
    )


def _reason(number: int, status: Status) -> str:
    texts = {
        Status.STALE: "last export 3 d ago, target 26 h",
        Status.NEVER_RAN: "no export was tried yet",
        Status.EMPTY: "exported 2025-06-30 06:05 UTC, and there was no row",
        Status.INCOMPLETE: "4 days never read: 2025-05-02 to 2025-05-05",
        Status.DISABLED: "its file says enabled: false",
        Status.FAILING: "check not_null does not hold: 2025-06-29: 12 of 4,011 rows have no CUSTOMER",
    }
    if status is Status.FAILING and number % 2:
        return f"3 failed exports, the last 2025-06-30 08:12 UTC: {OUTAGE}"
    return texts.get(status, "120 days read after their end")


def _days(number: int, days: int) -> tuple[DayPoint, ...]:
    size = 40_000 // (number % 9 + 1)
    return tuple(
        DayPoint(
            day=TODAY - timedelta(days=days - 1 - at),
            records=int(size * (0.6 + 0.4 * ((at * 37 + number * 11) % 10) / 10)) // (3 if at % 7 > 4 else 1),
            bytes=size * 40,
            late=(at * 13 + number) % 40 if at % 9 == 0 else 0,
            evidence="proven",
        )
        for at in range(days)
    )


def _versions(number: int) -> tuple[VersionPoint, ...]:
    return tuple(
        VersionPoint(at + 1, 1000 * (number + 1) + 37 * at, 90_000, NOW - timedelta(days=12 - at), kept=at > 4)
        for at in range(12)
    )


def _exports(number: int, status: Status) -> tuple[ExportPoint, ...]:
    age = timedelta(days=3) if status is Status.STALE else timedelta(minutes=67)
    return tuple(
        ExportPoint(
            at + 1,
            NOW - age - timedelta(hours=23 - at),
            2.0 + (at * 7 + number) % 5,
            4011,
            3800,
            211,
            3,
            90_000,
        )
        for at in range(24)
    )


def _coverage(status: Status, days: int) -> Coverage:
    first = TODAY - timedelta(days=days - 1)
    missing = (Days(date(2025, 5, 2), date(2025, 5, 5)),) if status is Status.INCOMPLETE else ()
    if status is Status.NEVER_RAN:
        missing = (Days(first, TODAY - timedelta(days=1)),)
    lost = sum(map(len, missing))
    return Coverage(first, TODAY, "UTC", days - 1 - lost, 1, lost, (Days(TODAY, TODAY),), missing)


def _checks(number: int, status: Status, *, tried: bool, table: bool) -> tuple[CheckFacts, ...]:
    at = NOW - timedelta(hours=1)
    names = [("not_null", "No NULL in ID, CUSTOMER.", "error"), ("unique", "No two rows share ID.", "error")]
    names += [("shrinkage", "A version has lost at most 10%.", "warn")] if table else []
    names += [("volume", "A closed day has about as many records as that weekday before.", "warn")] * (
        not table
    )
    names += [("files_match", "Every committed file exists and has the recorded size.", "block")]
    made = []
    for name, asks, severity in names:
        state, says = "passed", "No problem among 4,011 rows."
        failed: tuple[FailedPartitionFacts, ...] = ()
        if not tried:
            state, says = "not_evaluated", "no export has evaluated it"
        elif name == "not_null" and status is Status.FAILING and not number % 2:
            says = "2025-06-29: 12 of 4,011 rows have no CUSTOMER"
            failed = tuple(
                FailedPartitionFacts(f"2025-06-{day}", f"2025-06-{day}: 12 of 4,011 rows have no CUSTOMER", at)
                for day in (27, 28, 29)
            )
            state = "failed"
        elif name == "volume" and number % 16 == 0:
            says, state = (
                "2025-06-29 has 2 records, 90% fewer than usual: the 5 Sundays before had 19 to 22",
                "failed",
            )
            failed = (FailedPartitionFacts("2025-06-29", says, at),)
        made.append(CheckFacts(name, asks, severity, state, says, at, 119, failed, promised=True))  # type: ignore[arg-type]
    return tuple(made)
