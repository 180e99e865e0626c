"""Decide whether the query behind a table has consumed what its source held at the first look. Pure."""

# Kafka's offsets decide where the server reports them. The ends that tasks report are only the newest records
# fetched.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ksql_lake.errors import NotBuiltError
from ksql_lake.ksqldb.offsets import ReportedQuery, TaskOffsets, Topics
from ksql_lake.lake.commit.manifest import EvidenceLevel
from ksql_lake.quantities import count_text

Place = tuple[str, int]
"""A topic and a partition of it."""


def internal_topics(topics: Iterable[str], queries: Iterable[ReportedQuery]) -> set[str]:
    """Return the topics in which queries hand records on to their own next stage."""
    marks = [f"query_{query.id}-" for query in queries]
    return {topic for topic in topics if any(mark in topic for mark in marks)}


@dataclass(frozen=True, slots=True)
class Built:
    """A table's query has consumed its source.

    Attributes:
        level: How sure that is.
        text: What showed it.
    """

    level: EvidenceLevel
    text: str


@dataclass(slots=True)
class Building:
    """Judges, look after look, whether a table is built.

    Args:
        rest: Seconds for which tasks have to be at their ends, look after look, to be believed.
        start: Seconds after which a partition of which no task has fetched anything counts as one that holds
            nothing new; a task that has just started looks the same.
        stuck: Seconds after which a partition that does not move counts as stuck.

    Attributes:
        waiting_for: What is missing, for people; empty when nothing is.
        missing: Records still to be consumed.
        at_once: Whether the next look needs no time to pass: it has to be a later one, nothing more.
    """

    rest: float
    start: float
    stuck: float
    waiting_for: str = ""
    missing: int = 0
    at_once: bool = False
    _stage: int = 0
    _ends: dict[Place, int] | None = None
    _known: set[str] = field(default_factory=set)
    _moved: dict[Place, tuple[int, float]] = field(default_factory=dict)
    _at_end_since: dict[Place, float] = field(default_factory=dict)
    _tasks_since: float | None = None

    def look(
        self, queries: Iterable[ReportedQuery], topics: Topics, *, every_host: bool, clock: float
    ) -> Built | None:
        """Judge one look; None while the table is not built.

        Args:
            queries: The queries that write the table, as reported by all nodes together.
            topics: Kafka's offsets of what they read; none before their first commit.
            every_host: Whether all nodes were asked.
            clock: Seconds, from any start.

        Raises:
            NotBuiltError: A task is dead or stuck; the message names partition and offset.
        """
        queries, self.at_once = tuple(queries), False
        for query in queries:
            if not query.running:
                states = ", ".join(f"{host}: {state}" for host, state in sorted(query.hosts.items()))
                failed = f"; its last error: {query.errors[-1]}" if query.errors else ""
                self._tasks_since = None
                self.waiting_for = f"the query {query.id}, which is {query.state or 'gone'} ({states}{failed})"
                return None
        tasks = [task for query in queries for task in query.tasks]
        if queries and not tasks:
            self._tasks_since = None
            self.waiting_for = "the tasks of the query, of which none is reported"
            return None
        if not topics:
            return self._by_tasks(tasks, every_host=every_host, clock=clock)
        found = self._by_offsets(queries, topics, clock)
        # A topic of which the query has committed nothing yet is not among those with offsets.
        uncovered = [task for task in tasks if task.topic not in topics]
        if found is None or not uncovered:
            return found
        rest = self._by_tasks(uncovered, every_host=every_host, clock=clock)
        return None if rest is None else replace(rest, text=f"{found.text}; {rest.text}")

    def _by_offsets(self, queries: tuple[ReportedQuery, ...], topics: Topics, clock: float) -> Built | None:
        internal = internal_topics(topics, queries)
        if topics.keys() - self._known:
            # A topic is reported from its first commit on, which may come after other topics were judged.
            self._known |= topics.keys()
            self._stage, self._ends = 0, None
        if gone := self._known - topics.keys():
            self.waiting_for = f"offsets of {', '.join(sorted(gone))}, which are not reported for the moment"
            return None
        staged = internal if self._stage else topics.keys() - internal
        if self._ends is None:
            self._ends = {
                (topic, number): part.end for topic in staged for number, part in topics[topic].items()
            }
        pending: dict[Place, tuple[int, int]] = {}
        for (topic, number), end in self._ends.items():
            part = topics.get(topic, {}).get(number)
            if part is None:
                pending[topic, number] = (0, end)
            elif part.consumed < end and part.start != part.end and part.start < end:
                pending[topic, number] = (max(part.consumed, part.start), end)
                self._watch(topic, number, max(part.consumed, part.start), part.end, clock)
        if pending:
            self._wait(pending)
            return None
        if self._stage < len(internal):
            # The source's last records are in the internal topic by now: the next look takes its ends. With
            # several internal topics in a row each needs a separate round. It need not wait: a task commits an
            # offset only after the broker has acknowledged what it wrote before.
            self._stage, self._ends, self.at_once = self._stage + 1, None, True
            self.waiting_for = "the query's internal topics"
            return None
        self.waiting_for, self.missing = "", 0
        sources = sorted(topics.keys() - internal) or sorted(topics)
        consumed = sum(max(part.consumed, 0) for topic in sources for part in topics[topic].values())
        verb = "was consumed to its end" if len(sources) == 1 else "were consumed to their ends"
        return Built(
            "proven",
            f"{' and '.join(sources)} {verb} ({count_text(consumed, 'offset')})",
        )

    def _by_tasks(self, tasks: Sequence[TaskOffsets], *, every_host: bool, clock: float) -> Built | None:
        if self._tasks_since is None:
            self._tasks_since = clock
        unknown = {(task.topic, task.partition) for task in tasks if task.unknown}
        if unknown and not every_host:
            self.waiting_for = (
                f"{count_text(len(unknown), 'partition')} of nodes that cannot be asked one by one"
            )
            return None
        pending: dict[Place, tuple[int, int]] = {}
        for task in tasks:
            place = (task.topic, task.partition)
            if task.unknown:
                continue
            if task.committed >= task.end:
                self._at_end_since.setdefault(place, clock)
            else:
                # Between two fetches a task that is far behind is at its end too, for a moment.
                self._at_end_since.pop(place, None)
                pending[place] = (max(task.committed, 0), task.end)
                self._watch(task.topic, task.partition, max(task.committed, 0), task.end, clock)
        if pending:
            self._wait(pending)
            return None
        rested = all(clock - since >= self.rest for since in self._at_end_since.values())
        if not rested or clock - self._tasks_since < (self.start if unknown else self.rest):
            self.waiting_for, self.missing = "the tasks of the query to rest", 0
            return None
        self.waiting_for, self.missing = "", 0
        known = sum(task.committed for task in tasks if not task.unknown)
        return Built(
            "checked",
            f"its tasks had read all that they had fetched ({count_text(known, 'offset')}); "
            "the server reports no offsets of Kafka for them",
        )

    def _wait(self, pending: Mapping[Place, tuple[int, int]]) -> None:
        """Note what is missing, and where most of it is."""
        behind = {place: end - at for place, (at, end) in pending.items()}
        self.missing = sum(behind.values())
        topic, number = max(behind, key=behind.__getitem__)
        at, end = pending[topic, number]
        topics = ", ".join(sorted({name for name, _ in pending}))
        self.waiting_for = (
            f"{count_text(self.missing, 'record')} of {topics} "
            f"(partition {number} of {topic} was read to offset {at:,} of {end:,})"
        )

    def _watch(self, topic: str, number: int, consumed: int, end: int, clock: float) -> None:
        """Raise for a partition that does not move."""
        before, since = self._moved.get((topic, number), (-1, clock))
        if before != consumed:
            self._moved[topic, number] = (consumed, clock)
        elif clock - since >= self.stuck:
            raise NotBuiltError(
                f"the query behind the table has stopped at offset {consumed} of partition "
                f"{number} of {topic}, "
                f"which ends at {end}, for {clock - since:.0f} s",
                hint="A task of the query is dead or stuck although its state is RUNNING; a record that is too "
                "large does that. The server's log says why. Nothing was kept; export again when it moves.",
            )
