"""The report for programs: JSON, CSV, Prometheus text, and one line of numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from ksql_lake.report.check_model import CheckFacts
from ksql_lake.report.feed_model import FeedReport, Status, evidence_text
from ksql_lake.report.lake_model import Report

COLUMNS = (
    "name",
    "kind",
    "source",
    "enabled",
    "status",
    "records",
    "current_records",
    "bytes",
    "files",
    "partitions",
    "first_partition",
    "last_partition",
    "min_event_time",
    "max_event_time",
    "last_export_at",
    "last_export_read",
    "last_export_new",
    "last_export_late",
    "last_export_seconds",
    "age_hours",
    "target_hours",
    "complete_days",
    "open_days",
    "missing_days",
    "late_rows",
    "parquet_ratio",
    "json_ratio",
    "failed_exports",
    "evidence",
    "failed_checks",
    "warned_checks",
    "unevaluated_checks",
    "event_age_hours",
    "last_new_at",
    "exports_without_new",
    "outside_records",
    "reason",
)
"""The columns of the CSV, in order."""


def render_json(report: Report) -> str:
    """Return the whole report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `render_json`'s document."""
    return msgspec.json.schema(Report)


def render_csv(report: Report) -> str:
    """Return one line per feed, with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for feed in report.feeds:
        values = _row(feed)
        writer.writerow([_cell(values[name]) for name in COLUMNS])
    return text.getvalue()


def summary(report: Report) -> dict[str, int | float | str]:
    """Return the report in a few numbers, e.g. for Dagster's metadata, which plots them over time."""
    totals = report.totals
    ages = [feed.freshness.age_hours for feed in report.feeds if feed.freshness.age_hours is not None]
    return {
        "feeds": totals.feeds,
        **{f"feeds_{status.value}": totals.statuses.get(status, 0) for status in Status},
        "records": totals.records,
        "bytes": totals.bytes,
        "files": totals.files,
        "partitions": totals.partitions,
        "late_rows": totals.late_rows,
        "complete_days": totals.complete_days,
        "open_days": totals.open_days,
        "missing_days": totals.missing_days,
        "disagreements": len(report.cross_check.disagreements),
        "oldest_export_hours": round(max(ages), 3) if ages else "never",
        "newest_export_hours": round(min(ages), 3) if ages else "never",
    }


def render_prometheus(report: Report) -> str:
    """Return the report in Prometheus' text format (0.0.4), one family after another."""
    lines: list[str] = []
    for name, help_text, samples in _families(report):
        lines += [f"# HELP ksql_lake_{name} {help_text}", f"# TYPE ksql_lake_{name} gauge"]
        lines += [
            f"ksql_lake_{name}{_labels(labels)} {value!r}" for labels, value in samples if value is not None
        ]
    return "\n".join(lines) + "\n"


Sample = tuple[dict[str, str], float | int | None]


def _families(report: Report) -> Iterator[tuple[str, str, Iterable[Sample]]]:
    feeds = report.feeds
    yield "report_timestamp_seconds", "When this report was made.", [({}, report.generated_at.timestamp())]
    yield (
        "feed_status",
        "1 for the status a feed has, 0 for the others.",
        [
            ({**_feed(feed), "status": status.value}, int(feed.status is status))
            for feed in feeds
            for status in Status
        ],
    )
    for name, help_text, column in _GAUGES:
        yield name, help_text, [(_feed(feed), _row(feed)[column]) for feed in feeds]
    yield (
        "feed_last_export_timestamp_seconds",
        "When the last export was committed.",
        [(_feed(feed), feed.last_export.at.timestamp() if feed.last_export else None) for feed in feeds],
    )
    yield (
        "feed_days",
        "Days of a stream by their state.",
        [
            ({**_feed(feed), "state": state}, _row(feed)[f"{state}_days"])
            for feed in feeds
            for state in ("complete", "open", "missing")
        ],
    )
    yield from _check_families(feeds)
    yield (
        "disagreements",
        "Places where metadata and files differ, among those checked.",
        [({}, len(report.cross_check.disagreements))],
    )
    yield "broken_feed_files", "Feed files that cannot be used.", [({}, len(report.broken_feeds))]


def _check_families(feeds: Sequence[FeedReport]) -> Iterator[tuple[str, str, Iterable[Sample]]]:
    yield (
        "feed_check_passed",
        "1 where a check holds, 0 where it does not; one that was not evaluated has no sample.",
        [
            ({**_feed(feed), "check": check.name, "severity": check.severity}, int(check.state == "passed"))
            for feed in feeds
            for check in feed.checks
            if check.state != "not_evaluated"
        ],
    )
    yield (
        "feed_checks_not_evaluated",
        "Checks of a feed without a result that counts.",
        [(_feed(feed), len(feed.unevaluated)) for feed in feeds],
    )
    yield (
        "feed_newest_event_timestamp_seconds",
        "Time of the newest event in the lake.",
        [(_feed(feed), feed.max_event_time.timestamp() if feed.max_event_time else None) for feed in feeds],
    )


_GAUGES = (
    ("feed_records", "Rows in the lake, all partitions.", "records"),
    ("feed_current_records", "Rows of a table's newest version, of a stream all rows.", "current_records"),
    ("feed_bytes", "Size of a feed's files.", "bytes"),
    ("feed_files", "Files of a feed.", "files"),
    ("feed_partitions", "Days or versions that have files.", "partitions"),
    ("feed_late_rows", "Rows that came after newer days had been read.", "late_rows"),
    ("feed_failed_exports", "Failed exports since the last one that landed.", "failed_exports"),
    ("feed_last_export_rows", "Rows the last export read.", "last_export_read"),
    ("feed_last_export_new_rows", "Rows the last export added.", "last_export_new"),
    ("feed_last_export_seconds", "How long the last export took.", "last_export_seconds"),
    (
        "feed_exports_without_new_rows",
        "Exports since the last one that brought a new row.",
        "exports_without_new",
    ),
    ("feed_outside_rows", "Rows of days before start_date or after today.", "outside_records"),
    ("feed_age_hours", "Hours since the last export.", "age_hours"),
    ("feed_target_hours", "The oldest acceptable last export, in hours.", "target_hours"),
)


def _feed(feed: FeedReport) -> dict[str, str]:
    return {"feed": feed.name, "kind": feed.kind}


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return "{" + ",".join(f'{name}="{value.translate(escapes)}"' for name, value in labels.items()) + "}"


def _row(feed: FeedReport) -> dict[str, Any]:
    last, covered = feed.last_export, feed.coverage
    return {
        "name": feed.name,
        "kind": feed.kind,
        "source": feed.source,
        "enabled": feed.enabled,
        "status": feed.status.value,
        "records": feed.records,
        "current_records": feed.current_records,
        "bytes": feed.bytes,
        "files": feed.files,
        "partitions": feed.partitions,
        "first_partition": feed.first_partition,
        "last_partition": feed.last_partition,
        "min_event_time": feed.min_event_time,
        "max_event_time": feed.max_event_time,
        "last_export_at": last.at if last else None,
        "last_export_read": last.read if last else None,
        "last_export_new": last.new if last else None,
        "last_export_late": last.late if last else None,
        "last_export_seconds": last.seconds if last else None,
        "age_hours": feed.freshness.age_hours,
        "target_hours": feed.freshness.target_hours,
        "complete_days": covered.complete if covered else None,
        "open_days": covered.open if covered else None,
        "missing_days": covered.missing if covered else None,
        "late_rows": feed.late_rows,
        "parquet_ratio": feed.parquet_ratio,
        "json_ratio": feed.json_ratio,
        "failed_exports": feed.failures.count if feed.failures else 0,
        "evidence": evidence_text(feed),
        "failed_checks": _names(check for check in feed.failed_checks if check.grave),
        "warned_checks": _names(check for check in feed.failed_checks if not check.grave),
        "unevaluated_checks": _names(feed.unevaluated) if feed.last_export else "",
        "event_age_hours": feed.recency.event_age_hours,
        "last_new_at": feed.recency.last_new_at,
        "exports_without_new": feed.recency.exports_without_new if last else None,
        "outside_records": feed.outside.records if feed.outside else 0,
        "reason": feed.reason,
    }


def _names(checks: Iterable[CheckFacts]) -> str:
    return " ".join(check.name for check in checks)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3f}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
