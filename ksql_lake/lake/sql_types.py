"""ksqlDB types as DuckDB reads them from the lake's Parquet: pure text."""

from __future__ import annotations

from ksql_lake.lake.equality import sql_name
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

_PRIMITIVES = {
    Primitive.BOOLEAN: "BOOLEAN",
    Primitive.INTEGER: "INTEGER",
    Primitive.BIGINT: "BIGINT",
    Primitive.DOUBLE: "DOUBLE",
    Primitive.STRING: "VARCHAR",
    Primitive.BYTES: "BLOB",
    Primitive.TIME: "TIME",
    Primitive.DATE: "DATE",
    Primitive.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}


def sql_type(kind: KsqlType) -> str:
    """Give the type DuckDB has for a column of this ksqlDB type."""
    match kind:
        case Primitive():
            return _PRIMITIVES[kind]
        case Decimal(precision, scale):
            return f"DECIMAL({precision},{scale})"
        case Array(element):
            return f"{sql_type(element)}[]"
        case Map(key, value):
            return f"MAP({sql_type(key)}, {sql_type(value)})"
        case Struct(fields):
            return f"STRUCT({', '.join(f'{sql_name(name)} {sql_type(inner)}' for name, inner in fields)})"
