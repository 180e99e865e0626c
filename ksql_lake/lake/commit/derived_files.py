"""Files that can be rebuilt from the manifests: `_metadata.json` and the checkpoint."""

# A checkpoint whose digest does not match is ignored.

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from ksql_lake.lake.commit.commit_facts import CommitFacts, check_commit_facts
from ksql_lake.lake.commit.continued import check_continued
from ksql_lake.lake.commit.manifest import check_read
from ksql_lake.lake.commit.meaning import check_meaning
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.layout import Kind, partition_folder
from ksql_lake.lake.soundness import (
    UnsoundError,
    check_days,
    check_files,
    check_moments,
    check_numbers,
    check_partition,
    check_schema,
)

_MEGABYTE = 1_000_000

_STATE = msgspec.json.Decoder(FeedState)
_FACTS = msgspec.json.Decoder(tuple[CommitFacts, ...])


def summary(feed: str, state: FeedState) -> dict[str, Any]:
    """Describe a feed's lake; sizes in MB of 1,000,000 bytes, times ISO 8601 UTC."""
    keys = state.partition_keys()
    parts = [state.partitions[key] for key in keys]
    low, high = ([getattr(part, name) for part in parts] for name in ("min_event", "max_event"))
    sizes = [(part.records, part.bytes) for part in parts]
    partitions = [
        {
            "path": partition_folder(state.kind, key),
            "records": records,
            "size_mb": _megabytes(size),
            "bytes": size,
            "files": len(part.files),
            "min_event_time": first,
            "max_event_time": last,
            "committed_at": part.committed_at,
            "evidence": state.evidence.get(key),
            **({"shrunk": round(part.shrunk, 4)} if part.shrunk else {}),
        }
        for key, part, (records, size), first, last in zip(
            keys, parts, sizes, iso_times(low), iso_times(high), strict=True
        )
    ]
    total = sum(size for _, size in sizes)
    columns = state.columns
    return {
        "feed": feed,
        "kind": state.kind,
        "source": state.last_read.source if state.last_read else None,
        "last_export": state.last_export or None,
        "total_records": sum(records for records, _ in sizes),
        "total_size_mb": _megabytes(total),
        "total_bytes": total,
        "evidence": _evidence(state),
        "commit": state.sequence,
        "latest_version": f"v{state.latest_version}" if state.latest_version else None,
        "min_event_time": iso_time(min((time for time in low if time is not None), default=None)),
        "max_event_time": iso_time(max((time for time in high if time is not None), default=None)),
        "schema": [{"name": column.name, "type": column.type.text} for column in columns] if columns else [],
        "partitions": partitions,
    }


def _evidence(state: FeedState) -> dict[str, Any] | None:
    """Return the evidence of the last reading; None for a release that kept none."""
    found = state.last_read.evidence if state.last_read else None
    return None if found is None else msgspec.to_builtins(found)


def encode_summary(feed: str, state: FeedState) -> bytes:
    """Return the bytes of `_metadata.json`."""
    return msgspec.json.format(msgspec.json.encode(summary(feed, state)), indent=2) + b"\n"


def published_through(data: bytes | None) -> int:
    """Return the commit up to which publishing is known to be finished; 0 if the file does not show it."""
    if data is None:
        return 0
    try:
        commit = msgspec.json.decode(data)["commit"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return 0
    return commit if isinstance(commit, int) and commit > 0 else 0


def iso_time(milliseconds: int | None) -> str | None:
    """Write epoch milliseconds as ISO 8601 UTC; None stays None."""
    return iso_times([milliseconds])[0]


def iso_times(milliseconds: Sequence[int | None]) -> list[str | None]:
    """Write epoch milliseconds as ISO 8601 UTC, all at once; None stays None."""
    import numpy as np  # noqa: PLC0415 - whoever only reads a checkpoint needs no NumPy

    known = np.array([time or 0 for time in milliseconds], dtype="datetime64[ms]")
    texts = np.datetime_as_string(known, unit="ms").tolist()
    return [None if time is None else f"{text}+00:00" for time, text in zip(milliseconds, texts, strict=True)]


def _megabytes(size: int) -> float:
    return round(size / _MEGABYTE, 3)


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """A saved state, and what the newest commits did, each with the digest that proves it.

    The facts are empty in checkpoints of older releases.
    """

    digest: str
    state: msgspec.Raw
    facts_digest: str = ""
    facts: msgspec.Raw = msgspec.Raw(b"[]")


_CHECKPOINT = msgspec.json.Decoder(Checkpoint)


def encode_checkpoint(state: FeedState, facts: Sequence[CommitFacts] = ()) -> bytes:
    """Save a state, and what the newest commits did, with their digests."""
    # A state's mappings are read-only, and the encoder takes plain dicts only.
    body = msgspec.json.encode(state, enc_hook=dict)
    saved = Checkpoint(_digest(body), msgspec.Raw(body))
    if facts:
        body = msgspec.json.encode(facts)
        saved = msgspec.structs.replace(saved, facts_digest=_digest(body), facts=msgspec.Raw(body))
    return msgspec.json.encode(saved)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def decode_checkpoint(data: bytes | None, kind: Kind, *, compared: bool = False) -> FeedState | None:
    """Read a saved state back, or None when it is absent, torn, edited, of another shape or another kind.

    Args:
        data: The checkpoint.
        kind: Of the feed.
        compared: Whether the caller compares the state with that of the manifests, so that values that cannot
            be true are found in any case.
    """
    if data is None:
        return None
    try:
        checkpoint = _CHECKPOINT.decode(data)
        body = bytes(checkpoint.state)
        if _digest(body) != checkpoint.digest:
            return None
        state = _STATE.decode(body)
        if not compared:
            _check(state)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnsoundError):
        return None
    return state if state.kind == kind else None


def decode_facts(
    data: bytes | None, kind: Kind, *, through: int, compared: bool = False
) -> tuple[CommitFacts, ...] | None:
    """Read back what a checkpoint says of the newest commits; None when that is torn, edited or cannot be true.

    Args:
        data: The checkpoint; None and those of older releases say nothing.
        kind: Of the feed.
        through: The last commit that there is.
        compared: As in `decode_checkpoint`.
    """
    if data is None:
        return ()
    try:
        checkpoint = _CHECKPOINT.decode(data)
        if not checkpoint.facts_digest:
            return ()
        body = bytes(checkpoint.facts)
        if _digest(body) != checkpoint.facts_digest:
            return None
        facts = _FACTS.decode(body)
        if not compared:
            check_commit_facts(kind, facts, through=through)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnsoundError):
        return None
    return facts


def _check(state: FeedState) -> None:
    check_numbers(state.sequence, state.latest_version, *state.certified.values())
    check_days(state.looked)
    check_days(state.certified)
    check_moments(*state.looked.values(), state.last_export or None)
    check_schema(state.schema, *(text for _, text in state.shapes))
    if state.meaning is not None:
        check_meaning(state.meaning)
    if state.continued is not None:
        check_continued(state.continued)
    if state.last_read is not None:
        check_read(state.last_read)
    for key, partition in state.partitions.items():
        check_partition(state.kind, key)
        check_moments(partition.committed_at)
        check_schema(partition.schema)
        if any(file.partition != key for file in partition.files):
            raise UnsoundError(f"partition {key!r} holds a file of another")
    check_files(state.kind, (file for partition in state.partitions.values() for file in partition.files))
