"""What lands of tables that are behind, gone, cut or changed: whole, or nothing; see docs/reliability.md.

Nodes that come and go are in test_nodes.py, streams in test_stream_faults.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import (
    KsqlLakeError,
    NotBuiltError,
    NotQueryableError,
    ServerUnavailableError,
)
from ksql_lake.export.table_certification import certify_table
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.properties import LEGACY_WRITER
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings
from ksql_lake_tests.devserver.conversation import Client
from ksql_lake_tests.devserver.nodes import SETUP, pull
from ksql_lake_tests.export.orders import (
    FIRST,
    KEYS,
    Meanwhile,
    export,
    fill,
    held,
    keys,
    order,
    stream_feed,
    table_feed,
)

# Tables that are not built yet.


BEHIND = pytest.mark.parametrize(
    ("kind", "column", "topic"),
    [("lag", "K", "orders"), ("repartition_lag", "V", "repartition")],
    ids=["half-built", "repartition-topic-lags"],
)


@pytest.fixture
def late(url: str, kind: str, column: str) -> Iterator[Feed]:
    """The feed of a table LATE, whose query leaves the last three records of each partition unread."""
    Client(url).faults({"kind": kind, "rows": 3, "source": "LATE"})
    Client(url).ksql(f"CREATE TABLE LATE AS SELECT {column}, COUNT(*) AS N FROM ORDERS GROUP BY {column};")
    yield table_feed("LATE")
    Client(url).faults()
    Client(url).ksql("DROP TABLE LATE;")


@BEHIND
def test_a_table_that_is_behind_is_refused_with_a_count(
    url: str, tmp_path: Path, late: Feed, column: str, topic: str
) -> None:
    """A pull ends as if it were whole, short; the export waits, says how many records are missing, refuses."""
    short = pull(url, f"SELECT {column}, N FROM LATE;")
    assert short.well
    assert len(short.rows) < KEYS

    with pytest.raises(NotBuiltError, match=rf"LATE is \d+ records behind its source .*{topic}") as caught:
        export(url, tmp_path, late, sleep=Meanwhile(), table_wait=3)

    assert "KSQLDB_TABLE_WAIT" in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))


@BEHIND
def test_a_table_that_is_behind_is_waited_for(
    url: str, tmp_path: Path, late: Feed, column: str, topic: str
) -> None:
    """Once its query has caught up the table is read, and proven."""
    notes: list[str] = []
    wait = Meanwhile(Client(url).faults, at=2)

    done = export(url, tmp_path, late, sleep=wait, on_progress=lambda told: notes.append(told.note))

    assert wait.waits >= 2
    assert any("records of" in note and topic in note for note in notes)
    assert (done.evidence.level, done.read) == ("proven", KEYS)
    assert set(held(tmp_path, late, column).values()) == {1}


def test_a_dead_task_is_named_with_its_offset(url: str, tmp_path: Path) -> None:
    """The query is RUNNING and one partition stands still: the error says which one, and nothing lands."""
    client = Client(url)
    client.ksql(
        "CREATE STREAM DYING (K STRING KEY, V BIGINT) WITH (KAFKA_TOPIC='dying', PARTITIONS=2, "
        "VALUE_FORMAT='JSON'); CREATE TABLE DEAD AS SELECT K, COUNT(*) AS N FROM DYING GROUP BY K EMIT CHANGES;"
    )
    client.append("DYING", *(order(number, ROWPARTITION=number % 2) for number in range(10)))
    client.faults({"kind": "dead_task", "source": "DEAD", "partition": 1})
    try:
        client.append("DYING", *(order(number, ROWPARTITION=number % 2) for number in range(10, 16)))
        assert pull(url, "SELECT K, N FROM DEAD;").well
        (query,) = client.ksql("DESCRIBE DEAD;")[0]["sourceDescription"]["writeQueries"]
        assert query["state"] == "RUNNING"

        with pytest.raises(
            NotBuiltError, match="has stopped at offset 5 of partition 1 of dying, which ends at 8"
        ):
            export(url, tmp_path, table_feed("DEAD"), sleep=Meanwhile(), read_timeout=5)
    finally:
        client.faults()
        client.ksql("DROP TABLE DEAD; DROP STREAM DYING;")
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_table_whose_query_was_terminated_is_refused(url: str, tmp_path: Path) -> None:
    """Nothing writes it any more: the export says so after the time that a shutdown would take."""
    client = Client(url)
    client.ksql("CREATE TABLE ENDED AS SELECT K, COUNT(*) AS N FROM ORDERS GROUP BY K EMIT CHANGES;")
    (query,) = client.ksql("DESCRIBE ENDED;")[0]["sourceDescription"]["writeQueries"]
    client.ksql(f"TERMINATE {query['id']};")
    wait = Meanwhile()
    try:
        with pytest.raises(NotBuiltError, match="no query writes ENDED any more") as caught:
            export(url, tmp_path, table_feed("ENDED"), sleep=wait)
    finally:
        client.ksql("DROP TABLE ENDED;")

    assert wait.waits >= 70
    assert "terminated" in caught.value.hint
    assert "push" not in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("kind", ["topic_deleted", "unrestored"])
def test_a_state_that_cannot_be_read_is_no_empty_table(url: str, tmp_path: Path, kind: str) -> None:
    """The newer writer calls it empty and complete; the export fails, and lands the table when it is back."""
    feed = table_feed()
    Client(url).faults({"kind": kind, "source": "TOTALS"})
    lost = pull(url, legacy=False)
    assert (lost.rows, lost.well) == ([], True)

    with pytest.raises(KsqlLakeError, match="Failed to scan materialized table"):
        export(url, tmp_path, feed, sleep=Meanwhile())
    assert held(tmp_path, feed) == {}

    Client(url).faults()
    assert export(url, tmp_path, feed).evidence.level == "proven"
    assert held(tmp_path, feed) == keys(KEYS)


def test_a_stream_over_a_deleted_topic_is_refused(url: str, tmp_path: Path) -> None:
    """No rows land, and the day does not count as read."""
    Client(url).faults({"kind": "topic_deleted", "source": "ORDERS"})

    with pytest.raises(ServerUnavailableError):
        export(url, tmp_path, stream_feed())

    assert not list(tmp_path.rglob("*.parquet"))


def test_a_failed_answer_is_asked_again(url: str, tmp_path: Path) -> None:
    """The newer writer ends a failed table pull like a whole one; the export reads again until it is whole."""
    Client(url).faults({"kind": "failure", "after_rows": 7})
    lost = pull(url, legacy=False)
    assert (len(lost.rows), lost.well) == (7, True)
    Client(url).faults({"kind": "failure", "after_rows": 7, "times": 2, "source": "TOTALS"})

    done = export(url, tmp_path, table_feed(), attempts=4, sleep=Meanwhile())

    assert (done.attempts, done.evidence.level) == (3, "proven")
    assert held(tmp_path, table_feed()) == keys(KEYS)


def test_a_single_node_that_is_named_is_proven_too(url: str, tmp_path: Path) -> None:
    """KSQLDB_NODES of a service of one node changes how it is asked, and not what is shown."""
    done = export(url, tmp_path, table_feed(), nodes=url)

    assert done.evidence.level == "proven"
    assert "each of the 4 partitions was answered by the one of 1 node that holds it" in done.evidence.text
    assert held(tmp_path, table_feed()) == keys(KEYS)


def test_a_table_without_the_older_writer_is_read_twice(url: str, tmp_path: Path) -> None:
    """Its writer loses errors, so one answer shows nothing: two that agree check it, others refuse it."""
    refused: dict[str, object] = {"kind": "prohibit", "property": LEGACY_WRITER}
    Client(url).faults(refused)
    done = export(url, tmp_path / "lake", table_feed(), sleep=Meanwhile())
    assert (done.evidence.level, held(tmp_path / "lake", table_feed())) == ("checked", keys(KEYS))
    assert "two readings agree" in done.evidence.text

    Client(url).faults(refused, {"kind": "failure", "after_rows": 7, "times": 2, "source": "TOTALS"})
    with pytest.raises(KsqlLakeError, match="two readings of the table differ in 53 keys"):
        export(url, tmp_path / "other", table_feed(), sleep=Meanwhile())
    assert held(tmp_path / "other", table_feed()) == {}


# Afterwards.


def test_a_version_that_lacks_rows_is_found_later(url: str, tmp_path: Path) -> None:
    """`certify` reads the table as changes and counts what a version lacks, has too much, or has otherwise."""
    feed = table_feed()
    export(url, tmp_path, feed)
    with KsqlClient(load_settings(ksqldb_url=url, quiet_seconds=0.5)) as client:
        good = certify_table(feed, None, client, Lake(tmp_path))
        (path,) = tmp_path.rglob("*.parquet")
        table = pq.read_table(path, partitioning=None)
        kept = [number not in ("key-3", "key-4") for number in table["K"].to_pylist()]
        pq.write_table(table.filter(kept), path)
        bad = certify_table(feed, "v1", client, Lake(tmp_path))

    assert (good.equal, good.equal_keys, good.evidence.level) == (True, KEYS, "checked")
    assert (bad.equal, bad.missing, bad.equal_keys) == (False, 2, KEYS - 2)
    assert "2 keys missing in the lake" in bad.text


def test_a_version_of_a_windowed_table_is_compared_window_by_window(url: str, tmp_path: Path) -> None:
    """Keys of several windows are distinguished; a window that a version lacks is counted as missing."""
    client = Client(url)
    client.ksql(
        "CREATE STREAM VISITS (K STRING KEY, V BIGINT) WITH (KAFKA_TOPIC='visits', PARTITIONS=2, "
        "VALUE_FORMAT='JSON');"
        "CREATE TABLE WINDOWED AS SELECT K, COUNT(*) AS N FROM VISITS WINDOW TUMBLING (SIZE 1 HOUR) GROUP BY K;"
    )
    feed = table_feed("WINDOWED")
    try:
        fill(url, KEYS, "VISITS")
        client.append("VISITS", *(order(number, ROWTIME=FIRST + 7_200_000) for number in range(5)))
        done = export(url, tmp_path, feed)
        with KsqlClient(load_settings(ksqldb_url=url, quiet_seconds=0.5)) as asked:
            good = certify_table(feed, None, asked, Lake(tmp_path))
            (path,) = tmp_path.rglob("*.parquet")
            table = pq.read_table(path, partitioning=None)
            pq.write_table(table.slice(0, table.num_rows - 3), path)
            bad = certify_table(feed, None, asked, Lake(tmp_path))
    finally:
        client.ksql("DROP TABLE WINDOWED; DROP STREAM VISITS;")

    assert (done.evidence.level, done.read) == ("proven", KEYS + 5)
    assert (good.equal, good.equal_keys) == (True, KEYS + 5)
    assert (bad.missing, bad.equal_keys) == (3, KEYS + 2)


# Releases.


@pytest.mark.parametrize(
    ("version", "stream", "table"),
    [
        ("7.2.2", "proven", "proven"),
        ("0.24.0", "checked", "proven"),
        ("7.1.1", "checked", "checked"),
        ("7.0.1", None, "checked"),
    ],
)
def test_what_each_release_can_show(tmp_path: Path, version: str, stream: str | None, table: str) -> None:
    """The table "By release" of docs/completeness.md, for one node; whole each time."""
    with DevServer.start(arguments=["--server-version", version]) as server:
        Client(server.url).ksql(SETUP)
        fill(server.url, KEYS)
        if stream is None:
            with pytest.raises(NotQueryableError):
                export(server.url, tmp_path, stream_feed())
        else:
            done = export(server.url, tmp_path, stream_feed())
            assert (held(tmp_path, stream_feed()), done.evidence.level) == (keys(KEYS), stream)
        done = export(server.url, tmp_path, table_feed(), sleep=Meanwhile())
        assert (held(tmp_path, table_feed()), done.evidence.level) == (keys(KEYS), table)
