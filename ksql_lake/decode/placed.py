"""Rows read by the places of their values in the bytes, flat or nested.

It refuses a block on any doubt, by ValueError; the other readers then decide, so that the result never depends
on this path having been taken.
"""

from __future__ import annotations

import pyarrow as pa

from ksql_lake.decode.nested import Rows, columns_reader, is_nested, readable
from ksql_lake.decode.spans import Positions, Text, require_utf8
from ksql_lake.decode.structure import LEVEL, layout, without_escapes
from ksql_lake.schema import Schema


class PlacedReader:
    """Decodes blocks of plain rows.

    Args:
        schema: The response's columns.
        arrow: The same as Arrow has it.
    """

    def __init__(self, schema: Schema, arrow: pa.Schema) -> None:
        kinds = [column.type for column in schema]
        self._arrow = arrow
        self._nested = any(map(is_nested, kinds))
        self._read = columns_reader(kinds) if all(map(readable, kinds)) else None

    def read(self, data: Text, breaks: Positions | None = None) -> pa.RecordBatch:
        """Decode a block of rows into a batch.

        Args:
            data: Row objects, a comma and a newline between them.
            breaks: Where the newlines stand, if frames and control characters are proven to be right.

        Raises:
            ValueError: The block cannot be proven to be read right this way.
        """
        if self._read is None:
            raise ValueError("a MAP with keys that are not STRING, or an unusual field name")
        plain = without_escapes(data)
        escaped = plain is not data  # and shorter: what is known of positions holds no longer
        found = layout(
            plain, len(self._arrow), nested=self._nested, escaped=escaped, breaks=None if escaped else breaks
        )
        require_utf8(plain)
        rows = Rows(found.spans.block, found.brackets, found.spans.quotes)
        arrays = self._read(rows, found.spans, LEVEL)
        if rows.quotes != found.quotes:
            raise ValueError("a quotation mark inside a value")
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)
