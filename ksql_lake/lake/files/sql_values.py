"""The lake's types in SQL, and the SQL by which two values are equal. Pure text."""

# NULL and NaN equal themselves, -0.0 and 0.0 differ, MAP entries compare in any order. Row identity and the
# diff of table versions use the same terms.

from __future__ import annotations

import re
from collections.abc import Iterable

from ksql_lake.lake.files.precision import EXACT, blur, blurred
from ksql_lake.schema import Array, Column, Decimal, KsqlType, Map, Primitive, Struct

_PATTERN = re.compile(r"[*?\[]")
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


def sql_name(identifier: str) -> str:
    """Quote an identifier for DuckDB."""
    return '"' + identifier.replace('"', '""') + '"'


def sql_text(value: str) -> str:
    """Quote a text for DuckDB."""
    return "'" + value.replace("'", "''") + "'"


def literally(path: str) -> str:
    """Return a path with its pattern characters escaped for DuckDB."""
    return _PATTERN.sub(r"[\g<0>]", path)


def sql_files(paths: Iterable[str]) -> str:
    """Return the argument of DuckDB's `read_parquet` for files; no path is a pattern."""
    return f"[{', '.join(sql_text(literally(path)) for path in paths)}]"


def row_terms(columns: Iterable[Column], *, always: bool = False, form: int = EXACT) -> list[str]:
    """Return expressions over the relation `data` that are equal exactly when the columns are; see `terms`."""
    return [
        term
        for column in columns
        for term in terms(f"data.{sql_name(column.name)}", column.type, always=always, form=form)
    ]


def terms(value: str, kind: KsqlType, *, always: bool = False, form: int = EXACT) -> list[str]:
    """Return expressions that are all equal exactly when two values of a type are the same.

    Args:
        value: The value, as SQL.
        kind: Its type.
        always: Rebuild nested values even where their type does not ask for it: a STRUCT is then compared by
            the fields of `kind` alone, whatever further fields the value has.
        form: The form in which they are compared; see `precision.py`.
    """
    if kind is Primitive.DOUBLE:
        return [value, f"signbit({value})"]
    return [_canonical(value, kind, always=always, form=form)]


def compares_as_is(kind: KsqlType) -> bool:
    """Whether DuckDB's own comparison never calls two values of a type equal that are not the same."""
    match kind:
        case Array(element):
            return compares_as_is(element)
        case Map(key, content):
            return compares_as_is(key) and compares_as_is(content)
        case Struct(fields):
            return all(compares_as_is(field) for _, field in fields)
        case _:
            return kind is not Primitive.DOUBLE


def _canonical(
    value: str,
    kind: KsqlType,
    depth: int = 0,
    *,
    always: bool = False,
    form: int = EXACT,
    within: bool = False,
) -> str:
    """Rewrite a value so that equal events compare equal and different ones do not."""
    if not always and not _needs_rewriting(kind) and not blurred(kind, form, within=within):
        return value
    inner = f"x{depth}"

    def element(text: str, of: KsqlType) -> str:
        if of is Primitive.DOUBLE:
            return f"{{'d': {text}, 's': signbit({text})}}"
        inside = within or isinstance(kind, Struct)
        return _canonical(text, of, depth + 1, always=always, form=form, within=inside)

    match kind:
        case Array(content):
            return f"list_transform({value}, lambda {inner}: {element(inner, content)})"
        case Map(key, content):
            pair = f"{{'k': {element(f'{inner}.key', key)}, 'v': {element(f'{inner}.value', content)}}}"
            return f"list_sort(list_transform(map_entries({value}), lambda {inner}: {pair}))"
        case Struct(fields):
            parts = ", ".join(
                f"'f{index}': {element(f'struct_extract({value}, {sql_text(name)})', field)}"
                for index, (name, field) in enumerate(fields)
            )
            parts = parts or "'f': true"  # no field in common: only NULL or not NULL is left to compare
            return f"CASE WHEN {value} IS NULL THEN NULL ELSE {{{parts}}} END"
        case _:
            return blur(value, kind) if blurred(kind, form, within=within) else value


def _needs_rewriting(kind: KsqlType, *, nested: bool = False) -> bool:
    match kind:
        case Array(element):
            return _needs_rewriting(element, nested=True)
        case Map():
            return True
        case Struct(fields):
            return any(_needs_rewriting(field, nested=True) for _, field in fields)
        case _:
            return nested and kind is Primitive.DOUBLE


def sql_type(kind: KsqlType) -> str:
    """Return the type DuckDB has for a column of this ksqlDB type."""
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
