"""The commit protocol: interrupted anywhere, raced by anyone, nothing lost, doubled or half visible."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from ksql_lake.errors import ConflictError, CorruptLakeError, VersionError
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.log import CHECKPOINT_EVERY
from ksql_lake_tests.lake.landing import EVENTS, event, held_rows, land_rows, stream_feed, table_feed
from ksql_lake_tests.stores.places import Place


class Interrupted(BaseException):
    """Stands for a killed process: nothing after it runs except what `finally` blocks cannot avoid."""


class InterruptAt:
    """Raises at the Nth step of the commit protocol."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.name = ""

    def __call__(self, name: str) -> None:
        """Count a step down."""
        self.left -= 1
        if self.left == 0:
            self.name = name
            raise Interrupted(name)


def globbed(lake: Lake, name: str = "events") -> Counter[int]:
    """Event numbers as a reader sees them that knows nothing of manifests."""
    return Counter(Place(lake.root).rows(f"streams/{name}", ["ID"])["ID"].tolist())


def test_an_export_repeated_adds_nothing(place: Place) -> None:
    """The same rows again commit nothing but the fact that someone looked."""
    lake, feed = Lake(place.root), stream_feed()
    rows = [event(number, day=number % 3) for number in range(30)]

    first = land_rows(lake, feed, rows)
    again = land_rows(lake, feed, rows)

    assert (first.manifest.operation, again.manifest.operation) == ("append", "look")
    assert [count.already_there for count in again.manifest.counts] == [10, 10, 10]
    assert again.state.records == 30
    assert globbed(lake) == Counter(range(30))


def test_identical_events_stay_two(place: Place) -> None:
    """Two truly identical rows are two events, today and in every later export."""
    lake, feed = Lake(place.root), stream_feed()

    land_rows(lake, feed, [event(1), event(1)])
    land_rows(lake, feed, [event(1), event(1), event(1)])

    assert globbed(lake) == Counter({1: 3})


def test_late_rows_land_and_are_counted(place: Place) -> None:
    """A row of an old day that comes later is added and called late; a day never read before has none."""
    lake, feed = Lake(place.root), stream_feed()
    land_rows(lake, feed, [event(1, day=0), event(2, day=2)])

    commit = land_rows(lake, feed, [event(1, day=0), event(3, day=0), event(2, day=2), event(4, day=2)])

    assert [(count.new, count.late) for count in commit.manifest.counts] == [(1, 1), (0, 0), (1, 0)]


def test_re_export_never_deletes(place: Place) -> None:
    """Rows that Kafka has dropped since stay in the lake."""
    lake, feed = Lake(place.root), stream_feed()
    land_rows(lake, feed, [event(1), event(2)])

    commit = land_rows(lake, feed, [])

    assert commit.manifest.operation == "look"
    assert globbed(lake) == Counter([1, 2])


def test_an_abandoned_export_leaves_nothing(place: Place) -> None:
    """An export that fails before its commit leaves neither rows nor staged files."""
    lake, feed = Lake(place.root), stream_feed()
    land_rows(lake, feed, [event(1)])
    before = place.keys()

    with pytest.raises(KeyError, match="stop"):
        _stage_and_fail(lake)

    assert place.keys() == before


def _stage_and_fail(lake: Lake) -> None:
    from ksql_lake.lake import ReadFacts
    from ksql_lake_tests.lake.landing import FIRST

    read = ReadFacts(source="EVENTS", statement="SELECT", read_at="2025-02-01T00:00:00+00:00")
    with lake.feed(stream_feed()).stage(EVENTS, read=read, days=(FIRST, FIRST)):
        raise KeyError("stop")


@pytest.mark.parametrize("step", range(1, 12))
def test_an_interruption_at_any_step_is_made_good(place: Place, step: int) -> None:
    """Interrupted at any step, a glob reader sees whole days or none, and the next export completes them."""
    feed = stream_feed()
    rows = [event(number, day=number % 3) for number in range(30)]
    interrupt = InterruptAt(step)
    done = False
    try:
        land_rows(Lake(place.root, on_step=interrupt), feed, rows)
        done = True
    except Interrupted:
        days = globbed(Lake(place.root))
        assert set(days.values()) <= {1}
        assert all(sum(day == number % 3 for number in days) in {0, 10} for day in range(3))

    lake = Lake(place.root)
    land_rows(lake, feed, rows)

    assert globbed(lake) == Counter(range(30))
    assert sum(held_rows(lake, feed).values()) == 30
    land_rows(lake, feed, rows)
    assert place.keys(lake.feed(feed).layout.staging) == []
    assert done == (step > _steps_of_one_export(place, rows))


def _steps_of_one_export(place: Place, rows: list[dict[str, object]]) -> int:
    names: list[str] = []
    land_rows(Lake(f"{place.root}-count", on_step=names.append), stream_feed(), rows)
    assert names[:2] == ["commit", "committed"]
    assert names.count("publish") == 3
    return len(names)


def test_a_failure_after_the_commit_point_loses_nothing(place: Place) -> None:
    """An error while publishing (a full disk, Ctrl-C) leaves the committed rows for the next run to publish."""
    feed = stream_feed()

    def fail(name: str) -> None:
        if name == "publish":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        land_rows(Lake(place.root, on_step=fail), feed, [event(1)])
    assert globbed(Lake(place.root)) == Counter()

    assert Lake(place.root).feed(feed).recover().records == 1
    assert globbed(Lake(place.root)) == Counter([1])


def test_the_loser_of_a_number_plans_again(place: Place) -> None:
    """Two exports of the same rows that race for one commit number do not double a row."""
    feed = stream_feed()
    rows = [event(number) for number in range(10)]
    raced = False

    def race(name: str) -> None:
        nonlocal raced
        if name == "commit" and not raced:
            raced = True
            land_rows(Lake(place.root), feed, rows)

    commit = land_rows(Lake(place.root, on_step=race), feed, [*rows, event(99)])

    assert raced
    assert commit.sequence == 2
    assert commit.manifest.counts[0].new == 1
    assert globbed(Lake(place.root)) == Counter([*range(10), 99])


def test_lost_staging_is_a_conflict(tmp_path: Path) -> None:
    """A process stopped for so long that others cleared its staging gets a conflict, and reads again."""
    feed = stream_feed()
    raced = False

    def race(name: str) -> None:
        nonlocal raced
        if name == "commit" and not raced:
            raced = True
            land_rows(Lake(tmp_path), feed, [event(1)])
            land_rows(Lake(tmp_path), feed, [event(2)])
            shutil.rmtree(tmp_path / "metadata/streams/events/staging")

    with pytest.raises(ConflictError) as caught:
        land_rows(Lake(tmp_path, on_step=race), feed, [event(1), event(3)])

    assert "staging folder was cleared by another run" in str(caught.value)
    assert globbed(Lake(tmp_path)) == Counter([1, 2])


def test_state_never_comes_from_the_derived_file(place: Place) -> None:
    """A deleted, stale or nonsensical `_metadata.json` changes nothing and is rewritten."""
    lake, feed = Lake(place.root), stream_feed()
    land_rows(lake, feed, [event(1)])
    summary = "metadata/streams/events/_metadata.json"
    good = place.read(summary)

    for content in (None, b"", b"[]", b'{"commit": 0, "total_records": 5}', b'{"commit": "x"}'):
        if content is None:
            place.delete(summary)
        else:
            place.write(summary, content)
        assert lake.feed(feed).recover().records == 1
        assert place.read(summary) == good


def test_a_checkpoint_is_proven_or_ignored(place: Place) -> None:
    """An edited or torn checkpoint is not believed; the manifests hold the same."""
    lake, feed = Lake(place.root), stream_feed()
    for number in range(CHECKPOINT_EVERY + 3):
        land_rows(lake, feed, [event(number)])
    checkpoint = "metadata/streams/events/checkpoint.json"
    state = lake.feed(feed).state()
    assert state.sequence == CHECKPOINT_EVERY + 3
    good = place.read(checkpoint)

    for content in (good.replace(b'"records":1', b'"records":7', 1), good[:-20], b""):
        assert content != good
        place.write(checkpoint, content)
        assert lake.feed(feed).state() == state


def test_a_missing_manifest_is_named(place: Place) -> None:
    """A gap in the commit numbers stops everything: exporting over it could double rows."""
    lake, feed = Lake(place.root), stream_feed()
    for number in range(3):
        land_rows(lake, feed, [event(number)])
    place.delete("metadata/streams/events/commits/00000000000000000002.json")

    with pytest.raises(CorruptLakeError, match="manifest 2 is missing") as caught:
        land_rows(lake, feed, [event(9)])

    assert "doctor" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"records": 1', b'"records": 2', "was changed after it was written"),
        (b'"records": 1', b'"records": "one"', "cannot be read"),
        (b"{", b"", "cannot be read"),
    ],
)
def test_an_edited_manifest_is_named(place: Place, old: bytes, new: bytes, reason: str) -> None:
    """A hand-edited manifest is reported with its path, even when it still looks like one."""
    lake, feed = Lake(place.root), stream_feed()
    land_rows(lake, feed, [event(1)])
    key = "metadata/streams/events/commits/00000000000000000001.json"
    assert old in place.read(key)
    place.write(key, place.read(key).replace(old, new, 1))

    with pytest.raises(CorruptLakeError, match=reason) as caught:
        lake.feed(feed).state()

    assert place.address(key) in str(caught.value)


def test_a_missing_data_file_is_named_when_it_matters(place: Place) -> None:
    """A committed file that is nowhere stops recovery with its path."""
    lake, feed = Lake(place.root), stream_feed()
    land_rows(lake, feed, [event(1)])
    (key,) = place.keys("streams", ending=".parquet")
    place.delete(key)
    place.delete("metadata/streams/events/_metadata.json")

    with pytest.raises(CorruptLakeError) as caught:
        lake.feed(feed).recover()

    assert place.address(key) in str(caught.value)


def test_summary_has_the_promised_fields(place: Place) -> None:
    """`_metadata.json` keeps its documented fields and adds up."""
    lake, feed = Lake(place.root), stream_feed()
    land_rows(lake, feed, [event(number, day=number % 2) for number in range(10)])

    summary = msgspec.json.decode(place.read("metadata/streams/events/_metadata.json"))

    assert summary["source"] == "EVENTS"
    assert summary["total_records"] == 10
    assert [part["path"] for part in summary["partitions"]] == [
        "year=2025/month=01/day=15",
        "year=2025/month=01/day=16",
    ]
    size = sum(len(place.read(key)) for key in place.keys("streams", ending=".parquet"))
    assert summary["total_bytes"] == size
    assert summary["total_size_mb"] == round(size / 1_000_000, 3)
    assert [part["records"] for part in summary["partitions"]] == [5, 5]
    assert summary["schema"][0] == {"name": "ROWTIME", "type": "TIMESTAMP"}


def test_table_versions_follow_one_another(place: Place) -> None:
    """Each snapshot becomes the next version, and no other version can be written."""
    lake, feed = Lake(place.root), table_feed()
    land_rows(lake, feed, [{"ID": 1, "NAME": "a"}])
    commit = land_rows(lake, feed, [{"ID": 1, "NAME": "b"}, {"ID": 2, "NAME": "c"}], version=2)

    assert commit.state.partition_keys() == ["v1", "v2"]
    with pytest.raises(VersionError, match="version v2 cannot be written: the open version is v3"):
        land_rows(lake, feed, [{"ID": 1, "NAME": "x"}], version=2)
    assert lake.feed(feed).state().latest_version == 2


def test_a_snapshot_keeps_one_row_per_key(place: Place) -> None:
    """Rows that a server sent twice while falling back to a standby are kept once."""
    lake, feed = Lake(place.root), table_feed()

    commit = land_rows(lake, feed, [{"ID": 1, "NAME": "a"}, {"ID": 2, "NAME": "b"}, {"ID": 1, "NAME": "c"}])

    (count,) = commit.manifest.counts
    assert (count.read, count.new, count.already_there, count.dropped) == (3, 2, 0, 1)
    table = lake.feed(feed).dataset().to_table(columns=["ID", "NAME"]).to_pylist()
    assert sorted(table, key=lambda row: int(row["ID"])) == [{"ID": 1, "NAME": "c"}, {"ID": 2, "NAME": "b"}]


def test_an_empty_snapshot_is_a_version_too(place: Place) -> None:
    """An empty table is a version with a typed file, so that the latest version is what it says."""
    lake, feed = Lake(place.root), table_feed()
    land_rows(lake, feed, [{"ID": 1, "NAME": "a"}])
    land_rows(lake, feed, [])

    latest = place.rows("tables/users/version=v2")
    assert list(latest.columns) == ["ID", "NAME"]
    assert len(latest) == 0


def test_retention_keeps_the_newest_seven(place: Place) -> None:
    """After nine snapshots v3 to v9 remain, in the state and on disk, and the plan said so before."""
    lake, feed = Lake(place.root), table_feed()
    for number in range(9):
        land_rows(lake, feed, [{"ID": number, "NAME": "a"}])
    plan = lake.feed(feed).plan_retention()
    assert plan.remove == ("v1", "v2")
    assert plan.bytes > 0

    applied = lake.feed(feed).apply_retention()

    assert applied == plan
    kept = [f"v{number}" for number in range(3, 10)]
    assert lake.feed(feed).state().partition_keys() == kept
    assert {key.split("/")[2] for key in place.keys("tables/users")} == {f"version={v}" for v in kept}
    assert lake.feed(feed).apply_retention().remove == ()
    assert land_rows(lake, feed, [{"ID": 1, "NAME": "z"}]).state.latest_version == 10


def test_versions_are_numbers(place: Place) -> None:
    """v10 comes after v9, for readers, retention and `_metadata.json` alike."""
    lake, feed = Lake(place.root), table_feed(retention=2)
    for number in range(11):
        land_rows(lake, feed, [{"ID": number, "NAME": "a"}])

    assert lake.feed(feed).apply_retention().keep == ("v10", "v11")
