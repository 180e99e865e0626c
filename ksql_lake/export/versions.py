"""Which version keys of a table a scheduler should offer, and keeping its list so.

Offered are the committed versions and the one open version, which is next. The list lives elsewhere (Dagster's
dynamic partitions); this room refuses to know what keeps it and speaks to three methods of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ksql_lake.lake import FeedLake, FeedState


class KeyRegistry(Protocol):
    """Where the offered keys are kept; a Dagster instance is one."""

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """Give the keys kept under a name."""
        ...

    def add_dynamic_partitions(self, partitions_def_name: str, partition_keys: Sequence[str]) -> object:
        """Add keys; those already there stay."""
        ...

    def delete_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> object:
        """Remove one key."""
        ...


def version_keys(state: FeedState) -> tuple[str, ...]:
    """Give a table's offered keys in order, the open one last."""
    return (*state.partition_keys(), open_version(state))


def open_version(state: FeedState) -> str:
    """Give the key of the version that the next export writes."""
    return f"v{state.next_version}"


def keep_versions(name: str, lake: FeedLake, registry: KeyRegistry) -> None:
    """Make the keys kept under `name` those the lake has, whoever else is exporting or doing the same.

    Raises:
        CorruptLakeError: A manifest is missing or unreadable.
    """
    while True:
        state = lake.state()
        wanted = version_keys(state)
        known = registry.get_dynamic_partitions(name)
        missing = [key for key in wanted if key not in known]
        if missing:
            registry.add_dynamic_partitions(name, missing)
        for key in sorted(set(known) - set(wanted)):
            registry.delete_dynamic_partition(name, key)
        # Another export may have committed meanwhile, and we may just have removed the key it opened.
        if lake.state().sequence == state.sequence:
            return
