"""Plan a SELECT: columns, types, condition, kind of query, and whether the source can answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import duckdb
from sqlglot import exp

from ksql_lake.devserver.ksql_errors import RefusedError, not_implemented, unresolved
from ksql_lake.devserver.release import Release
from ksql_lake.devserver.sql.dialect import parse_expressions
from ksql_lake.devserver.sql.expressions import translate
from ksql_lake.devserver.sql.inference import NameScope, column_name, identifier, type_of
from ksql_lake.devserver.sql.query_checks import PULL_HELP, check_condition, check_keyed, in_clause
from ksql_lake.devserver.sql.source_columns import WINDOW_BOUNDS, Source, ksql_type, quoted, stored_type
from ksql_lake.devserver.sql.statements import Select
from ksql_lake.schema import Column, Decimal, KsqlType, Primitive, Schema

QueryKind = Literal["pull_table", "pull_stream", "push"]


@dataclass(frozen=True, slots=True)
class Projection:
    """One output column: its name, type, DuckDB expression, and the declared column it copies, if any.

    Attributes:
        starred: Whether it comes from a `*`.
    """

    name: str
    type: KsqlType
    expression: str
    copies: str | None = None
    starred: bool = False


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A SELECT that can run.

    Attributes:
        where: DuckDB condition, `TRUE` without one.
        star: Whether the select list is `*`.
    """

    kind: QueryKind
    source: Source
    projections: tuple[Projection, ...]
    where: str
    limit: int | None
    statement: str
    star: bool = False

    def is_key(self, projection: Projection) -> bool:
        """Whether the column belongs to the table's key."""
        keys = {column.name for column in self.source.keys}
        bounds = WINDOW_BOUNDS if self.source.window_type else ()
        return projection.copies in keys or projection.copies in bounds

    @property
    def schema(self) -> Schema:
        """The header's schema; only table pulls mark keys and headers.

        For `*` over a table with HEADER columns its order is keys, headers, values, whatever the order of the
        values in the rows, as on the real server.
        """
        marks = self.kind == "pull_table"
        headers = {column.name for column in self.source.columns if column.role == "HEADER"}
        columns = [
            Column(
                item.name,
                item.type,
                key=marks and self.is_key(item),
                header=marks and item.copies in headers,
            )
            for item in self.projections
        ]
        if self.star and marks:
            columns.sort(key=lambda column: (not column.key, not column.header))
        return Schema(tuple(columns))

    @property
    def schema_text(self) -> str:
        """The header's schema as text, HEADER marks included."""
        texts = []
        for column in self.schema:
            declared = self.source.column(column.name)
            mark = " KEY" if column.key else ""
            if column.header and declared is not None:
                mark = f" HEADER('{declared.header_key}')" if declared.header_key else " HEADERS"
            texts.append(f"`{column.name}` {column.type.text}{mark}")
        return ", ".join(texts)


def plan_query(
    select: Select,
    source: Source,
    version: Release,
    cursor: duckdb.DuckDBPyConnection,
    *,
    scan: bool | None = None,
) -> QueryPlan:
    """Check a transient query against its source and this version's rules.

    Args:
        select: The query.
        source: The source it reads.
        version: The release whose rules apply.
        cursor: Any cursor of the server's database.
        scan: Whether the request allows table scans; None leaves it to the release.

    Raises:
        RefusedError: The query is wrong; with ksqlDB's own words where those are known.
    """
    kind = _kind(select, source)
    scope = NameScope(source, select.alias)
    projections = parse_expressions(select.projections)
    condition = parse_expressions(select.where)[0] if select.where else None
    if kind == "push":
        _check_push(select)
        if not version.offsets:
            _check_offsets(projections, condition, scope, select)
    else:
        _check_pull(select, source, version)
        _check_pull_columns(projections, condition, scope)
        if select.limit is not None and not version.pull_limit:
            raise RefusedError(f"Pull queries don't support LIMIT clauses. {PULL_HELP}", statement=select.text)
        if (
            kind == "pull_table"
            and len(projections) > 1
            and any(isinstance(item, exp.Star) for item in projections)
        ):
            raise RefusedError("Pull queries on tables cannot combine * with other columns.")
        if kind == "pull_table" and not (version.table_scan if scan is None else scan):
            check_keyed(condition, scope)
    try:
        outputs = project(projections, scope, cursor)
    except RefusedError as refusal:
        raise in_clause(refusal, "SELECT", select.text) from None
    where = _condition(condition, scope, select, cursor)
    star_only = len(projections) == 1 and isinstance(projections[0], exp.Star)
    return QueryPlan(kind, source, tuple(outputs), where, select.limit, select.text, star_only)


def _condition(
    condition: exp.Expr | None, scope: NameScope, select: Select, cursor: duckdb.DuckDBPyConnection
) -> str:
    if condition is None:
        return "TRUE"
    try:
        check_condition(condition, scope)
        where = translate(condition, scope)
    except RefusedError as refusal:
        raise in_clause(refusal, "WHERE", select.text) from None
    bind(f"SELECT 1 FROM {quoted(scope.source.storage)} WHERE {where}", cursor)
    return where


def _kind(select: Select, source: Source) -> QueryKind:
    if select.emit == "CHANGES":
        return "push"
    if select.emit:
        raise RefusedError(f"EMIT {select.emit} is supported for windowed aggregates only.")
    return "pull_stream" if source.kind == "STREAM" else "pull_table"


def _check_pull(select: Select, source: Source, version: Release) -> None:
    clauses = {
        "JOIN": select.joins,
        "WINDOW": select.window,
        "GROUP BY": select.group_by,
        "PARTITION BY": select.partition_by,
        "HAVING": select.having,
    }
    for clause, present in clauses.items():
        if present:
            raise RefusedError(
                f"Pull queries don't support {clause} clauses. {PULL_HELP}", statement=select.text
            )
    if source.kind == "STREAM" and not version.stream_pulls:
        raise RefusedError(
            "Pull queries on streams are disabled. To create a push query on the stream, add EMIT CHANGES "
            "to the end. To enable pull queries on streams, set the ksql.query.pull.stream.enabled config to "
            "'true'.",
            statement=select.text,
        )
    if source.kind == "TABLE" and not source.derived:
        raise not_queryable(source.name)


def not_queryable(name: str) -> RefusedError:
    """Return the refusal of a pull of a table that no query materialises."""
    return RefusedError(
        f"The `{name}` table isn't queryable. To derive a queryable table, you can do 'CREATE TABLE "
        f"QUERYABLE_{name} AS SELECT * FROM {name}'. {PULL_HELP}"
    )


def _check_push(select: Select) -> None:
    if select.joins or select.group_by or select.window or select.partition_by or select.having:
        raise not_implemented("A push query with JOIN, WINDOW, GROUP BY, PARTITION BY or HAVING")


def _check_offsets(
    projections: list[exp.Expr], condition: exp.Expr | None, scope: NameScope, select: Select
) -> None:
    for clause, nodes in (("SELECT", projections), ("WHERE", [condition] if condition is not None else [])):
        used = {column_name(node, scope) for item in nodes for node in item.find_all(exp.Column)}
        for name in ("ROWPARTITION", "ROWOFFSET"):
            if name in used:
                raise in_clause(unresolved(name), clause, select.text)


def _check_pull_columns(projections: list[exp.Expr], condition: exp.Expr | None, scope: NameScope) -> None:
    for clause, nodes in (("SELECT", projections), ("WHERE", [condition] if condition is not None else [])):
        used = {column_name(node, scope) for item in nodes for node in item.find_all(exp.Column)}
        forbidden = [name for name in ("ROWPARTITION", "ROWOFFSET") if name in used]
        if forbidden:
            names = ", ".join(f"`{name}`" for name in forbidden)
            raise RefusedError(
                f"Pull queries don't support the following columns in {clause} clauses: {names}\n {PULL_HELP}"
            )


def project(nodes: list[exp.Expr], scope: NameScope, cursor: duckdb.DuckDBPyConnection) -> list[Projection]:
    """Return the output columns of a select list.

    Raises:
        RefusedError: A name cannot be resolved, two outputs have one name, or types do not fit.
    """
    outputs: list[Projection] = []
    for node in nodes:
        if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
            outputs += star(scope.source)
        else:
            outputs.append(_output(node, scope, cursor, {item.name for item in outputs}))
    names = [item.name for item in outputs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RefusedError(f"The projection contains a duplicate column: `{twice[0]}`", unexpected=True)
    return outputs


def star(source: Source) -> list[Projection]:
    """Return the columns of `*`: keys, window bounds, then the rest in declared order."""
    bounds = WINDOW_BOUNDS if source.window_type else ()
    keys = [Projection(item.name, item.type, quoted(item.stored_as), item.name, True) for item in source.keys]
    windows = [Projection(name, Primitive.BIGINT, name, name, True) for name in bounds]
    rest = [
        Projection(item.name, item.type, quoted(item.stored_as), item.name, True)
        for item in source.columns
        if item.role != "KEY"
    ]
    return [*keys, *windows, *rest]


def _output(node: exp.Expr, scope: NameScope, cursor: duckdb.DuckDBPyConnection, taken: set[str]) -> Projection:
    value = node.this if isinstance(node, exp.Alias) else node
    expression = translate(value, scope)
    if isinstance(value, exp.Null):
        raise RefusedError("A NULL literal has no type.", unexpected=True)
    kind = type_of(value, scope)
    if not isinstance(value, exp.Column | exp.Dot) or kind is None:
        found = _expression_type(expression, scope, cursor)
        kind = kind if isinstance(value, exp.Anonymous) and kind is not None else found
        if isinstance(kind, Primitive | Decimal):
            expression = f"CAST({expression} AS {stored_type(kind)})"
    copies = column_name(value, scope) if isinstance(value, exp.Column) else None
    if isinstance(node, exp.Alias):
        name = identifier(node.args["alias"])
    elif isinstance(value, exp.Dot):
        name = _free(identifier(value.expression.this), taken)
    else:
        name = copies or _generated(taken)
    return Projection(name, kind, expression, copies)


def _free(name: str, taken: set[str]) -> str:
    candidates = [name, *(f"{name}_{number}" for number in range(1, len(taken) + 2))]
    return next(candidate for candidate in candidates if candidate not in taken)


def _generated(taken: set[str]) -> str:
    return next(name for number in range(len(taken) + 1) if (name := f"KSQL_COL_{number}") not in taken)


def _expression_type(expression: str, scope: NameScope, cursor: duckdb.DuckDBPyConnection) -> KsqlType:
    relation = bind(f"SELECT {expression} AS v FROM {quoted(scope.source.storage)}", cursor)
    return ksql_type(relation.types[0])


def bind(sql: str, cursor: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """Check a query in DuckDB without running it.

    Raises:
        RefusedError: It does not fit; the text is DuckDB's first line.
    """
    try:
        return cursor.sql(sql)
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise RefusedError(f"Could not analyze the expression: {first}") from None
