"""The server as a process: starting, stopping, versions, credentials, TLS."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import trustme
from click.testing import CliRunner

from ksql_lake.devserver.__main__ import main
from ksql_lake.devserver.process import DevServer
from ksql_lake.devserver.release import parse_version
from ksql_lake.errors import ConfigError
from ksql_lake_tests.devserver.conversation import DELIMITED, PATIENCE, V1, Client, raw_query

SMALL = ["--sample-rows", "50"]
STREAM = "SELECT TRANSACTION_ID FROM TRANSACTION_STREAM;"


def test_start_and_stop(tmp_path: Path) -> None:
    """The URL answers when start returns, the ready file holds it, and stopping is a clean exit."""
    ready = tmp_path / "ready"
    server = DevServer.start(arguments=["--ready-file", str(ready)])
    with server:
        assert requests.get(f"{server.url}/info", timeout=PATIENCE).status_code == 200
        assert ready.read_text() == server.url
        assert server.log == ""

    assert server.stop() == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/info", timeout=PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_push_queries_as_a_server_does(number: signal.Signals) -> None:
    """Push queries end with `Query Completed`, which therefore proves nothing; the exit code is 0."""
    with DevServer.start(sample=True, arguments=SMALL) as server:
        with Client(server.url).query("SELECT USER_ID FROM LOGIN_EVENTS EMIT CHANGES;", stream=True) as answer:
            os.kill(server.pid, number)
            assert answer.text.endswith('{"finalMessage":"Query Completed"}]')
        assert server.stop() == 0
        assert server.log == ""


def test_a_stop_breaks_pull_queries() -> None:
    """A pull that is under way when the server stops is cut, never ended as if it were whole."""
    with DevServer.start(sample=True, arguments=[*SMALL, "--fault", "hang:after_rows=10"]) as server:
        client = Client(server.url)
        with client.query(STREAM, stream=True) as answer:
            os.kill(server.pid, signal.SIGTERM)
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                answer.text  # noqa: B018
        assert server.stop() == 0


def test_a_server_does_not_outlive_its_parent() -> None:
    """When the process that started it is killed, the server ends by itself."""
    code = (
        "import os, signal; from ksql_lake.devserver.process import DevServer; server = DevServer.start();"
        "print(server.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    pid = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout)

    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=PATIENCE)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_killed_server_is_gone() -> None:
    """`kill` is a crash: connections break and the exit code says so."""
    with DevServer.start() as server:
        server.kill()
        assert server.stop() == -signal.SIGKILL


def test_a_taken_port_is_said() -> None:
    """Starting on a taken port fails with the address and the way out."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}") as error:
            DevServer.start(port=port)
    assert "0 takes a free one" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server-version", "new"], "Error: 'new' is not a server version such as "),
        (["--fault", "cut"], "Error: 'cut' is not a fault: "),
        (["--data", "/nowhere"], "Error: Invalid value for '--data': "),
        (["--data", "."], "Error: .: no NAME.sql file there\nOne CREATE STREAM or TABLE per file."),
    ],
)
def test_wrong_options_are_said_in_one_paragraph(arguments: list[str], message: str, tmp_path: Path) -> None:
    """A mistake on the command line is a sentence and an exit code, never a traceback."""
    with chdir(tmp_path):
        result = CliRunner().invoke(main, ["--port", "0", *arguments])

    assert result.exit_code != 0
    assert message in result.output


def test_help_names_every_option() -> None:
    """`--help` works without starting anything."""
    shown = subprocess.run(
        [sys.executable, "-m", "ksql_lake.devserver", "--help"], capture_output=True, text=True, check=True
    )

    for option in (
        "--port",
        "--data",
        "--sample",
        "--fault",
        "--server-version",
        "--row-chunks",
        "--ready-file",
    ):
        assert option in shown.stdout


def test_importing_the_launcher_is_cheap() -> None:
    """A test run that imports `process` does not pay for DuckDB or a web framework."""
    code = "import sys, ksql_lake.devserver.process; print({'duckdb', 'starlette'} & set(sys.modules))"

    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )


@pytest.mark.parametrize(
    ("version", "end", "query_stream"),
    [("0.24.0", ",\n]", 200), ("0.23.1", ",\n\n]\n", 400), ("7.0.0", None, 400)],
)
def test_releases_differ_as_they_really_do(version: str, end: str | None, query_stream: int) -> None:
    """Old releases have no final message, no /query-stream over HTTP/1.1, and the oldest no stream pulls."""
    with DevServer.start(sample=True, arguments=[*SMALL, "--server-version", version]) as server:
        client = Client(server.url)
        assert requests.get(server.url, timeout=PATIENCE).json()["KsqlServerInfo"]["version"] == version
        answer = client.query(STREAM)
        if end is None:
            assert answer.status_code == 400
            assert "Pull queries on streams are disabled." in answer.json()["message"]
        else:
            assert answer.text.endswith(end)
            assert answer.text.count('{"row"') == 50
        assert client.query_stream("SELECT NAME FROM MERCHANTS;").status_code == query_stream


@pytest.mark.parametrize(
    ("text", "release"),
    [("0.29.0", (0, 29)), ("7.5.1-ccs", (0, 29)), ("8.1.0", (0, 29)), ("7.2.3", (0, 26)), ("5.5.0", (0, 7))],
)
def test_confluent_platform_numbers_stand_for_releases(text: str, release: tuple[int, int]) -> None:
    """Every Confluent Platform number behaves like the release it ships."""
    assert parse_version(text).release == release


def test_credentials_are_demanded() -> None:
    """Everything but /healthcheck answers 401/40100 without the right user or token."""
    with DevServer.start(arguments=["--user", "me:pass:word", "--token", "t0ken"]) as server:

        def status(path: str, **arguments: Any) -> int:
            return requests.get(server.url + path, timeout=PATIENCE, **arguments).status_code

        refused = requests.get(f"{server.url}/info", timeout=PATIENCE)
        assert refused.status_code == 401
        assert refused.json() == {"@type": "generic_error", "error_code": 40100, "message": "Unauthorized"}
        assert status("/info", auth=("me", "no")) == 401
        assert status("/info", headers={"Authorization": "Bearer no"}) == 401
        assert status("/info", auth=("me", "pass:word")) == 200
        assert status("/info", headers={"Authorization": "Bearer t0ken"}) == 200
        assert status("/healthcheck") == 200


def test_tls_with_client_certificates(tmp_path: Path) -> None:
    """Https is served with the given certificate, and only to clients of the given authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, certificate in (
        ("server", authority.issue_cert("127.0.0.1")),
        ("me", authority.issue_cert("me@me")),
    ):
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    arguments = ["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "ca.pem"]
    paths = [str(tmp_path / item) if item.endswith((".pem", ".key")) else item for item in arguments]

    with DevServer.start(sample=True, arguments=[*SMALL, *paths]) as server:
        assert server.url.startswith("https://")
        ca, pair = str(tmp_path / "ca.pem"), (str(tmp_path / "me.pem"), str(tmp_path / "me.key"))
        answer = requests.post(
            f"{server.url}/query",
            json={"ksql": STREAM},
            headers={"Accept": V1},
            verify=ca,
            cert=pair,
            timeout=PATIENCE,
        )
        assert answer.text.endswith('{"finalMessage":"Query Completed"}]')
        with pytest.raises((requests.ConnectionError, ssl.SSLError)):
            requests.get(f"{server.url}/info", verify=ca, timeout=PATIENCE)


def test_a_streams_rows_can_come_in_large_chunks() -> None:
    """Each row is one HTTP chunk; --large-chunks sends the same bytes in few."""
    bodies = []
    for arguments in (SMALL, [*SMALL, "--large-chunks"]):
        with DevServer.start(sample=True, arguments=arguments) as server:
            answer = raw_query(server.url, "SELECT * FROM TRANSACTION_STREAM;")
            assert answer.ended
            bodies.append(b"".join(answer.chunks).split(b"\n", 1)[1])
            rows = [chunk for chunk in answer.chunks if chunk.startswith(b'{"row"')]
            assert len(rows) == (1 if "--large-chunks" in arguments else 50)
            for row in rows[:50]:
                assert json.loads(b"[" + row.rstrip(b",\n") + b"]")

    assert bodies[0] == bodies[1]


def test_the_query_stream_forms_always_send_a_row_per_chunk() -> None:
    """Clients that take a chunk for a row find exactly that, whatever the options."""
    with DevServer.start(sample=True, arguments=SMALL) as server:
        for accept, first, row in ((DELIMITED, b'{"queryId"', b"["), ("application/json", b"[{", b",[")):
            answer = raw_query(server.url, STREAM, path="/query-stream", accept=accept)
            head, *rows = [chunk for chunk in answer.chunks if chunk != b"]"]
            assert head.startswith(first)
            assert len(rows) == 51
            assert all(chunk.startswith(row) for chunk in rows[:50])
            assert rows[50] == b""
