"""A saved state, which makes opening a feed cheap; one that does not prove itself by its digest is ignored."""

from __future__ import annotations

import hashlib

import msgspec

from ksql_lake.lake.continued import check_continued
from ksql_lake.lake.layout import Kind
from ksql_lake.lake.manifest import check_read
from ksql_lake.lake.meaning import check_meaning
from ksql_lake.lake.soundness import (
    UnsoundError,
    check_days,
    check_files,
    check_moments,
    check_numbers,
    check_partition,
    check_schema,
)
from ksql_lake.lake.state import FeedState


class Checkpoint(msgspec.Struct, frozen=True):
    """A saved state with the digest that proves it."""

    digest: str
    state: msgspec.Raw


_STATE = msgspec.json.Decoder(FeedState)
_CHECKPOINT = msgspec.json.Decoder(Checkpoint)


def encode_checkpoint(state: FeedState) -> bytes:
    """Save a state with its digest."""
    # A state's mappings are closed to writing; `dict` opens them for the encoder.
    body = msgspec.json.encode(state, enc_hook=dict)
    return msgspec.json.encode(Checkpoint(hashlib.sha256(body).hexdigest(), msgspec.Raw(body)))


def decode_checkpoint(data: bytes | None, kind: Kind) -> FeedState | None:
    """Read a saved state back, or None when it is absent, torn, edited, of another shape or another kind."""
    if data is None:
        return None
    try:
        checkpoint = _CHECKPOINT.decode(data)
        body = bytes(checkpoint.state)
        if hashlib.sha256(body).hexdigest() != checkpoint.digest:
            return None
        state = _STATE.decode(body)
        _check(state)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, UnsoundError):
        return None
    return state if state.kind == kind else None


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
        check_files(state.kind, partition.files)
