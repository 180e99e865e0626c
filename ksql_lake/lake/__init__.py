"""The lake: layout, commits, row identity, metadata, retention, readers."""

from ksql_lake.lake.commit.failed_exports import Failure, Failures
from ksql_lake.lake.commit.manifest import FileEntry, Manifest, PartitionCount, ReadFacts
from ksql_lake.lake.commit.state import FeedState, PartitionState
from ksql_lake.lake.feed_lake import FeedLake, Lake, RetentionPlan
from ksql_lake.lake.rows.staging import Commit, Staging

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
