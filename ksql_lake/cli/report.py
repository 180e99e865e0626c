"""`ksql-lake report`: report every feed's state as text, HTML, JSON, CSV or Prometheus metrics."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from ksql_lake.cli.entry import FAILED, complain
from ksql_lake.cli.terminal.loudness import begin_document
from ksql_lake.cli.terminal.output import line_width, note, notes_from_log, plain_lines, print_table, waiting
from ksql_lake.cli.terminal.whole_file import chosen_form, form_of, whole_file
from ksql_lake.feeds import FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.report import (
    FeedReport,
    MetadataAnalyzer,
    MetadataReader,
    Report,
    Status,
    render_csv,
    render_html,
    render_json,
    render_prometheus,
)
from ksql_lake.report.analyzer import overdue_days
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
"""Seconds to wait for a connection to the server; the report works without it."""

_ANSWER_SECONDS = 30.0
"""Seconds the server may stay silent."""

_REASONS = ("failing", "stale", "missing")

_HELP = """Report every feed's state: contents, freshness, check results and missing days.

It reads the lake's metadata and a sample of its files. If the server answers, it also asks for sources without
a feed and for days that Kafka can still deliver. It changes nothing.

\b
Examples:
  ksql-lake report
  ksql-lake report --output report.html      one file with plots, to open or to mail
  ksql-lake report --json | jq '.feeds[] | select(.status != "healthy")'
  ksql-lake report --offline --fail-on failing,stale     for cron and CI: exit code 1
  ksql-lake report --offline --format prometheus --output /var/lib/node_exporter/ksql_lake.prom

Statuses: healthy, incomplete (days missing), stale (older than checks.max_age_hours), empty, never ran,
failing (its last export failed, or a check of severity error or block failed), disabled.

Exit codes: 0 done, 1 a condition of --fail-on holds (the report is written nevertheless), 2 usage or
configuration, 130 interrupted.
"""


@click.command(help=_HELP)
@click.option(
    "--format",
    "form",
    type=click.Choice(["console", *_RENDERERS]),
    help="Default: by the ending of --output, else console.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--offline", is_flag=True, help="Do not ask the server.")
@click.option(
    "--fail-on",
    "wanted",
    multiple=True,
    metavar="failing,stale,missing",
    callback=lambda _context, _option, values: _reasons(values),
    help="Exit with 1 if a feed fails, is older than its target, lacks days, or was never exported. "
    "May be repeated.",
)
@click.pass_context
def report(
    context: click.Context,
    /,
    *,
    form: str | None,
    output: Path | None,
    as_json: bool,
    offline: bool,
    wanted: tuple[str, ...],
) -> None:
    """Report every feed's state."""
    form = chosen_form(form, as_json=as_json) or form_of(output, _SUFFIXES)
    if form == "html" and output is None and sys.stdout.isatty():
        raise click.UsageError("HTML needs a file: --output report.html")
    with notes_from_log():  # of files that inform the report, and cannot be read
        made = _made(offline=offline)
    if output is not None:
        text = _console_text(made) if form == "console" else _RENDERERS[form](made)
        with whole_file(output, "the report") as path:
            path.write_text(text, encoding="utf-8")
        note(f"{output}: {made.totals.feeds} feeds as {form}", label="written")
    elif form == "console":
        _print(made)
    else:
        begin_document()
        click.echo(_RENDERERS[form](made), nl=False)
    found = {reason: names for reason in wanted if (names := _found(made, reason))}
    for reason, names in found.items():
        complain(f"{reason}: {', '.join(names)}")
    if found:
        context.exit(FAILED)


def _reasons(values: Sequence[str]) -> tuple[str, ...]:
    """Split the conditions of `--fail-on`, which may be repeated or separated by commas."""
    reasons = tuple(
        dict.fromkeys(word.strip() for value in values for word in value.split(",") if word.strip())
    )
    for reason in reasons:
        if reason not in _REASONS:
            raise click.BadParameter(f"{reason!r} is none of {', '.join(_REASONS)}")
    return reasons


def _found(made: Report, reason: str) -> list[str]:
    """Return the feeds for which a condition of `--fail-on` holds; a status names only the first of several."""
    feeds = [feed for feed in made.feeds if feed.enabled]
    if reason == "stale":
        return [feed.name for feed in feeds if feed.freshness.met is False]
    if reason == "missing":
        return [feed.name for feed in feeds if _lacks_days(feed, made.generated_at)]
    names = [
        feed.name
        for feed in feeds
        if feed.status is Status.FAILING or any(check.grave for check in feed.checks)
    ]
    names += [broken.name for broken in made.broken_feeds]
    return list(dict.fromkeys([*names, *(found.feed for found in made.cross_check.disagreements)]))


def _lacks_days(feed: FeedReport, now: datetime) -> bool:
    found = feed.coverage
    return feed.status in (Status.NEVER_RAN, Status.INCOMPLETE) or (
        found is not None and bool(found.missing or overdue_days(found, now=now))
    )


def _made(*, offline: bool) -> Report:
    settings = load_settings()
    feeds = FeedStore(settings.feeds_root).load()
    reader = MetadataReader(settings.lake_root)
    if offline:
        return MetadataAnalyzer(reader, feeds).generate_report()
    # One attempt: a report at once without the server's part is worth more than a complete one in a minute.
    patience = min(settings.connect_timeout, _CONNECT_SECONDS)
    asking = load_settings(
        attempts=1, connect_timeout=patience, read_timeout=min(settings.read_timeout, _ANSWER_SECONDS)
    )
    with KsqlClient(asking) as client, waiting(f"reading {reader.root}, asking {client.url}"):
        return MetadataAnalyzer(reader, feeds, client=client).generate_report()


def _print(made: Report) -> None:
    width = line_width()
    click.echo(headline(made, width=width))
    table = feed_table(made)
    if table.rows:
        click.echo()
        print_table(table.headers, table.rows, right=table.right, flexible=("Feed",))
    click.echo()
    for line in remarks(made, width=width):
        click.echo(line)


def _console_text(made: Report) -> str:
    table = feed_table(made)
    titles = [header.upper() for header in table.headers]
    right_at = {at for at, header in enumerate(table.headers) if header in table.right}
    lines = plain_lines([titles, *table.rows], right_at=right_at) if table.rows else []
    return "\n".join([headline(made), "", *lines, "", *remarks(made)]) + "\n"
