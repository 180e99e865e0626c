"""`changes_since`, and reading as of a commit or a time: held against plain bookkeeping."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake import changes_since, read_stream, read_table
from ksql_lake.errors import ConfigError, KsqlLakeError, LakeError, VersionError
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import examine, repair
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.query.table_diff import diff_versions
from ksql_lake_tests.lake.landing import Row, event, land_rows, stream_feed, table_feed
from ksql_lake_tests.query.lakes import comparable, where_of
from ksql_lake_tests.query.test_reading import ENGINES, listed

LATER = datetime(2025, 3, 1, tzinfo=UTC)
"""When every day is closed."""


def counted(rows: Any) -> Counter[str]:
    """Return rows as texts with their multiplicity."""
    return Counter(comparable(listed(rows)))


def held(lake: Lake) -> Counter[str]:
    """Return every committed row of the stream in the same way."""
    return counted(lake.feed(stream_feed()).dataset())


def add(lake: Lake, first: int, days: list[int]) -> int:
    """Land a row for each named day; gives the next free number."""
    rows = [event(number, day=day) for number, day in enumerate(days, start=first)]
    land_rows(lake, stream_feed(), rows, days=3)
    return first + len(days)


def merge(lake: Lake) -> None:
    """Merge every day."""
    for _ in lake.feed(stream_feed()).compact(older_than=0, now=LATER):
        pass


STEPS = st.lists(
    st.one_of(st.none(), st.lists(st.integers(0, 2), min_size=0, max_size=4)), min_size=1, max_size=9
)
"""Merges (None), and exports of rows of some days, many of them late."""


@settings(max_examples=12, deadline=None)
@given(steps=STEPS, engine=st.sampled_from(ENGINES))
def test_every_cursor_gives_what_came_since_and_every_commit_what_was_there(
    steps: list[list[int] | None], engine: str
) -> None:
    """Between any two moments, over late rows and merges, each new row comes once and no old one."""
    with TemporaryDirectory() as folder:
        lake, feed, number = Lake(Path(folder) / "lake"), stream_feed(), 0
        FeedStore(Path(folder) / "feeds").add(feed)
        where: dict[str, Any] = {"root": lake.root, "feeds": Path(folder) / "feeds", "as_": engine}
        land_rows(lake, feed, [event(1000, day=0)])
        snapshots: dict[str, tuple[int, Counter[str]]] = {}
        for step in [[], *steps]:
            if step is None:
                merge(lake)
            else:
                number = add(lake, number, step)
            cursor = changes_since("events", **where).cursor
            snapshots[cursor] = (lake.feed(feed).state().sequence, held(lake))
        now = held(lake)

        for cursor, (commit, then) in snapshots.items():
            rows, following = changes_since("events", cursor, **where)
            assert counted(rows) == now - then
            assert following == list(snapshots)[-1]
            assert counted(read_stream("events", commit=commit, **where)) == then
        assert counted(changes_since("events", **where).rows) == now


@settings(max_examples=6, deadline=None)
@given(versions=st.lists(st.dictionaries(st.integers(0, 4), st.sampled_from("ab")), min_size=1, max_size=5))
def test_a_copy_of_a_table_follows_by_its_changes(versions: list[dict[int, str]]) -> None:
    """Applied in their order to what the cursor stood at, the changes give the newest version."""
    with TemporaryDirectory() as folder:
        lake, feed = Lake(Path(folder) / "lake"), table_feed(retention=50)
        FeedStore(Path(folder) / "feeds").add(feed)
        where: dict[str, Any] = {"root": lake.root, "feeds": Path(folder) / "feeds"}
        cursors: list[tuple[str, dict[int, str]]] = []
        for version in versions:
            land_rows(lake, feed, [{"ID": key, "NAME": name} for key, name in version.items()])
            cursors.append((changes_since("users", **where).cursor, version))

        for engine in ENGINES:
            for cursor, before in [(None, {}), *cursors]:
                copy = dict(before)
                for change in listed(changes_since("users", cursor, as_=engine, **where).rows):
                    if change["op"] == "delete":
                        assert copy.pop(change["key"]["ID"]) == change["before"]["NAME"]
                    else:
                        copy[change["key"]["ID"]] = change["after"]["NAME"]
                assert copy == versions[-1], (engine, cursor)


def test_the_changes_of_a_step_are_those_of_diff(lake: Lake) -> None:
    """From one version to the next, `changes_since` and `ksql-lake diff` say the same."""
    where = where_of(lake)
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "a"}, {"ID": 2, "NAME": "b"}])
    cursor = changes_since("users", **where).cursor
    land_rows(lake, table_feed(), [{"ID": 2, "NAME": "c"}, {"ID": 3, "NAME": "d"}])

    rows = listed(changes_since("users", cursor, as_="arrow", **where).rows)

    with diff_versions(lake.feed(table_feed()), "v1", "v2") as told:
        expected = told.to_arrow().to_pylist()
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    assert {row["version"] for row in rows} == {"v2"}
    assert len(rows) == 3


def test_a_cursor_older_than_retention_is_refused(lake: Lake) -> None:
    """A version that retention removed is an error; nothing is skipped."""
    where = where_of(lake)
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "a"}])
    cursor = changes_since("users", **where).cursor
    for name in "bc":
        land_rows(lake, table_feed(), [{"ID": 1, "NAME": name}])
    assert [row["after"]["NAME"] for row in listed(changes_since("users", cursor, **where).rows)] == ["b", "c"]
    lake.feed(table_feed(retention=2)).apply_retention()

    with pytest.raises(VersionError) as caught:
        changes_since("users", cursor, **where)

    assert str(caught.value) == (
        "feed users: the cursor is at version v1, which the lake no longer holds\n"
        "There are v2, v3. Start again without a cursor, and ask more often or keep more versions "
        "(`retention`)."
    )


def test_rows_that_doctor_took_out_are_never_given_twice(lake: Lake) -> None:
    """Where rows before the cursor were lost and may be exported again, the cursor is refused."""
    where, feed = where_of(lake), stream_feed()
    land_rows(lake, feed, [event(1)])
    before = changes_since("events", **where).cursor
    land_rows(lake, feed, [event(2, day=1)])
    behind = changes_since("events", **where).cursor
    (path,) = Path(lake.root).glob("streams/events/year=2025/month=01/day=16/*.parquet")
    path.unlink()
    layout = FeedLayout("stream", "events")
    list(repair(lake.storage, examine(lake.storage, layout), apply=True))

    # Never given behind `before`: lost, and new when they come again.
    assert listed(changes_since("events", before, **where).rows) == []
    with pytest.raises(LakeError, match="removed rows from before the cursor") as caught:
        changes_since("events", behind, **where)
    assert "Start again" in caught.value.hint
    with pytest.raises(LakeError, match="1 rows of 2025-01-16 that were committed then are not in the lake"):
        read_stream("events", commit=2, **where)


@pytest.mark.parametrize(
    ("cursor", "kind", "said"),
    [
        ("yesterday", ConfigError, "'yesterday' is no cursor\n"),
        (7, ConfigError, "7 is no cursor\n"),
        ("users@1.ab", ConfigError, "this cursor belongs to feed users, not to events\n"),
        (
            "events@9.ab",
            LakeError,
            "feed events: the cursor is at commit 9 (ab), but the lake ends with commit 1",
        ),
        (
            "events@1.ab",
            LakeError,
            "feed events: the cursor is at commit 1 (ab), but commit 1 is another one, ",
        ),
    ],
)
def test_a_cursor_of_something_else_is_refused(
    lake: Lake, cursor: Any, kind: type[KsqlLakeError], said: str
) -> None:
    """A text that is no cursor, another feed's, and one of a lake that was restored or begun again."""
    land_rows(lake, stream_feed(), [event(1)])

    with pytest.raises(kind) as caught:
        changes_since("events", cursor, **where_of(lake))

    assert str(caught.value).startswith(said)


def test_a_piece_of_a_merged_file_is_proven_by_its_checksum(lake: Lake) -> None:
    """Where a merged file does not hold the rows in the order of its commit, nothing is given."""
    where, feed = where_of(lake), stream_feed()
    land_rows(lake, feed, [event(1), event(2)])
    cursor = changes_since("events", **where).cursor
    land_rows(lake, feed, [event(3)])
    merge(lake)
    assert [row["ID"] for row in listed(changes_since("events", cursor, **where).rows)] == [3]
    import pyarrow.parquet as pq

    (path,) = Path(lake.root).glob("streams/events/*/*/*/*.parquet")
    rows = pq.ParquetFile(path).read()
    pq.write_table(rows.take([2, 1, 0]), path)

    with pytest.raises(LakeError, match="its rows 2 to 3 are not those of year=2025/month=01/day=15/data_"):
        changes_since("events", cursor, **where)


def test_as_of_a_time_is_what_the_commits_before_it_made(lake: Lake) -> None:
    """Streams by the times of their commits; tables by when the version was read, as NAME_history."""
    where, feed = where_of(lake), stream_feed()
    for number in range(3):
        land_rows(lake, feed, [event(number)])
    moments = [
        datetime.fromisoformat(lake.feed(feed).log.manifest(number).committed_at) for number in range(1, 4)
    ]
    for hour, name in enumerate("ab", start=1):
        land_rows(lake, table_feed(), [{"ID": 1, "NAME": name}], read_at=f"2025-01-19T0{hour}:00:00.000+00:00")

    for number, moment in enumerate(moments, start=1):
        seen = {row["ID"] for row in listed(read_stream("events", as_of=moment, **where))}
        last = max(at for at, other in enumerate(moments, start=1) if other <= moment)
        assert seen == set(range(last)) >= set(range(number))
    with pytest.raises(LakeError, match="nothing had been committed as of 2024"):
        read_stream("events", as_of="2024-12", **where)

    def name_at(moment: Any) -> str:
        return str(listed(read_table("users", as_of=moment, **where))[0]["NAME"])

    assert name_at("2025-01-19T01:00:00Z") == name_at("2025-01-19T01:59:59.999") == "a"
    assert name_at("2025-01-19T02:00Z") == name_at("2025-01") == name_at(datetime.now(UTC)) == "b"
    assert listed(read_table("users", commit=1, **where))[0]["NAME"] == "a"
    with pytest.raises(
        VersionError, match="no version had been read by then\nThe oldest kept one is v1, read at"
    ):
        name_at("2025-01-18")
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "c"}], read_at="2025-01-19T03:00:00.000+00:00")
    lake.feed(table_feed(retention=2)).apply_retention()
    with pytest.raises(VersionError, match="the lake no longer holds the newest version of that time"):
        name_at("2025-01-19T01:30Z")


def _export_and_merge(root: str) -> None:
    """Land rows and merge, until killed."""
    lake, number = Lake(root), 0
    while True:
        number = add(lake, number, [number % 3, (number + 1) % 3])
        merge(lake)


def test_a_follower_beside_killed_writers_gets_every_row_once(tmp_path: Path) -> None:
    """Rows gathered by cursor, while writers that export and merge are killed, are the lake's."""
    lake, feed = Lake(tmp_path / "lake"), stream_feed()
    FeedStore(tmp_path / "feeds").add(feed)
    where: dict[str, Any] = {"root": lake.root, "feeds": tmp_path / "feeds", "as_": "pandas"}
    land_rows(lake, feed, [event(100_000)])
    gathered, cursor = Counter[str](), None
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        began = lake.feed(feed).state().sequence
        reached = began
        writer = context.Process(target=_export_and_merge, args=(str(lake.root),))
        writer.start()
        try:
            while lake.feed(feed).state().sequence < began + 4:
                # Not at every turn: the writer needs the processor.
                if lake.feed(feed).state().sequence > reached:
                    rows, cursor = changes_since("events", cursor, **where)
                    gathered += counted(rows)
                    reached = lake.feed(feed).state().sequence
        finally:
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
    lake.feed(feed).recover()

    rows, cursor = changes_since("events", cursor, **where)
    gathered += counted(rows)

    assert gathered == held(lake)
    assert max(gathered.values()) == 1


@settings(max_examples=12, deadline=None)
@given(
    data=st.data(),
    engine=st.sampled_from(ENGINES),
    columns=st.sampled_from([None, ["ID"], ["NOTE", "ROWTIME"]]),
)
def test_a_range_of_event_times_is_a_filter(
    data: st.DataObject, engine: str, columns: list[str] | None
) -> None:
    """Any range gives the rows whose event time lies in it, the end not included, whichever files hold them."""
    seconds = st.integers(0, 3 * 86_400)
    with TemporaryDirectory() as folder:
        lake, feed = Lake(Path(folder) / "lake"), stream_feed()
        FeedStore(Path(folder) / "feeds").add(feed)
        rows: list[Row] = []
        for batch in data.draw(st.lists(st.sets(seconds, max_size=5), min_size=1, max_size=3)):
            known = {row["ROWTIME"] for row in rows}
            fresh = [event(number % 86_400, day=number // 86_400) for number in {*batch, 5}]
            rows += [row for row in fresh if row["ROWTIME"] not in known]
            land_rows(lake, feed, rows, days=4)
        midnight = datetime(2025, 1, 15, tzinfo=UTC)
        low, high = sorted(midnight + timedelta(seconds=data.draw(seconds)) for _ in range(2))
        given: dict[str, Any] = {"from_time": low, "to_time": high, "columns": columns, "as_": engine}
        found = read_stream("events", **given, allow_missing=True, root=lake.root, feeds=Path(folder) / "feeds")

        expected = sorted(row["ID"] for row in rows if low <= row["ROWTIME"] < high)
        told = listed(found)
        assert len(told) == len(expected)
        if columns is None or "ID" in columns:
            assert sorted(row["ID"] for row in told) == expected
        assert all(list(row) == columns for row in told if columns)


def test_a_range_opens_only_the_files_that_can_hold_it(lake: Lake) -> None:
    """By the event times that the commits recorded, not by the days alone."""
    where, feed = where_of(lake), stream_feed()
    for hour in range(4):
        land_rows(lake, feed, [event(hour * 3600 + second) for second in (0, 1)])

    rows = read_stream(
        "events", from_time="2025-01-15T01:00:00Z", to_time="2025-01-15T01:00:01Z", as_="arrow", **where
    )

    assert len(rows.files) == 1
    assert [row["ID"] for row in listed(rows)] == [3600]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_event_time_is_the_feeds_own(tmp_path: Path, unit: str, engine: str) -> None:
    """A column in any unit decides, and ROWTIME where it is NULL."""
    from ksql_lake.schema import parse_schema

    feed = stream_feed(event_time="TS", event_time_unit=unit)
    lake = Lake(tmp_path / "lake")
    FeedStore(tmp_path / "feeds").add(feed)
    schema = parse_schema("`ROWTIME` TIMESTAMP, `TS` BIGINT, `ID` BIGINT")
    midnight = datetime(2025, 1, 15, tzinfo=UTC)
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    base = int(midnight.timestamp())
    rows = [
        {"ROWTIME": midnight + timedelta(hours=9), "TS": (base + second) * factor, "ID": second}
        for second in range(6)
    ]
    rows += [
        {"ROWTIME": midnight + timedelta(seconds=second), "TS": None, "ID": 10 + second} for second in range(6)
    ]
    land_rows(lake, feed, rows, schema=schema)

    found = read_stream(
        "events",
        from_time=midnight + timedelta(seconds=2),
        to_time=midnight + timedelta(seconds=4),
        columns=["ID"],
        as_=engine,
        root=lake.root,
        feeds=tmp_path / "feeds",
    )

    assert sorted(row["ID"] for row in listed(found)) == [2, 3, 12, 13]
