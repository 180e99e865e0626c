"""ksqlDB expressions to DuckDB expressions, with the types ksqlDB would see.

Names are resolved exactly (unquoted ones upper-cased) against one source; whatever is not understood is
refused, never passed on to DuckDB as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlglot import exp

from ksql_lake.devserver.columns import PSEUDO, WINDOW_BOUNDS, Source, literal, quoted
from ksql_lake.devserver.functions import call
from ksql_lake.devserver.refusals import RefusedError
from ksql_lake.schema import Array, KsqlType, Map, Primitive, Struct

_BINARY: dict[type[exp.Expression], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.And: "AND", exp.Or: "OR", exp.Sub: "-", exp.Mul: "*", exp.Mod: "%", exp.DPipe: "||",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM", exp.NullSafeNEQ: "IS DISTINCT FROM",
}  # fmt: skip
_INTEGERS = (Primitive.INTEGER, Primitive.BIGINT)
_CASTS = {
    "VARCHAR": "VARCHAR", "TEXT": "VARCHAR", "INT": "INTEGER", "BIGINT": "BIGINT", "DOUBLE": "DOUBLE",
    "BOOLEAN": "BOOLEAN", "DATE": "DATE", "TIME": "TIME", "TIMESTAMP": "TIMESTAMP", "VARBINARY": "BLOB",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean.

    Attributes:
        source: The one source of the FROM clause.
        alias: Its alias, "" for none.
        aggregates: Whether aggregate functions may be used.
    """

    source: Source
    alias: str = ""
    aggregates: bool = False


def identifier(node: exp.Identifier) -> str:
    """The exact-case name."""
    name = str(node.this)
    return name if node.args.get("quoted") else name.upper()


def column_name(node: exp.Column, scope: Scope) -> str:
    """The exact-case name of a column reference.

    Raises:
        RefusedError: It is qualified with something other than the source.
    """
    table = node.args.get("table")
    if table is not None and identifier(table) not in (scope.alias, scope.source.name):
        raise RefusedError(f"Column '{identifier(table)}.{identifier(node.this)}' cannot be resolved.")
    return identifier(node.this)


def type_of(node: exp.Expression, scope: Scope) -> KsqlType | None:
    """The ksqlDB type as far as the text alone tells; None where only DuckDB knows."""
    match node:
        case exp.Column():
            name = column_name(node, scope)
            column = scope.source.column(name)
            if column is not None:
                return column.type
            return Primitive.BIGINT if name in WINDOW_BOUNDS else PSEUDO.get(name)
        case exp.Dot():
            base = type_of(node.this, scope)
            fields = dict(base.fields) if isinstance(base, Struct) else {}
            return fields.get(_field_name(node.expression))
        case exp.Bracket():
            base = type_of(node.this, scope)
            if isinstance(base, Array):
                return base.element
            return base.value if isinstance(base, Map) else None
        case exp.Literal():
            return Primitive.STRING if node.is_string else (Primitive.BIGINT if node.is_int else None)
        case exp.Paren() | exp.Neg():
            return type_of(node.this, scope)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
            sides = {type_of(node.this, scope), type_of(node.expression, scope)}
            return sides.pop() if len(sides) == 1 else (Primitive.BIGINT if sides <= set(_INTEGERS) else None)
    return None


def translate(node: exp.Expression, scope: Scope) -> str:
    """The DuckDB expression for one ksqlDB expression.

    Raises:
        RefusedError: A name does not exist, or the expression is of a kind this server does not know.
    """
    for kinds, render in _RENDERERS:
        if isinstance(node, kinds):
            return render(node, scope)
    raise RefusedError(f"The ksql-lake devserver does not know this expression: {node.sql()}")


def _column(node: exp.Column, scope: Scope) -> str:
    name = column_name(node, scope)
    column = scope.source.column(name)
    if column is not None:
        return quoted(column.stored_as)
    if name in PSEUDO or (name in WINDOW_BOUNDS and scope.source.window_type):
        return name
    raise RefusedError(f"Column '{name}' cannot be resolved.")


def _literal(node: exp.Literal, _scope: Scope) -> str:
    return literal(str(node.this)) if node.is_string else str(node.this)


def _binary(node: exp.Binary, scope: Scope) -> str:
    left, right = _operand(node.this, node.expression, scope), _operand(node.expression, node.this, scope)
    if isinstance(node, exp.Add):
        text = Primitive.STRING in (type_of(node.this, scope), type_of(node.expression, scope))
        return f"({left} {'||' if text else '+'} {right})"
    if isinstance(node, exp.Div):
        whole = all(type_of(side, scope) in _INTEGERS for side in (node.this, node.expression))
        return f"({left} {'//' if whole else '/'} {right})"
    return f"({left} {_BINARY[type(node)]} {right})"


def _operand(node: exp.Expression, beside: exp.Expression, scope: Scope) -> str:
    """One side of a comparison; text beside ROWTIME or a window bound becomes epoch milliseconds."""
    moment = isinstance(beside, exp.Column) and column_name(beside, scope) in ("ROWTIME", *WINDOW_BOUNDS)
    return str(epoch_ms(str(node.this))) if moment and _is_text(node) else translate(node, scope)


def _is_text(node: exp.Expression) -> bool:
    return isinstance(node, exp.Literal) and bool(node.is_string)


def epoch_ms(text: str) -> int:
    """The milliseconds a partial ISO timestamp stands for, UTC unless it names an offset.

    Raises:
        RefusedError: The text is no timestamp.
    """
    padded = text.strip().replace(" ", "T")
    try:
        if len(padded) == 4:
            padded += "-01-01"
        elif len(padded) == 7:
            padded += "-01"
        moment = datetime.fromisoformat(padded)
    except ValueError:
        raise RefusedError(f"Failed to parse timestamp '{text}'") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def _between(node: exp.Between, scope: Scope) -> str:
    low, high = (_operand(node.args[side], node.this, scope) for side in ("low", "high"))
    return f"({translate(node.this, scope)} BETWEEN {low} AND {high})"


def _in(node: exp.In, scope: Scope) -> str:
    if not node.expressions:
        raise RefusedError("IN needs a list of values.")
    values = ", ".join(_operand(item, node.this, scope) for item in node.expressions)
    return f"({translate(node.this, scope)} IN ({values}))"


def _like(node: exp.Like, scope: Scope) -> str:
    negation = "NOT " if node.args.get("negate") else ""
    return f"({translate(node.this, scope)} {negation}LIKE {translate(node.expression, scope)})"


def _escape(node: exp.Escape, scope: Scope) -> str:
    return f"({translate(node.this, scope)[1:-1]} ESCAPE {translate(node.expression, scope)})"


def _is(node: exp.Is, scope: Scope) -> str:
    negation = "NOT " if node.args.get("negate") else ""
    return f"({translate(node.this, scope)} IS {negation}{translate(node.expression, scope)})"


def _field_name(node: exp.Expression) -> str:
    if isinstance(node, exp.Column):
        return identifier(node.this)
    if isinstance(node, exp.Identifier):
        return identifier(node)
    raise RefusedError(f"Expected a field name after ->, found {node.sql()}")


def _dot(node: exp.Dot, scope: Scope) -> str:
    base = type_of(node.this, scope)
    name = _field_name(node.expression)
    if isinstance(base, Struct) and name not in dict(base.fields):
        raise RefusedError(f"Could not find field '{name}' in STRUCT {base.text}.")
    return f"struct_extract({translate(node.this, scope)}, {literal(name)})"


def _bracket(node: exp.Bracket, scope: Scope) -> str:
    base, index = translate(node.this, scope), translate(node.expressions[0], scope)
    if isinstance(type_of(node.this, scope), Map):
        return f"({base})[{index}]"
    # Both count array elements from 1, and from the end with negative numbers.
    return f"list_extract({base}, {index})"


def _case(node: exp.Case, scope: Scope) -> str:
    operand = f" {translate(node.this, scope)}" if node.this is not None else ""
    branches = " ".join(
        f"WHEN {translate(branch.this, scope)} THEN {translate(branch.args['true'], scope)}"
        for branch in node.args["ifs"]
    )
    default = node.args.get("default")
    otherwise = f" ELSE {translate(default, scope)}" if default is not None else ""
    return f"(CASE{operand} {branches}{otherwise} END)"


def _cast(node: exp.Cast, scope: Scope) -> str:
    value, kind = translate(node.this, scope), node.to
    name = str(kind.this.value).upper()
    if name == "DECIMAL":
        digits = [parameter.name for parameter in kind.expressions]
        return f"CAST({value} AS DECIMAL({', '.join(digits)}))"
    if name not in _CASTS:
        raise RefusedError(f"The ksql-lake devserver cannot CAST to {kind.sql()}.")
    if name in ("VARCHAR", "TEXT") and type_of(node.this, scope) is Primitive.DOUBLE:
        return f"trim(java_double({value}), '\"')"
    if name in ("VARCHAR", "TEXT") and type_of(node.this, scope) is Primitive.TIMESTAMP:
        return f"trim(java_timestamp({value}), '\"')"
    return f"CAST({value} AS {_CASTS[name]})"


def _call(node: exp.Anonymous, scope: Scope) -> str:
    name = str(node.this).upper()
    if name in ("STRUCT", "MAP"):
        pairs = []
        for pair in node.expressions:
            if not isinstance(pair, exp.PropertyEQ):
                raise RefusedError(f"{name} takes pairs such as A := 1.")
            key = literal(identifier(pair.this)) if name == "STRUCT" else translate(pair.this, scope)
            pairs.append(f"{key}: {translate(pair.expression, scope)}")
        return f"{'MAP' if name == 'MAP' else ''}{{{', '.join(pairs)}}}"
    arguments = ["*" if isinstance(item, exp.Star) else translate(item, scope) for item in node.expressions]
    return call(name, arguments, aggregates=scope.aggregates)


_Renderer = Callable[[exp.Expression, Scope], str]
_RENDERERS: list[tuple[type[exp.Expression] | tuple[type[exp.Expression], ...], _Renderer]] = [
    (exp.Column, _column),  # type: ignore[list-item]
    (exp.Literal, _literal),  # type: ignore[list-item]
    (exp.Null, lambda _node, _scope: "NULL"),
    (exp.Boolean, lambda node, _scope: "TRUE" if node.this else "FALSE"),
    (exp.Paren, lambda node, scope: f"({translate(node.this, scope)})"),
    (exp.Not, lambda node, scope: f"(NOT {translate(node.this, scope)})"),
    (exp.Neg, lambda node, scope: f"(-{translate(node.this, scope)})"),
    (exp.Dot, _dot),  # type: ignore[list-item]
    (exp.Between, _between),  # type: ignore[list-item]
    (exp.In, _in),  # type: ignore[list-item]
    (exp.Like, _like),  # type: ignore[list-item]
    (exp.Escape, _escape),  # type: ignore[list-item]
    (exp.Is, _is),  # type: ignore[list-item]
    ((*_BINARY, exp.Add, exp.Div), _binary),  # type: ignore[list-item]
    (exp.Bracket, _bracket),  # type: ignore[list-item]
    (exp.Case, _case),  # type: ignore[list-item]
    (exp.Cast, _cast),  # type: ignore[list-item]
    (exp.Anonymous, _call),  # type: ignore[list-item]
    (exp.Array, lambda node, scope: f"[{', '.join(translate(item, scope) for item in node.expressions)}]"),
]
