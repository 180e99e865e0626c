"""The lake: layout, commits, row identity, metadata, retention, readers."""

from ksql_lake.lake.failures import Failure, Failures
from ksql_lake.lake.feed_lake import FeedLake, Lake
from ksql_lake.lake.manifest import FileEntry, Manifest, PartitionCount, ReadFacts
from ksql_lake.lake.retention import RetentionPlan
from ksql_lake.lake.staging import Commit, Staging
from ksql_lake.lake.state import FeedState, PartitionState

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
