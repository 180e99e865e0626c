"""Which response format an Accept header gets, and which bodies are refused."""

from __future__ import annotations

import pytest
import requests

from ksql_lake.devserver.framing import Writer
from ksql_lake.devserver.ksql_errors import RefusedError
from ksql_lake.devserver.release import parse_version
from ksql_lake.devserver.service.negotiation import choose_writer
from ksql_lake_tests.devserver.conversation import DELIMITED, PATIENCE, V1, Client

CURRENT, LEGACY = parse_version("0.29.0"), parse_version("0.23.1")
SELECT = "SELECT MERCHANT_ID FROM MERCHANTS LIMIT 1;"

MATRIX: list[tuple[str | None, Writer | int, Writer | int]] = [
    # Accept, /query-stream, /query
    (V1, "v1", "v1"),
    ("application/json", "json_array", "v1"),
    (DELIMITED, "delimited", "delimited"),
    (None, "delimited", "v1"),
    ("*/*", "delimited", "delimited"),
    ("text/html", 404, 404),
    (f"text/html, {V1};q=0.5", "v1", "v1"),
    (f"application/json;q=0.1, {V1}", "v1", "v1"),
]


@pytest.mark.parametrize(("accept", "query_stream", "query"), MATRIX)
def test_the_accept_matrix(accept: str | None, query_stream: Writer | int, query: Writer | int) -> None:
    """Each Accept gets the format, or the refusal, that a current server gives it."""
    for path_is_stream, wanted in ((True, query_stream), (False, query)):
        if isinstance(wanted, int):
            with pytest.raises(RefusedError) as refused:
                choose_writer(accept, query_stream=path_is_stream, migrated=True, version=CURRENT)
            assert refused.value.status == wanted
        else:
            chosen = choose_writer(accept, query_stream=path_is_stream, migrated=True, version=CURRENT)
            assert chosen == wanted


@pytest.mark.parametrize("accept", [V1, "application/json", "*/*", None])
def test_the_legacy_writer_knows_one_format(accept: str | None) -> None:
    """Before 0.24, or when a request asks for it, /query answers v1 rows whatever Accept says."""
    assert choose_writer(accept, query_stream=False, migrated=False, version=CURRENT) == "legacy"
    assert choose_writer(accept, query_stream=False, migrated=True, version=LEGACY) == "legacy"


@pytest.mark.parametrize(
    ("accept", "content_type", "start"),
    [
        (V1, V1, "[{"),
        (DELIMITED, DELIMITED, '{"queryId"'),
        ("application/json", "application/json", '[{"queryId"'),
    ],
)
def test_the_content_type_repeats_the_format(
    client: Client, accept: str, content_type: str, start: str
) -> None:
    """/query-stream labels its answer with the format it chose."""
    answer = client.query_stream(SELECT, accept=accept)

    assert answer.headers["Content-Type"] == content_type
    assert answer.text.startswith(start)


def test_the_legacy_writer_can_be_asked_for(client: Client) -> None:
    """`ksql.endpoint.migrate.query` false, as JSON or as text, brings the legacy writer and its label."""
    for value in (False, "false"):
        answer = client.query(
            "SELECT USER_ID FROM LOGIN_EVENTS LIMIT 1;", properties={"ksql.endpoint.migrate.query": value}
        )
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.text.endswith('{"finalMessage":"Limit Reached"}]\n')


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/query", b"{", "Invalid JSON in request: "),
        ("/query", b"[]", "Invalid JSON in request: not an object"),
        ("/query", b"{}", '"ksql" field must be populated'),
        ("/query-stream", b'{"ksql": "x"}', "Invalid JSON in request: Missing required creator property 'sql'"),
        ("/ksql", b"nothing", "Invalid JSON in request: "),
    ],
)
def test_bodies_that_are_no_requests_are_bad_requests(
    client: Client, path: str, body: bytes, message: str
) -> None:
    """Wrong JSON and missing keys are 400/40000 with ksqlDB's text."""
    answer = requests.post(client.url + path, data=body, headers={"Accept": V1}, timeout=PATIENCE)

    assert answer.status_code == 400
    assert answer.json()["error_code"] == 40000
    assert answer.json()["@type"] == "generic_error"
    assert answer.json()["message"].startswith(message)


def test_unknown_paths_are_not_found_in_plain_text(client: Client) -> None:
    """A path the server does not have is 404 with a text body, not JSON."""
    answer = requests.get(f"{client.url}/nothing", timeout=PATIENCE)

    assert (answer.status_code, answer.text) == (404, "Not Found")
    assert client.query_stream(SELECT, accept="blahblah").status_code == 404
    assert client.query(SELECT, accept="unsupported/type").status_code == 404
