"""Decode nested values by their positions in the bytes, one column at a time, at any depth."""

# In doubt it raises ValueError, also for fields in another order than the schema's; the other readers then
# decide.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode.brackets import LIST, OPEN, Brackets, Level
from ksql_lake.decode.leaves import LeafReader
from ksql_lake.decode.spans import Block, Mask, Positions, Spans, texts_between
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct, arrow_type

_PLAIN_NAME = frozenset(map(chr, range(ord(" "), 127))) - set('"\\')
_MANY_ENTRIES = 16
"""In MAPs of at most this many entries each is compared with all others."""


@dataclass(slots=True)
class NestedBlock:
    """A block that is being read into arrays.

    Attributes:
        block: The bytes.
        brackets: The block's brackets; None if no column is nested.
        quotes: How many quotation marks begin and end values and names so far.
    """

    block: Block
    brackets: Brackets | None
    quotes: int = 0

    def spans(self, start: Positions, end: Positions) -> Spans:
        """Return the spans of values."""
        spans = Spans.of_columns(self.block, start, end)
        self.quotes += spans.quotes
        return spans

    def pairs(self, values: _Values, opening: int) -> Level:
        """Return the marks of the level inside some values, and which of them begin and end each value."""
        if self.brackets is None:
            raise AssertionError("nested values in a block that must have none")
        return self.brackets.pairs(values.level, values.start, values.end, opening)


@dataclass(frozen=True, slots=True)
class _Values:
    """A column of nested values.

    Attributes:
        start: Position of the first byte of each value that is not null.
        end: Position after the last byte of each.
        null: Which of all values are null; None if none is.
        level: The level of the marks inside them.
        arrow: The values' Arrow type.
    """

    start: Positions
    end: Positions
    null: Mask | None
    level: int
    arrow: pa.DataType

    @classmethod
    def of(cls, spans: Spans, column: int, level: int, arrow: pa.DataType) -> _Values:
        """Return one column of some values."""
        null = spans.nulls(column)
        there = slice(None) if null is None else ~null
        return cls(spans.start[column][there], spans.end[column][there], null, level, arrow)

    @property
    def mask(self) -> pa.Array | None:
        """Return which values are null, as Arrow's mask."""
        return None if self.null is None else pa.array(self.null)

    def offsets(self, counts: Positions) -> pa.Array:
        """Return the offsets of each value's elements among those of all; null values have no elements."""
        if self.null is not None:
            counts, present = np.zeros(len(self.null), np.int64), counts
            counts[~self.null] = present
        offsets = np.zeros(len(counts) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        return pa.array(offsets)


Columns = Callable[[NestedBlock, Spans, int], list[pa.Array]]
"""Reads all columns of values between the marks of a level."""
Build = Callable[[NestedBlock, _Values], pa.Array]
"""Reads one nested column, which is not all null."""


def readable(kind: KsqlType, *, in_struct: bool = False) -> bool:
    """Whether this reader supports a type."""
    match kind:
        case Array(element):
            return readable(element, in_struct=in_struct)
        case Map(key, value):
            return key == Primitive.STRING and readable(value, in_struct=in_struct)
        case Struct(fields):
            return all(
                _PLAIN_NAME.issuperset(name) and readable(inner, in_struct=True) for name, inner in fields
            )
        case _:
            return True


def columns_reader(kinds: Sequence[KsqlType], *, in_struct: bool = False) -> Columns:
    """Return the reader of several columns.

    Args:
        kinds: The columns' types.
        in_struct: Whether they are inside a STRUCT.
    """
    scalars = {n: kind for n, kind in enumerate(kinds) if isinstance(kind, Primitive | Decimal)}
    leaves = LeafReader(scalars, in_struct=in_struct)
    nested = {n: _builder(kind, in_struct=in_struct) for n, kind in enumerate(kinds) if n not in scalars}

    def read(rows: NestedBlock, spans: Spans, level: int) -> list[pa.Array]:
        arrays = leaves.read(spans)
        for column, build in nested.items():
            values = _Values.of(spans, column, level + 1, arrow_type(kinds[column]))
            arrays[column] = build(rows, values) if len(values.start) else pa.nulls(len(spans), values.arrow)
        return [arrays[column] for column in range(len(kinds))]

    return read


def _builder(kind: KsqlType, *, in_struct: bool) -> Build:
    match kind:
        case Array(element):
            return partial(_lists, read=columns_reader([element], in_struct=in_struct))
        case Map(key, value):
            return partial(_maps, read=columns_reader([key, value], in_struct=in_struct))
        case Struct(fields):
            read = columns_reader([inner for _, inner in fields], in_struct=True)
            return partial(_structs, names=[_Name(name) for name, _ in fields], read=read)
        case _:
            raise AssertionError(f"{kind} is not nested")


class _Name:
    """A field's name and colon before its value, as words for the comparison; the last word overlaps."""

    def __init__(self, name: str) -> None:
        literal = f'"{name}":'.encode()
        self.length = len(literal)
        size = 8 if self.length >= 8 else 4
        self.places = [*range(0, self.length - size, size), self.length - size]
        self.words = [int.from_bytes(literal[place : place + size], "little") for place in self.places]
        self.long = size == 8

    def require(self, block: Block, start: Positions) -> None:
        """Raise ValueError if the name is not there."""
        text = block.longs if self.long else block.words
        for place, word in zip(self.places, self.words, strict=True):
            if (text[start + place] != word).any():
                raise ValueError("a field of another name")


def _structs(rows: NestedBlock, values: _Values, *, names: list[_Name], read: Columns) -> pa.Array:
    marks = rows.pairs(values, OPEN)
    if (marks.closes - marks.opens != len(names)).any():
        raise ValueError("another number of fields")
    places = marks.place[marks.opens + np.arange(len(names) + 1)[:, np.newaxis]]
    start, end = places[:-1] + 1, places[1:]
    lengths = np.array([[name.length] for name in names])
    if (end - start <= lengths).any():
        raise ValueError("a field without a value")
    for name, begin in zip(names, start, strict=True):
        name.require(rows.block, begin)
    rows.quotes += 2 * len(names) * len(marks.opens)
    children = read(rows, rows.spans(start + lengths, end), values.level)
    if values.null is not None:
        taken = pa.array(np.cumsum(~values.null) - 1, mask=values.null)
        children = [child.take(taken) for child in children]
    return pa.StructArray.from_arrays(children, fields=list(values.arrow), mask=values.mask)


def _lists(rows: NestedBlock, values: _Values, *, read: Columns) -> pa.Array:
    counts, start, end = _elements(rows, values, LIST)
    (children,) = read(rows, rows.spans(start[np.newaxis], end[np.newaxis]), values.level)
    return pa.ListArray.from_arrays(values.offsets(counts), children, type=values.arrow, mask=values.mask)


def _maps(rows: NestedBlock, values: _Values, *, read: Columns) -> pa.Array:
    counts, start, end = _elements(rows, values, OPEN)
    # A name has no quotation mark inside, so the first one before a colon is its end.
    names = pc.find_substring(texts_between(rows.block, start + 1, end), '":').to_numpy()
    if (names < 0).any():
        raise ValueError("an entry without a name")
    spans = rows.spans(np.stack([start, start + names + 3]), np.stack([start + names + 2, end]))
    if not spans.quoted[0].all():
        raise ValueError("a name without quotation marks")
    keys, items = read(rows, spans, values.level)
    _require_distinct(cast("pa.StringArray", keys), counts)
    return pa.MapArray.from_arrays(values.offsets(counts), keys, items, type=values.arrow, mask=values.mask)


def _elements(rows: NestedBlock, values: _Values, opening: int) -> tuple[Positions, Positions, Positions]:
    """Return how many elements each value has, and the positions of all elements."""
    marks = rows.pairs(values, opening)
    counts = np.where(values.end - values.start == len("[]"), 0, marks.closes - marks.opens)
    ends = np.cumsum(counts)
    before = np.repeat(marks.opens - ends + counts, counts) + np.arange(ends[-1])
    return counts, marks.place[before] + 1, marks.place[before + 1]


def _require_distinct(keys: pa.StringArray, counts: Positions) -> None:
    """Prove that no MAP has a key twice; JSON would keep the last of them."""
    if not len(keys):
        return
    codes = keys.dictionary_encode().indices.to_numpy()
    owner = np.repeat(np.arange(len(counts)), counts)
    most = int(counts.max())
    if most > _MANY_ENTRIES:
        twice = len(np.unique(owner * (int(codes.max()) + 1) + codes)) != len(codes)
    else:
        twice = any(
            ((codes[lag:] == codes[:-lag]) & (owner[lag:] == owner[:-lag])).any() for lag in range(1, most)
        )
    if twice:
        raise ValueError("a key twice")
