"""Rows read by the places of their values in the bytes, flat or nested.

It refuses a block on any doubt, by ValueError; the other readers then decide, so that the result never depends
on this path having been taken.
"""

from __future__ import annotations

import pyarrow as pa

from ksql_lake.decode.forms import WRAPPER
from ksql_lake.decode.leaves import LeafReader
from ksql_lake.decode.nested import Rows, columns_reader, readable
from ksql_lake.decode.spans import Positions, Text, require_utf8
from ksql_lake.decode.structure import LEVEL, Layout, layout, without_escapes
from ksql_lake.schema import Decimal, KsqlType, Primitive, Schema, Struct


class PlacedReader:
    """Decodes blocks of plain rows.

    Args:
        schema: The response's columns.
        arrow: The same as Arrow has it.
    """

    def __init__(self, schema: Schema, arrow: pa.Schema) -> None:
        kinds = [column.type for column in schema]
        self._arrow = arrow
        scalars = {n: kind for n, kind in enumerate(kinds) if isinstance(kind, Primitive | Decimal)}
        wrapped = {n: inside for n, kind in enumerate(kinds) if (inside := _wrapped(kind)) is not None}
        self._nested = len(scalars) < len(kinds)
        self._read = columns_reader(kinds) if all(map(readable, kinds)) else None
        # Rows of nothing but plain and wrapped values have no more commas than columns.
        self._wrapped = list(wrapped) if wrapped and len(scalars) + len(wrapped) == len(kinds) else []
        self._leaves = LeafReader(scalars), LeafReader(wrapped, in_struct=True)

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
            plain,
            len(self._arrow),
            nested=self._nested and not self._wrapped,
            escaped=escaped,
            breaks=None if escaped else breaks,
            wrapped=self._wrapped,
        )
        require_utf8(plain)
        rows = Rows(found.spans.block, found.brackets, found.spans.quotes)
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
    """Give the type inside of a wrapper; None for a type that is none."""
    match kind:
        case Struct(((name, Primitive() | Decimal() as inside),)) if name == WRAPPER:
            return inside
        case _:
            return None
