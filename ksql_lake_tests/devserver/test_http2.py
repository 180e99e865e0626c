"""HTTP/2 without TLS: with prior knowledge and by upgrade, with a client that is not ours."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.devserver.conversation import MIGRATE, PATIENCE, V1, Client

TABLE = "SELECT MERCHANT_ID, NAME FROM MERCHANTS;"
STREAM = "SELECT * FROM TRANSACTION_STREAM;"


@dataclass
class Answered:
    """One stream's answer."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: bool = False


class Http2Client:
    """One connection that speaks HTTP/2 from its first byte, or from its upgrade on."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.authority = address.netloc
        self.socket = socket.create_connection((address.hostname, address.port), timeout=PATIENCE)
        self.h2 = H2Connection()
        self.answers: dict[int, Answered] = {}

    def __enter__(self) -> Http2Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.socket.close()

    def start(self) -> None:
        """Send the preface."""
        self.h2.initiate_connection()
        self._flush()

    def upgrade(self, path: str, body: bytes) -> bytes:
        """Send an HTTP/1.1 request that asks for h2c; what the server said before it spoke HTTP/2."""
        settings = self.h2.initiate_upgrade_connection() or b""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.authority}\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            f"Upgrade: h2c\r\nHTTP2-Settings: {settings.decode()}\r\nAccept: {V1}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.socket.sendall(head.encode())
        self.socket.sendall(body)
        self.answers[1] = Answered()
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.socket.recv(1 << 16)
        said, _, rest = received.partition(b"\r\n\r\n")
        self._flush()
        self._hear(rest)
        return said

    def ask(self, method: str, path: str, body: bytes = b"") -> int:
        """Send a request; the number of its stream."""
        number = self.h2.get_next_available_stream_id()
        headers = [(":method", method), (":path", path), (":scheme", "http"), (":authority", self.authority)]
        self.h2.send_headers(number, [*headers, ("accept", V1)], end_stream=not body)
        if body:
            self.h2.send_data(number, body, end_stream=True)
        self.answers[number] = Answered()
        self._flush()
        return number

    def read(self, number: int) -> Answered:
        """Read until an answer has ended."""
        answer = self.answers[number]
        while not (answer.ended or answer.reset):
            data = self.socket.recv(1 << 16)
            assert data, "the connection closed"
            self._hear(data)
        return answer

    def _hear(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, ResponseReceived):
                pairs = [(bytes(name).decode(), bytes(value).decode()) for name, value in event.headers]
                self.answers[event.stream_id].headers = dict(pairs)
            elif isinstance(event, DataReceived):
                self.answers[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self.answers[event.stream_id].ended = True
            elif isinstance(event, StreamReset):
                self.answers[event.stream_id].reset = True
        self._flush()

    def _flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())


def query(sql: str, **properties: object) -> bytes:
    """A request's body."""
    return json.dumps({"ksql": sql, "streamsProperties": properties}).encode()


def test_a_client_with_prior_knowledge_is_answered(sample_server: DevServer, client: Client) -> None:
    """Several requests at once over one connection give the same bodies as over HTTP/1.1."""
    with Http2Client(sample_server.url) as http2:
        http2.start()
        info = http2.ask("GET", "/info")
        table = http2.ask("POST", "/query", query(TABLE))
        older = http2.ask("POST", "/query", query(STREAM, **{MIGRATE: False}))
        missing = http2.ask("GET", "/nope")

        assert json.loads(http2.read(info).body)["KsqlServerInfo"]["serverStatus"] == "RUNNING"
        assert http2.read(table).headers == {":status": "200", "content-type": V1}
        assert json.loads(http2.read(table).body)[1:] == json.loads(client.query(TABLE).text)[1:]
        assert json.loads(http2.read(older).body)[1:] == json.loads(client.query(STREAM).text)[1:]
        assert http2.read(missing).headers[":status"] == "404"


def test_an_upgrade_is_answered_as_the_first_stream(sample_server: DevServer, client: Client) -> None:
    """101, then the request's own answer in HTTP/2, and more requests behind it."""
    with Http2Client(sample_server.url) as http2:
        said = http2.upgrade("/query", query(TABLE))

        assert said.startswith(b"HTTP/1.1 101 Switching Protocols")
        assert json.loads(http2.read(1).body)[1:] == json.loads(client.query(TABLE).text)[1:]
        again = http2.ask("GET", "/info")
        assert http2.read(again).headers[":status"] == "200"


def test_a_client_takes_no_more_than_it_wants(sample_server: DevServer) -> None:
    """An answer larger than the window waits for room, and comes whole."""
    with Http2Client(sample_server.url) as http2:
        http2.start()
        http2.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        answer = http2.read(http2.ask("POST", "/query", query(STREAM)))

        assert len(answer.body) > 200_000
        assert json.loads(answer.body)[-1] == {"finalMessage": "Query Completed"}


def test_push_queries_end_with_their_stream(sample_server: DevServer, client: Client) -> None:
    """Closing the stream, not the connection, ends the query; the other streams live on."""
    with Http2Client(sample_server.url) as http2:
        http2.start()
        push = http2.ask("POST", "/query", query("SELECT USER_ID FROM LOGIN_EVENTS EMIT CHANGES;"))
        while not http2.answers[push].body:
            http2._hear(http2.socket.recv(1 << 16))
        (query_id,) = client.running()
        http2.h2.reset_stream(push)
        http2._flush()

        assert any(query_id not in client.running() for _ in range(1000))
        assert http2.read(http2.ask("GET", "/info")).headers[":status"] == "200"


def test_faults_reset_the_stream(sample_server: DevServer, client: Client) -> None:
    """What breaks a connection elsewhere breaks one answer here."""
    client.faults({"kind": "cut_row", "after_rows": 3, "times": 1})
    with Http2Client(sample_server.url) as http2:
        http2.start()
        broken = http2.read(http2.ask("POST", "/query", query(TABLE)))
        whole = http2.read(http2.ask("POST", "/query", query(TABLE)))

        assert (broken.reset, broken.ended) == (True, False)
        assert whole.ended


def test_what_only_http2_has(sample_server: DevServer) -> None:
    """Old releases answer /query-stream over HTTP/2 only; /inserts-stream is said to be missing."""
    arguments = ["--server-version", "0.17.0", "--sample-rows", "50"]
    with DevServer.start(sample=True, arguments=arguments) as old, Http2Client(old.url) as http2:
        http2.start()
        sql, properties = "SELECT * FROM LOGIN_EVENTS EMIT CHANGES LIMIT 1;", {"auto.offset.reset": "earliest"}
        body = json.dumps({"sql": sql, "properties": properties}).encode()
        assert http2.read(http2.ask("POST", "/query-stream", body)).headers[":status"] == "200"
    with Http2Client(sample_server.url) as http2:
        http2.start()
        refused = http2.read(http2.ask("POST", "/inserts-stream", b"{}"))
        assert "/inserts-stream is not something the ksql-lake devserver can do" in refused.body.decode()


def test_other_upgrades_are_not_taken_for_http2(sample_server: DevServer) -> None:
    """A request that asks for something else is answered as one of HTTP/1.1; so is h2c without settings."""
    for extra in ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"):
        address = urlsplit(sample_server.url)
        with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
            head = f"GET /info HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n{extra}\r\n"
            connection.sendall(head.encode())
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
