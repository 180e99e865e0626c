"""`read_stream` and `read_table`: the same exact rows in every engine, and clear errors."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from ksql_lake import read_stream, read_table
from ksql_lake.errors import (
    ConfigError,
    CorruptLakeError,
    KsqlLakeError,
    LakeError,
    UnknownFeedError,
    VersionError,
)
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.lake.doctor import examine, repair
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.schema import arrow_schema, parse_schema
from ksql_lake_tests.lake.landing import EVENTS, Row, event, land_rows, stream_feed, table_feed
from ksql_lake_tests.query.lakes import BIG, ROWS_BY_DAY, EveryType, comparable, where_of

ENGINES = ["pandas", "arrow", "duckdb", "polars"]


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> EveryType:
    """A lake with every type."""
    return EveryType.make(tmp_path_factory.mktemp("every"))


@pytest.fixture
def here(every: EveryType, monkeypatch: pytest.MonkeyPatch) -> EveryType:
    """That lake as the one the environment names."""
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(every.lake))
    monkeypatch.setenv("KSQL_LAKE_FEEDS", str(every.feeds))
    return every


def listed(rows: Any) -> list[dict[str, Any]]:
    """Return an engine's answer as rows of Python values."""
    if isinstance(rows, pd.DataFrame):
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    if isinstance(rows, ds.Dataset):
        rows = rows.to_table()
    if isinstance(rows, pa.Table):
        return list(rows.to_pylist(maps_as_pydicts="strict"))
    if isinstance(rows, pl.LazyFrame):
        return rows.collect().to_dicts()
    assert isinstance(rows, duckdb.DuckDBPyRelation)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def _types(rows: Any) -> str:
    if isinstance(rows, pd.DataFrame):
        return str(dict(rows.dtypes))
    if isinstance(rows, ds.Dataset):
        return str(rows.schema)
    return str(rows.collect_schema() if isinstance(rows, pl.LazyFrame) else (rows.columns, rows.types))


@pytest.mark.usefixtures("here")
def test_every_engine_gives_the_same_rows() -> None:
    """Every type, before and after its columns changed, has one value whoever reads it."""
    answers = {engine: comparable(listed(read_stream("events", as_=engine))) for engine in ENGINES}

    assert len(answers["arrow"]) == sum(ROWS_BY_DAY.values())
    for engine in ENGINES:
        assert answers[engine] == answers["arrow"], engine


@pytest.mark.usefixtures("here")
def test_pandas_keeps_every_digit_beside_nulls() -> None:
    """A BIGINT above 2**53 and a DECIMAL of 30 digits, with NULLs in their columns, arrive unchanged."""
    frame = read_stream("events", "2025-01-17", "2025-01-17")

    first = frame.iloc[0]
    assert frame["L"].isna().sum() == 2
    assert (first["L"], first["I"]) == (BIG + 8, BIG + 8)
    assert first["M"] == Decimal("9" * 26 + ".0001")
    assert str(frame["L"].dtype) == "int64[pyarrow]"
    assert frame["L"].sum() == sum(BIG + number for number in range(8, 16) if number % 4 != 3)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("engine", ENGINES)
def test_days_include_both_ends(engine: str) -> None:
    """As with `--from` and `--to`; a day may be a date or its text, and each end may be open."""

    def days(*given: Any) -> set[int]:
        return {row["day"] for row in listed(read_stream("events", *given, columns=["day"], as_=engine))}

    assert days("2025-01-16", date(2025, 1, 17)) == {16, 17}
    assert days(date(2025, 1, 17)) == {17, 4}
    assert days(None, "2025-01-15") == {15}
    assert days("2025-01-18", "2025-01-18") == set()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("engine", ENGINES)
def test_no_rows_have_types_too(engine: str) -> None:
    """A range without a day that has rows gives columns of the right types."""
    some, none = (
        read_stream("events", day, day, columns=["M", "year", "L"], as_=engine)
        for day in ("2025-01-15", "2025-01-18")
    )

    assert listed(none) == []
    assert _types(none) == _types(some)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("engine", ENGINES)
def test_columns_come_in_the_order_asked_for(engine: str) -> None:
    """Path columns can be asked for like any other."""
    (row, *_) = listed(read_stream("events", columns=["day", "S", "year"], as_=engine))

    assert list(row) == ["day", "S", "year"]


@pytest.mark.usefixtures("here")
def test_all_but_pandas_are_lazy(every: EveryType, tmp_path: Path) -> None:
    """Nothing is read before it is asked for: the answers can be had of files that cannot be read."""
    copy = EveryType(tmp_path)
    lake = Lake(copy.lake)
    FeedStore(copy.feeds).add(stream_feed())
    land_rows(lake, stream_feed(), [{"ROWTIME": datetime(2025, 1, 15, tzinfo=UTC), "ID": 1, "NOTE": "n"}])
    given: dict[str, Any] = {"root": copy.lake, "feeds": copy.feeds, "columns": ["ID"]}
    arrow, lazy = (read_stream("events", as_=engine, **given) for engine in ("arrow", "polars"))
    (path,) = copy.lake.rglob("*.parquet")
    path.write_bytes(b"PAR1")

    for engine in ("arrow", "polars"):
        read_stream("events", as_=engine, **given)
    with pytest.raises(pa.ArrowInvalid):
        arrow.to_table()
    with pytest.raises(pl.exceptions.ComputeError):
        lazy.collect()
    assert every.lake.exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("engine", ENGINES)
def test_versions_of_a_table(engine: str) -> None:
    """The latest is the default; a kept one is named by key or number; only its own rows come."""

    def names(*version: Any) -> list[tuple[str, str]]:
        rows = listed(read_table("users", *version, as_=engine))
        return sorted((row["NAME"], row["version"]) for row in rows)

    assert names() == [("v5", "v5")] * 5
    assert names("v3") == names(3) == [("v3", "v3")] * 3
    assert names("previous") == [("v4", "v4")] * 4


def test_a_version_has_the_columns_it_was_exported_with(tmp_path: Path) -> None:
    """A column that came, went or changed its type later does not touch an older version."""
    lake, feed = Lake(tmp_path / "lake"), table_feed()
    land_rows(
        lake,
        feed,
        [{"ID": 1, "PRICE": 0.5, "OLD": "o"}],
        schema=parse_schema("`ID` BIGINT KEY, `PRICE` DOUBLE, `OLD` STRING"),
    )
    land_rows(lake, feed, [{"ID": 1, "PRICE": "n"}], schema=parse_schema("`ID` BIGINT KEY, `PRICE` STRING"))
    given: dict[str, Any] = {"root": tmp_path / "lake", "feeds": tmp_path / "feeds"}

    for engine in ENGINES:
        assert listed(read_table("users", 1, as_=engine, **given)) == [
            {"ID": 1, "PRICE": 0.5, "OLD": "o", "version": "v1"}
        ]
        assert listed(read_table("users", as_=engine, **given)) == [{"ID": 1, "PRICE": "n", "version": "v2"}]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("read", "kind", "said"),
    [
        (lambda: read_stream("event"), UnknownFeedError, "no feed is called 'event'\nDid you mean 'events'?"),
        (lambda: read_stream("users"), ConfigError, "feed 'users' is a table, not a stream\nSay read_table."),
        (lambda: read_table("events"), ConfigError, "feed 'events' is a stream, not a table\nSay read_stream."),
        (
            lambda: read_table("users", "v2"),
            VersionError,
            "feed users: version v2 is not in the lake\nThere are v3, v4, v5.",
        ),
        (
            lambda: read_table("users", "newest"),
            VersionError,
            "feed users: 'newest' is no version of a table\nSay v3, 3, latest or previous.",
        ),
        (
            lambda: read_stream("events", "2025-02-01", "2025-01-01"),
            ConfigError,
            "start 2025-02-01 is after end 2025-01-01\nBoth days are included.",
        ),
        (
            lambda: read_stream("events", "yesterday"),
            ConfigError,
            "start must be a day, not 'yesterday'\nPass a datetime.date or a text such as '2025-01-31'",
        ),
        (
            lambda: read_stream("events", end=datetime(2025, 1, 1, tzinfo=UTC)),
            ConfigError,
            "end must be a day, not 2025-01-01 00:00:00+00:00\n",
        ),
        (
            lambda: read_stream("events", columns=["ROWTIM"]),
            ConfigError,
            "feed events: there is no column 'ROWTIM'\nDid you mean 'ROWTIME'?",
        ),
        (
            lambda: read_stream("events", columns=["S", "S"]),
            ConfigError,
            "feed events: column 'S' is named twice",
        ),
        (
            lambda: read_stream("events", columns="S"),
            ConfigError,
            "columns must be a list of names, not the text 'S'",
        ),
        (
            lambda: read_stream("events", columns=[]),
            ConfigError,
            "feed events: columns names no column\nLeave it out to read all columns.",
        ),
        (
            lambda: read_stream("events", as_="spark"),
            ConfigError,
            "rows cannot be read as 'spark'\nSay as_= pandas, arrow, duckdb or polars.",
        ),
    ],
)
def test_what_cannot_be_meant_is_said(read: Any, kind: type[KsqlLakeError], said: str) -> None:
    """Each mistake has an answer of its own that says what there is."""
    with pytest.raises(kind) as caught:
        read()

    assert str(caught.value).startswith(said)


def test_a_feed_that_was_never_exported(tmp_path: Path) -> None:
    """Without rows the columns are unknown; the answer says how to get them."""
    FeedStore(tmp_path / "feeds").add(stream_feed())

    with pytest.raises(LakeError, match="nothing was exported yet\nRun `ksql-lake export --stream events`"):
        read_stream("events", root=tmp_path / "lake", feeds=tmp_path / "feeds")


def test_data_without_its_feed_file_can_still_be_read(every: EveryType, tmp_path: Path) -> None:
    """An archived feed, a lost file, a machine with the lake alone: the rows are there."""
    store = FeedStore(tmp_path / "feeds")
    store.add(table_feed())
    store.archive("users")

    for feeds in (store.root, tmp_path / "nothing"):
        assert len(read_table("users", root=every.lake, feeds=feeds)) == 5
        assert len(read_stream("events", root=every.lake, feeds=feeds, columns=["S"])) == sum(
            ROWS_BY_DAY.values()
        )


def test_neither_lake_nor_feeds(tmp_path: Path) -> None:
    """In a folder that is no project's the answer says where it looked."""
    with pytest.raises(ConfigError) as caught:
        read_table("users", root=tmp_path / "lake", feeds=tmp_path / "feeds")

    assert str(caught.value) == (
        f"there is no lake at {tmp_path}/lake, and no feeds folder at {tmp_path}/feeds\n"
        "Run from the project's folder, or set KSQL_LAKE_ROOT and KSQL_LAKE_FEEDS."
    )


def test_a_lost_file_is_told(tmp_path: Path) -> None:
    """A file that is gone although no commit removed it is damage, not fewer rows."""
    made = EveryType.make(tmp_path)
    for path in made.lake.glob("streams/events/year=2025/month=02/*/*.parquet"):
        path.unlink()

    with pytest.raises(LakeError, match="a committed file is missing") as caught:
        read_stream("events", root=made.lake, feeds=made.feeds)

    assert "ksql-lake doctor" in str(caught.value)


@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_file_is_named(tmp_path: Path, cut: bool) -> None:
    """A file that was cut, or whose pages were overwritten, is the lake's error and not pyarrow's."""
    made = EveryType.make(tmp_path)
    for path in made.lake.glob("streams/events/year=2025/month=02/*/*.parquet"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if cut else data[:4] + b"x" * 2000 + data[2004:])

    with pytest.raises(CorruptLakeError, match="a committed file cannot be read: ") as caught:
        read_stream("events", root=made.lake, feeds=made.feeds)

    assert str(caught.value).endswith("Run `ksql-lake doctor` to list all damaged files.")


def event_of_day(day: int) -> Row:
    """A row of a day, 0 is 2025-01-15, whose number is that of the day."""
    return event(day, day=day)


def test_a_day_that_was_not_read_is_no_empty_day(tmp_path: Path) -> None:
    """Days of the range that no export has read, or read before their end, are errors unless allowed."""
    lake, feed = Lake(tmp_path / "data_lake"), stream_feed()
    FeedStore(tmp_path / "feeds").add(feed)
    land_rows(lake, feed, [event_of_day(0), event_of_day(2)], days=3)
    early = ReadFacts(source="EVENTS", statement="SELECT ...;", read_at="2025-01-19T12:00:00.000+00:00")
    window = (date(2025, 1, 19), date(2025, 1, 19))
    with lake.feed(feed).stage(EVENTS, read=early, days=window) as staging:
        staging.write(pa.RecordBatch.from_pylist([event_of_day(4)], schema=arrow_schema(EVENTS)))
        staging.commit()

    def ids(*days: str | None, **allowed: bool) -> list[int]:
        where = {"root": lake.root, "feeds": tmp_path / "feeds", **allowed}
        rows = read_stream("events", *days, as_="arrow", **where)  # type: ignore[arg-type]
        return sorted(rows.to_table().column("ID").to_pylist())

    assert ids() == [0, 2, 4]
    assert ids("2025-01-15", "2025-01-17") == [0, 2]
    assert ids("2025-01-16", "2025-01-16") == []
    for days, named in {
        ("2025-01-18", "2025-01-18"): "2025-01-18 was",
        ("2025-01-14", "2025-01-15"): "2025-01-14 was",
        ("2025-01-15", None): "2025-01-18 was",
        (None, "2025-01-22"): "2025-01-18, 2025-01-20 to 2025-01-22 were",
    }.items():
        with pytest.raises(LakeError, match=f"{named} never read") as caught:
            ids(*days)
        assert "ksql-lake export --stream events --" in str(caught.value)
        assert "allow_missing=True" in str(caught.value)
    assert ids("2025-01-14", "2025-01-18", allow_missing=True) == [0, 2]
    with pytest.raises(LakeError, match="2025-01-19 was read before the day had ended"):
        ids("2025-01-19", "2025-01-19")
    assert ids("2025-01-19", "2025-01-19", allow_open=True) == [4]
    assert ids("2025-01-19") == [4]


def test_a_day_that_lost_a_file_is_no_whole_day(lake: Lake) -> None:
    """What doctor left of a day is refused by name until an export has read the day again."""
    feed, where = stream_feed(), where_of(lake)
    land_rows(lake, feed, [event(1), event(2)])
    lost = lake.feed(feed).state().files_of("2025-01-15")[0]
    land_rows(lake, feed, [event(1), event(2), event(3)])
    (Path(lake.root) / "streams" / "events" / lost.path).unlink()
    list(repair(lake.storage, examine(lake.storage, FeedLayout("stream", "events")), apply=True))

    with pytest.raises(LakeError, match="2025-01-15 was never read"):
        read_stream("events", "2025-01-15", "2025-01-15", **where)
    land_rows(lake, feed, [event(1), event(2), event(3)])
    assert len(read_stream("events", "2025-01-15", "2025-01-15", **where)) == 3
