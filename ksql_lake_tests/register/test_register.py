"""Delta Lake and Iceberg over the lake's own files: real readers of both see what DuckDB sees in the lake."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.table import StaticTable

from ksql_lake.errors import ConfigError, SchemaChangeError
from ksql_lake.lake import FeedLake, Lake
from ksql_lake.lake.doctor import Finding
from ksql_lake.register import (
    FORMATS,
    Format,
    Index,
    keep_fresh,
    refresh,
    register,
    registered,
    stale,
    unregister,
)
from ksql_lake.schema import parse_schema
from ksql_lake_tests.lake.landing import Row, event, land_rows, stream_feed, table_feed
from ksql_lake_tests.lake.values import canonical
from ksql_lake_tests.stores.servers import Store

STREAM, TABLE = stream_feed(), table_feed(retention=2)
NARROW = (
    "`ROWTIME` TIMESTAMP, `ID` BIGINT, `N` INTEGER, `B` BOOLEAN, `D` DOUBLE, `E` DECIMAL(20, 4), `S` STRING, "
    "`Y` BYTES, `U` DATE, `T` TIME, `L` ARRAY<DOUBLE>, `M` MAP<STRING, INTEGER>, "
    "`R` STRUCT<`a` INTEGER, `m` MAP<STRING, ARRAY<STRING>>>"
)
WIDE = (
    "`ROWTIME` TIMESTAMP, `ID` BIGINT, `N` BIGINT, `B` BOOLEAN, `D` DOUBLE, `E` DECIMAL(22, 4), `S` STRING, "
    "`Y` BYTES, `U` DATE, `T` TIME, `L` ARRAY<DOUBLE>, `M` MAP<STRING, BIGINT>, "
    "`R` STRUCT<`a` BIGINT, `m` MAP<STRING, ARRAY<STRING>>, `z` STRING>, `EXTRA` STRING"
)


def row(number: int, *, day: int = 0, wide: bool = False) -> Row:
    """A row with a value of every type, or without any for every third number."""
    at = event(number, day=day)["ROWTIME"]
    if number % 3 == 0:
        return {"ROWTIME": at, "ID": number}
    far = 2**40 if wide else 5
    nested = {"a": far, "m": [("x", ["y", None]), ("z", None)]} | ({"z": "q"} if wide else {})
    return {
        "ROWTIME": at,
        "ID": number,
        "N": far,
        "B": True,
        "D": math.nan if number % 2 else -0.0,
        "E": Decimal("-1234567890123456.0001"),
        "S": "it's \u00fc",
        "Y": b"\x00\xff",
        "U": date(2025, 1, 15),
        "T": time(23, 59, 59, 999000),
        "L": [1.5, None, math.inf],
        "M": [("a", far), ("b", None)],
        "R": nested,
        **({"EXTRA": "x"} if wide else {}),
    }


def land(lake: Lake, *rows: Row, wide: bool = False) -> FeedLake:
    """Land rows of the stream."""
    land_rows(lake, STREAM, rows, schema=parse_schema(WIDE if wide else NARROW))
    return lake.feed(STREAM)


def make(lake: FeedLake, form: Format) -> Index:
    """Register a feed."""
    return register(lake.storage, lake.layout, form)


def delta(lake: FeedLake) -> pa.Table:
    """What deltalake reads."""
    return DeltaTable(lake.storage.uri(lake.layout.index("delta"))).to_pyarrow_table()


def iceberg(lake: FeedLake, **scan: Any) -> pa.Table:
    """What pyiceberg reads."""
    return StaticTable.from_metadata(lake.storage.uri(lake.layout.index("iceberg"))).scan(**scan).to_arrow()


NOT_IN: dict[Format, tuple[str, ...]] = {"delta": ("T",), "iceberg": ()}
READERS: dict[Format, Callable[[FeedLake], pa.Table]] = {"delta": delta, "iceberg": iceberg}


def rows_of(table: pa.Table, *, without: tuple[str, ...] = ()) -> Counter[str]:
    """Rows with their multiplicity, columns by name."""
    names = sorted(name for name in table.column_names if name not in without)
    rows = table.select(names).to_pylist()
    return Counter(repr(canonical({name: row[name] for name in names})) for row in rows)


def seen_by_duckdb(lake: FeedLake) -> pa.Table:
    """What DuckDB sees in the lake."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    table: pa.Table = lake.relation(connection).to_arrow_table()
    return table


VALUES = st.fixed_dictionaries(
    {
        "N": st.none() | st.sampled_from([-(2**63), -1, 0, 1, 2, 2**63 - 1]),
        "D": st.none() | st.sampled_from([math.nan, -math.inf, 0.5, 1.0, 7.0]),
        "I": st.none() | st.integers(-1, 3),
        "U": st.none()
        | st.sampled_from([date(1, 1, 1), date(2025, 1, 2), date(2025, 1, 3), date(9999, 12, 31)]),
    }
)


@pytest.fixture
def evolved(tmp_path: Path) -> FeedLake:
    """A stream with every type, whose numbers, MAPs, STRUCTs and columns have grown."""
    lake = Lake(tmp_path / "lake")
    land(lake, *(row(number, day=number % 2) for number in range(6)))
    return land(lake, *(row(number, day=2, wide=True) for number in range(10, 14)), wide=True)


@pytest.mark.parametrize("form", FORMATS)
def test_a_reader_of_the_format_sees_what_duckdb_sees(evolved: FeedLake, form: Format) -> None:
    """Every type, evolved files, partition columns as integers: the same rows; Delta alone has no TIME."""
    index = make(evolved, form)

    found, expected = READERS[form](evolved), seen_by_duckdb(evolved)
    assert rows_of(found) == rows_of(expected, without=NOT_IN[form])
    assert sum(rows_of(found).values()) == index.records == 10
    types = [found.schema.field(name).type for name in ("year", "month", "day", "N")]
    assert types == [pa.int32(), pa.int32(), pa.int32(), pa.int64()]
    assert index.built is not None
    left_out = ("T (Delta has no type for a time of day)",) if NOT_IN[form] else ()
    assert index.built.left_out == left_out


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("at_once", [True, False])
def test_columns_may_grow_before_or_after_registering(tmp_path: Path, form: Format, at_once: bool) -> None:
    """An index that followed each change says the same as one built at the end."""
    lake = Lake(tmp_path / "lake")
    for day, wide in enumerate((False, True, False)):
        feed = land(lake, row(day + 1, day=day, wide=wide), wide=wide)
        if not at_once:
            make(feed, form)

    make(feed, form)

    assert rows_of(READERS[form](feed)) == rows_of(seen_by_duckdb(feed), without=NOT_IN[form])


@pytest.mark.parametrize("form", FORMATS)
def test_registering_again_follows_exports_and_compaction(evolved: FeedLake, form: Format) -> None:
    """New files come in, merged ones go out, and an index that is up to date is left alone."""
    make(evolved, form)
    unchanged = make(evolved, form)
    land(Lake(evolved.storage.uri("")), row(20, day=2, wide=True), row(22, day=2, wide=True), wide=True)
    (found,) = stale(evolved.storage, evolved.layout, evolved.state())
    followed = make(evolved, form)
    list(evolved.compact())
    merged = make(evolved, form)

    assert unchanged.built is None
    assert found.detail == "it has the files of commit 2, the lake is at 3"
    assert followed.built is not None
    assert (followed.built.added, followed.built.removed) == (1, 0)
    assert merged.built is not None
    assert (merged.built.added, merged.built.removed) == (1, 2)
    assert rows_of(READERS[form](evolved)) == rows_of(seen_by_duckdb(evolved), without=NOT_IN[form])
    assert list(stale(evolved.storage, evolved.layout, evolved.state())) == []


@pytest.mark.parametrize("form", FORMATS)
def test_versions_of_a_table_come_and_go_with_retention(tmp_path: Path, form: Format) -> None:
    """All kept versions are in the index, `version` as text; columns are those of all of them."""
    lake = Lake(tmp_path / "lake")
    wide = parse_schema("`ID` BIGINT KEY, `AGE` INTEGER, `NAME` STRING")
    for number in range(3):
        land_rows(lake, TABLE, [{"ID": number, "NAME": "a"}])
        make(lake.feed(TABLE), form)
    land_rows(lake, TABLE, [{"ID": 7, "NAME": "b", "AGE": 3}], schema=wide)
    land_rows(lake, TABLE, [], schema=wide)
    lake.feed(TABLE).apply_retention()

    index = make(lake.feed(TABLE), form)

    assert (index.files, index.records) == (2, 1)
    assert READERS[form](lake.feed(TABLE)).to_pylist() == [{"ID": 7, "AGE": 3, "NAME": "b", "version": "v4"}]


@pytest.mark.parametrize("form", FORMATS)
def test_only_the_asked_days_are_read(evolved: FeedLake, form: Format) -> None:
    """A filter on a partition column leaves the files of other days out."""
    make(evolved, form)
    folder = evolved.storage.uri(evolved.layout.index(form))

    if form == "delta":
        planned = DeltaTable(folder).file_uris(file_pruning_predicate="day = 17")
    else:
        tasks = StaticTable.from_metadata(folder).scan("day = 17").plan_files()
        planned = [task.file.file_path for task in tasks]

    assert len(planned) == 1
    assert "day=17" in planned[0]


@pytest.mark.parametrize("form", FORMATS)
def test_plain_readers_are_not_disturbed(evolved: FeedLake, form: Format) -> None:
    """The dataset folder holds what it held, and readers that glob see what they saw."""
    folder = Path(evolved.dataset_path)
    before = sorted(folder.rglob("*"))

    make(evolved, form)

    assert sorted(folder.rglob("*")) == before
    assert len(pd.read_parquet(folder, columns=["ID"])) == 10
    lazy = pl.scan_parquet(f"{folder}/**/*.parquet", missing_columns="insert", extra_columns="ignore")
    assert lazy.select("ID").collect().height == 10
    for root in (folder, evolved.storage.uri("")):
        # A connection of its own: a result that is not fetched to its end blocks the one all share.
        with duckdb.connect() as connection:
            found = connection.execute(f"SELECT count(*) FROM read_parquet('{root}/**/*.parquet')").fetchone()
        assert found == (10,)


def test_other_readers_of_delta_see_the_rows_too(evolved: FeedLake) -> None:
    """Polars and DataFusion read the index too."""
    make(evolved, "delta")
    folder = evolved.storage.uri(evolved.layout.index("delta"))

    assert pl.scan_delta(folder).select(pl.col("ID").sum()).collect().item() == sum((*range(6), *range(10, 14)))
    engine = QueryBuilder().register("events", DeltaTable(folder))
    table = pa.table(engine.execute('SELECT count(*) AS n, sum("N") AS total FROM events').read_all())
    assert table.to_pylist() == [{"n": 10, "total": 4 * 5 + 3 * 2**40}]


def test_polars_reads_iceberg(evolved: FeedLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polars reads the index by its newest metadata file."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    index = make(evolved, "iceberg")
    assert index.built is not None

    frame = pl.scan_iceberg(f"{index.location}/{index.built.head}").select("ID", "day").collect()

    assert frame["ID"].sum() == sum((*range(6), *range(10, 14)))
    assert set(frame["day"]) == {15, 16, 17}


def test_writers_of_delta_are_kept_away(evolved: FeedLake) -> None:
    """Whoever would rewrite, delete or append through the index is refused; vacuum finds nothing to remove."""
    make(evolved, "delta")
    table = DeltaTable(evolved.storage.uri(evolved.layout.index("delta")))
    land(Lake(evolved.storage.uri("")), row(20, day=1))
    files = sorted(Path(evolved.dataset_path).rglob("*.parquet"))

    for write in (
        lambda: table.delete("day = 15"),
        table.optimize.compact,
        lambda: write_deltalake(table, table.to_pyarrow_table(), mode="append"),
        lambda: write_deltalake(table, table.to_pyarrow_table(), mode="overwrite"),
    ):
        with pytest.raises(CommitFailedError, match="ksqlLakeReadOnly"):
            write()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)

    assert sorted(Path(evolved.dataset_path).rglob("*.parquet")) == files


def test_a_moved_lake_keeps_delta_and_needs_iceberg_anew(evolved: FeedLake, tmp_path: Path) -> None:
    """Delta's link is relative; Iceberg names whole paths, which is noticed and repaired."""
    for form in FORMATS:
        make(evolved, form)
    moved = tmp_path / "elsewhere" / "lake"
    moved.parent.mkdir()
    Path(evolved.storage.uri("")).rename(moved)
    lake = Lake(moved).feed(STREAM)

    assert rows_of(delta(lake)) == rows_of(seen_by_duckdb(lake), without=("T",))
    with pytest.raises(FileNotFoundError):
        iceberg(lake)
    (found,) = refresh(lake.storage, lake.layout)
    assert found.key.endswith("/iceberg")
    assert found.detail.startswith("the lake was at ")
    assert rows_of(iceberg(lake)) == rows_of(seen_by_duckdb(lake))


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_index_is_found_and_built_anew(evolved: FeedLake, form: Format) -> None:
    """Whatever is deleted or edited of an index, it is derived and comes back whole."""
    folder = Path(evolved.storage.uri(evolved.layout.index(form)))
    note = Path(evolved.storage.uri(evolved.layout.index_note(form)))

    def lose_head() -> None:
        (folder / json.loads(note.read_text())["head"]).unlink()

    for damage in (
        lambda: shutil.rmtree(folder),
        lose_head,
        lambda: note.write_text("{"),
        lambda: note.write_text("\u00ff", encoding="latin-1"),
    ):
        make(evolved, form)
        damage()
        assert len(list(stale(evolved.storage, evolved.layout, evolved.state()))) == 1
        assert len(list(refresh(evolved.storage, evolved.layout))) == 1
        assert READERS[form](evolved).num_rows == 10


def test_an_index_that_cannot_be_repaired_does_not_stop_the_other(evolved: FeedLake, tmp_path: Path) -> None:
    """Where no Delta index can be, the Iceberg index is repaired before the error is raised."""
    for form in FORMATS:
        make(evolved, form)
    land(Lake(evolved.storage.uri("")), row(20, day=1))
    moved = tmp_path / "a%20b"
    Path(evolved.storage.uri("")).rename(moved)
    lake = Lake(moved).feed(STREAM)
    repaired: list[Finding] = []

    with pytest.raises(ConfigError, match="reads a % in a path as an escape"):
        repaired.extend(refresh(lake.storage, lake.layout))

    assert [finding.key for finding in repaired] == [lake.layout.index("iceberg")]
    assert rows_of(iceberg(lake)) == rows_of(seen_by_duckdb(lake))


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "lost": lambda _data: None,
    "emptied": lambda _data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "changed": lambda data: data[: len(data) // 2] + b"\x00" + data[len(data) // 2 + 1 :],
}


def harm(path: Path, damage: str) -> None:
    """Damage a file."""
    left = DAMAGES[damage](path.read_bytes())
    path.unlink() if left is None else path.write_bytes(left)


def needed_files(feed: FeedLake, form: Format) -> list[Path]:
    """The files of an index that its readers open, and those that its record names."""
    folder = Path(feed.storage.uri(feed.layout.index(form)))
    named = json.loads(Path(feed.storage.uri(feed.layout.index_note(form))).read_text())["files"]
    if form == "delta":
        read = [*(folder / "_delta_log").glob("*.json"), *(folder / "_delta_log").glob("*.parquet")]
        assert {path.relative_to(folder).as_posix() for path in read} == set(named)
        return sorted(read)
    table = StaticTable.from_metadata(str(folder))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifests = [manifest.manifest_path for manifest in snapshot.manifests(table.io)]
    paths = [Path(path) for path in (table.metadata_location, snapshot.manifest_list, *manifests)]
    assert {path.relative_to(folder).as_posix() for path in paths} == set(named)
    return [*paths, folder / "metadata" / "version-hint.text"]


@pytest.mark.parametrize("damage", ["lost", "cut", "changed"])
@pytest.mark.parametrize("form", FORMATS)
def test_damage_of_any_file_that_a_reader_needs_is_found_and_repaired(
    evolved: FeedLake, form: Format, damage: str
) -> None:
    """A file that is lost, emptied, cut or changed is a finding; the repair restores what readers see."""
    make(evolved, form)
    land(Lake(evolved.storage.uri("")), row(20, day=1))
    make(evolved, form)
    expected = rows_of(seen_by_duckdb(evolved), without=NOT_IN[form])

    for number in range(len(needed_files(evolved, form))):
        # A repair may leave fewer files, of which the last is then damaged twice.
        path = needed_files(evolved, form)[: number + 1][-1]
        harm(path, damage)
        (found,) = stale(evolved.storage, evolved.layout, evolved.state())
        name = path.relative_to(evolved.storage.uri(evolved.layout.index(form)))
        assert found.detail == f"{name} is {'missing' if damage == 'lost' else 'damaged'}"
        assert len(list(refresh(evolved.storage, evolved.layout))) == 1
        assert rows_of(READERS[form](evolved)) == expected
        assert list(stale(evolved.storage, evolved.layout, evolved.state())) == []


@pytest.mark.parametrize("damage", ["lost", "cut", "changed"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_index_follows_the_next_commit(evolved: FeedLake, form: Format, damage: str) -> None:
    """Damage that nobody looked for is repaired when the next commit updates the index."""
    make(evolved, form)
    for number in range(len(needed_files(evolved, form))):
        harm(needed_files(evolved, form)[: number + 1][-1], damage)
        land(Lake(evolved.storage.uri("")), row(20 + number, day=1))

        assert keep_fresh(evolved.storage, evolved.layout) == (form,)

        assert rows_of(READERS[form](evolved)) == rows_of(seen_by_duckdb(evolved), without=NOT_IN[form])


def test_a_delta_index_whose_link_leads_elsewhere_is_repaired(evolved: FeedLake) -> None:
    """The link to the dataset may be lost, lead elsewhere, or be a copy of the files after a careless copy."""
    link = Path(make(evolved, "delta").location, "data")

    def lose() -> None:
        link.unlink()

    def misdirect() -> None:
        link.unlink()
        link.symlink_to("../../..", target_is_directory=True)

    def copy() -> None:
        link.unlink()
        shutil.copytree(evolved.dataset_path, link)

    for damage in (lose, misdirect, copy):
        damage()
        (found,) = stale(evolved.storage, evolved.layout, evolved.state())
        assert found.detail == "its link data does not lead to streams/events"
        make(evolved, "delta")
        assert link.resolve() == Path(evolved.dataset_path).resolve()
        assert delta(evolved).num_rows == 10


def test_entries_before_a_checkpoint_are_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers begin at the newest checkpoint, so older entries may go; the checkpoint itself may not."""
    monkeypatch.setattr("ksql_lake.register.delta.CHECKPOINT_EVERY", 3)
    lake = Lake(tmp_path / "lake")
    for number in range(8):
        feed = land(lake, row(number + 1, day=number % 3))
        make(feed, "delta")
    log = Path(feed.storage.uri(feed.layout.index("delta")), "_delta_log")
    for number in range(6):
        (log / f"{number:020d}.json").unlink()
    assert delta(feed).num_rows == 8
    assert list(stale(feed.storage, feed.layout, feed.state())) == []

    harm(log / f"{6:020d}.checkpoint.parquet", "lost")

    assert [found.detail for found in stale(feed.storage, feed.layout, feed.state())] == [
        f"_delta_log/{6:020d}.checkpoint.parquet is missing"
    ]
    make(feed, "delta")
    assert rows_of(delta(feed)) == rows_of(seen_by_duckdb(feed), without=("T",))


@pytest.mark.parametrize("form", FORMATS)
def test_an_index_without_a_record_of_its_files_is_built_anew(evolved: FeedLake, form: Format) -> None:
    """Older releases recorded no files, so nothing says whether the index is whole."""
    make(evolved, form)
    note = Path(evolved.storage.uri(evolved.layout.index_note(form)))
    held = json.loads(note.read_text())
    del held["files"]
    note.write_text(json.dumps(held))

    (found,) = stale(evolved.storage, evolved.layout, evolved.state())
    index = make(evolved, form)

    assert found.detail == "the record of its commit names no files: an older ksql-lake wrote it"
    assert index.built is not None
    assert index.built.added == 3
    assert list(stale(evolved.storage, evolved.layout, evolved.state())) == []


@pytest.mark.parametrize("damage", ["lost", "emptied"])
def test_what_a_killed_run_left_damaged_is_built_anew(evolved: FeedLake, damage: str) -> None:
    """Files that came after the record of an Iceberg index have no digest; what pyiceberg cannot read goes."""
    note = Path(evolved.storage.uri(evolved.layout.index_note("iceberg")))
    make(evolved, "iceberg")
    before = note.read_bytes()
    land(Lake(evolved.storage.uri("")), row(20, day=1))
    make(evolved, "iceberg")
    known = set(json.loads(before)["files"])
    folder = Path(evolved.storage.uri(evolved.layout.index("iceberg")))
    new = [name for name in json.loads(note.read_text())["files"] if name not in known]
    assert len(new) == 3
    note.write_bytes(before)
    harm(folder / next(name for name in new if "snap-" in name), damage)

    index = make(evolved, "iceberg")

    assert index.built is not None
    assert index.built.added == 4
    assert rows_of(iceberg(evolved)) == rows_of(seen_by_duckdb(evolved))


@pytest.mark.parametrize("form", FORMATS)
def test_a_run_that_was_killed_before_its_note_is_finished(evolved: FeedLake, form: Format) -> None:
    """Where the index is ahead of its note, or half made, registering again doubles and loses nothing."""
    note = Path(evolved.storage.uri(evolved.layout.index_note(form)))
    make(evolved, form)
    before = note.read_bytes()
    land(Lake(evolved.storage.uri("")), row(20, day=1))
    make(evolved, form)

    note.write_bytes(before)
    finished = make(evolved, form)
    note.unlink()
    anew = make(evolved, form)

    assert finished.built is not None
    assert (finished.built.added, finished.built.removed) == (0, 0)
    assert anew.built is not None
    assert anew.built.added == 4
    assert rows_of(READERS[form](evolved)) == rows_of(seen_by_duckdb(evolved), without=NOT_IN[form])


def test_a_delta_log_that_others_broke_is_written_anew(evolved: FeedLake) -> None:
    """A log that cannot be read any more is no reason to fail."""
    index = make(evolved, "delta")
    first = Path(index.location) / "_delta_log" / f"{0:020d}.json"
    first.write_text("not a log")
    with pytest.raises(DeltaError):
        delta(evolved)
    land(Lake(evolved.storage.uri("")), row(20, day=1))

    make(evolved, "delta")

    assert rows_of(delta(evolved)) == rows_of(seen_by_duckdb(evolved), without=("T",))


@pytest.mark.parametrize("form", FORMATS)
def test_an_index_stays_small_however_often_it_is_registered(tmp_path: Path, form: Format) -> None:
    """Old states of an Iceberg index go; Delta's log gets a checkpoint that spares readers its beginning."""
    lake = Lake(tmp_path / "lake")
    for number in range(8):
        feed = land(lake, row(number + 1, day=0))
        make(feed, form)

    files = [path for path in Path(feed.storage.uri(feed.layout.index(form))).rglob("*") if path.is_file()]

    assert READERS[form](feed).num_rows == 8
    assert len(files) <= 8 + 6


def test_a_long_delta_log_has_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of a long log begin at its checkpoint, and see the same rows."""
    monkeypatch.setattr("ksql_lake.register.delta.CHECKPOINT_EVERY", 3)
    lake = Lake(tmp_path / "lake")
    for number in range(8):
        feed = land(lake, row(number + 1, day=number % 3))
        make(feed, "delta")

    folder = Path(feed.storage.uri(feed.layout.index("delta")))
    assert (folder / "_delta_log" / "_last_checkpoint").exists()
    assert rows_of(delta(feed)) == rows_of(seen_by_duckdb(feed), without=("T",))


@pytest.mark.parametrize("form", FORMATS)
def test_versions_that_contradict_each_other_are_refused(tmp_path: Path, form: Format) -> None:
    """A column of two types cannot be one column of a table format; the error says what to do."""
    lake = Lake(tmp_path / "lake")
    land_rows(lake, TABLE, [{"ID": 1, "NAME": "a"}])
    land_rows(lake, TABLE, [{"ID": 1, "NAME": 1}], schema=parse_schema("`ID` BIGINT KEY, `NAME` BIGINT"))

    with pytest.raises(SchemaChangeError) as caught:
        make(lake.feed(TABLE), form)

    assert str(caught.value) == (
        "feed users, column NAME: version v1 has another type for a column than the versions after it, and "
        "table formats know one type for each\n"
        "Let retention remove the versions before the change, then register again."
    )


ODD = (
    "`ID` BIGINT KEY, `a b` STRING, `x.y` STRING, `\u00fc` STRING, `A,B;()=` STRING, `S` STRUCT<`p.q` INTEGER>"
)


@pytest.mark.parametrize("form", FORMATS)
def test_names_that_need_quoting_are_kept(tmp_path: Path, form: Format) -> None:
    """Columns and folders may have spaces, dots, commas and letters beyond ASCII."""
    lake = Lake(tmp_path / "my l\u00e4ke")
    row = {"ID": 1, "a b": "1", "x.y": "2", "\u00fc": "3", "A,B;()=": "4", "S": {"p.q": 5}}
    land_rows(lake, TABLE, [row], schema=parse_schema(ODD))

    make(lake.feed(TABLE), form)

    assert READERS[form](lake.feed(TABLE)).to_pylist() == [row | {"version": "v1"}]


def test_a_path_that_delta_cannot_read_is_refused(tmp_path: Path) -> None:
    """delta-rs decodes percent signs of paths twice; the error says so instead of leaving a dead index."""
    lake = Lake(tmp_path / "a%20b")
    land_rows(lake, TABLE, [{"ID": 1, "NAME": "a"}])

    with pytest.raises(ConfigError, match="reads a % in a path as an escape"):
        make(lake.feed(TABLE), "delta")

    make(lake.feed(TABLE), "iceberg")
    assert iceberg(lake.feed(TABLE)).num_rows == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_feed_without_rows_has_nothing_to_index(tmp_path: Path, form: Format) -> None:
    """Before the first export there are no columns, and no index is made."""
    feed = Lake(tmp_path / "lake").feed(STREAM)

    assert make(feed, form).files is None
    assert registered(feed.storage, feed.layout) == ()


def test_delta_of_a_lake_in_an_object_store_is_refused() -> None:
    """Nothing is asked of the store before the error says why, and what to do instead."""
    feed = Lake("s3://nowhere/lake").feed(STREAM)

    with pytest.raises(ConfigError, match="no links\nUse --format iceberg, or read"):
        make(feed, "delta")


@pytest.mark.parametrize("form", FORMATS)
def test_an_index_can_be_taken_away(evolved: FeedLake, form: Format) -> None:
    """Removing an index removes all of it, and nothing of the data."""
    before = sorted(Path(evolved.storage.uri("")).rglob("*"))
    make(evolved, form)
    assert registered(evolved.storage, evolved.layout) == (form,)

    assert unregister(evolved.storage, evolved.layout, form)
    assert not unregister(evolved.storage, evolved.layout, form)

    left = [path for path in Path(evolved.storage.uri("")).rglob("*") if path.name != "lock"]
    assert sorted(left) == [path for path in before if path.name != "lock"]
    assert seen_by_duckdb(evolved).num_rows == 10


def test_a_row_read_through_an_index_is_typed(evolved: FeedLake) -> None:
    """One row by value, so that the comparison with DuckDB does not compare two mistakes."""
    make(evolved, "iceberg")

    (found,) = iceberg(evolved, row_filter="ID = 11").to_pylist()

    assert found["ROWTIME"] == datetime(2025, 1, 17, 0, 0, 11, tzinfo=UTC)
    assert (found["N"], found["E"]) == (2**40, Decimal("-1234567890123456.0001"))
    assert found["T"] == time(23, 59, 59, 999000)
    assert found["R"] == {"a": 2**40, "m": [("x", ["y", None]), ("z", None)], "z": "q"}
    assert (found["year"], found["month"], found["day"], found["EXTRA"]) == (2025, 1, 17, "x")


def test_a_filter_on_the_time_prunes_the_files_of_delta(tmp_path: Path) -> None:
    """The log has the first and last time of a file's rows; filters on other columns find all rows, NaN too."""
    feed, day_of = stream_feed(), {"S": "`S` STRING"}
    for day in range(6):
        schema = parse_schema(
            f"`ROWTIME` TIMESTAMP, `ID` BIGINT, `D` DOUBLE{', ' + day_of['S'] if day > 2 else ''}"
        )
        rows = [
            {
                "ROWTIME": event(number, day=day)["ROWTIME"],
                "ID": None if day == 2 else 10 * day + number,
                "D": math.nan if day == 3 and number else day + 0.5,
                "S": None if day == 4 else "x",
            }
            for number in range(2)
        ]
        land_rows(
            Lake(tmp_path),
            feed,
            [{name: row[name] for name in schema.names} for row in rows],
            schema=schema,
            days=6,
        )
    make(Lake(tmp_path).feed(feed), "delta")
    dataset = DeltaTable(Lake(tmp_path).storage.uri("metadata/streams/events/delta")).to_pyarrow_dataset()
    held = dataset.to_table()
    field = pa.compute.field

    time = field("ROWTIME") >= event(0, day=4)["ROWTIME"]
    assert len(list(dataset.get_fragments())) == 6
    assert len(list(dataset.get_fragments(filter=time))) == 2
    for condition in (
        time,
        field("ID") == 31,
        field("ID").is_null(),
        field("D") < 4,
        pa.compute.is_nan(field("D")),
        field("S").is_null(),
        field("S") == "x",
        field("ROWTIME") == event(1, day=5)["ROWTIME"],
    ):
        assert dataset.to_table(filter=condition).num_rows == held.filter(condition).num_rows, condition


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(VALUES, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_what_delta_tells_of_columns_hides_no_row(days: list[tuple[bool, list[Row]]]) -> None:
    """Any filter finds through pyarrow, polars and DataFusion what it finds among all rows.

    Columns come later, are all NULL, hold NaN or the ends of their types; the index follows, or comes last.
    """
    with TemporaryDirectory() as folder:
        feed = Lake(folder).feed(STREAM)
        for day, (wide, rows) in enumerate(days):
            columns = "`ROWTIME` TIMESTAMP, `N` BIGINT, `D` DOUBLE" + (
                ", `I` INTEGER, `U` DATE" if wide else ""
            )
            schema = parse_schema(columns)
            made = [{"ROWTIME": event(number, day=day)["ROWTIME"], **row} for number, row in enumerate(rows)]
            land_rows(
                Lake(folder),
                STREAM,
                [{name: row[name] for name in schema.names} for row in made],
                schema=schema,
                days=4,
            )
            if day % 2:
                make(feed, "delta")
        make(feed, "delta")
        table = DeltaTable(feed.storage.uri(feed.layout.index("delta")))
        dataset, every = table.to_pyarrow_dataset(), table.to_pyarrow_dataset().to_table()
        held = pl.DataFrame(pl.from_arrow(every))
        for name in [column for column in ("N", "D", "I", "U") if column in every.column_names]:
            field, column = pa.compute.field(name), pl.col(name)
            bound = date(2025, 1, 2) if name == "U" else 1
            for arrow, polars in (
                (field > bound, column > bound),
                (~(field > bound), ~(column > bound)),
                (field == bound, column == bound),
                (field.is_null(), column.is_null()),
                (field.is_valid(), column.is_not_null()),
            ):
                assert dataset.to_table(filter=arrow).num_rows == every.filter(arrow).num_rows, str(arrow)
                found = pl.scan_delta(table).filter(polars).collect()
                assert found.height == held.filter(polars).height, str(polars)
            missing = f'SELECT count(*) AS n FROM t WHERE "{name}" IS NULL'
            counted = pa.table(QueryBuilder().register("t", table).execute(missing).read_all())
            assert counted["n"][0].as_py() == every.column(name).null_count


def test_a_filter_on_a_number_prunes_the_files_of_delta(tmp_path: Path) -> None:
    """Whole numbers, dates and timestamps have their bounds in the log."""
    for day in range(6):
        land_rows(
            Lake(tmp_path), stream_feed(), [event(10 * day + number, day=day) for number in range(2)], days=6
        )
    feed = Lake(tmp_path).feed(stream_feed())
    make(feed, "delta")
    dataset = DeltaTable(feed.storage.uri(feed.layout.index("delta"))).to_pyarrow_dataset()

    condition = pa.compute.field("ID") >= 40
    assert len(list(dataset.get_fragments(filter=condition))) == 2
    assert dataset.to_table(filter=condition).num_rows == 4


def test_a_lake_in_a_bucket_has_an_iceberg_index(moto_store: Store) -> None:
    """It follows exports, merges and a new column in the store, leaves no old state behind, and goes whole."""
    lake = Lake(moto_store.fresh())
    feed = land(lake, *(row(number, day=number % 2) for number in range(6)))
    first = make(feed, "iceberg")
    land(lake, *(row(number, day=1, wide=True) for number in range(10, 14)), wide=True)
    assert keep_fresh(feed.storage, feed.layout) == ("iceberg",)
    list(feed.compact())
    assert keep_fresh(feed.storage, feed.layout) == ("iceberg",)

    reached = {
        "s3.endpoint": moto_store.url,
        "s3.access-key-id": moto_store.environment["AWS_ACCESS_KEY_ID"],
        "s3.secret-access-key": moto_store.environment["AWS_SECRET_ACCESS_KEY"],
        "s3.region": "us-east-1",
    }
    assert first.location.startswith("s3://")
    table = StaticTable.from_metadata(first.location, properties=reached)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    feed.storage.attach(connection)
    assert rows_of(table.scan().to_arrow()) == rows_of(feed.relation(connection).to_arrow_table())
    assert list(stale(feed.storage, feed.layout, feed.state())) == []
    kept = len(feed.storage.names(f"{feed.layout.index('iceberg')}/metadata"))
    for number in range(20, 24):
        land(lake, row(number, day=1, wide=True), wide=True)
        keep_fresh(feed.storage, feed.layout)
    assert len(feed.storage.names(f"{feed.layout.index('iceberg')}/metadata")) <= kept + 6
    assert unregister(feed.storage, feed.layout, "iceberg")
    assert list(feed.storage.walk(feed.layout.index("iceberg"))) == []
    assert feed.state().records == 14
