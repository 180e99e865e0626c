"""A feed's columns as DDL of other engines; columns that an engine cannot read are left out and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from ksql_lake.errors import ConfigError, LakeError
from ksql_lake.lake import FeedLake
from ksql_lake.lake.files.sql_values import sql_name, sql_type
from ksql_lake.lake.rows.committed_rows import PARTITION_COLUMNS
from ksql_lake.query.page import duckdb_snippet
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Schema, Struct, arrow_schema


@dataclass(frozen=True, slots=True)
class Described:
    """A feed's columns, each with ksqlDB's type, DuckDB's, and whether it belongs to the key."""

    columns: Schema

    @property
    def rows(self) -> list[tuple[str, str, str, bool]]:
        """Name, ksqlDB type, DuckDB type, key."""
        return [(column.name, column.type.text, sql_type(column.type), column.key) for column in self.columns]


def columns_of(lake: FeedLake) -> Described:
    """Return a feed's columns.

    Raises:
        LakeError: The feed has no export yet.
    """
    columns = lake.published().columns
    if columns is None:
        raise LakeError(
            "nothing was exported yet",
            hint=f"Run `ksql-lake export --{lake.feed.kind} {lake.feed.name}` first.",
            feed=lake.feed.name,
        )
    return Described(columns)


def ddl(lake: FeedLake, dialect: str) -> str:
    """Return the DDL of a feed in a dialect, one of `DIALECTS`.

    Raises:
        ConfigError: There is no such dialect.
        LakeError: The feed has no export yet.
    """
    if dialect not in DIALECTS:
        raise ConfigError(f"there is no dialect {dialect!r}", hint=f"There are: {', '.join(DIALECTS)}.")
    return DIALECTS[dialect](lake, columns_of(lake).columns)


def _duckdb(lake: FeedLake, _columns: Schema) -> str:
    return f"CREATE VIEW {sql_name(lake.feed.name)} AS\n{duckdb_snippet(lake)}"


def _arrow(lake: FeedLake, columns: Schema) -> str:
    schema: pa.Schema = pa.schema([*arrow_schema(columns), *PARTITION_COLUMNS[lake.feed.kind]])
    return str(schema)


def _spark(lake: FeedLake, columns: Schema) -> str:
    listed, notes = _listed(columns, _SPARK, "`", "no type for a time of day before Spark 4.1")
    path = {"stream": ["year INT", "month INT", "day INT"], "table": ["version STRING"]}[lake.feed.kind]
    parts = ", ".join(column.split()[0] for column in path)
    name = f"`{lake.feed.name}`"
    return (
        f"{notes}CREATE TABLE {name} (\n  {_joined([*listed, *path])}\n)\n"
        f"USING PARQUET\nPARTITIONED BY ({parts})\n"
        f"LOCATION '{_quoted(lake.dataset_path)}';\n-- again after each export:\nMSCK REPAIR TABLE {name};"
    )


def _trino(lake: FeedLake, columns: Schema) -> str:
    listed, notes = _listed(columns, _TRINO, '"', "no type for a time of day in the Hive connector")
    path = {
        "stream": ["year INTEGER", "month INTEGER", "day INTEGER"],
        "table": ["version VARCHAR"],
    }[lake.feed.kind]
    parts = ", ".join(f"'{column.split()[0]}'" for column in path)
    path_or_address, name = lake.dataset_path, lake.feed.name
    where = _quoted(path_or_address)
    if "://" not in path_or_address:
        # Trino accepts no path as a location, and finds no files below file://.
        where = f"local://{where}"
        notes += "-- in the catalog's properties: fs.native-local.enabled=true, local.location=/\n"
    return (
        f"{notes}CREATE TABLE hive.lake.{name} (\n  {_joined([*listed, *path])}\n)\n"
        f"WITH (\n  format = 'PARQUET',\n  external_location = '{where}',\n"
        f"  partitioned_by = ARRAY[{parts}]\n);\n-- again after each export:\n"
        f"CALL hive.system.sync_partition_metadata('lake', '{name}', 'FULL');"
    )


DIALECTS: Mapping[str, Callable[[FeedLake, Schema], str]] = {
    "duckdb": _duckdb,
    "spark": _spark,
    "trino": _trino,
    "arrow": _arrow,
}
"""Dialect -> the function that makes its text."""


@dataclass(frozen=True, slots=True)
class _Words:
    """How an engine writes types; it cannot read a primitive type that is missing here."""

    primitives: Mapping[Primitive, str]
    array: str
    map: str
    struct: str
    field: str


_SPARK = _Words(
    {
        Primitive.BOOLEAN: "BOOLEAN",
        Primitive.INTEGER: "INT",
        Primitive.BIGINT: "BIGINT",
        Primitive.DOUBLE: "DOUBLE",
        Primitive.STRING: "STRING",
        Primitive.BYTES: "BINARY",
        Primitive.DATE: "DATE",
        Primitive.TIMESTAMP: "TIMESTAMP",
    },
    "ARRAY<{}>",
    "MAP<{}, {}>",
    "STRUCT<{}>",
    "{}: {}",
)
_TRINO = _Words(
    {
        Primitive.BOOLEAN: "BOOLEAN",
        Primitive.INTEGER: "INTEGER",
        Primitive.BIGINT: "BIGINT",
        Primitive.DOUBLE: "DOUBLE",
        Primitive.STRING: "VARCHAR",
        Primitive.BYTES: "VARBINARY",
        Primitive.DATE: "DATE",
        Primitive.TIMESTAMP: "TIMESTAMP(3)",
    },
    "ARRAY({})",
    "MAP({}, {})",
    "ROW({})",
    "{} {}",
)


def _listed(columns: Schema, words: _Words, quote: str, why: str) -> tuple[list[str], str]:
    """Return the columns, and a comment with those that are left out."""
    typed = {column.name: _type(column.type, words, quote) for column in columns}
    left_out = [name for name, kind in typed.items() if kind is None]
    notes = f"-- left out, {why}: {', '.join(left_out)}\n" if left_out else ""
    return [f"{_name(name, quote)} {kind}" for name, kind in typed.items() if kind is not None], notes


def _type(kind: KsqlType, words: _Words, quote: str) -> str | None:
    inner: list[str | None]
    match kind:
        case Primitive():
            return words.primitives.get(kind)
        case Decimal(precision, scale):
            return f"DECIMAL({precision}, {scale})"
        case Array(element):
            inner, form = [_type(element, words, quote)], words.array
        case Map(key, value):
            inner, form = [_type(key, words, quote), _type(value, words, quote)], words.map
        case Struct(fields):
            inner = [_type(of, words, quote) for _, of in fields]
            if None in inner:
                return None
            named = [
                words.field.format(_name(name, quote), of) for (name, _), of in zip(fields, inner, strict=True)
            ]
            return words.struct.format(", ".join(named))
    return None if None in inner else form.format(*inner)


def _name(name: str, quote: str) -> str:
    return f"{quote}{name.replace(quote, quote * 2)}{quote}"


def _quoted(path: str) -> str:
    return path.replace("'", "''")


def _joined(columns: list[str]) -> str:
    return ",\n  ".join(columns)
