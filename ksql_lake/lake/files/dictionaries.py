"""Choose the columns that repeat their values, and encode those with a dictionary."""

# A dictionary on every column costs 20-40 % of the writing time, so a sample decides. It changes speed and
# size only.

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc

_SAMPLE_ROWS = 4096
_FEW_ROWS = 256
TELLING_ROWS = 1000
"""From this many rows on, a sample decides for other rows too."""
_DICTIONARY_SHARE = 0.25


class TextDictionaries:
    """Encodes the columns of texts that repeat; the first large enough sample decides which they are."""

    def __init__(self) -> None:
        self._chosen: frozenset[str] | None = None
        self._choosing = Lock()

    def encoded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the same rows with texts that repeat as dictionaries; columns that are one already stay."""
        return _encoded(batch, self._choice(batch))

    def _choice(self, batch: pa.RecordBatch) -> frozenset[str]:
        with self._choosing:
            if self._chosen is None and batch.num_rows >= TELLING_ROWS:
                sample = batch.slice(0, _SAMPLE_ROWS)
                self._chosen = frozenset(
                    field.name
                    for field, values in zip(batch.schema, sample.columns, strict=True)
                    if field.type == pa.string() and _repeats(values)
                )
            return self._chosen or frozenset()

    def table(self, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        """Join batches with one dictionary for all rows; batches from before the decision are encoded now."""
        chosen = self._choice(max(batches, key=len))
        if len(batches) == 1:
            return pa.Table.from_batches([_encoded(batches[0], chosen)])
        return pa.Table.from_batches([_encoded(batch, chosen) for batch in batches]).unify_dictionaries()


def _encoded(batch: pa.RecordBatch, chosen: frozenset[str]) -> pa.RecordBatch:
    schema = batch.schema
    plain = {name for name in chosen if schema.field(name).type == pa.string()}
    if not plain:
        return batch
    columns = [
        values.dictionary_encode() if name in plain else values
        for name, values in zip(schema.names, batch.columns, strict=True)
    ]
    fields = [field.with_type(values.type) for field, values in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, schema.metadata))


def plain_schema(schema: pa.Schema) -> dict[str, str]:
    """Return the footer entry that makes readers use the column types of a schema."""
    return {"ARROW:schema": base64.b64encode(schema.serialize()).decode()}


def dictionary_columns(table: pa.Table) -> list[str]:
    """Choose the leaf columns worth a dictionary from a sample: those whose values repeat."""
    sample = table.slice(0, _SAMPLE_ROWS)
    chosen = []
    for column in table.schema:
        if pa.types.is_dictionary(column.type):
            chosen.append(column.name)
            continue
        for path, values in leaves(column.name, sample.column(column.name).combine_chunks()):
            if len(values) and _repeats(values):
                chosen.append(path)
    return chosen


def text_columns(table: pa.Table) -> list[str]:
    """Return the leaf columns that hold texts or bytes."""
    texts = (pa.string(), pa.binary())
    return [
        path
        for column in table.schema
        if not pa.types.is_dictionary(column.type)
        for path, values in leaves(column.name, table.column(column.name).combine_chunks())
        if values.type in texts
    ]


def _repeats(values: pa.Array) -> bool:
    few = values.slice(0, _FEW_ROWS)
    # A small part of the sample shows most columns that do not repeat.
    if len(few) == _FEW_ROWS and pc.count_distinct(few).as_py() == _FEW_ROWS:
        return False
    distinct: int = pc.count_distinct(values).as_py()
    return distinct <= len(values) * _DICTIONARY_SHARE


def leaves(path: str, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Yield the Parquet columns of a column and their values, booleans left out."""
    if isinstance(values, pa.MapArray):  # also a ListArray
        yield from leaves(f"{path}.key_value.key", values.keys)
        yield from leaves(f"{path}.key_value.value", values.items)
    elif isinstance(values, pa.ListArray):
        yield from leaves(f"{path}.list.element", values.flatten())
    elif isinstance(values, pa.StructArray):
        for index in range(values.type.num_fields):
            yield from leaves(f"{path}.{values.type.field(index).name}", values.field(index))
    elif not pa.types.is_boolean(values.type):
        yield path, values
