"""Promises of the client apart from streaming: what it sends, what it repeats, how it reads refusals."""

from __future__ import annotations

import base64
import logging
import os
import pickle
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ksql_lake.errors import (
    KsqlError,
    KsqlLakeError,
    ProtocolError,
    ServerUnavailableError,
    SettingsError,
    StatementError,
    UnauthorizedError,
)
from ksql_lake.ksqldb import KsqlClient
from ksql_lake_tests.fakes.ports import free_port
from ksql_lake_tests.fakes.scripted_server import RESET, SILENCE, Script, ScriptedServer, answer, head
from ksql_lake_tests.ksqldb.conftest import SECRET, MakeClient, generic, idle_limit, info

NOT_READY = b'{"@type":"generic_error","error_code":50302,"message":"KSQL is not yet ready to serve requests."}'


def test_constructing_a_client_asks_nothing(server: ScriptedServer, client: KsqlClient) -> None:
    """No request is made until one is needed, and `repr` names the server."""
    assert repr(client) == f"KsqlClient('{server.url}')"
    assert server.requests == []


def test_requests_carry_the_exact_form(server: ScriptedServer, client: KsqlClient) -> None:
    """Accept and User-Agent are explicit, nothing compressed is asked for, and bodies have ksqlDB's keys."""
    server.script("/ksql", answer(b'[{"@type":"streams","streams":[]}]'))
    assert client.execute("LIST STREAMS", properties={"a": 1}) == [{"@type": "streams", "streams": []}]
    (request,) = server.requests
    assert request.method == "POST"
    assert request.json == {"ksql": "LIST STREAMS;", "streamsProperties": {"a": 1}}
    assert request.headers["accept"] == "application/vnd.ksql.v1+json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("ksql-lake/")
    assert "authorization" not in request.headers


def test_server_info_is_asked_once(server: ScriptedServer, client: KsqlClient) -> None:
    """The answer is kept, also when several threads ask at the same time."""
    server.script("/info", answer(info("7.5.1")))
    with ThreadPoolExecutor(8) as threads:
        answers = {future.result() for future in [threads.submit(client.server_info) for _ in range(16)]}
    (found,) = answers
    assert (found.version.text, found.version.release) == ("7.5.1", (0, 29))
    assert (found.kafka_cluster_id, found.service_id, found.status) == ("k1", "default_", "RUNNING")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "script", [answer(NOT_READY, 503), Script([RESET]), Script([])], ids=["503", "reset", "hang-up"]
)
def test_server_info_is_tried_again_with_growing_pauses(
    server: ScriptedServer, make_client: MakeClient, script: Script
) -> None:
    """A server that is starting is waited for, up to the number of attempts."""
    client = make_client(server.url, attempts=4)
    server.script("/info", script, script, script, answer(info()))
    assert client.server_info().status == "RUNNING"
    assert len(server.requests) == 4
    assert len(make_client.waits) == 3
    assert 0.5 <= make_client.waits[0] < 1.5 <= make_client.waits[2]


def test_attempts_come_to_an_end(
    server: ScriptedServer, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """After the last attempt the server's own words are the error; each earlier one left a line in the log."""
    client = make_client(server.url, attempts=2)
    server.script("/info", answer(NOT_READY, 503))
    with caplog.at_level(logging.WARNING), pytest.raises(ServerUnavailableError) as caught:
        client.server_info()
    assert str(caught.value) == (
        f"server {server.url}: KSQL is not yet ready to serve requests. (50302)\n"
        "The server is starting, stopping or missing a node; try again in a moment."
    )
    assert len(server.requests) == 2
    (line,) = caplog.messages
    assert line.startswith(
        f"server {server.url}: KSQL is not yet ready to serve requests. (50302); attempt 2 follows"
    )


def test_only_reading_statements_are_repeated(server: ScriptedServer, make_client: MakeClient) -> None:
    """LIST is tried again after a 503, CREATE is sent once and the error says that it may have run."""
    client = make_client(server.url, attempts=3)
    server.script("/ksql", answer(NOT_READY, 503))
    with pytest.raises(ServerUnavailableError) as read:
        client.execute("SHOW TABLES;")
    assert len(server.requests) == 3
    assert "may have run" not in read.value.hint
    with pytest.raises(ServerUnavailableError) as write:
        client.execute("CREATE STREAM A AS SELECT * FROM B;")
    assert len(server.requests) == 4
    assert write.value.hint.endswith(
        "If the statement was sent it may have run: check that before you send it again."
    )


def test_a_refusal_that_will_not_pass_is_not_repeated(server: ScriptedServer, make_client: MakeClient) -> None:
    """A statement error is final at the first answer."""
    client = make_client(server.url, attempts=3)
    server.script("/ksql", answer(generic(40001, "Could not find STREAM/TABLE 'X' in the Metastore"), 400))
    with pytest.raises(StatementError) as caught:
        client.execute("DESCRIBE `X`;")
    assert len(server.requests) == 1
    assert str(caught.value) == (
        f"server {server.url}, statement DESCRIBE `X`;: the server refused the statement: "
        "Could not find STREAM/TABLE 'X' in the Metastore (40001)\n"
        "Names are case sensitive; `ksql-lake feeds discover` lists what the server has."
    )


def test_a_refused_connection_is_one_clear_line_with_the_address(make_client: MakeClient) -> None:
    """A refused connection is one sentence that names the URL, and a second one that says what to do."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServerUnavailableError) as caught:
        make_client(url, attempts=1).server_info()
    assert str(caught.value) == (
        f"server {url}: cannot connect: connection refused\n"
        "Is ksqlDB running there? Start it, or set KSQLDB_URL to its address."
    )


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (
            Script([RESET]),
            ServerUnavailableError,
            "the connection was closed without an answer: connection reset by peer",
        ),
        (Script([]), ServerUnavailableError, "the connection was closed without an answer: the server hung up"),
        (Script([SILENCE]), ServerUnavailableError, "connected, but no answer within 0.5 s"),
        (
            Script([b"\x15\x03\x03\x00\x02\x02\x50\r\n\r\n"]),
            ProtocolError,
            "the answer there is not HTTP",
        ),
        (answer(b"<html>", content_type="text/html"), ProtocolError, "not that of a ksqlDB server: '<html>'"),
        (answer(b'{"other":1}'), ProtocolError, "not that of a ksqlDB server: '{\"other\":1}'"),
        (answer(b""), ProtocolError, "not that of a ksqlDB server: an empty body"),
        (Script([head(Content_Length="100"), b"{"]), KsqlError, "the answer was cut off"),
        (Script([head(Content_Length="100"), b"{", SILENCE]), ServerUnavailableError, "fell silent for 0.5 s"),
        (Script([head(Transfer_Encoding="chunked"), b"5\r\n{"]), KsqlError, "the answer was cut off"),
        (
            Script([head(Transfer_Encoding="chunked"), b"zz\r\n{}\r\n"]),
            KsqlError,
            "framing is damaged|was cut off",
        ),
        (
            Script([head(Content_Encoding="gzip", Content_Length="4"), b"nope"]),
            KsqlError,
            "compression is damaged",
        ),
    ],
)
def test_every_way_an_answer_can_fail_is_an_error_of_ours(
    server: ScriptedServer, make_client: MakeClient, script: Script, kind: type[KsqlError], text: str
) -> None:
    """Broken, silent and foreign servers raise different errors, and no exception of a library."""
    client = make_client(server.url, attempts=1, read_timeout=idle_limit(script))
    server.script("/info", script)
    with pytest.raises(kind, match=text) as caught:
        client.server_info()
    assert f"server {server.url}" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        (
            {"ksqldb_user": "ada", "ksqldb_password": SECRET},
            "Basic " + base64.b64encode(f"ada:{SECRET}".encode()).decode(),
        ),
        ({"ksqldb_token": "t0k3n.abc"}, "Bearer t0k3n.abc"),
    ],
)
def test_credentials_go_out_with_the_first_request_and_show_nowhere(
    server: ScriptedServer,
    make_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
    credentials: dict[str, str],
    header: str,
) -> None:
    """The server gets them without asking; errors, logs, pickles and `repr` never hold them in any form."""
    client = make_client(server.url, attempts=2, **credentials)
    server.script("/info", answer(NOT_READY, 503), answer(generic(40100, "Unauthorized"), 401))
    with caplog.at_level(logging.DEBUG), pytest.raises(UnauthorizedError) as caught:
        client.server_info()
    assert [request.headers["authorization"] for request in server.requests] == [header, header]
    assert "Check KSQLDB_USER and KSQLDB_PASSWORD, or KSQLDB_TOKEN." in str(caught.value)
    shown = "\n".join(
        [
            *caplog.messages,
            str(caught.value),
            repr(caught.value),
            repr(vars(client)),
            repr(vars(client._session)),
            pickle.dumps(caught.value).decode("latin-1"),
        ]
    )
    for secret in (SECRET, "t0k3n", header.split()[1]):
        assert secret not in shown


def test_a_token_no_header_can_carry_is_refused_without_showing_it(make_client: MakeClient) -> None:
    """A pasted token with a line break inside is a settings error that keeps it secret."""
    with pytest.raises(SettingsError) as caught:
        make_client("http://127.0.0.1:1", ksqldb_token=f"{SECRET}\n")
    assert str(caught.value).startswith("KSQLDB_TOKEN holds characters that no HTTP header can carry")
    assert SECRET not in str(caught.value)


def test_netrc_is_never_read_and_proxies_do_not_stand_before_this_machine(
    server: ScriptedServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user's ~/.netrc and HTTP_PROXY change nothing about a request to 127.0.0.1."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    server.script("/info", answer(info()))
    make_client(server.url).server_info()
    assert "authorization" not in server.requests[0].headers


def test_a_proxy_of_the_environment_is_used_for_other_machines_and_its_password_is_not_shown(
    server: ScriptedServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As with curl HTTP_PROXY counts, but not `~/.netrc`; a broken proxy is named without its password."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:  # noqa: TID251
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.script("http://ksqldb.invalid:8088/info", answer(info()))
    make_client("http://ksqldb.invalid:8088").server_info()
    (request,) = server.requests
    assert "authorization" not in request.headers
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{SECRET}@127.0.0.1:{free_port()}")
    with pytest.raises(ServerUnavailableError) as caught:
        make_client("http://ksqldb.invalid:8088", attempts=1).server_info()
    assert str(caught.value) == (
        "server http://ksqldb.invalid:8088: the proxy on the way there failed: connection refused\n"
        "Check HTTP_PROXY and HTTPS_PROXY, or name the server's host in NO_PROXY."
    )
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{SECRET}@[oops")
    with pytest.raises(SettingsError, match="this address, or that of a proxy, cannot be used") as unusable:
        make_client("http://ksqldb.invalid:8088", attempts=1).server_info()
    assert SECRET not in "".join(traceback.format_exception(unusable.value))


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:99999", "http://" + "a" * 70 + ".invalid", "http://.x"]
)
def test_an_address_that_is_none_is_a_settings_error(make_client: MakeClient, url: str) -> None:
    """Whatever stands in KSQLDB_URL, the answer is a sentence about KSQLDB_URL."""
    with pytest.raises(KsqlLakeError) as caught:
        make_client(url, attempts=1).server_info()
    assert str(caught.value) == (
        f"server {url}: this address, or that of a proxy, cannot be used\n"
        "Set KSQLDB_URL to http://host:port or https://host:port, and check HTTP_PROXY and HTTPS_PROXY."
    )


def test_one_client_serves_many_threads(server: ScriptedServer, client: KsqlClient) -> None:
    """Statements from several threads each get their own answer."""
    server.script("/ksql", answer(b'[{"@type":"streams","streams":[]}]'))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(client.execute, [f"LIST STREAMS -- {number}\n" for number in range(40)]))
    assert answers == [[{"@type": "streams", "streams": []}]] * 40
    assert len(server.requests) == 40
