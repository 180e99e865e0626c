"""Feed files proposed for new sources of the server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from ksql_lake.feeds import FeedStore
from ksql_lake_tests.orchestration.project import Project

NEW = ["FEWER", "OTHER_PAYMENTS", "VISITS"]


def _tick(project: Project, cursor: str | None = None) -> dg.SensorResult:
    sensor = project.definitions().get_repository_def().get_sensor_def("new_sources")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    told = sensor(dg.build_sensor_context(cursor=cursor))
    assert isinstance(told, dg.SensorResult)
    return told


def test_each_new_source_is_proposed_once(project: Project) -> None:
    """A feed file that would work lies in feeds/proposed; the tick shows it; nothing becomes active."""
    before = project.definitions().resolve_all_asset_specs()

    first = _tick(project)
    second = _tick(project, first.cursor)

    proposed = project.folder / "feeds" / "proposed"
    assert sorted(path.stem for path in proposed.iterdir()) == ["fewer", "other_payments", "visits"]
    visits = json.loads((proposed / "visits.json").read_text())
    assert (visits["source"], visits["kind"]) == ("VISITS", "stream")
    assert visits["start_date"] == str(datetime.now(UTC).date() - timedelta(days=7))
    assert '"source": "VISITS"' in str(first.skip_reason)
    assert "ksql-lake feeds accept visits" in str(first.skip_reason)
    assert str(second.skip_reason.skip_message if second.skip_reason else "") == (
        "3 sources without a feed, none of them new."
    )
    assert len(project.definitions().resolve_all_asset_specs()) == len(before)


def test_an_accepted_proposal_is_a_feed_and_a_deleted_one_stays_away(project: Project) -> None:
    """Accepting moves the file; what a person threw away is not proposed again."""
    first = _tick(project)
    store = FeedStore(project.folder / "feeds")
    store.accept("visits")
    (project.folder / "feeds" / "proposed" / "fewer.json").unlink()

    second = _tick(project, first.cursor)

    assert store.get("visits").source == "VISITS"
    assert not (project.folder / "feeds" / "proposed" / "fewer.json").exists()
    assert json.loads(str(second.cursor)) == ["FEWER", "OTHER_PAYMENTS"]


def test_a_feed_file_that_is_broken_covers_its_source(project: Project) -> None:
    """While visits.json is being edited, no second feed of VISITS is proposed."""
    (project.folder / "feeds" / "active" / "visits.json").write_text('{"name": "visits",')

    told = _tick(project)

    assert json.loads(str(told.cursor)) == ["FEWER", "OTHER_PAYMENTS"]


def test_where_nothing_can_be_written_the_tick_still_shows_it(project: Project) -> None:
    """If the feeds folder cannot be written, the tick shows the proposals, and the next one tries again."""
    proposed = project.folder / "feeds" / "proposed"
    proposed.write_text("a file is in the way")

    refused = _tick(project)
    proposed.unlink()
    again = _tick(project, refused.cursor)

    told = str(refused.skip_reason)
    assert "was not written" in told
    assert '"source": "VISITS"' in told
    assert sorted(path.stem for path in proposed.iterdir()) == ["fewer", "other_payments", "visits"]
    assert json.loads(str(again.cursor)) == NEW


def test_a_server_that_is_away_fails_the_tick(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick names the server; nothing is proposed and nothing forgotten."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")

    with pytest.raises(dg.Failure, match=r"http://127\.0\.0\.1:9"):
        _tick(project)
