"""A store at work: how many requests it takes, losers, spools, secrets, and what is tried again."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ksql_lake.errors import (
    ConflictError,
    CorruptLakeError,
    StoreUnavailableError,
    WriteError,
)
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.storage import bucket
from ksql_lake.lake.storage.object_storage import ObjectStorage
from ksql_lake_tests.lake.landing import event, land_rows, table_feed
from ksql_lake_tests.lake.test_commit import Interrupted, globbed
from ksql_lake_tests.lake.test_holdings import mended
from ksql_lake_tests.lake.test_object_store import FEED, always, assert_clean, storage_at
from ksql_lake_tests.stores.places import Place
from ksql_lake_tests.stores.proxy import Answer, Proxy, Request
from ksql_lake_tests.stores.servers import KEY, SECRET, Store


def counted(proxy: Proxy, root: str, rows: list[dict[str, object]]) -> Counter[str]:
    """Count the requests of one export by a process that knows nothing yet."""
    proxy.seen.clear()
    land_rows(Lake(root), FEED, rows, days=1)
    return proxy.counts


def test_requests_do_not_grow_with_history(proxy: Proxy, moto_store: Store) -> None:
    """An export costs as many requests after 60 commits of 60 days as after 4, reading new manifests apart."""
    root = moto_store.fresh()
    lake = Lake(root)
    for number in range(4):
        land_rows(lake, FEED, [event(number, day=number)], days=100)
    few = counted(proxy, root, [event(1000)])
    for number in range(5, 64):
        land_rows(lake, FEED, [event(number, day=number)], days=100)
    # The 64th commit writes a checkpoint; four more commits come after it, as after the beginning.
    for number in range(64, 68):
        land_rows(lake, FEED, [event(number, day=number)], days=100)
    many = counted(proxy, root, [event(2000)])

    # The day's second file has to be fetched to be compared with, and nothing else.
    assert many - few == Counter(get=1)
    assert few.total() <= 24
    assert (few["create"], few["copy"], few["delete"]) == (2, 1, 1)


def test_listings_begin_where_the_checkpoint_ends(proxy: Proxy, moto_store: Store) -> None:
    """Manifests are listed from the checkpoint's on, not from the first."""
    root = moto_store.fresh()
    lake = Lake(root)
    for number in range(33):
        land_rows(lake, FEED, [event(number)], days=1)
    proxy.seen.clear()

    Lake(root).feed(FEED).state()

    assert proxy.counts == Counter(get=2, list=1)
    (listing,) = (request.key for request in proxy.seen if request.does == "list")
    assert "start-after" in listing
    assert "00000000000000000031.json" in listing


def test_a_loser_uploads_again_and_needs_not_read_again(moto_store: Store) -> None:
    """An export that slept through two commits of others, which cleared its staging, still lands its rows."""
    root = moto_store.fresh()
    slept = False

    def sleep(name: str) -> None:
        nonlocal slept
        if name == "commit" and not slept:
            slept = True
            for number in (1, 2):
                land_rows(Lake(root), FEED, [event(number)])

    commit = land_rows(Lake(root, on_step=sleep), FEED, [event(1), event(3)])

    assert (commit.sequence, commit.manifest.counts[0].new) == (3, 1)
    assert globbed(Lake(root)) == Counter([1, 2, 3])
    assert_clean(root)


def test_others_see_that_somebody_is_at_work(moto_store: Store) -> None:
    """A run announces itself in its staging folder, and takes the note away at its end."""
    root = moto_store.fresh()
    storage, layout = storage_at(root), Lake(root).feed(FEED).layout

    def look(name: str) -> None:
        if name == "write":
            (folder,) = storage.staged(layout.staging)
            assert storage.touched(f"{layout.staging}/{folder}") is not None
            raise Interrupted

    with pytest.raises(Interrupted):
        _export_and_look(Lake(root), look)

    assert storage.staged(layout.staging) == []


def merged_lake(root: str) -> tuple[Lake, str, bytes]:
    """Return a lake with one merged day, and key and bytes of a file that the merge replaced."""
    lake, place = Lake(root), Place(root)
    land_rows(lake, FEED, [event(1)], days=1)
    (key,) = place.keys("streams", ending=".parquet")
    data = place.read(key)
    land_rows(lake, FEED, [event(2)], days=1)
    merge(lake)
    assert key not in place.keys("streams")
    return lake, key, data


def merge(lake: Lake) -> None:
    """Merge the day's files."""
    (_,) = lake.feed(FEED).compact(older_than=0, now=datetime(2025, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize("at_work", ["export", "merge"])
def test_a_copy_that_the_store_finishes_late_is_removed(
    store: Store, at_work: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A replaced file that appears again, equal to the byte, is removed by the next run that writes the day."""
    lake, key, data = merged_lake(store.fresh())
    if at_work == "merge":
        land_rows(lake, FEED, [event(3)], days=1)
    Place(lake.root).write(key, data)

    if at_work == "merge":
        merge(lake)
    else:
        land_rows(lake, FEED, [event(3)], days=1)

    assert globbed(lake) == Counter([1, 2, 3])
    assert examine(lake.storage, lake.feed(FEED).layout).sound
    assert "removed data_" in caplog.text


def damage(place: Place, key: str) -> None:
    """Write one other byte into a file."""
    data = place.read(key)
    place.write(key, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])


@pytest.mark.parametrize("fault", ["it differs", "merge lost", "merge damaged", "merge forgotten"])
def test_a_replaced_file_that_may_hold_the_only_rows_stays(moto_store: Store, fault: str) -> None:
    """One with other bytes, or without a sound merged file, is left to doctor, who keeps its rows."""
    lake, key, data = merged_lake(moto_store.fresh())
    place = Place(lake.root)
    (merged,) = place.keys("streams", ending=".parquet")
    if fault == "merge damaged":
        damage(place, merged)
    elif fault != "it differs":
        place.delete(merged)
    if fault == "merge forgotten":
        mended(lake)
    place.write(key, data)
    if fault == "it differs":
        damage(place, key)

    with pytest.raises(CorruptLakeError, match="a data file that no commit names"):
        land_rows(Lake(lake.root), FEED, [event(3)], days=1)

    assert key in place.keys("streams")
    mended(lake)
    assert globbed(lake) == Counter([1, 2] if fault == "it differs" else [1])


def _export_and_look(lake: Lake, look: Callable[[str], None]) -> None:
    from ksql_lake.lake import ReadFacts
    from ksql_lake_tests.lake.landing import EVENTS, FIRST

    read = ReadFacts(source="EVENTS", statement="SELECT", read_at="2025-02-01T00:00:00+00:00")
    with lake.feed(FEED).stage(EVENTS, read=read, days=(FIRST, FIRST)):
        look("write")


def test_the_spool_is_empty_after_each_run(
    moto_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stays on the local disk: of an export, of one that fails, of a merge, of a process that died."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = moto_store.fresh()
    lake = Lake(root)
    land_rows(lake, FEED, [event(1)])
    land_rows(lake, FEED, [event(1), event(2)])
    with pytest.raises(Interrupted):
        _export_and_look(lake, lambda _name: (_ for _ in ()).throw(Interrupted()))
    assert len(list(lake.feed(FEED).compact())) == 1
    (spool,) = tmp_path.glob("ksql-lake-*/spool-????????????")
    assert list(spool.iterdir()) == []

    dead = spool.with_name("spool-0123456789ab")
    dead.mkdir()
    (dead / "left").touch()
    land_rows(Lake(root), FEED, [event(3)])

    assert not dead.exists()
    assert spool.exists()


def test_a_full_spool_is_said_so(moto_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder that cannot be written is an error that names it and TMPDIR."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    (tmp_path / "file").touch()

    with pytest.raises(WriteError) as raised:
        land_rows(Lake(moto_store.fresh()), FEED, [event(1)])

    assert str(tmp_path / "file") in str(raised.value)
    assert "set TMPDIR to a folder with more" in str(raised.value)


def test_threads_may_share_an_open_file(store: Store, tmp_path: Path) -> None:
    """Many threads that read one file through DuckDB and pyarrow get the same rows as from a disk."""
    root = store.fresh()
    storage = storage_at(root)
    rows = pa.table({"a": range(200_000), "b": [f"text {number % 977}" for number in range(200_000)]})
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=5_000)
    storage.replace("streams/rows.parquet", (tmp_path / "rows.parquet").read_bytes(), temporary="")
    connection = duckdb.connect(config={"threads": 8})
    storage.attach(connection)
    query = "SELECT count(*), sum(a), count(DISTINCT b), max(b) FROM read_parquet('{}')"
    expected = connection.execute(query.format(tmp_path / "rows.parquet")).fetchall()

    for _ in range(5):
        assert connection.execute(query.format(storage.uri("streams/rows.parquet"))).fetchall() == expected
    paths, filesystem = storage.arrow_paths(["streams/rows.parquet"])
    assert pq.read_table(paths[0], filesystem=filesystem).equals(rows)


def test_tables_live_there_too(store: Store) -> None:
    """Snapshots, retention and the doctor in a bucket: the newest versions stay, all is sound."""
    root = store.fresh()
    lake, feed = Lake(root), table_feed(retention=2)
    for number in range(4):
        land_rows(lake, feed, [{"ID": number, "NAME": "a"}])

    assert lake.feed(feed).apply_retention().remove == ("v1", "v2")

    assert {key.split("/")[2] for key in Place(root).keys("tables")} == {"version=v3", "version=v4"}
    assert examine(lake.storage, lake.feed(feed).layout).findings == []


def test_no_secret_reaches_logs_files_or_addresses(moto_store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Keys are in the environment and nowhere else: not in objects, logs, or what describes the lake."""
    caplog.set_level(logging.DEBUG)
    root = moto_store.fresh()
    lake = Lake(root)
    land_rows(lake, FEED, [event(1)])
    lake.feed(FEED).record_failure(StoreUnavailableError("could not be read", path=root))

    place = Place(root)
    shown = [caplog.text, repr(lake.storage), repr(vars(lake.storage)), lake.root]
    shown += [place.read(key).decode(errors="replace") for key in place.keys()]  # noqa: SIM118 - not a dict
    for secret in (KEY, SECRET):
        assert not any(secret in text for text in shown)


def test_a_lost_spool_is_a_conflict(moto_store: Store) -> None:
    """Staged files that somebody removed from the local disk before the commit are read again."""
    root = moto_store.fresh()
    lake = Lake(root)
    land_rows(lake, FEED, [event(1)])

    def lose(name: str) -> None:
        if name == "write":
            shutil.rmtree(next(iter(storage_of(lake)._folders.values())))

    with pytest.raises((ConflictError, WriteError)):
        _write_and_lose(lake, lose)

    assert globbed(Lake(root)) == Counter([1])


def storage_of(lake: Lake) -> ObjectStorage:
    """Return a lake's storage as what it is."""
    assert isinstance(lake.storage, ObjectStorage)
    return lake.storage


def _write_and_lose(lake: Lake, lose: Callable[[str], None]) -> None:
    from ksql_lake.lake import ReadFacts
    from ksql_lake.schema import arrow_schema
    from ksql_lake_tests.lake.landing import EVENTS, FIRST

    read = ReadFacts(source="EVENTS", statement="SELECT", read_at="2025-02-01T00:00:00+00:00")
    with lake.feed(FEED).stage(EVENTS, read=read, days=(FIRST, FIRST)) as staging:
        staging.write(pa.RecordBatch.from_pylist([event(2)], schema=arrow_schema(EVENTS)))
        lose("write")
        staging.commit()


def test_a_store_in_trouble_is_tried_for_as_long_as_the_page_says(
    proxy: Proxy, moto_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a number of tries ends them but the time: here two seconds, else a minute."""
    assert bucket._RETRY["retry_timeout"] == timedelta(seconds=60)
    monkeypatch.setitem(bucket._RETRY, "max_retries", 200)
    monkeypatch.setitem(bucket._RETRY, "retry_timeout", timedelta(seconds=2))
    backoff = {"init_backoff": timedelta(milliseconds=20), "max_backoff": timedelta(milliseconds=50), "base": 2}
    monkeypatch.setitem(bucket._RETRY, "backoff", backoff)
    proxy.interfere = always(Answer(503), "get")

    with pytest.raises(StoreUnavailableError):
        Lake(moto_store.fresh()).feed(FEED).state()

    assert proxy.counts["get"] > 15


@pytest.mark.parametrize("stored", [True, False])
def test_a_manifest_whose_answer_is_an_error_is_read_back(
    proxy: Proxy, moto_store: Store, stored: bool
) -> None:
    """What the store did and failed to say is found: the commit stands; what it did not do is an error."""
    root = moto_store.fresh()

    def interfere(request: Request) -> Answer | None:
        manifest = request.does == "create" and "/commits/" in request.key
        return Answer(500, forward=stored) if manifest else None

    proxy.interfere = interfere
    lake = Lake(root)
    if stored:
        assert land_rows(lake, FEED, [event(1)]).sequence == 1
        assert lake.feed(FEED).state().records == 1
    else:
        with pytest.raises(StoreUnavailableError):
            land_rows(lake, FEED, [event(1)])
