"""Turn a table's changes into a snapshot: the last change of each key, deleted keys left out or marked."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.export.reading import TableChanges
from ksql_lake.lake import Staging
from ksql_lake.schema import arrow_schema


def snapshot_rows(log: TableChanges, staging: Staging) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a snapshot, after the query has caught up.

    Args:
        log: The changes of a table that a running push query reads.
        staging: Where the changes are kept meanwhile.

    Raises:
        KsqlError: The query broke off or failed before it had caught up.
        WriteError: Memory and disk are both too small.
    """
    arrow = arrow_schema(log.schema)
    marked = log.feed.marks_deleted
    landed = len(arrow) - marked
    with staging.change_log(log.log_schema, log.key) as changes:
        for batch, gone in log.changes():
            changes.write(batch, gone=gone)
        for batch, deleted in changes.last():
            if marked:
                yield pa.RecordBatch.from_arrays([*batch.columns[:landed], deleted], schema=arrow)
            else:
                kept = batch.filter(pc.invert(deleted))
                yield pa.RecordBatch.from_arrays(kept.columns[:landed], schema=arrow)
