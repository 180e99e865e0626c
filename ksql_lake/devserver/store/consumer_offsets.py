"""Consumer positions as DESCRIBE EXTENDED and SHOW QUERIES EXTENDED report them."""

# A description reports the log's ends; a task reports the offset of its last record, and -1 where it has
# none.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ksql_lake.devserver.sql.source_columns import Source, quoted
from ksql_lake.devserver.store.persistent import PersistentQuery, regrouped_ends
from ksql_lake.devserver.store.running_queries import RunningQuery
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.devserver.store.transactions import not_aborted, reads_committed

Entity = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a consumer in one partition.

    Attributes:
        start: The first offset that the log still has.
        end: The offset of the log's next record.
        consumed: The offset of the next record to be read; 0 before the first commit.
    """

    partition: int
    start: int
    end: int
    consumed: int


@dataclass(frozen=True, slots=True)
class TopicPlaces:
    """The positions of a consumer in one topic, and the part of its topology that reads it."""

    topic: str
    subtopology: int
    places: tuple[Place, ...]


def persistent_places(query: PersistentQuery, catalog: Catalog) -> list[TopicPlaces]:
    """Return the positions of a persistent query in its source's topic and in its repartition topic."""
    with catalog.lock:
        source = catalog.sources[query.source]
        reach = catalog.reach(query, source)
        positions = source.ends if query.derivation is None else query.positions
        places = [
            Place(number, source.starts.get(number, 0), end, min(position, reach.source.get(number, position)))
            for number in _partitions(source)
            for end, position in [(source.ends.get(number, 0), positions.get(number, 0))]
        ]
        topics = [TopicPlaces(source.topic, 0, tuple(places))]
        if query.repartition_topic is not None:
            ends = regrouped_ends(query, source, query.positions, catalog.database)
            limits = query.regrouped or ends
            regrouped = [
                Place(number, 0, end, max(0, min(limits.get(number, end), end - reach.unread)))
                for number, end in sorted(ends.items())
            ]
            topics.append(TopicPlaces(query.repartition_topic, 1, tuple(regrouped)))
        return topics


def push_places(query: RunningQuery, catalog: Catalog) -> list[TopicPlaces]:
    """Return the positions of a running push query in its source's topic.

    Markers of transactions count as read with the record before them; a partition without a record for this
    reader has none.
    """
    source = query.plan.source
    readable = not_aborted(source) if reads_committed(query.properties) else "TRUE"
    with catalog.lock:
        read = catalog.database.execute(
            f"SELECT ROWPARTITION, max(ROWOFFSET) FILTER (__SEQ < ?) + 1, count(*) FILTER (__SEQ >= ?) "
            f"FROM {quoted(source.storage)} WHERE {readable} GROUP BY ALL",
            [query.position, query.position],
        ).fetchall()
        places = []
        handed_out = {number: (place or 0, unread) for number, place, unread in read}
        for number in _partitions(source):
            end = source.ends.get(number, 0)
            place, unread = handed_out.get(number, (0, 0))
            consumed = end if place and not unread else place
            consumed = min(consumed, query.held.get(number, consumed))
            places.append(Place(number, source.starts.get(number, 0), end, consumed))
    return [TopicPlaces(source.topic, 0, tuple(places))]


def _partitions(source: Source) -> range:
    return range(max([source.partitions, *(number + 1 for number in source.ends)]))


def tasks(topics: list[TopicPlaces]) -> list[Entity]:
    """Return `tasksMetadata`: one task for each partition of each topic."""
    return [
        {
            "taskId": f"{topic.subtopology}_{place.partition}",
            "topicOffsets": [
                {
                    "topicPartitionEntity": {"topic": topic.topic, "partition": place.partition},
                    "endOffset": place.end - 1,
                    "committedOffset": place.consumed or -1,
                }
            ],
            "timeCurrentIdlingStarted": None,
        }
        for topic in topics
        for place in topic.places
    ]


def summaries(group: str, topics: list[TopicPlaces]) -> list[Entity]:
    """Return `queryOffsetSummaries`: no topic before the group's first commit."""
    begun = any(place.consumed for topic in topics for place in topic.places)
    summed = [
        {
            "kafkaTopic": topic.topic,
            "offsets": [
                {
                    "partition": place.partition,
                    "logStartOffset": place.start,
                    "logEndOffset": place.end,
                    "consumerOffset": place.consumed,
                }
                for place in topic.places
            ],
        }
        for topic in (sorted(topics, key=lambda topic: -topic.subtopology) if begun else [])
    ]
    return [{"groupId": group, "topicSummaries": summed}]
