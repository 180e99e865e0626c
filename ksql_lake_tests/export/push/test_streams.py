"""Streams by push query: every row once, by offset, whatever happens in between."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from ksql_lake.errors import (
    CorruptLakeError,
    IncompleteResponseError,
    KsqlLakeError,
    QueryFailedError,
    ServerUnavailableError,
    TopicRecreatedError,
)
from ksql_lake.export import Days
from ksql_lake.export.certification import certify
from ksql_lake.feeds.model import Feed, Identity
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import examine
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.settings import load_settings
from ksql_lake_tests.export.push.server import DAYS, PATIENCE, QUIET, Server, feed, held, lose, repaired, row

CREATE = "CREATE STREAM {} (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='{}', PARTITIONS=3);"


@pytest.fixture
def source(server: Server, request: pytest.FixtureRequest) -> Iterator[Feed]:
    """A stream of its own with thirty rows on three days, and its feed."""
    wanted = feed(request.node.name.split("[")[0][:60].lower())
    server.ksql(CREATE.format(wanted.source, wanted.name))
    server.append(wanted.source, *(row(number, day=number % 3) for number in range(30)))
    yield wanted
    server.ksql(f"DROP STREAM {wanted.source};")


def test_rows_land_once_over_repeated_exports(server: Server, source: Feed, tmp_path: Path) -> None:
    """Each export adds what was appended since, also equal rows; marks are committed with them."""
    first = server.export(tmp_path, source)
    assert (first.new, first.already_there) == (30, 0)
    assert first.caught_up.startswith(f"every partition of {source.name} was read to its end: 0: 10 of 10")

    again = server.export(tmp_path, source)
    assert (again.new, again.already_there) == (0, 0)
    server.append(source.source, row(3), row(3), row(100, day=3))
    third = server.export(tmp_path, source)

    assert third.new == 3
    assert held(tmp_path, source) == Counter([*range(30), 3, 3, 100])
    state = Lake(tmp_path).feed(source).state()
    assert {number: mark.offset for number, mark in state.marks[state.marked["2025-01-06"]].items()} == {
        0: 10, 1: 10, 2: 10,
    }  # fmt: skip
    assert state.last_read is not None
    assert (state.last_read.extraction, state.last_read.judged_by) == ("push", "positions")
    assert examine(Lake(tmp_path).storage, FeedLayout("stream", source.name)).sound


def test_the_server_is_asked_for_new_rows_only(server: Server, source: Feed, tmp_path: Path) -> None:
    """Once the server has reported positions, the query asks for rows beyond the marks and of the window."""
    server.export(tmp_path, source)
    server.export(tmp_path, source)
    before, after = server.asked(source.source)[-2:]

    assert "WHERE" not in before["statement"]
    assert "ROWPARTITION = 0 AND ROWOFFSET > 9" in after["statement"]
    assert (before["rows"], after["rows"]) == (30, 3)
    deadline = time.monotonic() + PATIENCE
    while server.running() and time.monotonic() < deadline:
        time.sleep(0.05)  # the server notices a second later at most that its client has hung up
    assert [query["state"] for query in server.asked(source.source)[-2:]] == ["gone", "gone"]


def test_one_scan_serves_many_days_and_each_day_alone(server: Server, source: Feed, tmp_path: Path) -> None:
    """Days exported by themselves, in any order, add up to the whole, and none hides another's rows."""
    second, rest = Days(date(2025, 1, 7), date(2025, 1, 7)), DAYS
    assert server.export(tmp_path, source, days=second).new == 10
    server.append(source.source, row(31, day=1), row(32, day=0))
    assert server.export(tmp_path, source, days=second).new == 1
    whole = server.export(tmp_path, source, days=rest)

    assert whole.new == 21
    assert held(tmp_path, source) == Counter([*range(30), 31, 32])
    assert [part.late for part in whole.partitions] == [0, 0, 0, 0]
    lake = Lake(tmp_path).feed(source)
    certificate = lake.certificate("2025-01-07")
    assert certificate is not None
    assert certificate.rows == 11


def test_a_closed_day_is_certified_by_push_too(server: Server, source: Feed, tmp_path: Path) -> None:
    """Source and lake are compared by reading the whole day again, whatever its marks are."""
    server.export(tmp_path, source)
    settings = load_settings(ksqldb_url=server.url, quiet_seconds=QUIET)
    with KsqlClient(settings) as client:
        equal = certify(source, date(2025, 1, 7), client, Lake(tmp_path))
        server.append(source.source, row(99, day=1))
        different = certify(source, date(2025, 1, 7), client, Lake(tmp_path))

    assert (equal.equal, equal.source_rows, equal.lake_rows) == (True, 10, 10)
    assert (different.equal, different.source_rows) == (False, 11)


def test_a_late_row_lands_and_counts_as_late(server: Server, source: Feed, tmp_path: Path) -> None:
    """A row appended to a closed day lands with the next export that covers it."""
    server.export(tmp_path, source)
    server.append(source.source, row(77, day=0))

    result = server.export(tmp_path, source)

    assert (result.new, result.late) == (1, 1)


def test_rows_outside_of_every_day_are_counted_by_name(
    server: Server, source: Feed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows before `start_date`, in the future or with a negative ROWTIME are left out and counted."""
    server.append(source.source, row(90, day=-9), row(91, day=-9), row(92, day=36_000), row(93, day=-30_000))

    result = server.export(tmp_path, source)

    outside = {"before start_date": 2, "in the future": 1, "with a negative ROWTIME": 1}
    assert (result.new, dict(result.outside), result.as_dict()["outside"]) == (30, outside, outside)
    assert all(f"{count} {why}" in caplog.text for why, count in outside.items())
    read = Lake(tmp_path).feed(source).state().last_read
    assert read is not None
    assert read.outside == outside


def test_a_replay_doubles_nothing(server: Server, source: Feed, tmp_path: Path) -> None:
    """Rows that a moved task sends again are known by their offsets."""
    server.faults({"kind": "replay", "after_rows": 20, "rows": 9, "times": 1})

    result = server.export(tmp_path, source)

    assert result.new == 30
    assert server.asked(source.source)[-1]["rows"] == 49
    assert set(held(tmp_path, source).values()) == {1}


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        ({"kind": "cut_row", "after_rows": 11}, IncompleteResponseError, "row 12: the answer was cut off"),
        ({"kind": "cut_chunk", "after_rows": 11}, IncompleteResponseError, "cut off"),
        ({"kind": "reset", "after_rows": 11}, IncompleteResponseError, "connection"),
        ({"kind": "error", "after_rows": 11}, QueryFailedError, "boom"),
        (
            {"kind": "short", "after_rows": 11},
            IncompleteResponseError,
            "the server closed the query after 11 rows",
        ),
        ({"kind": "hang", "after_rows": 11}, ServerUnavailableError, "the server fell silent for 2 s"),
        ({"kind": "not_ready"}, ServerUnavailableError, "not yet ready"),
    ],
    ids=lambda value: str(value["kind"]) if isinstance(value, dict) else "",
)
def test_a_broken_query_lands_nothing(
    server: Server, source: Feed, tmp_path: Path, fault: dict[str, Any], error: type[KsqlLakeError], reason: str
) -> None:
    """Nothing of it is in the lake, the error says what happened, and the next export has every row."""
    server.faults({**fault, "times": 1})

    with pytest.raises(error) as caught:
        server.export(tmp_path, source, read_timeout=2 if fault["kind"] == "hang" else 30)

    assert str(caught.value).startswith(f"feed {source.name}")
    assert reason in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))
    assert server.export(tmp_path, source).new == 30


def test_what_may_pass_is_tried_again(server: Server, source: Feed, tmp_path: Path) -> None:
    """A retry is a fresh query from the first row on, and rows of the broken one are not mixed in."""
    server.faults({"kind": "cut_row", "after_rows": 20, "times": 2})

    result = server.export(tmp_path, source, attempts=3)

    assert (result.attempts, result.new) == (3, 30)


def test_silence_decides_where_the_server_does_not_tell(server: Server, source: Feed, tmp_path: Path) -> None:
    """Without positions the export ends after a quiet period, reads every row, and says so."""
    server.faults({"kind": "no_positions"})

    first = server.export(tmp_path, source)
    server.append(source.source, row(40))
    second = server.export(tmp_path, source)

    assert first.caught_up == "no row from before the query began came for 0.4 s"
    assert (first.new, second.new) == (30, 1)
    assert server.asked(source.source)[-1]["rows"] == 31
    assert held(tmp_path, source) == Counter([*range(30), 40])


def test_a_server_that_stops_telling_is_asked_without_condition(
    server: Server, source: Feed, tmp_path: Path
) -> None:
    """A query with a condition is silent for reasons of its own, so silence ends none."""
    server.export(tmp_path, source)
    server.append(source.source, row(41))
    server.faults({"kind": "no_positions"})

    result = server.export(tmp_path, source)

    assert result.new == 1
    assert ["WHERE" in query["statement"] for query in server.asked(source.source)] == [False, True, False]
    assert result.caught_up.startswith("no row from before")


@pytest.mark.parametrize("more", [0, 100], ids=["shorter", "longer"])
def test_a_topic_made_anew_is_refused(server: Server, source: Feed, tmp_path: Path, more: int) -> None:
    """Offsets of another topic are never taken for those of the first, whether it is shorter or longer."""
    server.export(tmp_path, source)
    before = held(tmp_path, source)
    server.ksql(f"DROP STREAM {source.source};" + CREATE.format(source.source, source.name))
    server.append(source.source, *(row(number, day=1) for number in range(500, 505 + more)))

    with pytest.raises(TopicRecreatedError) as caught:
        server.export(tmp_path, source)

    assert "the topic is not the one that was read before" in str(caught.value)
    assert "--new-topic" in str(caught.value)
    assert held(tmp_path, source) == before
    accepted = server.export(tmp_path, source, new_topic=True)
    assert accepted.new == 5 + more
    assert server.export(tmp_path, source).new == 0
    assert sum(held(tmp_path, source).values()) == 35 + more


def test_a_topic_made_anew_loses_no_row_of_a_feed_that_names_its_offsets(
    server: Server, source: Feed, tmp_path: Path
) -> None:
    """Its rows at offsets that the lake holds are other rows, and land when the new topic is accepted."""
    identity = Identity(by="offset", columns=("ROWPARTITION", "ROWOFFSET"))
    wanted = source.model_copy(update={"identity": identity})
    server.export(tmp_path, wanted)
    server.ksql(f"DROP STREAM {source.source};" + CREATE.format(source.source, source.name))
    server.append(source.source, *(row(number) for number in range(500, 530)))

    with pytest.raises(TopicRecreatedError):
        server.export(tmp_path, wanted)

    assert server.export(tmp_path, wanted, new_topic=True).new == 30
    assert server.export(tmp_path, wanted).new == 0
    assert held(tmp_path, wanted) == dict.fromkeys([*range(30), *range(500, 530)], 1)


@pytest.mark.parametrize("merged", [True, False], ids=["merged", "lost"])
def test_marks_of_a_log_that_lost_a_commit_do_not_count(
    server: Server, source: Feed, tmp_path: Path, merged: bool
) -> None:
    """After a repair each day is compared by value: rows that are held stay one, lost ones come back."""
    for begin in (30, 40, 50):
        server.export(tmp_path, source)
        server.append(source.source, *(row(number, day=number % 3) for number in range(begin, begin + 10)))
    if merged:
        list(Lake(tmp_path).feed(source).compact())
    lose(tmp_path, source, 2, files=not merged)
    repaired(tmp_path, source)

    result = server.export(tmp_path, source, days=None)

    assert (result.new, result.already_there) == (10 + 10 * (not merged), 50 - 10 * (not merged))
    assert held(tmp_path, source) == Counter(range(60))
    assert server.export(tmp_path, source).new == 0


def test_marks_behind_rows_that_doctor_brings_back_do_not_count(
    server: Server, source: Feed, tmp_path: Path
) -> None:
    """Rows of a commit that restored metadata does not know land once, although the older marks lack them."""
    server.export(tmp_path, source)
    shutil.copytree(tmp_path / "metadata", tmp_path / "backup")
    server.append(source.source, *(row(number, day=number % 3) for number in range(30, 40)))
    server.export(tmp_path, source)
    shutil.rmtree(tmp_path / "metadata")
    (tmp_path / "backup").rename(tmp_path / "metadata")
    server.append(source.source, row(40, day=3))
    server.export(tmp_path, source, days=Days(DAYS.last, DAYS.last))
    with pytest.raises(CorruptLakeError):
        server.export(tmp_path, source)
    repaired(tmp_path, source)

    assert server.export(tmp_path, source).new == 0
    assert held(tmp_path, source) == Counter(range(41))


def test_a_stream_that_was_pulled_before_goes_on_by_push(server: Server, source: Feed, tmp_path: Path) -> None:
    """Days without marks are compared by value once, in both directions, and no row is doubled or lost."""
    pulled = source.model_copy(update={"extraction": "pull"})
    assert server.export(tmp_path, pulled).new == 30
    server.append(source.source, row(3), row(50))

    assert server.export(tmp_path, source).new == 2
    server.append(source.source, row(51))
    assert server.export(tmp_path, pulled).new == 1
    server.append(source.source, row(52), row(51))
    assert server.export(tmp_path, source).new == 2
    assert held(tmp_path, source) == Counter([*range(30), 3, 50, 51, 51, 52])


def test_an_empty_stream_is_looked_at(server: Server, tmp_path: Path) -> None:
    """Without any row the export needs longer, and commits that there were none."""
    wanted = feed("nothing_at_all")
    server.ksql(CREATE.format(wanted.source, wanted.name))
    try:
        result = server.export(tmp_path, wanted)
    finally:
        server.ksql(f"DROP STREAM {wanted.source};")

    assert (result.commit, result.new) == (1, 0)
    assert "2025-01-06" in Lake(tmp_path).feed(wanted).state().looked


def test_offsets_become_columns_when_the_feed_asks(server: Server, source: Feed, tmp_path: Path) -> None:
    """Identity by offset names them, and then they are in the files too."""
    identity = Identity(by="offset", columns=("ROWPARTITION", "ROWOFFSET"))
    wanted = source.model_copy(update={"identity": identity})
    server.export(tmp_path, wanted)
    table = Lake(tmp_path).feed(wanted).dataset().to_table(columns=["ROWPARTITION", "ROWOFFSET"])

    assert len({tuple(place.values()) for place in table.to_pylist()}) == 30
    assert server.export(tmp_path, wanted).new == 0


def test_an_event_time_of_its_own_decides_the_day(server: Server, tmp_path: Path) -> None:
    """Rows belong to the day of the feed's column, and to ROWTIME's where that is NULL."""
    wanted = feed("bookings", event_time="AT")
    server.ksql("CREATE STREAM BOOKINGS (ID BIGINT, AT BIGINT) WITH (KAFKA_TOPIC='b', PARTITIONS=2);")
    try:
        times = [row(number, day=2) for number in range(6)]
        rows = [{"ID": item["ID"], "ROWTIME": item["ROWTIME"], "AT": None} for item in times]
        for item in rows[:3]:
            item["AT"] = row(0, day=1)["ROWTIME"]
        server.append("BOOKINGS", *rows)
        for _ in range(2):
            result = server.export(tmp_path, wanted)
    finally:
        server.ksql("DROP STREAM BOOKINGS;")

    assert [part.records for part in result.partitions] == [0, 3, 3, 0]
    assert result.new == 0


@pytest.mark.parametrize("older", [False, True], ids=["recorded", "older_release"])
def test_offsets_seen_before_the_first_row_hide_none(server: Server, tmp_path: Path, older: bool) -> None:
    """Rows that belonged to no day by one event time land by another one, on days asked for later too."""
    wrong, right = feed("reborn", event_time="AT"), feed("reborn")
    server.ksql(
        "CREATE STREAM REBORN (ID BIGINT, NOTE STRING, AT BIGINT) WITH (KAFKA_TOPIC='r', PARTITIONS=2);"
    )
    try:
        server.append("REBORN", *(row(number, day=number % 4, AT=1) for number in range(20)))
        log = Lake(tmp_path).feed(wrong).log
        assert server.export(tmp_path, wrong).new == 0
        manifest = log.manifest(1)
        assert manifest.read is not None
        assert manifest.positions
        if older:
            manifest = structs.replace(manifest, read=structs.replace(manifest.read, meant=None))
            Path(tmp_path, log.layout.manifest(1)).write_bytes(manifest.encode())
        first = server.export(tmp_path, right, days=Days(DAYS.last, DAYS.last))
        whole = server.export(tmp_path, right)
    finally:
        server.ksql("DROP STREAM REBORN;")

    assert (first.new, whole.new, whole.already_there) == (5, 15, 0)
    assert held(tmp_path, right) == Counter(range(20))


def test_an_old_server_is_read_by_value(old_server: Server, tmp_path: Path) -> None:
    """Before 0.23 there are no offsets: rows are compared by value, after a quiet period."""
    wanted = feed("ticks")
    old_server.ksql(CREATE.format("TICKS", "ticks"))
    old_server.append("TICKS", *(row(number) for number in range(10)), row(4))

    first = old_server.export(tmp_path, wanted)
    old_server.append("TICKS", row(4), row(11))
    second = old_server.export(tmp_path, wanted)

    assert (first.new, second.new, second.already_there) == (11, 2, 11)
    assert first.caught_up.startswith("no row from before")
    assert held(tmp_path, wanted) == Counter([*range(10), 4, 4, 11])


def test_a_day_without_files_can_be_certified(server: Server, tmp_path: Path) -> None:
    """A feed read by push query is compared on the columns that land, also where the lake has nothing yet."""
    wanted = feed("unread")
    server.ksql("CREATE STREAM UNREAD (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='unread', PARTITIONS=1);")
    try:
        server.append("UNREAD", row(1), row(2))
        with KsqlClient(load_settings(ksqldb_url=server.url, quiet_seconds=QUIET)) as client:
            before = certify(wanted, DAYS.first, client, Lake(tmp_path))
            server.export(tmp_path, wanted)
            after = certify(wanted, DAYS.first, client, Lake(tmp_path))
    finally:
        server.ksql("DROP STREAM UNREAD;")

    assert (before.equal, before.source_rows, before.lake_rows) == (False, 2, 0)
    assert (after.equal, after.lake_rows) == (True, 2)


@pytest.fixture
def read_too(server: Server, source: Feed) -> Iterator[Feed]:
    """The stream, with another query that reads it too, so that the server reports where Kafka's log ends."""
    sink = f"{source.source}_READ"
    server.ksql(f"CREATE STREAM {sink} AS SELECT ID FROM {source.source} EMIT CHANGES;")
    yield source
    server.ksql(f"DROP STREAM {sink};")


def test_known_ends_prove_an_export_whose_positions_are_not_told(
    server: Server, read_too: Feed, tmp_path: Path
) -> None:
    """Rows from Kafka's ends prove a query with a condition too; its positions need not be reported."""
    assert server.export(tmp_path, read_too).new == 30
    server.append(read_too.source, row(41))
    server.faults({"kind": "no_positions"})

    result = server.export(tmp_path, read_too)

    assert result.new == 1
    assert ["WHERE" in query["statement"] for query in server.asked(read_too.source)] == [False, True]
    assert result.evidence is not None
    assert result.evidence.level == "proven"
    assert "was read to where Kafka's log ended when the query began" in result.caught_up


@pytest.mark.parametrize("rows", [5, 9], ids=["far_shorter", "one_shorter"])
def test_a_topic_made_anew_is_refused_at_its_known_ends(
    server: Server, read_too: Feed, tmp_path: Path, rows: int
) -> None:
    """A topic that ends before a mark's row is another one, also if no positions are reported."""
    server.export(tmp_path, read_too)
    server.faults({"kind": "no_positions"})
    sink = f"{read_too.source}_READ"
    server.ksql(f"DROP STREAM {sink}; DROP STREAM {read_too.source};")
    server.ksql(CREATE.format(read_too.source, read_too.name))
    server.ksql(f"CREATE STREAM {sink} AS SELECT ID FROM {read_too.source} EMIT CHANGES;")
    server.append(read_too.source, *(row(number, day=1) for number in range(500, 500 + 3 * rows)))

    with pytest.raises(TopicRecreatedError, match="the topic is not the one that was read before"):
        server.export(tmp_path, read_too)


def test_a_pulled_day_is_certified_by_push(server: Server, read_too: Feed, tmp_path: Path) -> None:
    """A day that a pull query landed is held against rows with offsets; what the pull brought twice shows."""
    pulled = read_too.model_copy(update={"extraction": "pull"})
    day, right, doubled = date(2025, 1, 7), tmp_path / "right", tmp_path / "doubled"
    server.export(right, pulled)
    twice = {"kind": "duplicate", "source": pulled.source, "rows": 2}
    server.faults({**twice, "times": 1})
    server.export(doubled, pulled, days=Days(day, day))
    settings = load_settings(ksqldb_url=server.url, quiet_seconds=QUIET)
    with KsqlClient(settings) as client:
        equal = certify(pulled, day, client, Lake(right), by="push")
        assert "EMIT CHANGES" in server.asked(read_too.source)[-1]["statement"]
        as_told = certify(pulled, day, client, Lake(right))
        different = certify(pulled, day, client, Lake(doubled), by="push")
        server.faults(twice)
        blind = certify(pulled, day, client, Lake(doubled))

    assert (equal.equal, equal.source_rows, equal.evidence.level) == (True, 10, "proven")
    assert "read to where Kafka's log ended" in equal.evidence.text
    assert (as_told.equal, as_told.source_checksum) == (True, equal.source_checksum)
    assert (different.equal, different.source_rows, different.lake_rows) == (False, 10, 12)
    assert (blind.equal, blind.source_rows) == (True, 12)
