"""What lands of streams whose queries stall, repeat, are refused or ended by others: docs/reliability.md."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import (
    EvidenceError,
    KsqlLakeError,
    PropertyRefusedError,
    QueryStalledError,
    ServerUnavailableError,
)
from ksql_lake.ksqldb.properties import ISOLATION, LEGACY_WRITER, POLL_INTERVAL, SESSION_TIMEOUT
from ksql_lake_tests.devserver.conversation import PATIENCE, Client
from ksql_lake_tests.devserver.nodes import SETUP, until
from ksql_lake_tests.export.orders import (
    KEYS,
    conclude,
    export,
    fill,
    held,
    keys,
    order,
    stream_feed,
    transact,
)

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
    limits: dict[str, Any] = {"stall_timeout": 0.5} if kind == "stall" else {"read_timeout": 0.5}

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
    """A /close-query by another client is refused, and the export is whole and proven."""
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
    refused: dict[str, object] = {"kind": "prohibit", "property": LEGACY_WRITER}
    Client(url).faults(refused, {"kind": "stranger_close", "after_rows": 7, "source": "ORDERS"})

    done = export(url, tmp_path / "lake", stream_feed())
    assert (done.evidence.level, done.read) == ("checked", 7)
    assert "when the query is closed in its middle" in done.evidence.text
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
