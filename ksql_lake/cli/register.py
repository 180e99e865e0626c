"""`ksql-lake register`: write Delta Lake or Iceberg indexes over the lake's Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import click

from ksql_lake.cli.entry import FAILED, complain, unexpected_text
from ksql_lake.cli.terminal.output import note, notes_from_log, print_json, print_line, print_table, waiting
from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import Feed, FeedStore
from ksql_lake.lake import Lake
from ksql_lake.register import FORMATS, Format, Index, registered, unregister
from ksql_lake.register import register as build_index
from ksql_lake.settings import load_settings

_HELP = """Let Delta Lake or Iceberg readers read the lake, without copying or rewriting its files.

It writes an index of the feeds' Parquet files beside the lake's metadata. Exports, compaction and retention
keep the index up to date. Without options this command updates every existing index, as `ksql-lake doctor
--repair` does. A lake in an object store can have Iceberg indexes only.

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
@click.option("--all", "everything", is_flag=True, help="Every active feed.")
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
    feeds = FeedStore(settings.feeds_root).load()
    chosen = tuple(feeds.get(name) for name in dict.fromkeys(names)) or feeds.active
    lake = Lake(settings.lake_root)
    with notes_from_log():
        if remove:
            assert form is not None  # noqa: S101 - said above
            _remove(lake, chosen, form)
            return
        done, failed = _each(lake, chosen, form)
    if as_json:
        print_json({"lake": lake.root, "indexes": [index.as_dict() for index in done], "failed": failed})
    else:
        _show(done, form)
    context.exit(FAILED if failed else 0)


def _each(lake: Lake, feeds: Sequence[Feed], form: Format | None) -> tuple[list[Index], int]:
    """Build each index; a failure does not stop the others."""
    done, failed = [], 0
    for feed in feeds:
        feed_lake = lake.feed(feed)
        for each in (form,) if form else registered(feed_lake.storage, feed_lake.layout):
            try:
                with waiting(f"registering {feed.name} as {each}"):
                    done.append(build_index(feed_lake.storage, feed_lake.layout, each))
            except KsqlLakeError as error:
                complain(str(error.at(feed=feed.name)))
                failed += 1
            except Exception as error:  # noqa: BLE001 - the error of a format's library about one feed; the others continue
                complain(f"feed {feed.name}: {unexpected_text(error)}")
                failed += 1
    return done, failed


def _remove(lake: Lake, feeds: Sequence[Feed], form: Format) -> None:
    for feed in feeds:
        feed_lake = lake.feed(feed)
        if unregister(feed_lake.storage, feed_lake.layout, form):
            print_line((feed.name, "bold"), f": {form} index removed")
        else:
            note(f"{feed.name} has no {form} index")


def _show(done: Sequence[Index], form: Format | None) -> None:
    if not done and form is None:
        note(f"no feed has an index; make one: ksql-lake register --format {FORMATS[0]} --all")
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
