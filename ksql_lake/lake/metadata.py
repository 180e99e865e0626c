"""The derived `_metadata.json` of a feed, for people and for readers without our code.

It is rewritten after every commit and can always be rebuilt; nothing in the lake decides anything by it except
where publishing may resume.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from ksql_lake.lake.layout import partition_folder
from ksql_lake.lake.state import FeedState

_MEGABYTE = 1_000_000


def summary(feed: str, state: FeedState) -> dict[str, Any]:
    """Describe a feed's lake; sizes in MB of 1,000,000 bytes, times ISO 8601 UTC."""
    partitions = []
    for key in state.partition_keys():
        part = state.partitions[key]
        partitions.append(
            {
                "path": partition_folder(state.kind, key),
                "records": part.records,
                "size_mb": _megabytes(part.bytes),
                "bytes": part.bytes,
                "files": len(part.files),
                "min_event_time": iso_time(part.min_event),
                "max_event_time": iso_time(part.max_event),
                "committed_at": part.committed_at,
            }
        )
    columns = state.columns
    return {
        "feed": feed,
        "kind": state.kind,
        "source": state.last_read.source if state.last_read else None,
        "last_export": state.last_export or None,
        "total_records": state.records,
        "total_size_mb": _megabytes(state.bytes),
        "total_bytes": state.bytes,
        "commit": state.sequence,
        "latest_version": f"v{state.latest_version}" if state.latest_version else None,
        "min_event_time": iso_time(min(_events(state, "min_event"), default=None)),
        "max_event_time": iso_time(max(_events(state, "max_event"), default=None)),
        "schema": [{"name": column.name, "type": column.type.text} for column in columns] if columns else [],
        "partitions": partitions,
    }


def encode_summary(feed: str, state: FeedState) -> bytes:
    """Give `_metadata.json` as it is written."""
    return orjson.dumps(summary(feed, state), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def published_through(data: bytes | None) -> int:
    """Give the commit up to which publishing is known to be finished; 0 when that cannot be told."""
    if data is None:
        return 0
    try:
        commit = orjson.loads(data)["commit"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return 0
    return commit if isinstance(commit, int) and commit > 0 else 0


def iso_time(milliseconds: int | None) -> str | None:
    """Write epoch milliseconds as ISO 8601 UTC; None stays None, as does a time no calendar here can hold."""
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None


def _events(state: FeedState, name: str) -> list[int]:
    values = (getattr(part, name) for part in state.partitions.values())
    return [value for value in values if value is not None]


def _megabytes(size: int) -> float:
    return round(size / _MEGABYTE, 3)
