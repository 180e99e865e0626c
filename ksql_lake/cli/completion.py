"""`ksql-lake completion`: shell completion of commands and of the names of feeds, sources and columns.

A completion never fails and never waits long: it leaves out what it cannot find out at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

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


class FeedNames(click.ParamType[str]):
    """The name of a feed.

    Args:
        kind: `stream` or `table`; empty for both.
        folder: The folder of feed files, e.g. `active`.
    """

    name = "text"

    def __init__(self, kind: str = "", folder: str = "active") -> None:
        self.kind, self.folder = kind, folder

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the names that begin with the typed text; without a kind also those of unreadable files."""
        return _items(self._names(), incomplete)

    def _names(self) -> Iterator[str]:
        try:
            paths = sorted((load_settings().feeds_root / self.folder).glob("*.json"))
        except (KsqlLakeError, OSError):
            return
        for path in paths:
            if not self.kind or _kind(path) == self.kind:
                yield path.stem


class SourceNames(click.ParamType[str]):
    """The name of a stream or table of the server."""

    name = "text"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the names that begin with the typed text."""
        return _items(_asked("SHOW"), incomplete)


class ColumnNames(click.ParamType[str]):
    """A column of the source that the line names with `--source`."""

    name = "text"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the columns that begin with the typed text."""
        return _items(_asked(str(ctx.params.get("source") or "")), incomplete)


def _asked(source: str) -> list[str]:
    """Return the columns of a source, or for `SHOW` the sources; nothing when the server does not answer."""
    # The client takes a moment to import, and most completions ask no server.
    from ksql_lake.ksqldb import KsqlClient, describe, list_sources  # noqa: PLC0415

    if not source:
        return []
    try:
        settings = load_settings(attempts=1, connect_timeout=_SECONDS, read_timeout=_SECONDS)
        with KsqlClient(settings) as client:
            if source == "SHOW":
                return [found.name for found in list_sources(client)]
            return [column.name for column in describe(client, source).columns]
    except KsqlLakeError:
        return []


def _kind(path: Path) -> str:
    try:
        return str(json.loads(path.read_bytes())["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _items(names: Sequence[str] | Iterator[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin with the typed text, in any letter case."""
    begins: Callable[[str], bool] = lambda name: name.casefold().startswith(incomplete.casefold())  # noqa: E731
    return [CompletionItem(name) for name in names if begins(name)]
