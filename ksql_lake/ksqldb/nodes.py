"""Clients for the single nodes of a ksqlDB service."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ksql_lake.errors import KsqlLakeError
from ksql_lake.ksqldb.client import KsqlClient


@dataclass(frozen=True, slots=True)
class ReachedNodes:
    """Clients by node; none, and the reason, if the nodes cannot be asked one by one."""

    clients: Mapping[str, KsqlClient]
    reason: str = ""


class Nodes:
    """A context manager that opens clients of the nodes of a service and closes them.

    Args:
        client: The client of the service's one address.
    """

    def __init__(self, client: KsqlClient) -> None:
        self._client = client
        self._made: dict[str, KsqlClient] = {}

    def reach(self, hosts: Collection[str]) -> ReachedNodes:
        """Return a client of each node.

        Args:
            hosts: The nodes as they advertise themselves, `host:port`.
        """
        named = self._client.settings.node_urls
        addresses = list(dict.fromkeys(named)) if named else [self._address(host) for host in sorted(hosts)]
        if len(hosts) == 1 and not named:
            return ReachedNodes({addresses[0]: self._client})
        if len(addresses) < len(hosts):
            return ReachedNodes(
                {},
                f"KSQLDB_NODES names {len(addresses)} of the {len(hosts)} nodes ({', '.join(sorted(hosts))})",
            )
        clients: dict[str, KsqlClient] = {}
        for address in addresses:
            client = self._made.get(address) or self._client.node(address, signed=self._trusted(address))
            self._made[address] = client
            if (reason := self._foreign(client)) is not None:
                return ReachedNodes({}, reason)
            clients[address] = client
        return ReachedNodes(clients)

    def problems(self, hosts: Collection[str]) -> Mapping[str, str]:
        """Try each node; return address -> why it cannot be asked from here, empty if it can.

        Args:
            hosts: The nodes as they advertise themselves, `host:port`.
        """
        named = self._client.settings.node_urls
        addresses = dict.fromkeys(named) if named else {self._address(host): None for host in sorted(hosts)}
        found: dict[str, str] = {}
        for address in addresses:
            client = self._made.get(address) or self._client.node(address, signed=self._trusted(address))
            self._made[address] = client
            found[address] = self._foreign(client) or ""
        return found

    def close(self) -> None:
        """Close all connections to single nodes."""
        for client in self._made.values():
            client.close()
        self._made.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _address(self, host: str) -> str:
        scheme = self._client.url.partition("://")[0]
        return host.rstrip("/") if "://" in host else f"{scheme}://{host.rstrip('/')}"

    def _trusted(self, address: str) -> bool:
        """Whether a node may get the credentials."""
        settings = self._client.settings
        same_scheme = address.partition("://")[0] == self._client.url.partition("://")[0]
        return same_scheme or address in settings.node_urls or settings.trust_advertised

    def _foreign(self, client: KsqlClient) -> str | None:
        """Return why a node cannot be asked or belongs to another service; None if neither is so."""
        try:
            found, known = client.server_info(), self._client.server_info()
        except KsqlLakeError as error:
            return f"the node {client.url} cannot be asked from here: {error.message}"
        if (found.service_id, found.kafka_cluster_id) != (known.service_id, known.kafka_cluster_id):
            return f"the node {client.url} belongs to another service, {found.service_id}"
        return None
