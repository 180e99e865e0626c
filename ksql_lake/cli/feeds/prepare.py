"""`ksql-lake feeds prepare`: make a derived stream that carries Kafka's offsets as columns."""

# Pull queries may not select ROWPARTITION and ROWOFFSET, but a stream made from the source may copy them.

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count

import click

from ksql_lake.cli.completion import feed_names
from ksql_lake.cli.feeds.source_check import check_feed, find_source
from ksql_lake.cli.terminal.output import note
from ksql_lake.errors import ConfigError
from ksql_lake.feeds import Feed, FeedStore, StreamFeed, parse_feed
from ksql_lake.ksqldb import KsqlClient, SourceDescription, describe, list_sources, quote_identifier
from ksql_lake.ksqldb.reach import (
    CONTINUES_MEASURED,
    CONTINUES_SINCE,
    carried_offsets,
    carrier,
    keyed_by_offsets,
)
from ksql_lake.lake import Lake
from ksql_lake.settings import Settings, load_settings

EARLIEST = {"auto.offset.reset": "earliest"}
"""By the server's default the stream would hold only rows that arrive after its creation."""

_REKEYED = "PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET)"
_HELP = """Make Kafka's partition and offset the row identity of a stream feed.

No pull query can select them, but a derived stream can copy them into ordinary columns. This command prints the
statement that creates the derived stream, and the change to the feed file. The derived stream keeps a copy of
the source's topic. Rows already in the lake stay, and are compared by their other columns.

With --continue an export reads such a stream from where the last one ended, so it costs the new rows instead of
the whole topic. Such a query sends no rows with a NULL key, so the derived stream gets a new key.

\b
Examples:
  ksql-lake feeds prepare orders                    print the statement
  ksql-lake feeds prepare orders --apply            run it on the server
  ksql-lake feeds prepare orders --apply --write    and change the feed file
  ksql-lake feeds prepare orders --continue --apply --write
"""

_SINCE = (0, 23)
"""The first release of ksqlDB in which every server has ROWPARTITION and ROWOFFSET."""


@dataclass(frozen=True, slots=True)
class OffsetStream:
    """A derived stream with all rows of its source and their Kafka partitions and offsets.

    Attributes:
        source: The stream it copies.
        name: Its name.
        partition: The column with the Kafka partition of the source's row.
        offset: The column with the offset of the source's row.
        rekeyed: Whether its key is made of both, so that no row has a NULL key.
    """

    source: str
    name: str
    partition: str
    offset: str
    rekeyed: bool = False

    @property
    def statement(self) -> str:
        """The statement that creates it."""
        partition, offset = quote_identifier(self.partition), quote_identifier(self.offset)
        # Only formats that hold a STRUCT can hold such a key; JSON needs no schema registry.
        head, tail = (" WITH (KEY_FORMAT = 'JSON')", f" {_REKEYED}") if self.rekeyed else ("", "")
        return (
            f"CREATE STREAM {quote_identifier(self.name)}{head} AS SELECT *, ROWPARTITION AS {partition}, "
            f"ROWOFFSET AS {offset} FROM {quote_identifier(self.source)}{tail} EMIT CHANGES;"
        )

    @property
    def feed_keys(self) -> dict[str, object]:
        """The keys of a feed file that exports it by pull query."""
        return {"source": self.name, "identity": {"by": "offset", "columns": [self.partition, self.offset]}}

    @property
    def positions(self) -> dict[str, str]:
        """The value of `positions` in a feed file."""
        return {"partition": self.partition, "offset": self.offset}


def planned(source: SourceDescription, *, taken: Collection[str] = (), rekeyed: bool = False) -> OffsetStream:
    """Choose the names of a source's derived stream.

    Args:
        source: The source.
        taken: Further column names that are in use, in any letter case.
        rekeyed: Whether to make its key of partition and offset.
    """
    used = {name.casefold() for name in (*taken, *(column.name for column in source.columns))}
    pairs = (("RP", "RO") if number == 1 else (f"RP_{number}", f"RO_{number}") for number in count(1))
    partition, offset = next(pair for pair in pairs if not used & {name.casefold() for name in pair})
    return OffsetStream(source.name, f"{source.name}_LAKE", partition, offset, rekeyed)


def recognised(stream: SourceDescription) -> OffsetStream | None:
    """Return the derived stream if its query copies all rows and offsets of its source; else None."""
    found = carried_offsets(stream)
    if found is None:
        return None
    source, partition, offset = found
    return OffsetStream(source, stream.name, partition, offset, keyed_by_offsets(stream))


@dataclass(frozen=True, slots=True)
class _Wish:
    """The command's options: whether to continue the feed, and whether to keep the source's key."""

    continued: bool = False
    keep_key: bool = False

    def keys(self, feed: StreamFeed, source: SourceDescription, stream: OffsetStream) -> dict[str, object]:
        """Return the keys of the feed file to change."""
        keys = stream.feed_keys
        if stream.rekeyed and feed.columns is None:
            # The new key only repeats the two columns.
            keys["columns"] = [column.name for column in source.columns]
        if self.continued:
            keys |= {"extraction": "continue", "positions": stream.positions}
            if "identity" not in feed.model_fields_set:
                del keys["identity"]
        return keys


@click.command(help=_HELP)
@click.argument("name", shell_complete=feed_names("stream"))
@click.option("--apply", is_flag=True, help="Create the derived stream on the server.")
@click.option("--write", is_flag=True, help="Change the feed file to export the derived stream.")
@click.option("--continue", "continued", is_flag=True, help="Read from where the last export ended.")
@click.option(
    "--keep-key", is_flag=True, help="With --continue: keep the source's key, because no record has a NULL key."
)
def prepare(*, name: str, apply: bool, write: bool, continued: bool, keep_key: bool) -> None:
    """Print the statement of the derived stream, or create the stream."""
    if keep_key and not continued:
        raise click.UsageError("--keep-key needs --continue: without it the source's key always stays")
    settings = load_settings()
    store = FeedStore(settings.feeds_root)
    feed, wish = store.get(name), _Wish(continued, keep_key)
    if not isinstance(feed, StreamFeed):
        raise ConfigError(
            "a table has no offsets: each of its versions is the whole table",
            hint="Prepare stream feeds only.",
            feed=name,
        )
    if _is_prepared(feed, wish):
        return
    # A person waits at the prompt: report an unreachable server at once.
    with KsqlClient(settings.model_copy(update={"attempts": 1})) as client:
        source, stream, exists = _stream(feed, client, wish)
        if exists:
            note(f"the stream {stream.name} exists already and carries the offsets of {stream.source}")
        elif apply:
            client.execute(stream.statement, properties=EARLIEST)
            click.echo(f"created: {stream.name}")
            when = "the first export waits for it" if continued else "export when it has caught up"
            note(f"{stream.name} is being filled from the first row of {stream.source}; {when}")
        else:
            _print_statement(stream)
        keys = wish.keys(feed, source, stream)
        if write and (exists or apply):
            check_feed(_changed(feed, keys), client)
    if continued:
        _note_continuing(client.url)
    if not write:
        _note_change(keys, str(store.load().file(name).path))
    elif exists or apply:
        click.echo(f"written: {store.change(name, keys)}")
        _warn_of_freeze(feed, settings)
    else:
        raise ConfigError(
            f"the stream {stream.name} does not exist yet, so the feed file stays as it is",
            hint="Say --apply --write, or run the statement first.",
            feed=name,
        )


def _is_prepared(feed: StreamFeed, wish: _Wish) -> bool:
    """Return whether the feed needs no change; if so, print a note."""
    if wish.continued and feed.extraction == "continue":
        note(f"{feed.name} is continued already, by the columns {', '.join(feed.identity.columns)}")
        return True
    if not wish.continued and feed.identity.by == "offset":
        note(f"{feed.name} has identity `offset` already, by the columns {', '.join(feed.identity.columns)}")
        return True
    return False


def _changed(feed: StreamFeed, keys: dict[str, object]) -> Feed:
    kept = feed.model_dump(mode="json", exclude_unset=True)
    if "positions" in keys:
        kept.pop("identity", None)
    return parse_feed(json.dumps(kept | keys).encode())


def _stream(feed: StreamFeed, client: KsqlClient, wish: _Wish) -> tuple[SourceDescription, OffsetStream, bool]:
    """Return the source, the derived stream that the feed should export, and whether the server has it.

    Raises:
        ConfigError: The source is not a stream, another source has the derived stream's name, or the existing
            derived stream cannot be continued.
    """
    if find_source(client, feed.source).kind != "stream":
        raise ConfigError(f"{feed.source} is a table on the server, but the feed says stream", feed=feed.name)
    source = describe(client, feed.source)
    carrying = recognised(source)
    if carrying is not None:
        _check_continuable(feed, source, client, wish)
        return describe(client, carrying.source), carrying, True
    rekeyed = wish.continued and not wish.keep_key
    wanted = planned(source, taken=feed.rename.values(), rekeyed=rekeyed)
    if wanted.name not in {summary.name for summary in list_sources(client)}:
        _check_release(client)
        if wish.continued and not rekeyed and not source.key_columns:
            raise ConfigError(
                f"{source.name} has no KEY column, so every key of its copy would be NULL, and a query that is "
                "continued sends no rows with a NULL key",
                hint="Leave --keep-key out.",
                feed=feed.name,
            )
        return source, wanted, False
    derived = describe(client, wanted.name)
    found = recognised(derived)
    lacking = {column.name for column in source.columns} - {column.name for column in derived.columns}
    if found is None or found.source != source.name or lacking:
        what = f"it lacks {', '.join(sorted(lacking))}" if found and lacking else "it lacks its offsets"
        raise ConfigError(
            f"the server has a {wanted.name} already, but as a copy of {source.name} {what}",
            hint=f"Drop or rename it, then create it with:\n{wanted.statement}",
            feed=feed.name,
            server=client.url,
        )
    _check_continuable(feed, derived, client, wish)
    return source, found, True


def _check_continuable(feed: StreamFeed, derived: SourceDescription, client: KsqlClient, wish: _Wish) -> None:
    """Raise ConfigError if the derived stream cannot be continued, or if its keys may be NULL."""
    found = carrier(derived, client.server_info().version) if wish.continued else None
    if found is None:
        return
    if found.obstacle:
        raise ConfigError(
            f"{derived.name} carries the offsets of {found.source}, but cannot be continued: {found.obstacle}",
            hint="docs/large-topics.md lists what a stream needs for it, and what to do without.",
            feed=feed.name,
            server=client.url,
        )
    if not found.made_key and not wish.keep_key:
        raise ConfigError(
            f"{derived.name} keeps its source's key {', '.join(derived.key_columns)}, and a query that is "
            "continued sends no rows with a NULL key",
            hint="If no record has a NULL key, say --keep-key. Else drop the stream and prepare it again.",
            feed=feed.name,
            server=client.url,
        )


def _check_release(client: KsqlClient) -> None:
    version = client.server_info().version
    if version.release is not None and version.release < _SINCE:
        raise ConfigError(
            f"this server has release {version.text}, which lacks ROWPARTITION and ROWOFFSET",
            hint="They need ksqlDB 0.23 (Confluent Platform 7.1). Identity `row` and `key` work without them.",
            server=client.url,
        )


def _print_statement(stream: OffsetStream) -> None:
    """Write the statement to stdout, ready for ksqlDB's own command line."""
    for key, value in EARLIEST.items():
        click.echo(f"SET '{key}' = '{value}';")
    click.echo(stream.statement)


def _note_continuing(url: str) -> None:
    since = ".".join(map(str, CONTINUES_SINCE))
    note(
        f"continuing needs ksql.query.push.v2.registry.installed=true on {url}; by ksqlDB's source it works "
        f"from {since} on, measured on {CONTINUES_MEASURED} only. Test it: ksql-lake feeds validate --server"
    )


def _note_change(keys: dict[str, object], path: str) -> None:
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in keys.items()]
    note("\n".join([f"then put this into {path}, or use --write:", *lines]), label="next")


def _warn_of_freeze(feed: Feed, settings: Settings) -> None:
    if feed.on_schema_change == "freeze" and Lake(settings.lake_root).feed(feed).state().columns is not None:
        note(
            "on_schema_change is freeze, so the next export would refuse the two new columns; "
            "set it to evolve for that export",
            label="warning",
        )
