"""Targets that read what a server sends: framings, entities, refusals, whole HTTP answers, schemas, rows."""

from __future__ import annotations

import decimal
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random

import msgspec

from ksql_lake.decode import RowDecoder
from ksql_lake.errors import KsqlLakeError, ProtocolError
from ksql_lake.ksqldb import KsqlClient, QueryKind, describe
from ksql_lake.ksqldb.inventory import read_description, read_queries, read_sources
from ksql_lake.ksqldb.refusals import refusal
from ksql_lake.ksqldb.version import parse_version
from ksql_lake.ksqldb.wire.answer_events import Outcome, RowBlock, Tombstone
from ksql_lake.ksqldb.wire.messages import ENTITIES, UNREADABLE
from ksql_lake.ksqldb.wire.row_parser import RowsParser
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct, arrow_schema, parse_schema
from ksql_lake.settings import Settings
from ksql_lake_tests.decode.writing import write_rows
from ksql_lake_tests.fuzzing.engine import Target
from ksql_lake_tests.fuzzing.mutation import mutated, mutated_json
from ksql_lake_tests.ksqldb.framing import framing_cases, split

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.ksql.v1+json\r\n"
INFO = (
    b'{"KsqlServerInfo":{"version":"0.29.0","kafkaClusterId":"k","ksqlServiceId":"d","serverStatus":"RUNNING"}}'
)
DESCRIBED = msgspec.json.encode(
    [
        {
            "@type": "sourceDescription",
            "statementText": "DESCRIBE `S`;",
            "sourceDescription": {
                "name": "S",
                "windowType": "TUMBLING",
                "readQueries": [
                    {"queryString": "x", "sinks": ["A"], "sinkKafkaTopics": ["a"], "id": "CTAS_S_1"}
                ],
                "writeQueries": [
                    {"queryString": "y", "sinks": ["S"], "sinkKafkaTopics": ["s"], "id": "CSAS_S_2"}
                ],
                "fields": [
                    {"name": "ID", "schema": {"type": "BIGINT"}, "type": "KEY"},
                    {"name": "L", "schema": {"type": "ARRAY", "memberSchema": {"type": "STRING"}}},
                    {
                        "name": "T",
                        "schema": {
                            "type": "STRUCT",
                            "fields": [
                                {
                                    "name": "D",
                                    "schema": {"type": "DECIMAL", "parameters": {"precision": 4, "scale": 2}},
                                }
                            ],
                        },
                    },
                ],
                "type": "TABLE",
                "timestamp": "",
                "keyFormat": "KAFKA",
                "valueFormat": "JSON",
                "topic": "s",
                "partitions": 4,
                "statement": "CREATE TABLE S AS SELECT ...;",
            },
        }
    ]
)
LISTED = (
    b'[{"@type":"streams","streams":[{"type":"STREAM","name":"T","topic":"tx","keyFormat":"KAFKA",'
    b'"valueFormat":"JSON","isWindowed":false}]}]'
)
QUERIES = b'[{"@type":"queries","queries":[{"queryString":"x","sinks":["A"],"sinkKafkaTopics":[],"id":"Q"}]}]'
REFUSED = (
    b'{"@type":"statement_error","error_code":40001,"message":"line 1:8: no viable alternative\\nStatement: x"}'
)
SCHEMAS = [
    b"`ID` BIGINT, `NAME` STRING",
    b"`A` BOOLEAN, `B` INTEGER KEY, `C` BIGINT, `D` DOUBLE, `F` BYTES, `G` TIME, `H` DATE, `I` TIMESTAMP",
    b"`P` DECIMAL(10, 2), `Q` DECIMAL(38, 38), `R` DECIMAL(38,0)",
    b"`L` ARRAY<STRUCT<`X` INTEGER, `Y` MAP<INTEGER, ARRAY<DECIMAL(4, 2)>>>>, `M` MAP<STRING, TIMESTAMP>",
    b"`a b` STRUCT<`q'\"` STRING, `x` STRUCT<`y` DATE>>, `H` BYTES HEADER('key'), `HS` ARRAY<BYTES> HEADERS",
]


def _number(data: bytes) -> int:
    """A number that depends on nothing but the bytes, for choices a target has to make."""
    return zlib.crc32(data)


def _framing(data: bytes) -> None:
    number = _number(data)
    kind = list(QueryKind)[number % 3]
    cuts = [number >> shift & 0xFFFF for shift in range(0, 17, 4)]
    whole = _outcome(lambda: _read([data], kind))
    pieces = _outcome(lambda: _read(split(data, cuts), kind))
    if isinstance(whole, KsqlLakeError):
        raise whole
    # What is no JSON is found where the lines are looked at one by one, or else when the rows are decoded.
    if whole != pieces and not isinstance(pieces, ProtocolError):
        raise AssertionError("cut into pieces it reads otherwise")


def _read(chunks: list[bytes], kind: QueryKind) -> tuple[list[object], bytes, Outcome]:
    """Everything a parser makes of a body, the texts of all rows joined."""
    parser = RowsParser(kind)
    events = [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()
    rows = b",\n".join(event.data for event in events if isinstance(event, RowBlock | Tombstone))
    return [event for event in events if not isinstance(event, RowBlock)], rows, parser.outcome()


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except KsqlLakeError as error:
        return error


def _schema(data: bytes) -> None:
    schema = parse_schema(data.decode("utf-8", "replace"))
    again = parse_schema(schema.text)
    if again.text != schema.text:
        raise AssertionError("a schema is not read as it is written")
    RowDecoder(schema)
    arrow_schema(schema)


def _entities(data: bytes) -> None:
    try:
        entities = ENTITIES.decode(data)
    except UNREADABLE as error:
        raise ProtocolError("not JSON") from error
    for reader in (read_description, read_sources, read_queries):
        _outcome(lambda reader=reader: reader(entities))  # type: ignore[misc]
    read_description(entities)


def _refusal(data: bytes) -> None:
    number = _number(data)
    raise refusal(
        (400, 401, 403, 404, 429, 500, 503, 302)[number % 8], data, reason=data[:30].decode("latin-1")
    )


def _version(data: bytes) -> None:
    parse_version(data.decode("utf-8", "replace"))


_DECODE_SCHEMAS = [
    parse_schema(text)
    for text in (
        "`A` BIGINT, `B` STRING, `C` DOUBLE, `D` TIMESTAMP",
        "`A` DECIMAL(10, 2), `B` DECIMAL(38, 0), `C` DATE, `D` TIME",
        "`A` BYTES, `B` BOOLEAN, `C` INTEGER",
        "`A` ARRAY<STRING>, `B` MAP<INTEGER, DECIMAL(4, 2)>, `C` STRUCT<`x` TIMESTAMP, `y` MAP<DATE, DOUBLE>>",
    )
]


def _value(kind: KsqlType, at: int) -> object:
    match kind:
        case Primitive.STRING:
            return f'text {at} "ü\n'
        case Primitive.BYTES:
            return b"\0\xff" * (at % 4)
        case Primitive.DOUBLE:
            return at / 7
        case Primitive.BOOLEAN:
            return at % 2 == 0
        case Primitive():
            return 1000 * at
        case Decimal(_, scale):
            return decimal.Decimal(at).scaleb(-scale)
        case Array(element):
            return [_value(element, at), None]
        case Map(key, item):
            return [(_value(key, at), _value(item, at))]
        case Struct(fields):
            return {name: _value(inner, at) for name, inner in fields}


def _blocks() -> list[bytes]:
    """A byte that says which schema, then rows for it."""
    blocks = []
    for number, schema in enumerate(_DECODE_SCHEMAS):
        for count in (1, 4, 3000 if number < 3 else 50):
            rows = [
                [None if at % 5 == 4 else _value(column.type, at) for column in schema] for at in range(count)
            ]
            blocks.append(bytes((number,)) + b",\n".join(write_rows(schema, rows)))
    return blocks


def _decode(data: bytes) -> None:
    schema, rows = _DECODE_SCHEMAS[data[0] % len(_DECODE_SCHEMAS) if data else 0], data[1:]
    decoder = RowDecoder(schema)
    batch = decoder.decode(rows, count=rows.count(b"\n") + 1 if rows else 0, first_row=0)
    batch.validate(full=True)


def _mutated_rows(data: bytes, random: Random) -> bytes:
    return data[:1] + mutated(data[1:], random)


@contextmanager
def _answering(wire: bytes) -> Iterator[str]:
    """A server that answers every connection with the same bytes and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(5)
            connection.recv(65536)
            connection.sendall(wire)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _http(data: bytes) -> None:
    with _answering(data) as url:
        settings = Settings(ksqldb_url=url, connect_timeout=5.0, read_timeout=2.0, attempts=1)
        with KsqlClient(settings, sleep=lambda _seconds: None) as client:
            _outcome(client.server_info)
            _outcome(lambda: describe(client, "S"))
            with client.query("SELECT 1;", kind=list(QueryKind)[_number(data) % 3]) as response:
                for event in response.events():
                    if isinstance(event, RowBlock):
                        RowDecoder(parse_schema(response.header.schema_text)).decode(
                            event.data, count=event.count, first_row=event.first_row
                        )


def _http_corpus() -> list[bytes]:
    bodies = [INFO, DESCRIBED, REFUSED, *(case.body for case in framing_cases())]
    answers = []
    for body in bodies:
        lines = body.splitlines(keepends=True)
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines if line)
        packer = zlib.compressobj(wbits=31)
        packed = packer.compress(body) + packer.flush()
        answers += [
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n",
            HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body,
            HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed,
            HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed),
        ]
    answers.append(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(REFUSED) + REFUSED)
    return answers


def targets() -> list[Target]:
    """Everything that reads what a server sends."""
    return [
        Target("framing", [case.body for case in framing_cases()], _framing),
        Target("schema", SCHEMAS, _schema),
        Target("rows", _blocks(), _decode, _mutated_rows, cost=2),
        Target("entities", [DESCRIBED, LISTED, QUERIES], _entities, mutated_json),
        Target(
            "refusals", [REFUSED, b"<html><title>Bad Gateway</title>", b"Not Found"], _refusal, mutated_json
        ),
        Target("version", [b"0.29.0", b"7.5.1", b"v8.0.0-rc1"], _version),
        Target("http", _http_corpus(), _http, cost=20),
    ]
