"""The table of types and places in docs/values.md, each cell tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal as Number
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import ConfigError
from ksql_lake.lake import Lake
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct
from ksql_lake_tests.decode.comparing import values
from ksql_lake_tests.export.push.server import FIRST, Server, feed
from ksql_lake_tests.export.source_rows import door_value

PAGE = (Path(__file__).parents[2] / "docs" / "values.md").read_text("utf-8")
PLACES = ("column", "table key", "in an ARRAY", "in a MAP", "in a STRUCT")
DECIMAL = Decimal(38, 10)
UGLY: dict[KsqlType, list[Any]] = {
    Primitive.BOOLEAN: [True, False],
    Primitive.INTEGER: [-(2**31), 2**31 - 1, 0],
    Primitive.BIGINT: [-(2**63), 2**63 - 1, 2**53 + 1],
    Primitive.DOUBLE: [
        0.1,
        5e-324,
        1.7976931348623157e308,
        float("nan"),
        float("inf"),
        -float("inf"),
        2e23,
        1e23,
    ],
    DECIMAL: [
        Number("9999999999999999999999999999.9999999999"),
        Number("-0.0000000001"),
        Number("0.0000000000"),
    ],
    Primitive.STRING: ["", "null", '"\\/\b\f\n\r\t\x01', "\x7f\x85\u2028\u00e9\u4e2d", "\U0001f600<>&'"],
    Primitive.BYTES: [b"", b"\x00\x01\xff", b"abcd"],
    Primitive.TIME: [0, 1, 999, 1000, 43_200_001, 86_399_999],
    Primitive.DATE: [0, -1, -141_428, -719_528, 2_932_897, 20_000],
    Primitive.TIMESTAMP: [0, -1, -12_219_292_800_001, -62_135_596_800_000, 253_402_300_799_999],
}
"""The ends of each type; times as integers."""
FAR = [-62_135_596_800_001, -62_170_156_800_000, 253_402_300_800_000, 2_534_023_008_000_000]
"""Moments before the year 1 and after 9999."""
ROWS = max(map(len, UGLY.values())) + len(FAR)


def named(kind: KsqlType) -> str:
    """The type's word in the table."""
    return "DECIMAL" if isinstance(kind, Decimal) else kind.text


def cells() -> Iterator[tuple[KsqlType, str, str, str]]:
    """Each type, place, way and what the page says of it."""
    kinds = {named(kind): kind for kind in UGLY}
    for line in PAGE.splitlines():
        name, *told = [cell.strip() for cell in line.strip("|").split("|")]
        if name in kinds and len(told) == len(PLACES):
            for place, cell in zip(PLACES, told, strict=True):
                ways = dict(re.findall(r"(pull|push): ([^;]+)", cell)) or {"pull": cell, "push": cell}
                for way, verdict in ways.items():
                    yield kinds[name], place, way, verdict


def test_the_table_has_every_cell() -> None:
    """No type, place or way is left out."""
    assert len(list(cells())) == len(UGLY) * len(PLACES) * 2


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own."""
    with DevServer.start() as running:
        yield Server(running.url)


def shaped(kind: KsqlType, place: str) -> KsqlType:
    """The type of a column that holds a type in a place."""
    match place:
        case "in an ARRAY":
            return Array(kind)
        case "in a MAP":
            return Map(Primitive.STRING, kind)
        case "in a STRUCT":
            return Struct((("f", kind),))
        case _:
            return kind


def placed(value: Any, place: str) -> Any:
    """A value in its place."""
    return {
        "in an ARRAY": [value, None],
        "in a MAP": [("k", value), ("n", None)],
        "in a STRUCT": {"f": value},
    }.get(place, value)


def truth(kind: KsqlType, place: str) -> list[Any]:
    """The values of one column, the same number for all."""
    ugly = [*UGLY[kind], *(FAR if kind is Primitive.TIMESTAMP else [])]
    return [placed(ugly[number % len(ugly)], place) if number else None for number in range(ROWS)]


@pytest.fixture(scope="module")
def streams(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """One stream with every type in every place but the key's, landed by pull and by push."""
    columns = {f"c{n}": shaped(kind, place) for n, (kind, place) in enumerate(every())}
    declared = ", ".join(f"`{name}` {kind.text}" for name, kind in columns.items())
    server.ksql(f"CREATE STREAM ALL_TYPES (N INTEGER, {declared}) WITH (KAFKA_TOPIC='all', PARTITIONS=1);")
    told = [truth(kind, place) for kind, place in every()]
    for number in range(ROWS):
        row = {
            name: door_value(kind, column[number])
            for (name, kind), column in zip(columns.items(), told, strict=True)
        }
        server.append("ALL_TYPES", {"ROWTIME": FIRST + number, "N": number, **row})
    tables = {}
    for way in ("pull", "push"):
        root = tmp_path_factory.mktemp(way)
        wanted = feed("all_types", extraction=way)
        exported = [server.export(root, wanted).new for _ in range(3)]
        assert exported == [ROWS, 0, 0], "a later export brought something new"
        tables[way] = Lake(root).feed(wanted).dataset().to_table().sort_by("N")
    return tables


@cache
def every() -> list[tuple[KsqlType, str]]:
    """Every type in every place but the key's."""
    return [(kind, place) for kind in UGLY for place in PLACES if place != "table key"]


def shown(found: list[Any]) -> str:
    """Values as a text in which NaN equals itself."""
    return repr(found)


@pytest.mark.parametrize(
    ("kind", "place", "way", "verdict"),
    [cell for cell in cells() if cell[1] != "table key"],
    ids=lambda part: named(part) if isinstance(part, Primitive | Decimal) else str(part),
)
def test_a_value_lands_as_it_is(
    streams: dict[str, pa.Table], kind: KsqlType, place: str, way: str, verdict: str
) -> None:
    """The ends of the type, in the place, by the kind of query."""
    assert verdict == "exact"
    column = streams[way].column(f"c{every().index((kind, place))}").combine_chunks()
    assert shown(values(column)) == shown(truth(kind, place))


@pytest.mark.parametrize(
    ("kind", "place", "way", "verdict"),
    [cell for cell in cells() if cell[1] == "table key"],
    ids=lambda part: named(part) if isinstance(part, Primitive | Decimal) else str(part),
)
def test_a_key_lands_as_it_is_or_is_refused(
    server: Server, tmp_path: Path, kind: KsqlType, place: str, way: str, verdict: str
) -> None:
    """Every key is one row, a deleted one is none; keys that could not be distinguished are refused."""
    del place
    name = f"KEY_{named(kind)}_{way}".upper()
    source = "SOURCE TABLE" if way == "pull" else "TABLE"
    server.ksql(
        f"CREATE {source} {name} (K {kind.text} PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);"
    )
    keys = UGLY[kind] + (FAR if kind is Primitive.TIMESTAMP and verdict == "exact" else [])
    # In JSON all NaN are one, and no key of a table.
    keys = [key for key in keys if key == key]  # noqa: PLR0124
    server.append(name, *({"K": door_value(kind, key), "V": number} for number, key in enumerate(keys)))
    server.append(name, {"K": door_value(kind, keys[-1]), "@tombstone": True})
    wanted = feed(name.lower(), kind="table", extraction=way)
    if verdict == "refused":
        with pytest.raises(ConfigError, match="without its milliseconds"):
            server.export(tmp_path, wanted)
        return
    assert verdict in ("exact", "years 1 to 9999")
    server.export(tmp_path, wanted)
    table = Lake(tmp_path).feed(wanted).dataset().to_table().sort_by("V")
    assert shown(values(table.column("K").combine_chunks())) == shown(keys[:-1])


@pytest.mark.parametrize("way", ["pull", "push"])
def test_headers_land_as_they_are(server: Server, tmp_path: Path, way: str) -> None:
    """All headers of a record, and one by its key."""
    name = f"HEADED_{way}".upper()
    server.ksql(
        f"CREATE STREAM {name} (N INT, HS ARRAY<STRUCT<`KEY` STRING, `VALUE` BYTES>> HEADERS) "
        f"WITH (KAFKA_TOPIC='{name}', PARTITIONS=1);"
    )
    headers = [{"KEY": "x", "VALUE": "AP8="}, {"KEY": "x", "VALUE": None}]
    server.append(name, {"ROWTIME": FIRST, "N": 1, "HS": headers}, {"ROWTIME": FIRST + 1, "N": 2, "HS": []})
    wanted = feed(name.lower(), extraction=way)
    assert [server.export(tmp_path, wanted).new for _ in range(2)] == [2, 0]
    table = Lake(tmp_path).feed(wanted).dataset().to_table().sort_by("N")
    assert table.column("HS").to_pylist() == [
        [{"KEY": "x", "VALUE": b"\x00\xff"}, {"KEY": "x", "VALUE": None}],
        [],
    ]
