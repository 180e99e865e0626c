"""Translate CREATE ... AS SELECT into the DuckDB query that computes the derived source. It refuses joins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import duckdb
from sqlglot import exp

from ksql_lake.devserver.ksql_errors import RefusedError, not_implemented
from ksql_lake.devserver.sql.dialect import parse_expressions
from ksql_lake.devserver.sql.expressions import translate
from ksql_lake.devserver.sql.inference import NameScope
from ksql_lake.devserver.sql.partitioner import partition_hash
from ksql_lake.devserver.sql.query_plan import Projection, project
from ksql_lake.devserver.sql.source_columns import WINDOW_BOUNDS, DeclaredColumn, Kind, Source, quoted
from ksql_lake.devserver.sql.statements import Select
from ksql_lake.schema import Struct

_UNIT_MS = {
    "MILLISECOND": 1, "SECOND": 1000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a sink is computed from its source.

    Attributes:
        columns: The sink's columns.
        window_type: TUMBLING, HOPPING, SESSION or None.
        query: DuckDB query in the shape `storage.append` takes, with `{rows}` for the source's rows.
        incremental: Whether new source rows add new sink rows; otherwise the whole state is computed again.
        outputs: Names of the SELECT's columns that no `*` covers.
        where: DuckDB condition on the source's rows.
        regroup: DuckDB expression for the hash of the group, if it differs from the source's key: such
            rows travel through a repartition topic.
    """

    columns: tuple[DeclaredColumn, ...]
    window_type: str | None
    query: str
    incremental: bool
    outputs: tuple[str, ...] = ()
    where: str = "TRUE"
    regroup: str | None = None

    def over(
        self,
        source: Source,
        span: str = "TRUE",
        *,
        partial: bool = False,
        limits: Mapping[int, int] | None = None,
    ) -> str:
        """Return the query over some of the source's rows.

        Args:
            source: The source.
            span: DuckDB condition for which of its rows.
            partial: Whether they are not all: then the query works out which rows of a table still count.
            limits: How many records of each partition of the repartition topic are read; None reads all.
        """
        rows = f"FROM {quoted(source.storage)} WHERE {span}"
        if source.kind == "TABLE" and partial:
            keys = ", ".join(quoted(name) for name in source.identity)
            last = f"row_number() OVER (PARTITION BY {keys} ORDER BY __SEQ DESC) = 1"
            rows = f"FROM ({rows} QUALIFY {last}) WHERE NOT __TOMBSTONE"
        elif source.kind == "TABLE":
            rows = f"{rows} AND NOT __DEAD AND NOT __TOMBSTONE"
        if limits is not None:
            place = "row_number() OVER (PARTITION BY __TO ORDER BY __SEQ) - 1 AS __AT"
            numbered = f"SELECT *, {place} FROM ({self._regrouped(rows, source)})"
            within = " OR ".join(f"(__TO = {number} AND __AT < {limit})" for number, limit in limits.items())
            rows = f"SELECT * EXCLUDE (__TO, __AT) FROM ({numbered}) WHERE {within or 'FALSE'}"
        return self.query.replace("{rows}", f"({rows})")

    def regrouped_counts(self, source: Source, span: str) -> str:
        """Return the query that counts the records of some rows for each partition of the repartition topic."""
        rows = self._regrouped(f"FROM {quoted(source.storage)} WHERE {span}", source)
        return f"SELECT __TO, count(*) FROM ({rows}) GROUP BY ALL"

    def _regrouped(self, rows: str, source: Source) -> str:
        """Return the query for the rows that pass the condition and have a group, with their partition __TO."""
        target = f"{self.regroup} % {source.partitions} AS __TO"
        return f"SELECT *, {target} FROM ({rows}) WHERE ({self.where}) AND {self.regroup} IS NOT NULL"


def derive(kind: Kind, select: Select, source: Source, cursor: duckdb.DuckDBPyConnection) -> Derivation:
    """Plan a CREATE ... AS SELECT.

    Raises:
        RefusedError: The SELECT cannot make such a source, or is beyond this server.
    """
    if select.joins:
        raise not_implemented("JOIN")
    if select.having:
        raise not_implemented("HAVING")
    if (source.kind == "TABLE" or bool(select.group_by)) != (kind == "TABLE"):
        wanted, result = kind, "TABLE" if kind == "STREAM" else "STREAM"
        raise RefusedError(
            f"Invalid result type. Your SELECT query produces a {result}. Please use CREATE {result} AS SELECT "
            f"statement instead of CREATE {wanted}.",
            statement=select.text,
        )
    scope = NameScope(source, select.alias, aggregates=bool(select.group_by))
    where = translate(parse_expressions(select.where)[0], scope) if select.where else "TRUE"
    outputs = project(parse_expressions(select.projections), scope, cursor)
    if select.group_by:
        return _aggregate(select, outputs, scope, where)
    keys = {item.name for item in source.keys}
    if select.partition_by:
        wanted_keys = _expressions(select.partition_by, scope)
        outputs = [*_starred_keys(select, outputs, scope, cursor), *outputs]
        keys = {item.name for item in outputs if item.expression in wanted_keys}
        pairs = [(item, item.name in keys) for item in outputs]
    else:
        pairs = [(item, item.copies in keys) for item in outputs]
    tombstone = "FALSE AS __TOMBSTONE, " if kind == "TABLE" else ""
    columns = _columns(pairs)
    values = _values(columns, outputs)
    bounds = "WINDOWSTART, WINDOWEND, " if source.window_type else ""
    query = (  # the key chooses the partition in the sink's own topic, wherever the source has the record
        f"SELECT ROWTIME, NULL::INTEGER AS ROWPARTITION, {tombstone}{bounds}{values} "
        f"FROM {{rows}} WHERE {where}"
    )
    return Derivation(columns, source.window_type, query, kind == "STREAM", _named(outputs))


def _aggregate(select: Select, outputs: list[Projection], scope: NameScope, where: str) -> Derivation:
    groups = _expressions(select.group_by, scope)
    window_type, rows = _windowed(select, groups, where)
    real = [item for item in outputs if item.copies not in WINDOW_BOUNDS]
    pairs = [(item, item.expression in groups) for item in real]
    if not any(is_key for _, is_key in pairs):
        raise RefusedError(
            "Key missing from projection. The query used to build the table must include the grouping "
            f"expression {select.group_by} in its projection.",
            statement=select.text,
        )
    columns = _columns(pairs)
    bounds = "WINDOWSTART, WINDOWEND, " if window_type else ""
    query = (
        f"SELECT max(ROWTIME) AS ROWTIME, NULL::INTEGER AS ROWPARTITION, FALSE AS __TOMBSTONE, {bounds}"
        f"{_values(columns, real)} FROM {rows} GROUP BY {bounds}{', '.join(groups)} ORDER BY max(__SEQ)"
    )
    keys = [quoted(item.stored_as) for item in scope.source.keys]
    regroup = None
    if groups != keys:
        parts = [(item.name, item.type, item.expression) for item, is_key in pairs if is_key]
        regroup = partition_hash(parts, scope.source.key_format)
    return Derivation(columns, window_type, query, False, _named(outputs), where, regroup)


def _starred_keys(
    select: Select, outputs: list[Projection], scope: NameScope, cursor: duckdb.DuckDBPyConnection
) -> list[Projection]:
    """Return the key that a `*` covers too, where PARTITION BY makes a STRUCT that the SELECT does not name."""
    if not any(item.starred for item in outputs):
        return []
    made = project(parse_expressions(select.partition_by), scope, cursor)
    there = {item.expression for item in outputs}
    missing = (item for item in made if isinstance(item.type, Struct) and item.expression not in there)
    return [replace(item, starred=True) for item in missing]


def _named(outputs: list[Projection]) -> tuple[str, ...]:
    return tuple(item.name for item in outputs if not item.starred)


def _expressions(text: str, scope: NameScope) -> list[str]:
    nodes = parse_expressions(text)
    flat = [item for node in nodes for item in (node.expressions if isinstance(node, exp.Tuple) else [node])]
    return [translate(node.this if isinstance(node, exp.Paren) else node, scope) for node in flat]


def _columns(pairs: list[tuple[Projection, bool]]) -> tuple[DeclaredColumn, ...]:
    ordered = [pair for pair in pairs if pair[1]] + [pair for pair in pairs if not pair[1]]
    return tuple(
        DeclaredColumn(item.name, item.type, f"c{number}", "KEY" if is_key else "VALUE")
        for number, (item, is_key) in enumerate(ordered)
    )


def _values(columns: tuple[DeclaredColumn, ...], outputs: list[Projection]) -> str:
    by_name = {item.name: item.expression for item in outputs}
    return ", ".join(f"{by_name[column.name]} AS {quoted(column.stored_as)}" for column in columns)


def _windowed(select: Select, groups: list[str], where: str) -> tuple[str | None, str]:
    """Return the window's type and the rows with their window bounds."""
    rows = f"(FROM {{rows}} WHERE {where})"
    if not select.window:
        return None, rows
    kind, _, rest = select.window.upper().partition("(")
    kind = kind.strip()
    sizes = [_milliseconds(amount, unit) for amount, unit in re.findall(r"(\d+)\s+([A-Z]+)", rest)]
    if not sizes:
        raise RefusedError(f"WINDOW {kind} needs a size such as (SIZE 1 DAY).")
    if kind == "TUMBLING":
        start = f"ROWTIME // {sizes[0]} * {sizes[0]}"
        return kind, f"(SELECT *, {start} AS WINDOWSTART, {start} + {sizes[0]} AS WINDOWEND FROM {rows})"
    if kind == "HOPPING" and len(sizes) > 1:
        size, advance = sizes[0], sizes[1]
        first = f"greatest(0, (ROWTIME - {size} + {advance}) // {advance} * {advance})"
        starts = f"unnest(range({first}, ROWTIME + 1, {advance}))"
        started = f"(SELECT *, {starts} AS WINDOWSTART FROM {rows})"
        return kind, f"(SELECT *, WINDOWSTART + {size} AS WINDOWEND FROM {started})"
    if kind == "SESSION":
        return kind, _sessions(rows, ", ".join(groups), sizes[0])
    raise RefusedError(f"The ksql-lake devserver does not know the window {select.window}.")


def _sessions(rows: str, groups: str, gap: int) -> str:
    by_key = f"PARTITION BY {groups} ORDER BY ROWTIME, __SEQ"
    opened = f"(SELECT *, coalesce(ROWTIME - lag(ROWTIME) OVER ({by_key}) > {gap}, TRUE) AS opens FROM {rows})"
    numbered = f"(SELECT *, sum(opens::INTEGER) OVER ({by_key}) AS session FROM {opened})"
    in_session = f"OVER (PARTITION BY {groups}, session)"
    start, end = f"min(ROWTIME) {in_session} AS WINDOWSTART", f"max(ROWTIME) {in_session} AS WINDOWEND"
    return f"(SELECT *, {start}, {end} FROM {numbered})"


def _milliseconds(amount: str, unit: str) -> int:
    singular = unit.rstrip("S")
    if singular not in _UNIT_MS:
        raise RefusedError(f"{unit} is no unit of time for a window.")
    return int(amount) * _UNIT_MS[singular]
