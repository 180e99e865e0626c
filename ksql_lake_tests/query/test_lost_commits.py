"""`changes_since` over commits that are lost, and over versions that retention removes meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ksql_lake import changes_since, read_stream
from ksql_lake.errors import CorruptLakeError, LakeError, VersionError
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import examine, repair
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.query.sql.views import change_rows
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed
from ksql_lake_tests.query.lakes import where_of
from ksql_lake_tests.query.test_reading import listed


@pytest.mark.parametrize("lost", [2, 3, 4])
def test_a_lost_commit_skips_no_row(lake: Lake, lost: int) -> None:
    """After doctor has rebuilt a commit, a cursor gives every row since, or is refused."""
    feed, where = stream_feed(), where_of(lake)
    cursors: list[tuple[str, int]] = []
    for rows in ([event(1)], [event(2)], [], [event(3)]):
        if rows:
            land_rows(lake, feed, rows)
        else:
            list(lake.feed(feed).compact(older_than=0, now=datetime(2025, 3, 1, tzinfo=UTC)))
        cursors.append((changes_since("events", **where).cursor, len(listed(read_stream("events", **where)))))
    layout = FeedLayout("stream", "events")
    (Path(lake.root) / layout.manifest(lost)).unlink()
    list(repair(lake.storage, examine(lake.storage, layout), apply=False))
    assert sorted(row["ID"] for row in listed(read_stream("events", **where))) == [1, 2, 3]

    refused = []
    for number, (cursor, before) in enumerate(cursors, start=1):
        try:
            found = listed(changes_since("events", cursor, **where).rows)
        except LakeError as error:
            refused.append((number, error.message))
        else:
            assert sorted(row["ID"] for row in found) == list(range(before + 1, 4))

    # Of the merged rows of commit 2 only that commit knew which they were.
    assert [number for number, _ in refused] == ([1, 2] if lost == 2 else [])
    assert all("commit 3 merged rows of a commit that is lost" in why for number, why in refused if number == 1)


def test_retention_during_a_call_is_no_error_of_duckdb(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that goes between choosing and reading it is looked for again; a lost file is damage."""
    feed, where = table_feed(retention=2), where_of(lake)
    land_rows(lake, feed, [{"ID": 1, "NAME": "a"}])
    old = changes_since("users", **where).cursor
    for name in "bc":
        land_rows(lake, feed, [{"ID": 1, "NAME": name}])

    def chosen(*given: Any) -> str:
        statement = change_rows(*given)
        lake.feed(feed).apply_retention()
        return statement

    monkeypatch.setattr("ksql_lake.query.increments.change_rows", chosen)
    with pytest.raises(VersionError, match="the cursor is at version v1, which the lake no longer holds"):
        changes_since("users", old, **where)

    (path,) = Path(lake.root).glob("tables/users/version=v3/*.parquet")
    path.unlink()
    with pytest.raises(CorruptLakeError, match="a committed file cannot be read"):
        changes_since("users", **where)
