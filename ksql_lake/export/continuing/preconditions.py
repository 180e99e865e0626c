"""The conditions for reading a stream from a token, each with its explanation."""

# If a condition does not hold, a pull query reads the stream.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ksql_lake.errors import KsqlError, ServerUnavailableError, StatementError, UnauthorizedError
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient, SourceDescription, describe
from ksql_lake.ksqldb.offsets import LogOffsets, describe_extended
from ksql_lake.ksqldb.reach import carried_offsets, keyed_by_offsets
from ksql_lake.ksqldb.sql_text import quote_identifier
from ksql_lake.ksqldb.tokens import SCALABLE

SETTING = "ksql.query.push.v2.registry.installed"
"""The server's setting without which it ignores every token."""
MEASURED = "8.0.7"
"""The one release on which tokens were measured; the first that has them is 0.24."""
_POSITION_TYPES = ("INTEGER", "BIGINT")


class FallBackError(Exception):
    """A stream cannot be read on from a token now; a pull query reads it instead.

    Args:
        reason: Why, for people.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of `"extraction": "continue"`.

    Attributes:
        name: Its subject, one word or two.
        met: Whether it holds.
        text: What was found and, where it does not hold, what to do.
    """

    name: str
    met: bool
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """What the server reported of a derived stream before it was read.

    Attributes:
        source: The derived stream.
        ends: Where the source's partitions begin and end, and how far the stream's query has read them; empty
            where the server does not report it.
        read_at: When it was asked (UTC): all records that Kafka had of the source by then are below the ends.
    """

    source: SourceDescription
    ends: Mapping[int, LogOffsets]
    read_at: datetime

    @property
    def query(self) -> str:
        """Id of the query that writes the stream; empty where it is not exactly one."""
        ids = [query.id for query in self.source.write_queries]
        return ids[0] if len(ids) == 1 else ""


def look_at(client: KsqlClient, name: str) -> Look:
    """Ask the server for a derived stream and where its source ends.

    Raises:
        KsqlError: The server has no such stream, or cannot be asked.
    """
    read_at = datetime.now(UTC)
    found = describe_extended(client, name)
    topics = dict(found.topics)
    if len(topics) > 1 and (carried := carried_offsets(found.source)):
        # Internal topics of the query are listed beside the source's topic.
        try:
            topic = describe(client, carried[0]).topic
        except (StatementError, UnauthorizedError):
            topic = ""
        topics = {topic: topics[topic]} if topic in topics else {}
    return Look(found.source, next(iter(topics.values())) if len(topics) == 1 else {}, read_at)


def conditions(feed: StreamFeed, client: KsqlClient, look: Look) -> Iterator[Condition]:
    """Check what can be checked without sending a query.

    Raises:
        KsqlError: The server cannot be asked for its properties.
    """
    yield _release(client)
    yield _positions(feed, look.source)
    yield _writer(feed, look.source)
    yield _key(look.source)
    yield _ends(feed, look)


def check_conditions(feed: StreamFeed, client: KsqlClient) -> list[Condition]:
    """Check every condition, the last one by a query that is closed as soon as it has answered.

    Raises:
        KsqlError: The server cannot be asked.
    """
    look = look_at(client, feed.source)
    found = list(conditions(feed, client, look))
    return [*found, _heeded(feed, client, look)]


def ignored(query_id: str | None) -> str:
    """Return what it means that a query's id is not that of a query that heeds tokens; empty if it is."""
    if (query_id or "").startswith(SCALABLE):
        return ""
    return (
        f"the server ignored the token and began an ordinary query ({query_id}): it has to run with "
        f"{SETTING}=true, and the stream's query has to run"
    )


def _release(client: KsqlClient) -> Condition:
    version = client.known_version()
    known = version is None or version.has_two_writers
    release = "of an unknown release" if version is None else version.text
    text = f"the server is {release}; tokens came with 0.24, and were measured on {MEASURED} only"
    return Condition("release", known, text if known else f"{text}: use a newer server")


def _positions(feed: StreamFeed, source: SourceDescription) -> Condition:
    partition, offset = feed.identity.columns
    types = {column.name: column.type for column in source.columns}
    for name in (partition, offset):
        if types.get(name, "").upper() not in _POSITION_TYPES:
            what = f"is {types[name]}" if name in types else "does not exist"
            text = f"`positions` names {name}, which in {feed.source} {what}; it has to be an INTEGER or BIGINT"
            return Condition("positions", met=False, text=text)
    carried = carried_offsets(source)
    if carried is None or carried[1:] != (partition, offset):
        text = (
            f"{feed.source} is not made by a query that copies every row of one stream with ROWPARTITION AS "
            f"{partition} and ROWOFFSET AS {offset}, so missing rows would go unnoticed; "
            "`ksql-lake feeds prepare` makes such a stream"
        )
        return Condition("positions", met=False, text=text)
    return Condition("positions", met=True, text=f"{partition} and {offset} are the offsets of {carried[0]}")


def _writer(feed: StreamFeed, source: SourceDescription) -> Condition:
    writers = source.write_queries
    if len(writers) != 1:
        text = f"{len(writers)} queries write {feed.source}; it has to be exactly one, which runs"
        return Condition("one query", met=False, text=text)
    state = writers[0].state or "RUNNING"
    if state != "RUNNING":
        text = f"the query {writers[0].id} that writes {feed.source} is {state}; start it again"
        return Condition("one query", met=False, text=text)
    return Condition("one query", met=True, text=f"{writers[0].id} writes it and runs")


def _key(source: SourceDescription) -> Condition:
    if keyed_by_offsets(source):
        return Condition("key", met=True, text="every row has a key made of its offsets")
    if source.key_columns:
        text = (
            f"a row with NULL in {', '.join(source.key_columns)} is not sent; where one is missed, the stream "
            "is read by pull query"
        )
        return Condition("key", met=True, text=text)
    text = (
        f"{source.name} has no KEY column, and rows with a NULL key are not sent; `ksql-lake feeds prepare` "
        "with --continue makes a stream with one"
    )
    return Condition("key", met=False, text=text)


def _ends(feed: StreamFeed, look: Look) -> Condition:
    if not look.ends:
        text = (
            f"the server does not report where the source of {feed.source} ends (DESCRIBE ... EXTENDED): its "
            "query has not committed yet, or the server may not ask Kafka"
        )
        return Condition("ends", met=False, text=text)
    records = sum(end.end for end in look.ends.values())
    return Condition("ends", met=True, text=f"the source ends at {records:,} in {len(look.ends)} partitions")


def _heeded(feed: StreamFeed, client: KsqlClient, look: Look) -> Condition:
    partition, offset = (quote_identifier(name) for name in feed.identity.columns)
    statement = f"SELECT ROWTIME, {partition}, {offset} FROM {quote_identifier(feed.source)} EMIT CHANGES;"
    try:
        with client.listen_from(statement, [0] * max(look.source.partitions, 1)) as listening:
            why = ignored(listening.header.query_id)
    except ServerUnavailableError:
        raise
    except KsqlError as error:
        why = f"the server refuses a query with a token: {error.message}"
    return Condition("token", not why, why or "the server heeds a token")
