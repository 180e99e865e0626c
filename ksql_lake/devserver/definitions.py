"""Column definitions, types and WITH properties of CREATE statements."""

from __future__ import annotations

from collections.abc import Callable

from ksql_lake.devserver.columns import Role
from ksql_lake.devserver.statements import ColumnDefinition
from ksql_lake.devserver.tokens import TokenCursor
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

_ALIASES = {"INT": "INTEGER", "VARCHAR": "STRING", "NUMERIC": "DECIMAL"}


def read_columns(cursor: TokenCursor) -> tuple[ColumnDefinition, ...]:
    """Read `(name type [key], ...)`.

    Raises:
        RefusedError: It is not one.
    """
    cursor.need("(")
    columns = [_column(cursor)]
    while cursor.take(","):
        columns.append(_column(cursor))
    cursor.need(")")
    return tuple(columns)


def _column(cursor: TokenCursor) -> ColumnDefinition:
    name, kind = cursor.name(), read_type(cursor)
    role: Role = "VALUE"
    header_key = None
    if cursor.take("PRIMARY", "KEY") or cursor.take("KEY"):
        role = "KEY"
    elif cursor.take("HEADERS"):
        role = "HEADER"
    elif cursor.take("HEADER"):
        role = "HEADER"
        cursor.need("(")
        header_key = cursor.string()
        cursor.need(")")
    return ColumnDefinition(name, kind, role, header_key)


def read_type(cursor: TokenCursor) -> KsqlType:
    """Read a type.

    Raises:
        RefusedError: ksqlDB has no such type.
    """
    word = _ALIASES.get(cursor.word(), cursor.word())
    if word in Primitive.__members__:
        cursor.value()
        cursor.take("(", "STRING", ")")  # VARCHAR(STRING), as old servers write it
        return Primitive(word)
    parameterised: dict[str, Callable[[TokenCursor], KsqlType]] = {
        "DECIMAL": _decimal,
        "ARRAY": _array,
        "MAP": _map,
        "STRUCT": _struct,
    }
    if word not in parameterised:
        raise cursor.unexpected("a type")
    cursor.value()
    return parameterised[word](cursor)


def _decimal(cursor: TokenCursor) -> KsqlType:
    cursor.need("(")
    precision = cursor.number()
    cursor.need(",")
    scale = cursor.number()
    cursor.need(")")
    return Decimal(precision, scale)


def _array(cursor: TokenCursor) -> KsqlType:
    cursor.need("<")
    element = read_type(cursor)
    cursor.need(">")
    return Array(element)


def _map(cursor: TokenCursor) -> KsqlType:
    cursor.need("<")
    key = read_type(cursor)
    cursor.need(",")
    value = read_type(cursor)
    cursor.need(">")
    return Map(key, value)


def _struct(cursor: TokenCursor) -> KsqlType:
    cursor.need("<")
    fields = [(cursor.name(), read_type(cursor))]
    while cursor.take(","):
        fields.append((cursor.name(), read_type(cursor)))
    cursor.need(">")
    return Struct(tuple(fields))


def read_properties(cursor: TokenCursor) -> dict[str, str]:
    """Read `(KEY = value, ...)`; keys are upper-cased.

    Raises:
        RefusedError: It is not one.
    """
    cursor.need("(")
    properties: dict[str, str] = {}
    while not cursor.take(")"):
        key = cursor.value()
        cursor.need("=")
        sign = "-" if cursor.take("-") else ""
        properties[key.upper()] = sign + cursor.value()
        cursor.take(",")
    return properties
