"""What readers are given while commits are on their way: whole commits, whatever was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksql_lake.errors import CorruptLakeError
from ksql_lake.lake import Lake
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed

FEED = stream_feed()


class Killed(Exception):  # noqa: N818 - not an error of anybody's
    """Stands for a process that ends here."""


def dying(root: Path, step: str, *, after: int = 0) -> Lake:
    """A lake whose process ends before a step of its commit protocol, after so many of that kind."""
    seen: list[str] = []

    def on_step(name: str) -> None:
        seen.append(name)
        if name == step and seen.count(step) > after:
            raise Killed

    return Lake(root, on_step=on_step)


def ids(lake: Lake) -> list[int]:
    """The ids a reader finds, by both of our readers."""
    feed = lake.feed(FEED)
    by_arrow = sorted(feed.dataset().to_table().column("ID").to_pylist())
    assert sorted(row[0] for row in feed.relation().project("ID").fetchall()) == by_arrow
    return by_arrow


@pytest.mark.parametrize("published", range(2))
def test_a_commit_on_its_way_is_not_seen_in_part(tmp_path: Path, published: int) -> None:
    """Of a commit of two days of which none or one is in place, nothing is given; once finished, all of it."""
    lake = Lake(tmp_path)
    land_rows(lake, FEED, [event(0)])
    with pytest.raises(Killed):
        land_rows(dying(tmp_path, "publish", after=published), FEED, [event(n, day=n) for n in range(3)])

    assert lake.feed(FEED).state().sequence == 2
    assert ids(lake) == [0]

    lake.feed(FEED).recover()
    assert ids(lake) == [0, 1, 2]


def test_several_commits_on_their_way(tmp_path: Path) -> None:
    """However many commits wait for their files, the answer is the newest whose files are all there."""
    lake = Lake(tmp_path)
    land_rows(lake, FEED, [event(0)])
    with pytest.raises(Killed):
        land_rows(dying(tmp_path, "publish"), FEED, [event(1)])
    Path(tmp_path, lake.feed(FEED).layout.summary).unlink()

    assert ids(lake) == [0]


@pytest.mark.parametrize("removed", range(2))
def test_a_merge_on_its_way_shows_each_row_once(tmp_path: Path, removed: int) -> None:
    """While the merged file stands beside those it replaces, rows are not seen twice."""
    lake = Lake(tmp_path)
    for number in range(3):
        land_rows(lake, FEED, [event(number)])
    with pytest.raises(Killed):
        list(dying(tmp_path, "remove", after=removed).feed(FEED).compact())

    assert len(list(Path(tmp_path, "streams").rglob("*.parquet"))) == 4 - removed
    assert ids(lake) == [0, 1, 2]


def test_a_merge_that_has_not_begun_to_publish(tmp_path: Path) -> None:
    """A merge of which nothing is in place leaves the files it replaces to the reader."""
    lake = Lake(tmp_path)
    for number in range(3):
        land_rows(lake, FEED, [event(number)])
    with pytest.raises(Killed):
        list(dying(tmp_path, "publish").feed(FEED).compact())

    assert ids(lake) == [0, 1, 2]


def test_without_the_summary_everything_is_looked_for(tmp_path: Path) -> None:
    """A deleted `_metadata.json` takes nothing away."""
    lake = Lake(tmp_path)
    land_rows(lake, FEED, [event(1)])
    Path(tmp_path, lake.feed(FEED).layout.summary).unlink()

    assert ids(lake) == [1]


def test_a_file_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    """A lost file is never read as an older lake."""
    lake = Lake(tmp_path)
    land_rows(lake, FEED, [event(0)])
    land_rows(lake, FEED, [event(1)])
    Path(tmp_path, lake.feed(FEED).layout.summary).unlink()
    _, lost = sorted(Path(tmp_path, "streams").rglob("*.parquet"))
    lost.unlink()

    with pytest.raises(CorruptLakeError, match="neither in place nor staged") as caught:
        lake.feed(FEED).published()

    assert str(lost) in str(caught.value)
