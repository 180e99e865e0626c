"""Assemble columns that were sent wrapped in a STRUCT or in parts."""

# A value is sent with its DECIMALs as doubles and with the exact ones beside it; each exact one must round to
# its double. Without an exact one the double is used only if a single DECIMAL can have become it.

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode.encodings import ELEMENTS, KEYS, VALUES, Path, Step
from ksql_lake.decode.literals import INEXACT
from ksql_lake.decode.text_columns import certain_decimals
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct, arrow_type

_SAME = 2.0**-48
"""Greatest relative difference of an exact DECIMAL and its double; a mix-up of values differs far more."""
_MIXED_UP = "This is a defect of ksql-lake or of the server: please report it with the server's version."

Parts = Mapping[Path, pa.Array]


class Unfit(ValueError):  # noqa: N818 - internal to this package; its callers see DecodeError
    """A value that cannot be assembled.

    Attributes:
        path: Path inside its column.
        hint: What to do next.
    """

    def __init__(self, message: str, path: Path, hint: str) -> None:
        super().__init__(message)
        self.path = path
        self.hint = hint


def as_sent(kind: KsqlType, *, in_struct: bool = False) -> KsqlType:
    """Return the type of a value as sent: a DECIMAL inside a STRUCT is sent as a DOUBLE."""
    match kind:
        case Decimal() if in_struct:
            return Primitive.DOUBLE
        case Array(element):
            return Array(as_sent(element, in_struct=in_struct))
        case Map(key, value):
            return Map(as_sent(key, in_struct=in_struct), as_sent(value, in_struct=in_struct))
        case Struct(fields):
            return Struct(tuple((name, as_sent(inner, in_struct=True)) for name, inner in fields))
        case _:
            return kind


def assembled(
    kind: KsqlType, value: pa.Array, parts: Parts, path: Path = (), *, in_struct: bool = False
) -> pa.Array:
    """Return a column's values with their parts put in.

    Args:
        kind: The column's type in the source.
        value: Its values as sent.
        parts: Path -> exact values, one per value of the column; those inside an ARRAY or MAP are lists.
        path: Path of the values inside their column.
        in_struct: Whether they are inside a STRUCT.

    Raises:
        Unfit: Several DECIMALs can have become a double, or an exact DECIMAL does not round to its double.
    """
    match kind:
        case Decimal() if in_struct:
            return _decimals(kind, value, parts.get(path), path)
        case Struct(fields):
            children = [
                assembled(inner, child, parts, (*path, Step("field", name)), in_struct=True)
                for (name, inner), child in zip(fields, cast("pa.StructArray", value).flatten(), strict=True)
            ]
            return pa.StructArray.from_arrays(children, fields=list(arrow_type(kind)), mask=_mask(value))
        case Array(element):
            below = (*path, ELEMENTS)
            lists = {way: _elements(part, value) for way, part in parts.items() if _within(way, below)}
            sent = cast("pa.ListArray", value).flatten()
            items = assembled(element, sent, lists, below, in_struct=in_struct)
            return pa.ListArray.from_arrays(_offsets(value), items, type=arrow_type(kind), mask=_mask(value))
        case Map():
            return _map(kind, value, parts, path, in_struct=in_struct)
        case _:
            return value


def _map(kind: Map, value: pa.Array, parts: Parts, path: Path, *, in_struct: bool) -> pa.Array:
    below = (*path, VALUES)
    entries = _entries(cast("pa.MapArray", value))
    keys, items = cast("pa.StructArray", entries.flatten()).flatten()
    lists: dict[Path, pa.Array] = {}
    names = parts.get((*path, KEYS))
    if names is not None:
        places = _places(keys, entries, names)
        lists = {way: _elements(part, names).take(places) for way, part in parts.items() if _within(way, below)}
    keys = assembled(kind.key, keys, {}, (*path, KEYS), in_struct=in_struct)
    items = assembled(kind.value, items, lists, below, in_struct=in_struct)
    return pa.MapArray.from_arrays(_offsets(entries), keys, items, type=arrow_type(kind), mask=_mask(value))


def _decimals(kind: Decimal, doubles: pa.Array, exact: pa.Array | None, path: Path) -> pa.Array:
    if exact is None:
        return _certain(kind, doubles, path)
    missing = doubles.is_valid().to_numpy(False) & exact.is_null().to_numpy(False)
    known = exact.is_valid().to_numpy(False)
    values = doubles.fill_null(np.nan).to_numpy()
    rounded = exact.cast(pa.float64()).fill_null(0.0).to_numpy()
    near = np.abs(rounded - values) <= np.abs(values) * _SAME  # NaN, a missing value, is near no number
    if not near[known].all():
        place = int(np.flatnonzero(known & ~near)[0])
        raise Unfit(
            f"{exact[place].as_py()} came beside a value of {doubles[place].as_py()!r}", path, _MIXED_UP
        )
    if not missing.any():
        return exact
    rest = _certain(kind, pc.if_else(pa.array(missing), doubles, pa.scalar(None, pa.float64())), path)
    return pc.coalesce(exact, rest)


def _certain(kind: Decimal, doubles: pa.Array, path: Path) -> pa.Array:
    found, certain = certain_decimals(cast("pa.DoubleArray", doubles), kind)
    if not certain.all():
        number = doubles[int(np.flatnonzero(~certain)[0])].as_py()
        raise Unfit(f"{number!r} may have been another {kind.text}", path, INEXACT)
    return found


def _elements(part: pa.Array, like: pa.Array) -> pa.Array:
    """Return the elements of a part's lists; NULL where a list's length differs from that of its value."""
    wanted = pc.fill_null(pc.list_value_length(like), 0)
    there = pc.fill_null(pc.list_value_length(part), 0)
    items = cast("pa.ListArray", part).flatten()
    if wanted.equals(there):
        return items
    begins = np.cumsum(there.to_numpy()) - there.to_numpy()
    places: list[int | None] = []
    for begin, length, number in zip(begins.tolist(), there.to_pylist(), wanted.to_pylist(), strict=True):
        places += range(begin, begin + length) if length == number else [None] * number
    return items.take(pa.array(places, pa.int64()))


def _places(keys: pa.Array, entries: pa.Array, names: pa.Array) -> pa.Array:
    """Return, for each key of MAPs, the index of the same key of the same MAP among the keys sent beside it."""
    sent_keys = cast("pa.ListArray", names).flatten()
    lengths, others = pc.list_value_length(entries), pc.list_value_length(names)
    if pc.fill_null(lengths, 0).equals(pc.fill_null(others, 0)) and keys.equals(sent_keys):
        return pa.array(np.arange(len(keys)))
    found: dict[tuple[int, str], int] = {}
    number = 0
    sent = sent_keys.to_pylist()
    for row, length in enumerate(others.to_pylist()):
        for _ in range(length or 0):
            found[row, sent[number]] = number
            number += 1
    wanted = iter(keys.to_pylist())
    rows = ((row, next(wanted)) for row, length in enumerate(lengths.to_pylist()) for _ in range(length or 0))
    return pa.array([found.get(entry) for entry in rows], pa.int64())


def _within(way: Path, below: Path) -> bool:
    return way[: len(below)] == below


def _entries(value: pa.MapArray) -> pa.ListArray:
    """Return MAPs as lists of their entries."""
    kind = pa.list_(pa.struct([pa.field("key", value.type.key_type, nullable=False), value.type.item_field]))
    return cast("pa.ListArray", value.cast(kind))


def _offsets(value: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(value), 0).to_numpy()
    return pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))


def _mask(value: pa.Array) -> pa.Array | None:
    return value.is_null() if value.null_count else None
