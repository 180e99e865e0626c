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
    """Where a query stands in one partition of its topic; -1 where the server does not know.

    Attributes:
        end: The end of the partition as far as the query has fetched it; exclusive.
        committed: Up to where rows have been read, filtered and handed out.
    """

    end: int
    committed: int

    @property
    def known(self) -> bool:
        """Whether the query has seen anything of the partition; an empty one looks like one not yet fetched."""
        return self.end > 0

    @property
    def caught_up(self) -> bool:
        """Whether everything that the query knows of has been handed out."""
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
    """Ask where a running query stands in its source's topic, by partition; None when the server does not tell.

    Raises:
        KsqlError: The server cannot be reached.
    """
    try:
        return read_positions(client.execute("SHOW QUERIES EXTENDED;"), query_id, topic=topic)
    except (StatementError, UnauthorizedError, ProtocolError) as error:
        # Not every user may list queries, not every release knows the word, and one may answer in another
        # shape: then nothing is told, and the caller judges by what it has.
        _log.debug("SHOW QUERIES EXTENDED tells nothing: %s", error)
        return None


def read_positions(entities: Sequence[Entity], query_id: str, *, topic: str) -> dict[int, Position] | None:
    """Read the answer of SHOW QUERIES EXTENDED.

    Raises:
        ProtocolError: It is no such answer.
    """
    answer = only_entity(entities, _DescriptionsAnswer)
    found: dict[int, Position] = {}
    for query in answer.queries:
        for task in (query.tasks_metadata or []) if query.id == query_id else []:
            for offsets in task.topic_offsets:
                entity = offsets.topic_partition_entity
                if entity.topic == topic:
                    # The server reports the newest record's own offset; the end lies behind it.
                    end = offsets.end_offset + 1 if offsets.end_offset >= 0 else -1
                    found[entity.partition] = Position(end, offsets.committed_offset)
    return found or None
