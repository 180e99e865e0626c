"""Decode an answer into batches of the source's columns, from the form in which each column is sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

import pyarrow as pa
import pyarrow.compute as pc

from ksql_lake.decode.assembly import Unfit, as_sent, assembled
from ksql_lake.decode.decoder import RowDecoder
from ksql_lake.decode.encodings import KEYS, PLAIN, WRAPPER, Form, Path, form_of
from ksql_lake.decode.literals import NOT_MILLISECONDS
from ksql_lake.decode.spans import Positions, Text
from ksql_lake.decode.times import LAST_MS
from ksql_lake.errors import DecodeError, ProtocolError
from ksql_lake.schema import Column, Schema, Struct, arrow_schema


@dataclass(frozen=True, slots=True)
class _Arrival:
    """One column of the source in an answer.

    Attributes:
        column: Its name and type in the source.
        form: The form in which it is sent.
        at: Index of its value among the answer's columns; its parts follow.
    """

    column: Column
    form: Form
    at: int

    def value(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the column from a received batch."""
        sent = batch.column(self.at)
        if self.form == PLAIN:
            return sent
        # A wrapped NULL is a STRUCT of NULL; in a deleted row of a table the STRUCT itself is NULL.
        value = cast("pa.StructArray", sent).flatten()[0] if self.form.wrapped else sent
        parts = {path: batch.column(self.at + 1 + n) for n, path in enumerate(self.form.parts)}
        return assembled(self.column.type, value, parts, in_struct=self.form.wrapped)


class AnswerDecoder:
    """Decodes blocks of rows of one answer; keeps no rows, and may be used by several threads.

    Args:
        received: The answer's columns as its header declares them.
        names: The source's columns, in the order of the query.
        forms: The form in which each is sent.
        moments: The columns with epoch milliseconds as BIGINT, which are converted to timestamps.
        replace: Whether half a surrogate pair in a text becomes U+FFFD instead of an error.
        identifying: Columns in which it stays an error: rows are told apart by these.

    Attributes:
        columns: The source's columns with their own types.

    Raises:
        ProtocolError: The answer has other columns than the query.
        SchemaError: A column's type cannot be stored or cannot be read back from what the server writes.
    """

    def __init__(
        self,
        received: Schema,
        names: Sequence[str],
        forms: Sequence[Form],
        *,
        moments: Sequence[str] = (),
        replace: bool = False,
        identifying: Collection[str] = (),
    ) -> None:
        self._arrivals = list(_arrivals(received, names, forms))
        self.columns = Schema(tuple(arrival.column for arrival in self._arrivals))
        self.arrow_schema = arrow_schema(self.columns)
        self._plain = all(form == PLAIN for form in forms)
        self._moments = [name for name in moments if name in names]
        if not self._plain:
            received = Schema(tuple(_as_received(received, self._arrivals)))
        self._rows = RowDecoder(received, replace=replace, identifying=identifying)
        self._received = received

    @property
    def replaced(self) -> int:
        """How many texts had half a surrogate pair replaced."""
        return self._rows.replaced

    def decode(
        self, data: Text, *, count: int, first_row: int, breaks: Positions | None = None
    ) -> pa.RecordBatch:
        """Decode one block; the arguments are those of `RowDecoder.decode`.

        Raises:
            DecodeError: Names the first bad row, a bad column and the value.
        """
        try:
            batch = self._rows.decode(data, count=count, first_row=first_row, breaks=breaks)
        except DecodeError as error:
            raise self._renamed(error) from None
        if not self._plain:
            batch = self._assembled(batch, first_row)
        for name in self._moments:
            _require_moments(batch.column(name), name, first_row)
        return batch

    def _assembled(self, batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        try:
            arrays = [arrival.value(batch) for arrival in self._arrivals]
        except Unfit:
            self._explain(batch, first_row)
        return pa.RecordBatch.from_arrays(arrays, schema=self.arrow_schema)

    def _explain(self, batch: pa.RecordBatch, first_row: int) -> NoReturn:
        """Raise the error of the first row that cannot be assembled, and of its first such column."""
        for row in range(batch.num_rows):
            for arrival in self._arrivals:
                try:
                    arrival.value(batch.slice(row, 1))
                except Unfit as unfit:
                    where = arrival.column.name + _shown(unfit.path)
                    raise DecodeError(
                        str(unfit), hint=unfit.hint, row=first_row + row + 1, column=where
                    ) from None
        raise AssertionError("rows that fit one by one did not fit together")

    def _renamed(self, error: DecodeError) -> DecodeError:
        """Return an error about a sent column with the name of the source's column."""
        where = str(error.where.get("column", ""))
        for arrival in self._arrivals:
            names = self._received.names[arrival.at : arrival.at + 1 + len(arrival.form.parts)]
            for name in names:
                rest = where.removeprefix(name)
                if where.startswith(name) and rest[:1] in ("", ".", "["):
                    if arrival.form.wrapped and name == names[0]:
                        rest = rest.removeprefix(f".{WRAPPER}")
                    error.where["column"] = arrival.column.name + rest
                    return error
        return error


def _arrivals(received: Schema, names: Sequence[str], forms: Sequence[Form]) -> Iterator[_Arrival]:
    at = 0
    for name, form in zip(names, forms, strict=True):
        if at >= len(received.columns) or received.columns[at].name != name:
            raise _other_columns(received, names)
        column = received.columns[at]
        if form.wrapped:
            if not isinstance(column.type, Struct) or [field for field, _ in column.type.fields] != [WRAPPER]:
                raise _other_columns(received, names)
            column = dataclasses.replace(column, type=column.type.fields[0][1])
        if form_of(column.type, wrappable=not form.fixed) != form:
            raise ProtocolError(
                f"DESCRIBE reported another type of column {name} than the answer has, {column.type.text}",
                hint="Was the source recreated meanwhile? Export again.",
            )
        yield _Arrival(column, form, at)
        at += 1 + len(form.parts)
    if at != len(received.columns):
        raise _other_columns(received, names)


def _as_received(received: Schema, arrivals: Sequence[_Arrival]) -> Iterator[Column]:
    """Yield the answer's columns with the types of the sent values."""
    for arrival in arrivals:
        value, *parts = received.columns[arrival.at : arrival.at + 1 + len(arrival.form.parts)]
        yield value if arrival.form == PLAIN else dataclasses.replace(value, type=as_sent(value.type))
        yield from parts


def _other_columns(received: Schema, names: Sequence[str]) -> ProtocolError:
    return ProtocolError(
        f"the server answered with the columns {', '.join(received.names)}; the query has {', '.join(names)}",
        hint="Does a proxy rewrite queries?",
    )


def _require_moments(column: pa.Array, name: str, first_row: int) -> None:
    bounds = pc.min_max(column).as_py()
    if bounds["min"] is None or max(-bounds["min"], bounds["max"]) <= LAST_MS:
        return
    for row, value in enumerate(column.to_pylist(), first_row + 1):
        if value is not None and abs(value) > LAST_MS:
            raise DecodeError(
                f"{value} is out of range for a time in milliseconds since 1970",
                hint=NOT_MILLISECONDS,
                row=row,
                column=name,
            )


def _shown(path: Path) -> str:
    return "".join(f".{step.name}" if step.name else "[key]" if step == KEYS else "[]" for step in path)
