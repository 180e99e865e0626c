"""A commit's JSON file: what one export added or removed, and its evidence. Written once, parsed strictly."""

# Unknown keys are ignored, so that an older release can read a newer lake.

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from ksql_lake.errors import CorruptLakeError
from ksql_lake.lake.closing import Clock
from ksql_lake.lake.commit.continued import Continued, check_continued
from ksql_lake.lake.commit.marks import DayMarks
from ksql_lake.lake.commit.meaning import Meaning, check_meaning
from ksql_lake.lake.files.precision import OLDEST
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.soundness import (
    Count,
    EventTime,
    UnsoundError,
    check_attempt,
    check_checksum,
    check_days,
    check_files,
    check_moments,
    check_partition,
    check_paths,
    check_schema,
)
from ksql_lake.lake.storage.boundary import Storage

FORMAT = 1
Operation = Literal["append", "overwrite", "look", "retention", "compact", "forget", "rebuilt"]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Parquet file of a commit.

    Attributes:
        path: Relative to the dataset folder.
        partition: `2025-01-15` or `v4`.
        staged: Name inside the commit's staging folder before it was published.
        records: Rows.
        bytes: Size of the file.
        sha256: SHA-256 of the file's bytes, hexadecimal.
        checksum: Checksum of its rows, in any order (see `checksum.py`).
        min_event: Smallest event time, epoch ms; None without one.
        max_event: Largest event time, epoch ms.
    """

    path: str
    partition: str
    staged: str
    records: Count
    bytes: Count
    sha256: str
    checksum: str = ""
    min_event: EventTime | None = None
    max_event: EventTime | None = None


def is_intact(storage: Storage, layout: FeedLayout, entry: FileEntry) -> bool:
    """Whether a file is, to the byte, the one that was committed."""
    key = layout.data(entry.path)
    if storage.size(key) != entry.bytes:
        return False
    try:
        with storage.local_copies([key]) as copies, Path(copies[key]).open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest() == entry.sha256
    except OSError:
        return False  # it was removed since, or cannot be read


class PartitionCount(msgspec.Struct, frozen=True, kw_only=True):
    """What an export did in one partition.

    Attributes:
        partition: `2025-01-15` or `v4`.
        read: Rows received for it: `new`, `already_there` and `dropped` together.
        new: Rows that were added.
        already_there: Rows the lake held before.
        late: Late rows among the new ones.
        dropped: Rows dropped because a later row of the same reading has their key.
    """

    partition: str
    read: Count
    new: Count
    already_there: Count
    late: Count = 0
    dropped: Count = 0


class DayCertificate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the lake held of a closed day after an export that read the whole day.

    The manifest's `read` says how and when the day was read; the day had ended by then. `rows` exceeds `read`
    by the rows that the server no longer had.

    Attributes:
        partition: The day.
        read: Rows the server sent for it.
        rows: Rows the lake holds for it.
        checksum: Checksum of those rows, in any order.
        min_event: Smallest event time, epoch ms; None without rows.
        max_event: Largest event time, epoch ms.
        clock: Whose clock showed that the day had ended; empty in certificates of older releases.
    """

    partition: str
    read: Count
    rows: Count
    checksum: str
    min_event: EventTime | None = None
    max_event: EventTime | None = None
    clock: Clock = ""


EvidenceLevel = Literal["proven", "checked", "unchecked"]
"""Proven: the reading holds all rows. Checked: no check found a fault. Unchecked: the server did not allow the
checks."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why the rows of a reading count as complete.

    Attributes:
        level: `proven`, `checked` or `unchecked`.
        text: The reason, as a sentence.
        isolation: `committed`, `uncommitted`, or `unknown` if another query wrote the rows that were read.
        caveats: Properties that the server refused, and what is not proven without them.
    """

    level: EvidenceLevel
    text: str
    isolation: str = ""
    caveats: list[str] = []


class ReadFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the rows were read.

    Attributes:
        source: The ksqlDB stream or table.
        statement: The query as sent.
        query_id: The server's id of the query.
        server_version: The version that `/info` reports.
        read_at: When the reading began, ISO 8601 UTC, by our clock or the server's, whichever is earlier; every
            row that the server had by then is included.
        first_day: First day of the window (streams).
        last_day: Last day of the window (streams).
        rows: Rows received.
        response_bytes: Bytes received.
        extraction: `push`, `continue`, or empty for a pull query.
        judged_by: What showed that a push query had caught up: `offsets` (rows came from the end of Kafka's
            log), `positions` (the server reported how far it had read) or `silence`; empty for a pull query.
        caught_up: `judged_by` as a sentence, with numbers.
        evidence: Why the rows count as complete; None in commits of releases that kept none.
        shrunk: Share of rows that a table's version has lost against the version before it; 0 within bounds.
        event_time: The column that decided a row's day (streams); empty in commits of older releases.
        clock: Whose clock limits `read_at`; if `disputed`, the reading closes no day.
        clock_ahead: Seconds by which our clock was ahead of the other one; negative if it was behind.
        replaced_texts: How many texts held half a surrogate pair, which was replaced by U+FFFD.
        form: The form in which the rows were read; see `precision.py`.
        outside: Reason -> how many received rows belong to no day of the feed (streams).
        fell_back: Why a `continue` feed was read by pull query; empty if it was not.
        meant: What the rows mean, if the lake had none before (streams), so that it may still change.
    """

    source: str
    statement: str
    read_at: str
    query_id: str | None = None
    server_version: str | None = None
    first_day: str | None = None
    last_day: str | None = None
    rows: Count = 0
    response_bytes: Count = 0
    extraction: str = ""
    judged_by: str = ""
    caught_up: str = ""
    evidence: Evidence | None = None
    shrunk: float = 0.0
    event_time: str = ""
    clock: Clock = ""
    clock_ahead: float = 0.0
    replaced_texts: Count = 0
    form: int = OLDEST
    outside: dict[str, Count] = {}
    fell_back: str = ""
    meant: Meaning | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One commit of one feed.

    Attributes:
        format: Version of this shape.
        sequence: Commit number, 1 for the first.
        attempt: Random id of the attempt that won the number; also names its staging folder.
        feed: Name of the feed.
        kind: `stream` or `table`.
        operation: `append`, `overwrite`, `look` (read, nothing new), `retention`, `compact` (same rows, fewer
            files), `forget` (lost files) or `rebuilt` (replaces a lost manifest that added nothing).
        committed_at: ISO 8601 UTC.
        schema: The commit's columns as ksqlDB schema text in the lake's names; empty when no rows were read.
        read: How the rows were read; None for retention.
        added: New files.
        removed: Paths that stop existing with this commit, relative to the dataset folder.
        counts: Per partition.
        certificates: For each day of the window that had ended when it was read.
        positions: The days' marks after this commit (streams read by push query).
        new_topic: The marks of all other days do not count: they belong to a topic that no longer exists, or to
            a log that has lost a commit.
        unread: Which days were read before does not count: a commit is lost, and perhaps rows with it.
        continued: The marks of a `continue` feed after this commit.
        merged_form: The form in which the rows of merged files were read.
        meaning: What the feed's rows mean, if this commit is the first to record it or records more than
            before.
        settings: The feed's other keys without their default values, if they changed.
    """

    format: int = FORMAT
    sequence: int
    attempt: str
    feed: str
    kind: Literal["stream", "table"]
    operation: Operation
    committed_at: str
    schema: str = ""
    read: ReadFacts | None = None
    added: list[FileEntry] = []
    removed: list[str] = []
    counts: list[PartitionCount] = []
    certificates: list[DayCertificate] = []
    positions: list[DayMarks] = []
    new_topic: bool = False
    unread: bool = False
    continued: Continued | None = None
    merged_form: int = OLDEST
    meaning: Meaning | None = None
    settings: dict[str, Any] | None = None

    @property
    def form(self) -> int:
        """The form in which the added rows were read."""
        return self.merged_form if self.operation == "compact" or self.read is None else self.read.form

    def encode(self) -> bytes:
        """Return the manifest with its digest as JSON, indented because people read it too."""
        body = msgspec.json.format(msgspec.json.encode(self), indent=1)
        digest = hashlib.sha256(body).hexdigest()
        return b'{"digest": "' + digest.encode() + b'",\n"manifest": ' + body + b"}\n"


class _Envelope(msgspec.Struct, frozen=True):
    """A manifest's bytes exactly as they are in the file, and their digest."""

    digest: str
    manifest: msgspec.Raw


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_MANIFEST = msgspec.json.Decoder(Manifest)


def decode_manifest(data: bytes, *, path: str) -> Manifest:
    """Read a manifest.

    Raises:
        CorruptLakeError: The bytes are not a manifest, were changed after writing, or have a newer format.
    """
    hint = "A manifest is never edited. Restore the file from a backup, or run `ksql-lake doctor`."
    try:
        envelope = _ENVELOPE.decode(data)
        manifest = _MANIFEST.decode(envelope.manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptLakeError(f"this manifest cannot be read: {error}", hint=hint, path=path) from None
    if hashlib.sha256(envelope.manifest).hexdigest() != envelope.digest:
        raise CorruptLakeError("this manifest was changed after it was written", hint=hint, path=path)
    if manifest.format > FORMAT:
        raise CorruptLakeError(
            f"this manifest has format {manifest.format}, but this release reads up to {FORMAT}",
            hint="A newer ksql-lake wrote it; upgrade this one.",
            path=path,
        )
    try:
        _check(manifest)
    except UnsoundError as error:
        raise CorruptLakeError(f"this manifest cannot be true: {error}", hint=hint, path=path) from None
    return manifest


def _check(manifest: Manifest) -> None:
    check_attempt(manifest.attempt)
    check_moments(manifest.committed_at)
    check_schema(manifest.schema)
    check_files(manifest.kind, manifest.added)
    check_paths(manifest.kind, manifest.removed)
    if manifest.read is not None:
        check_read(manifest.read)
    if manifest.meaning is not None:
        check_meaning(manifest.meaning)
    if manifest.continued is not None:
        check_continued(manifest.continued)
    for count in manifest.counts:
        check_partition(manifest.kind, count.partition)
    for certificate in manifest.certificates:
        check_partition(manifest.kind, certificate.partition)
        check_checksum(certificate.checksum)


def check_read(read: ReadFacts) -> None:
    """Raise if a value cannot be true.

    Raises:
        UnsoundError: Names the value.
    """
    check_moments(read.read_at)
    check_days(day for day in (read.first_day, read.last_day) if day is not None)
    if read.meant is not None:
        check_meaning(read.meant)
