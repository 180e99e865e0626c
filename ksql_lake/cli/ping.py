"""`ksql-lake ping`: check the server, what can be exported from it, and what would help."""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import asdict

import click

from ksql_lake.cli.terminal.output import print_json, print_line, waiting
from ksql_lake.export.server_check import Probe, examine
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.settings import load_settings

_HELP = """Check what can be exported from the server at KSQLDB_URL.

It checks address, TLS, credentials, version, permissions, nodes, the query properties that the server refuses,
the evidence that a table's rows can have, and whether a stream can be read from where the last export ended.
It reads at most one row of a stream and of a table, and changes nothing.

Exit codes: 0 exports can run, 1 they cannot, 2 the settings are wrong.

\b
Examples:
  ksql-lake ping
  KSQLDB_URL=https://ksqldb.example.com:8088 ksql-lake ping --json
"""
_MARKS = {"works": ("ok", "green"), "limited": ("limited", "yellow"), "fails": ("fails", "bold red")}
_INDENT = 8


@click.command(help=_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def ping(context: click.Context, /, *, as_json: bool) -> None:
    """Check what can be exported from the server."""
    settings = load_settings()
    # A person waits at the prompt: report an unreachable server at once.
    with KsqlClient(settings.model_copy(update={"attempts": 1})) as client, waiting(f"asking {client.url}"):
        found = list(examine(client))
    works = all(finding.state != "fails" for finding in found)
    if as_json:
        print_json(
            {"url": settings.ksqldb_url, "works": works, "findings": [asdict(finding) for finding in found]}
        )
    else:
        for finding in found:
            _print(finding)
        _print_sum(found, url=settings.ksqldb_url)
    context.exit(0 if works else 1)


def _print(finding: Probe) -> None:
    mark, style = _MARKS[finding.state]
    first, *rest = [*_lines(f"{finding.name}: {finding.text}"), *_lines(finding.fix)]
    print_line((f"{mark:<{_INDENT}}", style), first)
    for line in rest:
        print_line(f"{'':<{_INDENT}}{line}")


def _lines(text: str) -> list[str]:
    """Return a text in lines that fit beside the marks; a pipe gets it unchanged."""
    if not sys.stdout.isatty():
        return text.splitlines()
    width = max(20, shutil.get_terminal_size().columns - _INDENT)
    return [part for line in text.splitlines() for part in textwrap.wrap(line, width, break_on_hyphens=False)]


def _print_sum(found: list[Probe], *, url: str) -> None:
    failing = [finding.name for finding in found if finding.state == "fails"]
    limited = [finding.name for finding in found if finding.state == "limited"]
    if failing:
        click.echo(f"\nNothing can be exported from {url} until this is corrected: {', '.join(failing)}")
        return
    click.echo(f"\nExports from {url} can run." + (f" Limited: {', '.join(limited)}" if limited else ""))
