"""Promises on recorded streams: what lands of a pull or a push query, and as how sure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ksql_lake.errors import (
    EvidenceError,
    IncompleteResponseError,
    PropertyRefusedError,
    ServerUnavailableError,
)
from ksql_lake.export import Days, ExportResult, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.properties import ISOLATION, LEGACY_WRITER, SESSION_TIMEOUT
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.manifest import ReadFacts
from ksql_lake.settings import Settings
from ksql_lake_tests.fakes.recorded import recording
from ksql_lake_tests.fakes.scripted_server import (
    SILENCE,
    Heartbeat,
    Request,
    Script,
    ScriptedServer,
    answer,
    chunk,
    chunked,
    head,
)
from ksql_lake_tests.ksqldb.conftest import generic, info

PULL = recording("safe: stream pull, all properties, 20 rows")
PUSH = recording("safe: push from earliest, client hangs up after 8 s")
DAY = datetime.fromtimestamp(1795800000, UTC).date()


def described(*, derived: bool = False, read: bool = True) -> bytes:
    """DESCRIBE of the recorded stream; constructed, but for its names."""
    plain = {"fields": None, "memberSchema": None}
    source = {
        "name": "TOK_S",
        "type": "STREAM",
        "fields": [
            {"name": "K", "schema": {"type": "STRING", **plain}, "type": "KEY"},
            {"name": "ID", "schema": {"type": "BIGINT", **plain}},
        ],
        "topic": "tok_s",
        "partitions": 2,
        "statement": "CREATE STREAM TOK_S ...",
        "readQueries": [{"id": "CSAS_TOK_D_17", "sinks": ["TOK_D"]}] if read else [],
        "writeQueries": [{"id": "CSAS_TOK_S_9", "sinks": ["TOK_S"]}] if derived else [],
    }
    return msgspec.json.encode([{"@type": "sourceDescription", "sourceDescription": source}])


def statements(description: bytes) -> Callable[[Request], Script]:
    """What is recorded of the stream's reader and of the queries, beside the constructed description."""

    def choose(request: Request) -> Script:
        sql = request.json["ksql"]
        if sql == "DESCRIBE `TOK_D` EXTENDED;":
            return recording("tokens: DESCRIBE EXTENDED, source offsets").script()
        if sql.startswith("DESCRIBE"):
            return answer(description)
        return recording("SHOW QUERIES EXTENDED with a repartition and a source table").script()

    return choose


class Exported:
    """A server of the recorded stream, a client, and a lake."""

    def __init__(self, server: ScriptedServer, client: KsqlClient, root: Path) -> None:
        self.server = server
        self.client = client
        self.root = root

    def __call__(self, **keys: object) -> ExportResult:
        """Export the day of the recorded rows."""
        days = keys.pop("days", Days(DAY, DAY))
        feed = FEED_ADAPTER.validate_python(
            {"kind": "stream", "name": "s", "source": "TOK_S", "start_date": DAY.isoformat(), **keys}
        )
        assert isinstance(days, Days)
        result = export_feed(feed, self.client, Lake(self.root), days=days)
        self.feed = feed
        return result

    @property
    def read(self) -> ReadFacts:
        """What the last commit says of the reading."""
        found = Lake(self.root).feed(self.feed).state().last_read
        assert found is not None
        return found

    def reads(self) -> list[Request]:
        """The queries that ask for the stream's rows, and not for the server's clock."""
        return [request for request in self.server.asked("/query") if "`K`" in request.json["ksql"]]

    def landed(self) -> list[Path]:
        """The files that any reader sees."""
        return list(self.root.rglob("*.parquet"))


@contextmanager
def exporting(
    root: Path, query: Callable[[Request], Script], *, description: bytes | None = None, **settings: Any
) -> Iterator[Exported]:
    """Export the recorded stream from a server that answers its queries in some way."""
    with ScriptedServer() as server:
        server.script("/info", answer(info("8.0.7")))
        server.choose("/ksql", statements(description or described()))
        server.choose("/query", query)
        server.script("/close-query", answer(b""))
        found = Settings(ksqldb_url=server.url, **{"attempts": 1, "quiet_seconds": 0.5, **settings})
        with KsqlClient(found, sleep=lambda _: None) as client:
            yield Exported(server, client, root)


def test_a_recorded_pull_lands_proven(tmp_path: Path) -> None:
    """The older writer's last word, and a session that no pause ends: all rows, once, and committed."""
    with exporting(tmp_path, lambda _: PULL.script()) as export:
        assert export().new == 20
        evidence = export.read.evidence
        request, *_ = export.reads()
    assert evidence is not None
    assert (evidence.level, evidence.isolation, evidence.caveats) == ("proven", "committed", [])
    assert request.json["streamsProperties"] == PULL.properties


def test_an_empty_recorded_pull_is_proven_as_well(tmp_path: Path) -> None:
    """A day without rows is a fact."""
    empty = recording("safe: stream pull, empty window")
    with exporting(tmp_path, lambda _: empty.script()) as export:
        assert export().read == 0
        assert export.read.evidence is not None
        assert export.read.evidence.level == "proven"


def test_a_derived_streams_isolation_is_not_known(tmp_path: Path) -> None:
    """Its rows are what its own query has read, whatever isolation we ask for."""
    with exporting(tmp_path, lambda _: PULL.script(), description=described(derived=True)) as export:
        export()
        assert export.read.evidence is not None
        assert (export.read.evidence.level, export.read.evidence.isolation) == ("proven", "unknown")


def test_uncommitted_rows_land_only_where_the_feed_takes_them(tmp_path: Path) -> None:
    """The property is not sent then, and the commit says what was read."""
    with exporting(tmp_path, lambda _: PULL.script()) as export:
        export(isolation="uncommitted")
        assert ISOLATION not in export.server.asked("/query")[0].json["streamsProperties"]
        assert export.read.evidence is not None
        assert export.read.evidence.isolation == "uncommitted"


def refusing(*names: str) -> Callable[[Request], Script]:
    """A server that prohibits some properties, and answers what is left with the recorded pull."""

    def choose(request: Request) -> Script:
        found = [name for name in names if name in request.json["streamsProperties"]]
        text = f"One or more properties overrides set locally are prohibited by the KSQL server: {found}"
        return answer(generic(40000, text), 400) if found else PULL.script()

    return choose


@pytest.mark.parametrize(
    ("name", "text"),
    [(LEGACY_WRITER, "its writer ends an answer in the same way"), (SESSION_TIMEOUT, "rows may repeat")],
)
def test_without_a_property_a_pull_is_checked_and_says_what_is_lost(
    tmp_path: Path, name: str, text: str
) -> None:
    """The export does not fail, the commit keeps the reason, and a feed that wants a proof refuses it."""
    with exporting(tmp_path, refusing(name)) as export:
        assert export().new == 20
        evidence = export.read.evidence
        assert evidence is not None
        assert evidence.level == "checked"
        assert text in evidence.text
        assert [name in caveat for caveat in evidence.caveats] == [True]
        with pytest.raises(EvidenceError, match="checked, not proven"):
            export(evidence="proven")


def test_without_isolation_nothing_lands_unless_the_feed_says_so(tmp_path: Path) -> None:
    """An export that could hold rows of aborted transactions is not made by default."""
    with exporting(tmp_path, refusing(ISOLATION)) as export:
        with pytest.raises(PropertyRefusedError, match="committed records only"):
            export()
        assert not export.landed()
        assert export(isolation="uncommitted").new == 20


def test_a_brokers_session_limit_costs_no_try_and_is_kept(tmp_path: Path) -> None:
    """The recorded failure comes at once; it is asked again with shorter sessions, and rows may repeat."""
    header = PULL.body.split(b"\n")[0] + b"\n"
    failure = recording("session limit of the broker 60 s: session 1500000, legacy").body.split(b"\n", 1)[1]

    def limited(request: Request) -> Script:
        too_long = request.json["streamsProperties"][SESSION_TIMEOUT] > 60_000
        return chunked(header, failure) if too_long else PULL.script()

    with exporting(tmp_path, limited) as export:
        result = export()
        evidence = export.read.evidence
        asked = [request.json["streamsProperties"][SESSION_TIMEOUT] for request in export.reads()]
    assert (result.new, result.attempts) == (20, 1)
    assert asked == [1_500_000, 300_000, 60_000]
    assert evidence is not None
    assert evidence.level == "checked"
    assert evidence.caveats == [f"{SESSION_TIMEOUT} above 60 s: rows may repeat after a longer pause"]


def pushing(script: Script) -> Callable[[Request], Script]:
    """Answers a push query; one that begins at the latest row brings nothing."""

    def choose(request: Request) -> Script:
        if "`K`" not in request.json["ksql"]:
            return answer(generic(40001, "the clock is not recorded"), 400)
        latest = request.json["streamsProperties"].get("auto.offset.reset") == "latest"
        schema = b"`ROWPARTITION` INTEGER, `ROWOFFSET` BIGINT"
        header = b'[{"header":{"queryId":"transient_TOK_S_2","schema":"%b"}},\n' % schema
        return chunked(header, SILENCE) if latest else script

    return choose


def test_a_recorded_push_lands_proven_by_its_offsets(tmp_path: Path) -> None:
    """Recorded: both partitions ended at 10, rows came up to offset 9 of each, then heartbeats for ever.

    No request ends it; the connection is dropped.
    """
    with exporting(tmp_path, pushing(PUSH.script())) as export:
        assert export(extraction="push").new == 20
        read = export.read
        assert export.server.asked("/query")[0].client_left.wait(30)
        assert not export.server.asked("/close-query")
    assert (read.judged_by, read.extraction) == ("offsets", "push")
    assert read.evidence is not None
    assert (read.evidence.level, read.evidence.isolation) == ("proven", "committed")
    assert "where Kafka's log ended when the query began (20 in 2)" in read.caught_up


def test_a_push_without_known_ends_is_checked(tmp_path: Path) -> None:
    """No other query reads the topic, so its end is unknown; silence is no proof."""
    with exporting(tmp_path, pushing(PUSH.script()), description=described(read=False)) as export:
        assert export(extraction="push").new == 20
        read = export.read
    assert read.judged_by == "silence"
    assert read.evidence is not None
    assert read.evidence.level == "checked"


def test_a_push_that_does_not_reach_the_ends_is_not_taken_for_whole(tmp_path: Path) -> None:
    """Constructed from the recorded one: a partition's last row is missing, and the server says it is over."""
    short = chunked(one_row_short(), b'{"finalMessage":"Query Completed"}]')
    with exporting(tmp_path, pushing(short)) as export:
        with pytest.raises(IncompleteResponseError, match="the server closed the query after 19 rows"):
            export(extraction="push")
        assert not export.landed()


def test_a_push_that_loses_its_heartbeats_before_the_ends_lands_nothing(tmp_path: Path) -> None:
    """The older writer sends one each second, so their absence is a broken connection and no silence."""
    with exporting(tmp_path, pushing(chunked(one_row_short(), SILENCE)), read_timeout=3) as export:
        with pytest.raises(ServerUnavailableError, match="fell silent for 3 s"):
            export(extraction="push")
        assert not export.landed()


def test_a_push_whose_last_row_never_comes_is_waited_for_and_then_only_checked(tmp_path: Path) -> None:
    """The record at the end may be one that ksqlDB passes over: silence decides, after a longer time."""
    beating = Script([head(Transfer_Encoding="chunked"), chunk(one_row_short()), Heartbeat(chunk(b"\n"))])
    with exporting(tmp_path, pushing(beating), read_timeout=3) as export:
        assert export(extraction="push").new == 19
        read = export.read
    assert (read.judged_by, read.caught_up) == ("silence", "no row from before the query began came for 3.5 s")
    assert read.evidence is not None
    assert read.evidence.level == "checked"


def one_row_short() -> bytes:
    """The recorded push query without its last row, the newest record of a partition."""
    return b"\n".join(PUSH.body.rstrip(b"\n").split(b"\n")[:-1]) + b"\n"
