"""Two runs of one feed that meet at the worst moment: one is held there while the other goes on."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ksql_lake.errors import ConflictError
from ksql_lake.lake import FeedLake, Lake, ReadFacts, Staging
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake.schema import arrow_schema
from ksql_lake_tests.lake.landing import EVENTS, FIRST, Row, event, land_rows, stream_feed
from ksql_lake_tests.lake.test_commit import Interrupted, globbed

LATER = datetime(2025, 2, 1, 12, tzinfo=UTC)
FEED = stream_feed()
REPLACES = b"ksql_lake.replaces"
PATIENCE = 30.0
"""Upper bound, in seconds, of every wait; only a broken test gets there."""


class Once:
    """Does something the first time it is called, and nothing afterwards."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.done = False

    def __call__(self) -> None:
        """Do it, unless it was done."""
        if not self.done:
            self.done = True
            self.action()


class Meeting(LocalStorage):
    """A storage that lets someone else go first when a data file is about to be read."""

    def __init__(self, root: Path, meet: Callable[[], None]) -> None:
        super().__init__(root)
        self.meet = meet

    def uri(self, key: str) -> str:
        """Return the path; what asks for a data file's is about to read it."""
        if key.endswith(".parquet"):
            self.meet()
        return super().uri(key)

    def open(self, key: str, *, whole: bool = False) -> BufferedReader:
        """Open a file."""
        if key.endswith(".parquet"):
            self.meet()
        return super().open(key, whole=whole)


def begin(lake: Lake, rows: list[Row]) -> Staging:
    """Stage rows of the first day without committing them."""
    read = ReadFacts(source="EVENTS", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
    staging = lake.feed(FEED).stage(EVENTS, read=read, days=(FIRST, FIRST))
    staging.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(EVENTS)))
    return staging


def merge(root: Path) -> None:
    """Merge whatever can be merged."""
    for _ in Lake(root).feed(FEED).compact(now=LATER):
        pass


def assert_sound(root: Path, rows: Counter[int]) -> None:
    """The lake holds exactly these rows, and after two more commits the doctor finds nothing."""
    lake = Lake(root)
    lake.feed(FEED).recover()
    assert globbed(lake) == rows
    for _ in range(2):
        land_rows(lake, FEED, [])
    assert [str(finding) for finding in examine(lake.storage, lake.feed(FEED).layout).findings] == []


def test_staging_cleared_while_rows_are_written_is_a_conflict(tmp_path: Path) -> None:
    """An export whose staging others cleared gets a conflict and reads again; it does not blame the disk."""
    with begin(Lake(tmp_path), [event(1)]) as staging:
        land_rows(Lake(tmp_path), FEED, [event(2)])
        land_rows(Lake(tmp_path), FEED, [event(3)])

        with pytest.raises(ConflictError, match="staging folder was cleared by another run"):
            staging.commit()

    assert_sound(tmp_path, Counter([2, 3]))


def test_a_merge_under_an_export_is_planned_against(tmp_path: Path) -> None:
    """An export that was about to compare with files that a merge just removed compares with the merged one."""
    land_rows(Lake(tmp_path), FEED, [event(1)])
    land_rows(Lake(tmp_path), FEED, [event(2)])
    meet = Once(lambda: merge(tmp_path))
    lake = Lake(tmp_path)
    lake.storage = Meeting(tmp_path, meet)

    commit = land_rows(lake, FEED, [event(1), event(2), event(3)])

    assert meet.done
    assert (commit.sequence, commit.manifest.counts[0].new) == (4, 1)
    assert_sound(tmp_path, Counter([1, 2, 3]))


def test_a_merge_of_an_open_day_under_an_export_is_planned_against(tmp_path: Path) -> None:
    """While an export stages rows of a day its small files become one: what that holds is not added."""
    for number in range(3):
        land_rows(Lake(tmp_path), FEED, [event(number)])
    noon = datetime(2025, 1, 15, 12, tzinfo=UTC)

    with begin(Lake(tmp_path), [event(1), event(2), event(3)]) as staging:
        (done,) = Lake(tmp_path).feed(FEED).compact(now=noon, open_files=2)
        commit = staging.commit()

    assert (done.files_before, done.files_after) == (3, 1)
    assert (commit.sequence, commit.manifest.counts[0].new) == (5, 1)
    assert_sound(tmp_path, Counter([0, 1, 2, 3]))


def test_a_merge_of_an_open_day_leaves_out_what_an_export_just_added(tmp_path: Path) -> None:
    """An export that commits while a day's files are merged keeps its file; the merge is planned against it."""
    for number in range(3):
        land_rows(Lake(tmp_path), FEED, [event(number)])
    noon = datetime(2025, 1, 15, 12, tzinfo=UTC)
    meet = Once(lambda: land_rows(Lake(tmp_path), FEED, [event(3)]))

    (done,) = FeedLake(Meeting(tmp_path, meet), FEED).compact(now=noon, open_files=2)

    assert meet.done
    assert (done.files_before, done.files_after) == (4, 1)
    assert_sound(tmp_path, Counter([0, 1, 2, 3]))


def test_a_merge_under_a_merge_leaves_nothing_to_do(tmp_path: Path) -> None:
    """A merge that finds its files merged by another one does nothing and says nothing."""
    land_rows(Lake(tmp_path), FEED, [event(1)])
    land_rows(Lake(tmp_path), FEED, [event(2)])
    meet = Once(lambda: merge(tmp_path))

    done = list(FeedLake(Meeting(tmp_path, meet), FEED).compact(now=LATER))

    assert meet.done
    assert done == []
    assert_sound(tmp_path, Counter([1, 2]))


def test_a_summary_on_its_way_survives_clearing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow process whose scratch folder is cleared while it writes `_metadata.json` writes it again."""
    sync = os.fsync
    scratch: list[Path] = []

    def clear_first(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if path.name == "metadata.tmp" and not scratch:
            scratch.append(path.parent)
            shutil.rmtree(path.parent)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", clear_first)

    land_rows(Lake(tmp_path), FEED, [event(1)])

    assert scratch
    assert_sound(tmp_path, Counter([1]))


def test_a_folder_others_work_on_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file added while a folder is cleared, or removed by someone else first, does not stop the clearing."""
    folder = tmp_path / "staging"
    (folder / "inner").mkdir(parents=True)
    (folder / "staged.tmp").touch()
    add, steal = Once((folder / "late.tmp").touch), Once((folder / "staged.tmp").unlink)
    remove_folder, remove_file = os.rmdir, os.unlink

    def rmdir(*args: Any, **keys: Any) -> None:
        add()
        remove_folder(*args, **keys)

    def unlink(*args: Any, **keys: Any) -> None:
        steal()
        remove_file(*args, **keys)

    monkeypatch.setattr(os, "rmdir", rmdir)
    monkeypatch.setattr(os, "unlink", unlink)

    LocalStorage(tmp_path).remove_folder("staging")

    assert (add.done, steal.done) == (True, True)
    assert not folder.exists()


def test_clearing_never_reaches_a_staging_that_moved_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sleeps while clearing a folder deletes nothing that its owner has committed meanwhile."""
    asleep, wake = threading.Event(), threading.Event()
    clearing = threading.Thread(target=land_rows, args=(Lake(tmp_path), FEED, [event(3)]))
    remove = os.unlink

    def unlink(*args: Any, **keys: Any) -> None:
        if threading.current_thread() is clearing and "dir_fd" in keys and not asleep.is_set():
            asleep.set()
            wake.wait(PATIENCE)
        remove(*args, **keys)

    def others() -> None:
        land_rows(Lake(tmp_path), FEED, [event(2)])
        clearing.start()
        assert asleep.wait(PATIENCE)

    overtaken = Once(others)

    def step(name: str) -> None:
        if name == "commit":
            overtaken()
        elif name == "committed":
            wake.set()
            clearing.join(PATIENCE)

    monkeypatch.setattr(os, "unlink", unlink)
    try:
        with pytest.raises(ConflictError, match="staging folder was cleared by another run"):
            land_rows(Lake(tmp_path, on_step=step), FEED, [event(1)])
    finally:
        wake.set()
        clearing.join(PATIENCE)

    assert_sound(tmp_path, Counter([2, 3]))


def killed_while_removing(root: Path) -> None:
    """Merge two exports, and be killed when the merged file is there and so are those that it replaces."""
    for number in (1, 2):
        land_rows(Lake(root), FEED, [event(number)])

    def die(name: str) -> None:
        if name == "remove":
            raise Interrupted(name)

    with pytest.raises(Interrupted):
        list(Lake(root, on_step=die).feed(FEED).compact(now=LATER))
    assert globbed(Lake(root)) == Counter({1: 2, 2: 2})


def test_a_second_merge_finishes_a_killed_one(tmp_path: Path) -> None:
    """Replaced files that a killed merge left visible go with the next merge, even if it has nothing to do."""
    killed_while_removing(tmp_path)

    assert list(Lake(tmp_path).feed(FEED).compact(now=LATER)) == []

    assert_sound(tmp_path, Counter([1, 2]))


def test_footers_tell_which_files_a_merge_replaces(tmp_path: Path) -> None:
    """A reader without manifests that leaves out what footers call replaced sees every row once."""
    killed_while_removing(tmp_path)
    dataset = tmp_path / "streams" / "events"
    files = {path.relative_to(dataset).as_posix(): pq.ParquetFile(path) for path in dataset.rglob("*.parquet")}

    replaced = {
        path
        for file in files.values()
        for path in json.loads((file.metadata.metadata or {}).get(REPLACES, b"[]"))
    }

    assert len(files) == 3
    left = [file.read(columns=["ID"]) for path, file in files.items() if path not in replaced]
    assert sorted(pa.concat_tables(left).column("ID").to_pylist()) == [1, 2]


def test_a_merged_file_never_comes_back(tmp_path: Path) -> None:
    """A process that slept before publishing a merged file cannot publish it after a later merge removed it."""
    land_rows(Lake(tmp_path), FEED, [event(1)])
    land_rows(Lake(tmp_path), FEED, [event(2)])

    def die_at(name: str, act: Callable[[Lake], object]) -> None:
        def step(reached: str) -> None:
            if reached == name:
                raise Interrupted(name)

        with pytest.raises(Interrupted):
            act(Lake(tmp_path, on_step=step))

    def others() -> None:
        # All die after `_metadata.json` and before clearing, so that no process has a reason to look again.
        die_at("clear", lambda lake: lake.feed(FEED).recover())
        die_at("clear", lambda lake: land_rows(lake, FEED, [event(3)]))
        die_at("clear", lambda lake: list(lake.feed(FEED).compact(now=LATER)))

    sleep = Once(others)

    def sleep_then_die(name: str) -> None:
        if name == "publish":
            sleep()
        elif name == "remove":
            raise Interrupted(name)

    with pytest.raises(Interrupted):
        list(Lake(tmp_path, on_step=sleep_then_die).feed(FEED).compact(now=LATER))

    assert sleep.done
    assert_sound(tmp_path, Counter([1, 2, 3]))
