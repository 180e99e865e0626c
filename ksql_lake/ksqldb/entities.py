"""The JSON entities of /ksql answers, typed as far as we read them. A missing or mistyped key is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ksql_lake.errors import ProtocolError

Entity = Mapping[str, Any]
T = TypeVar("T")


class TypeEntity(msgspec.Struct, rename="camel"):
    """A column's type as DESCRIBE reports it; of a MAP it reports only the type of the values."""

    type: str
    fields: list[FieldEntity] | None = None
    member_schema: TypeEntity | None = None
    parameters: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The type as ksqlDB writes it, with `?` for what the server did not report."""
        member = self.member_schema.text if self.member_schema else "?"
        match self.type:
            case "ARRAY":
                return f"ARRAY<{member}>"
            case "MAP":
                return f"MAP<?, {member}>"
            case "STRUCT":
                inner = ", ".join(f"`{field.name}` {field.schema.text}" for field in self.fields or [])
                return f"STRUCT<{inner or ' '}>"
            case "DECIMAL" if self.parameters:
                return f"DECIMAL({self.parameters.get('precision', '?')}, {self.parameters.get('scale', '?')})"
            case _:
                return self.type


class FieldEntity(msgspec.Struct, rename="camel"):
    """A column, or a field of a STRUCT."""

    name: str
    schema: TypeEntity
    type: str | None = None


class QueryEntity(msgspec.Struct, rename="camel"):
    """A running query."""

    id: str
    query_string: str = ""
    sinks: list[str] = []
    sink_kafka_topics: list[str] = []
    query_type: str | None = None
    state: str | None = None


class SourceEntity(msgspec.Struct, rename="camel"):
    """A stream or table in full."""

    name: str
    type: str
    fields: list[FieldEntity]
    topic: str
    window_type: str | None = None
    read_queries: list[QueryEntity] = []
    write_queries: list[QueryEntity] = []
    timestamp: str | None = None
    format: str | None = None
    key_format: str | None = None
    value_format: str | None = None
    partitions: int = 0
    statement: str | None = None


class ListedEntity(msgspec.Struct, rename="camel"):
    """A stream or table in a list; `format` is what servers before 0.13 called `valueFormat`."""

    name: str
    topic: str
    type: str
    format: str | None = None
    key_format: str | None = None
    value_format: str | None = None
    is_windowed: bool = False


class DescribedAnswer(msgspec.Struct):
    """The answer to DESCRIBE."""

    source: SourceEntity = msgspec.field(name="sourceDescription")


class ListedAnswer(msgspec.Struct):
    """The answer to LIST STREAMS or LIST TABLES."""

    streams: list[ListedEntity] = []
    tables: list[ListedEntity] = []


class TopicEntity(msgspec.Struct):
    """A topic in a list."""

    name: str


class TopicsAnswer(msgspec.Struct):
    """The answer to SHOW TOPICS."""

    topics: list[TopicEntity]


class QueriesAnswer(msgspec.Struct):
    """The answer to SHOW QUERIES."""

    queries: list[QueryEntity]


def only_entity(entities: Sequence[Entity], kind: type[T]) -> T:
    """Read an answer that holds one entity.

    Raises:
        ProtocolError: It holds another number of entities, or one of another shape; names the place.
    """
    if len(entities) != 1:
        raise ProtocolError(f"the server answered one statement with {len(entities)} entities")
    try:
        return msgspec.convert(entities[0], kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"the server's answer of type {entities[0].get('@type')!r} is not understood: {error}",
            hint="Is the server newer or older than those this version knows?",
        ) from error
