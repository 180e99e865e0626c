"""README's exit codes hold for every command: 0 done, 1 failed, 2 usage or configuration, 130 interrupted."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator

import click
import pytest

from ksql_lake.cli.app import LazyGroup, app, feeds
from ksql_lake.cli.entry import DONE, FAILED, INTERRUPTED, USAGE
from ksql_lake_tests.cli.conftest import STREAM, TABLE, Cli, Project, ended

NOWHERE = "http://127.0.0.1:9"

LONG_RUNNING = {"demo", "devserver"}
"""Commands that start servers or processes; elsewhere there are tests of what ends them."""

ARGUMENTS = {
    "certify": ("orders", "2025-01-01"),
    "completion": ("bash",),
    "export": ("--all",),
    "plan": ("--all",),
    "catalog": ("lake.duckdb",),
    "diff": ("totals",),
    "head": ("orders",),
    "describe": ("orders",),
    "schema": ("orders",),
    "profile": ("orders",),
    "sql": ("SELECT 1",),
    "compact": ("--all",),
    "register": ("--all", "--format", "delta"),
    "feeds show": ("orders",),
    "feeds add": ("--source", "NEW", "--kind", "table"),
    "feeds enable": ("orders",),
    "feeds disable": ("orders",),
    "feeds archive": ("orders",),
    "feeds restore": ("orders",),
    "feeds accept": ("orders",),
    "feeds prepare": ("orders",),
}
"""What a command needs, beyond its name, to have something to do."""

ASKING = {
    "certify": ("orders", "2025-01-01"),
    "export": ("--all",),
    "plan": ("--all", "--server"),
    "ping": (),
    "report": (),
    "feeds add": ("--source", "NEW"),
    "feeds discover": (),
    "feeds validate": ("--server",),
    "feeds prepare": ("orders",),
}
"""Commands that wait for the server, and how."""


def _commands() -> Iterator[str]:
    for name in app.commands:
        if name == "feeds":
            yield from (f"feeds {inner}" for inner in feeds.commands)
        else:
            yield name


def _command(name: str) -> click.Command:
    group: LazyGroup = feeds if name.startswith("feeds ") else app
    found = group.get_command(click.Context(group), name.removeprefix("feeds "))
    assert found is not None
    return found


COMMANDS = sorted(_commands())
WITHOUT_SETTINGS = {"completion", "feeds accept", "feeds schema", "init"}
"""Commands that need no setting of the server."""


@pytest.fixture
def feeds_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two feeds, no lake, and a server that is not there."""
    project.feed(STREAM)
    project.feed(TABLE)
    monkeypatch.setenv("KSQLDB_URL", NOWHERE)
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "1")
    return project


@pytest.mark.parametrize("name", COMMANDS)
def test_a_mistake_in_usage_is_2(cli: Cli, name: str) -> None:
    """An unknown option is an error without a traceback."""
    said = cli(*name.split(), "--no-such-option")

    assert (said.code, said.out) == (USAGE, "")
    assert said.err.startswith("error: no such option")
    assert "Traceback" not in said.err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_0(cli: Cli, name: str) -> None:
    """Help is a result like any other."""
    said = cli(*name.split(), "--help")

    assert (said.code, said.err) == (DONE, "")
    assert said.out.startswith("Usage: ")


@pytest.mark.usefixtures("feeds_folder")
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - LONG_RUNNING))
def test_what_fails_says_so_by_its_code(cli: Cli, name: str) -> None:
    """Without lake and server a command is done, or ends with 1 or 2 and a paragraph; --json stays JSON."""
    command = _command(name)
    as_json = any("--json" in option.opts for option in command.params)

    said = cli(*name.split(), *ARGUMENTS.get(name, ()), *(["--json"] if as_json else []))

    assert said.code in (DONE, FAILED, USAGE)
    assert "unexpected" not in said.err
    assert said.code == DONE or "error: " in said.err or said.out
    if as_json:
        json.loads(said.out)


def _prints(name: str, option: str) -> bool:
    return any(option in known.opts for known in _command(name).params)


@pytest.mark.parametrize(
    "line",
    [f"{name} --json" for name in COMMANDS if _prints(name, "--json")]
    + [f"{name} --format json" for name in COMMANDS if _prints(name, "--json") and _prints(name, "--format")],
)
def test_a_wrong_line_is_a_document_where_one_was_asked_for(cli: Cli, line: str) -> None:
    """A mistake in the use of a command that prints JSON is JSON too: `jq` takes nothing for success."""
    said = cli(*line.split(), "--nonsense")

    found = json.loads(said.out)["error"]
    assert said.code == USAGE
    assert list(found) == ["type", "message", "hint", "where"]
    assert found["message"].startswith("no such option '--nonsense'")
    assert found["hint"].startswith("Help: ksql-lake ")
    assert said.err == f"error: {found['message']}\n{found['hint']}\n"


@pytest.mark.parametrize("line", ["feeds enable orders --json", "nonsense --json", "compact -- --json"])
def test_a_line_that_asks_for_no_document_gets_none(cli: Cli, line: str) -> None:
    """A command without --json prints a paragraph only."""
    said = cli(*line.split())

    assert (said.code, said.out) == (USAGE, "")


@pytest.mark.usefixtures("feeds_folder")
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - LONG_RUNNING - WITHOUT_SETTINGS))
def test_an_unusable_environment_is_2(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable that cannot be used is named before anything is done."""
    monkeypatch.setenv("KSQLDB_URL", "ftp://nowhere")

    said = cli(*name.split(), *ARGUMENTS.get(name, ()))

    assert said.code == USAGE
    assert "KSQLDB_URL" in said.err


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.mark.parametrize("name", sorted(ASKING))
def test_ctrl_c_is_130(feeds_folder: Project, silent_server: socket.socket, name: str) -> None:
    """Whatever waits for a silent server ends at once when it is interrupted; a program gets JSON."""
    url = f"http://127.0.0.1:{silent_server.getsockname()[1]}"
    as_json = ["--json"] if _prints(name, "--json") else []
    process = feeds_folder.start(*name.split(), *ASKING[name], *as_json, KSQLDB_URL=url)
    connection, _ = silent_server.accept()

    with connection:
        process.send_signal(signal.SIGINT)
        said = ended(process)

    assert said.code == INTERRUPTED
    assert "Traceback" not in said.err
    if as_json:
        assert json.loads(said.out)["error"]["type"] == "Interrupted"


def test_ctrl_c_while_a_question_is_awaited_is_130(feeds_folder: Project) -> None:
    """A command that waits for input ends too."""
    pipe = feeds_folder.root / "question.sql"
    os.mkfifo(pipe)
    process = feeds_folder.start("sql", "-f", str(pipe))

    with pipe.open("wb"):  # opens as soon as the other side does
        process.send_signal(signal.SIGINT)
        said = ended(process)

    assert (said.code, said.out, said.err.strip()) == (INTERRUPTED, "", "error: interrupted")
