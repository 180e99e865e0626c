"""`connect`: one typed view per feed over exactly what is committed."""

from __future__ import annotations

from pathlib import Path

from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake.query import connect
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed


def test_a_stream_and_a_table_are_views(tmp_path: Path) -> None:
    """Path columns are integers; a table's name is its latest version, and `NAME_versions` all of them."""
    lake, stream, table = Lake(tmp_path / "lake"), stream_feed(), table_feed()
    for feed in (stream, table):
        FeedStore(tmp_path / "feeds").add(feed)
    land_rows(lake, stream, [event(1), event(2, day=1)])
    land_rows(lake, table, [{"ID": 1, "NAME": "a"}, {"ID": 2, "NAME": "b"}])
    land_rows(lake, table, [{"ID": 1, "NAME": "c"}])

    connection = connect(tmp_path / "lake", tmp_path / "feeds")

    assert connection.sql("SELECT ID, year, month, day FROM events ORDER BY ID").fetchall() == [
        (1, 2025, 1, 15),
        (2, 2025, 1, 16),
    ]
    assert connection.sql("FROM users").fetchall() == [(1, "c", "v2")]
    assert connection.sql("SELECT version, count(*) FROM users_versions GROUP BY 1 ORDER BY 1").fetchall() == [
        ("v1", 2),
        ("v2", 1),
    ]
