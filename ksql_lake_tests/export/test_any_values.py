"""Random schemas and values go through server and lake bit by bit, or are refused by name."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import DecodeError
from ksql_lake.lake import Lake
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct
from ksql_lake_tests.decode.comparing import values
from ksql_lake_tests.decode.strategies import decimals, primitives
from ksql_lake_tests.export.push.server import FIRST, Server, feed
from ksql_lake_tests.export.source_rows import DAY, door_value

NUMBERS = count(1)
FIELDS = ("a", "b c", "Gr\u00f6\u00dfe", "select", "V", "\U0001f600")
LOWEST, HIGHEST = -200_000_000_000_000, 9_000_000_000_000_000
"""Moments from about 4400 BC on; below, the embedded server's DATEs and Python's part ways."""


def _structs(inner: st.SearchStrategy[KsqlType]) -> st.SearchStrategy[KsqlType]:
    pairs = st.lists(
        st.tuples(st.sampled_from(FIELDS), inner), min_size=1, max_size=3, unique_by=lambda p: p[0]
    )
    return pairs.map(lambda fields: Struct(tuple(fields)))


TYPES: st.SearchStrategy[KsqlType] = st.recursive(
    st.one_of(primitives, decimals),
    lambda inner: st.one_of(
        st.builds(Array, inner), st.builds(Map, st.just(Primitive.STRING), inner), _structs(inner)
    ),
    max_leaves=4,
)
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0", max_codepoint=0x10EFFF), max_size=8
)
HALVES = st.sampled_from(["\ud83d", "a\ude00z"])
SCALARS: dict[Primitive, st.SearchStrategy[Any]] = {
    Primitive.BOOLEAN: st.booleans(),
    Primitive.INTEGER: st.integers(-(2**31), 2**31 - 1),
    Primitive.BIGINT: st.integers(-(2**63), 2**63 - 1),
    # In JSON ksqlDB itself makes 0.0 of -0.0.
    Primitive.DOUBLE: st.floats().map(lambda value: value + 0.0),
    Primitive.STRING: st.integers(0, 39).flatmap(lambda chance: HALVES if chance == 0 else TEXTS),
    Primitive.BYTES: st.binary(max_size=7),
    Primitive.TIME: st.one_of(st.integers(0, DAY - 1), st.sampled_from([0, 1, DAY - 1]), st.integers(0, DAY)),
    Primitive.DATE: st.one_of(st.integers(-719_530, -719_160), st.integers(-1_000_000, 3_000_000)),
    Primitive.TIMESTAMP: st.one_of(
        st.integers(LOWEST, HIGHEST),
        st.integers(-62_170_000_000_000, -62_130_000_000_000),
        st.integers(0, 2**41),
    ),
}


@st.composite
def drawn(draw: st.DrawFn, kind: KsqlType) -> Any:
    """A value of a type, often NULL, as likely at an end of its range as inside."""
    if draw(st.integers(0, 4)) == 0:
        return None
    match kind:
        case Primitive():
            return draw(SCALARS[kind])
        case Decimal(precision, scale):
            highest = 10**precision - 1
            digits = draw(st.one_of(st.sampled_from([highest, -highest, 0]), st.integers(-highest, highest)))
            return decimal.Decimal(digits).scaleb(-scale, decimal.Context(prec=60))
        case Array(element):
            return draw(st.lists(drawn(element), max_size=3))
        case Map(_, item):
            return draw(st.lists(st.tuples(TEXTS, drawn(item)), max_size=3, unique_by=lambda entry: entry[0]))
        case Struct(fields):
            return {name: draw(drawn(inner)) for name, inner in fields}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[KsqlType], list[list[Any]]]:
    """Types of columns, and rows of them."""
    kinds = draw(st.lists(TYPES, min_size=1, max_size=4))
    return kinds, [[draw(drawn(kind)) for kind in kinds] for _ in range(draw(st.integers(1, 4)))]


def unfit(kind: KsqlType, value: Any) -> bool:
    """Whether a value holds one that no Parquet file can hold."""
    match kind, value:
        case _, None:
            return False
        case Array(element), list():
            return any(unfit(element, item) for item in value)
        case Map(_, item), list():
            return any(unfit(item, entry) for _, entry in value)
        case Struct(fields), dict():
            return any(unfit(inner, value[name]) for name, inner in fields)
        case Primitive.STRING, str():
            return any("\ud800" <= character <= "\udfff" for character in value)
        case _:
            return kind is Primitive.TIME and value == DAY


def same(kind: KsqlType, value: Any) -> Any:
    """A value with the entries of its MAPs in the order of their keys."""
    match kind, value:
        case Array(element), list():
            return [same(element, item) for item in value]
        case Map(_, item), list():
            return sorted((key, same(item, entry)) for key, entry in value) if value else value
        case Struct(fields), dict():
            return {name: same(inner, value[name]) for name, inner in fields}
    return value


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own."""
    with DevServer.start() as running:
        yield Server(running.url)


def check(
    server: Server, tmp: pytest.TempPathFactory, table: tuple[list[KsqlType], list[list[Any]]], way: str
) -> None:
    """Export a table of values by one kind of query, three times, and compare."""
    kinds, rows = table
    name = f"ANY_{next(NUMBERS)}"
    columns = ", ".join(f"`c{number}` {kind.text}" for number, kind in enumerate(kinds))
    server.ksql(f"CREATE STREAM {name} (N INTEGER, {columns}) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);")
    try:
        sent = [
            {f"c{n}": door_value(kind, value) for n, (kind, value) in enumerate(zip(kinds, row, strict=True))}
            for row in rows
        ]
        server.append(name, *({"ROWTIME": FIRST + n, "N": n, **row} for n, row in enumerate(sent)))
        root, wanted = tmp.mktemp("lake"), feed(name.lower(), extraction=way)
        bad = [
            (number, f"c{n}")
            for number, row in enumerate(rows, 1)
            for n, (kind, value) in enumerate(zip(kinds, row, strict=True))
            if unfit(kind, value)
        ]
        if bad:
            row, column = bad[0]
            with pytest.raises(DecodeError, match=f"row {row}, column {column}"):
                server.export(root, wanted)
            return
        assert [server.export(root, wanted).new for _ in range(2)] == [len(rows), 0]
        found = Lake(root).feed(wanted).dataset().to_table().sort_by("N")
        for number, kind in enumerate(kinds):
            landed = values(found.column(f"c{number}").combine_chunks())
            assert repr([same(kind, value) for value in landed]) == repr(
                [same(kind, row[number]) for row in rows]
            )
    finally:
        server.ksql(f"DROP STREAM {name};")


COMMON = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@settings(COMMON, max_examples=30)
@given(table=tables())
def test_any_values_land_by_pull_as_they_are(
    server: Server, tmp_path_factory: pytest.TempPathFactory, table: tuple[list[KsqlType], list[list[Any]]]
) -> None:
    """Every type in every nesting, at the ends of its range: equal, or refused by row and column."""
    check(server, tmp_path_factory, table, "pull")


@settings(COMMON, max_examples=8)
@given(table=tables())
def test_any_values_land_by_push_as_they_are(
    server: Server, tmp_path_factory: pytest.TempPathFactory, table: tuple[list[KsqlType], list[list[Any]]]
) -> None:
    """The same by push query."""
    check(server, tmp_path_factory, table, "push")
