"""Persistent queries: how far each has read its source, and what its sink holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb

from ksql_lake.devserver.faults import ReadLimit
from ksql_lake.devserver.sql.derivation import Derivation
from ksql_lake.devserver.sql.source_columns import Source
from ksql_lake.devserver.store import row_storage

Offsets = Mapping[int, int]
"""An offset for each partition; a missing partition is 0."""


@dataclass(eq=False)
class PersistentQuery:
    """A running CREATE ... AS SELECT, or what materialises a SOURCE TABLE.

    Attributes:
        sink: The source it writes; "" for that of a SOURCE TABLE.
        derivation: How the sink is computed; None for that of a SOURCE TABLE.
        positions: The next offset that it will read of its source, by partition.
        regrouped: The same of its repartition topic; None where that is its end, or there is no such topic.
        whole_at: Number of the source's rows when it last had read all of them; None while it is behind.
        counted: What `regrouped_ends` counted last, and of what: descriptions ask for it again and again.
    """

    id: str
    statement: str
    source: str
    sink: str
    derivation: Derivation | None
    positions: dict[int, int] = field(default_factory=dict)
    regrouped: dict[int, int] | None = None
    whole_at: int | None = 0
    counted: tuple[object, dict[int, int]] | None = None

    @property
    def group(self) -> str:
        """Its consumer group."""
        return f"_confluent-ksql-default_query_{self.id}"

    @property
    def repartition_topic(self) -> str | None:
        """The internal topic that brings equal groups together; None where the key already does."""
        if self.derivation is None or self.derivation.regroup is None:
            return None
        return f"{self.group}-Aggregate-GroupBy-repartition"

    def topology(self, source: str, sink: str, *, table: bool) -> str:
        """Describe its sub-topologies as Kafka Streams does, as far as a reader uses them.

        Args:
            source: The topic that it reads.
            sink: The topic that it writes; "" for a SOURCE TABLE's.
            table: Whether it keeps a state.
        """
        store = "" if not table else "Aggregate-Aggregate-Materialize" if sink else "KsqlTopic-Reduce"
        texts, topic = [], source
        if self.repartition_topic is not None:
            topic = "Aggregate-GroupBy-repartition"
            texts.append(
                f"    Source: KSTREAM-SOURCE-0000000000 (topics: [{source}])\n      --> Aggregate-GroupBy\n"
                f"    Sink: Aggregate-GroupBy-repartition-sink (topic: {topic})\n      <-- Aggregate-GroupBy\n"
            )
        ending = f"    Sink: KSTREAM-SINK-0000000007 (topic: {sink})\n      <-- Project\n" if sink else ""
        texts.append(
            f"    Source: KSTREAM-SOURCE-0000000001 (topics: [{topic}])\n      --> Project\n"
            f"    Processor: Project (stores: [{store}])\n      --> none\n{ending}"
        )
        numbered = (f"   Sub-topology: {number}\n{text}\n" for number, text in enumerate(texts))
        return f"Topologies:\n{''.join(numbered)}\n"


def advance(
    query: PersistentQuery, source: Source, sink: Source, reach: ReadLimit, cursor: duckdb.DuckDBPyConnection
) -> None:
    """Let a query read on; it never goes back.

    Args:
        query: The query; its positions move.
        source: What it reads.
        sink: What it writes.
        reach: Limits up to which it may read.
        cursor: Any cursor of the server's database.
    """
    if query.derivation is None:
        query.positions = dict(source.ends)
        return
    until = {
        partition: max(query.positions.get(partition, 0), min(end, reach.source.get(partition, end)))
        for partition, end in source.ends.items()
    }
    limits = _regrouped_limits(query, source, until, reach.unread, cursor)
    if until == query.positions and limits == query.regrouped:
        return
    whole = until == source.ends
    if query.derivation.incremental:
        row_storage.append(sink, query.derivation.over(source, _between(query, until, whole=whole)), cursor)
    else:
        span = "TRUE" if whole else _below(until)
        state = query.derivation.over(source, span, partial=not whole, limits=limits)
        row_storage.replace_state(sink, state, cursor)
    query.positions, query.regrouped = until, limits
    query.whole_at = source.rows if whole else None


def _regrouped_limits(
    query: PersistentQuery, source: Source, until: Offsets, unread: int, cursor: duckdb.DuckDBPyConnection
) -> dict[int, int] | None:
    """How far the repartition topic may be read; None without such a topic, or to its ends."""
    if query.repartition_topic is None or (not unread and query.regrouped is None):
        return None
    before = query.regrouped or regrouped_ends(query, source, query.positions, cursor)
    ends = regrouped_ends(query, source, until, cursor)
    limits = {number: max(before.get(number, 0), end - unread) for number, end in ends.items()}
    return None if limits == ends else limits


def regrouped_ends(
    query: PersistentQuery, source: Source, until: Offsets, cursor: duckdb.DuckDBPyConnection
) -> dict[int, int]:
    """How many records each partition of the query's repartition topic holds once the source is read so far."""
    if query.derivation is None or query.derivation.regroup is None:
        return {}
    # Records below an offset stay as they are: none is taken from a topic of which a table is made.
    records = (source.storage, source.partitions, tuple(sorted(until.items())))
    if query.counted is None or query.counted[0] != records:
        counted = cursor.execute(query.derivation.regrouped_counts(source, _below(until))).fetchall()
        query.counted = records, dict.fromkeys(range(source.partitions), 0) | dict(counted)
    return query.counted[1]


def _below(until: Offsets) -> str:
    spans = (f"(ROWPARTITION = {number} AND ROWOFFSET < {end})" for number, end in until.items())
    return f"({' OR '.join(spans) or 'FALSE'})"


def _between(query: PersistentQuery, until: Offsets, *, whole: bool) -> str:
    """The condition for the rows that the query has not read yet."""
    behind = query.whole_at is None
    unread = f"NOT {_below(query.positions)}" if behind else f"__SEQ >= {query.whole_at}"
    return unread if whole else f"{unread} AND {_below(until)}"
