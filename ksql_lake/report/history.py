"""What a feed's newest commits tell beyond its state: exports, late rows, versions that are gone.

The manifests are read by the lake's own reader, which proves each by its digest; over ten thousand small files
it is also ten times faster than DuckDB's `read_json`. It refuses to stop at a manifest that cannot be read: the
others still tell theirs, and the damage is told too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from ksql_lake.errors import LakeError
from ksql_lake.lake import Manifest
from ksql_lake.lake.layout import version_number
from ksql_lake.lake.log import CommitLog
from ksql_lake.report.feed_model import ExportPoint, VersionPoint


@dataclass(slots=True)
class History:
    """The newest commits of a feed, condensed.

    Attributes:
        exports: Commits that read rows, oldest first.
        late: Partition -> rows that came late.
        versions: Version number -> what was committed, kept or not.
        response_bytes: Bytes received by exports that brought new rows only.
        new_bytes: Bytes those exports added to the lake.
        first: Number of the oldest of the commits; 0 when there is none.
        first_at: When it was made.
        damage: What kept a manifest from being read.
    """

    exports: list[ExportPoint] = field(default_factory=list)
    late: dict[str, int] = field(default_factory=dict)
    versions: dict[int, VersionPoint] = field(default_factory=dict)
    response_bytes: int = 0
    new_bytes: int = 0
    first: int = 0
    first_at: datetime | None = None
    damage: list[str] = field(default_factory=list)

    @property
    def json_ratio(self) -> float | None:
        """Bytes received per byte in the lake, of exports whose rows were all new."""
        return self.response_bytes / self.new_bytes if self.new_bytes and self.response_bytes else None

    @property
    def late_rows(self) -> int:
        """Rows that came late, in all partitions."""
        return sum(self.late.values())

    def add(self, manifest: Manifest) -> None:
        """Take in the next commit."""
        at = datetime.fromisoformat(manifest.committed_at)
        if not self.first:
            self.first, self.first_at = manifest.sequence, at
        if manifest.kind == "table":
            for entry in manifest.added:
                number = version_number(entry.partition)
                self.versions[number] = VersionPoint(number, entry.records, entry.bytes, at, kept=True)
        if manifest.read is None:
            return
        export = _export(manifest, at)
        self.exports.append(export)
        if export.read and export.new == export.read:
            self.response_bytes += export.response_bytes
            self.new_bytes += sum(entry.bytes for entry in manifest.added)
        if export.late:
            for count in manifest.counts:
                if count.late:
                    self.late[count.partition] = self.late.get(count.partition, 0) + count.late


def read_history(log: CommitLog, *, through: int, commits: int) -> History:
    """Read the newest commits of a feed.

    Args:
        log: The feed's commit log.
        through: The last commit.
        commits: How many at most.
    """
    history = History()
    for sequence in range(max(1, through - commits + 1), through + 1):
        try:
            history.add(log.manifest(sequence, ahead=through))
        except LakeError as error:
            history.damage.append(f"commit {sequence}: {error.message}")
    return history


def _export(manifest: Manifest, at: datetime) -> ExportPoint:
    read, new, there, late, dropped = 0, 0, 0, 0, 0
    for count in manifest.counts:
        read += count.read
        new += count.new
        there += count.already_there
        late += count.late
        dropped += count.dropped
    facts = manifest.read
    began = datetime.fromisoformat(facts.read_at) if facts else at
    seconds = (at - began).total_seconds()
    return ExportPoint(
        commit=manifest.sequence,
        at=at,
        # A clock that was set back in between tells nothing.
        seconds=seconds if seconds >= 0 else None,
        read=read,
        new=new,
        already_there=there,
        late=late,
        response_bytes=facts.response_bytes if facts else 0,
        dropped=dropped,
    )
