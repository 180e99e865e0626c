"""Sources and their columns, and the DuckDB type of each ksqlDB type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ksql_lake.devserver.ksql_errors import RefusedError
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

Kind = Literal["STREAM", "TABLE"]
Role = Literal["VALUE", "KEY", "HEADER"]

PSEUDO: dict[str, Primitive] = {
    "ROWTIME": Primitive.BIGINT,
    "ROWPARTITION": Primitive.INTEGER,
    "ROWOFFSET": Primitive.BIGINT,
}
RETENTION_MS = 604_800_000
"""How long a topic keeps its rows by default: a week."""
WINDOW_BOUNDS = ("WINDOWSTART", "WINDOWEND")

_STORED = {Primitive.STRING: "VARCHAR", Primitive.BYTES: "BLOB"}
_PRIMITIVES = {
    "boolean": Primitive.BOOLEAN,
    "tinyint": Primitive.INTEGER,
    "smallint": Primitive.INTEGER,
    "integer": Primitive.INTEGER,
    "bigint": Primitive.BIGINT,
    "hugeint": Primitive.BIGINT,
    "ubigint": Primitive.BIGINT,
    "uinteger": Primitive.BIGINT,
    "float": Primitive.DOUBLE,
    "double": Primitive.DOUBLE,
    "varchar": Primitive.STRING,
    "blob": Primitive.BYTES,
    "time": Primitive.TIME,
    "date": Primitive.DATE,
    "timestamp": Primitive.TIMESTAMP,
    "timestamp_ms": Primitive.TIMESTAMP,
}


@dataclass(frozen=True, slots=True)
class DeclaredColumn:
    """One declared column.

    Attributes:
        name: Exact case.
        stored_as: The DuckDB column that holds it; names of ksqlDB are case-sensitive, DuckDB's are not.
        header_key: For HEADER('key') columns.
    """

    name: str
    type: KsqlType
    stored_as: str
    role: Role = "VALUE"
    header_key: str | None = None


@dataclass(slots=True)
class Source:
    """A stream or a table.

    Attributes:
        storage: Its DuckDB table; rows carry __SEQ (order of arrival), ROWTIME, ROWPARTITION, ROWOFFSET, the
            window bounds if any, and for tables __DEAD (a newer row of the key exists) and __TOMBSTONE.
        timestamp: The column that sets ROWTIME, "" for none.
        derived: Whether a query feeds it, or it is a SOURCE TABLE: only such tables answer pull queries.
        rows: How many rows ever arrived, which is the next row's __SEQ.
        retention_ms: How long its topic keeps a row; -1 is without limit.
        starts: The first offset that each partition of its topic still has; a missing one is 0.
        transactions: `transactions.Transaction` by the name that its producer chose.
        ends: The offset of each partition's next record; a missing one has none yet.
    """

    name: str
    kind: Kind
    columns: tuple[DeclaredColumn, ...]
    storage: str
    topic: str
    statement: str
    key_format: str = "KAFKA"
    value_format: str = "JSON"
    partitions: int = 4
    window_type: str | None = None
    timestamp: str = ""
    derived: bool = False
    rows: int = 0
    properties: dict[str, str] = field(default_factory=dict)
    retention_ms: int = RETENTION_MS
    starts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    transactions: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[DeclaredColumn, ...]:
        """The key columns."""
        return tuple(column for column in self.columns if column.role == "KEY")

    def column(self, name: str) -> DeclaredColumn | None:
        """The declared column of exactly this name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def cleanup_policy(self) -> str:
        """The clean-up policy of its topic."""
        given = self.properties.get("CLEANUP_POLICY")
        if given is not None:
            return given
        return "delete" if self.kind == "STREAM" else "compact,delete" if self.window_type else "compact"

    @property
    def identity(self) -> tuple[str, ...]:
        """The stored columns that make two table rows the same entry."""
        bounds = WINDOW_BOUNDS if self.window_type else ()
        return (*(column.stored_as for column in self.keys), *bounds)


def quoted(name: str) -> str:
    """Return a DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def stored_type(kind: KsqlType) -> str:
    """Return the DuckDB type that holds a ksqlDB type.

    Raises:
        RefusedError: DuckDB has none.
    """
    match kind:
        case Primitive():
            return _STORED.get(kind, kind.value)
        case Decimal(precision, scale):
            return f"DECIMAL({precision},{scale})"
        case Array(element):
            return f"{stored_type(element)}[]"
        case Map(key, value):
            return f"MAP({stored_type(key)}, {stored_type(value)})"
        case Struct(fields):
            names = [name.lower() for name, _ in fields]
            if not names or len(set(names)) < len(names):
                raise RefusedError(
                    "The ksql-lake devserver cannot hold a STRUCT without fields, or with fields that differ "
                    f"only in case: {kind.text}"
                )
            inner = ", ".join(f"{quoted(name)} {stored_type(value)}" for name, value in fields)
            return f"STRUCT({inner})"


def ksql_type(stored: Any) -> KsqlType:
    """Return the ksqlDB type of a DuckDB result column.

    Args:
        stored: DuckDB's type object.

    Raises:
        RefusedError: ksqlDB has no such type.
    """
    if stored.id in _PRIMITIVES:
        return _PRIMITIVES[stored.id]
    if stored.id == "null":
        return Primitive.STRING
    children = dict(stored.children) if stored.id in {"decimal", "list", "map", "struct"} else {}
    match stored.id:
        case "decimal":
            return Decimal(int(children["precision"]), int(children["scale"]))
        case "list":
            return Array(ksql_type(children["child"]))
        case "map":
            return Map(ksql_type(children["key"]), ksql_type(children["value"]))
        case "struct":
            return Struct(tuple((name, ksql_type(child)) for name, child in children.items()))
    raise RefusedError(f"The expression's type {stored} is none that ksqlDB has.")
