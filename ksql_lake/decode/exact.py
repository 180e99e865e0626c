"""Decode rows one by one, exactly. All errors about rows are raised here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, NoReturn

import pyarrow as pa

from ksql_lake.decode.literals import MISMATCH, NOT_TEXT, Misfit, Number, key_token, scalar, shown
from ksql_lake.errors import DecodeError
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Schema, Struct

Convert = Callable[[object], object]

_BAD_KEY = (
    "`on_bad_text` replaces no text by which rows or entries are told apart. Clean the value where it is "
    "produced, or leave the column out with `columns`."
)
_FOREIGN = "This is not what a ksqlDB server sends: is there a proxy between, or was the response altered?"
_NO_TEXT = re.compile("[\ud800-\udfff]")
_IGNORED = ("sourceHost",)  # is beside `row` if the request asked for debugging


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


_JSON = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_constant)


class ExactReader:
    """Decodes lines of rows exactly, for every type.

    Args:
        schema: The response's columns.
        arrow: The same columns as an Arrow schema.
        replace: Whether bytes that are no text become U+FFFD instead of an error.
        identifying: Columns in which they stay an error: rows are told apart by these.

    Attributes:
        replaced: How many texts were changed like this.
    """

    def __init__(
        self, schema: Schema, arrow: pa.Schema, *, replace: bool = False, identifying: Collection[str] = ()
    ) -> None:
        self.replaced = 0
        self._replaces = [replace and name not in identifying for name in schema.names]
        self._replace = replace
        self._arrow = arrow
        self._names = schema.names
        self._converters = [converter(column.type, in_struct=False) for column in schema]

    def read(self, lines: Iterable[bytes], *, first_row: int) -> pa.RecordBatch:
        """Decode lines into a batch.

        Args:
            lines: One row object each.
            first_row: 0-based number of the first line.

        Raises:
            DecodeError: Names the first bad row, its first bad column and the value.
        """
        rows = [self._row(line, number) for number, line in enumerate(lines, first_row + 1)]
        columns = zip(*rows, strict=True) if rows else [() for _ in self._names]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._arrow, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._arrow)

    def _row(self, line: bytes, row: int) -> list[object]:
        values = _values(line, row)
        if len(values) != len(self._names):
            raise DecodeError(
                f"expected {len(self._names)} values, one for each column, found {len(values)}",
                hint=MISMATCH,
                row=row,
            )
        converted = []
        columns = zip(self._names, self._converters, self._replaces, values, strict=True)
        for name, convert, replaces, value in columns:
            try:
                converted.append(convert(self._mended(value) if replaces else value))
            except Misfit as misfit:
                path = name + "".join(reversed(misfit.path))
                hint = _BAD_KEY if self._replace and misfit.hint == NOT_TEXT else misfit.hint
                raise DecodeError(str(misfit), hint=hint, row=row, column=path) from None
        return converted

    def _mended(self, value: Any) -> Any:
        match value:
            case Number():
                return value
            case str() if _NO_TEXT.search(value):
                self.replaced += 1
                return _NO_TEXT.sub("\ufffd", value)
            case list():
                return [self._mended(item) for item in value]
            case dict():
                mended = {self._mended(name): self._mended(item) for name, item in value.items()}
                if len(mended) < len(value):
                    raise Misfit(value, "would lose an entry: two keys would become one", _BAD_KEY)
                return mended
        return value


def _values(line: bytes, row: int) -> list[object]:
    """Return the values of one row object."""
    # Bytes that are not UTF-8 become lone surrogates, so that the error can name their column.
    text = line.decode("utf-8", "surrogateescape")
    try:
        document: Any = _JSON.decode(text)
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 10) : error.pos + 30]
        why = f"not JSON at character {error.pos + 1}, near {near!r}"
        raise DecodeError(why, hint=_FOREIGN, row=row) from None
    except ValueError as error:
        raise DecodeError(f"not JSON: {error}", hint=_FOREIGN, row=row) from None
    except RecursionError:
        raise DecodeError("nested too deeply to be read", hint=_FOREIGN, row=row) from None
    match document:
        case {"row": {"columns": list() as values, **inner}, **outer}:
            more: list[object] = [
                f"row.{name}" for name, other in inner.items() if other is not None and other is not False
            ]
            more += [name for name, other in outer.items() if other is not None and name not in _IGNORED]
            if more:
                raise DecodeError(f"the row object also holds {shown(more[0])}", hint=_FOREIGN, row=row)
            return list(values)
        case _:
            raise DecodeError(f"not a row object, but {text[:40]!r}", hint=_FOREIGN, row=row)


def converter(kind: KsqlType, *, in_struct: bool) -> Convert:
    """Return the function that turns a parsed JSON value of this type, or None, into Arrow's Python value.

    Args:
        kind: The type.
        in_struct: Whether it is inside a STRUCT, where the server writes times, DECIMAL and MAP in another way.
    """
    match kind:
        case Primitive() | Decimal():
            return _nullable(scalar(kind, in_struct=in_struct))
        case Array(element):
            return _nullable(_array(converter(element, in_struct=in_struct)))
        case Map(key, value) if in_struct and key != Primitive.STRING:
            return _nullable(_pairs(converter(key, in_struct=True), converter(value, in_struct=True)))
        case Map(key, value):
            return _nullable(_map(key, converter(key, in_struct=False), converter(value, in_struct=in_struct)))
        case Struct(fields):
            return _nullable(_struct({name: converter(field, in_struct=True) for name, field in fields}))


def _nullable(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _inside(convert: Convert, value: object, step: str) -> object:
    try:
        return convert(value)
    except Misfit as misfit:
        misfit.path.append(step)
        raise


def _array(element: Convert) -> Convert:
    def convert(value: object) -> object:
        if type(value) is not list:
            raise Misfit(value, "is not an ARRAY")
        # Numbered from 1, as in ksqlDB: ITEMS[1].
        return [_inside(element, item, f"[{number}]") for number, item in enumerate(value, 1)]

    return convert


def _map(kind: KsqlType, key: Convert, item: Convert) -> Convert:
    def convert(value: object) -> object:
        if type(value) is not dict:
            raise Misfit(value, "is not a MAP")
        return [
            (_inside(key, key_token(kind, name), f"[key {n}]"), _inside(item, entry, f"[{shown(name)}]"))
            for n, (name, entry) in enumerate(value.items(), 1)
        ]

    return convert


def _pairs(key: Convert, item: Convert) -> Convert:
    def convert(value: object) -> object:
        if type(value) is not list:
            raise Misfit(value, "is not a MAP (an array of pairs, as its key is not a STRING)")
        entries = []
        for number, pair in enumerate(value, 1):
            if type(pair) is not list or len(pair) != 2:
                raise Misfit(value, f"is not a MAP: entry {number} is {shown(pair)}, not a pair")
            if pair[0] is None:
                raise Misfit(value, f"is not a MAP: the key of entry {number} is null")
            first = _inside(key, pair[0], f"[key {number}]")
            entries.append((first, _inside(item, pair[1], f"[entry {number}]")))
        return entries

    return convert


def _struct(fields: dict[str, Convert]) -> Convert:
    def convert(value: object) -> object:
        if type(value) is not dict:
            raise Misfit(value, "is not a STRUCT")
        for name in fields:
            if name not in value:
                raise Misfit(value, f"has no field {name}")
        for name in value:
            if name not in fields:
                raise Misfit(value, f"has a field {shown(name)} that is not in the schema")
        return {name: _inside(field, value[name], f".{name}") for name, field in fields.items()}

    return convert
