"""What a feed's rows mean (source, server, days, identity), pinned by the first rows. Pure."""

# With another time zone, source or identity the same rows would land twice, or rows of two sources in one
# folder, so a change is an error. An unknown value agrees with any value.

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from ksql_lake.errors import MeaningChangeError
from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake.soundness import UnsoundError

_LONGEST = 1000
_PINNED_KEYS = {"name", "kind", "source", "timezone", "event_time", "event_time_unit", "identity", "rename"}


class Meaning(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the rows of a feed mean; an empty value or None is unknown.

    Attributes:
        source: The ksqlDB stream or table.
        topic: Its Kafka topic.
        kafka_cluster: Id of the Kafka cluster.
        service: Id of the ksqlDB cluster.
        made_by: Id of the query that writes the source, if the server reports one; compared, but not pinned.
        timezone: The time zone of the days (streams).
        event_time: The column that decides a row's day, under its name in the lake (streams).
        event_unit: Unit of that column where it is a number.
        identity: `row`, `key` or `offset`, then the columns under their names in the source (streams).
        rename: Source column -> column in the lake.
    """

    source: str = ""
    topic: str = ""
    kafka_cluster: str = ""
    service: str = ""
    made_by: str = ""
    timezone: str = ""
    event_time: str = ""
    event_unit: str = ""
    identity: tuple[str, ...] = ()
    rename: dict[str, str] | None = None

    def encode(self) -> str:
        """Return the meaning as JSON for a file's footer."""
        return msgspec.json.encode(self).decode()


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What the server reports about a source and itself; a value that it does not report is empty.

    Attributes:
        topic: The source's topic.
        kafka_cluster: Id of the Kafka cluster.
        service: Id of the ksqlDB cluster.
        made_by: Id of the query that writes the source.
        copied: The source of which this one is a copy with Kafka's offsets, and the names of these columns.
        retyped: Source columns whose type cannot be unified with the lake's.
        accepted: Whether the caller has confirmed that the source was recreated and that its rows shall land.
    """

    topic: str = ""
    kafka_cluster: str = ""
    service: str = ""
    made_by: str = ""
    copied: tuple[str, ...] = ()
    retyped: frozenset[str] = frozenset()
    accepted: bool = False


def meaning_of(feed: Feed, origin: Origin | None = None) -> Meaning:
    """Return what a feed's rows mean now."""
    known = origin or Origin()
    of_server = {name: getattr(known, name) for name in ("topic", "kafka_cluster", "service", "made_by")}
    meaning = Meaning(source=feed.source, rename=dict(feed.rename), **of_server)
    if not isinstance(feed, StreamFeed):
        return meaning
    return msgspec.structs.replace(
        meaning,
        timezone=feed.timezone,
        event_time=feed.lake_name(feed.event_time),
        event_unit=feed.event_time_unit,
        identity=(feed.identity.by, *feed.identity.columns),
    )


def free_settings(feed: Feed) -> dict[str, Any]:
    """Return the keys of a feed that may change at any time and do not have their default value."""
    settings = feed.model_dump(mode="json", exclude_defaults=True, exclude=_PINNED_KEYS)
    if isinstance(feed, StreamFeed) and feed.identity.null_keys != "distinct":
        settings["identity"] = {"null_keys": feed.identity.null_keys}
    return settings


def learnt(pinned: Meaning | None, now: Meaning) -> Meaning:
    """Return the meaning after an accepted export: known values stay, unknown ones are filled in."""
    if pinned is None:
        return now
    filled = {
        name: getattr(now, name) or getattr(pinned, name)
        for name in ("source", "topic", "kafka_cluster", "service", "made_by", "timezone", "event_time")
    }
    return msgspec.structs.replace(
        now, **filled, event_unit=now.event_unit or pinned.event_unit, identity=now.identity or pinned.identity
    )


def other_rows(before: Meaning, now: Meaning) -> list[str]:
    """Return what changed so that a day may hold other rows than a reading found; none if nothing did."""
    names = ("source", "topic", "kafka_cluster", "service", "made_by", "timezone", "event_time", "event_unit")
    return [name for name in names if not _agree(getattr(before, name), getattr(now, name))]


def refuse_changes(
    feed: Feed, pinned: Meaning | None, now: Meaning, *, held: Collection[str], origin: Origin | None = None
) -> None:
    """Raise if a feed's rows would mean something else than the rows that the lake holds.

    Args:
        feed: The feed.
        pinned: What the lake's rows mean; None when there are none.
        now: What the next rows would mean.
        held: The lake's columns.
        origin: What the server reported. Without it only the feed's own keys are compared, and only those
            renames that a changed type cannot explain.

    Raises:
        MeaningChangeError: Names what changed, what it would do, and the ways out.
    """
    if pinned is None or _only_offsets_came(pinned, now, origin):
        return
    found = [*_changes(pinned, now), *_renamed(pinned, now, held, origin)]
    if not found:
        return
    keys = ", ".join(key for key, _, _ in found)
    raise MeaningChangeError(
        "; ".join(f"{change}: {effect}" for _, change, effect in found),
        hint=f"Nothing was read. Put {keys} back; or keep this lake and begin a new feed under another name: "
        f"`ksql-lake feeds archive {feed.name}`, add a new feed, export it "
        '(docs/feeds.md, "What the first rows pin").',
        feed=feed.name,
    )


def check_meaning(meaning: Meaning) -> None:
    """Raise if no feed can have this meaning.

    Raises:
        UnsoundError: Says which part.
    """
    rename: Mapping[str, str] = meaning.rename or {}
    texts = [meaning.source, meaning.topic, meaning.kafka_cluster, meaning.service, meaning.made_by]
    texts += [meaning.timezone, meaning.event_time, meaning.event_unit, *meaning.identity, *rename]
    for text in [*texts, *rename.values()]:
        if len(text) > _LONGEST:
            raise UnsoundError(f"{text[:40]!r}... is too long for what a row can mean")
    if meaning.identity and meaning.identity[0] not in {"row", "key", "offset"}:
        raise UnsoundError(f"{meaning.identity[0]!r} is no row identity")


def _only_offsets_came(pinned: Meaning, now: Meaning, origin: Origin | None) -> bool:
    """Whether the feed reads the same rows as before, now from a stream that adds their offsets."""
    same = ("kafka_cluster", "service", "timezone", "event_time", "event_unit")
    if not all(_agree(getattr(pinned, name), getattr(now, name)) for name in same):
        return False
    if origin is None:
        # Only the server can say from what the new source is made.
        return now.identity[:1] == ("offset",) and pinned.identity[:1] not in {(), ("offset",)}
    source, *columns = origin.copied or ("",)
    return source == pinned.source and now.identity == ("offset", *columns)


def _agree(before: object, now: object) -> bool:
    return not before or not now or before == now


_SERVER = "rows of another server would land among those in the lake"
_EFFECTS = {
    "source": "rows of another source would land among those in the lake",
    "topic": "rows of another topic would land among those in the lake",
    "kafka_cluster": _SERVER,
    "service": _SERVER,
    "timezone": "days would begin at other times, and rows near their borders would land a second time",
    "event_time": "rows would belong to other days, and land there a second time",
    "event_unit": "rows would belong to other days, and land there a second time",
    "identity": "rows in the lake would count as new ones, or new rows as rows in the lake",
}
_WORDS = {
    "topic": ("the source's topic", "the topic of `source`"),
    "kafka_cluster": ("the Kafka cluster", "KSQLDB_URL"),
    "service": ("the ksqlDB cluster (service id)", "KSQLDB_URL"),
    "event_unit": ("`event_time_unit`", "`event_time_unit`"),
}


def _changes(pinned: Meaning, now: Meaning) -> Iterator[tuple[str, str, str]]:
    """Yield the key to put back, the change and its effect for every difference except renames."""
    changed: set[str] = set()
    for name, effect in _EFFECTS.items():
        before, after = getattr(pinned, name), getattr(now, name)
        if _agree(before, after) or (name == "topic" and "source" in changed):
            continue
        changed.add(name)
        words, key = _WORDS.get(name, (f"`{name}`", f"`{name}`"))
        if name == "identity":
            before, after = (
                f"{by} ({', '.join(columns)})" if columns else by for by, *columns in (before, after)
            )
        yield key, f"{words} was {before} for the rows that the lake holds, and is {after} now", effect


def _renamed(
    pinned: Meaning, now: Meaning, held: Collection[str], origin: Origin | None
) -> Iterator[tuple[str, str, str]]:
    if pinned.rename is None or now.rename is None:
        return
    for column in sorted({*pinned.rename, *now.rename}):
        before, after = pinned.rename.get(column, column), now.rename.get(column, column)
        if before == after or before not in held:
            continue
        # A column of another type may begin again under another name; only the server knows its type.
        if after not in held and (origin is None or column in origin.retyped):
            continue
        yield (
            f"`rename` of {column}",
            f"column {column} is {before} in the rows that the lake holds, and would be {after} now",
            "its values would go on in another column",
        )
