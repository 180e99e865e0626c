"""Every value that ksqlDB would send inexactly lands as it is in the source, by pull and by push."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import ConfigError, DecodeError, StatementError
from ksql_lake.export import Progress, export_feed
from ksql_lake.export.certification import certify
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.report import Status
from ksql_lake.report.attention import attention
from ksql_lake.schema import arrow_schema, parse_schema
from ksql_lake.settings import load_settings
from ksql_lake_tests.export.push.server import DAY, DAYS, FIRST, Server, feed
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.report.lakes import report_of, report_on

MONEY = Decimal("1234567890123456.78")
LONG = Decimal("9999999999999999999999999999.9999999999")
COLUMNS = """N INTEGER, T TIME, TA ARRAY<TIME>, TM MAP<STRING, TIME>,
    ST STRUCT<`a b` DECIMAL(38, 10), T TIME, `IN` STRUCT<M DECIMAL(18, 2), L ARRAY<DECIMAL(18, 2)>>>,
    AA ARRAY<STRUCT<M DECIMAL(18, 2)>>, MM MAP<STRING, STRUCT<M DECIMAL(18, 2)>>,
    SM STRUCT<P MAP<STRING, DECIMAL(18, 2)>>"""
ROW = {
    "N": 1,
    "T": "00:00:01.500",
    "TA": ["00:00:01.999", None, "23:59:59.999"],
    "TM": {"k": "12:00:00.001", "none": None},
    "ST": {"a b": str(LONG), "T": "00:00:00.007", "IN": {"M": str(MONEY), "L": [str(MONEY), None]}},
    "AA": [{"M": str(MONEY)}, None, {"M": None}, {"M": "0.07"}],
    "MM": {"b": {"M": str(MONEY)}, "a": None, "c": {"M": None}},
    "SM": {"P": {"x": str(MONEY), "y": None}},
}
LANDED = {
    "N": 1,
    "T": time(0, 0, 1, 500_000),
    "TA": [time(0, 0, 1, 999_000), None, time(23, 59, 59, 999_000)],
    "TM": {"k": time(12, 0, 0, 1000), "none": None},
    "ST": {"a b": LONG, "T": time(0, 0, 0, 7000), "IN": {"M": MONEY, "L": [MONEY, None]}},
    "AA": [{"M": MONEY}, None, {"M": None}, {"M": Decimal("0.07")}],
    "MM": {"b": {"M": MONEY}, "a": None, "c": {"M": None}},
    "SM": {"P": {"x": MONEY, "y": None}},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own."""
    with DevServer.start() as running:
        yield Server(running.url)


def landed(root: Path, wanted: Feed, *versions: str) -> list[dict[str, Any]]:
    """Return the rows of a dataset, MAPs as dictionaries, without ROWTIME and partition columns."""
    rows = Lake(root).feed(wanted).dataset(partitions=versions or None).to_table().to_pylist()
    for row in rows:
        for name in ("ROWTIME", "year", "month", "day", "version"):
            row.pop(name, None)
        for name in ("TM", "MM"):
            row[name] = dict(row[name]) if row[name] is not None else None
        if row["SM"] is not None:
            row["SM"] = {"P": dict(row["SM"]["P"])}
    return list(rows)


@pytest.mark.parametrize("extraction", ["pull", "push"])
def test_a_stream_lands_exactly_and_once(server: Server, tmp_path: Path, extraction: str) -> None:
    """DECIMALs and TIMEs in every place arrive with all their digits; a second export brings nothing."""
    server.ksql(f"CREATE STREAM VALS_{extraction} ({COLUMNS}) WITH (KAFKA_TOPIC='{extraction}', PARTITIONS=1);")
    nothing = dict.fromkeys(ROW) | {"N": 2}
    server.append(f"VALS_{extraction.upper()}", {"ROWTIME": FIRST, **ROW}, {"ROWTIME": FIRST + 1, **nothing})
    wanted = feed(f"vals_{extraction}", extraction=extraction)
    first, *later = [server.export(tmp_path, wanted) for _ in range(3)]

    assert first.new == 2
    assert [each.new for each in later] == [0, 0]
    assert landed(tmp_path, wanted) == [LANDED, nothing]
    assert [column.name for column in first.schema or ()] == ["ROWTIME", *ROW]


@pytest.mark.parametrize("extraction", ["pull", "push"])
def test_a_table_lands_exactly(server: Server, tmp_path: Path, extraction: str) -> None:
    """Tables have the same values; a deleted row takes nothing of the others with it."""
    name, source = f"TABLE_{extraction.upper()}", "SOURCE " if extraction == "pull" else ""
    keyed = COLUMNS.replace("N INTEGER", "N INTEGER PRIMARY KEY")
    server.ksql(f"CREATE {source}TABLE {name} ({keyed}) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);")
    nothing = dict.fromkeys(ROW) | {"N": 2}
    server.append(name, {**ROW, "N": 3}, {"N": 3, "@tombstone": True}, nothing, ROW)
    wanted = feed(name.lower(), kind="table", extraction=extraction)
    for _ in range(2):
        server.export(tmp_path, wanted)

    for version in ("v1", "v2"):
        rows = landed(tmp_path, wanted, version)
        assert sorted(rows, key=lambda row: int(row["N"])) == [LANDED, nothing]


def test_time_keys_of_a_pulled_table_stay_apart(server: Server, tmp_path: Path) -> None:
    """Keys that differ below a second are as many rows in the lake as in the table."""
    server.ksql("CREATE SOURCE TABLE CLOCK (K TIME PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='clock');")
    server.append("CLOCK", *({"K": f"00:00:0{n // 1000}.{n % 1000:03}", "V": n} for n in (0, 1000, 1500, 1999)))
    wanted = feed("clock", kind="table", extraction="pull")
    server.export(tmp_path, wanted)

    table = Lake(tmp_path).feed(wanted).dataset().to_table()
    found = sorted(zip(table.column("V").to_pylist(), table.column("K").to_pylist(), strict=True))
    assert found == [(n, time(0, 0, n // 1000, n % 1000 * 1000)) for n in (0, 1000, 1500, 1999)]


def test_time_keys_of_changes_are_refused(server: Server, tmp_path: Path) -> None:
    """A push query brings deleted TIME keys in whole seconds: none is sent, and the error names the way out."""
    server.ksql("CREATE TABLE CLOCKS (K TIME PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='clocks');")
    with pytest.raises(ConfigError) as caught:
        server.export(tmp_path, feed("clocks", kind="table"))

    assert str(caught.value) == (
        "feed clocks, column K: a push query brings the TIME key K of a deleted row without its milliseconds"
        ", so rows of the same second cannot be distinguished\nDerive a table whose key is not a TIME, or that "
        "a pull query can read, and export that one: there the milliseconds arrive."
    )
    assert not server.asked("CLOCKS")


@pytest.mark.parametrize("extraction", ["pull", "push"])
def test_timestamp_keys_say_that_they_come_without_era(server: Server, tmp_path: Path, extraction: str) -> None:
    """A push query returns 2 BC and AD 2 as the same key: its commit says so and is not proven."""
    name, source = f"ERAS_{extraction.upper()}", "SOURCE " if extraction == "pull" else ""
    server.ksql(f"CREATE {source}TABLE {name} (K TIMESTAMP PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='{name}');")
    server.append(name, {"K": "2025-01-06T00:00:00", "V": 1})
    evidence = server.export(tmp_path, feed(name.lower(), kind="table", extraction=extraction)).evidence

    assert evidence is not None
    said = "the TIMESTAMP key K comes without its era, so years before 1 are read as later ones"
    assert (said in evidence.text) == (extraction == "push")
    assert extraction == "pull" or evidence.level == "checked"


@pytest.mark.parametrize("extraction", ["pull", "push"])
def test_the_end_of_a_day_is_refused_by_name(server: Server, tmp_path: Path, extraction: str) -> None:
    """24:00:00, for which a server has no text, arrives wrapped and is named; other columns still land."""
    name = f"NIGHT_{extraction.upper()}"
    server.ksql(f"CREATE STREAM {name} (N INT, T TIME) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);")
    server.append(name, {"ROWTIME": FIRST, "N": 1, "T": "24:00:00"}, {"ROWTIME": FIRST, "N": 2, "T": "00:00"})
    with pytest.raises(DecodeError, match="row 1, column T: 86400000 is out of range for a TIME"):
        server.export(tmp_path, feed(name.lower(), extraction=extraction))

    assert server.export(tmp_path, feed(name.lower(), extraction=extraction, columns=["N"])).new == 2


@pytest.mark.parametrize("extraction", ["pull", "push"])
def test_a_windowed_stream_has_its_bounds(server: Server, tmp_path: Path, extraction: str) -> None:
    """Rows that differ in nothing but their window stay two, also where `columns` does not name the bounds."""
    name = f"WIN_{extraction.upper()}"
    server.ksql(
        f"CREATE STREAM {name} (U STRING KEY, N BIGINT) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1, "
        "WINDOW_TYPE='TUMBLING', WINDOW_SIZE='1 HOUR');"
    )
    hours = [(FIRST - 3_600_000, FIRST), (FIRST, FIRST + 3_600_000)]
    server.append(
        name, *({"ROWTIME": FIRST, "U": "u", "N": 1, "WINDOWSTART": a, "WINDOWEND": b} for a, b in hours)
    )
    whole = feed(name.lower(), extraction=extraction)
    part = feed(f"{name.lower()}_part", source=name, extraction=extraction, columns=["N"])
    for wanted in (whole, part):
        assert [server.export(tmp_path, wanted).new for _ in range(2)] == [2, 0]
        table = Lake(tmp_path).feed(wanted).dataset().to_table()
        bounds = [table.column(bound).cast("int64").to_pylist() for bound in ("WINDOWSTART", "WINDOWEND")]
        assert sorted(zip(*bounds, strict=True)) == hours
    assert table.column_names[:4] == ["ROWTIME", "N", "WINDOWSTART", "WINDOWEND"]


def test_an_unexpected_error_is_a_failed_export(server: Server, tmp_path: Path) -> None:
    """Whatever ends an export is noted for the report; an interruption is not, and a success clears it."""
    server.ksql("CREATE STREAM ODD (N INT, AT TIMESTAMP) WITH (KAFKA_TOPIC='odd', PARTITIONS=1);")
    server.append("ODD", {"ROWTIME": FIRST, "N": 1, "AT": "2025-01-06T00:00:00"})
    wanted = feed("odd", extraction="pull")
    schema = parse_schema("`ROWTIME` TIMESTAMP, `N` INTEGER, `AT` TIMESTAMP")
    # A file of an earlier release, with nanoseconds where milliseconds should be: nothing compares with it.
    moment = pa.array([FIRST], pa.timestamp("ms", tz="UTC"))
    columns = [moment, pa.array([1], pa.int32()), pa.array([FIRST * 1_000_000], moment.type)]
    rows = pa.RecordBatch.from_arrays(columns, schema=arrow_schema(schema))
    read = ReadFacts(source="ODD", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
    with Lake(tmp_path).feed(wanted).stage(schema, read=read, days=(DAYS.first, DAYS.last)) as staging:
        staging.write(rows)
        staging.commit()

    with pytest.raises(Exception, match="Conversion Error") as caught:
        server.export(tmp_path, wanted)
    noted = Lake(tmp_path).feed(wanted).failures()
    assert (noted.count, noted.newest[0].error) == (1, type(caught.value).__name__)
    assert noted.newest[0].message.startswith(f"unexpected {type(caught.value).__name__}: Conversion Error")
    assert noted.newest[0].where == {"feed": "odd"}
    report = report_on(tmp_path, wanted)
    assert report.status is Status.FAILING
    assert "1 failed export, the last" in report.reason
    assert "Conversion Error" in report.reason

    def interrupt(_progress: Progress) -> None:
        raise InterruptedError

    with KsqlClient(load_settings(ksqldb_url=server.url)) as client, pytest.raises(InterruptedError):
        export_feed(wanted, client, Lake(tmp_path), days=DAYS, on_progress=interrupt)
    assert Lake(tmp_path).feed(wanted).failures().count == 1


@pytest.mark.parametrize("extraction", ["pull", "push"])
def test_half_a_character_is_refused_or_replaced_and_counted(
    server: Server, tmp_path: Path, extraction: str
) -> None:
    """A lone surrogate fails its day by row and column, or becomes U+FFFD and a number in the commit."""
    name = f"HALF_{extraction.upper()}"
    columns = "N INT, S STRING, M MAP<STRING, STRING>"
    server.ksql(f"CREATE STREAM {name} ({columns}) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);")
    server.append(
        name,
        {"ROWTIME": FIRST, "N": 1, "S": "whole \U0001f600", "M": {"\U0001f600": "\u00e9"}},
        {"ROWTIME": FIRST + 1, "N": 2, "S": "a\ud83dz", "M": {"k\ude00": "\ud83d"}},
    )
    with pytest.raises(DecodeError, match=r'row 2, column S: "a\\ud83dz" holds bytes or half a surrogate'):
        server.export(tmp_path, feed(name.lower(), extraction=extraction))
    wanted = feed(name.lower(), extraction=extraction, on_bad_text="replace")
    first, second = server.export(tmp_path, wanted), server.export(tmp_path, wanted)

    assert (first.new, second.new, first.replaced_texts) == (2, 0, 3)
    rows = Lake(tmp_path).feed(wanted).dataset().to_table().to_pylist()
    assert [row["S"] for row in rows] == ["whole \U0001f600", "a\ufffdz"]
    assert [row["M"] for row in rows] == [[("\U0001f600", "\u00e9")], [("k\ufffd", "\ufffd")]]
    commits = [path.read_text() for path in tmp_path.glob(f"metadata/streams/{wanted.name}/commits/*.json")]
    assert sum('"replaced_texts": 3' in commit for commit in commits) == 2
    assert first.as_dict()["replaced_texts"] == 3


@pytest.mark.parametrize("extraction", ["pull", "push"])
@pytest.mark.parametrize("kind", ["table", "stream"])
def test_half_a_character_in_a_key_is_never_replaced(
    server: Server, tmp_path: Path, kind: str, extraction: str
) -> None:
    """Two keys would become one, and a row would be lost: it is refused by its column, and nothing lands."""
    name = f"KEYED_{kind}_{extraction}".upper()
    made = f"SOURCE TABLE {name} (K STRING PRIMARY KEY" if kind == "table" else f"STREAM {name} (K STRING KEY"
    server.ksql(f"CREATE {made}, V INT) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);")
    server.append(name, *({"ROWTIME": FIRST, "K": key, "V": 1} for key in ("a\ud800", "a\udc00", "b")))
    keyed = {"identity": {"by": "key", "columns": ["K"]}} if kind == "stream" else {}
    wanted = feed(name.lower(), kind=kind, extraction=extraction, on_bad_text="replace", **keyed)

    with pytest.raises(DecodeError, match=r"column K: .* holds bytes or half a surrogate") as caught:
        server.export(tmp_path, wanted)

    assert "replaces no text by which rows or entries are told apart" in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("extraction", ["pull", "push"])
def test_one_bad_row_does_not_stop_other_days(server: Server, tmp_path: Path, extraction: str) -> None:
    """All days but the bad row's land, at every export; the failure names the day and stays."""
    name = f"DAYS_{extraction.upper()}"
    server.ksql(f"CREATE STREAM {name} (N INT, T TIME) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);")
    times = ["00:00", "24:00:00", "00:01", "00:02"]
    rows = ({"ROWTIME": FIRST + day * DAY, "N": day, "T": text} for day, text in enumerate(times))
    server.append(name, *rows)
    wanted = feed(name.lower(), extraction=extraction)
    for number in range(2):
        with pytest.raises(
            DecodeError, match=r"partition 2025-01-07, row \d, column T: 86400000 is out of range"
        ):
            server.export(tmp_path, wanted)
        assert Lake(tmp_path).feed(wanted).failures().count == number + 1
        table = Lake(tmp_path).feed(wanted).dataset().to_table()
        assert sorted(table.column("N").to_pylist()) == [0, 2, 3]


def test_certify_says_what_it_cannot_see(server: Server, tmp_path: Path) -> None:
    """Values that an earlier release read less exactly are named instead of being called different."""
    server.ksql("CREATE STREAM SEEN (N INT, T TIME) WITH (KAFKA_TOPIC='seen', PARTITIONS=1);")
    server.append("SEEN", {"ROWTIME": FIRST, "N": 1, "T": "00:00:01.500"})
    schema = parse_schema("`ROWTIME` TIMESTAMP, `N` INTEGER, `T` TIME")
    columns = [
        pa.array([FIRST], pa.timestamp("ms", tz="UTC")),
        pa.array([1], pa.int32()),
        pa.array([1_000_000], pa.time64("us")),
    ]
    facts = ReadFacts(source="SEEN", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
    wanted = feed("seen", extraction="pull")
    with Lake(tmp_path).feed(wanted).stage(schema, read=facts, days=(DAYS.first, DAYS.last)) as staging:
        staging.write(pa.RecordBatch.from_arrays(columns, schema=arrow_schema(schema)))
        staging.commit()

    with KsqlClient(load_settings(ksqldb_url=server.url)) as client:
        found = certify(wanted, DAYS.first, client, Lake(tmp_path))
    assert server.export(tmp_path, wanted).new == 0
    assert (found.equal, found.columns, found.unseen) == (True, ("ROWTIME", "N"), ("T",))


def _later(days: int) -> datetime:
    """Return now and so many days, in whole milliseconds."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


@pytest.mark.parametrize("event_time", ["ROWTIME", "AT", "STAMP"])
def test_a_pull_counts_rows_of_the_future(
    server: Server, tmp_path: Path, event_time: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They land in no day and disturb none; the commit, the result, the log and the report count them."""
    name = f"AHEAD_{event_time}"
    server.ksql(
        f"CREATE STREAM {name} (N INT, AT BIGINT, STAMP TIMESTAMP) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);"
    )
    times = [_later(days) for days in (-1, 0, 2, 3)]
    server.append(
        name,
        *(
            {"ROWTIME": _millis(at), "N": n, "AT": _millis(at), "STAMP": at.strftime("%Y-%m-%dT%H:%M:%S")}
            for n, at in enumerate(times)
        ),
    )
    start = _later(-3).date()
    wanted = feed(name.lower(), extraction="pull", start_date=start.isoformat(), event_time=event_time)
    first, second = (server.export(tmp_path, wanted, days=None) for _ in range(2))

    assert (first.new, first.read, second.new) == (2, 2, 0)
    assert sorted(Lake(tmp_path).feed(wanted).dataset().to_table().column("N").to_pylist()) == [0, 1]
    assert first.as_dict()["outside"] == second.as_dict()["outside"] == {"in the future": 2}
    assert "rows that belong to no day of the feed did not land: 2 in the future" in caplog.text
    said = "the last export saw rows that belong to no day of the feed and did not land: 2 in the future"
    report = report_of(tmp_path, wanted, now=_later(0))
    assert said in report.feeds[0].remarks
    assert report.feeds[0].left_out == {"in the future": 2}
    points = {point.label: point.text for point in attention(report)}
    assert points["left out"].endswith("did not land, because no day of the feed has them: 2 in the future")


def test_a_row_of_the_future_that_cannot_be_read_stops_no_day(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The days are read without it, as if it were not there, and the log says so."""
    server.ksql("CREATE STREAM AHEAD_BAD (N INT, T TIME) WITH (KAFKA_TOPIC='ahead_bad', PARTITIONS=1);")
    server.append(
        "AHEAD_BAD",
        {"ROWTIME": _millis(_later(0)), "N": 1, "T": "00:00"},
        {"ROWTIME": _millis(_later(2)), "N": 2, "T": "24:00:00"},
    )
    start = _later(-1).date()
    wanted = feed("ahead_bad", extraction="pull", start_date=start.isoformat())

    assert server.export(tmp_path, wanted, days=None).new == 1
    assert (
        "out of range for a TIME (milliseconds of the day); reading without rows of the future" in caplog.text
    )


REFUSED_MAP = (
    b'{"@type":"statement_error","error_code":40001,"message":"Function \'MAP_KEYS\' does not accept '
    b'parameters (MAP<INTEGER, STRUCT<M DECIMAL(9, 2)>>)."}'
)


@pytest.mark.parametrize(("kind", "extraction"), [("stream", "pull"), ("stream", "push"), ("table", "push")])
def test_a_map_that_the_server_cannot_take_apart_is_named(tmp_path: Path, kind: str, extraction: str) -> None:
    """The refusal of MAP_KEYS names the column and how to leave it out, and stays in the error."""
    money = {
        "type": "DECIMAL",
        "parameters": {"precision": 9, "scale": 2},
        "fields": None,
        "memberSchema": None,
    }
    held = {"type": "STRUCT", "fields": [{"name": "M", "schema": money}], "memberSchema": None}
    plain = {"type": "INTEGER", "fields": None, "memberSchema": None}
    columns = [
        {"name": "K", "schema": plain, "type": "KEY"},
        {"name": "COSTS", "schema": {"type": "MAP", "fields": None, "memberSchema": held}},
    ]
    source = {"name": "EVENTS", "type": kind.upper(), "fields": columns, "topic": "events", "partitions": 1}
    source |= {"statement": "CREATE", "writeQueries": [{"id": "C_1", "sinks": ["EVENTS"], "queryString": ""}]}
    wanted = feed("events", kind=kind, extraction=extraction)
    with ScriptedServer() as server:
        server.script("/info", answer(b'{"KsqlServerInfo":{"version":"8.0.7"}}'))
        server.script("/ksql", answer(msgspec.json.encode([{"sourceDescription": source}])))
        server.script("/query", answer(REFUSED_MAP, 400))
        with (
            KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client,
            pytest.raises(StatementError) as caught,
        ):
            export_feed(wanted, client, Lake(tmp_path), days=DAYS if kind == "stream" else None)

    said = str(caught.value)
    assert "feed events" in said
    assert "column COSTS" in said
    assert "probably because its keys are not STRING" in said
    assert "'MAP_KEYS' does not accept parameters (MAP<INTEGER" in said
    assert "Name the other columns in the feed's `columns`" in said
