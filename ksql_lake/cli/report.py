"""`ksql-lake report`: how every feed is, as text, HTML, JSON, CSV or Prometheus metrics."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ksql_lake.cli.terminal.output import note, plain_lines, print_table, waiting
from ksql_lake.cli.terminal.whole_file import form_of, whole_file
from ksql_lake.feeds import FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.report import (
    MetadataAnalyzer,
    MetadataReader,
    Report,
    render_csv,
    render_html,
    render_json,
    render_prometheus,
)
from ksql_lake.report.console import feed_table, headline, remarks
from ksql_lake.settings import load_settings

_RENDERERS = {"html": render_html, "json": render_json, "csv": render_csv, "prometheus": render_prometheus}
_SUFFIXES = {
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".csv": "csv",
    ".prom": "prometheus",
    ".txt": "console",
}

_CONNECT_SECONDS = 5.0
"""How long the server may take to be reached; the report does without its answer."""

_ANSWER_SECONDS = 30.0
"""How long it may stay silent."""

_HELP = """Tell how every feed is: what it holds, how fresh it is, which days are missing.

Reads the lake's metadata and a sample of its files, and asks the server, if it can be reached, for sources
without a feed and for days that Kafka can still deliver. Changes nothing.

\b
Examples:
  ksql-lake report
  ksql-lake report --output report.html      one file with plots, to open or to mail
  ksql-lake report --format json | jq '.feeds[] | select(.status != "complete")'
  ksql-lake report --offline --format prometheus --output /var/lib/node_exporter/ksql_lake.prom

Statuses: complete, incomplete (days missing), stale (older than checks.max_age_hours), empty, never ran,
failed, disabled.
"""


@click.command(help=_HELP)
@click.option(
    "--format",
    "form",
    type=click.Choice(["console", *_RENDERERS]),
    help="Default: by the name of --output, else console.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option("--offline", is_flag=True, help="Do not ask the server.")
def report(*, form: str | None, output: Path | None, offline: bool) -> None:
    """Tell how every feed is."""
    form = form or form_of(output, _SUFFIXES)
    if form == "html" and output is None and sys.stdout.isatty():
        raise click.UsageError("a page is for a browser; say where to: --output report.html")
    made = _made(offline=offline)
    if output is not None:
        text = _console_text(made) if form == "console" else _RENDERERS[form](made)
        with whole_file(output, "the report") as path:
            path.write_text(text, encoding="utf-8")
        note(f"{output}: {made.totals.feeds} feeds as {form}", label="written")
    elif form == "console":
        _print(made)
    else:
        click.echo(_RENDERERS[form](made), nl=False)


def _made(*, offline: bool) -> Report:
    settings = load_settings()
    feeds = FeedStore(settings.feeds_root).load()
    reader = MetadataReader(settings.lake_root)
    if offline:
        return MetadataAnalyzer(reader, feeds).generate_report()
    # One attempt: a report at once, without the server's part, is worth more than one in a minute.
    patience = min(settings.connect_timeout, _CONNECT_SECONDS)
    asking = load_settings(
        attempts=1, connect_timeout=patience, read_timeout=min(settings.read_timeout, _ANSWER_SECONDS)
    )
    with KsqlClient(asking) as client, waiting(f"reading {reader.root}, asking {client.url}"):
        return MetadataAnalyzer(reader, feeds, client=client).generate_report()


def _print(made: Report) -> None:
    click.echo(headline(made))
    table = feed_table(made)
    if table.rows:
        click.echo()
        print_table(table.headers, table.rows, right=table.right, flexible=("Feed",))
    click.echo()
    for line in remarks(made):
        click.echo(line)


def _console_text(made: Report) -> str:
    table = feed_table(made)
    titles = [header.upper() for header in table.headers]
    right_at = {at for at, header in enumerate(table.headers) if header in table.right}
    lines = plain_lines([titles, *table.rows], right_at=right_at) if table.rows else []
    return "\n".join([headline(made), "", *lines, "", *remarks(made)]) + "\n"
