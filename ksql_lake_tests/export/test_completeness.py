"""What a server may do to an answer, row by row of the table in docs/reliability.md: whole, or nothing lands.

Nodes that come and go are in test_nodes.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import (
    EvidenceError,
    KsqlLakeError,
    NotBuiltError,
    NotQueryableError,
    PropertyRefusedError,
    QueryStalledError,
    ServerUnavailableError,
)
from ksql_lake.export.certify_table import certify_table
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.properties import ISOLATION, LEGACY_WRITER, POLL_INTERVAL, SESSION_TIMEOUT
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings
from ksql_lake_tests.devserver.conversation import PATIENCE, Client
from ksql_lake_tests.devserver.nodes import SETUP, pull, until
from ksql_lake_tests.export.orders import (
    FIRST,
    conclude,
    export,
    fill,
    held,
    keys,
    order,
    stream_feed,
    table_feed,
    transact,
)

KEYS = 60
TOTALS = "SELECT K, N, S FROM TOTALS;"


@pytest.fixture(scope="module")
def process() -> Iterator[DevServer]:
    """A server with 60 orders and a table made of them."""
    with DevServer.start() as running:
        Client(running.url).ksql(SETUP)
        fill(running.url, KEYS)
        yield running


@pytest.fixture
def url(process: DevServer) -> Iterator[str]:
    """The server's address; its faults are off again afterwards, and no query may be left on it."""
    yield process.url
    requests.delete(f"{process.url}/devserver/faults", timeout=PATIENCE).raise_for_status()
    until(lambda: not Client(process.url).running())


class Meanwhile:
    """Stands for `sleep`: does something the n-th time that the product waits, and waits for nothing itself."""

    def __init__(self, action: Callable[[], object] = lambda: None, *, at: int = 1) -> None:
        self.waits = 0
        self._action, self._at = action, at

    def __call__(self, _seconds: float) -> None:
        """Count the wait."""
        self.waits += 1
        if self.waits == self._at:
            self._action()


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


def test_a_dead_task_is_named_with_its_offset(process: DevServer, tmp_path: Path) -> None:
    """The query is RUNNING and one partition stands still: the error says which one, and nothing lands."""
    url = process.url
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
            NotBuiltError, match="stands still at offset 5 of partition 1 of dying, which ends at 8"
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
    lost = pull(url, TOTALS, legacy=False)
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
    lost = pull(url, TOTALS, legacy=False)
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


# Queries that stand still.


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("stall", QueryStalledError, "neither a row nor its end for 0.5 s, only heartbeats"),
        ("hang", ServerUnavailableError, "fell silent for 0.5 s"),
    ],
)
def test_a_query_that_stands_still_is_given_up(
    url: str, tmp_path: Path, kind: str, error: type[KsqlLakeError], said: str
) -> None:
    """With heartbeats KSQLDB_STALL_TIMEOUT decides, without KSQLDB_READ_TIMEOUT; what came does not land."""
    Client(url).faults({"kind": kind, "after_rows": 5, "source": "ORDERS"})
    limits = {"stall_timeout": 0.5} if kind == "stall" else {"read_timeout": 0.5}

    with pytest.raises(error, match=said):
        export(url, tmp_path, stream_feed(), **limits)

    assert not list(tmp_path.rglob("*.parquet"))


# Rows that come twice.


def test_rows_of_a_lost_session_do_not_land_twice(url: str, tmp_path: Path) -> None:
    """A consumer that would not outlive a pause of 55 s repeats rows; the settings that we send make it."""
    Client(url).faults({"kind": "session_lost", "after_rows": 30, "rows": 20, "source": "ORDERS"})
    doubled = len(Client(url).rows("SELECT K FROM ORDERS;"))
    assert doubled > KEYS

    done = export(url, tmp_path / "lake", stream_feed())
    assert (held(tmp_path / "lake", stream_feed()), done.evidence.level) == (keys(KEYS), "proven")

    Client(url).faults(
        {"kind": "session_lost", "after_rows": 30, "rows": 20, "source": "ORDERS"},
        {"kind": "prohibit", "property": SESSION_TIMEOUT},
    )
    told = export(url, tmp_path / "other", stream_feed())
    assert (told.evidence.level, told.read) == ("checked", doubled)
    assert "rows may repeat after a pause" in told.evidence.text
    with pytest.raises(EvidenceError, match="rows may repeat"):
        export(url, tmp_path / "third", stream_feed(evidence="proven"))
    assert held(tmp_path / "third", stream_feed()) == {}


def test_a_server_that_was_paused_for_longer_than_the_session_doubles_nothing(tmp_path: Path) -> None:
    """SIGSTOP in the middle of an answer, until a consumer with the server's own session would be forgotten."""
    count = 800
    slow = ["--session-seconds", "0.3", "--fault", "slow:rows_per_second=400,source=ORDERS"]
    with DevServer.start(arguments=slow) as server:
        client = Client(server.url)
        client.ksql(SETUP)
        fill(server.url, count)

        def pause() -> None:
            until(lambda: bool(client.running()))
            server.pause()
            _pass_session()
            server.resume()

        bare = _doubled_rows(server, pause)
        pauser = Thread(target=pause)
        pauser.start()
        done = export(server.url, tmp_path, stream_feed())
        pauser.join()

    assert bare > count
    assert held(tmp_path, stream_feed()) == keys(count)
    assert done.evidence.level == "proven"


def _pass_session() -> None:
    """Let the time pass after which the group forgets a consumer: the one thing here that only time brings."""
    time.sleep(1.0)


def _doubled_rows(server: DevServer, pause: Any) -> int:
    """How many rows a pull brings over the same pause that asks for no longer session."""
    pauser = Thread(target=pause)
    pauser.start()
    rows = Client(server.url).rows("SELECT K FROM ORDERS;")
    pauser.join()
    return len(rows)


# Transactions.


@pytest.fixture
def paid(url: str) -> Iterator[str]:
    """A stream PAID of two partitions with keys 0 and 1, one in each."""
    client = Client(url)
    client.ksql(
        "CREATE STREAM PAID (K STRING KEY, V BIGINT) WITH (KAFKA_TOPIC='paid', PARTITIONS=2, "
        "VALUE_FORMAT='JSON');"
    )
    client.append("PAID", *(order(number, ROWPARTITION=number) for number in range(2)))
    yield url
    until(lambda: not client.running())
    client.ksql("DROP STREAM PAID;")


def test_rows_of_aborted_transactions_do_not_land(paid: str, tmp_path: Path) -> None:
    """A plain pull delivers them; the export takes committed rows, or all where the feed says so."""
    transact(paid, "PAID", "good", 2)
    transact(paid, "PAID", "bad", 3, 4)
    conclude(paid, "PAID", "good", "commit")
    conclude(paid, "PAID", "bad", "abort")
    assert len(Client(paid).rows("SELECT K FROM PAID;")) == 5

    done = export(paid, tmp_path / "lake", stream_feed("PAID"))
    every = export(paid, tmp_path / "other", stream_feed("PAID", isolation="uncommitted"))

    assert held(tmp_path / "lake", stream_feed("PAID")) == keys(3)
    assert (done.evidence.level, done.evidence.isolation) == ("proven", "committed")
    assert (every.read, every.evidence.isolation) == (5, "uncommitted")


def test_an_open_transaction_is_waited_for(paid: str, tmp_path: Path) -> None:
    """Its rows land after its commit; one that stays open stalls the export, which says so."""
    transact(paid, "PAID", "open", 2, 3)
    feed = stream_feed("PAID")
    with pytest.raises(QueryStalledError) as caught:
        export(paid, tmp_path / "lake", feed, stall_timeout=0.5)
    assert "open transaction" in caught.value.hint
    assert held(tmp_path / "lake", feed) == {}

    client = Client(paid)

    def commit() -> None:
        until(lambda: bool(client.running()))
        conclude(paid, "PAID", "open", "commit")

    committer = Thread(target=commit)
    until(lambda: not client.running())
    committer.start()
    done = export(paid, tmp_path / "lake", feed)
    committer.join()
    assert (done.evidence.level, held(tmp_path / "lake", feed)) == ("proven", keys(4))


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_partition_of_markers_or_aborted_rows_only_stalls_and_says_so(
    url: str, tmp_path: Path, end: str
) -> None:
    """No pull of it ends: the export gives up, names what it may be and the ways out; nothing lands."""
    client = Client(url)
    client.ksql(
        "CREATE STREAM BARE (K STRING KEY, V BIGINT) WITH (KAFKA_TOPIC='bare', PARTITIONS=2, "
        "VALUE_FORMAT='JSON');"
    )
    try:
        client.append("BARE", order(0, ROWPARTITION=0))
        if end == "commit":
            conclude(url, "BARE", "t", "commit", partitions="1")
        else:
            transact(url, "BARE", "t", 1, partition=1)
            conclude(url, "BARE", "t", "abort")

        with pytest.raises(QueryStalledError) as caught:
            export(url, tmp_path, stream_feed("BARE"), stall_timeout=0.5)

        assert "nothing but aborted records or transaction markers" in caught.value.hint
        assert '"push"' in caught.value.hint
        assert held(tmp_path, stream_feed("BARE")) == {}
        if end == "abort":
            done = export(url, tmp_path, stream_feed("BARE", isolation="uncommitted"))
            assert done.read == 2
        until(lambda: not client.running())
    finally:
        client.ksql("DROP STREAM BARE;")


# Strangers, refusals, limits.


def test_a_stranger_cannot_end_our_query(url: str, tmp_path: Path) -> None:
    """Somebody's /close-query of it is refused, and the export is whole and proven."""
    client = Client(url)
    client.faults({"kind": "slow", "rows_per_second": 60, "source": "ORDERS"})
    answers: list[int] = []

    def interfere() -> None:
        until(lambda: bool(client.running()))
        body = {"queryId": client.running()[0]}
        answers.append(requests.post(f"{url}/close-query", json=body, timeout=PATIENCE).status_code)

    stranger = Thread(target=interfere)
    stranger.start()
    done = export(url, tmp_path, stream_feed())
    stranger.join()

    assert answers == [400]
    assert (done.evidence.level, held(tmp_path, stream_feed())) == ("proven", keys(KEYS))


def test_without_the_older_writer_a_strangers_end_is_never_proven(url: str, tmp_path: Path) -> None:
    """Where the server refuses it a query cut short looks whole: "checked", and a feed can refuse that."""
    refused = {"kind": "prohibit", "property": LEGACY_WRITER}
    Client(url).faults(refused, {"kind": "stranger_close", "after_rows": 7, "source": "ORDERS"})

    done = export(url, tmp_path / "lake", stream_feed())
    assert (done.evidence.level, done.read) == ("checked", 7)
    assert "when somebody closes the query in its middle" in done.evidence.text
    with pytest.raises(EvidenceError):
        export(url, tmp_path / "other", stream_feed(evidence="proven"))
    assert held(tmp_path / "other", stream_feed()) == {}


@pytest.mark.parametrize("name", [LEGACY_WRITER, SESSION_TIMEOUT, POLL_INTERVAL])
def test_a_refused_property_costs_evidence_and_is_recorded(url: str, tmp_path: Path, name: str) -> None:
    """The export goes on without exactly that one; the commit says what is lost; a switch makes it an error."""
    Client(url).faults({"kind": "prohibit", "property": name})

    done = export(url, tmp_path / "lake", stream_feed())

    assert (done.evidence.level, held(tmp_path / "lake", stream_feed())) == ("checked", keys(KEYS))
    assert [caveat.partition(":")[0] for caveat in done.evidence.caveats] == [name]
    with pytest.raises(PropertyRefusedError, match=name):
        export(url, tmp_path / "other", stream_feed(), require_properties=True)
    assert held(tmp_path / "other", stream_feed()) == {}


def test_a_table_without_the_older_writer_is_read_twice(url: str, tmp_path: Path) -> None:
    """Its writer loses errors, so one answer shows nothing: two that agree check it, others refuse it."""
    refused = {"kind": "prohibit", "property": LEGACY_WRITER}
    Client(url).faults(refused)
    done = export(url, tmp_path / "lake", table_feed(), sleep=Meanwhile())
    assert (done.evidence.level, held(tmp_path / "lake", table_feed())) == ("checked", keys(KEYS))
    assert "two readings agree" in done.evidence.text

    Client(url).faults(refused, {"kind": "failure", "after_rows": 7, "times": 2, "source": "TOTALS"})
    with pytest.raises(KsqlLakeError, match="two readings of the table differ in 53 keys"):
        export(url, tmp_path / "other", table_feed(), sleep=Meanwhile())
    assert held(tmp_path / "other", table_feed()) == {}


def test_a_server_that_forbids_committed_reads_is_refused_unless_the_feed_agrees(
    url: str, tmp_path: Path
) -> None:
    """Aborted rows never land because a property was dropped."""
    Client(url).faults({"kind": "prohibit", "property": ISOLATION})

    with pytest.raises(PropertyRefusedError, match="committed records only") as caught:
        export(url, tmp_path, stream_feed())
    assert '"isolation": "uncommitted"' in caught.value.hint
    assert held(tmp_path, stream_feed()) == {}

    done = export(url, tmp_path, stream_feed(isolation="uncommitted"))
    assert (done.evidence.isolation, held(tmp_path, stream_feed())) == ("uncommitted", keys(KEYS))


@pytest.mark.parametrize(
    ("limit", "caveat"),
    [(300_000, "above 300 s"), (60_000, "above 60 s"), (6_000, "rows may repeat after a pause")],
)
def test_a_brokers_session_limit_is_met_step_by_step(url: str, tmp_path: Path, limit: int, caveat: str) -> None:
    """A broker that allows only shorter sessions is asked for one it allows; the commit says what is lost."""
    Client(url).faults({"kind": "session_limit", "limit_ms": limit})
    with pytest.raises(AssertionError, match="session timeout"):
        Client(url).rows("SELECT K FROM ORDERS;", **{SESSION_TIMEOUT: 1_500_000})

    done = export(url, tmp_path, stream_feed())

    assert (done.evidence.level, held(tmp_path, stream_feed())) == ("checked", keys(KEYS))
    assert caveat in " ".join(done.evidence.caveats)


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
    """Keys of several windows are told apart; a window that a version lacks is counted as missing."""
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
