"""What the lake held of a closed day right after it was read, put together from the files of that day: pure."""

from __future__ import annotations

from collections.abc import Sequence

from ksql_lake.lake.checksum import combined
from ksql_lake.lake.closing import Clock
from ksql_lake.lake.manifest import DayCertificate, FileEntry
from ksql_lake.lake.writer import StagedFile


def day_certificate(
    day: str, parts: Sequence[FileEntry | StagedFile], *, read: int, clock: Clock
) -> DayCertificate:
    """Certify a day.

    Args:
        day: The day.
        parts: Its files, those that this commit adds included.
        read: Rows the server sent for it.
        clock: Whose clock says that the day had ended.
    """
    events = [edge for part in parts for edge in (part.min_event, part.max_event) if edge is not None]
    return DayCertificate(
        partition=day,
        read=read,
        rows=sum(part.records for part in parts),
        checksum=combined(part.checksum for part in parts),
        min_event=min(events, default=None),
        max_event=max(events, default=None),
        clock=clock,
    )
