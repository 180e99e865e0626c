"""Tables by push query: the last row per key, deleted keys gone, as a pull query would have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksql_lake.errors import IncompleteResponseError, NotQueryableError, SnapshotRefusedError
from ksql_lake.lake import Lake
from ksql_lake_tests.export.push.server import Server, feed, snapshot

CREATE = "CREATE TABLE {} (ITEM STRING PRIMARY KEY, CENTS INT) WITH (KAFKA_TOPIC='{}', PARTITIONS=2);"


def change(item: str, cents: int | None) -> dict[str, Any]:
    """A change of a price; None deletes it."""
    return {"ITEM": item, "@tombstone": True} if cents is None else {"ITEM": item, "CENTS": cents}


def test_the_last_row_of_each_key_lands(server: Server, tmp_path: Path) -> None:
    """Updates replace, tombstones delete, a key that comes back is there again; each export is a version."""
    wanted = feed("prices", kind="table", min_ratio_to_previous=0)
    server.ksql(CREATE.format("PRICES", "prices"))
    try:
        server.append(
            "PRICES", *(change(*each) for each in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", None)])
        )
        first = server.export(tmp_path, wanted)
        server.append("PRICES", *(change(*each) for each in [("b", 9), ("a", None), ("zz", None)]))
        second = server.export(tmp_path, wanted)
        server.append("PRICES", *(change(*each) for each in [("b", None), ("c", None)]))
        third = server.export(tmp_path, wanted)
    finally:
        server.ksql("DROP TABLE PRICES;")

    assert snapshot(tmp_path, wanted, "v1") == [("a", 3), ("c", 4)]
    assert snapshot(tmp_path, wanted, "v2") == [("b", 9), ("c", 4)]
    assert snapshot(tmp_path, wanted, "v3") == []
    assert [each.partitions[0].records for each in (first, second, third)] == [2, 2, 0]
    state = Lake(tmp_path).feed(wanted).state()
    assert state.last_read is not None
    assert (state.last_read.rows, state.last_read.judged_by) == (10, "positions")
    assert [column.name for column in state.columns or () if column.key] == ["ITEM"]


def test_deleted_keys_can_stay_marked(server: Server, tmp_path: Path) -> None:
    """With `deleted` a snapshot shows which keys were deleted, their values NULL."""
    wanted = feed("stock", kind="table", deleted=True)
    server.ksql(CREATE.format("STOCK", "stock"))
    try:
        server.append(
            "STOCK", *(change(*each) for each in [("a", 1), ("b", 2), ("a", None), ("c", None), ("c", 3)])
        )
        server.export(tmp_path, wanted)
    finally:
        server.ksql("DROP TABLE STOCK;")

    assert snapshot(tmp_path, wanted, "v1", "ITEM, CENTS, deleted") == [
        ("a", None, True), ("b", 2, False), ("c", 3, False),
    ]  # fmt: skip


def test_key_columns_are_read_even_where_they_do_not_land(server: Server, tmp_path: Path) -> None:
    """A feed that leaves the key out, or renames it, still has one row per key."""
    wanted = feed("colours", kind="table", columns=["CENTS"], rename={"CENTS": "PRICE"})
    server.ksql(CREATE.format("COLOURS", "colours"))
    try:
        server.append("COLOURS", *(change(*each) for each in [("a", 1), ("b", 2), ("a", 5)]))
        server.export(tmp_path, wanted)
    finally:
        server.ksql("DROP TABLE COLOURS;")

    assert snapshot(tmp_path, wanted, "v1", "*") == [(2,), (5,)]


def test_session_windows_are_followed(server: Server, tmp_path: Path) -> None:
    """A SESSION-windowed table, which no pull can scan, has a row per key and window, merged ones once."""
    server.ksql(
        "CREATE STREAM CLICKS (USER STRING KEY, N INT) WITH (KAFKA_TOPIC='clicks', PARTITIONS=1);"
        "CREATE TABLE VISITS AS SELECT USER, COUNT(*) AS HITS FROM CLICKS "
        "WINDOW SESSION (10 SECONDS) GROUP BY USER;"
    )
    wanted = feed("visits", kind="table", min_ratio_to_previous=0)
    try:
        server.append("CLICKS", *({"USER": "u", "N": 1, "ROWTIME": at} for at in (0, 5000, 30_000)))
        with pytest.raises(NotQueryableError) as refused:
            server.export(tmp_path, wanted.model_copy(update={"extraction": "pull"}))
        server.export(tmp_path, wanted)
        server.append("CLICKS", *({"USER": "u", "N": 1, "ROWTIME": at} for at in (14_000, 22_000)))
        server.export(tmp_path, wanted)
    finally:
        server.ksql("DROP TABLE VISITS; DROP STREAM CLICKS;")

    assert 'Set "extraction": "push" in the feed file' in str(refused.value)
    columns = "USER, epoch_ms(WINDOWSTART), epoch_ms(WINDOWEND), HITS"
    assert snapshot(tmp_path, wanted, "v1", columns) == [("u", 0, 5000, 2), ("u", 30_000, 30_000, 1)]
    assert snapshot(tmp_path, wanted, "v2", columns) == [("u", 0, 30_000, 5)]


def test_a_broken_change_feed_makes_no_version(server: Server, tmp_path: Path) -> None:
    """A server that stops in the middle leaves the last version the newest, and a small snapshot is refused."""
    wanted = feed("rates", kind="table")
    server.ksql(CREATE.format("RATES", "rates"))
    try:
        server.append("RATES", *(change(f"k{number}", number) for number in range(20)))
        server.export(tmp_path, wanted)
        server.faults({"kind": "cut_row", "after_rows": 7, "times": 1})
        with pytest.raises(IncompleteResponseError):
            server.export(tmp_path, wanted)
        server.append("RATES", *(change(f"k{number}", None) for number in range(15)))
        with pytest.raises(SnapshotRefusedError, match="the snapshot has 5 rows, v1 has 20"):
            server.export(tmp_path, wanted)
    finally:
        server.ksql("DROP TABLE RATES;")

    assert Lake(tmp_path).feed(wanted).state().latest_version == 1


CHANGES = st.lists(st.tuples(st.sampled_from("abcdefg"), st.none() | st.integers(0, 9)), max_size=40)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(CHANGES, min_size=1, max_size=2))
def test_a_table_by_push_is_the_table_by_pull(
    server: Server, tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, int | None]]]
) -> None:
    """For a table that both can read, the snapshots hold the same rows, whatever was changed and deleted."""
    root = tmp_path_factory.mktemp("lake")
    pushed = feed("twin", kind="table", min_ratio_to_previous=0)
    pulled = pushed.model_copy(update={"name": "twin_pulled", "extraction": "pull"})
    server.ksql(CREATE.format("BASE", "base") + "CREATE TABLE TWIN AS SELECT ITEM, CENTS FROM BASE;")
    try:
        for number, changes in enumerate(rounds, 1):
            if changes:
                server.append("BASE", *(change(*each) for each in changes))
            server.export(root, pushed, quiet_seconds=0.2)
            server.export(root, pulled)
            assert snapshot(root, pushed, f"v{number}") == snapshot(root, pulled, f"v{number}")
    finally:
        server.ksql("DROP TABLE TWIN; DROP TABLE BASE;")


def test_an_empty_table_is_listened_to_once(server: Server, tmp_path: Path) -> None:
    """Where there was nothing before, a table without a row is an empty version after one reading."""
    wanted = feed("hollow", kind="table")
    server.ksql(CREATE.format("HOLLOW", "hollow"))
    try:
        first = server.export(tmp_path, wanted)
        asked = len(server.asked("HOLLOW"))
        server.append("HOLLOW", change("a", 1))
        second = server.export(tmp_path, wanted)
    finally:
        server.ksql("DROP TABLE HOLLOW;")

    assert (first.read, first.commit, asked) == (0, 1, 1)
    assert second.new == 1
