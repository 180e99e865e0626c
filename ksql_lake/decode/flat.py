"""Rows without nested values, read by Arrow's CSV parser once their bytes are proven to mean the same in CSV.

It refuses a block on any doubt, by ValueError; the other readers then decide, so that the result never depends
on this path having been taken.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pacsv

from ksql_lake.decode import times
from ksql_lake.decode.base64 import binaries
from ksql_lake.decode.decimals import decimals
from ksql_lake.decode.proof import prove_column, prove_points
from ksql_lake.decode.structure import UNESCAPE, Layout, Workspace, layout, without_escapes
from ksql_lake.schema import Decimal, KsqlType, Primitive, Schema, arrow_type

_CSV_TYPES: dict[KsqlType, pa.DataType] = {
    Primitive.BYTES: pa.string(),  # base64 is not CSV's business
    Primitive.TIMESTAMP: pa.timestamp("ms"),  # with a zone, CSV would demand one in the text
}


_POOL = pa.system_memory_pool()
"""Arrow's own pool gives memory back at once and pays for it anew with every block."""


class FlatReader:
    """Decodes blocks of plain rows.

    Args:
        schema: The response's columns, none of them ARRAY, MAP or STRUCT.
        arrow: The same as Arrow has it.
    """

    def __init__(self, schema: Schema, arrow: pa.Schema) -> None:
        self._arrow = arrow
        self._kinds = [column.type for column in schema]
        self._space = Workspace()
        names = [str(number) for number in range(len(self._kinds))]
        self._names = ["before", *names]
        self._parse = pacsv.ParseOptions(double_quote=False, newlines_in_values=False, ignore_empty_lines=False)
        self._convert = pacsv.ConvertOptions(
            column_types={name: _csv_type(kind) for name, kind in zip(names, self._kinds, strict=True)},
            include_columns=names,
            null_values=["null"],
            true_values=["true"],
            false_values=["false"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def read(self, data: bytes) -> pa.RecordBatch:
        """Decode a block of rows into a batch.

        Args:
            data: Row objects, a comma and a newline between them.

        Raises:
            ValueError: The block cannot be proven to be read right this way.
        """
        plain = without_escapes(data)
        found = layout(plain, len(self._kinds), controls=plain is not data, space=self._space)
        doubles = [
            fields for kind, fields in zip(self._kinds, found.columns, strict=True) if kind == Primitive.DOUBLE
        ]
        prove_points(found, doubles)
        table = self._read_csv(found)
        quoted = 0
        arrays = []
        for kind, column, fields in zip(self._kinds, table.columns, found.columns, strict=True):
            array = column.combine_chunks()
            quoted += prove_column(kind, fields, array)
            arrays.append(_finished(kind, array, escaped=plain is not data))
        if found.quotes != 2 * quoted:
            raise ValueError("a quotation mark inside a value")
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def _read_csv(self, found: Layout) -> pa.Table:
        table = pacsv.read_csv(
            pa.BufferReader(pa.py_buffer(found.text)[: found.size]),
            read_options=pacsv.ReadOptions(block_size=found.size, column_names=self._names),
            parse_options=self._parse,
            convert_options=self._convert,
            memory_pool=_POOL,
        )
        if table.num_rows != found.rows:
            raise ValueError("CSV and JSON see different rows")
        return table


def _csv_type(kind: KsqlType) -> pa.DataType:
    if isinstance(kind, Decimal) and kind.scale == 0:
        return pa.string()  # nothing in the form of a whole number rules out an exponent
    return _CSV_TYPES.get(kind) or arrow_type(kind)


def _finished(kind: KsqlType, array: pa.Array, *, escaped: bool) -> pa.Array:
    """Turn what the CSV parser gave into the column's own type."""
    match kind:
        case Decimal(_, 0):
            return decimals(array, kind)
        case Primitive.TIMESTAMP:
            return times.from_java_calendar(array)
        case Primitive.BYTES:
            return binaries(array)
        case Primitive.STRING if escaped:
            valid, offsets, data = array.buffers()
            text = data.to_pybytes().translate(UNESCAPE)
            return pa.StringArray.from_buffers(
                len(array), offsets, pa.py_buffer(text), valid, offset=array.offset
            )
        case _:
            return array
