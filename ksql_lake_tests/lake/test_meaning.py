"""What the first rows of a feed pin: a change of it is refused, and nothing that may change is."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from ksql_lake.errors import MeaningChangeError, SourceRecreatedError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import Commit, Lake, ReadFacts
from ksql_lake.lake.commit.meaning import Meaning, Origin, check_meaning, learnt, meaning_of, refuse_changes
from ksql_lake.lake.doctor import examine, repair
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.soundness import UnsoundError
from ksql_lake.schema import Schema, arrow_schema, parse_schema
from ksql_lake_tests.lake.landing import EVENTS, FIRST, Row, event, land_rows, stream_feed, table_feed

ORIGIN = Origin(topic="events", kafka_cluster="k1", service="s1")
HELD = ("ROWTIME", "ID", "NOTE")


def land(
    lake: Lake, feed: Feed, rows: list[Row], *, origin: Origin | None = ORIGIN, schema: Schema = EVENTS
) -> Commit:
    """Export rows of three days as a run does that has asked the server."""
    read = ReadFacts(source=feed.source, statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
    store = lake.feed(feed)
    if origin is not None:
        store.check(origin)
    days: tuple[date, date] = (FIRST, FIRST + timedelta(days=2))
    with store.stage(schema, read=read, days=days, origin=origin) as staging:
        staging.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(schema)))
        return staging.commit()


CHANGES: dict[str, tuple[dict[str, object], Origin, str]] = {
    "source": (
        {"source": "OTHERS"},
        ORIGIN,
        "`source` was EVENTS for the rows that the lake holds, and is OTHERS",
    ),
    "topic": ({}, msgspec.structs.replace(ORIGIN, topic="t2"), "the source's topic was events"),
    "kafka": ({}, msgspec.structs.replace(ORIGIN, kafka_cluster="k2"), "the Kafka cluster was k1"),
    "service": ({}, msgspec.structs.replace(ORIGIN, service="s2"), "the ksqlDB cluster (service id) was s1"),
    "timezone": ({"timezone": "Europe/Berlin"}, ORIGIN, "`timezone` was UTC"),
    "event_time": ({"event_time": "ID"}, ORIGIN, "`event_time` was ROWTIME"),
    "identity": (
        {"identity": {"by": "key", "columns": ["ID"]}},
        ORIGIN,
        "`identity` was row for the rows that the lake holds, and is key (ID) now",
    ),
    "rename": ({"rename": {"NOTE": "REMARK"}}, ORIGIN, "column NOTE is NOTE in the rows"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_the_rows_mean_does_not_change(tmp_path: Any, what: str) -> None:
    """Once rows are there, a change of what they mean is refused, with what it would do and the ways out."""
    keys, origin, says = CHANGES[what]
    lake = Lake(tmp_path)
    land(lake, stream_feed(), [event(1)])

    with pytest.raises(MeaningChangeError) as caught:
        land(lake, stream_feed(**keys), [event(1)], origin=origin)

    text = str(caught.value)
    assert says in text
    assert "Nothing was read. Put " in text
    assert (
        " back; or keep this lake and begin a new feed under another name: `ksql-lake feeds archive events`"
        in text
    )
    assert land(lake, stream_feed(), [event(1)]).manifest.operation == "look"


@pytest.mark.parametrize("what", CHANGES)
def test_nothing_is_pinned_before_the_first_row(tmp_path: Any, what: str) -> None:
    """A feed that was only looked at may still be corrected."""
    keys, origin, _ = CHANGES[what]
    lake = Lake(tmp_path)
    assert land(lake, stream_feed(), []).manifest.meaning is None

    land(lake, stream_feed(**keys), [], origin=origin)

    assert lake.feed(stream_feed()).state().meaning is None


FREE: dict[str, object] = {
    "description": "other words",
    "schedule": "0 5 * * *",
    "checks": {"min_records": 3},
    "owners": ["team:payments"],
    "compression": "snappy",
    "lookback_days": 3,
    "columns": ["ID"],
    "extraction": "push",
    "start_date": "2024-12-01",
}


@pytest.mark.parametrize("key", FREE)
def test_free_keys_change_and_the_next_commit_says_so(tmp_path: Any, key: str) -> None:
    """A key that does not change what rows mean may change; the next commit records it, and no other does."""
    lake = Lake(tmp_path)
    land(lake, stream_feed(), [event(1)])
    changed = stream_feed(**{key: FREE[key]})

    first, again = (land(lake, changed, [event(1)]) for _ in range(2))

    assert first.manifest.settings is not None
    assert first.manifest.settings[key] == FREE[key]
    assert again.manifest.settings is None
    assert lake.feed(changed).state().settings == first.manifest.settings


def test_the_meaning_stands_in_the_commit_and_in_every_footer(tmp_path: Any) -> None:
    """It is written down once in the log, and comes back from the footers when all metadata is lost."""
    lake, feed = Lake(tmp_path), stream_feed()
    first = land(lake, feed, [event(1)])
    second = land(lake, feed, [event(1), event(2)])
    expected = Meaning(
        source="EVENTS",
        topic="events",
        kafka_cluster="k1",
        service="s1",
        timezone="UTC",
        event_time="ROWTIME",
        event_unit="ms",
        identity=("row",),
        rename={},
    )
    assert (first.manifest.meaning, second.manifest.meaning) == (expected, None)
    layout = FeedLayout("stream", "events")
    for path in (tmp_path / layout.metadata).rglob("*.json"):
        path.unlink()

    list(repair(lake.storage, examine(lake.storage, layout)))

    assert Lake(tmp_path).feed(feed).state().meaning == expected
    with pytest.raises(MeaningChangeError):
        land(Lake(tmp_path), stream_feed(timezone="Europe/Berlin"), [event(1)])


def test_a_lake_of_an_early_release_learns_what_it_can(tmp_path: Any) -> None:
    """Rows without a record are held to what their footers say, and the next export records the rest."""
    lake = Lake(tmp_path)
    land_rows(lake, stream_feed(), [event(1)])
    assert lake.feed(stream_feed()).state().meaning is None

    for keys in ({"timezone": "Europe/Berlin"}, {"source": "OTHERS"}, {"event_time": "ID"}):
        with pytest.raises(MeaningChangeError):
            land(lake, stream_feed(**keys), [event(1)])
    commit = land(lake, stream_feed(), [event(1)])

    assert commit.manifest.operation == "look"
    assert commit.manifest.meaning is not None
    with pytest.raises(MeaningChangeError):
        land(lake, stream_feed(identity={"by": "key", "columns": ["ID"]}), [event(1)])


def test_what_a_server_does_not_tell_is_learnt_later(tmp_path: Any) -> None:
    """An unknown id agrees with any, and is pinned when the server reports it."""
    lake, feed = Lake(tmp_path), stream_feed()
    land(lake, feed, [event(1)], origin=Origin(topic="events"))
    land(lake, feed, [event(1)], origin=ORIGIN)
    land(lake, feed, [event(1)], origin=Origin())

    with pytest.raises(MeaningChangeError, match="Kafka cluster was k1"):
        land(lake, feed, [event(1)], origin=Origin(kafka_cluster="k2"))


def test_another_run_may_have_pinned_first(tmp_path: Any) -> None:
    """Of two first exports with different time zones only one lands, whenever they began."""
    lake = Lake(tmp_path)
    read = ReadFacts(source="EVENTS", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
    slow = Lake(tmp_path).feed(stream_feed(timezone="Europe/Berlin"))
    with slow.stage(EVENTS, read=read, days=(FIRST, FIRST), origin=ORIGIN) as staging:
        staging.write(pa.RecordBatch.from_pylist([event(1)], schema=arrow_schema(EVENTS)))
        land(lake, stream_feed(), [event(1)])

        with pytest.raises(MeaningChangeError):
            staging.commit()

    assert lake.feed(stream_feed()).state().records == 1


def test_a_tables_versions_are_of_one_source() -> None:
    """A table's source and server are pinned like a stream's; it has no days or identity to pin."""
    meaning = meaning_of(table_feed(), ORIGIN)
    assert (meaning.timezone, meaning.identity) == ("", ())

    with pytest.raises(MeaningChangeError, match="`source` was USERS"):
        refuse_changes(table_feed(source="OTHERS"), meaning, meaning_of(table_feed(source="OTHERS")), held=())


def test_a_column_of_another_type_may_get_another_name() -> None:
    """Renaming is the way out of a type that cannot be read as one; any other renaming is refused."""
    feed = stream_feed(rename={"NOTE": "NOTE_TEXT"})
    pinned, now = meaning_of(stream_feed(), ORIGIN), meaning_of(feed, ORIGIN)
    retyped = msgspec.structs.replace(ORIGIN, retyped=frozenset({"NOTE"}))

    refuse_changes(feed, pinned, now, held=HELD, origin=retyped)
    refuse_changes(feed, pinned, now, held=("ROWTIME", "ID"), origin=ORIGIN)
    with pytest.raises(MeaningChangeError, match="rename"):
        refuse_changes(feed, pinned, now, held=HELD, origin=ORIGIN)


def test_a_stream_with_offsets_may_take_the_place_of_its_source() -> None:
    """What `feeds prepare` makes reads the same rows: it is no other source."""
    feed = stream_feed(source="EVENTS_LAKE", identity={"by": "offset", "columns": ["RP", "RO"]})
    pinned = meaning_of(stream_feed(), ORIGIN)
    now = meaning_of(feed, msgspec.structs.replace(ORIGIN, topic="EVENTS_LAKE"))
    copy = msgspec.structs.replace(ORIGIN, topic="EVENTS_LAKE", copied=("EVENTS", "RP", "RO"))

    refuse_changes(feed, pinned, now, held=HELD, origin=copy)
    refuse_changes(feed, pinned, meaning_of(feed), held=HELD)
    for copied in ((), ("OTHERS", "RP", "RO")):
        with pytest.raises(MeaningChangeError):
            refuse_changes(feed, pinned, now, held=HELD, origin=msgspec.structs.replace(copy, copied=copied))


def made_by(query: str, **more: Any) -> Origin:
    """What a server reports of a source that a query writes."""
    return msgspec.structs.replace(ORIGIN, made_by=query, **more)


def test_a_source_made_anew_does_not_double_its_rows(tmp_path: Any) -> None:
    """Where another query makes the source now, rows that all come back as new ones are refused."""
    lake, feed = Lake(tmp_path), stream_feed()
    land(lake, feed, [event(1), event(2, day=1)], origin=made_by("CSAS_EVENTS_3"))
    again = [event(101), event(102, day=1)]

    with pytest.raises(SourceRecreatedError) as caught:
        land(lake, feed, again, origin=made_by("CSAS_EVENTS_9"))

    assert (
        "EVENTS was recreated on the server: none of the 2 rows that the lake holds of these days came back"
        in (str(caught.value))
    )
    assert "`ksql-lake export --stream events --new-topic`" in str(caught.value)
    assert lake.feed(feed).state().records == 2
    land(lake, feed, again, origin=made_by("CSAS_EVENTS_9", accepted=True))
    assert lake.feed(feed).state().records == 4
    land(lake, feed, [*again, event(103)], origin=made_by("CSAS_EVENTS_9"))


def test_a_source_made_anew_with_the_same_rows_goes_on(tmp_path: Any) -> None:
    """A source that keeps its rows' times brings back what is held, and is simply known by its new query."""
    lake, feed = Lake(tmp_path), stream_feed()
    land(lake, feed, [event(1)], origin=made_by("CSAS_EVENTS_3"))

    commit = land(lake, feed, [event(1), event(2)], origin=made_by("CSAS_EVENTS_9"))

    assert commit.manifest.counts[0].new == 1
    assert commit.state.meaning == learnt(None, meaning_of(feed, made_by("CSAS_EVENTS_9")))


def test_a_source_made_anew_is_not_trusted_because_it_was_empty_once(tmp_path: Any) -> None:
    """Exports before its rows come leave the question open; the rows are refused as they would be at once."""
    lake, feed = Lake(tmp_path), stream_feed()
    land(lake, feed, [event(1), event(2, day=1)], origin=made_by("CSAS_EVENTS_3"))
    for _ in range(2):
        assert land(lake, feed, [], origin=made_by("CSAS_EVENTS_9")).manifest.meaning is None

    with pytest.raises(SourceRecreatedError):
        land(lake, feed, [event(101), event(102, day=1)], origin=made_by("CSAS_EVENTS_9"))

    assert land(lake, feed, [], origin=made_by("CSAS_EVENTS_9", accepted=True)).manifest.meaning is not None
    land(lake, feed, [event(101), event(102, day=1)], origin=made_by("CSAS_EVENTS_9"))
    assert lake.feed(feed).state().records == 4


def test_a_source_made_anew_is_known_once_its_rows_are_known(tmp_path: Any) -> None:
    """Rows of days that the lake had none of land, and when they come back, the new query is learnt."""
    lake, feed = Lake(tmp_path), stream_feed(start_date="2025-01-01")
    land(lake, feed, [event(1, day=1)], origin=made_by("CSAS_EVENTS_3"))
    anew = [event(101, day=3), event(102, day=3)]
    read = ReadFacts(source=feed.source, statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
    learnt_from = []
    for rows in (anew[:1], anew):
        days = (FIRST + timedelta(days=3), FIRST + timedelta(days=4))
        with lake.feed(feed).stage(EVENTS, read=read, days=days, origin=made_by("CSAS_EVENTS_9")) as staging:
            staging.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(EVENTS)))
            meaning = staging.commit().state.meaning
            learnt_from.append(meaning.made_by if meaning else "")

    assert learnt_from == ["CSAS_EVENTS_3", "CSAS_EVENTS_9"]
    assert lake.feed(feed).state().records == 3


def test_rows_known_by_a_key_do_not_ask_which_query_made_them(tmp_path: Any) -> None:
    """Rows of a source made anew are the same ones by their keys, so its query is learnt at once."""
    lake, feed = Lake(tmp_path), stream_feed(identity={"by": "key", "columns": ["ID"]})
    land(lake, feed, [event(1)], origin=made_by("CSAS_EVENTS_3"))

    meaning = land(lake, feed, [], origin=made_by("CSAS_EVENTS_9")).manifest.meaning

    assert meaning is not None
    assert meaning.made_by == "CSAS_EVENTS_9"


def test_other_events_at_the_same_offsets_land(tmp_path: Any) -> None:
    """A source and its copy that were made anew count their offsets again; no event is lost for it."""
    lake, schema = Lake(tmp_path), parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `P` INTEGER, `O` BIGINT")
    feed = stream_feed(identity={"by": "offset", "columns": ["P", "O"]})

    def placed(number: int, offset: int, *, seconds: int) -> Row:
        return {"ROWTIME": event(seconds)["ROWTIME"], "ID": number, "P": 0, "O": offset}

    old = [placed(number, number, seconds=number) for number in range(3)]
    new = [placed(100 + number, number, seconds=50 + number) for number in range(4)]
    land(lake, feed, old, schema=schema)

    readings = (old, new[:2], new, [*old, *new])
    counts = [land(lake, feed, rows, schema=schema).manifest.counts[0] for rows in readings]

    assert [(count.new, count.already_there) for count in counts] == [(0, 3), (2, 0), (2, 2), (0, 7)]


def test_the_same_events_at_the_same_offsets_land_once(tmp_path: Any) -> None:
    """A killed server writes a record twice, and a broker may give the copy the time of its own clock."""
    lake, schema = Lake(tmp_path), parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `P` INTEGER, `O` BIGINT")
    feed = stream_feed(identity={"by": "offset", "columns": ["P", "O"]})
    rows = [{"ROWTIME": event(number)["ROWTIME"], "ID": number, "P": 0, "O": number} for number in range(3)]
    copies = [{**row, "ROWTIME": row["ROWTIME"] + timedelta(seconds=9)} for row in rows]

    first = land(lake, feed, [*rows, *copies[:1]], schema=schema).manifest.counts[0]
    second = land(lake, feed, [*rows, *copies], schema=schema).manifest.counts[0]

    assert (first.new, first.dropped) == (3, 1)
    assert (second.new, second.already_there + second.dropped) == (0, 6)


def test_a_closed_day_that_comes_back_as_new_is_told(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    """If the server reports no query, a whole closed day of nothing but new rows is at least a warning."""
    lake, feed = Lake(tmp_path), stream_feed()
    land(lake, feed, [event(5), event(6), event(7, day=1)])
    land(lake, feed, [event(5), event(6), event(8), event(7, day=1)])
    assert caplog.text == ""

    land(lake, feed, [event(2, note="again"), event(3), event(4), event(7, day=1)])

    assert "2025-01-15 was read to its end before, and all of its 3 rows came back as new ones" in caplog.text
    assert "2025-01-16" not in caplog.text


@pytest.mark.parametrize(
    "meaning",
    [Meaning(source="x" * 2000), Meaning(rename={"A": "y" * 2000}), Meaning(identity=("name", "A"))],
)
def test_a_meaning_that_no_feed_has_is_not_believed(meaning: Meaning) -> None:
    """A manifest with an endless or unknown meaning is refused like any other that cannot be true."""
    with pytest.raises(UnsoundError):
        check_meaning(meaning)
