"""A derived stream read on from its marks: only new rows come, and all of them land once, whatever happens."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from ksql_lake.devserver.door import change_log
from ksql_lake.errors import DecodeError, MeaningChangeError, TopicRecreatedError
from ksql_lake.export import Days, ExportResult, plan_export
from ksql_lake.export.certification import certify
from ksql_lake.export.facts import summary
from ksql_lake.feeds.model import FEED_ADAPTER, StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.tokens import SCALABLE
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.lake.commit.continued import Continued
from ksql_lake.lake.commit.manifest import decode_manifest
from ksql_lake.settings import load_settings
from ksql_lake_tests.export.continuing.scene import Scene
from ksql_lake_tests.export.push.server import DAY, FIRST, Server, held, row
from ksql_lake_tests.report.lakes import report_on

TOMORROW = datetime.now(UTC).date() + timedelta(days=1)


@pytest.fixture
def scene(server: Server, request: pytest.FixtureRequest) -> Scene:
    """A source and its derived stream of this test's own, with twenty rows."""
    scene = Scene(f"S{abs(hash(request.node.name)) % 10**9}")
    scene.create(server)
    server.append(scene.source, *(row(number) for number in range(20)))
    return scene


def by_token(result: ExportResult) -> bool:
    """Whether an export was read on from its marks."""
    return (result.query_id or "").startswith(SCALABLE)


def lake_of(root: Path, feed: StreamFeed) -> FeedLake:
    """The feed's lake, opened again."""
    return Lake(root).feed(feed)


def marks_of(root: Path, feed: StreamFeed) -> Continued:
    """Where the feed stands."""
    marks = lake_of(root, feed).state().continued
    assert marks is not None
    return marks


def once(count: int) -> dict[int, int]:
    """So many ids, each once."""
    return dict.fromkeys(range(count), 1)


def test_the_first_export_comes_in_by_the_door_and_the_next_ones_read_only_what_is_new(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """After the first reading come the new rows and one record of each partition, proven by offsets."""
    feed = scene.feed()
    first = server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number, day=number % 3) for number in range(20, 50)))
    second = server.export(tmp_path, feed, days=None)
    third = server.export(tmp_path, feed, days=None)

    assert (by_token(first), first.new, first.received) == (False, 20, 20)
    assert (by_token(second), second.new, second.received, second.compared) == (True, 30, 32, 0)
    assert (by_token(third), third.new, third.received, third.compared) == (True, 0, 2, 0)
    assert second.requests == third.requests
    assert held(tmp_path, feed) == once(50)
    for result in (first, second, third):
        assert result.evidence is not None
        assert result.evidence.level == "proven"
        assert "to where Kafka's log ended when the export began" in result.evidence.text
    marks = marks_of(tmp_path, feed)
    assert sum(mark.next for mark in marks.sink) == 50
    assert [mark.next for mark in marks.source.values()] == [25, 25]
    assert marks.sound


def test_rows_and_marks_are_one_commit_and_a_late_row_lands_in_its_closed_day(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """A day that was read to its end gets its late row, and a certificate that counts it."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    before = lake_of(tmp_path, feed).certificate("2025-01-06")
    server.append(scene.source, row(20))
    late = server.export(tmp_path, feed, days=None)

    assert (late.new, late.late) == (1, 0)  # nothing is behind the newest day but that day itself
    after = lake_of(tmp_path, feed).certificate("2025-01-06")
    assert before is not None
    assert after is not None
    assert (before.rows, after.rows) == (20, 21)
    path = tmp_path / lake_of(tmp_path, feed).layout.manifest(late.commit or 0)
    manifest = decode_manifest(path.read_bytes(), path=str(path))
    assert manifest.continued == marks_of(tmp_path, feed)
    assert len(manifest.added) == 1
    assert manifest.read is not None
    assert (manifest.read.extraction, manifest.read.judged_by) == ("continue", "offsets")


def test_days_that_were_not_asked_for_get_their_rows_too(server: Server, scene: Scene, tmp_path: Path) -> None:
    """An export of one day lands what is new of every day, and closes the day it was asked for."""
    feed = scene.feed()
    day = Days(date(2025, 1, 7), date(2025, 1, 7))
    server.export(tmp_path, feed, days=day)
    server.append(scene.source, row(20, day=1), row(21, day=3))
    result = server.export(tmp_path, feed, days=day)

    assert held(tmp_path, feed) == once(22)
    assert [part.partition for part in result.partitions] == ["2025-01-07", "2025-01-09"]
    assert set(lake_of(tmp_path, feed).state().certified) == {"2025-01-06", "2025-01-07", "2025-01-09"}


def test_an_export_into_a_day_of_many_files_opens_none_of_them(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """Marks make comparing needless: what is received and opened depends on what is new alone."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    costs = []
    for round_ in range(5):
        server.append(scene.source, *(row(20 + 10 * round_ + number) for number in range(10)))
        result = server.export(tmp_path, feed, days=None)
        costs.append((result.received, result.requests, result.compared))

    assert len(set(costs)) == 1, costs
    assert costs[0][2] == 0
    assert held(tmp_path, feed) == once(70)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "repeated_batch", "rows": 4},
        {"kind": "repeated_batch", "rows": 4, "after_rows": 500},
        {"kind": "overlapping_batch", "rows": 3, "after_rows": 0},
        {"kind": "short_batch", "rows": 2},
        {"kind": "short_batch", "rows": 2, "after_rows": 700},
        {"kind": "skipped_batch", "rows": 3, "after_rows": 0},
        {"kind": "catch_ups_full"},
        {"kind": "cut_row", "after_rows": 700},
        {"kind": "cut_chunk", "after_rows": 10},
        {"kind": "reset", "after_rows": 600},
        {"kind": "failure", "after_rows": 5},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_a_broken_batch_is_begun_again_at_the_last_good_token(
    server: Server, scene: Scene, tmp_path: Path, fault: dict[str, object]
) -> None:
    """Nothing of it lands, the reading goes on, and every row is there once; no fall-back for one mishap."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number) for number in range(20, 1300)))
    server.faults({**fault, "times": 1, "source": scene.derived})
    result = server.export(tmp_path, feed, days=None)

    assert by_token(result)
    assert result.fell_back == ""
    assert held(tmp_path, feed) == once(1300)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"kind": "not_scalable"}, "the server ignored the token and began an ordinary query (transient_"),
        ({"kind": "short_batch", "rows": 2, "after_rows": 0}, "records came with"),
        ({"kind": "catch_ups_full"}, "Too many catchups registered"),
    ],
    ids=lambda value: str(value.get("kind")) if isinstance(value, dict) else "",
)
def test_a_fall_back_is_named_and_the_feed_comes_back_by_the_door(
    server: Server, scene: Scene, tmp_path: Path, fault: dict[str, object], why: str
) -> None:
    """Without tokens the rows are pulled; result, commit and evidence say so; then the marks are rebuilt."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    server.faults({**fault, "times": 50, "source": scene.derived})
    fallen = server.export(tmp_path, feed, days=Days(date(2025, 1, 6), date(2025, 1, 6)))
    server.faults()
    plan = plan_export(feed, Lake(tmp_path))
    remarks = report_on(tmp_path, feed).remarks
    server.append(scene.source, *(row(number) for number in range(40, 50)))
    door, token = (server.export(tmp_path, feed, days=None) for _ in range(2))

    assert why in fallen.fell_back
    assert fallen.new == 20
    assert fallen.evidence is not None
    assert fallen.evidence.level == "checked"
    assert why in fallen.evidence.text
    assert f"read by pull query this time instead of from its marks: {fallen.fell_back}" in summary(fallen)
    assert fallen.as_dict()["fell_back"] == fallen.fell_back
    assert any(
        f"the last export read it by pull query instead of from its marks: {fallen.fell_back}" in remark
        for remark in remarks
    )
    assert f"the stream is read from its first row on, because of commit {fallen.commit}: " in plan.reason
    assert why in plan.reason
    assert (by_token(door), door.received, door.new) == (False, 50, 10)
    assert (by_token(token), token.received) == (True, 2)
    assert held(tmp_path, feed) == once(50)


def test_marks_that_hold_no_longer_are_never_mixed_with_a_pull(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """Rows that a pull query landed beyond the marks are not landed again by the next export."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    pulled = feed.model_copy(update={"extraction": "pull"})
    server.export(tmp_path, pulled, days=Days(date(2025, 1, 6), date(2025, 1, 6)))
    assert marks_of(tmp_path, feed).out == "commit 2: its days were read in another way"
    result = server.export(tmp_path, feed, days=None)

    assert (by_token(result), result.new) == (False, 0)
    assert held(tmp_path, feed) == once(40)


def test_a_gap_that_rests_is_named_and_the_rows_land(server: Server, scene: Scene, tmp_path: Path) -> None:
    """A record that ksqlDB could not read is no reason to wait for ever: the evidence says it."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    change_log(server.url, scene.source, {"gap": {0: 2}})
    server.append(scene.source, *(row(number) for number in range(20, 30)))
    gap, after = (server.export(tmp_path, feed, days=None) for _ in range(2))

    for result in (gap, after):
        assert by_token(result)
        assert result.evidence is not None
        assert result.evidence.level == "checked"
        assert "offsets 10 to 11 of partition 0 of the source never came" in result.evidence.text
    assert held(tmp_path, feed) == once(30)
    recent = Days(TOMORROW - timedelta(days=1), TOMORROW - timedelta(days=1))
    assert marks_of(tmp_path, feed).gaps[0].seen_at[:10] == recent.first.isoformat()


def test_a_gap_at_the_door_is_named_too(server: Server, scene: Scene, tmp_path: Path) -> None:
    """The first reading ends too: by what the stream's query has read."""
    feed = scene.feed()
    change_log(server.url, scene.source, {"gap": {1: 1}})
    server.append(scene.source, *(row(number) for number in range(20, 24)))
    result = server.export(tmp_path, feed, days=None)

    assert result.evidence is not None
    assert result.evidence.level == "checked"
    assert "offset 10 of partition 1 of the source never came" in result.evidence.text
    assert held(tmp_path, feed) == once(24)
    assert by_token(server.export(tmp_path, feed, days=None))


def test_rows_inserted_into_the_derived_stream_land_once_and_are_explained(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """They have no offset of the source: the evidence says who made them, and no export lands them twice."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.ksql(
        f"INSERT INTO {scene.derived} (ROWTIME, K, ID, NOTE) VALUES ({FIRST}, STRUCT(P := 9, O := 9), 20, 'x');"
    )
    strange = server.export(tmp_path, feed, days=None)
    after = server.export(tmp_path, feed, days=None)

    assert strange.new == 1
    assert strange.evidence is not None
    assert strange.evidence.level == "checked"
    assert "1 rows have no offset of the source: a client runs INSERT INTO ... VALUES" in strange.evidence.text
    assert after.new == 0
    assert held(tmp_path, feed) == once(21)


def test_a_source_that_gained_partitions_is_read_on(server: Server, scene: Scene, tmp_path: Path) -> None:
    """Its new partitions are followed from their first offset."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    change_log(server.url, scene.source, {"partitions": 4})
    server.append(scene.source, *(row(number) for number in range(20, 60)))
    result = server.export(tmp_path, feed, days=None)

    assert by_token(result)
    assert held(tmp_path, feed) == once(60)
    assert sorted(marks_of(tmp_path, feed).source) == [0, 1, 2, 3]


def test_records_written_twice_into_the_derived_stream_land_once(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """A server that was killed writes rows of the same offset again."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    change_log(server.url, scene.derived, {"repeat": {0: 6, 1: 6}})
    result = server.export(tmp_path, feed, days=None)

    assert (by_token(result), result.new, result.received) == (True, 20, 34)
    assert held(tmp_path, feed) == once(40)


def test_a_derived_stream_that_was_made_anew_is_entered_again(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """Another query writes it, so its offsets are others; the source's show which rows the lake holds."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    scene.remake(server)
    server.append(scene.source, *(row(number) for number in range(20, 30)))
    result = server.export(tmp_path, feed, days=None)

    assert (by_token(result), result.new) == (False, 10)
    assert held(tmp_path, feed) == once(30)
    assert by_token(server.export(tmp_path, feed, days=None))


@pytest.mark.parametrize("rows", [4, 30])
def test_a_source_that_was_made_anew_is_refused_until_somebody_agrees(
    server: Server, scene: Scene, tmp_path: Path, rows: int
) -> None:
    """Its offsets are other rows': nothing lands unasked, and with --new-topic everything does, once."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    scene.remake(server, source=True)
    server.append(scene.source, *(row(100 + number) for number in range(rows)))

    with pytest.raises(TopicRecreatedError, match="the source's topic is not the one that was read before"):
        server.export(tmp_path, feed, days=None)
    assert held(tmp_path, feed) == once(20)
    accepted = server.export(tmp_path, feed, days=None, new_topic=True)
    server.append(scene.source, row(100 + rows))
    result = server.export(tmp_path, feed, days=None)

    assert accepted.new == rows
    assert (by_token(result), result.new) == (True, 1)
    assert held(tmp_path, feed) == once(20) | dict.fromkeys(range(100, 101 + rows), 1)


def test_a_log_that_begins_behind_the_mark_is_noticed(server: Server, scene: Scene, tmp_path: Path) -> None:
    """The server silently goes on at the end; that does not add up, and the rows are pulled."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    sink = marks_of(tmp_path, feed).sink
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    change_log(server.url, scene.derived, {"trim": {number: mark.next for number, mark in enumerate(sink)}})
    result = server.export(tmp_path, feed, days=Days(date(2025, 1, 6), date(2025, 1, 6)))

    assert result.fell_back
    assert held(tmp_path, feed) == once(40)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (-3, ""),
        (2, "the record before the mark did not come again"),
        (100, "the server sent neither a row nor a token for"),
    ],
)
def test_a_wrong_mark_loses_and_doubles_nothing(
    server: Server, scene: Scene, tmp_path: Path, step: int, why: str
) -> None:
    """One that is too low brings known rows again; one too high other records or silence, so it is not used."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    lake = lake_of(tmp_path, feed)
    path = tmp_path / lake.layout.manifest(1)
    manifest = decode_manifest(path.read_bytes(), path=str(path))
    assert manifest.continued is not None
    sink = [msgspec.structs.replace(mark, next=mark.next + step) for mark in manifest.continued.sink]
    wrong = msgspec.structs.replace(manifest.continued, sink=sink)
    path.chmod(0o600)
    path.write_bytes(msgspec.structs.replace(manifest, continued=wrong.sealed()).encode())
    resealed = server.export(tmp_path, feed, days=Days(date(2025, 1, 6), date(2025, 1, 6)))

    assert resealed.fell_back.startswith(why)
    assert bool(resealed.fell_back) == bool(why)
    assert held(tmp_path, feed) == once(40)


def test_marks_without_their_digest_are_not_believed(server: Server, scene: Scene, tmp_path: Path) -> None:
    """The feed gets a first reading again, which compares every row."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    path = tmp_path / lake_of(tmp_path, feed).layout.manifest(1)
    manifest = decode_manifest(path.read_bytes(), path=str(path))
    assert manifest.continued is not None
    source = {
        number: msgspec.structs.replace(mark, next=18) for number, mark in manifest.continued.source.items()
    }
    wrong = msgspec.structs.replace(manifest.continued, source=source)
    path.chmod(0o600)
    path.write_bytes(msgspec.structs.replace(manifest, continued=wrong).encode())
    result = server.export(tmp_path, feed, days=None)

    assert (by_token(result), result.new) == (False, 20)
    assert held(tmp_path, feed) == once(40)


def test_rows_of_tomorrow_land_when_their_day_has_come(server: Server, scene: Scene, tmp_path: Path) -> None:
    """They are counted, remembered, and read again by the door on their day; never lost by having been seen."""
    feed = scene.feed(start_date="2025-01-06")
    server.export(tmp_path, feed, days=None)
    midnight = int(datetime.combine(TOMORROW, datetime.min.time(), UTC).timestamp() * 1000)
    server.append(scene.source, row(20), {"ID": 21, "NOTE": "n", "ROWTIME": midnight + 5})
    result = server.export(tmp_path, feed, days=None)

    assert (by_token(result), result.new, dict(result.outside)) == (True, 1, {"in the future": 1})
    marks = marks_of(tmp_path, feed)
    assert marks.awaited == TOMORROW.isoformat()
    assert held(tmp_path, feed) == once(21)
    path = tmp_path / lake_of(tmp_path, feed).layout.manifest(result.commit or 0)
    manifest = decode_manifest(path.read_bytes(), path=str(path))
    past = msgspec.structs.replace(marks, awaited=(TOMORROW - timedelta(days=1)).isoformat()).sealed()
    path.chmod(0o600)
    path.write_bytes(msgspec.structs.replace(manifest, continued=past).encode())
    assert not by_token(server.export(tmp_path, feed, days=None))


def test_an_earlier_start_date_brings_the_rows_before(server: Server, scene: Scene, tmp_path: Path) -> None:
    """Rows that were seen and lay before the feed's first day are read when that moves."""
    server.append(scene.source, *(row(number, day=2) for number in range(20, 30)))
    later = scene.feed(start_date="2025-01-08")
    server.export(tmp_path, later, days=None)
    server.export(tmp_path, later, days=None)
    assert held(tmp_path, later) == dict.fromkeys(range(20, 30), 1)
    feed = scene.feed(start_date="2025-01-06")
    result = server.export(tmp_path, feed, days=None)

    assert (by_token(result), result.new) == (False, 20)
    assert held(tmp_path, feed) == once(30)


def test_a_filled_feed_that_turns_to_continue_compares_its_rows_once(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """Rows from before the stream carried offsets are compared by their other columns; none lands twice."""
    raw = {"name": scene.source.lower(), "kind": "stream", "source": scene.source, "start_date": "2025-01-06"}
    plain = FEED_ADAPTER.validate_python(raw)
    server.export(tmp_path, plain, days=None)
    feed = scene.feed()
    server.append(scene.source, *(row(number) for number in range(20, 30)))
    turned, after = (server.export(tmp_path, feed, days=None) for _ in range(2))

    assert (turned.new, turned.already_there) == (10, 20)
    assert turned.compared > 0
    assert (by_token(after), after.new, after.compared) == (True, 0, 0)
    assert held(tmp_path, feed) == once(30)


def test_another_filled_feed_is_refused_with_the_way_out(server: Server, scene: Scene, tmp_path: Path) -> None:
    """If rows of the same stream were compared by their values, the feed's identity cannot change."""
    raw = scene.feed().model_dump(exclude={"identity", "positions"}) | {"extraction": "pull"}
    server.export(tmp_path, FEED_ADAPTER.validate_python(raw), days=None)

    with pytest.raises(MeaningChangeError, match="`identity` was row") as refused:
        server.export(tmp_path, scene.feed(), days=None)
    assert "begin a new feed under another name" in refused.value.hint


def test_a_continued_day_is_certified_against_its_source(server: Server, scene: Scene, tmp_path: Path) -> None:
    """A second look at a closed day reads it by pull query and finds what the tokens brought."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    server.export(tmp_path, feed, days=None)
    with KsqlClient(load_settings(ksqldb_url=server.url)) as client:
        found = certify(feed, date(2025, 1, 6), client, Lake(tmp_path))

    assert found.sound
    assert (found.source_rows, found.lake_rows) == (40, 40)
    assert [(part.rows, part.gaps, part.duplicates) for part in found.offsets] == [(20, 0, 0), (20, 0, 0)]


def test_a_row_that_cannot_be_read_keeps_no_other_day_from_landing(server: Server, tmp_path: Path) -> None:
    """The days are then read by pull query, apart, and the error names the day and the row."""
    server.ksql(
        "CREATE STREAM BADLY (ID BIGINT, T TIME) WITH (KAFKA_TOPIC='badly', VALUE_FORMAT='JSON', "
        "PARTITIONS=1); CREATE STREAM BADLY_D AS SELECT ID, T, ROWPARTITION AS P, ROWOFFSET AS O FROM BADLY;"
    )
    feed = Scene("BADLY").feed(columns=["ID", "T"])
    server.append("BADLY", {"ID": 0, "T": "00:00", "ROWTIME": FIRST})
    server.export(tmp_path, feed)
    server.append("BADLY", {"ID": 1, "T": "00:00", "ROWTIME": FIRST + 1})
    server.append("BADLY", {"ID": 2, "T": "24:00:00", "ROWTIME": FIRST + DAY})
    with pytest.raises(DecodeError):
        server.export(tmp_path, feed)

    assert held(tmp_path, feed) == {0: 1, 1: 1}
