"""What the report says of checks: failed, passed, not evaluated; by the results that exports left."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from ksql_lake.export.checks import CheckOutcome
from ksql_lake.export.judging import note_outcomes
from ksql_lake.feeds import StreamFeed
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.lake.commit.check_record import CheckFinding
from ksql_lake.report import (
    FeedReport,
    MetadataAnalyzer,
    MetadataReader,
    Status,
    render_csv,
    render_html,
    render_json,
    render_prometheus,
)
from ksql_lake.report.attention import attention
from ksql_lake.report.console import remarks
from ksql_lake_tests.lake.landing import land_rows, stream_feed, table_feed
from ksql_lake_tests.report.lakes import NOON, feeds_of, land_days, of_day, report_of, report_on

FIRST, TODAY = date(2025, 1, 17), date(2025, 1, 20)
NOT_NULL = {"not_null": ["NOTE"]}
FEED = stream_feed(start_date="2025-01-17", checks=NOT_NULL)
ASKS = "No NULL in NOTE."


@pytest.fixture
def lake(tmp_path: Path) -> FeedLake:
    """A whole feed that promises something, without a result yet."""
    land_days(Lake(tmp_path), FEED, of_day(FIRST, 3), days=(FIRST, TODAY))
    return Lake(tmp_path).feed(FEED)


def note(lake: FeedLake, *, failed: dict[str, str], judged: tuple[str, ...], name: str = "not_null") -> None:
    """Leave what an export's check would have found."""
    finding = CheckFinding(
        name=name,
        asks=ASKS if name == "not_null" else "asked",
        severity="error",
        passed=not failed,
        says="; ".join(failed.values()) or "fine",
        judged=judged,
        failed=failed,
    )
    state = lake.state()
    lake.record_checks([finding], commit=state.sequence, held=state.partitions)


def told(tmp_path: Path, feed: StreamFeed = FEED) -> tuple[FeedReport, dict[str, str]]:
    """The feed's report, and the state of each check."""
    found = report_on(tmp_path, feed)
    return found, {check.name: check.state for check in found.checks}


def test_a_failed_error_makes_a_feed_failing(tmp_path: Path, lake: FeedLake) -> None:
    """Status, reason and next step name the check; every format has it."""
    note(
        lake, failed={"2025-01-17": "2025-01-17: 2 of 3 rows have no NOTE"}, judged=("2025-01-17", "2025-01-18")
    )

    report = report_of(tmp_path, FEED)

    (found,) = report.feeds
    assert found.status is Status.FAILING
    assert found.reason == "check not_null does not hold: 2025-01-17: 2 of 3 rows have no NOTE"
    assert "ksql-lake feeds show events" in found.next_step
    assert "failing: events: check not_null does not hold" in " ".join(remarks(report))
    (line,) = csv.DictReader(io.StringIO(render_csv(report)))
    assert (line["status"], line["failed_checks"]) == ("failing", "not_null")
    assert json.loads(render_json(report))["feeds"][0]["checks"][0]["state"] == "failed"
    assert (
        'ksql_lake_feed_check_passed{feed="events",kind="stream",check="not_null",severity="error"} 0\n'
        in render_prometheus(report)
    )
    page = render_html(report)
    assert '<span class="verdict alarm">1 thing to act on</span>' in page
    assert "2 of 3 rows have no NOTE" in page


def test_a_day_judged_again_is_forgiven(tmp_path: Path, lake: FeedLake) -> None:
    """The newest result of a day counts; the results of other days stay."""
    note(lake, failed={"2025-01-17": "bad", "2025-01-18": "bad too"}, judged=("2025-01-17", "2025-01-18"))
    note(lake, failed={}, judged=("2025-01-17",))
    half, states = told(tmp_path)
    note(lake, failed={}, judged=("2025-01-18",))

    whole, _ = told(tmp_path)

    assert (half.status, states["not_null"]) == (Status.FAILING, "failed")
    assert [each.partition for each in half.checks[0].failed] == ["2025-01-18"]
    assert (whole.status, whole.checks[0].judged) == (Status.HEALTHY, 2)


def test_a_warning_leaves_the_status_alone(tmp_path: Path, lake: FeedLake) -> None:
    """The feed file of now says how bad it is, and what is only unusual is a notice."""
    note(lake, failed={"2025-01-17": "bad"}, judged=("2025-01-17",))
    mild = stream_feed(start_date="2025-01-17", checks={**NOT_NULL, "severity": {"not_null": "warn"}})

    report = report_of(tmp_path, mild)

    assert report.feeds[0].status is Status.HEALTHY
    (point,) = [point for point in attention(report) if point.label == "check"]
    assert (point.level, point.subject, point.text) == ("notice", "events", "not_null: bad")


def test_a_promise_without_a_result_is_told(tmp_path: Path, lake: FeedLake) -> None:
    """Silence is no success: not before the first result, nor after the feed file asks something else."""
    (before,) = [point for point in attention(report_of(tmp_path, FEED)) if point.label == "not checked"]
    note(lake, failed={}, judged=("2025-01-17",))
    changed = stream_feed(start_date="2025-01-17", checks={"not_null": ["NOTE", "ID"]})

    _, held = told(tmp_path)
    found, states = told(tmp_path, changed)

    assert before.text == "no export has evaluated what the feed file promises: events (not_null)"
    assert held["not_null"] == "passed"
    assert states["not_null"] == "not_evaluated"
    assert found.promises_unevaluated == ["not_null"]


def test_nothing_to_judge_is_no_success(tmp_path: Path, lake: FeedLake) -> None:
    """A check that looked at no day has no result yet, and its promise is not called forgotten."""
    note(lake, failed={}, judged=())

    found, states = told(tmp_path)

    assert states["not_null"] == "not_evaluated"
    assert found.checks[0].says == "nothing to judge yet: fine"
    assert found.promises_unevaluated == []


def test_results_of_commits_that_are_gone_do_not_count(tmp_path: Path, lake: FeedLake) -> None:
    """A lake whose manifests were restored from before has no results of the commits that it lost."""
    finding = CheckFinding(
        name="not_null", asks=ASKS, severity="error", passed=True, says="fine", judged=("2025-01-17",)
    )
    state = lake.state()
    lake.record_checks([finding], commit=state.sequence + 1, held=state.partitions)

    found, states = told(tmp_path)

    assert states["not_null"] == "not_evaluated"
    assert found.checks[0].says == "no export has evaluated it"


def test_an_export_that_was_not_checked_is_told(tmp_path: Path, lake: FeedLake) -> None:
    """A result of an older export does not stand for the rows that landed since."""
    note(lake, failed={}, judged=("2025-01-17",))
    land_days(Lake(tmp_path), FEED, of_day(date(2025, 1, 18), 3), days=(FIRST, TODAY))

    found, states = told(tmp_path)

    assert states["not_null"] == "not_evaluated"
    assert found.checks[0].says.startswith("the last export was not checked; before it: ")


def test_a_replaced_version_no_longer_fails(tmp_path: Path) -> None:
    """Of a table the newest version with a result decides, and a removed one is forgotten."""
    feed = table_feed(checks={"not_null": ["NOTE"]}, retention=1)
    lake = Lake(tmp_path).feed(feed)
    land_rows(Lake(tmp_path), feed, [{"ID": 1, "NAME": "a"}])
    note(lake, failed={"v1": "v1: bad"}, judged=("v1",))
    first = report_on(tmp_path, feed)
    land_rows(Lake(tmp_path), feed, [{"ID": 1, "NAME": "a"}])
    note(lake, failed={}, judged=("v2",))
    second = report_on(tmp_path, feed)
    lake.apply_retention()
    note(lake, failed={}, judged=("v2",))

    third = report_on(tmp_path, feed)

    assert [found.status for found in (first, second, third)] == [
        Status.FAILING,
        Status.HEALTHY,
        Status.HEALTHY,
    ]
    assert [each.partition for each in second.checks[0].failed] == ["v1"]
    assert (third.checks[0].failed, third.checks[0].judged) == ((), 1)


def test_a_replaced_version_fails_no_later_result(tmp_path: Path) -> None:
    """Dagster shows what the report shows: no version is read again, so only the newest one counts."""
    feed = table_feed(checks={"not_null": ["NOTE"]})
    lake = Lake(tmp_path).feed(feed)
    failing = []
    for version, failed in (("v1", {"v1": "v1: bad"}), ("v2", {})):
        land_rows(Lake(tmp_path), feed, [{"ID": 1, "NAME": "a"}])
        outcome = CheckOutcome("not_null", not failed, "said", (version,), failed)
        (judged,) = note_outcomes([outcome], lake)
        failing.append(dict(judged.failing))

    assert failing == [{"v1": "v1: bad"}, {}]
    assert lake.checks().checks["not_null"].holds


def test_a_lost_note_says_not_evaluated(tmp_path: Path, lake: FeedLake) -> None:
    """Without the file, and with one that is none of ours, nothing was evaluated and nothing breaks."""
    note(lake, failed={"2025-01-17": "bad"}, judged=("2025-01-17",))
    path = tmp_path / lake.layout.checks
    for text in (b"{", b'{"checks": 1}', None):
        path.unlink() if text is None else path.write_bytes(text)

        found, states = told(tmp_path)

        assert (found.status, set(states.values())) == (Status.HEALTHY, {"not_evaluated"})


def test_three_years_of_days_stay_small(tmp_path: Path, lake: FeedLake) -> None:
    """Days that hold are ranges, so the file does not grow with them."""
    days = [str(FIRST + timedelta(days=number)) for number in range(3 * 365)]
    for at in range(0, len(days), 100):
        note(lake, failed={}, judged=tuple(days[at : at + 100]))
    note(lake, failed={days[500]: "bad"}, judged=(days[500],))

    notes = lake.checks()

    assert list(notes.checks["not_null"].judged_keys()) == days
    assert notes.checks["not_null"].judged == (f"{days[0]}/{days[-1]}",)
    assert (tmp_path / lake.layout.checks).stat().st_size < 1000


def test_an_outage_is_said_once(tmp_path: Path) -> None:
    """Feeds that failed for one reason are one point with their names."""
    lake = Lake(tmp_path)
    feeds = [
        stream_feed(name=f"feed_{number}", source=f"S{number}", start_date="2025-01-17") for number in range(5)
    ]
    for feed in feeds:
        land_days(lake, feed, of_day(FIRST, 3), days=(FIRST, TODAY))
        lake.feed(feed).record_failure(ConnectionError("no route"))

    found = [point for point in attention(report_of(tmp_path, *feeds)) if point.label == "failing"]

    assert [(point.subject, len(point.feeds)) for point in found] == [("5 feeds", 5)]
    assert "no route" in found[0].text
    assert "feed_0, feed_1, feed_2, feed_3, feed_4" in found[0].text


def test_old_events_and_silence_are_told(tmp_path: Path) -> None:
    """The newest event's age, and since when no new row came, whatever the exports say."""
    lake = Lake(tmp_path)
    for _ in range(3):
        land_days(lake, FEED, of_day(FIRST, 3), days=(FIRST, TODAY))

    found = report_on(tmp_path, FEED)

    assert found.recency.event_age_hours == pytest.approx(84, abs=0.01)
    assert found.recency.exports_without_new == 2
    assert found.recency.last_new_at is not None
    later = report_of(tmp_path, FEED, now=found.recency.last_new_at + timedelta(days=3))
    assert [point.subject for point in attention(later) if point.label == "no new rows"] == ["events"]


def test_a_long_silence_is_told_too(tmp_path: Path) -> None:
    """Where no export that the report knows brought a row, it says since before when; not of an empty feed."""
    lake, empty = Lake(tmp_path), stream_feed(name="empty", start_date="2025-01-17")
    for rows in (3, 0, 0):
        land_days(lake, FEED, of_day(FIRST, rows), days=(FIRST, TODAY))
        land_days(lake, empty, [], days=(FIRST, TODAY))
    now = report_on(tmp_path, FEED).recency.last_new_at
    assert now is not None

    reader = MetadataReader(tmp_path, history=2)
    made = MetadataAnalyzer(reader, feeds_of(FEED, empty), now=now + timedelta(days=3)).generate_report()

    (feed,) = [feed for feed in made.feeds if feed.name == FEED.name]
    assert (feed.recency.last_new_at, feed.recency.exports_without_new) == (None, 2)
    (point,) = [point for point in attention(made) if point.label == "no new rows"]
    assert feed.history_from is not None
    since = f"since before {feed.history_from:%Y-%m-%d %H:%M} UTC"
    assert point.text == f"exported, but no new row came: events ({since})"


def test_rows_outside_the_window_are_told(tmp_path: Path) -> None:
    """Days before a `start_date` that was moved, with their rows."""
    land_days(Lake(tmp_path), FEED, of_day(FIRST, 3), days=(FIRST, TODAY))
    moved = stream_feed(start_date="2025-01-19")

    report = report_of(tmp_path, moved, now=NOON)

    assert report.feeds[0].outside is not None
    assert report.feeds[0].outside.records == 3
    (point,) = [point for point in attention(report) if point.label == "outside"]
    assert point.text == "3 rows outside of its days, before start_date or after today: 2025-01-17"


def test_feeds_of_one_failed_check_are_advised_as_one_feed_is(tmp_path: Path) -> None:
    """An export alone repairs no failed check: the point of several feeds says what the point of one says."""
    lake = Lake(tmp_path)
    feeds = [stream_feed(name=name, start_date="2025-01-17", checks=NOT_NULL) for name in ("a", "b")]
    for feed in feeds:
        land_days(lake, feed, of_day(FIRST, 3), days=(FIRST, TODAY))
        note(lake.feed(feed), failed={"2025-01-17": "2 rows have no NOTE"}, judged=("2025-01-17",))

    (point,) = [point for point in attention(report_of(tmp_path, *feeds)) if point.label == "failing"]

    assert point.feeds == ("a", "b")
    assert point.next_step == "Correct the source and export the days again, or change checks in the feed files"
