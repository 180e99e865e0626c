"""Errors that leave a command, and output nobody reads."""

from __future__ import annotations

import subprocess

import click
import pytest

from ksql_lake.cli import running
from ksql_lake.cli.app import app
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

    assert said.code == running.FAILED
    assert said.err.startswith("Traceback (most recent call last):")
    assert said.err.endswith("ValueError: odd\n")


def test_a_reader_that_goes_away_is_no_error_text(project: Project) -> None:
    """`ksql-lake ... | head -1` ends quietly, however much is left to write."""
    project.feed({**TABLE, **{f"unknown_{number}": 1 for number in range(3000)}})

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
        assert process.stdout.readline().startswith("feeds/active/totals.json: unknown_0: ")
        process.stdout.close()
        err = process.stderr.read()

    assert (process.returncode, err) == (1, "")
