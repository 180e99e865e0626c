"""What was seen is not yet held, and what never came is not yet gone: no row is lost, no proof claimed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ksql_lake.devserver.door import change_log
from ksql_lake.export import Days, ExportResult
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.continued import Continued, Gap, SourceMark
from ksql_lake.lake.commit.manifest import decode_manifest
from ksql_lake_tests.export.continuing.scene import Scene
from ksql_lake_tests.export.continuing.test_continuing import by_token, marks_of, once, scene
from ksql_lake_tests.export.push.server import DAY, FIRST, Server, held, lose, repaired, row

__all__ = ["scene"]


def rewrite(root: Path, feed: StreamFeed, **changes: Any) -> None:
    """Change the newest marks, with a digest that fits."""
    lake = Lake(root).feed(feed)
    path = root / lake.layout.manifest(lake.state().sequence)
    manifest = decode_manifest(path.read_bytes(), path=str(path))
    assert manifest.continued is not None
    changed: Continued = msgspec.structs.replace(manifest.continued, **changes).sealed()
    path.chmod(0o600)
    path.write_bytes(msgspec.structs.replace(manifest, continued=changed).encode())
    (root / lake.layout.checkpoint).unlink(missing_ok=True)


def level(result: ExportResult) -> str:
    """How strong the evidence of an export is."""
    assert result.evidence is not None
    return result.evidence.level


def text(result: ExportResult) -> str:
    """What the evidence of an export says."""
    assert result.evidence is not None
    return result.evidence.text


def test_a_row_that_was_given_up_too_early_lands(server: Server, scene: Scene, tmp_path: Path) -> None:
    """A slow broker makes rows look as if they never came; when they do, they land, and the doubt ends."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    source = dict(marks_of(tmp_path, feed).source)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    source[0] = SourceMark(0, 12, source[0].last, source[0].time)
    rewrite(tmp_path, feed, source=source, gaps=[Gap(0, 10, 12, now)])
    server.append(scene.source, *(row(number) for number in range(20, 30)))
    result = server.export(tmp_path, feed, days=None)

    assert (by_token(result), result.new, level(result)) == (True, 10, "proven")
    assert held(tmp_path, feed) == once(30)
    assert marks_of(tmp_path, feed).gaps == []


def test_a_row_among_old_gaps_is_compared(server: Server, scene: Scene, tmp_path: Path) -> None:
    """Which of many offsets were missing is not kept: the lake's rows decide, and the fall-back says so."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    source = dict(marks_of(tmp_path, feed).source)
    source[0] = SourceMark(0, 12, source[0].last, source[0].time)
    rewrite(
        tmp_path,
        feed,
        source=source,
        gaps=[Gap(0, 2, 12, "2025-01-06T00:00:00+00:00", some=True, compared=True)],
    )
    server.append(scene.source, *(row(number) for number in range(20, 30)))
    result = server.export(tmp_path, feed, days=Days(date(2025, 1, 6), date(2025, 1, 6)))

    assert result.fell_back.startswith(
        "a row came although it was given up: perhaps some of the offsets 2 to 11 of partition 0 of the source"
    )
    assert held(tmp_path, feed) == once(30)


def test_a_first_reading_that_brought_nothing_loses_nothing(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """A query that does not get going looks like one of an empty stream; its rows land when they come."""
    feed = scene.feed()
    server.faults({"kind": "stall", "after_rows": 0, "source": scene.derived}, {"kind": "no_positions"})
    silent = server.export(tmp_path, feed, days=None, read_timeout=4)
    server.faults()
    compared, result = (server.export(tmp_path, feed, days=None) for _ in range(2))

    assert (silent.new, level(silent)) == (0, "checked")
    assert compared.fell_back.startswith("a row came although it was given up: offsets 0 to 9")
    assert "offsets 0 to 9 of partition 0, offsets 0 to 9 of partition 1 of the source never" in text(silent)
    assert (by_token(result), result.new, level(result)) == (False, 20, "proven")
    assert held(tmp_path, feed) == once(20)


def test_rows_of_the_future_cost_one_reading(server: Server, scene: Scene, tmp_path: Path) -> None:
    """Once their day was read, exports go on from the marks again."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    rewrite(tmp_path, feed, awaited="2025-01-09")
    entered, after = (server.export(tmp_path, feed, days=None) for _ in range(2))

    assert (by_token(entered), by_token(after)) == (False, True)
    assert marks_of(tmp_path, feed).awaited == ""


def test_a_mended_event_time_brings_the_rows_that_it_kept_out(server: Server, tmp_path: Path) -> None:
    """Rows that were seen by a wrong clock, and landed nowhere, are read again by the right one."""
    scene = Scene("CLOCKS")
    server.ksql(
        "CREATE STREAM CLOCKS (ID BIGINT, T BIGINT) WITH (KAFKA_TOPIC='clocks', VALUE_FORMAT='JSON', "
        "PARTITIONS=1); CREATE STREAM CLOCKS_D WITH (KEY_FORMAT='JSON') AS SELECT STRUCT(P := ROWPARTITION, "
        "O := ROWOFFSET) AS K, ID, T, ROWPARTITION AS P, ROWOFFSET AS O FROM CLOCKS PARTITION BY "
        "STRUCT(P := ROWPARTITION, O := ROWOFFSET) EMIT CHANGES;"
    )
    server.append(
        "CLOCKS", *({"ID": number, "T": FIRST // 1000 + number, "ROWTIME": FIRST} for number in range(5))
    )
    wrong = scene.feed(columns=["ID", "T"], event_time="T")
    first = server.export(tmp_path, wrong, days=None)
    right = scene.feed(columns=["ID", "T"], event_time="T", event_time_unit="s")
    result = server.export(tmp_path, right, days=None)

    assert first.new == 0
    assert (by_token(result), result.new) == (False, 5)
    assert held(tmp_path, right) == once(5)


@pytest.mark.parametrize(
    ("name", "far", "why"),
    [("AFAR", 2**63 - 1, "in the future"), ("AGO", -(2**63) + 1, "before start_date")],
)
def test_an_event_time_beyond_the_calendar_stops_no_feed(
    server: Server, tmp_path: Path, name: str, far: int, why: str
) -> None:
    """Such a row is of the future or too early, and the others land, in the first reading and in later ones."""
    scene = Scene(name)
    server.ksql(
        f"CREATE STREAM {name} (ID BIGINT, T BIGINT) WITH (KAFKA_TOPIC='{name.lower()}', VALUE_FORMAT='JSON', "
        f"PARTITIONS=1); CREATE STREAM {name}_D WITH (KEY_FORMAT='JSON') AS SELECT STRUCT(P := ROWPARTITION, "
        f"O := ROWOFFSET) AS K, ID, T, ROWPARTITION AS P, ROWOFFSET AS O FROM {name} PARTITION BY "
        "STRUCT(P := ROWPARTITION, O := ROWOFFSET) EMIT CHANGES;"
    )
    feed = scene.feed(columns=["ID", "T"], event_time="T", timezone="Pacific/Auckland")
    numbers = iter(range(9))

    def results() -> Iterator[tuple[bool, int, dict[str, int]]]:
        for _ in range(2):
            times = (FIRST, far, FIRST)
            rows = ({"ID": next(numbers), "T": time, "ROWTIME": FIRST} for time in times)
            server.append(name, *rows)
            result = server.export(tmp_path, feed, days=None)
            yield by_token(result), result.new, dict(result.outside)

    assert [*results()] == [(False, 2, {why: 1}), (True, 2, {why: 1})]
    assert held(tmp_path, feed) == dict.fromkeys((0, 2, 3, 5), 1)


def test_rows_that_were_seen_and_never_landed_prove_nothing(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """Kafka deleted rows from before the feed's first day; when that moves, its days are not proven."""
    later = scene.feed(start_date="2025-01-08")
    server.append(scene.source, *(row(number, day=2) for number in range(20, 30)))
    server.export(tmp_path, later, days=None)
    sink = marks_of(tmp_path, later).sink
    change_log(server.url, scene.derived, {"trim": {number: mark.next - 1 for number, mark in enumerate(sink)}})
    result = server.export(tmp_path, scene.feed(), days=None)

    assert (by_token(result), level(result)) == (False, "checked")
    assert "of the source never came" in text(result)


@pytest.mark.parametrize(
    ("moment", "late", "expected"),
    [
        ("2025-01-06T20:00:00.000+00:00", 1, "checked"),
        ("2025-01-06T20:00:00.000+00:00", 3, "proven"),
        ("2025-01-08T20:00:00.000+00:00", 3, "checked"),
    ],
    ids=["a late row of its day", "a row of a day after it", "a gap of the day"],
)
def test_a_gap_keeps_its_days_from_being_proven(
    server: Server, scene: Scene, tmp_path: Path, moment: str, late: int, expected: str
) -> None:
    """Days are those of the feed's zone, and those that got a late row count too."""
    feed = scene.feed(timezone="Pacific/Auckland")  # 13 hours ahead: 20:00 UTC is the next day there
    server.export(tmp_path, feed, days=None)
    rewrite(tmp_path, feed, gaps=[Gap(0, 0, 1, moment)])
    server.append(scene.source, row(20, day=late - 1, ROWTIME=FIRST + (late - 1) * DAY + DAY // 2))
    result = server.export(tmp_path, feed, days=Days(date(2025, 1, 9), date(2025, 1, 9)))

    assert (by_token(result), result.new) == (True, 1)
    assert level(result) == expected


def test_rows_that_expired_unread_are_named(server: Server, scene: Scene, tmp_path: Path) -> None:
    """The derived stream was recreated after Kafka had deleted rows of its source that were never read."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    server.ksql(f"DROP STREAM {scene.derived} DELETE TOPIC;")
    change_log(server.url, scene.source, {"trim": {0: 15, 1: 15}})
    scene.derive(server)
    result = server.export(tmp_path, feed, days=None)

    assert (by_token(result), level(result)) == (False, "checked")
    assert "offsets 10 to 14 of partition 0, offsets 10 to 14 of partition 1 of the source never" in text(
        result
    )


def test_rows_that_the_lake_lost_are_not_believed_to_be_there() -> None:
    """Marks that outlive the lake's rows recognise the source, and nothing more."""
    marks = Continued(query="Q", sink=[], source={0: SourceMark(0, 5)}).sealed()

    assert marks.outdated("read in another way").sound
    assert not marks.outdated("rows were lost", lost=True).sound


def test_offsets_without_rows_in_the_derived_stream_are_explained(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """A query that writes in transactions leaves markers: rows and offsets never add up, and it is said why."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    change_log(server.url, scene.derived, {"gap": {0: 1}})
    server.append(scene.source, *(row(number) for number in range(20, 30)))
    pulled = server.export(tmp_path, feed, days=Days(date(2025, 1, 6), date(2025, 1, 6)))
    entered, after = (server.export(tmp_path, feed, days=None) for _ in range(2))

    assert (
        "came with 12 rows (not sent are records with a NULL key or value, markers of trans" in pulled.fell_back
    )
    assert (pulled.new, by_token(entered), entered.new, by_token(after)) == (10, False, 0, True)
    assert held(tmp_path, feed) == once(30)


def test_days_closed_by_a_fall_back_get_what_the_pull_could_not_see(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """A pull of some days leaves late rows of others; the way in finds them, and their day is read again."""
    feed = scene.feed()
    server.export(tmp_path, feed, days=None)
    server.append(scene.source, row(20, day=3), row(21))
    server.faults({"kind": "not_scalable", "times": 1})
    pulled = server.export(tmp_path, feed, days=Days(date(2025, 1, 9), date(2025, 1, 9)))
    entered = server.export(tmp_path, feed, days=Days(date(2025, 1, 9), date(2025, 1, 9)))

    assert (pulled.new, by_token(entered), entered.new, level(entered)) == (1, False, 1, "proven")
    assert held(tmp_path, feed) == once(22)


def test_a_lake_that_was_restored_goes_on_from_its_own_marks(
    server: Server, scene: Scene, tmp_path: Path
) -> None:
    """An older copy lacks the newest rows; its marks are as old, so that they come again."""
    feed, copy = scene.feed(), tmp_path / "copy"
    server.export(tmp_path / "lake", feed, days=None)
    shutil.copytree(tmp_path / "lake", copy)
    server.append(scene.source, *(row(number) for number in range(20, 40)))
    server.export(tmp_path / "lake", feed, days=None)
    server.append(scene.source, *(row(number) for number in range(40, 50)))
    result = server.export(copy, feed, days=None)

    assert (by_token(result), result.new, level(result)) == (True, 30, "proven")
    assert held(copy, feed) == once(50)


def test_marks_of_a_log_that_lost_a_commit_do_not_count(server: Server, scene: Scene, tmp_path: Path) -> None:
    """Rows that were lost with their commit come back after a repair, although later marks count them."""
    feed = scene.feed()
    for begin in (20, 30, 40):
        server.export(tmp_path, feed, days=None)
        server.append(scene.source, *(row(number) for number in range(begin, begin + 10)))
    lose(tmp_path, feed, 2, files=True)
    repaired(tmp_path, feed)
    result = server.export(tmp_path, feed, days=None)
    again = server.export(tmp_path, feed, days=None)

    assert (result.new, by_token(again), again.new) == (20, True, 0)
    assert held(tmp_path, feed) == once(50)
