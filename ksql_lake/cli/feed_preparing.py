"""`ksql-lake feeds prepare`: give a stream feed Kafka's own offsets as its row identity.

Without options it only prints. `--apply` makes the derived stream on the server, `--write` changes the feed
file; it refuses to point a feed at a stream that is not there.
"""

from __future__ import annotations

import json

import click

from ksql_lake.cli.offset_stream import EARLIEST, OffsetStream, planned, recognised
from ksql_lake.cli.output import note
from ksql_lake.cli.source_check import check_feed, find_source
from ksql_lake.errors import ConfigError
from ksql_lake.feeds import Feed, FeedStore, StreamFeed
from ksql_lake.feeds.model import Identity
from ksql_lake.ksqldb import KsqlClient, describe, list_sources
from ksql_lake.lake import Lake
from ksql_lake.settings import Settings, load_settings

_HELP = """Make Kafka's partition and offset the row identity of a stream feed.

ksqlDB gives them to no pull query, but a derived stream can copy them into ordinary columns. This prints the
statement that makes it, and says what to change in the feed file. The derived stream keeps a copy of the
source's topic; rows already in the lake stay, and are known by their other columns.

\b
Examples:
  ksql-lake feeds prepare orders                    print the statement
  ksql-lake feeds prepare orders --apply            run it on the server
  ksql-lake feeds prepare orders --apply --write    and change the feed file
"""

_SINCE = (0, 23)
"""The release of ksqlDB from which ROWPARTITION and ROWOFFSET exist on every server."""


@click.command(help=_HELP)
@click.argument("name")
@click.option("--apply", is_flag=True, help="Make the derived stream on the server.")
@click.option("--write", is_flag=True, help="Change the feed file to export the derived stream.")
def prepare(*, name: str, apply: bool, write: bool) -> None:
    """Print or make the derived stream."""
    settings = load_settings()
    store = FeedStore(settings.feeds_root)
    feed = store.get(name)
    if not isinstance(feed, StreamFeed):
        raise ConfigError(
            "a table has no offsets: each of its versions is the whole table",
            hint="Prepare stream feeds only.",
            feed=name,
        )
    if feed.identity.by == "offset":
        note(f"{name} is known by offset already, in the columns {', '.join(feed.identity.columns)}")
        return
    # Somebody waits at the prompt: an unreachable server is told at once.
    with KsqlClient(settings.model_copy(update={"attempts": 1})) as client:
        stream, exists = _stream(feed, client)
        if exists:
            note(f"the stream {stream.name} exists already and carries the offsets of {stream.source}")
        elif apply:
            client.execute(stream.statement, properties=EARLIEST)
            click.echo(f"created: {stream.name}")
            note(f"{stream.name} fills from the first row of {stream.source}; export when it has caught up")
        else:
            _print_statement(stream)
        if write and (exists or apply):
            identity = Identity(by="offset", columns=(stream.partition, stream.offset))
            check_feed(feed.model_copy(update={"source": stream.name, "identity": identity}), client)
    if not write:
        _tell_change(stream, str(store.load().file(name).path))
    elif exists or apply:
        click.echo(f"written: {store.change(name, stream.feed_keys)}")
        _warn_of_freeze(feed, settings)
    else:
        raise ConfigError(
            f"the stream {stream.name} does not exist yet, so the feed file stays as it is",
            hint="Say --apply --write, or run the statement first.",
            feed=name,
        )


def _stream(feed: StreamFeed, client: KsqlClient) -> tuple[OffsetStream, bool]:
    """Give the derived stream a feed should export, and whether the server has it.

    Raises:
        ConfigError: The source is no stream, or something else has the derived stream's name.
    """
    if find_source(client, feed.source).kind != "stream":
        raise ConfigError(f"{feed.source} is a table on the server, but the feed says stream", feed=feed.name)
    source = describe(client, feed.source)
    carrying = recognised(source)
    if carrying is not None:
        return carrying, True
    wanted = planned(source, taken=feed.rename.values())
    if wanted.name not in {summary.name for summary in list_sources(client)}:
        _check_release(client)
        return wanted, False
    derived = describe(client, wanted.name)
    found = recognised(derived)
    lacking = {column.name for column in source.columns} - {column.name for column in derived.columns}
    if found is None or found.source != source.name or lacking:
        what = f"it lacks {', '.join(sorted(lacking))}" if found and lacking else "it has not its offsets"
        raise ConfigError(
            f"the server has a {wanted.name} already, but as a copy of {source.name} {what}",
            hint=f"Drop it or give it another name; wanted is:\n{wanted.statement}",
            feed=feed.name,
            server=client.url,
        )
    return found, True


def _check_release(client: KsqlClient) -> None:
    version = client.server_info().version
    if version.release is not None and version.release < _SINCE:
        raise ConfigError(
            f"this server has release {version.text}, which does not know ROWPARTITION and ROWOFFSET",
            hint="They came with ksqlDB 0.23 (Confluent Platform 7.1). Identity `row` or `key` need none.",
            server=client.url,
        )


def _print_statement(stream: OffsetStream) -> None:
    """Write the statement to stdout, ready for ksqlDB's own command line."""
    for key, value in EARLIEST.items():
        click.echo(f"SET '{key}' = '{value}';")
    click.echo(stream.statement)


def _tell_change(stream: OffsetStream, path: str) -> None:
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in stream.feed_keys.items()]
    note("\n".join([f"then put this into {path}, or let --write do it:", *lines]), label="next")


def _warn_of_freeze(feed: Feed, settings: Settings) -> None:
    if feed.on_schema_change == "freeze" and Lake(settings.lake_root).feed(feed).state().columns is not None:
        note(
            "on_schema_change is freeze, so the next export would refuse the two new columns; "
            "set it to evolve for that one",
            label="warning",
        )
