"""Write statements and expressions as ksqlDB prints them back."""

from __future__ import annotations

import re
from functools import singledispatch

from sqlglot import exp

from ksql_lake.devserver.sql.dialect import parse_expressions
from ksql_lake.devserver.sql.inference import identifier
from ksql_lake.devserver.sql.source_columns import Source, literal
from ksql_lake.devserver.sql.statements import ColumnDefinition, Create, Select
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Struct

_PLAIN_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
        ADVANCE ALL ALTER AND ARRAY AS ASSERT BEGINNING BETWEEN BY CASE CAST CHANGES COLUMN CREATE CROSS DEFINE
        DELETE DESCRIBE DISTINCT DROP ELSE EMIT END EXISTS EXPLAIN EXPORT FALSE FINAL FOR FROM FULL GRACE GROUP
        HAVING HOPPING IF IN INNER INSERT INTEGER INTO IS JOIN LEFT LIKE LIMIT LIST MAP NOT NULL ON OR OUTER
        PARTITION PERIOD PRINT RENAME REPLACE RETENTION RIGHT RUN SCRIPT SELECT SESSION SET SHOW SIZE STREAM
        STRUCT TABLE TERMINATE THEN TRUE TUMBLING UNDEFINE UNSET VALUES WHEN WHERE WINDOW WITH WITHIN
        """,
    )
)
_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.And: "AND",
    exp.Or: "OR", exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Mod: "%", exp.DPipe: "+",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM", exp.NullSafeNEQ: "IS DISTINCT FROM", exp.Is: "IS",
}  # fmt: skip
_NUMBERS = ("PARTITIONS", "REPLICAS", "RETENTION_MS")
_TYPES = {"VARCHAR": "STRING", "TEXT": "STRING", "INT": "INTEGER", "VARBINARY": "BYTES"}


def name_text(name: str) -> str:
    """Return a name, in backticks where ksqlDB could not read it otherwise."""
    plain = _PLAIN_NAME.fullmatch(name) and name not in _RESERVED
    return name if plain else "`" + name.replace("`", "``") + "`"


def type_text(kind: KsqlType) -> str:
    """Return a type as it is written in a CREATE statement."""
    match kind:
        case Array(element):
            return f"ARRAY<{type_text(element)}>"
        case Map(key, value):
            return f"MAP<{type_text(key)}, {type_text(value)}>"
        case Struct(fields):
            return f"STRUCT<{', '.join(f'{name_text(name)} {type_text(inner)}' for name, inner in fields)}>"
        case Decimal(precision, scale):
            return f"DECIMAL({precision}, {scale})"
        case _:
            return kind.value


@singledispatch
def expression_text(node: exp.Expr, alias: str) -> str:
    """Return the text of an expression.

    Args:
        node: The expression.
        alias: The qualifier of columns; "" leaves them bare.
    """
    del alias
    return str(node.sql())


@expression_text.register
def _(node: exp.Column, alias: str) -> str:
    name = name_text(identifier(node.this))
    return f"{name_text(alias)}.{name}" if alias else name


@expression_text.register
def _(node: exp.Literal, alias: str) -> str:
    del alias
    return literal(str(node.this)) if node.is_string else str(node.this)


@expression_text.register
def _(node: exp.Paren, alias: str) -> str:
    return expression_text(node.this, alias)


@expression_text.register
def _(node: exp.Null, alias: str) -> str:
    del node, alias
    return "null"


@expression_text.register
def _(node: exp.Boolean, alias: str) -> str:
    del alias
    return "true" if node.this else "false"


@expression_text.register
def _(node: exp.Not, alias: str) -> str:
    inner = node.this
    if isinstance(inner, exp.Is):
        return f"({expression_text(inner.this, alias)} IS NOT NULL)"
    return f"(NOT {expression_text(inner, alias)})"


@expression_text.register
def _(node: exp.Neg, alias: str) -> str:
    return f"-{expression_text(node.this, alias)}"


@expression_text.register
def _(node: exp.Binary, alias: str) -> str:
    left, right = expression_text(node.this, alias), expression_text(node.expression, alias)
    if isinstance(node, exp.Is):
        right = right.upper()
    return f"({left} {_OPERATORS.get(type(node), node.key.upper())} {right})"


@expression_text.register
def _(node: exp.Dot, alias: str) -> str:
    field = node.expression
    name = identifier(field.this if isinstance(field, exp.Column) else field)
    return f"{expression_text(node.this, alias)}->{name_text(name)}"


@expression_text.register
def _(node: exp.Bracket, alias: str) -> str:
    return f"{expression_text(node.this, alias)}[{expression_text(node.expressions[0], alias)}]"


@expression_text.register
def _(node: exp.Array, alias: str) -> str:
    return f"ARRAY[{_listed(node.expressions, alias)}]"


@expression_text.register
def _(node: exp.Between, alias: str) -> str:
    low, high = (expression_text(node.args[side], alias) for side in ("low", "high"))
    return f"({expression_text(node.this, alias)} BETWEEN {low} AND {high})"


@expression_text.register
def _(node: exp.In, alias: str) -> str:
    return f"({expression_text(node.this, alias)} IN ({_listed(node.expressions, alias)}))"


@expression_text.register
def _(node: exp.Cast, alias: str) -> str:
    kind = node.to
    name = str(kind.this.value).upper()
    digits = f"({', '.join(item.name for item in kind.expressions)})" if kind.expressions else ""
    return f"CAST({expression_text(node.this, alias)} AS {_TYPES.get(name, name)}{digits})"


@expression_text.register
def _(node: exp.Case, alias: str) -> str:
    branches = " ".join(
        f"WHEN {expression_text(branch.this, alias)} THEN {expression_text(branch.args['true'], alias)}"
        for branch in node.args["ifs"]
    )
    operand = f" {expression_text(node.this, alias)}" if node.this is not None else ""
    default = node.args.get("default")
    otherwise = f" ELSE {expression_text(default, alias)}" if default is not None else ""
    return f"(CASE{operand} {branches}{otherwise} END)"


@expression_text.register
def _(node: exp.Anonymous, alias: str) -> str:
    return f"{str(node.this).upper()}({_listed(node.expressions, alias)})"


@expression_text.register
def _(node: exp.PropertyEQ, alias: str) -> str:
    key = node.this
    name = name_text(identifier(key)) if isinstance(key, exp.Identifier) else expression_text(key, "")
    return f"{name}:={expression_text(node.expression, alias)}"


def _listed(nodes: list[exp.Expr], alias: str) -> str:
    return ", ".join(expression_text(node, alias) for node in nodes)


def select_text(select: Select, names: list[str]) -> str:
    """Return the SELECT of a persistent query, from SELECT on.

    Args:
        select: The statement.
        names: The name of each output column that is no `*`, in order.
    """
    alias = select.alias or select.source
    lines, left = [], iter(names)
    for node in parse_expressions(select.projections):
        star = isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))
        value = node.this if isinstance(node, exp.Alias) else node
        lines.append("*" if star else f"{expression_text(value, alias)} {name_text(next(left))}")
    columns = " *" if lines == ["*"] else "\n  " + ",\n  ".join(lines)
    clauses = [f"SELECT{columns}", f"FROM {name_text(select.source)} {name_text(alias)}"]
    if select.window:
        clauses.append(f"WINDOW {_window(select.window)} ")
    for words, text in (
        ("WHERE", select.where),
        ("GROUP BY", select.group_by),
        ("PARTITION BY", select.partition_by),
    ):
        if text:
            clauses.append(f"{words} {_listed(_flat(parse_expressions(text)), alias)}")
    return "\n".join([*clauses, "EMIT CHANGES;"])


def _flat(nodes: list[exp.Expr]) -> list[exp.Expr]:
    return [item for node in nodes for item in (node.expressions if isinstance(node, exp.Tuple) else [node])]


def _window(text: str) -> str:
    """Return `TUMBLING ( SIZE 6 HOURS )`: spaces around everything, units in the plural."""
    kind, _, rest = text.upper().partition("(")
    parts = [" ".join(part.split()) for part in rest.rpartition(")")[0].split(",")]
    units = [re.sub(r"(\d+) ([A-Z]+?)S?$", r"\1 \2S", part) for part in parts]
    return f"{kind.strip()} ( {' , '.join(units)} )"


def create_text(statement: Create, source: Source, outputs: list[str], *, topic_settings: bool) -> str:
    """Return a CREATE statement as DESCRIBE and SHOW QUERIES show it.

    Args:
        statement: The statement as typed.
        source: The source that it made.
        outputs: Names of the columns of its SELECT that are no `*`.
        topic_settings: Whether this release adds clean-up policy and retention.
    """
    head = (
        "CREATE " + ("OR REPLACE " if statement.or_replace else "") + ("SOURCE " if statement.readonly else "")
    )
    head += (
        f"{statement.kind} " + ("IF NOT EXISTS " if statement.if_not_exists else "") + name_text(source.name)
    )
    if statement.select is None:
        columns = ", ".join(_column(item, statement.kind) for item in statement.columns)
        return f"{head} ({columns}) WITH ({_properties(statement, source, topic_settings)});"
    properties = _properties(statement, source, topic_settings)
    return f"{head} WITH ({properties}) AS {select_text(statement.select, outputs)}"


def _column(item: ColumnDefinition, kind: str) -> str:
    mark = ""
    if item.role == "KEY":
        mark = " PRIMARY KEY" if kind == "TABLE" else " KEY"
    elif item.role == "HEADER":
        mark = f" HEADER({literal(item.header_key)})" if item.header_key is not None else " HEADERS"
    return f"{name_text(item.name)} {type_text(item.type)}{mark}"


def _properties(statement: Create, source: Source, topic_settings: bool) -> str:
    given = {key: value for key, value in statement.properties.items() if key != "FORMAT"}
    given["KAFKA_TOPIC"] = source.topic
    if statement.select is None or "FORMAT" in statement.properties:
        given |= {"KEY_FORMAT": source.key_format, "VALUE_FORMAT": source.value_format}
    if statement.select is not None:
        given |= {"PARTITIONS": str(source.partitions), "REPLICAS": given.get("REPLICAS", "1")}
    if topic_settings:
        given.setdefault("CLEANUP_POLICY", source.cleanup_policy)
        if statement.select is not None:
            given["RETENTION_MS"] = str(source.retention_ms)
    return ", ".join(f"{key}={_property(key, value)}" for key, value in sorted(given.items()))


def _property(key: str, value: str) -> str:
    return value if key in _NUMBERS or value.lower() in ("true", "false") else literal(value)
