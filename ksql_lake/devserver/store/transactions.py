"""Producers' transactions: which records a reader of committed rows gets, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import duckdb

from ksql_lake.devserver.sql.query_plan import QueryPlan
from ksql_lake.devserver.sql.source_columns import Source, quoted

ISOLATION = "isolation.level"
_ENDLESS = 1 << 62
_PREFIXES = ("", "consumer.", "ksql.streams.", "ksql.streams.consumer.")


@dataclass(eq=False)
class Transaction:
    """One producer's transaction on one topic.

    Attributes:
        spans: First and last-but-one arrival numbers of its records.
        partitions: Where it began; each gets a marker when it ends.
    """

    state: Literal["open", "committed", "aborted"] = "open"
    spans: list[tuple[int, int]] = field(default_factory=list)
    partitions: set[int] = field(default_factory=set)


def reads_committed(properties: Mapping[str, Any]) -> bool:
    """Whether a request reads rows of committed transactions only."""
    return any(str(properties.get(prefix + ISOLATION, "")).lower() == "read_committed" for prefix in _PREFIXES)


def open_one(source: Source, name: str) -> Transaction:
    """Return the open transaction of this name, or a new one."""
    found: Transaction | None = source.transactions.get(name)
    if found is None or found.state != "open":
        found = source.transactions[name] = Transaction()
    return found


@contextmanager
def appending(source: Source, name: str, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Put the records that arrive meanwhile into a transaction, from the first moment on."""
    transaction, first = open_one(source, name), source.rows
    transaction.spans.append((first, _ENDLESS))
    try:
        yield
    finally:
        transaction.spans[-1] = (first, source.rows)
        transaction.partitions |= {number for number, _ in _extent(source, f"__SEQ >= {first}", cursor)}


def end(source: Source, name: str, *, commit: bool) -> bool:
    """End a transaction and write its markers; False if there is no open one of this name."""
    transaction = source.transactions.get(name)
    if transaction is None or transaction.state != "open":
        return False
    transaction.state = "committed" if commit else "aborted"
    for partition in transaction.partitions:
        source.ends[partition] = source.ends.get(partition, 0) + 1
    return True


def _of(source: Source, state: str, *, below: int | None = None) -> str:
    """Return the condition for the records of all transactions in a state."""
    spans = [
        f"(__SEQ >= {first} AND __SEQ < {last})"
        for transaction in list(source.transactions.values())
        if transaction.state == state
        for first, last in transaction.spans
        if below is None or first < below
    ]
    return f"({' OR '.join(spans) or 'FALSE'})"


def not_aborted(source: Source) -> str:
    """Return the condition for records that were not aborted."""
    return f"NOT {_of(source, 'aborted')}"


def _extent(source: Source, where: str, cursor: duckdb.DuckDBPyConnection) -> list[tuple[int, int]]:
    """Return partition and first offset of some records."""
    found = cursor.execute(
        f"SELECT ROWPARTITION, min(ROWOFFSET) FROM {quoted(source.storage)} WHERE {where} GROUP BY ALL"
    ).fetchall()
    return [(int(partition), int(offset)) for partition, offset in found]


def stable(source: Source, until: int, cursor: duckdb.DuckDBPyConnection) -> dict[int, int]:
    """Return the end of what a reader of committed rows gets, by partition with an open transaction.

    Args:
        source: The stream.
        until: Only transactions with records of a lower arrival number.
        cursor: Any cursor of the server's database.
    """
    return dict(_extent(source, _of(source, "open", below=until), cursor))


def endless(source: Source, *, committed: bool, cursor: duckdb.DuckDBPyConnection) -> bool:
    """Whether all records of a partition are hidden from its reader: then a pull never reaches its end.

    Args:
        source: The stream.
        committed: Whether the reader gets committed rows only; otherwise only markers are hidden.
        cursor: Any cursor of the server's database.
    """
    where = not_aborted(source) if committed else "TRUE"
    readable = {partition for partition, _ in _extent(source, where, cursor)}
    return any(
        last > source.starts.get(partition, 0) and partition not in readable
        for partition, last in source.ends.items()
    )


def committed(plan: QueryPlan, *, above: Mapping[int, int] | None, below: Mapping[int, int]) -> QueryPlan:
    """Return the same plan over rows that were not aborted.

    Args:
        plan: A plan over a stream.
        above: Only partitions in it, from these offsets on; None for all.
        below: In these partitions only up to these offsets.
    """
    conditions = [not_aborted(plan.source)]
    conditions += [f"NOT (ROWPARTITION = {number} AND ROWOFFSET >= {last})" for number, last in below.items()]
    if above is not None:
        from_there = [f"(ROWPARTITION = {number} AND ROWOFFSET >= {first})" for number, first in above.items()]
        conditions.append(f"({' OR '.join(from_there) or 'FALSE'})")
    return replace(plan, where=" AND ".join([f"({plan.where})", *conditions]))
