"""The report for programs: JSON, its schema, CSV, Prometheus text, the summary."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ksql_lake.feeds import FeedStore
from ksql_lake.report import (
    MetadataAnalyzer,
    MetadataReader,
    Report,
    Status,
    json_schema,
    render_csv,
    render_json,
    render_prometheus,
    summary,
)
from ksql_lake.report.documents import COLUMNS
from ksql_lake_tests.report.field_tables import BEGIN, END, PAGE, SCHEMA, schema_text, tables
from ksql_lake_tests.report.lakes import report_of

REWRITE = "run: python -m ksql_lake_tests.report.field_tables"


def test_json_is_the_report(troubled: Report) -> None:
    """Read back into the report's own classes, strictly typed, the document is the report."""
    assert msgspec.json.decode(render_json(troubled), type=Report, strict=True) == troubled


def test_json_speaks_plainly(report: Report) -> None:
    """Statuses are words, times are ISO 8601 in UTC, days are dates, absent things are null."""
    document = json.loads(render_json(report))
    feeds = {feed["name"]: feed for feed in document["feeds"]}

    assert (document["format"], document["generated_at"], document["lake"]) == (
        2,
        "2025-01-18T03:00:00Z",
        "/lake",
    )
    assert document["totals"]["statuses"] == {
        "disabled": 1,
        "failing": 1,
        "never_ran": 1,
        "empty": 1,
        "stale": 1,
        "incomplete": 1,
        "healthy": 2,
    }
    assert feeds["whole"]["days"][0] == {
        "day": "2025-01-15",
        "records": 7,
        "bytes": 700,
        "late": 3,
        "evidence": None,
    }
    assert feeds["gaps"]["coverage"]["missing_days"] == [{"first": "2025-01-16", "last": "2025-01-17"}]
    assert feeds["never"]["last_export"] is None
    assert feeds["failed"]["failures"] == {
        "count": 1,
        "at": "2025-01-18T02:00:00Z",
        "error": "QueryFailedError",
        "message": "the query failed: <b>boom</b> | _x_",
        "hint": "Look at it.",
    }
    assert feeds["whole"]["last_export"] == {
        "commit": 2,
        "at": "2025-01-18T02:00:02.500000Z",
        "seconds": 2.5,
        "read": 7,
        "new": 3,
        "already_there": 4,
        "dropped": 0,
        "late": 3,
        "response_bytes": 0,
    }


def test_the_schema_is_the_one_in_docs() -> None:
    """docs/report.schema.json says what the classes say."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), REWRITE
    assert json_schema()["$ref"].endswith("/Report")


def test_every_field_is_documented() -> None:
    """The tables of docs/report.md are those of the classes, and no meaning is left out."""
    page = PAGE.read_text(encoding="utf-8")

    assert page.split(BEGIN)[1].split(END)[0] == tables(), REWRITE
    assert "|  |" not in tables()


def test_every_status_is_documented() -> None:
    """docs/report.md explains each status."""
    page = PAGE.read_text(encoding="utf-8")

    assert all(f"| `{status.value}` |" in page for status in Status)


def test_csv_has_a_line_per_feed(report: Report) -> None:
    """The columns are stable, numbers are plain, what is not known is empty."""
    lines = list(csv.DictReader(io.StringIO(render_csv(report))))
    by_name = {line["name"]: line for line in lines}

    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == len(report.feeds)
    whole = by_name["whole"]
    assert (whole["status"], whole["enabled"], whole["records"], whole["bytes"]) == (
        "healthy",
        "true",
        "18",
        "1800",
    )
    assert (whole["last_export_at"], whole["last_export_seconds"]) == (
        "2025-01-18T02:00:02.500000+00:00",
        "2.500",
    )
    assert (whole["complete_days"], whole["open_days"], whole["missing_days"]) == ("3", "1", "0")
    assert (by_name["never"]["age_hours"], by_name["users"]["missing_days"]) == ("", "")
    assert by_name["failed"]["reason"].endswith("the query failed: <b>boom</b> | _x_")


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample as Prometheus' own parser reads it: name and label values -> value."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in found, key
            found[key] = sample.value
    return found


def test_prometheus_reads_it(report: Report) -> None:
    """Each family is a gauge with help, no sample stands twice, and what is not known has none."""
    found = samples(render_prometheus(report))

    assert found["ksql_lake_feed_records", "whole", "stream"] == 18
    assert found["ksql_lake_feed_late_rows", "whole", "stream"] == 3
    assert found["ksql_lake_feed_status", "whole", "stream", "healthy"] == 1
    assert found["ksql_lake_feed_status", "whole", "stream", "stale"] == 0
    assert found["ksql_lake_feed_days", "gaps", "stream", "missing"] == 2
    assert found["ksql_lake_feed_failed_exports", "failed", "stream"] == 1
    assert found["ksql_lake_feed_last_export_seconds", "whole", "stream"] == 2.5
    assert found["ksql_lake_feed_target_hours", "whole", "stream"] == 2
    assert ("ksql_lake_feed_age_hours", "never", "stream") not in found
    assert ("ksql_lake_feed_days", "users", "table", "missing") not in found
    assert sum(value for key, value in found.items() if key[0] == "ksql_lake_feed_status") == len(report.feeds)


def test_prometheus_labels_are_escaped(report: Report) -> None:
    """Quotes, backslashes and line breaks in a label come back as they were."""
    odd = 'a"b\\c\nd'
    changed = replace(report, feeds=(replace(report.feeds[0], name=odd),))

    assert ("ksql_lake_feed_records", odd, "stream") in samples(render_prometheus(changed))


def test_every_metric_is_documented(report: Report) -> None:
    """docs/report.md names each family."""
    page = PAGE.read_text(encoding="utf-8")

    for family in text_string_to_metric_families(render_prometheus(report)):
        assert family.name.removeprefix("ksql_lake_") in page, family.name


def test_the_summary_is_flat(report: Report) -> None:
    """A few plain numbers, each status with its own, ready for Dagster to plot."""
    found = summary(report)

    assert (found["feeds"], found["records"], found["missing_days"], found["late_rows"]) == (8, 2752, 5, 3)
    assert [found[f"feeds_{status.value}"] for status in Status] == [1, 1, 1, 1, 1, 1, 2]
    assert (found["oldest_export_hours"], found["newest_export_hours"]) == (1.999, 0.999)
    assert all(isinstance(value, int | float | str) for value in found.values())


def test_an_empty_project_renders(tmp_path: Path) -> None:
    """Without feeds and without a lake every format still gives a document."""
    report = report_of(tmp_path / "nowhere")

    assert msgspec.json.decode(render_json(report), type=Report) == report
    assert render_csv(report).splitlines() == [",".join(COLUMNS)]
    assert samples(render_prometheus(report))["ksql_lake_disagreements",] == 0
    assert summary(report)["oldest_export_hours"] == "never"


def test_broken_feed_files_are_told(tmp_path: Path) -> None:
    """A file that cannot be used is in the report with its problems."""
    (tmp_path / "feeds/active").mkdir(parents=True)
    (tmp_path / "feeds/active/bad.json").write_text(
        '{"name": "bad", "kind": "table", "source": "X", "retention": 0}'
    )
    feeds = FeedStore(tmp_path / "feeds").load()

    report = MetadataAnalyzer(MetadataReader(tmp_path / "lake"), feeds).generate_report()

    (broken,) = report.broken_feeds
    assert (broken.name, broken.problems) == ("bad", ("retention: must be at least 1, not 0",))
    assert samples(render_prometheus(report))["ksql_lake_broken_feed_files",] == 1


@pytest.mark.parametrize("status", list(Status))
def test_a_label_has_no_underscores(status: Status) -> None:
    """Statuses for people are words."""
    assert "_" not in status.label
