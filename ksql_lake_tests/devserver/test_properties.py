"""What a request may override, what is refused, and what a broker has to say about it."""

from __future__ import annotations

import json

import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.devserver.property_rules import resolve
from ksql_lake.devserver.release import parse_version
from ksql_lake_tests.devserver.conversation import MIGRATE, PATIENCE, Client, raw_query

CURRENT = parse_version("8.0.7")
STREAM = "SELECT USER_ID FROM LOGIN_EVENTS LIMIT 1;"
ISOLATION = "ksql.streams.consumer.isolation.level"
SESSION = "ksql.streams.consumer.session.timeout.ms"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (ISOLATION, "isolation.level"),
        ("consumer.isolation.level", "isolation.level"),
        ("isolation.level", "isolation.level"),
        ("ksql.streams.isolation.level", "isolation.level"),
        ("ksql.streams.auto.offset.reset", "auto.offset.reset"),
        ("cache.max.bytes.buffering", "cache.max.bytes.buffering"),
        ("producer.acks", "acks"),
        ("ksql.query.pull.table.scan.enabled", "ksql.query.pull.table.scan.enabled"),
        ("ksql.query.push.v2.continuation.tokens.enabled", "ksql.query.push.v2.continuation.tokens.enabled"),
        ("main.consumer.isolation.level", None),
        ("consumer.acks", None),
        ("ksql.query.pull.consistency.token.enabled", None),
        ("ksql.nope", None),
        ("nope.nope", None),
    ],
)
def test_names_are_known_as_ksqldb_knows_them(name: str, plain: str | None) -> None:
    """Kafka's names stand bare or behind their prefixes; everything else must be a property of ksqlDB."""
    found = resolve(name, CURRENT)

    assert (found[0] if found is not None else None) == plain


@pytest.mark.parametrize("name", ["ksql.nope", "nope.nope", "main.consumer.isolation.level"])
def test_unknown_properties_are_a_servers_error(client: Client, name: str) -> None:
    """500/50000 at /query and /ksql; /query-stream does not look."""
    answer = client.query(STREAM, properties={name: 1})
    at_ksql = requests.post(
        f"{client.url}/ksql", json={"ksql": "LIST STREAMS;", "streamsProperties": {name: 1}}, timeout=PATIENCE
    )

    for refused in (answer, at_ksql):
        assert refused.status_code == 500
        assert refused.json() == {
            "@type": "generic_error", "error_code": 50000,
            "message": f"Not recognizable as ksql, streams, consumer, or producer property: '{name}'",
        }  # fmt: skip
    assert client.query_stream(STREAM, properties={name: 1}).status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("auto.offset.reset", "middle",
         ("Failed to coerce type of value 'middle' for key 'auto.offset.reset'\n"
         "Caused by: Invalid value middle for configuration auto.offset.reset: Invalid\n"
         "\tvalue `middle` for configuration auto.offset.reset. The value must be either\n"
         "\t'earliest', 'latest', 'none' or of the format 'by_duration:<PnDTnHnMn.nS.>'.")),
        ("num.stream.threads", "abc",
         ("Failed to coerce type of value 'abc' for key 'num.stream.threads'\n"
         "Caused by: Invalid value abc for configuration num.stream.threads: Not a number\n\tof type INT")),
        (ISOLATION, "dirty", f"Failed to coerce type of value 'dirty' for key '{ISOLATION}'\n"),
        (MIGRATE, "perhaps", f"Failed to coerce type of value 'perhaps' for key '{MIGRATE}'\n"),
        (SESSION, True, f"Failed to coerce type of value 'True' for key '{SESSION}'\n"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_type_are_refused(client: Client, name: str, value: object, message: str) -> None:
    """400/40000 with the value, the key and the reason."""
    answer = client.query(STREAM, properties={name: value})

    assert (answer.status_code, answer.json()["error_code"]) == (400, 40000)
    assert answer.json()["message"].startswith(message)


def test_what_the_product_sends_is_accepted(client: Client) -> None:
    """Writer, isolation and time-outs pass, as numbers and as text."""
    properties: dict[str, object] = {
        MIGRATE: False,
        ISOLATION: "read_committed",
        SESSION: 1_500_000,
        "ksql.streams.consumer.max.poll.interval.ms": "2147483647",
        "auto.offset.reset": "earliest",
    }

    assert client.query(STREAM, properties=properties).status_code == 200


def test_a_servers_operator_may_prohibit_properties(client: Client) -> None:
    """`ksql.service.id` never passes, others as the switch says: 400/40000 with all names."""

    def refused(**properties: object) -> str:
        answer = client.query(STREAM, properties=dict(properties))
        assert (answer.status_code, answer.json()["error_code"]) == (400, 40000)
        return str(answer.json()["message"])

    prefix = (
        "One or more properties overrides set locally are prohibited by the KSQL server (use UNSET to reset "
        "their default value): "
    )
    assert refused(**{"ksql.service.id": "x"}) == f"{prefix}[ksql.service.id]"
    client.faults({"kind": "prohibit", "property": ISOLATION}, {"kind": "prohibit", "property": SESSION})
    both = {ISOLATION: "read_committed", SESSION: 60_000}
    assert refused(**both) == f"{prefix}[{ISOLATION}, {SESSION}]"
    assert refused(**{SESSION: 60_000}) == f"{prefix}[{SESSION}]"
    assert client.query(STREAM, properties={MIGRATE: False}).status_code == 200
    client.faults()
    assert client.query(STREAM, properties=both).status_code == 200


def test_a_broker_may_not_allow_the_session(client: Client) -> None:
    """A consumer that asks for more fails at once, inside the body, in the words of either writer."""
    client.faults({"kind": "session_limit", "limit_ms": 60_000})
    reason = "org.apache.kafka.common.errors.InvalidSessionTimeoutException: The session timeout is not within"

    newer = raw_query(client.url, STREAM, properties={SESSION: 1_500_000})
    head, error, bracket, last = newer.chunks
    assert head.startswith(b'[{"header"')
    message = json.loads(error.rstrip(b",\n"))["errorMessage"]["message"]
    assert message.startswith(f"org.apache.kafka.streams.errors.StreamsException: {reason}")
    assert (bracket, last) == (b"]", b"")

    older = raw_query(client.url, STREAM, properties={SESSION: 1_500_000, MIGRATE: False})
    head, gap, newline, error, end, last = older.chunks
    assert (gap, newline, end, last) == (b",\n", b"\n", b",\n", b"")
    assert json.loads(error)["errorMessage"]["message"].startswith(reason)

    assert len(client.rows(STREAM, **{SESSION: 60_000})) == 1
    assert len(client.rows(STREAM, **{"session.timeout.ms": 1_500_000})) == 1
    assert len(client.rows("SELECT NAME FROM MERCHANTS LIMIT 1;", **{SESSION: 1_500_000})) == 1


def test_switches_of_properties_can_be_set_at_the_start() -> None:
    """`--fault prohibit:property=NAME` is the same switch."""
    with DevServer.start(arguments=["--fault", f"prohibit:property={ISOLATION}"]) as server:
        answer = Client(server.url).query(STREAM, properties={ISOLATION: "read_committed"})

        assert answer.json()["message"].endswith(f"[{ISOLATION}]")


def test_missing_and_empty_bodies(client: Client) -> None:
    """An empty body is the server's own mistake; /ksql takes a missing statement for none."""
    empty = requests.post(f"{client.url}/query", data=b"", timeout=PATIENCE)
    assert (empty.status_code, empty.json()["error_code"]) == (500, 50000)
    assert "content-type" not in empty.headers
    missing = requests.post(f"{client.url}/ksql", json={"streamsProperties": {}}, timeout=PATIENCE)
    assert (missing.status_code, missing.json()) == (200, [])
