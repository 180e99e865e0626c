"""Certify a table version: read the table's changes from the first on and compare. It changes nothing."""

# Keys that changed after the reading began are counted apart, by the ROWTIME of their last change.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.errors import ConfigError, KsqlLakeError, ProtocolError
from ksql_lake.export.comparable import Comparable, comparable
from ksql_lake.export.export_plan import ExportPlan
from ksql_lake.export.extraction import Extraction
from ksql_lake.export.statement import ROWTIME
from ksql_lake.feeds.model import Feed, TableFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.retry import tried, without_refused
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.lake.files.checksum import Words, batch_hashes
from ksql_lake.lake.files.evolution import shared, widened
from ksql_lake.quantities import count_text
from ksql_lake.schema import Schema

COMPACT_ROWS = 2_000_000
"""Changes kept before all but the last of each key are dropped."""
_TIME = f"read:{ROWTIME}"
_UNKNOWN_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class TableCertification:
    """The outcome of comparing a version with its table.

    Attributes:
        feed: Name of the feed.
        version: The version, `v4`.
        lake_rows: Rows of the version.
        source_rows: Keys that the table has now.
        equal_keys: Keys whose rows are the same.
        missing: Keys that the table had before the version was read, and the version lacks.
        extra: Keys of the version that the table never had, or that Kafka has deleted since.
        different: Keys with other values, although they did not change since.
        changed_since: Keys that changed after the version's reading began; they are not compared.
        deleted_since: Keys of the version that are deleted now; ksqlDB does not report when.
        columns: The columns that were compared.
        unseen: Columns and STRUCT fields (`S->A`) that are not compared, because the table or the version lacks
            them or has them in another type, or an earlier release read them less exactly.
        evidence: What shows that all changes were read.
        read_at: When the version's reading began (UTC).
    """

    feed: str
    version: str
    lake_rows: int
    source_rows: int
    equal_keys: int
    missing: int
    extra: int
    different: int
    changed_since: int
    deleted_since: int
    columns: tuple[str, ...]
    unseen: tuple[str, ...]
    evidence: Evidence
    read_at: datetime

    @property
    def equal(self) -> bool:
        """Whether every key that could be compared is equal, by its values in `columns`."""
        return not (self.missing or self.extra or self.different)

    @property
    def text(self) -> str:
        """The outcome as a sentence."""
        parts = [f"{count_text(self.equal_keys, 'key')} equal"]
        parts += [
            f"{count_text(number, 'key')} {what}"
            for number, what in (
                (self.missing, "missing in the lake"),
                (self.extra, "in the lake only (deleted by Kafka since, or never in the table)"),
                (self.different, "with other values"),
                (self.changed_since, "changed since the version was read, not compared"),
                (self.deleted_since, "deleted in the table by now, not compared"),
            )
            if number
        ]
        return ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON-ready data."""
        names = ("feed", "version", "equal", "lake_rows", "source_rows", "equal_keys", "missing", "extra")
        more = ("different", "changed_since", "deleted_since")
        return {
            **{name: getattr(self, name) for name in (*names, *more)},
            "columns": list(self.columns),
            "unseen": list(self.unseen),
            "evidence": msgspec.to_builtins(self.evidence),
            "read_at": self.read_at.isoformat(timespec="milliseconds"),
        }


@dataclass(slots=True)
class _Changes:
    """The last change of each key: hashes of key and row, its time, and whether it deleted the key."""

    key: list[str]
    compared: Comparable
    parts: list[tuple[Words, Words, npt.NDArray[np.int64], npt.NDArray[np.bool_]]]
    kept: int = 0

    def add(self, batch: pa.RecordBatch, *, gone: npt.NDArray[np.bool_]) -> None:
        times: Any = batch.column(_TIME).cast(pa.int64()).fill_null(_UNKNOWN_TIME)
        self.parts.append(
            (
                batch_hashes(batch.select(self.key))[0],
                batch_hashes(self.compared.of(batch))[1],
                np.asarray(times),
                gone,
            )
        )
        self.kept += batch.num_rows
        if self.kept > COMPACT_ROWS:
            self.compact()

    def compact(self) -> tuple[Words, Words, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Keep the last change of each key only, sorted by key."""
        empty = (np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.bool_))
        keys, rows, times, gone = (
            np.concatenate(column) for column in zip(*(self.parts or [empty]), strict=True)
        )
        # `unique` finds the first of each key; in reverse order that is the last.
        _, behind = np.unique(keys[::-1], return_index=True)
        last = len(keys) - 1 - behind
        found = (keys[last], rows[last], times[last], gone[last])
        self.parts, self.kept = [found], len(last)
        return found


def certify_table(feed: Feed, version: str | None, client: KsqlClient, lake: Lake) -> TableCertification:
    """Compare a version with its table.

    Args:
        feed: A table's feed.
        version: `v4`; None means the newest.
        client: The server.
        lake: The lake.

    Raises:
        ConfigError: The feed is a stream, or the lake does not hold the version.
        KsqlError: The table's changes could not be read completely.
        LakeError: The version's file could not be read.
    """
    if not isinstance(feed, TableFeed):
        raise ConfigError("only tables have versions", hint="Name a day of the stream.", feed=feed.name)
    feed_lake = lake.feed(feed)
    state = feed_lake.state()
    keys = state.partition_keys()
    chosen = version or (keys[-1] if keys else "")
    if chosen not in keys:
        held = ", ".join(keys) or "none yet"
        raise ConfigError(
            f"the lake does not hold version {version or 'of any number'} of this table",
            hint=f"It holds: {held}.",
            feed=feed.name,
        )
    begun = feed_lake.read_at(state, chosen)
    plan = ExportPlan(
        feed.model_copy(update={"extraction": "push", "deleted": False}),
        version=state.next_version,
        reason="certify",
        timed=True,
    )
    extraction = Extraction(plan, client)
    try:
        changes, evidence = without_refused(
            client.learn,
            lambda: tried(
                lambda _: _read_changes(extraction, feed_lake, chosen), client.attempts, sleep=client.sleep
            ),
        )
    except KsqlLakeError as error:
        raise error.at(feed=feed.name, partition=chosen) from error.__cause__
    return _compare(feed_lake, chosen, changes, evidence, begun)


def _read_changes(extraction: Extraction, lake: FeedLake, version: str) -> tuple[_Changes, Evidence]:
    with extraction.open() as reading:
        log = reading.log
        if log is None or _TIME not in log.log_schema.names:
            raise ProtocolError("the table's changes came without their times", hint="Is this release too old?")
        state = lake.state()
        files = state.files_of(version)
        _check_key(log.key, log.log_schema, state.shape(files[0]))
        changes = _Changes(log.key, comparable(log.schema, state, files), [])
        for batch, gone in log.changes():
            changes.add(batch, gone=gone)
        return changes, reading.evidence()


def _check_key(key: Sequence[str], source: Schema, version: Schema) -> None:
    """Raise if the version's rows cannot be found in the table by their key."""
    now, held = ({column.name: column.type for column in side} for side in (source, version))
    if missing := sorted(set(key) - held.keys()):
        raise ConfigError(
            f"the version lacks the key column {', '.join(missing)}, so its rows cannot be distinguished",
            hint="Add it to `columns` in the feed file; the next version can then be certified.",
        )
    for name in key:
        both = widened(held[name], now[name])
        if both is None or both != shared(held[name], now[name]):
            raise ConfigError(
                f"the key column {name} was {held[name].text} and is {now[name].text} now, so the rows of the "
                "version cannot be found in the table",
                hint="Certify a version that was exported after that change.",
            )


def _compare(
    lake: FeedLake, version: str, changes: _Changes, evidence: Evidence, begun: datetime
) -> TableCertification:
    keys, rows, times, gone = changes.compact()
    held_keys, held_rows = _held(lake, version, changes)
    since = times >= int(begun.timestamp() * 1000)
    _, mine, theirs = np.intersect1d(keys, held_keys, assume_unique=True, return_indices=True)
    both_gone, both_since = gone[mine], since[mine]
    same = (rows[mine] == held_rows[theirs]) & ~both_gone
    absent = np.ones(len(keys), np.bool_)
    absent[mine] = False
    new = absent & ~gone
    return TableCertification(
        feed=lake.feed.name,
        version=version,
        lake_rows=len(held_keys),
        source_rows=int((~gone).sum()),
        equal_keys=int(same.sum()),
        missing=int((new & ~since).sum()),
        extra=len(held_keys) - len(mine),
        different=int((~same & ~both_gone & ~both_since).sum()),
        changed_since=int((~same & ~both_gone & both_since).sum() + (new & since).sum()),
        deleted_since=int(both_gone.sum()),
        columns=tuple(changes.compared.columns),
        unseen=changes.compared.unseen,
        evidence=evidence,
        read_at=begun.astimezone(UTC),
    )


def _held(lake: FeedLake, version: str, changes: _Changes) -> tuple[Words, Words]:
    """Return the hashes of the version's keys and rows, sorted by key."""
    keys, rows = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for batch in lake.dataset(partitions=[version]).to_batches():
        if batch.num_rows:
            keys.append(batch_hashes(batch.select(changes.key))[0])
            rows.append(batch_hashes(changes.compared.of(batch))[1])
    every = np.concatenate(keys)
    order = np.argsort(every)
    return every[order], np.concatenate(rows)[order]
