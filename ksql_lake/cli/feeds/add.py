"""`ksql-lake feeds add | discover`: write new feed files, checked against the server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import click

from ksql_lake.cli.completion import column_names, source_names
from ksql_lake.cli.feeds.source_check import check_feed, find_source, reachable
from ksql_lake.cli.selection import Day
from ksql_lake.cli.terminal.output import never_failing, note, print_json, print_table, waiting
from ksql_lake.errors import ConfigError, FeedError
from ksql_lake.export.uncovered import HOW, UncoveredSource, carrying_keys, uncovered
from ksql_lake.feeds import Feed, Feeds, FeedStore, feed_name, parse_feed
from ksql_lake.feeds.feed_columns import needed_renames
from ksql_lake.ksqldb import KsqlClient, SourceDescription, describe
from ksql_lake.ksqldb.reach import carrier, reach
from ksql_lake.quantities import count_text
from ksql_lake.settings import Settings, load_settings

_ADD_HELP = """Write a new feed file into feeds/active.

If the server answers, it looks up the source and its columns first, and --kind is optional. Keys without an
option here are edited in the file: see `ksql-lake feeds schema`. On a terminal without --source it lists the
sources that no feed exports, and asks for one.

\b
Examples:
  ksql-lake feeds add
  ksql-lake feeds add --source ORDERS --start-date 2025-01-01
  ksql-lake feeds add --source TOTALS --kind table --retention 30 --offline
  ksql-lake feeds add --source ORDERS --start-date 2025-01-01 \\
      --column ID --column AMOUNT --identity key --identity-column ID
"""

_TEXTS = {
    "--name": "Name of the feed; default: the source's name in lower case.",
    "--description": "One sentence for people.",
    "--timezone": "Time zone of the days, e.g. Europe/Berlin; default: UTC.",
    "--event-time": "Column that decides a row's day; default: ROWTIME.",
    "--compression": "zstd, zstd:N, snappy, lz4 or none; default: zstd.",
    "--schedule": "Cron expression, e.g. '0 * * * *'.",
}
_NUMBERS = {
    "--lookback-days": "Days read again for late rows; default: 1.",
    "--retention": "Versions of a table to keep; default: 7.",
}
_LISTS = {
    "--column": ("columns", "A column to export; repeatable. Default: all."),
    "--owner": ("owners", "E-mail address or team:name; repeatable."),
}
_PAIRS = {
    "--rename": "COLUMN=NAME in the lake; repeatable.",
    "--tag": "KEY=VALUE, shown in Dagster; repeatable.",
}


def _feed_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add to a command one option per key that is often set by hand."""
    options = [click.option("--kind", type=click.Choice(["stream", "table"]), help="Kind of the source.")]
    options += [
        click.option(flag, shell_complete=column_names if flag == "--event-time" else None, help=text)
        for flag, text in _TEXTS.items()
    ]
    options += [click.option("--start-date", help="First day of a stream to export, YYYY-MM-DD.")]
    options += [click.option(flag, type=int, help=text) for flag, text in _NUMBERS.items()]
    options += [
        click.option("--min-ratio-to-previous", type=float, help="Refuse smaller snapshots; default: 0.5.")
    ]
    options += [
        click.option(
            "--extraction",
            type=click.Choice(["pull", "push", "continue"]),
            help="How to read the source; default: what the server reports about it.",
        ),
        click.option("--deleted", is_flag=True, help="Keep a table's deleted keys and mark them; needs push."),
    ]
    options += [
        click.option(
            flag, key, shell_complete=column_names if key == "columns" else None, multiple=True, help=text
        )
        for flag, (key, text) in _LISTS.items()
    ]
    options += [click.option(flag, multiple=True, help=text) for flag, text in _PAIRS.items()]
    options += [
        click.option(
            "--identity", type=click.Choice(["row", "key", "offset"]), help="What makes rows the same event."
        ),
        click.option(
            "--identity-column",
            shell_complete=column_names,
            multiple=True,
            help="A column of that identity; repeatable.",
        ),
        click.option("--on-schema-change", type=click.Choice(["evolve", "freeze", "new_version"])),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command(help=_ADD_HELP)
@click.option(
    "--source",
    shell_complete=source_names,
    is_eager=True,
    help="The ksqlDB stream or table, in exact case; a terminal asks for it.",
)
@_feed_options
@click.option("--disabled", is_flag=True, help="Write it disabled.")
@click.option("--offline", is_flag=True, help="Do not ask the server.")
@click.option("--dry-run", is_flag=True, help="Print the file, write nothing.")
def add(*, offline: bool, dry_run: bool, **options: Any) -> None:
    """Write a new feed file."""
    settings = load_settings()
    store = FeedStore(settings.feeds_root)
    if options["source"] is None:
        options |= _asked(store, settings, offline=offline, start_date=options["start_date"])
    raw = _document(options)
    if not options["name"]:
        raw["name"] = feed_name(options["source"], taken=_taken(store, options["source"], settings))
    if offline:
        feed = _parsed(raw)
    else:
        with KsqlClient(_impatient(settings)) as client:
            feed = _checked(raw, client)
    if dry_run:
        click.echo(store.text(feed), nl=False)
        return
    click.echo(f"written: {store.add(feed)}")
    if feed.enabled:
        note(f"see what an export would read: ksql-lake plan --{feed.kind} {feed.name}", label="next")
        _note_clock(settings)


def _note_clock(settings: Settings) -> None:
    """Print a note if Dagster is in use and starts no exports by the clock."""
    if settings.dagster_home is None:
        return
    with never_failing("the feed was added"):
        # Dagster takes seconds to import, and most shells have no DAGSTER_HOME.
        from ksql_lake.orchestration.recording import clock_note  # noqa: PLC0415

        if text := clock_note(settings):
            note(text, label="Dagster")


def _asked(
    store: FeedStore, settings: Settings, *, offline: bool, start_date: str | None
) -> dict[str, str | None]:
    """Ask at a terminal for one of the sources without a feed, and for the first day of a stream."""
    if offline or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("--source is needed; see what the server has: ksql-lake feeds discover")
    feeds = store.load() if settings.feeds_root.is_dir() else Feeds((), ())
    with KsqlClient(_impatient(settings)) as client, waiting(f"asking {client.url}"):
        found = uncovered(client, feeds, today=datetime.now(UTC).date())
    if not found:
        raise ConfigError(
            f"every source of {settings.ksqldb_url} has a feed already", hint="See them: ksql-lake feeds list"
        )
    for number, source in enumerate(found, start=1):
        click.echo(f"{number:>4}  {source.name}  ({source.kind}, {HOW[source.extraction]})")
    chosen = found[click.prompt("Which one", type=click.IntRange(1, len(found))) - 1]
    if chosen.kind == "stream" and start_date is None:
        start_date = click.prompt("Its first day to export", default=chosen.first_day.isoformat())
    return {"source": chosen.name, "start_date": start_date}


def _taken(store: FeedStore, source: str, settings: Settings) -> set[str]:
    """Return the names of feeds of other sources; the store itself refuses a second feed of the same name."""
    if not settings.feeds_root.is_dir():
        return set()
    return {file.feed.name for file in store.load().files if file.feed.source != source}


def _impatient(settings: Settings) -> Settings:
    # A person waits at the prompt: report an unreachable server at once.
    return settings.model_copy(update={"attempts": 1})


def _document(options: dict[str, Any]) -> dict[str, Any]:
    """Return a feed file's object with the given options only."""
    # 0 is a value; None, an empty tuple and an absent flag are not.
    raw = {
        key: value for key, value in options.items() if value is not None and value != () and value is not False
    }
    raw["name"] = options["name"] or feed_name(options["source"])
    if raw.pop("disabled", False):
        raw["enabled"] = False
    columns = raw.pop("identity_column", ())
    if "identity" in raw or columns:
        raw["identity"] = {"by": raw.get("identity", "row"), "columns": columns}
    for flag, key in (("rename", "rename"), ("tag", "tags")):
        if pairs := raw.pop(flag, ()):
            raw[key] = dict(_pair(f"--{flag}", text) for text in pairs)
    return raw


def _pair(flag: str, text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals:
        raise click.UsageError(f"{flag} {text!r} must be written {flag} NAME=VALUE")
    return left, right


def _parsed(raw: dict[str, Any]) -> Feed:
    if "kind" not in raw:
        raise click.UsageError("without the server --kind is needed: stream or table")
    try:
        return parse_feed(json.dumps(raw).encode())
    except FeedError as error:
        raise error.at(feed=raw["name"]) from None


def _checked(raw: dict[str, Any], client: KsqlClient) -> Feed:
    if not reachable(client):
        note(f"{client.url} does not answer; {raw['source']} was not checked", label="warning")
        return _parsed(raw)
    found = find_source(client, raw["source"])
    raw.setdefault("kind", found.kind)
    described = describe(client, found.name)
    renames = needed_renames(raw["kind"], raw.get("columns") or [column.name for column in described.columns])
    if renames and "rename" not in raw:
        raw["rename"] = renames
        pairs = ", ".join(f"{name} is {other}" for name, other in renames.items())
        note(f"columns whose names the lake cannot keep are renamed: {pairs}")
    if raw.get("extraction", "continue") == "continue":
        _choose_extraction(raw, described, client)
    feed = _parsed(raw)
    check_feed(feed, client)
    return feed


def _choose_extraction(raw: dict[str, Any], source: SourceDescription, client: KsqlClient) -> None:
    """Choose by the server's answer how to read a source, if no option says it."""
    version = client.server_info().version
    how = reach(source, version)
    if how.extraction == "push" and "extraction" not in raw:
        raw["extraction"] = "push"
        _note_how(source.name, "push", how.reason)
        return
    carried = carrier(source, version)
    if carried is not None and "identity" not in raw:
        raw |= {key: raw.get(key) or value for key, value in carrying_keys(source, carried).items()}
        _note_how(source.name, raw.get("extraction", "pull"), carried.says)


def _note_how(source: str, extraction: str, reason: str) -> None:
    note(f"{source} is {HOW[extraction]}: {reason}")


_DISCOVER_HELP = """List the sources of the server that no feed exports, and what kind of query can read them.

With --write it writes a feed file for each, disabled, so that no export reads it before you have reviewed it.

\b
Examples:
  ksql-lake feeds discover
  ksql-lake feeds discover --write --start-date 2025-01-01
  ksql-lake feeds enable orders
"""


@click.command(help=_DISCOVER_HELP)
@click.option("--write", is_flag=True, help="Write the feed files.")
@click.option("--start-date", type=Day(), metavar="DAY", help="First day of the streams that are written.")
@click.option("--enabled", is_flag=True, help="Write them enabled.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def discover(*, write: bool, start_date: date | None, enabled: bool, as_json: bool) -> None:
    """List sources without a feed."""
    settings = load_settings()
    store = FeedStore(settings.feeds_root)
    feeds = store.load() if settings.feeds_root.is_dir() else Feeds((), ())
    with KsqlClient(settings) as client, waiting(f"asking {client.url}"):
        found = uncovered(client, feeds, today=datetime.now(UTC).date())
    if write and start_date is None and any(source.kind == "stream" for source in found):
        raise click.UsageError("--write needs --start-date: the first day of the streams to export")
    written = [_write(store, source, start_date, enabled=enabled) for source in found if write]
    if as_json:
        print_json([source.as_dict() for source in found])
    elif found:
        print_table(
            ["Source", "Kind", "Proposed feed", "Extraction"],
            [_row(source) for source in found],
            flexible=("Source", "Proposed feed"),
        )
    _print_notes(found, written, enabled=enabled)


def _write(store: FeedStore, source: UncoveredSource, start_date: date | None, *, enabled: bool) -> str:
    days = {"start_date": start_date} if source.kind == "stream" else {}
    store.add(source.feed_with(enabled=enabled, **days))
    return source.feed


def _row(source: UncoveredSource) -> list[str]:
    return [source.name, source.kind, source.feed, source.extraction]


def _print_notes(found: Sequence[UncoveredSource], written: Sequence[str], *, enabled: bool) -> None:
    if not found:
        note("every source of the server has a feed")
    for source in found:
        if source.reason:
            _note_how(source.name, source.extraction, source.reason)
    if written:
        state = "enabled" if enabled else "disabled; review them, then: ksql-lake feeds enable NAME"
        note(f"{count_text(len(written), 'feed file')} written, {state}")
    elif found:
        note("write feed files for them: ksql-lake feeds discover --write --start-date DAY", label="next")
