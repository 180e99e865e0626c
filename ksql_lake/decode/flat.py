"""Rows without nested values, read by the places of their values in the bytes.

It refuses a block on any doubt, by ValueError; the other readers then decide, so that the result never depends
on this path having been taken.
"""

from __future__ import annotations

import pyarrow as pa

from ksql_lake.decode.leaves import LeafReader
from ksql_lake.decode.spans import require_utf8
from ksql_lake.decode.structure import layout, with_escapes, without_escapes
from ksql_lake.schema import Decimal, Primitive, Schema


class FlatReader:
    """Decodes blocks of plain rows.

    Args:
        schema: The response's columns, none of them ARRAY, MAP or STRUCT.
        arrow: The same as Arrow has it.
    """

    def __init__(self, schema: Schema, arrow: pa.Schema) -> None:
        self._arrow = arrow
        kinds = {number: column.type for number, column in enumerate(schema)}
        self._leaves = LeafReader(
            {n: kind for n, kind in kinds.items() if isinstance(kind, Primitive | Decimal)}
        )

    def read(self, data: bytes) -> pa.RecordBatch:
        """Decode a block of rows into a batch.

        Args:
            data: Row objects, a comma and a newline between them.

        Raises:
            ValueError: The block cannot be proven to be read right this way.
        """
        plain = without_escapes(data)
        spans = layout(plain, len(self._arrow), controls=plain is not data)
        require_utf8(plain)
        arrays = self._leaves.read(spans, finish=with_escapes if plain is not data else _as_it_is)
        columns = [arrays[number] for number in range(len(arrays))]
        return pa.RecordBatch.from_arrays(columns, schema=self._arrow)


def _as_it_is(texts: pa.StringArray) -> pa.StringArray:
    return texts
