"""Which table versions go: a plan first, pure; applied elsewhere as a commit of its own.

Only committed versions count, the newest is never in a plan, and versions are numbers (v10 comes after v9).
"""

from __future__ import annotations

from dataclasses import dataclass

from ksql_lake.lake.layout import version_number
from ksql_lake.lake.state import FeedState


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What retention would remove.

    Attributes:
        keep: Version keys that stay, oldest first.
        remove: Version keys that go, oldest first.
        files: Paths that go, relative to the dataset folder.
        bytes: What that frees.
    """

    keep: tuple[str, ...]
    remove: tuple[str, ...]
    files: tuple[str, ...]
    bytes: int


def plan_retention(state: FeedState, keep: int) -> RetentionPlan:
    """List the versions beyond the `keep` newest.

    Raises:
        ValueError: `keep` is less than 1; the newest version always stays.
    """
    if keep < 1:
        raise ValueError("retention keeps at least one version")
    versions = sorted(state.partitions, key=version_number)
    staying, going = versions[-keep:], versions[:-keep]
    files = [file for version in going for file in state.partitions[version].files]
    return RetentionPlan(
        keep=tuple(staying),
        remove=tuple(going),
        files=tuple(file.path for file in files),
        bytes=sum(file.bytes for file in files),
    )
