"""Decode response rows into Arrow record batches, by the fastest reader that can prove its result."""

# Three readers, each slower and more general: values by their positions in the bytes, columns of typed JSON,
# and rows one by one. The first two agree with the third or refuse, so results and errors do not depend on the
# reader.

from __future__ import annotations

import gc
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
import pyarrow as pa

from ksql_lake.decode.arrow_columns import ColumnReader
from ksql_lake.decode.encodings import WRAPPER
from ksql_lake.decode.exact import ExactReader
from ksql_lake.decode.leaves import LeafReader
from ksql_lake.decode.nested import NestedBlock, columns_reader, readable
from ksql_lake.decode.spans import Positions, Text, require_utf8
from ksql_lake.decode.structure import LEVEL, Layout, layout, without_escapes
from ksql_lake.errors import DecodeError, SchemaError
from ksql_lake.schema import Array, Decimal, KsqlType, Primitive, Schema, Struct, arrow_schema

_lock = threading.Lock()
_inside = 0
_was_enabled = False

PLACED_PIECE = 1 << 24
"""Bytes that are read together; their arrays of positions take several times as much memory."""

PLACED_LEAST = 100_000
"""Below this many bytes, a thousand array operations cost more than they save."""

COLUMN_PIECE = 1 << 19
"""Bytes per JSON parse: with fewer, Arrow's calls cost more; with more, Python's objects leave the cache."""

_LONGEST_REST = 64
"""The most pieces that the reader by positions skips after it has refused one."""


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's garbage collector; nested and concurrent uses share one pause, which the last one ends."""
    global _inside, _was_enabled  # noqa: PLW0603 - the collector is one per process, so is its pause
    with _lock:
        if _inside == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _was_enabled:
                gc.enable()


class PlacedReader:
    """Decodes blocks of plain rows.

    Args:
        schema: The response's columns.
        arrow: The same columns as an Arrow schema.
    """

    def __init__(self, schema: Schema, arrow: pa.Schema) -> None:
        kinds = [column.type for column in schema]
        self._arrow = arrow
        scalars = {n: kind for n, kind in enumerate(kinds) if isinstance(kind, Primitive | Decimal)}
        wrapped = {n: inside for n, kind in enumerate(kinds) if (inside := _wrapped(kind)) is not None}
        self._nested = len(scalars) < len(kinds)
        self._read = columns_reader(kinds) if all(map(readable, kinds)) else None
        # Rows of plain and wrapped values only have no more commas than columns.
        self._wrapped = list(wrapped) if wrapped and len(scalars) + len(wrapped) == len(kinds) else []
        self._leaves = LeafReader(scalars), LeafReader(wrapped, in_struct=True)

    def read(self, data: Text, breaks: Positions | None = None) -> pa.RecordBatch:
        """Decode a block of rows into a batch.

        Args:
            data: Row objects, a comma and a newline between them.
            breaks: Positions of the newlines, if frames and control characters are already proven right.

        Raises:
            ValueError: This reader cannot prove its result for the block.
        """
        if self._read is None:
            raise ValueError("a MAP with keys that are not STRING, or an unusual field name")
        plain = without_escapes(data)
        escaped = plain is not data  # and shorter: the known positions no longer fit
        found = layout(
            plain,
            len(self._arrow),
            nested=self._nested and not self._wrapped,
            escaped=escaped,
            breaks=None if escaped else breaks,
            wrapped=self._wrapped,
        )
        require_utf8(plain)
        rows = NestedBlock(found.spans.block, found.brackets, found.spans.quotes)
        arrays = self._unwrapped(found) if self._wrapped else self._read(rows, found.spans, LEVEL)
        if rows.quotes != found.quotes:
            raise ValueError("a quotation mark inside a value")
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def _unwrapped(self, found: Layout) -> list[pa.Array]:
        plain, inside = (leaves.read(found.spans) for leaves in self._leaves)
        if found.unwrapped is None:
            raise AssertionError("wrapped values in a layout without them")
        for number, (column, array) in enumerate(inside.items()):
            whole = found.unwrapped[:, number]
            missing = None if whole.all() else pa.array(~whole)
            fields = list(self._arrow.field(column).type)
            plain[column] = pa.StructArray.from_arrays([array], fields=fields, mask=missing)
        return [plain[column] for column in range(len(self._arrow))]


def _wrapped(kind: KsqlType) -> Primitive | Decimal | None:
    """Return the type inside a wrapper; None for a type that is no wrapper."""
    match kind:
        case Struct(((name, Primitive() | Decimal() as inside),)) if name == WRAPPER:
            return inside
        case _:
            return None


class RowDecoder:
    """Decodes blocks of rows of one response; keeps no rows, and may be used by several threads.

    Of two equal keys in a JSON object the last one counts, as in every JSON parser (no server sends such keys);
    of a MAP sent as pairs all entries are kept.

    Args:
        schema: The response's columns.
        replace: Whether half a surrogate pair in a text becomes U+FFFD instead of an error.
        identifying: Columns in which it stays an error: rows are told apart by these.

    Raises:
        SchemaError: A column's type cannot be stored or cannot be read back from what the server writes.
    """

    def __init__(self, schema: Schema, *, replace: bool = False, identifying: Collection[str] = ()) -> None:
        self.arrow_schema: pa.Schema = arrow_schema(schema)
        _refuse_unreadable(schema)
        self._placed = PlacedReader(schema, self.arrow_schema)
        self._columns = ColumnReader(schema, self.arrow_schema)
        self._exact = ExactReader(schema, self.arrow_schema, replace=replace, identifying=identifying)
        self._doubts = 0
        self._resting = 0
        self._objects = Lock()

    @property
    def replaced(self) -> int:
        """How many texts had half a surrogate pair replaced."""
        return self._exact.replaced

    def decode(
        self, data: Text, *, count: int, first_row: int, breaks: Positions | None = None
    ) -> pa.RecordBatch:
        """Decode one block.

        Args:
            data: Row objects as sent, one per line, with a comma at each line's end but the last.
            count: How many rows `data` holds.
            first_row: 0-based number of the block's first row in the response; messages count from 1.
            breaks: Positions of the newlines between the rows, if each row is already proven to be in the v1
                frame and there are no other control characters; for speed only.

        Raises:
            DecodeError: Names the first bad row, its first bad column and the value; or there are not `count`
                rows.
        """
        pieces = list(_pieces(bytes(data), PLACED_PIECE)) if len(data) > PLACED_PIECE else [data]
        plain = [self._read_placed(piece, breaks if piece is data else None) for piece in pieces]
        if sum(batch.num_rows if batch is not None else 0 for batch in plain) != count:
            _check_count(data, count, first_row)
        batches: list[pa.RecordBatch] = []
        for batch, piece in zip(plain, pieces, strict=True):
            for part in self._read_columns(piece, first_row) if batch is None else (batch,):
                batches.append(part)
                first_row += part.num_rows
        return batches[0] if len(batches) == 1 else pa.concat_batches(batches)

    def _read_columns(self, data: Text, first_row: int) -> Iterator[pa.RecordBatch]:
        if not data:
            yield self._exact.read((), first_row=first_row)
            return
        for part in _pieces(bytes(data), COLUMN_PIECE):
            lines = _lines(part)
            # Readers of Python objects would wait for each other and push each other's data out of the cache.
            with self._objects:
                try:
                    with collector_paused():
                        batch = self._columns.read(lines)
                except (ValueError, OverflowError, RecursionError):
                    # A value is unusual or wrong: the exact reader decides, and names the place.
                    batch = self._exact.read(lines, first_row=first_row)
            first_row += batch.num_rows
            yield batch

    def _read_placed(self, data: Text, breaks: Positions | None) -> pa.RecordBatch | None:
        if len(data) < PLACED_LEAST:
            return None
        if self._resting > 0:
            self._resting -= 1
            return None
        try:
            batch = self._placed.read(data, breaks)
        except ValueError:
            # An unusual value (`\u0001`, the year 10000) in one piece is often in the next ones too, so skip
            # more pieces each time.
            self._doubts += 1
            self._resting = min(2**self._doubts - 1, _LONGEST_REST)
            return None
        self._doubts = 0
        return batch


def _check_count(data: Text, count: int, first_row: int) -> None:
    found = int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n"))) + 1 if data else 0
    if found != count:
        raise DecodeError(
            f"a block of {count} rows holds {found}",
            hint="This is a defect of ksql-lake: please report it with the server's version.",
            row=first_row + 1,
        )


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Cut a block at line ends into pieces that are not much longer than `size` bytes."""
    begin = 0
    while (border := data.find(b"\n", begin + size)) >= 0:
        yield data[begin:border].removesuffix(b",")
        begin = border + 1
    yield data[begin:] if begin else data


def _lines(data: bytes) -> list[bytes]:
    """Return the rows of a block, each without the comma before the next."""
    rows = data.split(b",\n")
    if len(rows) == data.count(b"\n") + 1:
        return rows
    *lines, last = data.split(b"\n")
    return [*(line.removesuffix(b",") for line in lines), last]


def _refuse_unreadable(schema: Schema) -> None:
    """Raise for types of MAP keys that the server writes as Java's text for an object, which is unreadable."""
    for column in schema:
        kind: KsqlType = column.type
        while not isinstance(kind, (Primitive, Decimal, Struct)):
            if isinstance(kind, Array):
                kind = kind.element
                continue
            if not isinstance(kind.key, (Primitive, Decimal)):
                raise SchemaError(
                    f"the server writes the keys of {kind.text} in a form that cannot be read back",
                    hint="Leave the column out: name the wanted ones in the feed's `columns`.",
                    column=column.name,
                )
            kind = kind.value
