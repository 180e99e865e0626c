"""Rows with nested values, read by the places of their values in the bytes, a whole column at a time at every depth.

The fields of all STRUCTs of a column are columns of their own, and so are the elements of all ARRAYs and the keys
and values of all MAPs. It refuses a block on any doubt, by ValueError, fields in another order than the schema's
included; the other readers then decide, so that the result never depends on this path having been taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from ksql_lake.decode.brackets import COLON, LIST, OPEN, Brackets, Level, pattern
from ksql_lake.decode.leaves import Convert, LeafReader
from ksql_lake.decode.spans import COMMA, Block, Mask, Positions, Spans
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct, arrow_type

_PLAIN_NAME = frozenset(map(chr, range(ord(" "), 127))) - set('"\\')
_MANY_ENTRIES = 16
"""Entries of a MAP up to which each is compared with all others."""


@dataclass(slots=True)
class Rows:
    """A block on its way into arrays.

    Attributes:
        block: The bytes.
        brackets: Its brackets; None where no column is nested.
        finish: What is still to be done with the texts of STRING columns.
        quotes: How many quotation marks were found to begin and end values and names.
    """

    block: Block
    brackets: Brackets | None
    finish: Convert
    quotes: int = 0

    def spans(self, start: Positions, end: Positions) -> Spans:
        """Look at values."""
        spans = Spans(self.block, start, end)
        self.quotes += spans.quotes
        return spans

    def pairs(self, level: int, start: Positions, end: Positions) -> tuple[Level, Positions, Positions]:
        """Give the marks of a level, and which of them begin and end some values."""
        if self.brackets is None:
            raise AssertionError("nested values in a block that was said to have none")
        return self.brackets.level(level), *self.brackets.pairs(level, start, end)


Columns = Callable[[Rows, Spans, int], list[pa.Array]]
"""Reads all columns of some values that lie between marks of a level."""
Column = Callable[[Rows, Spans, int, int], pa.Array]
"""Reads one column of some values that lie between marks of a level."""


def readable(kind: KsqlType, *, in_struct: bool = False) -> bool:
    """Whether values of a type can be read this way at all."""
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


def is_nested(kind: KsqlType) -> bool:
    """Whether values of a type have brackets."""
    return not isinstance(kind, Primitive | Decimal)


def columns_reader(kinds: Sequence[KsqlType], *, in_struct: bool = False) -> Columns:
    """Give the reader of values side by side.

    Args:
        kinds: Their types.
        in_struct: Whether a STRUCT is around them.
    """
    scalars = {n: kind for n, kind in enumerate(kinds) if isinstance(kind, Primitive | Decimal)}
    leaves = LeafReader(scalars, in_struct=in_struct)
    nested = {n: _nested_reader(kind, in_struct=in_struct) for n, kind in enumerate(kinds) if n not in scalars}

    def read(rows: Rows, spans: Spans, level: int) -> list[pa.Array]:
        arrays = leaves.read(spans, finish=rows.finish)
        arrays |= {column: reader(rows, spans, column, level) for column, reader in nested.items()}
        return [arrays[column] for column in range(len(kinds))]

    return read


def _nested_reader(kind: KsqlType, *, in_struct: bool) -> Column:
    arrow = arrow_type(kind)
    match kind:
        case Array(element):
            return partial(_lists, arrow=arrow, read=columns_reader([element], in_struct=in_struct))
        case Map(key, value):
            return partial(_maps, arrow=arrow, read=columns_reader([key, value], in_struct=in_struct))
        case Struct(fields):
            names = [_Name(name) for name, _ in fields]
            read = columns_reader([inner for _, inner in fields], in_struct=True)
            return partial(_structs, arrow=arrow, names=names, read=read)
        case _:
            raise AssertionError(f"{kind} is not nested")


class _Name:
    """A field's name in quotation marks, as words to be compared."""

    def __init__(self, name: str) -> None:
        literal = f'"{name}"'.encode()
        self.length = len(literal)
        parts = [literal[begin : begin + 8] for begin in range(0, len(literal), 8)]
        self.words = [np.uint64(int.from_bytes(part, "little")) for part in parts]
        self.masks = [np.uint64((1 << 8 * len(part)) - 1) for part in parts]

    def require(self, block: Block, start: Positions, end: Positions) -> None:
        """Raise ValueError where the name does not stand."""
        if (end - start != self.length).any():
            raise ValueError("a field of another name")
        for number, (word, mask) in enumerate(zip(self.words, self.masks, strict=True)):
            if ((block.longs[start + 8 * number] & mask) != word).any():
                raise ValueError("a field of another name")


def _structs(
    rows: Rows, spans: Spans, column: int, level: int, *, arrow: pa.DataType, names: list[_Name], read: Columns
) -> pa.Array:
    null, start, end = _present(rows, spans, column, OPEN)
    if not len(start):
        return pa.nulls(len(spans), arrow)
    marks, opens, closes = rows.pairs(level + 1, start, end)
    expected = pattern(len(names))
    if (closes - opens != len(expected) - 1).any():
        raise ValueError("another number of fields")
    of_each = opens + np.arange(len(expected))[:, np.newaxis]
    if (marks.code[of_each] != expected[:, np.newaxis]).any():
        raise ValueError("an object of another form")
    places = marks.place[of_each]
    for number, name in enumerate(names):
        name.require(rows.block, places[2 * number] + 1, places[2 * number + 1])
    rows.quotes += 2 * len(names) * len(start)
    children = read(rows, rows.spans(places[1::2] + 1, places[2::2]), level + 1)
    if null is None:
        return pa.StructArray.from_arrays(children, fields=list(arrow))
    missing = pa.array(null)
    taken = pa.array(np.cumsum(~null) - 1, mask=null)
    return pa.StructArray.from_arrays(
        [child.take(taken) for child in children], fields=list(arrow), mask=missing
    )


def _lists(rows: Rows, spans: Spans, column: int, level: int, *, arrow: pa.DataType, read: Columns) -> pa.Array:
    null, start, end = _present(rows, spans, column, LIST)
    if not len(start):
        return pa.nulls(len(spans), arrow)
    marks, opens, closes = rows.pairs(level + 1, start, end)
    counts = np.where(end - start == len("[]"), 0, closes - opens)
    before = _runs(opens, counts)
    # Between the brackets of a list stand commas and nothing else.
    if np.count_nonzero(marks.code[before] == COMMA) != len(before) - np.count_nonzero(counts):
        raise ValueError("a list of another form")
    elements = rows.spans(*_between(marks.place, before))
    (children,) = read(rows, elements, level + 1)
    return pa.ListArray.from_arrays(_offsets(null, counts), children, type=arrow, mask=_mask(null))


def _maps(rows: Rows, spans: Spans, column: int, level: int, *, arrow: pa.DataType, read: Columns) -> pa.Array:
    null, start, end = _present(rows, spans, column, OPEN)
    if not len(start):
        return pa.nulls(len(spans), arrow)
    marks, opens, closes = rows.pairs(level + 1, start, end)
    counts = np.where(end - start == len("{}"), 0, closes - opens)
    before = _runs(opens, counts)
    if len(before) % 2 or (counts % 2).any() or (marks.code[before[1::2]] != COLON).any():
        raise ValueError("an object of another form")
    if np.count_nonzero(marks.code[before[0::2]] == COMMA) != len(before) // 2 - np.count_nonzero(counts):
        raise ValueError("an object of another form")
    begin, finish = _between(marks.place, before)
    entries = rows.spans(begin.reshape(-1, 2).T, finish.reshape(-1, 2).T)
    if entries.nulls(0) is not None:
        raise ValueError("a key that is null")
    keys, items = read(rows, entries, level + 1)
    counts //= 2
    _require_distinct(keys, counts)
    return pa.MapArray.from_arrays(_offsets(null, counts), keys, items, type=arrow, mask=_mask(null))


def _present(rows: Rows, spans: Spans, column: int, bracket: int) -> tuple[Mask | None, Positions, Positions]:
    """Give which values are null, and where the others begin and end; each must begin with the bracket."""
    null = spans.nulls(column)
    start, end, first = spans.start[column], spans.end[column], spans.first[column]
    if null is not None:
        start, end, first = start[~null], end[~null], first[~null]
    if (first != bracket).any():
        raise ValueError("a nested value of another kind")
    return null, start, end


def _runs(begins: Positions, counts: Positions) -> Positions:
    """Give begin, begin + 1, ... of each run, as many as it has."""
    ends = np.cumsum(counts)
    return np.repeat(begins - ends + counts, counts) + np.arange(ends[-1])


def _between(place: Positions, before: Positions) -> tuple[Positions, Positions]:
    """Give where the values after some marks begin and end."""
    return place[before][np.newaxis] + 1, place[before + 1][np.newaxis]


def _offsets(null: Mask | None, counts: Positions) -> pa.Array:
    """Give where the entries of each value begin among those of all, those of null values included."""
    if null is not None:
        counts, present = np.zeros(len(null), np.int64), counts
        counts[~null] = present
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.array(offsets)


def _mask(null: Mask | None) -> pa.Array | None:
    return None if null is None else pa.array(null)


def _require_distinct(keys: pa.StringArray, counts: Positions) -> None:
    """Prove that no MAP has a key twice, of which JSON would keep the last."""
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
