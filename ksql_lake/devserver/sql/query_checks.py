"""Check a query as ksqlDB does before it runs it: names, types of conditions, missing keys."""

from __future__ import annotations

from sqlglot import exp

from ksql_lake.devserver.ksql_errors import RefusedError
from ksql_lake.devserver.sql.dialect import tokenize
from ksql_lake.devserver.sql.inference import INTEGERS, NameScope, column_name, type_of
from ksql_lake.devserver.sql.source_columns import WINDOW_BOUNDS
from ksql_lake.devserver.sql.statement_text import expression_text
from ksql_lake.schema import Decimal, KsqlType, Primitive

PULL_HELP = (
    "See https://cnfl.io/queries for more info.\nAdd EMIT CHANGES if you intended to issue a push query."
)
_KEY_HELP = (
    "\nPull queries require a WHERE clause that:\n - includes a key equality expression, e.g. `SELECT * FROM X "
    "WHERE <key-column> = Y;`.\n - in the case of a multi-column key, is a conjunction of equality expressions "
    "that cover all key columns.\n - to support range expressions, e.g.,  SELECT * FROM X WHERE <key-column> < "
    "Y;`, range scans need to be enabled by setting ksql.query.pull.range.scan.enabled=true\nIf more flexible "
    "queries are needed, , table scans can be enabled by setting ksql.query.pull.table.scan.enabled=true."
)
_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "EQUAL", exp.NEQ: "NOT_EQUAL", exp.LT: "LESS_THAN", exp.LTE: "LESS_THAN_OR_EQUAL",
    exp.GT: "GREATER_THAN", exp.GTE: "GREATER_THAN_OR_EQUAL", exp.NullSafeEQ: "IS_NOT_DISTINCT_FROM",
    exp.NullSafeNEQ: "IS_DISTINCT_FROM",
}  # fmt: skip
_INTEGER_MAX = 2**31 - 1


def in_clause(refusal: RefusedError, clause: str, text: str) -> RefusedError:
    """Return the refusal of a name that no column has, with the clause and the place of the name."""
    if refusal.column is None:
        return refusal
    name = refusal.column.rpartition(".")[2]
    tokens = tokenize(text)
    words = [token.text.upper() for token in tokens]
    begin = words.index("WHERE") if clause == "WHERE" and "WHERE" in words else 0
    found = next((token for token in tokens[begin:] if token.text in (name, name.lower())), None)
    found = found or next((token for token in tokens[begin:] if token.text.upper() == name.upper()), tokens[0])
    before = text[: found.start]
    line, column = before.count("\n") + 1, found.start - (before.rfind("\n") + 1) + 1
    return RefusedError(
        f"Line: {line}, Col: {column}: {clause} column '{refusal.column}' cannot be resolved.", statement=text
    )


def check_condition(condition: exp.Expr, scope: NameScope) -> None:
    """Check that a WHERE condition is a condition, and that its comparisons compare matching types.

    Raises:
        RefusedError: It is not, or they do not; the statement it names is the comparison.
    """
    for node in condition.find_all(*_COMPARISONS):
        sides = node.this, node.expression
        left, right = (_type(side, scope) for side in sides)
        if _comparable(node, left, right, scope):
            continue
        said = expression_text(node, "")
        (first, second) = (f"{expression_text(side, '')} ({_described(side, kind)})" for side, kind in
                           zip(sides, (left, right), strict=True))  # fmt: skip
        raise RefusedError(
            f"Error in WHERE expression: Cannot compare {first} to {second} with {_COMPARISONS[type(node)]}.\n"
            f"Statement: {said}\nStatement: {said}",
            statement=said,
        )
    kind = _type(condition, scope)
    if isinstance(condition, exp.Column | exp.Literal) and kind not in (None, Primitive.BOOLEAN):
        said = expression_text(condition, "")
        raise RefusedError(
            f"Type error in WHERE expression: Should evaluate to boolean but is {said} "
            f"({_described(condition, kind)}) instead.",
            statement=said,
        )


def _type(node: exp.Expr, scope: NameScope) -> KsqlType | None:
    return Primitive.BOOLEAN if isinstance(node, exp.Boolean) else type_of(node, scope)


def _described(node: exp.Expr, kind: KsqlType | None) -> str:
    if isinstance(node, exp.Literal) and node.is_int and abs(int(node.this)) <= _INTEGER_MAX:
        return "INTEGER"
    return kind.text if kind is not None else ""


def _comparable(node: exp.Expr, left: KsqlType | None, right: KsqlType | None, scope: NameScope) -> bool:
    columns = [side for side in (node.this, node.expression) if isinstance(side, exp.Column)]
    if any(column_name(column, scope) in ("ROWTIME", *WINDOW_BOUNDS) for column in columns):
        return True
    families = {_family(left), _family(right)}
    return None in families or len(families) == 1


def _family(kind: KsqlType | None) -> str | None:
    """Return the family of types that compare with each other; None for times, which compare with text."""
    if kind in INTEGERS or kind is Primitive.DOUBLE or isinstance(kind, Decimal):
        return "number"
    return kind.value if kind in (Primitive.STRING, Primitive.BOOLEAN) and isinstance(kind, Primitive) else None


def check_keyed(condition: exp.Expr | None, scope: NameScope) -> None:
    """Check that a condition fixes every key column, for servers that do not scan tables.

    Raises:
        RefusedError: It does not.
    """
    if condition is None:
        raise RefusedError(f"Missing WHERE clause.  {PULL_HELP}{_KEY_HELP}")
    wanted = {column.name for column in scope.source.keys}
    found = set()
    for node in condition.find_all(exp.EQ, exp.In):
        if isinstance(node.this, exp.Column):
            found.add(column_name(node.this, scope))
    if condition.find(exp.Or) is not None or not wanted <= found:
        said = expression_text(condition, "")
        raise RefusedError(f"WHERE clause missing key column for disjunct: {said}.  {PULL_HELP}{_KEY_HELP}")
