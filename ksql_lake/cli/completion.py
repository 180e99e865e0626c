"""`ksql-lake completion`: shell completion of commands and of the names of feeds, sources and columns.

A completion never fails and never waits long: it leaves out what it cannot find out at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import click
from click.shell_completion import CompletionItem, get_completion_class

from ksql_lake import ksqldb
from ksql_lake.errors import KsqlLakeError
from ksql_lake.settings import load_settings

_SECONDS = 2.0
"""Seconds the server may take to answer."""

_HELP = """Print the script that lets a shell complete commands and the names of feeds, sources and columns.

\b
Examples:
  eval "$(ksql-lake completion bash)"                                  in ~/.bashrc
  eval "$(ksql-lake completion zsh)"                                   in ~/.zshrc
  ksql-lake completion fish > ~/.config/fish/completions/ksql-lake.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, *, shell: str) -> None:
    """Print a completion script."""
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - the choices are click's own
    click.echo(made(context.find_root().command, {}, "ksql-lake", "_KSQL_LAKE_COMPLETE").source())


Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""A function for click's `shell_complete`."""


def _completer(names: Callable[[click.Context], Iterable[str]]) -> Completer:
    """Return a function that completes to the names that begin with the typed text, in any letter case."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        typed = incomplete.casefold()
        return [CompletionItem(name) for name in names(context) if name.casefold().startswith(typed)]

    return complete


def feed_names(kind: str = "", folder: Literal["active", "archived", "proposed"] = "active") -> Completer:
    """Complete to the names of feeds.

    Args:
        kind: `stream` or `table`; empty for both, and for files that cannot be read.
        folder: The folder of their files.
    """
    return _completer(lambda _: _feeds(kind, folder))


def _feeds(kind: str, folder: str) -> Iterator[str]:
    try:
        paths = sorted((load_settings().feeds_root / folder).glob("*.json"))
    except (KsqlLakeError, OSError):
        return
    for path in paths:
        if not kind or _kind(path) == kind:
            yield path.stem


def _sources(_: click.Context) -> list[str]:
    return _asked(lambda client: [found.name for found in ksqldb.list_sources(client)])


def _columns(context: click.Context) -> list[str]:
    source = str(context.params.get("source") or "")
    if not source:
        return []
    return _asked(lambda client: [column.name for column in ksqldb.describe(client, source).columns])


source_names = _completer(_sources)
"""Completes to the server's streams and tables."""

column_names = _completer(_columns)
"""Completes to the columns of the source that the line names with `--source`."""


def _asked(question: Callable[[ksqldb.KsqlClient], list[str]]) -> list[str]:
    """Return the answer of the server; nothing when it does not answer."""
    try:
        settings = load_settings(attempts=1, connect_timeout=_SECONDS, read_timeout=_SECONDS)
        with ksqldb.KsqlClient(settings) as client:
            return question(client)
    except KsqlLakeError:
        return []


def _kind(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
