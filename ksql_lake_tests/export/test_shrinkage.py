"""A table that suddenly has fewer rows: read twice, marked where that is so, refused below the feed's floor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import IncompleteResponseError, SnapshotRefusedError
from ksql_lake.export import ExportResult, export_feed
from ksql_lake.export.checks import check_export
from ksql_lake.export.facts import partition_facts, summary
from ksql_lake.export.guards import SmallSnapshotError, lost_share, shrunk_text
from ksql_lake.feeds.model import TableFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import FeedState, Lake
from ksql_lake.lake.commit.manifest import FileEntry
from ksql_lake.lake.commit.state import PartitionState
from ksql_lake.settings import load_settings
from ksql_lake_tests.report.lakes import report_of

FEED = TableFeed(name="c", kind="table", source="COUNTS")


def held(rows: int) -> FeedState:
    """A lake whose version v1 has so many rows."""
    entry = FileEntry(path="version=v1/a.parquet", partition="v1", staged="a", records=rows, bytes=1, sha256="")
    return FeedState(
        kind="table", sequence=1, latest_version=1, partitions={"v1": PartitionState(files=(entry,))}
    )


@pytest.mark.parametrize(("rows", "share"), [(500, 0.0), (450, 0.0), (449, 0.1), (251, 0.1), (380, 0.24)])
def test_a_loss_beyond_the_share_is_looked_at_twice(rows: int, share: float) -> None:
    """Up to a tenth passes; beyond it one reading is not believed, and a second like it lands with its mark."""
    if rows >= 450:
        assert lost_share(FEED, held(500), rows, seen=None) == 0.0
        return
    with pytest.raises(SmallSnapshotError, match=f"the snapshot has {rows} rows after 500 in v1"):
        lost_share(FEED, held(500), rows, seen=None)
    assert lost_share(FEED, held(500), rows, seen=rows) >= share


def test_the_feed_says_what_passes() -> None:
    """`max_shrinkage` is the share: 0 questions every lost row, 1 none above the floor."""
    strict, lenient = (FEED.model_copy(update={"max_shrinkage": share}) for share in (0.0, 1.0))

    with pytest.raises(SmallSnapshotError):
        lost_share(strict, held(500), 499, seen=None)
    assert lost_share(lenient, held(500), 251, seen=None) == 0.0


def test_two_readings_have_to_agree() -> None:
    """A second reading that shows another loss confirms nothing; one without a loss ends the suspicion."""
    with pytest.raises(IncompleteResponseError) as caught:
        lost_share(FEED, held(500), 440, seen=300)
    assert "two readings of the table do not agree: 300 rows, then 440, after 500 in v1" in str(caught.value)
    assert lost_share(FEED, held(500), 500, seen=300) == 0.0


def test_the_floor_stays_hard() -> None:
    """What is below `min_ratio_to_previous` is refused however often it is read."""
    with pytest.raises(SnapshotRefusedError, match="the snapshot has 200 rows, v1 has 500: less than 50%"):
        lost_share(FEED, held(500), 200, seen=200)


def test_a_mark_is_a_share() -> None:
    """The mark says how much was lost; without a loss there is none."""
    assert (shrunk_text(0.24), shrunk_text(0.0)) == ("shrunk by 24 %", "")


@pytest.fixture
def client() -> Iterator[KsqlClient]:
    """A client of a server with a table of 50 keys, built from a stream."""
    with DevServer.start() as server, KsqlClient(load_settings(ksqldb_url=server.url)) as made:
        made.execute("CREATE STREAM HITS (K STRING) WITH (KAFKA_TOPIC='h', VALUE_FORMAT='JSON', PARTITIONS=1);")
        made.execute("CREATE TABLE COUNTS AS SELECT K, COUNT(*) AS N FROM HITS GROUP BY K;")
        lines = b"\n".join(msgspec.json.encode({"K": f"k{number}"}) for number in range(50))
        address = f"{made.url}/devserver/sources/HITS/rows"
        requests.post(address, data=lines, timeout=10).raise_for_status()
        yield made


def short(client: KsqlClient, rows: int, times: int) -> None:
    """Let the next answers hold so many rows, and look whole."""
    fault = {"kind": "short", "source": "COUNTS", "after_rows": rows, "times": times}
    requests.put(f"{client.url}/devserver/faults", json=[fault], timeout=10).raise_for_status()


def test_a_partial_answer_that_comes_once_never_lands(client: KsqlClient, tmp_path: Path) -> None:
    """An answer without a quarter of the keys costs one more reading, which lands instead of it."""
    lake = Lake(tmp_path)
    export_feed(FEED, client, lake)
    short(client, 38, times=1)

    result = export_feed(FEED, client, lake)

    assert (result.read, result.shrunk) == (50, 0.0)


def test_a_table_that_shrank_lands_with_its_mark(
    client: KsqlClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What two readings show lands, and export, report, checks and metadata say how much was lost."""
    lake = Lake(tmp_path)
    export_feed(FEED, client, lake)
    short(client, 38, times=2)

    with caplog.at_level(logging.WARNING):
        result = export_feed(FEED, client, lake)

    assert result.read == 38
    assert "c: the table has shrunk by 24 %; read twice" in caplog.messages
    _marked(result, lake, tmp_path)
    checks = {outcome.name: outcome for outcome in check_export(result, lake.feed(FEED))}
    assert checks["shrinkage"].passed is False
    assert export_feed(FEED, client, lake).shrunk == 0.0


def _marked(result: ExportResult, lake: Lake, root: Path) -> None:
    assert round(result.shrunk, 2) == result.as_dict()["shrunk"] == 0.24
    assert "the version has shrunk by 24 % against the one before, read twice" in summary(result)
    assert partition_facts(result, "v2")["shrunk"] == "shrunk by 24 %"
    described = msgspec.json.decode(Path(root, lake.feed(FEED).layout.summary).read_bytes())
    assert [part.get("shrunk") for part in described["partitions"]] == [None, 0.24]
    (feed,) = report_of(root, FEED, now=result.started_at).feeds
    assert feed.reason.startswith("v2 is the newest version, shrunk by 24 %")
