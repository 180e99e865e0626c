"""ksqlDB statements as plain data. `parsing` reads them from text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ksql_lake.devserver.sql.source_columns import Kind, Role
from ksql_lake.schema import KsqlType

Listed = Literal["STREAMS", "TABLES", "QUERIES", "TOPICS", "PROPERTIES"]


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT, cut into its clauses; clause texts are as written, "" when absent."""

    text: str
    projections: str
    source: str
    alias: str = ""
    joins: bool = False
    where: str = ""
    window: str = ""
    group_by: str = ""
    partition_by: str = ""
    having: str = ""
    emit: str = ""
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """One column of a CREATE statement."""

    name: str
    type: KsqlType
    role: Role = "VALUE"
    header_key: str | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE STREAM or TABLE, with columns, or AS a SELECT."""

    text: str
    kind: Kind
    name: str
    columns: tuple[ColumnDefinition, ...]
    properties: dict[str, str]
    select: Select | None = None
    or_replace: bool = False
    if_not_exists: bool = False
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Alter:
    """ALTER STREAM or TABLE ... ADD COLUMN."""

    text: str
    kind: Kind
    name: str
    columns: tuple[ColumnDefinition, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """DROP STREAM or TABLE."""

    text: str
    kind: Kind
    name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """LIST, SHOW or DESCRIBE of everything of one sort."""

    text: str
    what: Listed
    extended: bool
    described: bool = False


@dataclass(frozen=True, slots=True)
class Describe:
    """DESCRIBE one source."""

    text: str
    name: str
    extended: bool


@dataclass(frozen=True, slots=True)
class Explain:
    """EXPLAIN a persistent query by id, or a SELECT."""

    text: str
    query_id: str
    select: Select | None = None


@dataclass(frozen=True, slots=True)
class Terminate:
    """TERMINATE one query, or ALL."""

    text: str
    query_id: str


@dataclass(frozen=True, slots=True)
class Insert:
    """INSERT INTO ... VALUES: one row; `values` is the text between the parentheses."""

    text: str
    name: str
    columns: tuple[str, ...]
    values: str


@dataclass(frozen=True, slots=True)
class InsertSelect:
    """INSERT INTO ... SELECT: one more query that writes a stream."""

    text: str
    name: str
    select: Select


@dataclass(frozen=True, slots=True)
class AssertTopic:
    """ASSERT TOPIC, with what is expected of it."""

    text: str
    topic: str
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class Print:
    """PRINT a topic."""

    text: str


Statement = (
    Select
    | Create
    | Alter
    | Drop
    | Listing
    | Describe
    | Explain
    | Terminate
    | Insert
    | InsertSelect
    | AssertTopic
    | Print
)
