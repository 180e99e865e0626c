"""CREATE ... AS SELECT: the DuckDB query that computes a derived stream or table from its source.

Projections, filters, PARTITION BY, GROUP BY with aggregates, TUMBLING, HOPPING and SESSION windows. Joins are
refused: a stand-in that joined without Kafka's time rules would lie.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb
from sqlglot import exp

from ksql_lake.devserver.columns import WINDOW_BOUNDS, Kind, Source, SourceColumn, quoted
from ksql_lake.devserver.dialect import parse_expressions
from ksql_lake.devserver.expressions import translate
from ksql_lake.devserver.inference import Scope
from ksql_lake.devserver.plan import Projection, project
from ksql_lake.devserver.refusals import RefusedError, not_implemented
from ksql_lake.devserver.statements import Select

_UNIT_MS = {
    "MILLISECOND": 1, "SECOND": 1000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a sink follows from its source.

    Attributes:
        columns: The sink's columns.
        window_type: TUMBLING, HOPPING, SESSION or None.
        query: DuckDB query in the shape `storage.append` takes, `{rows}` standing for the source's rows.
        incremental: New source rows give new sink rows; otherwise the whole state is computed again.
        outputs: Names of the SELECT's columns that no `*` stands for.
    """

    columns: tuple[SourceColumn, ...]
    window_type: str | None
    query: str
    incremental: bool
    outputs: tuple[str, ...] = ()

    def over(self, source: Source, since: int = 0) -> str:
        """The query over the source's rows from arrival number `since` on."""
        live = "" if source.kind == "STREAM" else " AND NOT __DEAD AND NOT __TOMBSTONE"
        return self.query.replace("{rows}", f"(FROM {quoted(source.storage)} WHERE __SEQ >= {since}{live})")


def derive(kind: Kind, select: Select, source: Source, cursor: duckdb.DuckDBPyConnection) -> Derivation:
    """Work out a CREATE ... AS SELECT.

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
    scope = Scope(source, select.alias, aggregates=bool(select.group_by))
    where = translate(parse_expressions(select.where)[0], scope) if select.where else "TRUE"
    outputs = project(parse_expressions(select.projections), scope, cursor)
    if select.group_by:
        return _aggregate(select, outputs, scope, where)
    keys = {item.name for item in source.keys}
    partition = "ROWPARTITION"
    if select.partition_by:
        wanted_keys = _expressions(select.partition_by, scope)
        keys, partition = {item.name for item in outputs if item.expression in wanted_keys}, "NULL::INTEGER"
        pairs = [(item, item.name in keys) for item in outputs]
    else:
        pairs = [(item, item.copies in keys) for item in outputs]
    tombstone = "FALSE AS __TOMBSTONE, " if kind == "TABLE" else ""
    columns = _columns(pairs)
    values = _values(columns, outputs)
    bounds = "WINDOWSTART, WINDOWEND, " if source.window_type else ""
    query = (
        f"SELECT ROWTIME, {partition} AS ROWPARTITION, {tombstone}{bounds}{values} FROM {{rows}} WHERE {where}"
    )
    return Derivation(columns, source.window_type, query, kind == "STREAM", _named(outputs))


def _aggregate(select: Select, outputs: list[Projection], scope: Scope, where: str) -> Derivation:
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
    return Derivation(columns, window_type, query, False, _named(outputs))


def _named(outputs: list[Projection]) -> tuple[str, ...]:
    return tuple(item.name for item in outputs if not item.starred)


def _expressions(text: str, scope: Scope) -> list[str]:
    nodes = parse_expressions(text)
    flat = [item for node in nodes for item in (node.expressions if isinstance(node, exp.Tuple) else [node])]
    return [translate(node.this if isinstance(node, exp.Paren) else node, scope) for node in flat]


def _columns(pairs: list[tuple[Projection, bool]]) -> tuple[SourceColumn, ...]:
    ordered = [pair for pair in pairs if pair[1]] + [pair for pair in pairs if not pair[1]]
    return tuple(
        SourceColumn(item.name, item.type, f"c{number}", "KEY" if is_key else "VALUE")
        for number, (item, is_key) in enumerate(ordered)
    )


def _values(columns: tuple[SourceColumn, ...], outputs: list[Projection]) -> str:
    by_name = {item.name: item.expression for item in outputs}
    return ", ".join(f"{by_name[column.name]} AS {quoted(column.stored_as)}" for column in columns)


def _windowed(select: Select, groups: list[str], where: str) -> tuple[str | None, str]:
    """The window's type and the rows with their window bounds."""
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
