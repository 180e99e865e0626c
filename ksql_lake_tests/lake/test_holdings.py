"""A lake that was restored, copied or edited: nothing is added on top of what the log does not name."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ksql_lake.errors import ConflictError, CorruptLakeError, LakeError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import Commit, FeedState, Lake, Manifest, ReadFacts
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.lake.doctor import Problem, examine, repair
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.schema import arrow_schema, parse_schema
from ksql_lake_tests.lake.landing import (
    EVENTS,
    FIRST,
    Row,
    event,
    held_rows,
    land_rows,
    stream_feed,
    table_feed,
)
from ksql_lake_tests.lake.test_commit import globbed
from ksql_lake_tests.lake.test_races import FEED, PATIENCE, Once
from ksql_lake_tests.stores.places import Place

STREAM = FeedLayout("stream", "events")
TABLE = FeedLayout("table", "users")
LATER = datetime(2025, 3, 1, tzinfo=UTC)
ROWS = [event(number, day=number % 3) for number in range(40)]


def filled(place: Place) -> Lake:
    """A lake with forty rows of three days, in two exports."""
    lake = Lake(place.root)
    land_rows(lake, FEED, ROWS[:30])
    land_rows(lake, FEED, ROWS)
    return lake


def saved(place: Place, folder: str) -> dict[str, bytes]:
    """What is below a folder."""
    return {key: place.read(key) for key in place.keys(folder)}


def restore(place: Place, folder: str, content: dict[str, bytes]) -> None:
    """Put a folder back as it was."""
    for key in place.keys(folder):
        place.delete(key)
    for key, data in content.items():
        place.write(key, data)


def mended(lake: Lake, layout: FeedLayout = STREAM) -> set[Problem]:
    """Do what `doctor --repair --apply` does until nothing is left, and give what was found on the way."""
    met: set[Problem] = set()
    for _ in range(3):
        found = examine(lake.storage, layout)
        if found.sound:
            return met
        met |= {finding.problem for finding in found.findings}
        lost = bool(found.of(Problem.MANIFEST_MISSING, Problem.MANIFEST_DAMAGED))
        list(repair(lake.storage, found, apply=not lost))
    raise AssertionError([str(finding) for finding in examine(lake.storage, layout).findings])


def refused(lake: Lake, feed: Feed = FEED, rows: Any = ROWS) -> CorruptLakeError:
    """Export, and give the refusal, which names the way out."""
    with pytest.raises(CorruptLakeError) as caught:
        land_rows(Lake(lake.root), feed, rows)
    assert f"`ksql-lake doctor {feed.name} --repair --apply`" in str(caught.value)
    return caught.value


LOSSES: dict[str, Callable[[Place], None]] = {
    "all": lambda place: restore(place, STREAM.metadata, {}),
    "newest manifest": lambda place: place.delete(STREAM.manifest(2)),
    "manifests": lambda place: restore(place, STREAM.commits, {}),
    "first manifest": lambda place: place.delete(STREAM.manifest(1)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_never_land_on_top_of_a_lost_log(place: Place, loss: str) -> None:
    """With manifests lost an export stops and says the way out; after that it adds what is missing, no more."""
    lake = filled(place)
    LOSSES[loss](place)

    refused(lake, rows=[*ROWS, event(99)])

    assert globbed(lake) == Counter(range(40))
    assert Problem.MANIFEST_MISSING in mended(lake)
    commit = land_rows(Lake(place.root), FEED, [*ROWS, event(99)])
    assert sum(count.new for count in commit.manifest.counts) == 1
    assert globbed(lake) == Counter([*range(40), 99])


def test_older_metadata_is_noticed_before_rows_land_twice(place: Place) -> None:
    """With `metadata/` as it was an export ago, the next one stops; repair brings the commit back."""
    lake = Lake(place.root)
    land_rows(lake, FEED, ROWS[:30])
    before = saved(place, STREAM.metadata)
    land_rows(lake, FEED, ROWS)
    restore(place, STREAM.metadata, before)

    error = refused(lake)

    assert "a data file that no commit names" in error.message
    assert mended(lake) == {Problem.MANIFEST_MISSING}
    assert land_rows(Lake(place.root), FEED, ROWS).manifest.operation == "look"
    assert globbed(lake) == Counter(range(40))


def test_a_number_that_comes_back_is_told_apart(place: Place) -> None:
    """A file whose number went to another commit after a restore keeps its rows, once, in a new file."""
    lake = Lake(place.root)
    land_rows(lake, FEED, [event(1, day=0)])
    before = saved(place, STREAM.metadata)
    land_rows(lake, FEED, [event(1, day=0), event(2, day=0)], days=1)
    restore(place, STREAM.metadata, before)
    # Another day is exported meanwhile, and takes the number of the commit that is not known any more.
    assert land_day(Lake(place.root), 1, [event(3, day=1)]).sequence == 2

    refused(lake, rows=[event(2, day=0)])

    assert mended(lake) == {Problem.FILE_UNNAMED}
    assert globbed(lake) == Counter([1, 2, 3])
    assert land_rows(Lake(place.root), FEED, [event(1), event(2), event(3, day=1)]).manifest.operation == "look"


def test_rows_of_a_recreated_topic_are_no_copies_of_those_at_their_offsets(tmp_path: Path) -> None:
    """Of a file that no commit names, rows at a known offset with another time and other values come back."""
    feed = stream_feed(identity={"by": "offset", "columns": ["P", "O"]})
    columns = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `NOTE` STRING, `P` INTEGER, `O` BIGINT")
    origin = Origin(topic="events", kafka_cluster="k1", service="s1")

    def land(numbers: list[int]) -> None:
        rows = [event(number) | {"P": 0, "O": number % 100} for number in numbers]
        land_rows(Lake(tmp_path), feed, rows, schema=columns, origin=origin)

    land([1])
    shutil.copytree(tmp_path / "metadata", tmp_path / "backup")
    land([1, 2])
    shutil.rmtree(tmp_path / "metadata")
    (tmp_path / "backup").rename(tmp_path / "metadata")
    (lost,) = (path for path in tmp_path.rglob("*.parquet") if path.stem.endswith("_000002"))
    aside = lost.rename(tmp_path / "lost")
    land([101, 102])  # at the offsets of the rows 1 and 2
    aside.rename(lost.with_name("data_20250201_000000_000002.parquet"))

    assert Problem.FILE_UNNAMED in mended(Lake(tmp_path))
    table = Lake(tmp_path).feed(feed).dataset().to_table()
    assert Counter(table["ID"].to_pylist()) == Counter([1, 2, 101, 102])


def land_day(lake: Lake, day: int, rows: list[Row]) -> Commit:
    """Export one day alone."""
    read = ReadFacts(source="EVENTS", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")
    date = FIRST + timedelta(days=day)
    with lake.feed(FEED).stage(EVENTS, read=read, days=(date, date)) as staging:
        staging.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(EVENTS)))
        return staging.commit()


def doubled(place: Place) -> Lake:
    """A lake as an early release left it that exported after its metadata was lost: most rows are there twice.

    The rows 35 to 39 were not in the source any more when it exported again.
    """
    lake = Lake(place.root)
    land_rows(lake, FEED, ROWS[:30])
    land_rows(lake, FEED, [*ROWS, event(7, day=1)])
    old = saved(place, STREAM.dataset)
    restore(place, "", {})
    land_rows(Lake(place.root), FEED, [*ROWS[:35], event(7, day=1)])
    for key, data in old.items():
        # Written long before, as its name says.
        place.write(key.replace(key.rsplit("_", 2)[1], "000000"), data)
    return lake


def test_doctor_takes_out_what_is_doubled_and_keeps_the_rest(place: Place) -> None:
    """Of rows exported again after a loss one stays, of twins two, and what only old files hold is kept."""
    lake = doubled(place)
    assert globbed(lake)[1] == 2

    problems = mended(lake)

    assert Problem.FILE_DOUBLED in problems
    assert globbed(lake) == Counter([*range(40), 7])
    assert land_rows(Lake(place.root), FEED, [*ROWS, event(7, day=1)]).manifest.operation == "look"
    assert len([key for key in place.keys(STREAM.metadata) if "/quarantine/" in key]) >= 3


def test_a_loss_that_is_only_looked_at_changes_nothing(place: Place) -> None:
    """Without `--apply` no file leaves its folder, whatever is found."""
    lake = Lake(place.root)
    land_rows(lake, FEED, [event(1, day=0)])
    before = saved(place, STREAM.metadata)
    land_rows(lake, FEED, [event(2, day=0)], days=1)
    restore(place, STREAM.metadata, before)
    land_day(Lake(place.root), 1, [event(3, day=1)])
    data = saved(place, STREAM.dataset)

    list(repair(lake.storage, examine(lake.storage, STREAM)))

    assert saved(place, STREAM.dataset) == data


def test_restored_files_from_before_a_merge_are_kept(place: Place) -> None:
    """Where a restore brought back what a merge replaced, and not the merged file, no row is lost."""
    lake = filled(place)
    before = saved(place, STREAM.dataset)
    list(lake.feed(FEED).compact(now=LATER))
    restore(place, STREAM.dataset, before)

    refused(lake)
    problems = mended(lake)

    assert {Problem.FILE_MISSING, Problem.FILE_UNNAMED} <= problems
    assert globbed(lake) == Counter(range(40))
    assert land_rows(Lake(place.root), FEED, ROWS).manifest.operation == "look"


def test_restored_files_beside_the_merged_one_go(place: Place) -> None:
    """Restored files beside the merged one that replaced them go: by doctor, in a store by an export."""
    lake = filled(place)
    before = saved(place, STREAM.dataset)
    list(lake.feed(FEED).compact(now=LATER))
    for key, data in before.items():
        place.write(key, data)

    if place.local:
        refused(lake)
        assert mended(lake) == {Problem.FILE_NOT_REMOVED}
    else:
        land_rows(Lake(place.root), FEED, ROWS)
    assert globbed(lake) == Counter(range(40))
    assert examine(lake.storage, STREAM).sound


@pytest.mark.parametrize("contents", [True, False])
def test_replaced_files_beside_a_damaged_merged_one_keep_their_rows(place: Place, contents: bool) -> None:
    """Doctor finishes no merge whose file is damaged: the files that it replaced may hold the only rows."""
    lake = filled(place)
    before = saved(place, STREAM.dataset)
    list(lake.feed(FEED).compact(now=LATER))
    for key in place.keys(STREAM.dataset, ending=".parquet"):
        data = place.read(key)
        place.write(key, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    for key, data in before.items():
        place.write(key, data)

    found = examine(lake.storage, STREAM, contents=contents)

    assert not found.of(Problem.FILE_NOT_REMOVED)
    refused(lake)
    list(repair(lake.storage, found))
    assert before.keys() <= set(place.keys(STREAM.dataset))
    mended(lake)
    assert globbed(lake) == Counter(range(40))


@pytest.mark.parametrize("contents", [True, False])
def test_replaced_files_wait_for_a_merged_one_that_cannot_be_read(tmp_path: Path, contents: bool) -> None:
    """Doctor neither removes them nor commits their rows: they may be in the merged file, which is sound."""
    place = Place(tmp_path / "lake")
    lake = filled(place)
    before = saved(place, STREAM.dataset)
    list(lake.feed(FEED).compact(now=LATER))
    merged = saved(place, STREAM.dataset)
    for key in merged:
        path = Path(place.root, key)
        path.unlink()
        path.symlink_to(path.name)
    for key, data in before.items():
        place.write(key, data)

    found = examine(lake.storage, STREAM, contents=contents)

    assert {finding.problem for finding in found.findings} == {Problem.FILE_UNREADABLE}
    with pytest.raises(LakeError, match="too many levels"):
        list(repair(lake.storage, found, apply=True))
    assert before.keys() <= set(place.keys(STREAM.dataset))
    for key, data in merged.items():
        Path(place.root, key).unlink()
        place.write(key, data)
    assert Problem.FILE_NOT_REMOVED in mended(lake)
    assert globbed(lake) == Counter(range(40))


def test_a_forgotten_file_that_comes_back_is_compared(place: Place) -> None:
    """A lost file that was forgotten, and exported again, doubles nothing when it is restored."""
    lake = filled(place)
    (victim,) = [
        key for key in place.keys(STREAM.dataset) if "day=15" in key and key.endswith("_000001.parquet")
    ]
    data = place.read(victim)
    place.delete(victim)
    mended(lake)
    land_rows(Lake(place.root), FEED, [row for row in ROWS if row["ID"] != 3])
    place.write(victim, data)

    refused(lake)

    assert mended(lake) == {Problem.FILE_DOUBLED}
    assert globbed(lake) == Counter(range(40))


def test_files_not_in_the_log_beside_lost_ones_are_kept(place: Place) -> None:
    """What doctor compares with may be lost itself: it is forgotten, and the rows of the others are kept."""
    lake = doubled(place)
    named = lake.feed(FEED).state().files_of("2025-01-15")[0].path
    place.delete(STREAM.data(named))

    problems = mended(lake)

    assert {Problem.FILE_MISSING, Problem.FILE_UNNAMED, Problem.FILE_DOUBLED} <= problems
    assert globbed(lake) == Counter([*range(40), 7])


def test_a_file_in_another_day_than_its_own_is_foreign(place: Place) -> None:
    """A file that somebody copied to another day is never taken for rows of that day."""
    lake = filled(place)
    mine = next(key for key in place.keys(STREAM.dataset) if "day=15/" in key)
    place.write(mine.replace("day=15", "day=16").replace("_00000", "_00009"), place.read(mine))

    assert Problem.FILE_FOREIGN in mended(lake)
    assert globbed(lake) == Counter(range(40))


def test_a_file_that_is_lost_stops_the_export_of_its_day(place: Place) -> None:
    """A day whose file is gone is not exported as if it were there, even when nothing of it is read."""
    lake = filled(place)
    place.delete(next(key for key in place.keys(STREAM.dataset) if "day=16" in key))

    error = refused(lake, rows=[])

    assert (error.where["partition"], "no longer a file" in error.message) == ("2025-01-16", True)
    assert mended(lake) == {Problem.FILE_MISSING}
    land_rows(Lake(place.root), FEED, ROWS)
    assert globbed(lake) == Counter(range(40))


def test_a_version_never_gets_two_files(place: Place) -> None:
    """A table whose log lost its newest version does not write that version again beside the old file."""
    lake = Lake(place.root)
    for number in (1, 2):
        land_rows(lake, table_feed(), [{"ID": 1, "NAME": str(number)}])
    before = saved(place, TABLE.metadata)
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "3"}])
    restore(place, TABLE.metadata, before)

    refused(lake, table_feed(), [{"ID": 1, "NAME": "4"}])

    assert mended(lake, TABLE) == {Problem.MANIFEST_MISSING}
    assert land_rows(Lake(place.root), table_feed(), [{"ID": 1, "NAME": "4"}]).state.latest_version == 4
    assert len(place.keys(TABLE.dataset)) == 4


def test_a_foreign_file_stops_what_would_write_beside_it(place: Place) -> None:
    """A Parquet file that no export made stops exports and merges of its day, and of no other."""
    lake = filled(place)
    place.write(f"{STREAM.dataset}/year=2025/month=01/day=15/part-0.parquet", b"PAR1")

    refused(lake)
    with pytest.raises(CorruptLakeError, match=r"part-0\.parquet"):
        list(Lake(place.root).feed(FEED).compact(now=LATER))
    land_rows(Lake(place.root), stream_feed(name="others"), ROWS)

    assert mended(lake) == {Problem.FILE_FOREIGN}
    list(lake.feed(FEED).compact(now=LATER))
    assert globbed(lake) == Counter(range(40))


def test_what_others_commit_meanwhile_is_no_stranger(tmp_path: Path) -> None:
    """Files that another run commits between reading the log and listing the folder are planned against."""
    place = Place(tmp_path)
    lake = filled(place)
    other = Once(lambda: land_rows(Lake(place.root), FEED, [event(90)]))

    class Listing(type(lake.storage)):  # type: ignore[misc]
        def names(self, folder: str, *, after: str = "") -> list[str]:
            if "day=15" in folder:
                other()
            names: list[str] = super().names(folder, after=after)
            return names

    mine = Lake(place.root)
    mine.storage = Listing(place.root)
    land_rows(mine, FEED, [event(90), event(91)])

    assert other.done
    assert globbed(lake) == Counter([*range(40), 90, 91])


def test_repair_never_reaches_a_staging_that_moved_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A doctor that sleeps while it clears staging deletes nothing that its owner has committed meanwhile."""
    asleep, wake = threading.Event(), threading.Event()
    lake = Lake(tmp_path)
    land_rows(lake, FEED, [event(1)])

    def clear() -> None:
        list(repair(lake.storage, examine(lake.storage, STREAM)))

    clearing = threading.Thread(target=clear)
    remove = os.unlink

    def unlink(*args: Any, **keys: Any) -> None:
        if threading.current_thread() is clearing and "dir_fd" in keys and not asleep.is_set():
            asleep.set()
            wake.wait(PATIENCE)
        remove(*args, **keys)

    def others() -> None:
        # Two numbers go to another run that is killed before clearing, so that this staging looks left over.
        for number in (2, 3):
            with pytest.raises(KeyboardInterrupt):
                land_rows(Lake(tmp_path, on_step=killed), FEED, [event(number)])
        clearing.start()
        assert asleep.wait(PATIENCE)

    def killed(name: str) -> None:
        if name == "clear":
            raise KeyboardInterrupt

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
            land_rows(Lake(tmp_path, on_step=step), FEED, [event(4)])
    finally:
        wake.set()
        clearing.join(PATIENCE)

    assert globbed(Lake(tmp_path)) == Counter([1, 2, 3])
    assert sum(held_rows(Lake(tmp_path), FEED).values()) == 3


def test_a_killed_export_and_a_good_one_leave_no_finding(tmp_path: Path) -> None:
    """What a killed export staged is no finding once the next export has committed."""

    def killed(name: str) -> None:
        raise KeyboardInterrupt(name)

    lake = Lake(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        land_rows(Lake(tmp_path, on_step=killed), FEED, [event(1)])
    left = Path(lake.root, STREAM.attempt(1, "deadbeef"))
    left.mkdir(parents=True)
    (left / "2025-01-15.tmp").write_bytes(b"half a file")

    land_rows(lake, FEED, [event(1)])

    assert examine(lake.storage, STREAM).findings == []
    land_rows(lake, FEED, [event(2)])
    assert not left.exists()


def test_a_state_never_changes(tmp_path: Path) -> None:
    """A commit leads to a state of its own: the one before says what it said, and refuses to be written."""
    lake = Lake(tmp_path)
    before = land_rows(lake, FEED, [event(1)]).state
    told = (dict(before.partitions), dict(before.looked), before.records, before.shapes)

    after = land_rows(lake, FEED, [event(1), event(2, day=1)]).state

    assert (dict(before.partitions), dict(before.looked), before.records, before.shapes) == told
    assert after.records == 2
    with pytest.raises(TypeError):
        before.looked["2025-01-15"] = ""  # type: ignore[index]
    with pytest.raises(AttributeError):
        before.sequence = 7  # type: ignore[misc]


def test_marks_of_a_state_stay_when_it_is_folded_on() -> None:
    """Folding in a commit that takes marks away leaves them in the state before it."""
    before = FeedState(kind="stream", marks={"1.0": {}}, marked={"2025-01-15": "1.0"})

    after = before.after(
        [
            Manifest(
                sequence=1,
                attempt="a",
                feed="events",
                kind="stream",
                operation="forget",
                committed_at="2025-02-01T00:00:00+00:00",
                new_topic=True,
            )
        ]
    )

    assert (dict(before.marked), list(before.marks)) == ({"2025-01-15": "1.0"}, ["1.0"])
    assert after.sequence == 1


def test_copying_data_first_loses_nothing_that_the_log_knows(tmp_path: Path) -> None:
    """A copy whose metadata is newer than its data is noticed, and completed by an export after the repair."""
    place = Place(tmp_path / "lake")
    lake = filled(place)
    shutil.copytree(Path(place.root, STREAM.dataset), tmp_path / "copy" / STREAM.dataset)
    land_rows(lake, FEED, [*ROWS, event(50)])
    shutil.copytree(Path(place.root, "metadata"), tmp_path / "copy" / "metadata")
    copy = Lake(tmp_path / "copy")

    refused(copy)

    assert Problem.FILE_MISSING in mended(copy)
    land_rows(Lake(copy.root), FEED, [*ROWS, event(50)])
    assert globbed(copy) == Counter([*range(40), 50])
