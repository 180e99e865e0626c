"""One server process as a node of its service: its phase, its partitions of stores, the nodes beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ksql_lake.devserver.cluster.membership import Membership
from ksql_lake.devserver.ksql_errors import SERVER_ERROR, RefusedError
from ksql_lake.devserver.phases import Phases, cannot_determine
from ksql_lake.devserver.sql.partitioner import key_hash
from ksql_lake.devserver.sql.query_plan import QueryPlan
from ksql_lake.devserver.sql.source_columns import Source
from ksql_lake.devserver.store.sources import Catalog

SKIP_FORWARDING = "request.ksql.query.pull.skip.forwarding"
PARTITIONS = "request.ksql.query.pull.partition"


def store_partitions(source: Source, catalog: Catalog) -> int:
    """Return the number of partitions of the table's store: that of the topic its query reads, not its own."""
    writers = catalog.writers(source.name)
    read = catalog.sources.get(writers[0].source) if writers else None
    return read.partitions if read is not None else source.partitions


def restricted(plan: QueryPlan, partitions: frozenset[int], count: int) -> QueryPlan:
    """Return the same table pull over some partitions of its store only.

    Args:
        plan: A pull of a table.
        partitions: The partitions.
        count: The number of partitions of the store.
    """
    numbers = ", ".join(map(str, sorted(partitions))) or "NULL"
    source = plan.source
    place = "ROWPARTITION" if source.partitions == count else f"{key_hash(source)} % {count}"
    return replace(plan, where=f"({plan.where}) AND {place} IN ({numbers})")


@dataclass(frozen=True, slots=True)
class Route:
    """Where the rows of one table pull are read.

    Attributes:
        local: Partitions read here; None reads everything without looking at partitions.
        remote: URL of each other node, and the partitions it is asked for.
        failure: The error that ends the answer after its local rows, if it cannot be complete.
        hangs: Whether the request is never answered.
    """

    local: frozenset[int] | None = None
    remote: tuple[tuple[str, frozenset[int]], ...] = ()
    failure: RefusedError | None = None
    hangs: bool = False


@dataclass(eq=False)
class Node:
    """What a server knows about itself and its service.

    Attributes:
        url: Where clients reach it.
        lag_reporting: Whether `ksql.heartbeat.enable` and `ksql.lag.reporting.enable` are on.
        patience: Seconds of silence after which another node is given up.
    """

    catalog: Catalog
    phases: Phases = field(default_factory=Phases)
    membership: Membership | None = None
    url: str = ""
    lag_reporting: bool = False
    patience: float = 3.0

    @property
    def host(self) -> str:
        """Host and port, as the service's answers name it."""
        return urlsplit(self.url).netloc

    def catch_up(self) -> None:
        """Wait until this node has applied everything that the service had accepted when it was asked."""
        if self.membership is not None:
            self.membership.barrier()

    def others(self) -> dict[int, str]:
        """Number and URL of the other nodes in the group."""
        if self.membership is None:
            return {}
        return {number: url for number, url in self.membership.view.hosts if number != self.membership.number}

    def holds(self, partition: int) -> bool:
        """Whether this node is the active one of a partition."""
        return self.membership is None or self.membership.holds(partition)

    def readable(self, partitions: frozenset[int]) -> bool:
        """Whether the stores of the partitions it holds have been restored."""
        if self.phases.restoring:
            return False
        if self.membership is None:
            return True
        return all(map(self.membership.holds, partitions)) and self.membership.restored(partitions)

    def route(self, plan: QueryPlan, asked: Mapping[str, Any]) -> Route:
        """Decide where the rows of a table pull are read.

        Args:
            plan: The pull.
            asked: The request's `requestProperties`.

        Raises:
            RefusedError: The owners of the partitions are unknown, or this phase answers no pull.
        """
        self.phases.check_tables()
        if self.membership is not None and not self.membership.settled:
            raise cannot_determine()
        count = store_partitions(plan.source, self.catalog)
        wanted = _wanted(asked, count)
        alone = str(asked.get(SKIP_FORWARDING, False)).lower() == "true"
        mine = frozenset(filter(self.holds, wanted))
        if not alone and asked.get(PARTITIONS) is not None:
            return Route(hangs=True)
        if alone and mine != wanted:
            return self._not_here(sorted(wanted - mine))
        whole = self.membership is None and asked.get(PARTITIONS) is None
        failure = None if self.readable(mine) else self.unscannable()
        return Route(None if whole else mine, self._elsewhere(wanted - mine), failure)

    def unscannable(self) -> RefusedError:
        """Return the error of a pull whose local store cannot be read."""
        return RefusedError(
            "Unable to execute pull query: io.confluent.ksql.util.KsqlException: Error executing query locally "
            f"at node {self.url}/: Failed to scan materialized table",
            code=SERVER_ERROR,
            statement=None,
        )

    def _not_here(self, lacking: list[int]) -> Route:
        if self.lag_reporting:
            raise no_valid_host(lacking, self.host, "Lag information is not present for host.")
        return Route(frozenset(), failure=self.unscannable())

    def _elsewhere(self, partitions: frozenset[int]) -> tuple[tuple[str, frozenset[int]], ...]:
        if self.membership is None:
            return ()
        view, urls = self.membership.view, self.others()
        by_url: dict[str, set[int]] = {}
        for partition in partitions:
            owner = view.owner(partition)
            if owner not in urls:  # the group changed meanwhile
                raise cannot_determine()
            if self.lag_reporting and owner not in self.membership.alive:
                dead = [item for item in sorted(partitions) if view.owner(item) == owner]
                raise no_valid_host(dead, urlsplit(urls[owner]).netloc, "Host is not alive as of time")
            by_url.setdefault(urls[owner], set()).add(partition)
        return tuple((url, frozenset(found)) for url, found in sorted(by_url.items()))


def _wanted(asked: Mapping[str, Any], count: int) -> frozenset[int]:
    listed = asked.get(PARTITIONS)
    if listed is None:
        return frozenset(range(count))
    try:
        wanted = frozenset(int(part) for part in str(listed).split(","))
    except ValueError:
        raise cannot_determine() from None
    if not wanted <= frozenset(range(count)):
        raise cannot_determine()
    return wanted


def no_valid_host(partitions: list[int], host: str, why: str) -> RefusedError:
    """Return the refusal of a pull some of whose partitions no node may answer (lag reporting on)."""
    parts = ", ".join(
        f"Partition {number} failed to find valid host. Hosts scanned: [{host} was not selected because {why}]"
        for number in partitions
    )
    return RefusedError(f"Unable to execute pull query. [{parts}]")
