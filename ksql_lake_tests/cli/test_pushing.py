"""The command line and sources that only a push query can read."""

from __future__ import annotations

import json
import signal
import subprocess

import requests

from ksql_lake_tests.cli.conftest import Cli, Project, Server, ended

PLAIN = {"name": "plain", "kind": "table", "source": "PLAIN"}

_STRUCK_ELSEWHERE = """
import signal, sys, threading

def strike():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=strike, daemon=True).start()
"""
"""A process whose SIGINT reaches a thread of its own, once a line has come in."""


def append(server: Server, source: str, *rows: dict[str, object]) -> None:
    """Append rows on the server."""
    body = "\n".join(json.dumps(row) for row in rows)
    address = f"{server.url}/devserver/sources/{source}/rows"
    requests.post(address, data=body, timeout=30).raise_for_status()


def test_add_chooses_push_where_nothing_else_can_read(cli: Cli, project: Project, server: Server) -> None:
    """The command says the reason, the file has the key; a source that a pull query can read gets no key."""
    assert server.url

    plain = cli("feeds", "add", "--source", "PLAIN")
    merchants = cli("feeds", "add", "--source", "MERCHANTS")

    assert plain.code == 0
    assert plain.err.startswith(
        "note: PLAIN is read by push query: PLAIN is a plain CREATE TABLE: the server keeps"
    )
    files = {path.stem: json.loads(path.read_text()) for path in (project.root / "feeds/active").iterdir()}
    assert files["plain"]["extraction"] == "push"
    assert "extraction" not in files["merchants"]
    assert "push" not in merchants.err


def test_validate_asks_the_server_and_puts_it_right(cli: Cli, project: Project, server: Server) -> None:
    """A feed of a plain table is a problem until it says push, which `--write` lets it say."""
    assert server.url
    path = project.feed(PLAIN)
    project.feed({"name": "gone", "kind": "table", "source": "GONE"})
    project.feed({"name": "merchants", "kind": "table", "source": "MERCHANTS", "extraction": "push"})

    offline = cli("feeds", "validate")
    asked = cli("feeds", "validate", "--server")
    written = cli("feeds", "validate", "--server", "--write")

    assert offline.code == 0
    assert asked.code == 2
    assert f'{path}: extraction: must be "push": PLAIN is a plain CREATE TABLE'[-60:] in asked.out
    assert "gone.json: the server has no stream or table 'GONE'" in asked.out
    assert "note: merchants is read by push query, but a pull query could read MERCHANTS" in asked.err
    assert "2 problems in 2 files" in asked.err
    assert written.code == 2
    assert "extraction is push now" in written.err
    assert json.loads(path.read_text())["extraction"] == "push"
    assert cli("feeds", "validate", "--write").code == 2


def test_a_plain_table_is_exported(cli: Cli, project: Project, server: Server) -> None:
    """`export` reads it like any other, and `--json` says what showed that it had caught up."""
    append(server, "PLAIN", {"ID": 1, "V": "a"}, {"ID": 2, "V": "b"}, {"ID": 1, "V": "c"})
    project.feed({**PLAIN, "extraction": "push"})

    said = project.process(
        "export", "--table", "plain", "--json", KSQLDB_URL=server.url, KSQLDB_QUIET_SECONDS="1"
    )
    export = json.loads(said.out)["exports"][0]

    assert said.code == 0, said.err
    assert export["caught_up"].startswith("every partition of p was read to its end")
    assert project.rows("plain") == 2
    assert cli("export", "--all", "--new-topic").code == 2


def silent_export(project: Project, server: Server, *, preamble: str = "") -> subprocess.Popen[str]:
    """Start an export that waits for its query to fall silent for longer than any test."""
    project.feed({**PLAIN, "extraction": "push"})
    server.fault(kind="no_positions")
    environment = {"KSQLDB_URL": server.url, "KSQLDB_QUIET_SECONDS": "600"}
    process = project.start_with(preamble, "export", "--table", "plain", **environment)
    server.wait_for_queries(1)
    return process


def test_an_interrupted_export_ends_its_query(project: Project, server: Server) -> None:
    """Ctrl-C during the wait for silence ends the query on the server, and nothing lands."""
    process = silent_export(project, server)

    process.send_signal(signal.SIGINT)
    said = ended(process)

    assert said.code == 130
    assert server.queries == []
    assert project.parquet == []


def test_an_interruption_that_wakes_nobody_is_heeded(project: Project, server: Server) -> None:
    """A signal that another thread than the waiting one received ends the export like any other."""
    process = silent_export(project, server, preamble=_STRUCK_ELSEWHERE)

    assert process.stdin is not None
    process.stdin.write("now\n")
    process.stdin.flush()
    said = ended(process)

    assert said.code == 130
    assert server.queries == []
    assert project.parquet == []


def test_sigterm_ends_an_export_that_was_started_deaf_to_it(project: Project, server: Server) -> None:
    """What Dagster starts in the background inherits an ignored SIGTERM, and ends by one all the same."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    process = silent_export(project, server, preamble=deaf)

    process.terminate()
    said = ended(process)

    assert said.code == 130
    assert server.queries == []
