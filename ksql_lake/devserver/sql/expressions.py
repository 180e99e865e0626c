"""Translate ksqlDB expressions into DuckDB expressions. It refuses what it does not know."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import singledispatch

from sqlglot import exp

from ksql_lake.devserver.ksql_errors import RefusedError, unresolved
from ksql_lake.devserver.sql.functions import call
from ksql_lake.devserver.sql.inference import (
    INTEGERS,
    NameScope,
    column_name,
    field_name,
    identifier,
    type_of,
)
from ksql_lake.devserver.sql.source_columns import PSEUDO, WINDOW_BOUNDS, literal, quoted
from ksql_lake.schema import Map, Primitive, Struct

_BINARY: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.And: "AND", exp.Or: "OR", exp.Sub: "-", exp.Mul: "*", exp.Mod: "%", exp.DPipe: "||",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM", exp.NullSafeNEQ: "IS DISTINCT FROM",
}  # fmt: skip
_CASTS = {
    "VARCHAR": "VARCHAR", "TEXT": "VARCHAR", "INT": "INTEGER", "BIGINT": "BIGINT", "DOUBLE": "DOUBLE",
    "BOOLEAN": "BOOLEAN", "DATE": "DATE", "TIME": "TIME", "TIMESTAMP": "TIMESTAMP", "VARBINARY": "BLOB",
}  # fmt: skip
_JAVA_TEXT = {
    Primitive.DOUBLE: "java_double",
    Primitive.TIMESTAMP: "java_timestamp",
    Primitive.TIME: "java_time",
    Primitive.DATE: "java_date",
}


@singledispatch
def translate(node: exp.Expr, scope: NameScope) -> str:
    """Return the DuckDB expression for one ksqlDB expression.

    Raises:
        RefusedError: A name does not exist, or the expression is of a kind this server does not know.
    """
    del scope
    raise RefusedError(f"The ksql-lake devserver does not know this expression: {node.sql()}")


@translate.register
def _(node: exp.Column, scope: NameScope) -> str:
    name = column_name(node, scope)
    if name in scope.variables:
        return scope.variables[name]
    column = scope.source.column(name)
    if column is not None:
        return quoted(column.stored_as)
    if name in PSEUDO or (name in WINDOW_BOUNDS and scope.source.window_type):
        return name
    raise unresolved(name)


@translate.register
def _(node: exp.Literal, _scope: NameScope) -> str:
    return literal(str(node.this)) if node.is_string else str(node.this)


@translate.register
def _(_node: exp.Null, _scope: NameScope) -> str:
    return "NULL"


@translate.register
def _(node: exp.Boolean, _scope: NameScope) -> str:
    return "TRUE" if node.this else "FALSE"


@translate.register
def _(node: exp.Paren, scope: NameScope) -> str:
    return f"({translate(node.this, scope)})"


@translate.register
def _(node: exp.Not, scope: NameScope) -> str:
    return f"(NOT {translate(node.this, scope)})"


@translate.register
def _(node: exp.Neg, scope: NameScope) -> str:
    return f"(-{translate(node.this, scope)})"


@translate.register
def _(node: exp.Binary, scope: NameScope) -> str:
    left, right = _operand(node.this, node.expression, scope), _operand(node.expression, node.this, scope)
    if isinstance(node, exp.Add):
        text = Primitive.STRING in (type_of(node.this, scope), type_of(node.expression, scope))
        return f"({left} {'||' if text else '+'} {right})"
    if isinstance(node, exp.Div):
        whole = all(type_of(side, scope) in INTEGERS for side in (node.this, node.expression))
        # A whole number through zero is NULL in the row, and no failure of the query.
        return f"({left} // nullif({right}, 0))" if whole else f"({left} / {right})"
    if type(node) not in _BINARY:
        raise RefusedError(f"The ksql-lake devserver does not know this expression: {node.sql()}")
    return f"({left} {_BINARY[type(node)]} {right})"


def _operand(node: exp.Expr, beside: exp.Expr, scope: NameScope) -> str:
    """Return one side of a comparison; text beside ROWTIME or a window bound becomes epoch milliseconds."""
    moment = isinstance(beside, exp.Column) and column_name(beside, scope) in ("ROWTIME", *WINDOW_BOUNDS)
    text = isinstance(node, exp.Literal) and node.is_string
    return str(epoch_ms(str(node.this))) if moment and text else translate(node, scope)


def epoch_ms(text: str) -> int:
    """Return the milliseconds of a partial ISO timestamp, UTC unless it names an offset.

    Raises:
        RefusedError: The text is no timestamp.
    """
    padded = text.strip().replace(" ", "T")
    padded += {4: "-01-01", 7: "-01"}.get(len(padded), "")
    try:
        moment = datetime.fromisoformat(padded)
    except ValueError:
        raise RefusedError(f"Failed to parse timestamp '{text}'", unexpected=True) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


@translate.register
def _(node: exp.Between, scope: NameScope) -> str:
    low, high = (_operand(node.args[side], node.this, scope) for side in ("low", "high"))
    return f"({translate(node.this, scope)} BETWEEN {low} AND {high})"


@translate.register
def _(node: exp.In, scope: NameScope) -> str:
    if not node.expressions:
        raise RefusedError("IN needs a list of values.")
    values = ", ".join(_operand(item, node.this, scope) for item in node.expressions)
    return f"({translate(node.this, scope)} IN ({values}))"


@translate.register
def _(node: exp.Like, scope: NameScope) -> str:
    negation = "NOT " if node.args.get("negate") else ""
    return f"({translate(node.this, scope)} {negation}LIKE {translate(node.expression, scope)})"


@translate.register
def _(node: exp.Escape, scope: NameScope) -> str:
    like = translate(node.this, scope).removesuffix(")")
    return f"{like} ESCAPE {translate(node.expression, scope)})"


@translate.register
def _(node: exp.Is, scope: NameScope) -> str:
    negation = "NOT " if node.args.get("negate") else ""
    return f"({translate(node.this, scope)} IS {negation}{translate(node.expression, scope)})"


@translate.register
def _(node: exp.Dot, scope: NameScope) -> str:
    base = type_of(node.this, scope)
    name = field_name(node.expression)
    if isinstance(base, Struct) and name not in dict(base.fields):
        raise RefusedError(f"Could not find field '{name}' in STRUCT {base.text}.", unexpected=True)
    return f"struct_extract({translate(node.this, scope)}, {literal(name)})"


@translate.register
def _(node: exp.Bracket, scope: NameScope) -> str:
    base, index = translate(node.this, scope), translate(node.expressions[0], scope)
    if isinstance(type_of(node.this, scope), Map):
        return f"({base})[{index}]"
    # Both count array elements from 1, and from the end with negative numbers.
    return f"list_extract({base}, {index})"


@translate.register
def _(node: exp.Array, scope: NameScope) -> str:
    return f"[{', '.join(translate(item, scope) for item in node.expressions)}]"


@translate.register
def _(node: exp.Case, scope: NameScope) -> str:
    operand = f" {translate(node.this, scope)}" if node.this is not None else ""
    branches = " ".join(
        f"WHEN {translate(branch.this, scope)} THEN {translate(branch.args['true'], scope)}"
        for branch in node.args["ifs"]
    )
    default = node.args.get("default")
    otherwise = f" ELSE {translate(default, scope)}" if default is not None else ""
    return f"(CASE{operand} {branches}{otherwise} END)"


@translate.register
def _(node: exp.Cast, scope: NameScope) -> str:
    value, kind = translate(node.this, scope), node.to
    name = str(kind.this.value).upper()
    if name == "DECIMAL":
        digits = ", ".join(parameter.name for parameter in kind.expressions)
        return f"CAST({value} AS DECIMAL({digits}))"
    if name not in _CASTS:
        raise RefusedError(f"The ksql-lake devserver cannot CAST to {kind.sql()}.")
    source = type_of(node.this, scope)
    if _CASTS[name] == "VARCHAR" and isinstance(source, Primitive) and source in _JAVA_TEXT:
        return f"trim({_JAVA_TEXT[source]}({value}), '\"')"
    return f"CAST({value} AS {_CASTS[name]})"


@translate.register
def _(node: exp.Anonymous, scope: NameScope) -> str:
    name = str(node.this).upper()
    if name in ("STRUCT", "MAP"):
        return _constructed(name, node, scope)
    if name == "TRANSFORM":
        return _transformed(node, scope)
    arguments = ["*" if isinstance(item, exp.Star) else translate(item, scope) for item in node.expressions]
    return call(name, arguments, aggregates=scope.aggregates)


def _constructed(name: str, node: exp.Anonymous, scope: NameScope) -> str:
    """Translate STRUCT(A := 1) and MAP('a' := 1)."""
    pairs = []
    for pair in node.expressions:
        if not isinstance(pair, exp.PropertyEQ):
            raise RefusedError(f"{name} takes pairs such as A := 1.")
        key = literal(identifier(pair.this)) if name == "STRUCT" else translate(pair.this, scope)
        pairs.append(f"{key}: {translate(pair.expression, scope)}")
    return f"{'MAP' if name == 'MAP' else ''}{{{', '.join(pairs)}}}"


def _transformed(node: exp.Anonymous, scope: NameScope) -> str:
    """Translate TRANSFORM(items, X => ...) over an ARRAY."""
    items, function = node.expressions if len(node.expressions) == 2 else (node, None)
    if not isinstance(function, exp.Lambda) or len(function.expressions) != 1:
        raise RefusedError(f"The ksql-lake devserver transforms ARRAYs by one function only: {node.sql()}")
    variable = f"__l{len(scope.variables)}"
    inside = replace(scope, variables={**scope.variables, identifier(function.expressions[0]): variable})
    return f"list_transform({translate(items, scope)}, lambda {variable}: {translate(function.this, inside)})"
