"""How each writer cuts its answers into HTTP chunks, heads them, and ends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import aiohttp
import pytest
import requests
import urllib3

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.devserver.conversation import MIGRATE, PATIENCE, V1, Client, lines_of, raw_query

LEGACY: dict[str, object] = {MIGRATE: False}
EARLIEST: dict[str, object] = {"auto.offset.reset": "earliest"}
STREAM = "SELECT TRANSACTION_ID, AMOUNT FROM TRANSACTION_FLATTENED;"
TABLE = "SELECT MERCHANT_ID, NAME FROM MERCHANTS;"


@pytest.fixture
def notes(client: Client) -> Iterator[str]:
    """A stream with one short and one long row."""
    client.ksql("CREATE STREAM NOTES (ID INT, T STRING) WITH (KAFKA_TOPIC='notes', PARTITIONS=1);")
    client.append("NOTES", {"ID": 1, "T": "short"}, {"ID": 2, "T": "ö" * 700})
    yield "NOTES"
    client.ksql("DROP STREAM NOTES;")


def test_the_newer_writer_sends_a_row_a_chunk(client: Client) -> None:
    """Header, each row, final message and bracket are one chunk each; the head is ksqlDB's."""
    answer = raw_query(client.url, STREAM)
    head, *rows, final, bracket, last = answer.chunks

    assert answer.head == (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ncontent-type: application/vnd.ksql.v1+json\r\n"
        b"connection: close"
    )
    assert head.startswith(b'[{"header"')
    assert len(rows) == 2000
    assert all(row.startswith(b'{"row"') and row.endswith(b"]}},\n") for row in rows)
    assert (final, bracket, last) == (b'{"finalMessage":"Query Completed"}', b"]", b"")


def test_the_newer_writer_sends_tables_in_chunks_of_whole_rows(client: Client) -> None:
    """Chunks of about five kilobytes end behind a row; header and bracket are inside the first and last."""
    first, *others, last = raw_query(client.url, TABLE).chunks[:-1]

    assert first.startswith(b'[{"header"')
    assert last.endswith(b"]}}]")
    assert len(others) >= 2
    for chunk in (first, *others):
        assert 5200 <= len(chunk) < 5300
        assert chunk.endswith(b"]}}")
    (small,) = raw_query(client.url, f"{TABLE[:-1]} LIMIT 3;").chunks[:-1]
    assert len(json.loads(small)) == 4


def test_the_older_writer_gaps_its_rows(client: Client, notes: str) -> None:
    """Commas are chunks of their own, a newline comes before the end, and long strings split a row."""
    answer = raw_query(client.url, f"SELECT ID, T FROM {notes};", properties=LEGACY)
    head, gap, row, after, *pieces, end, newline, final, bracket, last = answer.chunks

    assert answer.head == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nTransfer-Encoding: chunked\r\nconnection: close"
    )
    assert head.startswith(b'[{"header"')
    assert head.endswith(b"}}")
    assert (gap, row, after, end) == (b",\n", b'{"row":{"columns":[1,"short"]}}', b",\n", b",\n")
    assert len(pieces) > 1
    assert json.loads(b"".join(pieces))["row"]["columns"] == [2, "ö" * 700]
    assert (newline, final, bracket, last) == (b"\n", b'{"finalMessage":"Query Completed"}', b"]\n", b"")


def test_the_older_writer_sends_the_same_rows(client: Client) -> None:
    """Both writers give the same rows, in large chunks for tables."""
    for sql in (STREAM, TABLE):
        newer, older = (json.loads(client.query(sql, properties=some).text) for some in ({}, LEGACY))
        assert newer[1:] == older[1:]
    first, rest, last = raw_query(client.url, TABLE, properties=LEGACY).chunks
    assert first.count(b"\n") == 1
    assert rest.endswith(b"]}}]")
    assert last == b""


def test_the_older_writer_ends_errors_in_its_own_way(client: Client) -> None:
    """A table's error ends with `}]` and a newline, a stream's without a bracket."""
    client.faults({"kind": "error", "after_rows": 2, "message": "boom"})
    *_, error, end, last = raw_query(client.url, TABLE, properties=LEGACY).chunks
    assert error.startswith(b',\n{"errorMessage"')
    assert error.endswith(b"}}")
    assert (end, last) == (b"]\n", b"")
    *_, gap, newline, error, end, last = raw_query(client.url, STREAM, properties=LEGACY).chunks
    assert (gap, newline, end, last) == (b",\n", b"\n", b",\n", b"")
    assert error.startswith(b'\n{"errorMessage"')


def test_the_older_writer_shows_that_it_is_alive(client: Client, notes: str) -> None:
    """Without rows a newline comes every second; hanging up ends the query, /close-query does not know it."""
    select = f"SELECT ID FROM {notes} EMIT CHANGES;"
    with client.query(select, properties=LEGACY | EARLIEST, stream=True) as answer:
        lines = lines_of(answer)
        (query_id,) = client.running()
        received = [next(lines) for _ in range(5)]
        assert received[3:] == ["", ""]
        closed = requests.post(f"{client.url}/close-query", json={"queryId": query_id}, timeout=PATIENCE)
        assert (closed.status_code, closed.json()["message"]) == (400, f"No query with id {query_id}")
    assert any(query_id not in client.running() for _ in range(1000))


def test_old_releases_do_not_know_the_switch() -> None:
    """Before 0.24 there is no other writer, and asking for it is an unknown property: 400."""
    with DevServer.start(sample=True, arguments=["--sample-rows", "50", "--server-version", "7.1.1"]) as server:
        answer = Client(server.url).query(STREAM, properties=LEGACY)

        assert (answer.status_code, answer.json()["error_code"]) == (400, 40000)
        assert answer.json()["message"].endswith(f"producer property: '{MIGRATE}'")
        assert Client(server.url).query(STREAM).headers["content-type"] == "application/json"


def test_errors_travel_as_ksqldb_sends_them(client: Client) -> None:
    """What is misread is labelled; a wrong plan is one chunk without a label, labelled by the older writer."""
    for sql, properties, head in (
        ("SELECT * FROM NOPE;", {},
         b"content-type: application/json\r\nconnection: close\r\ncontent-length: 168"),
        ("SELECT NOPE FROM MERCHANTS;", {}, b"Transfer-Encoding: chunked\r\nconnection: close"),
        ("SELECT NOPE FROM MERCHANTS;", LEGACY,
         b"content-type: application/json\r\nconnection: close\r\ncontent-length: 176"),
    ):  # fmt: skip
        answer = raw_query(client.url, sql, properties=properties)
        assert answer.head == b"HTTP/1.1 400 Bad Request\r\n" + head
        assert answer.body.count(b"40001") == 1
    missing = requests.get(f"{client.url}/nope", timeout=PATIENCE)
    assert dict(missing.headers) == {"content-length": "9"}
    off = requests.get(f"{client.url}/clusterStatus", timeout=PATIENCE)
    assert (off.status_code, off.headers["content-type"], off.content) == (404, "application/json", b"")


def test_clients_of_other_makers_read_either_writer(client: Client) -> None:
    """http.client, urllib3, urllib and aiohttp take the chunks apart as they are."""
    wanted = {"Content-Type": "application/json", "Accept": V1}
    for properties in ({}, LEGACY):
        body = json.dumps({"ksql": STREAM, "streamsProperties": properties}).encode()
        address = urlsplit(client.url)
        connection = HTTPConnection(str(address.hostname), address.port, timeout=PATIENCE)
        connection.request("POST", "/query", body, wanted)
        texts = [connection.getresponse().read()]
        connection.close()
        texts.append(urllib3.request("POST", f"{client.url}/query", body=body, headers=wanted).data)
        with urlopen(Request(f"{client.url}/query", body, wanted), timeout=PATIENCE) as answer:  # noqa: S310
            texts.append(answer.read())
        texts.append(asyncio.run(posted(f"{client.url}/query", body, wanted)))

        for text in texts:
            assert len(json.loads(text)) == 2002


async def posted(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    """An answer, read by aiohttp."""
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return await answer.read()
