"""Changes of a topic from outside of ksqlDB: retention, gaps, repeated records, more partitions."""

from __future__ import annotations

import msgspec

from ksql_lake.devserver.ksql_errors import bad_request
from ksql_lake.devserver.sql.source_columns import Source, quoted
from ksql_lake.devserver.store import row_storage
from ksql_lake.devserver.store.sources import Catalog


class LogChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A change of a source's log, by partition.

    Attributes:
        trim: The first offset that is left, as after retention.
        gap: How many offsets come next that have no record ksqlDB can read.
        repeat: How many of the last records of its source the query that writes it writes again, as after
            a crash before its commit; the partitions are the source's.
        partitions: The number of partitions from now on.
    """

    trim: dict[int, int] = {}
    gap: dict[int, int] = {}
    repeat: dict[int, int] = {}
    partitions: int | None = None


def parse_change(body: bytes) -> LogChange:
    """Read a change from JSON.

    Raises:
        RefusedError: It is none; the error names the key.
    """
    try:
        return msgspec.json.decode(body, type=LogChange)
    except msgspec.DecodeError as error:
        raise bad_request(f"Not a change of a log: {error}") from None


def change_log(name: str, change: LogChange, catalog: Catalog) -> None:
    """Change a source's log; queries that read it follow.

    Raises:
        RefusedError: There is no such source or partition, a table is made from it (its rows would go with
            those that retention removes), or not exactly one query of a stream writes what is to be repeated.
    """
    with catalog.lock:
        source = catalog.describe(name)
        count = max(source.partitions, change.partitions or 0)
        wrong = [number for number in (*change.trim, *change.gap) if not 0 <= number < count]
        if wrong:
            raise bad_request(f"{name} has no partition {wrong[0]}")
        if change.partitions is not None and change.partitions < source.partitions:
            raise bad_request(f"{name} has {source.partitions} partitions; Kafka takes none away")
        if change.trim:
            _trim(source, change.trim, catalog)
        if change.repeat:
            _repeat(source, change.repeat, catalog)
        if change.partitions is not None:
            for other in catalog.sources.values():
                if other.topic == source.topic:
                    other.partitions = change.partitions
        for number, records in change.gap.items():
            source.ends[number] = source.ends.get(number, 0) + records
        catalog.follow(source)


def _trim(source: Source, starts: dict[int, int], catalog: Catalog) -> None:
    for query in catalog.readers(source.name):
        if query.derivation is not None and not query.derivation.incremental:
            raise bad_request(
                f"{query.sink} is made from all rows that {source.name} has; none can be taken away"
            )
    for number, first in starts.items():
        source.starts[number] = min(first, source.ends.get(number, 0))
        catalog.database.execute(
            f"DELETE FROM {quoted(source.storage)} WHERE ROWPARTITION = ? AND ROWOFFSET < ?", [number, first]
        )


def _repeat(sink: Source, records: dict[int, int], catalog: Catalog) -> None:
    writers = catalog.writers(sink.name)
    derivation = writers[0].derivation if len(writers) == 1 else None
    if derivation is None or not derivation.incremental:
        raise bad_request(f"{sink.name} is not written by one query of a stream: nothing can be repeated")
    places = writers[0].positions
    spans = " OR ".join(
        f"(ROWPARTITION = {number} AND ROWOFFSET < {places.get(number, 0)} "
        f"AND ROWOFFSET >= {places.get(number, 0) - count})"
        for number, count in records.items()
    )
    again = derivation.over(catalog.sources[writers[0].source], f"({spans})")
    row_storage.append(sink, again, catalog.database)
