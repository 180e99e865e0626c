"""Keep a scheduler's list of a table's version keys: the committed versions, or v1 before the first export."""

# The next version is offered only on request: a key that always exists and is never materialised would look
# like missing work.

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ksql_lake.lake import FeedLake, FeedState


class KeyRegistry(Protocol):
    """Where the offered keys are kept; a Dagster instance is one."""

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """Return the keys kept under a name."""
        ...

    def add_dynamic_partitions(self, partitions_def_name: str, partition_keys: Sequence[str]) -> object:
        """Add keys; those already there stay."""
        ...

    def delete_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> object:
        """Remove one key."""
        ...


def version_keys(state: FeedState) -> tuple[str, ...]:
    """Return the keys of a table that are always offered, in order."""
    return tuple(state.partition_keys()) or (open_version(state),)


def open_version(state: FeedState) -> str:
    """Return the key of the version that the next export writes."""
    return f"v{state.next_version}"


def surplus_keys(state: FeedState, known: Sequence[str]) -> list[str]:
    """Return those of the known keys that are neither committed nor open."""
    return sorted(set(known) - {*version_keys(state), open_version(state)})


def in_step(state: FeedState, known: Sequence[str]) -> bool:
    """Whether the known keys are those of a table."""
    return set(version_keys(state)) <= set(known) and not surplus_keys(state, known)


def keep_versions(name: str, lake: FeedLake, registry: KeyRegistry) -> None:
    """Make the keys kept under `name` those the lake has, even while other processes export or do the same.

    The open version stays among them if it is there: it was requested.

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
        for key in surplus_keys(state, known):
            registry.delete_dynamic_partition(name, key)
        # Another export may have committed meanwhile, and we may just have removed the key it opened.
        if lake.state().sequence == state.sequence:
            return
