"""Infer names and types of expressions from their text and the source's columns."""

# Where only DuckDB knows a type, the answer is None and `query_plan` asks DuckDB.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch

from sqlglot import exp

from ksql_lake.devserver.ksql_errors import RefusedError, unresolved
from ksql_lake.devserver.sql.source_columns import PSEUDO, WINDOW_BOUNDS, Source
from ksql_lake.schema import Array, KsqlType, Map, Primitive, Struct

INTEGERS = frozenset({Primitive.INTEGER, Primitive.BIGINT})


@dataclass(frozen=True, slots=True)
class NameScope:
    """The meaning of names.

    Attributes:
        source: The one source of the FROM clause.
        alias: Its alias, "" for none.
        aggregates: Whether aggregate functions may be used.
        variables: Arguments of the enclosing lambdas, each with its DuckDB name.
    """

    source: Source
    alias: str = ""
    aggregates: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


def identifier(node: exp.Expr) -> str:
    """Return the exact-case name: unquoted names are upper-cased."""
    name = str(node.this)
    return name if node.args.get("quoted") else name.upper()


def column_name(node: exp.Column, scope: NameScope) -> str:
    """Return the exact-case name of a column reference.

    Raises:
        RefusedError: It is qualified with something other than the source.
    """
    table = node.args.get("table")
    if table is not None and identifier(table) not in (scope.alias, scope.source.name):
        raise unresolved(f"{identifier(table)}.{identifier(node.this)}")
    return identifier(node.this)


def field_name(node: exp.Expr) -> str:
    """Return the exact-case name after a `->`.

    Raises:
        RefusedError: It is no name.
    """
    if isinstance(node, exp.Column):
        return identifier(node.this)
    if isinstance(node, exp.Identifier):
        return identifier(node)
    raise RefusedError(f"Expected a field name after ->, found {node.sql()}")


@singledispatch
def type_of(node: exp.Expr, scope: NameScope) -> KsqlType | None:
    """Return the ksqlDB type of an expression, or None where its text does not show it."""
    del node, scope
    return None


@type_of.register
def _(node: exp.Column, scope: NameScope) -> KsqlType | None:
    name = column_name(node, scope)
    if name in scope.variables:
        return None
    column = scope.source.column(name)
    if column is not None:
        return column.type
    return Primitive.BIGINT if name in WINDOW_BOUNDS else PSEUDO.get(name)


@type_of.register
def _(node: exp.Dot, scope: NameScope) -> KsqlType | None:
    base = type_of(node.this, scope)
    return dict(base.fields).get(field_name(node.expression)) if isinstance(base, Struct) else None


@type_of.register
def _(node: exp.Bracket, scope: NameScope) -> KsqlType | None:
    base = type_of(node.this, scope)
    if isinstance(base, Array):
        return base.element
    return base.value if isinstance(base, Map) else None


@type_of.register
def _(node: exp.Literal, _scope: NameScope) -> KsqlType | None:
    if node.is_string:
        return Primitive.STRING
    return Primitive.BIGINT if node.is_int else None


@type_of.register(exp.Paren)
@type_of.register(exp.Neg)
def _(node: exp.Expr, scope: NameScope) -> KsqlType | None:
    return type_of(node.this, scope)


@type_of.register(exp.Add)
@type_of.register(exp.Sub)
@type_of.register(exp.Mul)
@type_of.register(exp.Div)
def _(node: exp.Binary, scope: NameScope) -> KsqlType | None:
    sides = {type_of(node.this, scope), type_of(node.expression, scope)}
    if len(sides) == 1:
        return sides.pop()
    return Primitive.BIGINT if sides <= INTEGERS else None


@type_of.register
def _(node: exp.Anonymous, scope: NameScope) -> KsqlType | None:
    # A SUM has its argument's type in ksqlDB; DuckDB would widen it.
    if str(node.this).upper() == "SUM" and len(node.expressions) == 1:
        return type_of(node.expressions[0], scope)
    return None
