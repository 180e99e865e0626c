"""What each of the newest commits did, in short; kept in the checkpoint, so that few manifests are read."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ksql_lake.lake.commit.manifest import Manifest
from ksql_lake.lake.layout import Kind
from ksql_lake.lake.soundness import Count, UnsoundError, check_moments, check_partition

FACTS_KEPT = 1000
"""Of how many of the newest commits: six weeks of hourly exports, years of daily ones."""


class CommitFacts(msgspec.Struct, frozen=True, array_like=True):
    """What one commit did, without the names of its files.

    Attributes:
        sequence: Commit number.
        committed_at: ISO 8601 UTC.
        read_at: When its reading began; empty where it read nothing.
        read: Rows received.
        new: Rows that were added.
        already_there: Rows the lake held before.
        late: Rows that came late, among the new.
        dropped: Rows whose key a later row of the same reading has.
        response_bytes: Bytes received.
        added_bytes: Size of its files.
        late_days: Partition -> rows that came late.
        versions: Version of a table -> its rows and bytes.
        stamp: What the storage said of the manifest when it was read; see `Storage.stamps`.
    """

    sequence: int
    committed_at: str
    read_at: str = ""
    read: Count = 0
    new: Count = 0
    already_there: Count = 0
    late: Count = 0
    dropped: Count = 0
    response_bytes: Count = 0
    added_bytes: Count = 0
    late_days: dict[str, Count] = {}
    versions: dict[str, tuple[Count, Count]] = {}
    stamp: str = ""


def facts_of(manifest: Manifest, *, stamp: str = "") -> CommitFacts:
    """Condense a manifest."""
    facts, table = manifest.read, manifest.kind == "table"
    read = new = already_there = late = dropped = 0
    for count in manifest.counts:
        read += count.read
        new += count.new
        already_there += count.already_there
        late += count.late
        dropped += count.dropped
    return CommitFacts(
        sequence=manifest.sequence,
        committed_at=manifest.committed_at,
        read_at=facts.read_at if facts is not None else "",
        read=read,
        new=new,
        already_there=already_there,
        late=late,
        dropped=dropped,
        response_bytes=facts.response_bytes if facts is not None else 0,
        added_bytes=sum(entry.bytes for entry in manifest.added),
        late_days={count.partition: count.late for count in manifest.counts if count.late},
        versions={entry.partition: (entry.records, entry.bytes) for entry in manifest.added} if table else {},
        stamp=stamp,
    )


def check_commit_facts(kind: Kind, facts: Iterable[CommitFacts], *, through: int) -> None:
    """Refuse facts that cannot be true.

    Args:
        kind: Of the feed.
        facts: Those of a checkpoint.
        through: The last commit that it knows.

    Raises:
        UnsoundError: Names the value.
    """
    for each in facts:
        if not 1 <= each.sequence <= through:
            raise UnsoundError(f"commit {each.sequence} is not among the first {through}")
        check_moments(each.committed_at, each.read_at or None)
        for partition in (*each.late_days, *each.versions):
            check_partition(kind, partition)
