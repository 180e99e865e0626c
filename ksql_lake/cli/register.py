"""`ksql-lake register`: write Delta Lake or Iceberg indexes over the lake's Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

import click

from ksql_lake.cli.entry import FAILED, complain, unexpected_text
from ksql_lake.cli.plan import left_out_entries, tell_left_out
from ksql_lake.cli.terminal.output import note, notes_from_log, print_json, print_line, print_table, waiting
from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import Feeds, FeedStore, QuarantinedFile
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import feeds_in
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.register import FORMATS, Format, Index, registered, unregister
from ksql_lake.register import register as build_index
from ksql_lake.settings import load_settings

_HELP = """Let Delta Lake or Iceberg readers read the lake, without copying or rewriting its files.

It writes an index of the feeds' Parquet files beside the lake's metadata. Exports, compaction and retention
keep the index up to date. Without --format this command updates the existing indexes, also those of archived
feeds, as `ksql-lake doctor --repair` does. A lake in an object store can have Iceberg indexes only.

\b
Examples:
  ksql-lake register --format delta --all
  ksql-lake register --format iceberg --feed orders --feed customers
  ksql-lake register                              bring all indexes up to date
  ksql-lake register --format delta --feed orders --remove
"""


@click.command(help=_HELP)
@click.option("--format", "form", type=click.Choice(get_args(Format)), help="Which table format.")
@click.option("--feed", "names", multiple=True, metavar="NAME", help="A feed; repeatable.")
@click.option(
    "--all", "everything", is_flag=True, help="Every active feed; with --remove every feed in the lake."
)
@click.option("--remove", is_flag=True, help="Remove the indexes; the data stays.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def register(
    context: click.Context,
    /,
    *,
    form: Format | None,
    names: tuple[str, ...],
    everything: bool,
    remove: bool,
    as_json: bool,
) -> None:
    """Build, update or remove indexes."""
    if everything and names:
        raise click.UsageError("--all already means every feed; leave out --feed")
    if form and not (everything or names):
        raise click.UsageError("name the feeds: --all or --feed NAME")
    if remove and not form:
        raise click.UsageError("name the indexes to remove: --format, with --feed NAME or --all")
    settings = load_settings()
    lake, feeds = Lake(settings.lake_root), FeedStore(settings.feeds_root).load()
    if form and not remove:
        _build(context, lake, feeds, names, form, as_json=as_json)
        return
    chosen = list(_held(lake, feeds, names))
    if form:
        _remove(context, lake, chosen, form, as_json=as_json)
    else:
        _update(context, lake, chosen, named=bool(names), as_json=as_json)


def _build(
    context: click.Context, lake: Lake, feeds: Feeds, names: Sequence[str], form: Format, *, as_json: bool
) -> None:
    """Build indexes of the named feeds, or of all active ones."""
    active = tuple(feeds.get(name) for name in dict.fromkeys(names)) or feeds.active
    broken = () if names else tuple(file for file in feeds.quarantined if not file.archived)
    done, failed = _each(lake, [lake.feed(feed).layout for feed in active], form)
    if as_json:
        print_json(_document(lake, done, failed, broken))
    else:
        _show(done)
    tell_left_out(broken)
    context.exit(FAILED if broken or failed else 0)


def _update(
    context: click.Context, lake: Lake, chosen: Sequence[FeedLayout], *, named: bool, as_json: bool
) -> None:
    """Bring the indexes of these feeds up to date."""
    done, failed = _each(lake, chosen, None)
    if as_json:
        print_json(_document(lake, done, failed, ()))
    elif done or failed:
        _show(done)
    else:
        which = "none of these feeds" if named else "no feed"
        note(f"{which} has an index; make one: ksql-lake register --format {FORMATS[0]} --all")
    context.exit(FAILED if failed else 0)


def _held(lake: Lake, feeds: Feeds, names: Sequence[str]) -> Iterator[FeedLayout]:
    """Yield the named feeds, or every feed of which the lake holds anything, archived or not."""
    held = feeds_in(lake.storage)
    if not names:
        yield from held
    for name in dict.fromkeys(names):
        alike = [layout for layout in held if layout.name == name]
        yield from alike or [lake.feed(feeds.get(name)).layout]


def _each(lake: Lake, chosen: Sequence[FeedLayout], form: Format | None) -> tuple[list[Index], int]:
    """Build each index, or without a format those there are; a failure does not stop the others."""
    done: list[Index] = []
    failures: list[str] = []
    with notes_from_log():
        for layout in chosen:
            forms: tuple[Format, ...] = ()
            with _telling(layout, failures):
                forms = (form,) if form else registered(lake.storage, layout)
            for each in forms:
                with _telling(layout, failures), waiting(f"registering {layout.name} as {each}"):
                    done.append(build_index(lake.storage, layout, each))
    return done, len(failures)


def _remove(
    context: click.Context, lake: Lake, chosen: Sequence[FeedLayout], form: Format, *, as_json: bool
) -> None:
    """Remove the indexes of these feeds; a failure does not stop the others."""
    removed: list[dict[str, str]] = []
    failures: list[str] = []
    with notes_from_log():
        for layout in chosen:
            with _telling(layout, failures):
                if not unregister(lake.storage, layout, form):
                    note(f"{layout.name} has no {form} index")
                    continue
                removed.append({"feed": layout.name, "kind": layout.kind, "format": form})
                if not as_json:
                    print_line((layout.name, "bold"), f": {form} index removed")
    if as_json:
        print_json({"lake": lake.root, "removed": removed, "failed": len(failures)})
    context.exit(FAILED if failures else 0)


@contextmanager
def _telling(layout: FeedLayout, failures: list[str]) -> Iterator[None]:
    """Print and note an error about one feed instead of raising it."""
    try:
        yield
    except KsqlLakeError as error:
        failures.append(str(error.at(feed=layout.name)))
    except Exception as error:  # noqa: BLE001 - the error of a format's library about one feed; the others continue
        failures.append(f"feed {layout.name}: {unexpected_text(error)}")
    else:
        return
    complain(failures[-1])


def _document(
    lake: Lake, done: Sequence[Index], failed: int, broken: Sequence[QuarantinedFile]
) -> dict[str, object]:
    indexes = [index.as_dict() for index in done]
    return {"lake": lake.root, "indexes": indexes, "failed": failed, "left_out": left_out_entries(broken)}


def _show(done: Sequence[Index]) -> None:
    """Print a table of the indexes, and what is to be said of each."""
    rows = [_row(index) for index in done if index.files is not None]
    if rows:
        print_table(_HEADERS, rows, right=_HEADERS[2:6], flexible=("Feed", "Location"))
    for index in done:
        if index.files is None:
            note(f"{index.feed}: has no export yet, so there is nothing to index")
        for column in index.built.left_out if index.built else ():
            note(f"{index.feed}: left out: column {column}")


_HEADERS = ["Feed", "Format", "Files", "Rows", "Added", "Removed", "Location"]


def _row(index: Index) -> list[str]:
    built = index.built
    return [
        index.feed,
        index.format,
        f"{index.files:,}",
        f"{index.records:,}",
        f"{built.added:,}" if built else "-",
        f"{built.removed:,}" if built else "-",
        index.location,
    ]
