"""The stores of materialised tables: into how many partitions they are cut, and which rows lie in which."""

from __future__ import annotations

from dataclasses import replace

from ksql_lake.devserver.catalog import Catalog
from ksql_lake.devserver.columns import Source
from ksql_lake.devserver.partitioner import key_hash
from ksql_lake.devserver.plan import QueryPlan


def store_partitions(source: Source, catalog: Catalog) -> int:
    """Into how many partitions the table's store is cut: those of the topic its query reads, not its own."""
    writers = catalog.writers(source.name)
    read = catalog.sources.get(writers[0].source) if writers else None
    return read.partitions if read is not None else source.partitions


def restricted(plan: QueryPlan, partitions: frozenset[int], count: int) -> QueryPlan:
    """The same table pull over some partitions of its store only.

    Args:
        plan: A pull of a table.
        partitions: Which.
        count: Into how many the store is cut.
    """
    numbers = ", ".join(map(str, sorted(partitions))) or "NULL"
    source = plan.source
    place = "ROWPARTITION" if source.partitions == count else f"{key_hash(source)} % {count}"
    return replace(plan, where=f"({plan.where}) AND {place} IN ({numbers})")
