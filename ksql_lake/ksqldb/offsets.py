"""How far the queries behind a source have read, from DESCRIBE EXTENDED and SHOW QUERIES EXTENDED."""

# DESCRIBE EXTENDED reports Kafka's offsets of a consumer group. SHOW QUERIES EXTENDED reports the offsets of
# one node's tasks; the end there is the newest record that they have fetched, not the log's end.

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from ksql_lake.errors import StatementError, UnauthorizedError
from ksql_lake.ksqldb.entities import Entity, only_entity
from ksql_lake.ksqldb.inventory import Asks, SourceDescription, read_description
from ksql_lake.ksqldb.sql_text import quote_identifier, source_name

Topics = Mapping[str, Mapping[int, "LogOffsets"]]
"""Topic -> partition -> its offsets."""

_SUBTOPOLOGY = re.compile(r"Sub-topology: (\d+)")
_STORE = re.compile(r"\(stores: \[[^\]\s]")
_SINK = re.compile(r"Sink: \S+ \(topic: (.+?)\)")


@dataclass(frozen=True, slots=True)
class LogOffsets:
    """Offsets of a partition's log and of a consumer group; ends are exclusive, -1 before the first read."""

    start: int
    end: int
    consumed: int


@dataclass(frozen=True, slots=True)
class TaskOffsets:
    """Offsets that one task reports of one partition; ends are exclusive, -1 if it reports none."""

    task: str
    topic: str
    partition: int
    end: int
    committed: int

    @property
    def unknown(self) -> bool:
        """Whether the task reports no offset: the partition is empty, not fetched yet, or another node's."""
        return self.end < 0 and self.committed < 0


@dataclass(frozen=True, slots=True)
class ReportedQuery:
    """A query as SHOW QUERIES EXTENDED reports it.

    Attributes:
        id: Its id.
        hosts: Node `host:port` -> the query's state there; empty where the release does not report it.
        state: The state of the query over all nodes.
        errors: Errors of the query in the server's words.
        sinks: The streams and tables that it writes.
        sink_topics: The topics it writes; most releases report none.
        topology: Kafka Streams' description of it.
        tasks: The offsets that the tasks of the asked nodes report.
    """

    id: str
    hosts: Mapping[str, str]
    state: str
    errors: tuple[str, ...]
    sinks: tuple[str, ...]
    sink_topics: tuple[str, ...]
    topology: str
    tasks: tuple[TaskOffsets, ...]

    @property
    def running(self) -> bool:
        """Whether it runs on every known node."""
        states = [self.state, *self.hosts.values()]
        return all(state == "RUNNING" for state in states if state)

    def store_partitions(self, topic: str, topics: Topics) -> tuple[int, ...]:
        """Return the partitions of the state that a pull query reads; empty where they are not known.

        They are the tasks of the sub-topology that writes the sink, or that has a state if none does. The
        sink's topic may have another number of partitions.

        Args:
            topic: The topic that the query writes.
            topics: Kafka's offsets of what it reads, as far as they are known.
        """
        wanted = _store_subtopology(self.topology, (topic, *self.sink_topics))
        tasks = [task for task in self.tasks if wanted is not None and task.task.split("_")[0] == wanted]
        numbers = {task.task.partition("_")[2] for task in tasks}
        found = sorted(int(number) for number in numbers if number.isdecimal())
        # If no node reports a task for a moment, its part of the table must not go unnoticed.
        most = max((len(topics.get(task.topic, {})) for task in tasks), default=0)
        whole = len(found) == len(numbers) >= most and found == list(range(len(found)))
        return tuple(found) if whole else ()


class _Partition(msgspec.Struct, rename="camel"):
    partition: int
    log_start_offset: int
    log_end_offset: int
    consumer_offset: int


class _Topic(msgspec.Struct, rename="camel"):
    kafka_topic: str
    offsets: list[_Partition] = []


class _Group(msgspec.Struct, rename="camel"):
    group_id: str = ""
    topic_summaries: list[_Topic] = []


class _Extended(msgspec.Struct, rename="camel"):
    query_offset_summaries: list[_Group] | None = None


class _ExtendedAnswer(msgspec.Struct):
    source: _Extended = msgspec.field(name="sourceDescription")


class _TopicPartition(msgspec.Struct):
    topic: str
    partition: int


class _TaskTopic(msgspec.Struct, rename="camel"):
    topic_partition_entity: _TopicPartition
    end_offset: int
    committed_offset: int


class _Task(msgspec.Struct, rename="camel"):
    task_id: str = ""
    topic_offsets: list[_TaskTopic] = []


class _QueryError(msgspec.Struct, rename="camel"):
    error_message: str = ""


class _Query(msgspec.Struct, rename="camel"):
    id: str
    sinks: list[str] = []
    sink_kafka_topics: list[str] = []
    state: str | None = None
    topology: str | None = None
    query_errors: list[_QueryError] | None = None
    tasks_metadata: list[_Task] | None = None
    ksql_host_query_status: dict[str, str] | None = None


class _QueriesAnswer(msgspec.Struct):
    queries: list[_Query] = msgspec.field(name="queryDescriptions")


@dataclass(frozen=True, slots=True)
class ExtendedDescription:
    """A source, and Kafka's offsets of the queries that write it; no topics before their first commit."""

    source: SourceDescription
    topics: Topics


def describe_extended(client: Asks, name: str) -> ExtendedDescription:
    """Ask for one stream or table with the offsets of the queries that write it.

    Raises:
        StatementError: The server has no such source.
        KsqlError: The server cannot be asked, or sends another answer.
    """
    return read_extended(client.execute(f"DESCRIBE {quote_identifier(source_name(name))} EXTENDED;"))


def read_extended(entities: Sequence[Entity]) -> ExtendedDescription:
    """Read the answer of DESCRIBE EXTENDED.

    Raises:
        ProtocolError: It is another answer.
    """
    found: dict[str, dict[int, LogOffsets]] = {}
    for group in only_entity(entities, _ExtendedAnswer).source.query_offset_summaries or []:
        for topic in group.topic_summaries:
            known = found.setdefault(topic.kafka_topic, {})
            for part in topic.offsets:
                here = LogOffsets(part.log_start_offset, part.log_end_offset, part.consumer_offset)
                before = known.get(part.partition)
                # Several queries may write one source; the slowest counts.
                if before is not None:
                    here = replace(
                        here, end=max(here.end, before.end), consumed=min(here.consumed, before.consumed)
                    )
                known[part.partition] = here
    return ExtendedDescription(read_description(entities), found)


def topic_ends(client: Asks, topic: str, readers: Iterable[str]) -> Mapping[int, LogOffsets]:
    """Return the ends of a topic's partitions, by a query that reads it; empty if no query does.

    Args:
        client: The server.
        topic: The topic.
        readers: Streams and tables that are written by queries that read it.

    Raises:
        KsqlError: The server cannot be asked, or sends another answer.
    """
    for name in readers:
        try:
            found = describe_extended(client, name).topics.get(topic)
        except (StatementError, UnauthorizedError):
            continue  # dropped meanwhile, or not visible to this user
        if found:
            return found
    return {}


def persistent_queries(client: Asks) -> dict[str, ReportedQuery]:
    """Ask one node for all queries.

    Raises:
        KsqlError: The server cannot be asked, does not allow it, or sends another answer.
    """
    return read_persistent_queries(client.execute("SHOW QUERIES EXTENDED;"))


def read_persistent_queries(entities: Sequence[Entity]) -> dict[str, ReportedQuery]:
    """Read the answer of SHOW QUERIES EXTENDED.

    Raises:
        ProtocolError: It is another answer.
    """
    return {query.id: _read(query) for query in only_entity(entities, _QueriesAnswer).queries}


def merged(answers: Iterable[ReportedQuery]) -> ReportedQuery:
    """Merge what several nodes report of one query: each node reports its own tasks only."""
    first, *others = answers
    tasks: dict[tuple[str, str, int], TaskOffsets] = {}
    hosts: dict[str, str] = dict(first.hosts)
    for answer in (first, *others):
        for host, state in answer.hosts.items():
            if hosts.get(host, "RUNNING") == "RUNNING":
                hosts[host] = state
        for task in answer.tasks:
            place = (task.task, task.topic, task.partition)
            before = tasks.get(place)
            if before is None or before.unknown:
                tasks[place] = task
            elif not task.unknown:
                tasks[place] = replace(
                    task, end=max(task.end, before.end), committed=min(task.committed, before.committed)
                )
    errors = dict.fromkeys(text for answer in (first, *others) for text in answer.errors)
    states = [answer.state for answer in (first, *others) if answer.state not in ("", "RUNNING")]
    return replace(
        first,
        hosts=hosts,
        errors=tuple(errors),
        state=states[0] if states else first.state,
        tasks=tuple(tasks.values()),
    )


def _read(query: _Query) -> ReportedQuery:
    return ReportedQuery(
        id=query.id,
        hosts=query.ksql_host_query_status or {},
        state=query.state or "",
        errors=tuple(error.error_message for error in query.query_errors or []),
        sinks=tuple(query.sinks),
        sink_topics=tuple(query.sink_kafka_topics),
        topology=query.topology or "",
        tasks=tuple(
            TaskOffsets(
                task=task.task_id,
                topic=offsets.topic_partition_entity.topic,
                partition=offsets.topic_partition_entity.partition,
                end=offsets.end_offset + 1 if offsets.end_offset >= 0 else -1,
                committed=offsets.committed_offset,
            )
            for task in query.tasks_metadata or []
            for offsets in task.topic_offsets
        ),
    )


def _store_subtopology(topology: str, sinks: Sequence[str]) -> str | None:
    """Return the number of the sub-topology whose state a pull query reads."""
    parts = _SUBTOPOLOGY.split(topology)[1:]
    numbered = list(zip(parts[::2], parts[1::2], strict=True))
    for number, text in numbered:
        if any(sink in sinks for sink in _SINK.findall(text)):
            return number
    stateful = [number for number, text in numbered if _STORE.search(text)]
    return stateful[-1] if stateful else None
