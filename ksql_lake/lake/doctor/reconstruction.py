"""Rebuild manifests from Parquet footers, as far as these hold them. Rows never change."""

# A data file's name carries its commit number, and its footer how it was read. A commit without a file is
# replaced by a `rebuilt` manifest that adds nothing.

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import CorruptLakeError
from ksql_lake.lake.commit.manifest import FileEntry, Manifest, PartitionCount, ReadFacts, decode_manifest
from ksql_lake.lake.commit.meaning import Meaning
from ksql_lake.lake.doctor.unnamed_files import Unnamed, known_since
from ksql_lake.lake.files.checksum import RowChecksum
from ksql_lake.lake.files.precision import OLDEST
from ksql_lake.lake.files.writer import footer_facts
from ksql_lake.lake.layout import FeedLayout, file_sequence, file_time, partition_of
from ksql_lake.lake.rows.event_days import event_times
from ksql_lake.lake.storage.boundary import Storage

_CHECKSUM_ROWS = 16_384
_LONGEST_WINDOW = 100_000
"""Days between the first day that ksqlDB can represent and the last start date that a feed may have."""


def rebuilt_manifests(
    storage: Storage, layout: FeedLayout, numbers: list[int], known: Mapping[int, Manifest]
) -> list[Manifest]:
    """Rebuild the manifests of the given numbers from the data files that carry these numbers.

    Only files of one history are used: of the attempts at one number the oldest, and none from where the
    numbers fall on. A file that an existing commit cannot have known is left out. Doctor compares the others
    later.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        numbers: Numbers of the missing manifests.
        known: The existing manifests by number.
    """
    files: defaultdict[int, list[tuple[FileEntry, dict[str, str]]]] = defaultdict(list)
    for key in storage.walk(layout.dataset):
        number = file_sequence(key)
        if number in numbers:
            found = _entry(storage, layout, key)
            if found is not None and not _estranged(layout, *found, known):
                files[number].append(found)
    kept = _one_history(files)
    return [_sound_manifest(layout, number, kept.get(number, [])) for number in numbers]


def _estranged(
    layout: FeedLayout, entry: FileEntry, facts: dict[str, str], known: Mapping[int, Manifest]
) -> bool:
    """Whether the log has commits that did not know a file and may hold its rows."""
    file = known_since(Unnamed(entry.path, entry.partition, entry.records, facts), known)
    partitions = {added.partition for number in file.strangers for added in known[number].added}
    return bool(partitions) if layout.kind == "table" else entry.partition in partitions


def _one_history(
    files: Mapping[int, list[tuple[FileEntry, dict[str, str]]]],
) -> dict[int, list[tuple[FileEntry, dict[str, str]]]]:
    """Keep the files of the oldest attempts whose numbers rise with time."""
    attempts: dict[tuple[datetime, int, str], list[tuple[FileEntry, dict[str, str]]]] = {}
    for number, found in files.items():
        for entry, facts in found:
            which = (file_time(entry.path), number, facts.get("attempt", ""))
            attempts.setdefault(which, []).append((entry, facts))
    kept: dict[int, list[tuple[FileEntry, dict[str, str]]]] = {}
    for (_, number, _), found in sorted(attempts.items(), key=lambda item: item[0]):
        if number <= max(kept, default=0):
            break
        kept[number] = found
    return kept


def _sound_manifest(layout: FeedLayout, number: int, files: list[tuple[FileEntry, dict[str, str]]]) -> Manifest:
    """Return a manifest that can be decoded; footers that contradict each other yield one that adds nothing."""
    try:
        manifest = _manifest(layout, number, files)
        return decode_manifest(manifest.encode(), path=layout.manifest(number))
    except (CorruptLakeError, ValueError, TypeError):
        return _manifest(layout, number, [])


def _entry(storage: Storage, layout: FeedLayout, key: str) -> tuple[FileEntry, dict[str, str]] | None:
    """Return a data file's entry in its manifest, and its footer; None if it is damaged or another feed's."""
    path = key.removeprefix(f"{layout.dataset}/")
    partition = partition_of(layout.kind, path.rsplit("/", 1)[0])
    if partition is None:
        return None
    with storage.open(key, whole=True) as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
        try:
            with pq.ParquetFile(data) as parquet:
                facts = footer_facts(parquet)
                if facts.get("feed") != layout.name:
                    return None
                checksum, events = _rows(parquet, layout, facts)
                records = parquet.metadata.num_rows
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the operating system's word; Arrow's own errors carry no number
            return None
    entry = FileEntry(
        path=path,
        partition=partition,
        staged=f"{partition}.tmp",
        records=records,
        bytes=storage.size(key) or 0,
        sha256=digest,
        checksum=checksum,
        min_event=min(events, default=None),
        max_event=max(events, default=None),
    )
    return entry, facts


def _rows(parquet: pq.ParquetFile, layout: FeedLayout, facts: dict[str, str]) -> tuple[str, list[int]]:
    """Return the checksum of a file's rows, and event times among which are the file's smallest and largest."""
    checksum, events = RowChecksum(), []
    for batch in parquet.iter_batches(batch_size=_CHECKSUM_ROWS):
        checksum.add(batch)
        if layout.kind == "stream" and batch.num_rows:
            unit = facts.get("event_time_unit", "ms")
            times = event_times(batch, facts.get("event_time", "ROWTIME"), unit)
            events += [int(times.min()), int(times.max())]
    return checksum.text, events


def _manifest(layout: FeedLayout, number: int, files: list[tuple[FileEntry, dict[str, str]]]) -> Manifest:
    if not files:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Manifest(
            sequence=number,
            attempt="rebuilt",
            feed=layout.name,
            kind=layout.kind,
            operation="rebuilt",
            committed_at=now,
        )
    entries = sorted((entry for entry, _ in files), key=lambda entry: entry.path)
    facts = files[0][1]
    first, _, last = facts.get("window", "").partition("/")
    form = int(facts.get("form", OLDEST))
    read = ReadFacts(
        source=facts.get("source", ""),
        statement=facts.get("statement", ""),
        read_at=facts.get("read_at") or _committed_at(entries[0].path),
        server_version=facts.get("server_version"),
        first_day=first or None,
        last_day=last or None,
        rows=sum(entry.records for entry in entries),
        form=form,
    )
    replaced: list[str] = msgspec.json.decode(facts.get("replaces", "[]"))
    return Manifest(
        sequence=number,
        attempt=facts.get("attempt", "rebuilt"),
        feed=layout.name,
        kind=layout.kind,
        operation="compact" if replaced else "overwrite" if layout.kind == "table" else "append",
        committed_at=_committed_at(entries[0].path),
        schema=facts.get("schema", ""),
        read=read,
        added=entries,
        removed=replaced,
        counts=_counts(entries, first, last),
        merged_form=form if replaced else OLDEST,
        meaning=_meaning(facts),
    )


def _meaning(facts: dict[str, str]) -> Meaning | None:
    """Return what the rows mean by their footer; None if an older release wrote it without a meaning."""
    if "meaning" not in facts:
        return None
    try:
        return msgspec.json.decode(facts["meaning"], type=Meaning)
    except (msgspec.DecodeError, RecursionError):
        return None


def _counts(entries: list[FileEntry], first: str, last: str) -> list[PartitionCount]:
    # How many rows were read and already there is lost; that each day of the window was read is not.
    records = {entry.partition: entry.records for entry in entries}
    days = list(records)
    if first and last:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
        if (end - start).days > _LONGEST_WINDOW:
            raise ValueError("no export reads that many days")
        days = [(start + timedelta(days=offset)).isoformat() for offset in range((end - start).days + 1)]
    return [
        PartitionCount(partition=day, read=records.get(day, 0), new=records.get(day, 0), already_there=0)
        for day in days
    ]


def _committed_at(path: str) -> str:
    stamp = path.rsplit("/", 1)[-1].split("_", 1)[1].rsplit("_", 1)[0]
    return datetime.strptime(stamp, "%Y%m%d_%H%M%S").replace(tzinfo=UTC).isoformat(timespec="milliseconds")
