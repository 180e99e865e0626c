"""ksqlDB types as DuckDB reads them from the lake's Parquet: pure text."""

from __future__ import annotations

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


def duckdb_type(kind: KsqlType) -> str:
    """Give the type DuckDB has for a column of this ksqlDB type."""
    match kind:
        case Primitive():
            return _PRIMITIVES[kind]
        case Decimal(precision, scale):
            return f"DECIMAL({precision}, {scale})"
        case Array(element):
            return f"{duckdb_type(element)}[]"
        case Map(key, value):
            return f"MAP({duckdb_type(key)}, {duckdb_type(value)})"
        case Struct(fields):
            inner = ", ".join(
                '"' + name.replace('"', '""') + f'" {duckdb_type(field)}' for name, field in fields
            )
            return f"STRUCT({inner})"
