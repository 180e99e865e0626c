"""The sample: the same on every start, every type in it, and fit for the sample feeds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ksql_lake.devserver.sql.source_columns import Source
from ksql_lake.devserver.store.sample import load_sample
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.feeds.feed_columns import HIVE_COLUMNS
from ksql_lake.feeds.model import FEED_ADAPTER, Feed, StreamFeed
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

FEEDS = Path(__file__).parents[2] / "feeds" / "active"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """The sample in small."""
    made = Catalog()
    load_sample(made, rows=3000)
    return made


def feeds() -> list[Feed]:
    """The sample feeds."""
    return [FEED_ADAPTER.validate_json(path.read_bytes()) for path in sorted(FEEDS.glob("*.json"))]


def types(kind: KsqlType) -> Iterator[str]:
    """The names of a type and all types inside it."""
    match kind:
        case Primitive():
            yield kind.value
        case Decimal():
            yield "DECIMAL"
        case Array(element):
            yield "ARRAY"
            yield from types(element)
        case Map(key, value):
            yield "MAP"
            yield from (*types(key), *types(value))
        case Struct(fields):
            yield "STRUCT"
            for _, inner in fields:
                yield from types(inner)


def content(catalog: Catalog, source: Source) -> list[tuple[object, ...]]:
    """All stored rows, in order of arrival."""
    return catalog.database.execute(f"SELECT * FROM {source.storage} ORDER BY __SEQ").fetchall()


def test_the_sample_is_the_same_every_time(catalog: Catalog) -> None:
    """Two servers hold the same rows, to the last digit, partition and offset."""
    again = Catalog()
    load_sample(again, rows=3000)

    for name, source in catalog.sources.items():
        assert repr(content(catalog, source)) == repr(content(again, again.sources[name])), name


def test_every_ksqldb_type_appears(catalog: Catalog) -> None:
    """Each type stands somewhere at top level, and nested types inside each other."""
    columns = [column.type for source in catalog.sources.values() for column in source.columns]
    everything = {*Primitive.__members__, "DECIMAL", "ARRAY", "MAP", "STRUCT"}

    assert {next(types(kind)) for kind in columns} == everything
    nested = {name for kind in columns for name in list(types(kind))[1:]}
    assert nested == everything


def test_streams_fill_their_days_and_nothing_else(catalog: Catalog) -> None:
    """Every day from 2025-01-06 to 2025-01-19 has rows in every stream, no other day has."""
    first = datetime(2025, 1, 6, tzinfo=UTC)
    wanted = {(first + timedelta(days=number)).date() for number in range(14)}
    for source in catalog.sources.values():
        days = catalog.database.execute(
            f"SELECT DISTINCT make_timestamp(ROWTIME * 1000)::DATE FROM {source.storage}"
        ).fetchall()
        found = {day for (day,) in days}
        assert found == wanted if source.kind == "STREAM" else found <= wanted, source.name


def test_there_are_four_streams_and_four_queryable_tables(catalog: Catalog) -> None:
    """All tables can be read by pull queries; sizes follow the row count asked for."""
    assert {name for name, source in catalog.sources.items() if source.kind == "TABLE" and source.derived} == {
        "USER_TRANSACTION_SUMMARY", "MERCHANTS", "FX_RATES", "DAILY_MERCHANT_VOLUME",
    }  # fmt: skip
    assert {name: source.rows for name, source in catalog.sources.items() if source.kind == "STREAM"} == {
        "TRANSACTION_STREAM": 3000,
        "LOGIN_EVENTS": 900,
        "CARD_AUTHORIZATIONS": 1200,
        "TRANSACTION_FLATTENED": 3000,
    }


def test_sums_in_the_tables_are_the_sums_of_the_stream(catalog: Catalog) -> None:
    """The aggregates agree with the rows they were made from."""
    names = ("TRANSACTION_FLATTENED", "USER_TRANSACTION_SUMMARY", "DAILY_MERCHANT_VOLUME")
    tables = [catalog.sources[name].storage for name in names]
    sums = [catalog.database.execute(f"SELECT sum(c2) FROM {table}").fetchone() for table in tables]

    assert sums[0] is not None
    assert sums == [sums[0]] * 3


@pytest.mark.parametrize("feed", feeds(), ids=lambda feed: feed.name)
def test_every_sample_feed_fits_its_source(catalog: Catalog, feed: Feed) -> None:
    """Feed and source agree in kind, the columns a feed names exist, none collides with the path."""
    source = catalog.sources[feed.source]
    names = {column.name for column in source.columns} | (
        {"WINDOWSTART", "WINDOWEND"} if source.window_type else set()
    )
    named = {*feed.checks.not_null, *feed.checks.unique}
    if isinstance(feed, StreamFeed):
        named |= {*feed.identity.columns} | ({feed.event_time} - {"ROWTIME"})

    assert source.kind == feed.kind.upper()
    assert named <= names
    assert not {name.lower() for name in names} & set(HIVE_COLUMNS[feed.kind])
    assert feed.description
    assert feed.owners


def test_there_is_a_feed_for_every_source(catalog: Catalog) -> None:
    """The demo exports everything the sample has."""
    assert {feed.source for feed in feeds()} == set(catalog.sources)
