"""Parse ksqlDB type texts, and map each type to the Arrow type that stores it. Pure."""

# An unknown type is an error: it must never become a string column by accident. Grammar: `LogicalSchema` and
# `FormatOptions` in ksqlDB's source.

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from ksql_lake.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_DEPTH = 64
"""How deep types may nest; Parquet readers support fewer levels than ksqlDB."""
MAX_TEXT = 8_000_000
"""The most characters of a schema text, enough for tens of thousands of columns."""
MAX_DIGITS = 38
"""Digits of the longest DECIMAL that fits decimal128."""
_SHORT_TEXT = 20_000
"""Characters of the longest schema text that is remembered with what it says: hundreds of columns."""
_LEAVE_OUT = "Leave the column out: name the wanted ones in the feed's `columns`."


class Primitive(StrEnum):
    """The types without parameters, as ksqlDB writes them."""

    BOOLEAN = "BOOLEAN"
    INTEGER = "INTEGER"
    BIGINT = "BIGINT"
    DOUBLE = "DOUBLE"
    STRING = "STRING"
    BYTES = "BYTES"
    TIME = "TIME"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP"

    @property
    def text(self) -> str:
        """The type as ksqlDB writes it."""
        return self.value


@dataclass(frozen=True, slots=True)
class Decimal:
    """DECIMAL(precision, scale); a lake file holds at most 38 digits."""

    precision: int
    scale: int

    @property
    def text(self) -> str:
        """The type as ksqlDB writes it."""
        return f"DECIMAL({self.precision}, {self.scale})"


@dataclass(frozen=True, slots=True)
class Array:
    """ARRAY<element>."""

    element: KsqlType

    @property
    def text(self) -> str:
        """The type as ksqlDB writes it."""
        return f"ARRAY<{self.element.text}>"


@dataclass(frozen=True, slots=True)
class Map:
    """MAP<key, value>; keys may be of any type."""

    key: KsqlType
    value: KsqlType

    @property
    def text(self) -> str:
        """The type as ksqlDB writes it."""
        return f"MAP<{self.key.text}, {self.value.text}>"


@dataclass(frozen=True, slots=True)
class Struct:
    """STRUCT<fields>; may be empty."""

    fields: tuple[tuple[str, KsqlType], ...]

    @property
    def text(self) -> str:
        """The type as ksqlDB writes it."""
        inner = ", ".join(f"`{name}` {kind.text}" for name, kind in self.fields)
        return f"STRUCT<{inner or ' '}>"


KsqlType = Primitive | Decimal | Array | Map | Struct


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a response.

    Attributes:
        name: Exact-case name, without quotes.
        type: Its ksqlDB type.
        key: Whether it is marked KEY (only table pulls mark keys).
        header: Whether it is marked HEADERS or HEADER('...').
    """

    name: str
    type: KsqlType
    key: bool = False
    header: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a response, in row order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in row order."""
        return tuple(column.name for column in self.columns)

    @property
    def text(self) -> str:
        """The schema as ksqlDB writes it, with KEY marks and without HEADER marks."""
        return ", ".join(
            f"`{column.name}` {column.type.text}{' KEY' if column.key else ''}" for column in self.columns
        )

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


_TYPE_WORDS = "BOOLEAN|INTEGER|BIGINT|DOUBLE|STRING|BYTES|TIMESTAMP|TIME|DATE|DECIMAL|ARRAY|MAP|STRUCT"
_NAME = re.compile(rf"`(.*?)` (?=(?:{_TYPE_WORDS})\b)", re.DOTALL)
_WORD = re.compile(r"[A-Z]+")
_DECIMAL = re.compile(r"\(([0-9]{1,3}), ?([0-9]{1,3})\)")
_MARK = re.compile(r" (KEY|HEADERS|HEADER\('.*?'\))(?=, `|\Z)", re.DOTALL)


class _Reader:
    """A cursor over one schema text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, expected: str) -> SchemaError:
        rest = self.text[self.at : self.at + 40]
        return SchemaError(
            f"expected {expected} at character {self.at + 1}, found {rest!r}",
            hint="This is not a schema that ksqlDB writes; is the address that of a ksqlDB server?",
        )

    def take(self, literal: str) -> bool:
        if self.text.startswith(literal, self.at):
            self.at += len(literal)
            return True
        return False

    def need(self, literal: str) -> None:
        if not self.take(literal):
            raise self.fail(repr(literal))

    def name(self) -> str:
        # The server does not double backticks inside a name, so the name ends where a type follows.
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.fail("a back-quoted name and a type")
        self.at = match.end()
        return match.group(1)

    def type(self, depth: int = 0) -> KsqlType:
        if depth > MAX_DEPTH:
            raise SchemaError(f"types nest deeper than {MAX_DEPTH} levels", hint=_LEAVE_OUT)
        match = _WORD.match(self.text, self.at)
        word = match.group() if match else ""
        if word in Primitive.__members__:
            self.at += len(word)
            return Primitive(word)
        parameterised: dict[str, Callable[[int], KsqlType]] = {
            "DECIMAL": self._decimal,
            "ARRAY": self._array,
            "MAP": self._map,
            "STRUCT": self._struct,
        }
        if word not in parameterised:
            raise self.fail("a type")
        self.at += len(word)
        return parameterised[word](depth + 1)

    def _decimal(self, _depth: int) -> Decimal:
        match = _DECIMAL.match(self.text, self.at)
        if match is None:
            raise self.fail("(precision, scale)")
        precision, scale = int(match.group(1)), int(match.group(2))
        if not (precision >= 1 and scale <= precision):
            raise self.fail("a precision of at least 1 and a scale not above it")
        self.at = match.end()
        return Decimal(precision, scale)

    def _array(self, depth: int) -> Array:
        self.need("<")
        element = self.type(depth)
        self.need(">")
        return Array(element)

    def _map(self, depth: int) -> Map:
        self.need("<")
        key = self.type(depth)
        self.need(", ")
        value = self.type(depth)
        self.need(">")
        return Map(key, value)

    def _struct(self, depth: int) -> Struct:
        self.need("<")
        if self.take(" >") or self.take(">"):
            return Struct(())
        fields = [(self.name(), self.type(depth))]
        while self.take(", "):
            fields.append((self.name(), self.type(depth)))
        self.need(">")
        if twice := _twice([name for name, _ in fields]):
            raise SchemaError(f"field {twice} occurs twice in a STRUCT", hint=_LEAVE_OUT)
        return Struct(tuple(fields))

    def column(self) -> Column:
        name, kind = self.name(), self.type()
        match = _MARK.match(self.text, self.at)
        mark = match.group(1) if match else ""
        self.at = match.end() if match else self.at
        return Column(name, kind, key=mark == "KEY", header=mark.startswith("HEADER"))


def parse_type(text: str) -> KsqlType:
    """Read one type text.

    Raises:
        SchemaError: The text is not a type that ksqlDB writes.
    """
    reader = _Reader(text)
    kind = reader.type()
    if reader.at != len(text):
        raise reader.fail("the end of the type")
    return kind


def parse_schema(text: str) -> Schema:
    """Read the schema text of a query header.

    Raises:
        SchemaError: The text is outside the grammar or too long, or two columns have the same name.
    """
    if len(text) > MAX_TEXT:
        raise SchemaError(f"the schema text has {len(text):,} characters", hint=_LEAVE_OUT)
    return _remembered(text) if len(text) <= _SHORT_TEXT else _parsed(text)


def _parsed(text: str) -> Schema:
    reader = _Reader(text)
    columns = [reader.column()]
    while reader.take(", "):
        columns.append(reader.column())
    if reader.at != len(text):
        raise reader.fail("the end of the schema")
    if twice := _twice([column.name for column in columns]):
        raise SchemaError(
            f"column {twice} occurs twice in the response's schema",
            hint="Name each column once in the feed's `columns`.",
        )
    return Schema(tuple(columns))


# A feed's columns stand in each of its manifests.
_remembered = lru_cache(maxsize=512)(_parsed)


def _twice(names: list[str]) -> str:
    """Return a name that occurs more than once in a list; empty if none does."""
    return ", ".join(sorted(name for name, count in Counter(names).items() if count > 1))


@cache
def _plain_types() -> dict[Primitive, pa.DataType]:
    import pyarrow as pa  # noqa: PLC0415 - commands that plan and list read schemas, and need no Arrow

    return {
        Primitive.BOOLEAN: pa.bool_(),
        Primitive.INTEGER: pa.int32(),
        Primitive.BIGINT: pa.int64(),
        Primitive.DOUBLE: pa.float64(),
        Primitive.STRING: pa.string(),
        Primitive.BYTES: pa.binary(),
        Primitive.TIME: pa.time64("us"),
        Primitive.DATE: pa.date32(),
        Primitive.TIMESTAMP: pa.timestamp("ms", tz="UTC"),
    }


def arrow_type(kind: KsqlType) -> pa.DataType:
    """Return the Arrow type that stores a ksqlDB type.

    Raises:
        SchemaError: The type holds a STRUCT without fields or a too long DECIMAL, which Parquet cannot store.
    """
    import pyarrow as pa  # noqa: PLC0415 - as above

    match kind:
        case Primitive():
            return _plain_types()[kind]
        case Decimal(precision, scale):
            if precision > MAX_DIGITS:
                raise SchemaError(
                    f"{kind.text} has more than the {MAX_DIGITS} digits that Parquet readers agree on",
                    hint=f"{_LEAVE_OUT} Or cast it to a shorter DECIMAL in a derived stream.",
                )
            return pa.decimal128(precision, scale)
        case Array(element):
            return pa.list_(arrow_type(element))
        case Map(key, value):
            return pa.map_(arrow_type(key), arrow_type(value))
        case Struct(fields):
            if not fields:
                raise SchemaError(
                    "Parquet cannot store a STRUCT without fields",
                    hint=_LEAVE_OUT,
                )
            return pa.struct([pa.field(name, arrow_type(inner)) for name, inner in fields])


def alike_fields(kind: KsqlType, path: str = "") -> tuple[str, str] | None:
    """Return the paths of two fields of one STRUCT, at any depth, that differ only in case, or None.

    Args:
        kind: The type to search.
        path: The beginning of the paths: the column's name.
    """
    match kind:
        case Array(element):
            return alike_fields(element, path)
        case Map(key, value):
            return alike_fields(key, path) or alike_fields(value, path)
        case Struct(fields):
            seen: dict[str, str] = {}
            for name, _ in fields:
                if (first := seen.setdefault(name.casefold(), name)) != name:
                    return f"{path}.{first}", f"{path}.{name}"
            return next((found for name, of in fields if (found := alike_fields(of, f"{path}.{name}"))), None)
        case _:
            return None


def arrow_schema(schema: Schema) -> pa.Schema:
    """Return the Arrow schema of a response, every field nullable.

    Raises:
        SchemaError: Names the column whose type cannot be stored.
    """
    import pyarrow as pa  # noqa: PLC0415 - as above

    fields = []
    for column in schema:
        try:
            fields.append(pa.field(column.name, arrow_type(column.type)))
        except SchemaError as error:
            raise error.at(column=column.name) from None
    return pa.schema(fields)
