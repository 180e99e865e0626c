"""Promises on what real servers answered: every recorded read ends as it has to, in its own chunks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate, pairwise
from typing import Any

import pytest

from ksql_lake.errors import (
    IncompleteResponseError,
    KsqlError,
    NotHereError,
    NotQueryableError,
    PropertyRefusedError,
    ProtocolError,
    QueryFailedError,
    Recovery,
    ServerUnavailableError,
    StatementError,
)
from ksql_lake.export.evidence import pull_evidence
from ksql_lake.ksqldb import KsqlClient, Outcome, QueryKind, QueryResponse, RowBlock
from ksql_lake.ksqldb.client import ACCEPT_ROWS
from ksql_lake.ksqldb.version import parse_version
from ksql_lake.ksqldb.wire.answer_events import Tombstone
from ksql_lake.ksqldb.wire.row_parser import RowsParser
from ksql_lake.settings import Settings
from ksql_lake_tests.fakes.recorded import Recording, recording, recordings
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.ksqldb.conftest import info

READS = [one for one in recordings() if one.path == "/query"]


def expecting(*verdicts: str) -> list[Recording]:
    """The recorded reads with one of these verdicts."""
    return [one for one in READS if one.expect in verdicts]


def each(*verdicts: str) -> pytest.MarkDecorator:
    """Run a test with each recorded read that has one of these verdicts."""
    return pytest.mark.parametrize("one", expecting(*verdicts), ids=lambda one: one.name)


@contextmanager
def replayed(one: Recording, **settings: Any) -> Iterator[KsqlClient]:
    """A client of a server that is of the recording's release and answers as it did."""
    with ScriptedServer() as server:
        server.script("/info", answer(info(one.server)))
        server.script("/query", one.script())
        server.script("/close-query", answer(b""))
        found = Settings(ksqldb_url=server.url, attempts=1, **settings)
        with KsqlClient(found, properties=one.writer()) as client:
            yield client


def ask(client: KsqlClient, one: Recording) -> QueryResponse:
    """Ask for what was asked."""
    sql = one.sql.split(";")[0] or "SELECT 1"
    return client.query(sql, kind=one.kind, properties={})


def plain(rows: list[Any]) -> Counter[str]:
    """Rows without their order."""
    return Counter(json.dumps(row, sort_keys=True) for row in rows)


def listen(response: QueryResponse, into: list[Any]) -> None:
    """Read everything."""
    for event in response.events():
        if isinstance(event, RowBlock):
            into += [row["row"]["columns"] for row in json.loads(b"[" + bytes(event.data) + b"]")]
        elif isinstance(event, Tombstone):
            into.append(json.loads(event.data)["row"]["columns"])


def known_count(one: Recording) -> int | None:
    """How many rows were right, where the truth is a number."""
    if isinstance(one.truth, dict) and "rows" in one.truth:
        return int(one.truth["rows"])
    if isinstance(one.truth, list):
        return len(one.truth)
    told = re.match(r"(\d+|no) rows?\b(?!.*CORRECTION)", one.truth or "", re.DOTALL)
    return int(told[1].replace("no", "0")) if told else None


@each("complete", "limit", "needs evidence", "false complete")
def test_an_answer_that_ended_well_gives_each_of_its_rows_once(one: Recording) -> None:
    """Whole answers of every release and both writers are read to their end, and hold what was true.

    Those that only look whole are read alike: their bytes do not differ.
    """
    rows: list[Any] = []
    with replayed(one) as client, ask(client, one) as response:
        listen(response, rows)
    assert response.outcome is (Outcome.LIMIT if one.expect == "limit" else Outcome.COMPLETE)
    assert plain(rows) == plain(one.rows)
    count = known_count(one)
    if one.expect != "false complete" and count is not None:
        assert len(rows) == count


@each("complete")
def test_a_stream_is_proven_only_by_the_older_writers_last_word(one: Recording) -> None:
    """The same rows are "checked" where the writer, or the release, could have ended a cut answer alike."""
    with replayed(one) as client, ask(client, one) as response:
        assert sum(block.count for block in response) == len(one.rows)
        version = client.known_version()
        found = pull_evidence(response.sent, version, derived=False, refused=client.properties.refused)
    says_so = one.kind is QueryKind.PULL_STREAM and b"Query Completed" in one.body
    if one.kind is QueryKind.PULL_STREAM:
        assert found.level == ("proven" if one.legacy and says_so else "checked")
    assert bool(found.caveats) is not one.legacy


LATER = {
    "values: stream_topic_deleted": ServerUnavailableError,  # a plain 503, as while a server starts
    "node A, partition that does not exist, no forwarding (lag reporting off)": ServerUnavailableError,
    "tokens: wrong number of partitions": QueryFailedError,
    "C empty body /query": QueryFailedError,
    "0.24.0 session_pull": QueryFailedError,  # this release does not say why
}
"""What is refused for good in words that a passing failure has too; it is tried again, and then said."""


@each("refused")
def test_what_is_refused_for_good_is_not_tried_again(one: Recording) -> None:
    """A refusal is an error at once that says what to do, unless its words could mean a passing one too."""
    with replayed(one) as client, pytest.raises(KsqlError) as caught, ask(client, one) as response:
        listen(response, [])
    assert caught.value.hint
    if one.name in LATER:
        assert type(caught.value) is LATER[one.name]
    else:
        assert caught.value.recovery is not Recovery.RETRY, str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("safe: unknown property among them", PropertyRefusedError, "ksql.no.such.property"),
        ("C readonly property", PropertyRefusedError, "refuses the property ksql.service.id"),
        ("C bad property value", PropertyRefusedError, "auto.offset.reset"),
        ("B duplicate column", StatementError, "refused the query without saying why"),
        ("C unknown function", StatementError, "Its log says why"),
        ("C bad arg count", StatementError, "Its log says why"),
        ("C unknown source", StatementError, "NOPE does not exist"),
        ("C not queryable", NotQueryableError, "CREATE TABLE QUERYABLE_USERS AS SELECT"),
        ("E legacy session scan", NotQueryableError, "SESSION windows cannot be read by a pull query"),
        ("7.2.2 session_pull", NotQueryableError, "SESSION windows cannot be read by a pull query"),
        ("values: terminated_ctas_pull", NotQueryableError, "isn't queryable"),
        (
            "session limit of the broker 60 s: session 1500000, legacy",
            PropertyRefusedError,
            "session of 1,500 s",
        ),
        (
            "session limit of the broker 60 s: session 1500000, default",
            PropertyRefusedError,
            "session of 1,500 s",
        ),
    ],
)
def test_refusals_are_told_apart(name: str, kind: type[KsqlError], text: str) -> None:
    """What the server refuses is an error of its own kind, with the server's words or ours, whoever sent it."""
    one = recording(name)
    with replayed(one) as client, pytest.raises(kind) as caught, ask(client, one) as response:
        listen(response, [])
    assert type(caught.value) is kind
    assert text in str(caught.value)


@each("retry")
def test_what_time_mends_is_worth_another_try(one: Recording) -> None:
    """A server that starts, stops or misses a node is asked again: no refusal of that kind is final."""
    with replayed(one) as client, pytest.raises(KsqlError) as caught, ask(client, one) as response:
        listen(response, [])
    assert caught.value.recovery is Recovery.RETRY
    assert isinstance(caught.value, ServerUnavailableError | NotHereError), str(caught.value)


@each("not here")
def test_a_node_that_does_not_hold_a_partition_says_so(one: Recording) -> None:
    """Whether as a refusal or as an error in a body of status 200: ask the next node.

    Of a partition that does not exist it says what a restarting node says.
    """
    unknown = "that does not exist" in one.name
    kind = ServerUnavailableError if unknown else NotHereError
    with replayed(one) as client, pytest.raises(kind), ask(client, one) as response:
        listen(response, [])


@each("open")
def test_a_push_query_gives_its_rows_and_never_a_proof(one: Recording) -> None:
    """Every row comes as it was sent; an end without a request is an error, and so is a cut connection."""
    wanted, rows = plain(one.rows), list[Any]()
    with replayed(one) as client, ask(client, one) as response:
        if one.end == "open":
            events = response.events()
            while plain(rows) != wanted:
                event = next(events)
                if isinstance(event, RowBlock):
                    rows += [row["row"]["columns"] for row in json.loads(b"[" + bytes(event.data) + b"]")]
                elif isinstance(event, Tombstone):
                    rows.append(json.loads(event.data)["row"]["columns"])
        else:
            text = "cut off" if one.end == "cut" else "the server closed the query after"
            with pytest.raises(IncompleteResponseError, match=text):
                listen(response, rows)
    assert plain(rows) == wanted
    count = known_count(one)
    if count is not None and not one.name.startswith("tokens"):
        assert len(rows) == count


@each("unfinished")
def test_a_pull_that_does_not_end_is_never_taken_for_whole(one: Recording) -> None:
    """An open transaction, or a partition of markers only, keeps a query from its end: that is an error."""
    rows: list[Any] = []
    with (
        replayed(one, read_timeout=0.5) as client,
        pytest.raises(ServerUnavailableError, match="fell silent"),
        ask(client, one) as response,
    ):
        listen(response, rows)
    assert plain(rows) == plain(one.rows)


@pytest.mark.parametrize(
    "one", [one for one in recordings() if one.path == "/ksql"], ids=lambda one: f"{one.name} {one.sql[:40]}"
)
def test_statements_are_answered_or_refused(one: Recording) -> None:
    """Every recorded statement's answer is read, and every refusal is an error that is not tried again."""
    with ScriptedServer() as server:
        server.script("/ksql", one.script())
        with KsqlClient(Settings(ksqldb_url=server.url, attempts=1)) as client:
            if one.expect == "answer":
                assert client.execute(one.sql) == one.json
            else:
                with pytest.raises(KsqlError) as caught:
                    client.execute(one.sql)
                assert caught.value.recovery is not Recovery.RETRY


@pytest.mark.parametrize(
    "one", [one for one in recordings() if one.expect == "other form"], ids=lambda one: one.name
)
def test_answers_of_query_stream_hold_true_rows_or_none(one: Recording) -> None:
    """The form that exports read is read chunk by chunk there too; the other two give no row and no proof."""
    push = "EMIT CHANGES" in one.sql.upper()
    kind = QueryKind.PUSH if push else QueryKind.PULL_TABLE if b'"query_' in one.body else QueryKind.PULL_STREAM
    parser = RowsParser(kind)
    edges = list(accumulate(one.chunks, initial=0))
    assert edges[-1] == len(one.body)
    if ACCEPT_ROWS.encode() not in one.head:
        with suppress(ProtocolError):
            _rows(parser, one.body, edges)
        assert (parser.rows, parser.outcome().proven) == (0, False)
        return
    rows = _rows(parser, one.body, edges)
    assert len(rows) == parser.rows
    if isinstance(one.truth, list):
        assert not plain([row["row"]["columns"] for row in rows]) - plain(one.truth)


def _rows(parser: RowsParser, body: bytes, edges: list[int]) -> list[Any]:
    """Feed a body chunk by chunk and give its rows."""
    events = [event for start, end in pairwise(edges) for event in parser.feed(body[start:end])]
    blocks = [event for event in (*events, *parser.finish()) if isinstance(event, RowBlock)]
    return [row for block in blocks for row in json.loads(b"[" + bytes(block.data) + b"]")]


def test_releases_are_told_apart() -> None:
    """What a release can do, and how it ends its answers, is known from what /info says of it."""
    found = {
        version: (
            parse_version(version).has_two_writers,
            parse_version(version).stream_pulls_say_completed,
            parse_version(version).scans_tables,
            parse_version(version).knows_offsets,
        )
        for version in ("8.0.7", "7.9.8", "7.5.1", "7.3.5", "7.2.2", "0.24.0", "7.1.1", "7.0.1")
    }
    modern = (True, True, True, True)
    assert found == {
        **dict.fromkeys(("8.0.7", "7.9.8", "7.5.1", "7.3.5", "7.2.2"), modern),
        "0.24.0": (True, False, True, True),
        "7.1.1": (False, False, True, True),
        "7.0.1": (False, False, False, False),
    }
