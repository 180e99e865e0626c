"""How far a running query has read its source, from SHOW QUERIES EXTENDED."""

# The numbers lag behind by the server's commit interval.

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ksql_lake.errors import ProtocolError, StatementError, UnauthorizedError
from ksql_lake.ksqldb.entities import Entity, only_entity
from ksql_lake.ksqldb.inventory import Asks

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a query has read one partition of its topic; -1 if the server reports nothing.

    Attributes:
        end: The end of the partition as far as the query has fetched it; exclusive.
        committed: The end (exclusive) of the rows that were read, filtered and sent.
    """

    end: int
    committed: int

    @property
    def known(self) -> bool:
        """Whether the query has fetched anything of the partition; an empty one looks like one not fetched."""
        return self.end > 0

    @property
    def caught_up(self) -> bool:
        """Whether the query has sent everything that it has fetched."""
        return self.committed >= self.end


class _PartitionEntity(msgspec.Struct):
    topic: str
    partition: int


class _OffsetEntity(msgspec.Struct, rename="camel"):
    topic_partition_entity: _PartitionEntity
    end_offset: int
    committed_offset: int


class _TaskEntity(msgspec.Struct, rename="camel"):
    topic_offsets: list[_OffsetEntity] = []


class _DescriptionEntity(msgspec.Struct, rename="camel"):
    id: str
    tasks_metadata: list[_TaskEntity] | None = None


class _DescriptionsAnswer(msgspec.Struct):
    queries: list[_DescriptionEntity] = msgspec.field(name="queryDescriptions")


def query_positions(client: Asks, query_id: str, *, topic: str) -> dict[int, Position] | None:
    """Ask how far a running query has read its source's topic, by partition; None if it is not reported.

    Raises:
        KsqlError: The server cannot be reached.
    """
    try:
        return read_positions(client.execute("SHOW QUERIES EXTENDED;"), query_id, topic=topic)
    except (StatementError, UnauthorizedError, ProtocolError) as error:
        # Some users may not list queries, some releases do not know the statement or answer in another shape.
        # The caller then judges without positions.
        _log.debug("SHOW QUERIES EXTENDED reports no positions: %s", error)
        return None


def read_positions(entities: Sequence[Entity], query_id: str, *, topic: str) -> dict[int, Position] | None:
    """Read the answer of SHOW QUERIES EXTENDED.

    Raises:
        ProtocolError: It is another answer.
    """
    answer = only_entity(entities, _DescriptionsAnswer)
    found: dict[int, Position] = {}
    for query in answer.queries:
        for task in (query.tasks_metadata or []) if query.id == query_id else []:
            for offsets in task.topic_offsets:
                entity = offsets.topic_partition_entity
                if entity.topic == topic:
                    # The server reports the offset of the newest record; the end is one more.
                    end = offsets.end_offset + 1 if offsets.end_offset >= 0 else -1
                    found[entity.partition] = Position(end, offsets.committed_offset)
    return found or None
