"""`ksql-lake feeds list | show | schema | enable | disable | archive | restore | accept`; none changes data."""

from __future__ import annotations

import click

from ksql_lake.cli.completion import feed_names
from ksql_lake.cli.terminal.output import note, print_json, print_table
from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import Feed, FeedFile, FeedStore, QuarantinedFile, feed_json_schema
from ksql_lake.feeds.cron import DEFAULT_SCHEDULES
from ksql_lake.feeds.store import KEY_ORDER
from ksql_lake.quantities import count_text
from ksql_lake.settings import load_settings

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_HEADERS = ("Name", "Kind", "Source", "On", "Schedule", "State")
_NAMES, _ARCHIVED, _PROPOSED = (
    click.argument("names", nargs=-1, required=True, shell_complete=offered, metavar="NAME...")
    for offered in (feed_names(), feed_names(folder="archived"), feed_names(folder="proposed"))
)


def _store() -> FeedStore:
    return FeedStore(load_settings().feeds_root)


def _state(file: FeedFile) -> str:
    if file.archived:
        return "archived"
    return "active" if file.feed.enabled else "disabled"


@click.command("list", help="List all feeds: active ones, archived ones, and files that cannot be used.")
@_AS_JSON
def list_feeds(*, as_json: bool) -> None:
    """List all feeds."""
    feeds = _store().load()
    if as_json:
        entries = [*map(_file_entry, feeds.files), *map(_broken_entry, feeds.quarantined)]
        print_json(sorted(entries, key=lambda entry: str(entry["name"])))
        return
    rows = [
        [
            file.feed.name,
            file.feed.kind,
            file.feed.source,
            "yes" if file.feed.enabled else "no",
            _schedule(file.feed),
            _state(file),
        ]
        for file in feeds.files
    ]
    rows += [[broken.name, "-", "-", "-", "-", "broken"] for broken in feeds.quarantined]
    rows.sort()
    if not rows:
        note("there are no feeds yet; add one: ksql-lake feeds add")
        return
    print_table(_HEADERS, rows, flexible=("Name", "Source"))
    if feeds.quarantined:
        note(f"{count_text(len(feeds.quarantined), 'file')} cannot be used; see: ksql-lake feeds validate")


def _schedule(feed: Feed) -> str:
    """Return when Dagster exports a feed, by its file or by default."""
    return feed.schedule or f"{DEFAULT_SCHEDULES[feed.kind]} (default)"


def _file_entry(file: FeedFile) -> dict[str, object]:
    return {
        "name": file.feed.name,
        "kind": file.feed.kind,
        "source": file.feed.source,
        "enabled": file.feed.enabled,
        "schedule": file.feed.schedule,
        "runs_at": file.feed.schedule or DEFAULT_SCHEDULES[file.feed.kind],
        "state": _state(file),
        "path": file.path,
    }


def _broken_entry(broken: QuarantinedFile) -> dict[str, object]:
    return {"name": broken.name, "state": "broken", "path": broken.path, "problems": broken.error.problems}


@click.command(help="Show one feed with every key, defaults included.")
@click.argument("name", shell_complete=feed_names())
@_AS_JSON
def show(*, name: str, as_json: bool) -> None:
    """Show one feed."""
    file = _store().load().file(name)
    keys = file.feed.model_dump(mode="json")
    ordered = {key: keys[key] for key in KEY_ORDER if key in keys}
    values = {"path": str(file.path), "state": _state(file), **ordered, "last_read": _last_read(file.feed)}
    if as_json:
        print_json(values)
        return
    values["schedule"] = _schedule(file.feed)
    width = max(map(len, values))
    for key, value in values.items():
        click.echo(f"{key.ljust(width)}  {_readable(value)}".rstrip())


def _last_read(feed: Feed) -> dict[str, str]:
    """Return the evidence of the newest reading in the lake."""
    from ksql_lake.lake import Lake  # noqa: PLC0415 - listing feeds waits for no data library

    try:
        read = Lake(load_settings().lake_root).feed(feed).state().last_read
    except KsqlLakeError as error:
        return {"evidence": error.message}
    if read is None:
        return {}
    if read.evidence is None:
        return {"at": read.read_at, "evidence": "before evidence"}
    return {
        "at": read.read_at,
        "evidence": f"{read.evidence.level}: {read.evidence.text}",
        "isolation": read.evidence.isolation,
        "refused": "; ".join(read.evidence.caveats) or "-",
    }


def _readable(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value)) or "-"
        case dict():
            inner = {key: _readable(part) for key, part in value.items()}
            return ", ".join(f"{key}: {text}" for key, text in inner.items() if text != "-") or "-"
    return str(value) or "-"


@click.command(help="Print the JSON Schema of a feed file, or write it where editors find it.")
@click.option(
    "--write", is_flag=True, help="Write feed.schema.json into the feeds folder; new feed files refer to it."
)
def schema(*, write: bool) -> None:
    """Print or write the JSON Schema."""
    if not write:
        print_json(feed_json_schema())
        return
    click.echo(f"written: {_store().write_schema()}")


@click.command(help="Let exports, schedules and Dagster use these feeds.")
@_NAMES
def enable(*, names: tuple[str, ...]) -> None:
    """Enable feeds."""
    for name in names:
        click.echo(f"enabled: {_store().enable(name)}")


@click.command(help="Leave these feeds out of exports, schedules and Dagster. Files and data stay.")
@_NAMES
def disable(*, names: tuple[str, ...]) -> None:
    """Disable feeds."""
    for name in names:
        click.echo(f"disabled: {_store().disable(name)}")


@click.command(help="Disable these feeds and move their files to archived/. Their data stays in the lake.")
@_NAMES
def archive(*, names: tuple[str, ...]) -> None:
    """Archive feeds."""
    for name in names:
        click.echo(f"archived, its data stays: {_store().archive(name)}")


@click.command(help="Move the files of these archived feeds back to active/ and enable the feeds.")
@_ARCHIVED
def restore(*, names: tuple[str, ...]) -> None:
    """Restore feeds."""
    for name in names:
        click.echo(f"restored and enabled: {_store().restore(name)}")


@click.command(help="Move these feed files, which the sensor new_sources proposed, to active/.")
@_PROPOSED
def accept(*, names: tuple[str, ...]) -> None:
    """Accept proposed feeds."""
    for name in names:
        click.echo(f"accepted: {_store().accept(name)}")
