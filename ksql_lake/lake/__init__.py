"""The lake: layout, commits, row identity, metadata, retention, readers."""

# Its names load on first use: a command that plans reads commits and waits for no Arrow.

from typing import TYPE_CHECKING

from ksql_lake.lazy_names import lazy_names

if TYPE_CHECKING:
    from ksql_lake.lake.commit.failed_exports import Failure, Failures
    from ksql_lake.lake.commit.manifest import FileEntry, Manifest, PartitionCount, ReadFacts
    from ksql_lake.lake.commit.state import FeedState, PartitionState
    from ksql_lake.lake.feed_lake import FeedLake, Lake, RetentionPlan
    from ksql_lake.lake.rows.staging import Commit, Staging

_HOMES = {
    "Commit": "ksql_lake.lake.rows.staging",
    "Failure": "ksql_lake.lake.commit.failed_exports",
    "Failures": "ksql_lake.lake.commit.failed_exports",
    "FeedLake": "ksql_lake.lake.feed_lake",
    "FeedState": "ksql_lake.lake.commit.state",
    "FileEntry": "ksql_lake.lake.commit.manifest",
    "Lake": "ksql_lake.lake.feed_lake",
    "Manifest": "ksql_lake.lake.commit.manifest",
    "PartitionCount": "ksql_lake.lake.commit.manifest",
    "PartitionState": "ksql_lake.lake.commit.state",
    "ReadFacts": "ksql_lake.lake.commit.manifest",
    "RetentionPlan": "ksql_lake.lake.feed_lake",
    "Staging": "ksql_lake.lake.rows.staging",
}

__all__ = [
    "Commit",
    "Failure",
    "Failures",
    "FeedLake",
    "FeedState",
    "FileEntry",
    "Lake",
    "Manifest",
    "PartitionCount",
    "PartitionState",
    "ReadFacts",
    "RetentionPlan",
    "Staging",
]

__getattr__ = lazy_names(__name__, _HOMES)
