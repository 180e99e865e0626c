"""Keep a table's changes in a file, and return the last change of each key."""

# A table may have many more changes than rows, so DuckDB finds the last ones and spills to disk.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from types import TracebackType
from typing import Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.lake.commit.attempt import Attempt
from ksql_lake.lake.rows.identity import Candidate, copy_rows, new_rows
from ksql_lake.schema import Column, Primitive, Schema, arrow_schema

Flags = npt.NDArray[np.bool_]
_NAME = "changes.tmp"
_BUFFERED_ROWS = 100_000
_BUFFERED_BYTES = 32_000_000


class ChangeLog:
    """A context manager: the changes that one export read.

    Args:
        attempt: The attempt whose staging folder holds the file.
        schema: Columns of the changes in the lake's names.
        key: The columns that identify a row of the table.
    """

    def __init__(self, attempt: Attempt, schema: Schema, key: Sequence[str]) -> None:
        self._attempt = attempt
        self._key = tuple(key)
        taken = {name.casefold() for name in schema.names}
        self._gone = next(name for number in count() if (name := f"gone{number}") not in taken)
        self._schema = Schema((*schema, Column(self._gone, Primitive.BOOLEAN)))
        self._arrow = arrow_schema(self._schema)
        self._batches: list[pa.RecordBatch] = []
        self._waiting = self._waiting_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def write(self, batch: pa.RecordBatch, *, gone: Flags) -> None:
        """Add changes in the order in which they came; `gone` marks the deletions.

        Raises:
            WriteError: The disk is full or not writable.
        """
        self._batches.append(pa.RecordBatch.from_arrays([*batch.columns, pa.array(gone)], schema=self._arrow))
        self.rows += batch.num_rows
        self._waiting += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting >= _BUFFERED_ROWS or self._waiting_bytes >= _BUFFERED_BYTES:
            self._flush()

    def last(self) -> Iterator[tuple[pa.RecordBatch, pa.BooleanArray]]:
        """Yield the last change of each key, and which of them are deletions; no change can be added any more.

        Raises:
            WriteError: Memory and disk do not suffice.
        """
        self._flush()
        self.close()
        if not self.rows:
            return
        path = self._attempt.path(_NAME)
        whole = Candidate("changes", str(path), self.rows, ())
        numbers = new_rows([whole], self._schema, key=self._key, spill=self._attempt.path("spill"))["changes"]
        for batch in copy_rows(path, numbers):
            yield batch.drop_columns([self._gone]), cast("pa.BooleanArray", batch.column(self._gone))

    def close(self) -> None:
        """Close the file; it is removed with the attempt's staging folder."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._attempt.writing():
                writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flush(self) -> None:
        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches, schema=self._arrow).combine_chunks()
        self._batches, self._waiting, self._waiting_bytes = [], 0, 0
        with self._attempt.writing():
            if self._writer is None:
                # The file is read once and removed, so writing it fast matters more than its size.
                self._writer = pq.ParquetWriter(self._attempt.path(_NAME), self._arrow, compression="lz4")
            self._writer.write_table(table)
