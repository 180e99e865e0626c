"""Choose the form in which the server sends a column exactly: plain, in a STRUCT, or with parts beside it."""

# Outside a STRUCT ksqlDB drops the milliseconds of a TIME and the era of a TIMESTAMP; inside a STRUCT it sends
# a DECIMAL as a double.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct


class Step(NamedTuple):
    """One step into a value: to a field of a STRUCT, the elements of an ARRAY, the values or keys of a MAP."""

    into: Literal["field", "elements", "values", "keys"]
    name: str = ""


Path = tuple[Step, ...]
ELEMENTS, VALUES, KEYS = Step("elements"), Step("values"), Step("keys")
WRAPPER = "V"
"""The field that wraps a column."""


class ColumnReading(StrEnum):
    """The form in which a column's values in the lake were read; a later release may read them more exactly."""

    PLAIN = "plain"
    WRAPPED = "wrapped"
    BESIDE = "parts beside"
    BOTH = "wrapped, parts beside"
    SECONDS = "whole seconds"


@dataclass(frozen=True, slots=True)
class Form:
    """The form in which one column is sent.

    Attributes:
        wrapped: Sent as `STRUCT(V := column)`, so that times are numbers.
        parts: Paths of the parts sent in further columns, in order: DECIMALs that the value itself has as
            doubles, and the keys of MAPs on the way to them.
        fixed: Not wrapped although it has times, because it must keep its name and type.
        seconds: TIMEs in it are sent without milliseconds.
    """

    wrapped: bool = False
    parts: tuple[Path, ...] = ()
    fixed: bool = False
    seconds: bool = False

    @property
    def reading(self) -> ColumnReading:
        """The form's name, which is recorded with the rows that were read this way."""
        if self.seconds:
            return ColumnReading.SECONDS
        return {
            (False, False): ColumnReading.PLAIN,
            (True, False): ColumnReading.WRAPPED,
            (False, True): ColumnReading.BESIDE,
            (True, True): ColumnReading.BOTH,
        }[self.wrapped, bool(self.parts)]


PLAIN = Form()


def form_of(kind: KsqlType, *, wrappable: bool = True) -> Form:
    """Return the form in which the server sends values of a type exactly.

    Args:
        kind: The type; STRING is assumed for the keys of a MAP whose key type is unknown.
        wrappable: Whether the column may be wrapped; e.g. a deleted key of a table is always sent plain.
    """
    timed = _has(Primitive.TIME, kind) or _has(Primitive.TIMESTAMP, kind)
    wrapped, fixed = timed and wrappable, timed and not wrappable
    parts = tuple(_parts(kind, (), in_struct=wrapped))
    return Form(wrapped, parts, fixed=fixed, seconds=fixed and _has(Primitive.TIME, kind))


def _has(wanted: Primitive, kind: KsqlType) -> bool:
    """Whether values of a type hold another type outside a STRUCT."""
    match kind:
        case Array(element):
            return _has(wanted, element)
        case Map(key, value):
            return _has(wanted, key) or _has(wanted, value)
        case _:
            return kind == wanted


def _parts(kind: KsqlType, path: Path, *, in_struct: bool) -> Iterator[Path]:
    """Yield the path to each DECIMAL that would be sent as a double, after the keys of the MAPs on the way."""
    match kind:
        case Decimal() if in_struct:
            yield path
        case Struct(fields):
            for name, inner in fields:
                yield from _parts(inner, (*path, Step("field", name)), in_struct=True)
        case Array(element):
            yield from _parts(element, (*path, ELEMENTS), in_struct=in_struct)
        case Map(Primitive.STRING, value):
            inner_parts = list(_parts(value, (*path, VALUES), in_struct=in_struct))
            if inner_parts:
                yield (*path, KEYS)
                yield from inner_parts
        case _:  # the server has no function for a MAP with other keys
            return
