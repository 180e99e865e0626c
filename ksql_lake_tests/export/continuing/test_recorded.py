"""Reading on over the bytes that a running 8.0.7 sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ksql_lake.errors import StatementError
from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER, StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.lake.commit.continued import Continuation, Continued, SinkMark, SourceMark
from ksql_lake.lake.commit.marks import Pushed
from ksql_lake.schema import parse_schema
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.recorded import Recording, recording
from ksql_lake_tests.fakes.scripted_server import Request, Script, ScriptedServer, answer
from ksql_lake_tests.ksqldb.conftest import info

DESCRIBED = recording("tokens: DESCRIBE EXTENDED, source offsets")
FROM_START = recording("tokens: from the start of both partitions, 20 rows")
FROM_SEVEN = recording("tokens: from offset 7 and 8")
AT_THE_END = recording("tokens: at the end, nothing new")
BEYOND = recording("tokens: beyond the end")
WRONG_NUMBER = recording("tokens: wrong number of partitions")
IGNORED = recording("tokens: plain stream, token ignored, another kind of query")
DAY = datetime.fromtimestamp(1795800000, UTC).date()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that describes the recorded stream and answers queries as a test says."""
    with ScriptedServer() as scripted:
        scripted.script("/info", answer(info("8.0.7")))
        scripted.script("/ksql", answer(DESCRIBED.body))
        scripted.script("/close-query", answer(b"{}"))
        yield scripted


def feed(**keys: object) -> StreamFeed:
    """The feed of the recorded stream."""
    found = FEED_ADAPTER.validate_python(
        {
            "name": "tok",
            "kind": "stream",
            "source": "TOK_D",
            "start_date": DAY,
            "extraction": "continue",
            "positions": {"partition": "P", "offset": "O"},
            **keys,
        }
    )
    assert isinstance(found, StreamFeed)
    return found


def mark(root: Path, sink: list[int], source: dict[int, int]) -> None:
    """Leave marks as an export would that has read so far; rows are not needed for it."""
    lake = Lake(root).feed(feed())
    marks = Continued(
        query="CSAS_TOK_D_17",
        sink=[SinkMark(number) for number in sink],
        source={number: SourceMark(0, end) for number, end in source.items()},
        since=DAY.isoformat(),
        clock="ROWTIME, UTC",
    )
    read = ReadFacts(
        source="TOK_D",
        statement="",
        read_at="2026-11-28T00:00:00.000+00:00",
        first_day=DAY.isoformat(),
        last_day=DAY.isoformat(),
    )
    schema = parse_schema("`ROWTIME` TIMESTAMP, `K` STRING, `ID` BIGINT, `P` INTEGER, `O` BIGINT")
    pushed = Pushed(continuation=Continuation(marks.sealed(), lake.state().reading, fresh=True))
    with lake.stage(schema, read=read, days=(DAY, DAY)) as staging:
        staging.commit(pushed=pushed)


def export(server: ScriptedServer, root: Path, *tokens: Recording) -> ExportResult:
    """Export with these answers to queries with a token, the last one for all further ones."""
    scripts = [one.script() for one in tokens]

    def choose(request: Request) -> Script:
        if "requestProperties" not in request.json:
            return answer(b'{"@type":"statement_error","error_code":40001,"message":"not now"}', 400)
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    server.choose("/query", choose)
    with KsqlClient(
        load_settings(ksqldb_url=server.url, attempts=1, quiet_seconds=0.3), sleep=lambda _seconds: None
    ) as client:
        return export_feed(feed(), client, Lake(root), days=Days(DAY, DAY))


def asked(server: ScriptedServer) -> list[Request]:
    """The queries with a token."""
    return [request for request in server.asked("/query") if "requestProperties" in request.json]


def ids(root: Path) -> list[int]:
    """The ids that landed."""
    return sorted(Lake(root).feed(feed()).dataset().to_table(columns=["ID"])["ID"].to_pylist())


def test_the_recorded_rows_land_and_are_proven(server: ScriptedServer, tmp_path: Path) -> None:
    """Twenty rows, once each, up to the ends that DESCRIBE reported; the query is the one that was measured."""
    mark(tmp_path, [0, 0], {})
    result = export(server, tmp_path, FROM_START)

    assert (result.new, result.received) == (20, 20)
    assert ids(tmp_path) == list(range(20))
    assert result.evidence is not None
    assert result.evidence.level == "proven"
    assert "0: 10 of 10, 1: 10 of 10" in result.evidence.text
    (request,) = asked(server)
    assert request.json["ksql"] == "SELECT ROWTIME, `K`, `ID`, `P`, `O` FROM `TOK_D` EMIT CHANGES;"
    assert request.json["streamsProperties"] == FROM_START.properties
    marks = Lake(tmp_path).feed(feed()).state().continued
    assert marks is not None
    assert [part.next for part in marks.sink] == [11, 9]
    assert [(part.next, part.time) for part in marks.source.values()] == [
        (10, 1795800018000),
        (10, 1795800019000),
    ]


def test_a_part_lands_from_its_offsets(server: ScriptedServer, tmp_path: Path) -> None:
    """Begun at 7 and 8 the five rows complete what was known of the source before."""
    mark(tmp_path, [7, 8], {0: 10, 1: 5})
    source = {"o": [17, 11, 13, 15, 19]}
    result = export(server, tmp_path, FROM_SEVEN)

    assert ids(tmp_path) == sorted(source["o"])
    assert result.received == 5


@pytest.mark.parametrize(
    ("recorded", "why"),
    [
        (
            IGNORED,
            "the server ignored the token and began an ordinary query (transient_TOK_S_1714827718186213273)",
        ),
        (BEYOND, "the server sent neither a row nor a token for"),
        (WRONG_NUMBER, "Should be equal other:2, offsets:3"),
        (AT_THE_END, "a batch begins at [10, 10], and the one before ended at [0, 0]"),
    ],
    ids=["ignored", "beyond", "wrong number", "elsewhere"],
)
def test_recorded_traps_are_named(
    server: ScriptedServer, tmp_path: Path, recorded: Recording, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is noticed, nothing of it lands, and the fall-back says which it was."""
    mark(tmp_path, [0, 0], {})
    with pytest.raises(StatementError, match="not now"):  # the pull query that follows is not the matter here
        export(server, tmp_path, recorded)

    assert not Lake(tmp_path).feed(feed()).state().partitions
    assert [
        line for line in caplog.messages if why in line and line.endswith("reading by pull query this time")
    ]
