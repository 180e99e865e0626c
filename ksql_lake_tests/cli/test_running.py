"""Errors that leave a command, and output without a reader."""

from __future__ import annotations

import shlex
import subprocess

import click
import pytest

from ksql_lake.cli import entry
from ksql_lake.cli.app import app
from ksql_lake.cli.entry import unexpected_text
from ksql_lake.errors import DecodeError, FeedError, KsqlLakeError
from ksql_lake_tests.cli.conftest import COMMAND, TABLE, Cli, Project

AGAIN = "(run again with --debug for the traceback)"


def _failing_with(error: BaseException) -> click.Command:
    def fail() -> None:
        raise error

    return click.Command("fail", callback=fail)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            DecodeError("not a number", hint="Look at it.", feed="x", row=7),
            1,
            "error: feed x, row 7: not a number\nLook at it.\n",
        ),
        (
            FeedError("2 problems", problems=["a: [x] is bad", "b: worse"], file="f.json"),
            2,
            "error: file f.json: 2 problems\n  a: [x] is bad\n  b: worse\n",
        ),
        (KsqlLakeError("plain"), 1, "error: plain\n"),
        (KeyboardInterrupt(), 130, "\nerror: interrupted\n"),
        (
            ValueError("odd\nthing"),
            1,
            f"error: unexpected ValueError: odd thing {AGAIN}\n",
        ),
        (EOFError("cut"), 1, f"\nerror: unexpected EOFError: cut {AGAIN}\n"),
        (click.Abort(), 130, "error: interrupted\n"),
        (
            AssertionError(),
            1,
            f"error: unexpected AssertionError: no message {AGAIN}\n",
        ),
        (
            ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn"),
            1,
            "error: this needs the package 'uvicorn'\nInstall it: pip install 'ksql-lake[devserver]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'zzz'", name="zzz"),
            1,
            f"error: unexpected ModuleNotFoundError: No module named 'zzz' {AGAIN}\n",
        ),
        (click.ClickException("the port is taken"), 2, "error: the port is taken\n"),
    ],
)
def test_every_error_becomes_one_paragraph_and_an_exit_code(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    """The type of an error decides the exit code; nobody sees a traceback unasked."""
    monkeypatch.setitem(app.commands, "fail", _failing_with(error))
    monkeypatch.setattr(app, "get_command", lambda _context, name: app.commands[name])

    said = cli("fail")

    assert (code, "", text) == (said.code, said.out, said.err)


def test_debug_shows_the_traceback_wherever_it_stands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--debug` works behind the command, where people add it when they run the line again."""
    monkeypatch.setitem(app.commands, "fail", _failing_with(ValueError("odd")))
    monkeypatch.setattr(app, "get_command", lambda _context, name: app.commands[name])

    said = cli("fail", "--debug")

    assert said.code == entry.FAILED
    assert said.err.startswith("Traceback (most recent call last):")
    assert said.err.endswith("ValueError: odd\n")


def test_a_reader_that_goes_away_is_no_error_text(project: Project) -> None:
    """`ksql-lake ... | head -1` ends quietly, however much is left to write."""
    wrong = {f"unknown_{number}": 1 for number in range(100)}
    for number in range(40):  # more text than a pipe holds
        project.feed({**TABLE, "name": f"totals_{number:02}", **wrong})

    with subprocess.Popen(
        [*COMMAND, "feeds", "validate"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("feeds/active/totals_00.json: unknown_0: ")
        process.stdout.close()
        err = process.stderr.read()

    assert (process.returncode, err) == (1, "")


PROGRAM = " ".join(map(shlex.quote, COMMAND))


def in_shell(project: Project, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in a project's folder."""
    return subprocess.run(
        ["sh", "-c", line],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("where", ["/dev/full", "&-"])
@pytest.mark.parametrize("command", ["export --all", "export --all --json", "feeds list"])
def test_a_standard_output_that_takes_nothing_is_told(sample: Project, where: str, command: str) -> None:
    """The work is done, no file is mixed with output; error and exit code 1 say that the report is lost."""
    done = in_shell(sample, f"{PROGRAM} {command} >{where}")

    assert done.returncode == 1
    reason = "is closed" if where == "&-" else "cannot be written: no space left on device"
    assert f"error: standard output {reason}\n" in done.stderr
    assert "The command did its work; only its output is lost." in done.stderr
    assert "unexpected" not in done.stderr
    if command != "feeds list":
        assert sample.rows("merchants") == 500
        assert sample.process("doctor").code == 0


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "| true"])
def test_an_error_needs_no_standard_output(project: Project, where: str) -> None:
    """Where the document of an error cannot be written, its paragraph is all there is; the code stays."""
    done = in_shell(project, f"{{ {PROGRAM} compact --json; echo $? >code; }} {where}")

    assert (project.root / "code").read_text() == "2\n"
    assert done.stderr == "error: name feeds, or say --all\nHelp: ksql-lake compact --help\n"


def test_too_little_memory_is_told() -> None:
    """Not the name of an exception, but what is missing and what to do."""
    assert unexpected_text(MemoryError()) == (
        "out of memory; export fewer feeds at once (--workers 1), or use a machine with more memory"
    )


def test_credentials_in_the_clear_are_told_by_every_command(project: Project) -> None:
    """Once, whatever the command; with KSQL_LAKE_REQUIRE_TLS=1 nothing is sent."""
    project.feed({"name": "a", "kind": "table", "source": "A"})
    signed = {"KSQLDB_URL": "http://192.0.2.1:9", "KSQLDB_USER": "ada", "KSQLDB_PASSWORD": "very secret"}
    impatient = {"KSQLDB_CONNECT_TIMEOUT": "0.05", "KSQLDB_ATTEMPTS": "1"}

    warned = project.process("export", "--all", **signed, **impatient)
    refused = project.process("export", "--all", **signed, **impatient, KSQL_LAKE_REQUIRE_TLS="1")

    assert warned.err.count("warning: credentials go to http://192.0.2.1:9 in the clear") == 1
    assert refused.code == 2
    assert refused.err.startswith("error: credentials would go to http://192.0.2.1:9 in the clear")
