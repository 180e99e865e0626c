"""Scalable push queries and their tokens: what a client gets from an offset on, and every trap on the way."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest
import requests

from ksql_lake.devserver.process import DevCluster, DevServer
from ksql_lake_tests.devserver import batches
from ksql_lake_tests.devserver.batches import PROPERTIES, SELECT, kind_of, read, reading
from ksql_lake_tests.devserver.conversation import DELIMITED, MIGRATE, NO_DELAY, PATIENCE, Client
from ksql_lake_tests.devserver.nodes import until

FAST = ("--token-seconds", "0.2", *NO_DELAY)
LEGACY = {MIGRATE: False}


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    """A server with continuation tokens; each test makes its own sources."""
    with DevServer.start(arguments=FAST) as started:
        yield started


@pytest.fixture
def client(server: DevServer) -> Iterator[Client]:
    """A client of that server, with a stream S of 1200 rows and D made of it."""
    there = Client(server.url)
    there.ksql(batches.STATEMENTS)
    there.append("S", *({"K": f"k{number}", "ID": number} for number in range(1200)))
    yield there
    there.faults()
    until(lambda: not there.running())
    there.ksql("DROP STREAM D; DROP STREAM S;")


def log_ends(client: Client) -> list[int]:
    """The ends of D's own log."""
    with client.query("SELECT ROWPARTITION, ROWOFFSET FROM D EMIT CHANGES LIMIT 1200;", properties={
        "auto.offset.reset": "earliest"
    }) as answer:  # fmt: skip
        rows = [
            json.loads(line.rstrip(","))["row"]["columns"]
            for line in answer.text.split("\n")
            if '"row"' in line
        ]
    ends = Counter(row[0] for row in rows)
    return [ends[0], ends[1]]


def test_a_log_is_read_once_in_batches_of_up_to_500_records(client: Client) -> None:
    """Each begins where the last one ended, has as many rows as its range, and empty ones follow."""
    found = read(client, [0, 0], 5)

    assert [len(batch.rows) for batch in found] == [500, 500, 200, 0, 0]
    assert [batch.span for batch in found] == [500, 500, 200, 0, 0]
    assert found[0].start == [0, 0]
    assert all(before.end == after.start for before, after in pairwise(found))
    assert sorted(number for batch in found for number in batch.ids) == list(range(1200))
    assert found[-1].end == log_ends(client)


def test_the_sink_has_partitions_and_offsets_of_its_own(client: Client) -> None:
    """Rows that the source has in one partition are spread by their keys; P and O are the source's."""
    client.append("S", *({"K": f"new{number}", "ID": 0, "ROWPARTITION": 1} for number in range(40)))
    text = client.query(
        "SELECT ROWPARTITION, ROWOFFSET, P, O FROM D WHERE K LIKE 'new%' EMIT CHANGES LIMIT 40;",
        properties={"auto.offset.reset": "earliest"},
    ).text
    rows = [json.loads(line.rstrip(","))["row"]["columns"] for line in text.split("\n") if '"row"' in line]

    assert {row[2] for row in rows} == {1}
    assert {row[0] for row in rows} == {0, 1}
    for number in (0, 1):
        offsets = [row[1] for row in rows if row[0] == number]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


def test_rows_that_arrive_later_follow(client: Client) -> None:
    """A query that has caught up gets them with the next token; without a token it begins at the end."""
    with reading(client, None) as reader:
        (empty,) = reader.batches(1)
        client.append("S", {"K": "new", "ID": 9999})
        found = reader.batches(1)
        while not found[-1].rows:
            found += reader.batches(1)

    assert (empty.rows, empty.span) == ([], 0)
    assert (found[-1].ids, found[-1].span) == ([9999], 1)


def test_keys_made_of_partition_and_offset_cure_records_without_a_key(client: Client) -> None:
    """Without them such rows are dropped, and only the range shows it."""
    client.append("S", *({"ID": number} for number in range(5000, 5010)))
    ends = read(client, None, 1)[0].end
    (found,) = read(client, [0, 0], 4)[2:3]
    assert (len(found.rows), found.span) == (200, 210)
    client.ksql(
        "CREATE STREAM E WITH (KEY_FORMAT='JSON') AS SELECT STRUCT(P := ROWPARTITION, O := ROWOFFSET) AS PLACE,"
        " ID, ROWPARTITION AS P, ROWOFFSET AS O FROM S PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET);"
    )
    try:
        sql = "SELECT ROWTIME, PLACE, ID, P, O FROM E EMIT CHANGES;"
        cured = read(client, [0, 0], 3, sql=sql)
    finally:
        client.ksql("DROP STREAM E;")

    assert sum(ends) == 1210
    assert [len(batch.rows) for batch in cured] == [batch.span for batch in cured] == [500, 500, 210]
    assert all(row[1] == {"P": row[3], "O": row[4]} for batch in cured for row in batch.rows)


def test_a_star_and_a_place_as_key_go_together(client: Client) -> None:
    """The stream that a source without keys needs: all columns, and the place of each record as its key."""
    client.ksql(
        "CREATE STREAM E WITH (KEY_FORMAT='JSON') AS SELECT *, ROWPARTITION AS P, ROWOFFSET AS O FROM S "
        "PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET);"
    )
    try:
        client.append("S", {"ID": 9001})
        with reading(client, None, sql="SELECT ID, P, O FROM E EMIT CHANGES;") as reader:
            reader.batches(1)
            client.append("S", {"ID": 9002})
            found = reader.batches(1)
            while not found[-1].rows:
                found += reader.batches(1)
        assert [row[0] for row in found[-1].rows] == [9002]
        whole = read(client, [0, 0], 3, sql="SELECT ID, P, O FROM E EMIT CHANGES;")
        assert sum(len(batch.rows) for batch in whole) == sum(batch.span for batch in whole) == 1202
    finally:
        client.ksql("DROP STREAM E;")


def test_tables_that_a_query_writes_have_tokens_too(client: Client) -> None:
    """Their deletions are dropped, and a condition leaves rows out; the range counts both."""
    client.ksql("CREATE TABLE T AS SELECT K, COUNT(*) AS N FROM S GROUP BY K;")
    try:
        found = read(client, [0, 0], 3, sql="SELECT K, N FROM T EMIT CHANGES;")
        some = read(client, [0, 0], 3, sql="SELECT K, N FROM T WHERE K = 'k7' EMIT CHANGES;")
    finally:
        client.ksql("DROP TABLE T;")

    assert sorted(row[0] for batch in found for row in batch.rows) == sorted(
        f"k{number}" for number in range(1200)
    )
    assert [row for batch in some for row in batch.rows] == [["k7", 1]]
    assert sum(batch.span for batch in some) == 1200


@pytest.mark.parametrize(("accept", "line"), [(DELIMITED, '{"continuationToken":"%s"}'), (None, None)])
def test_the_other_endpoint_has_tokens_in_its_own_form(
    client: Client, accept: str | None, line: str | None
) -> None:
    """/query-stream names them once, between lines or in an array."""
    start = [end - 1 for end in log_ends_of(client)]
    body = {
        "sql": SELECT,
        "properties": PROPERTIES,
        "requestProperties": {"request.ksql.query.push.continuation.token": batches.token(start)},
    }
    headers = {"Accept": accept or "application/json"}
    received = ""
    with requests.post(
        f"{client.url}/query-stream", json=body, headers=headers, stream=True, timeout=PATIENCE
    ) as answer:
        for part in answer.iter_content(chunk_size=None):
            received += part.decode()
            if received.count("continuationToken") == 2:
                break

    told = re.findall(r'([\n,])\{"continuationToken":"([^"]+)"\}', received)
    assert {before for before, _ in told} == ({"\n"} if line else {","})
    document = json.loads(base64.b64decode(told[0][1]))
    assert document == {"s": {"o": start}, "e": {"o": [first + 1 for first in start]}, "v": 0}


def test_without_their_property_no_tokens_come(client: Client) -> None:
    """The rows do, and /close-query ends the answer without a word; SHOW QUERIES knows nothing of it."""
    bare = {"ksql.query.push.v2.continuation.tokens.enabled": False}
    with reading(client, [0, 0], properties=bare) as reader:
        rows = [json.loads(next(reader.lines)) for _ in range(1200)]
        assert [item["queryType"] for item in client.ksql("SHOW QUERIES;")[0]["queries"]] == ["PERSISTENT"]
        requests.post(f"{client.url}/close-query", json={"queryId": reader.query_id}, timeout=PATIENCE)
        assert list(reader.lines) == []

    assert all("row" in row for row in rows)


def test_a_query_is_scalable_under_all_its_conditions_only(client: Client) -> None:
    """Where one is missing, the query is an ordinary push, and nothing says so."""
    ordinary: dict[str, dict[str, Any]] = {
        "plain stream": {"sql": "SELECT ROWTIME, K, ID FROM S EMIT CHANGES;"},
        "partition": {"sql": "SELECT ROWTIME, K, ROWPARTITION FROM D EMIT CHANGES;"},
        "offset": {"sql": "SELECT ROWTIME, K FROM D WHERE ROWOFFSET > 3 EMIT CHANGES;"},
        "earliest": {"properties": {"auto.offset.reset": "earliest"}},
        "text": {"properties": {"ksql.query.push.v2.enabled": "true"}},
        "text of tokens": {"properties": {"ksql.query.push.v2.continuation.tokens.enabled": "true"}},
        "switched off": {"properties": {"ksql.query.push.v2.enabled": False}},
    }

    assert kind_of(client, [0, 0]) == "SCALABLE"
    assert {name: kind_of(client, [0, 0], **more) for name, more in ordinary.items()} == dict.fromkeys(
        ordinary, "transient"
    )
    client.faults({"kind": "not_scalable", "times": 1})
    assert len(client.rows("SELECT K FROM D WHERE ID < 10;")) == 10  # takes no switch of theirs
    assert [kind_of(client, [0, 0]), kind_of(client, [0, 0])] == ["transient", "SCALABLE"]
    (query,) = (item["id"] for item in client.ksql("SHOW QUERIES;")[0]["queries"])
    client.ksql(f"TERMINATE {query};")
    assert kind_of(client, [0, 0]) == "transient"


def test_a_server_without_the_registry_or_of_an_older_release_has_no_tokens() -> None:
    """By default no query is scalable; SHOW PROPERTIES lists the settings."""
    for arguments, kind in (
        (("--token-seconds", "0.2"), "transient"),
        (("--server-version", "0.23.1", *FAST), ""),
    ):
        with DevServer.start(arguments=arguments) as started:
            client = Client(started.url)
            client.ksql(batches.STATEMENTS)
            told = {item["name"]: item["value"] for item in client.ksql("SHOW PROPERTIES;")[0]["properties"]}
            assert told["ksql.query.push.v2.registry.installed"] == ("true" if kind == "" else "false")
            assert told["ksql.query.push.v2.new.latest.delay.ms"] == ("0" if kind == "" else "5000")
            assert kind_of(client, [0, 0]) == "transient"


def test_offsets_beyond_the_end_are_no_error(client: Client) -> None:
    """Of one partition they come back as they are; of all, the server says nothing at all."""
    first, second = log_ends(client)

    (found,) = read(client, [first - 1, second + 7], 1)
    assert (len(found.rows), found.end) == (1, [first, second + 7])
    with reading(client, [first + 1, second + 1], timeout=2) as reader, pytest.raises(requests.ConnectionError):
        reader.batches(1)


def test_offsets_that_retention_has_taken_jump_to_the_end(client: Client, server: DevServer) -> None:
    """The token says so, and the rows do not come; DESCRIBE reports the source's log only."""
    server.change_log("D", trim={0: 10})
    server.change_log("S", trim={0: 3, 1: 4})
    first, second = log_ends_of(client)

    found = read(client, [9, 0], 3)
    assert (found[0].start, found[-1].end) == ([9, 0], [first, second])
    assert sum(len(batch.rows) for batch in found) == second
    assert sum(len(batch.rows) for batch in read(client, [10, 0], 3)) == first - 10 + second
    (topic,) = client.ksql("DESCRIBE D EXTENDED;")[0]["sourceDescription"]["queryOffsetSummaries"][0][
        "topicSummaries"
    ]
    assert [(item["logStartOffset"], item["logEndOffset"] > 500) for item in topic["offsets"]] == [
        (3, True),
        (4, True),
    ]
    assert len(client.rows("SELECT ID FROM S;")) == 1193
    with pytest.raises(Exception, match="has no partition 7"):
        server.change_log("D", trim={7: 1})


def log_ends_of(client: Client) -> list[int]:
    """The ends of D's own log, as a token holds them."""
    return read(client, None, 1)[0].end


def test_records_without_a_row_leave_gaps(client: Client, server: DevServer) -> None:
    """In the source they show as offsets that no row of the sink has; in the sink's own log in a range."""
    before = log_ends_of(client)
    server.change_log("S", gap={0: 2})
    server.change_log("D", gap={1: 3})
    client.append("S", {"K": "a", "ID": 7001, "ROWPARTITION": 0})
    with reading(client, before) as reader:
        found = reader.batches(1)[0]

    assert (found.ids, found.span) == ([7001], 4)
    source = client.ksql("DESCRIBE D EXTENDED;")[0]["sourceDescription"]["queryOffsetSummaries"][0]
    end = source["topicSummaries"][0]["offsets"][0]
    assert end["logEndOffset"] == end["consumerOffset"] == found.rows[0][4] + 1


def test_a_sink_can_hold_a_record_twice(client: Client, server: DevServer) -> None:
    """As after a crash before a commit: the same P and O at new offsets, in a batch that adds up."""
    before = log_ends_of(client)
    server.change_log("D", repeat={0: 3, 1: 2})

    (again,) = read(client, before, 1)
    assert (len(again.rows), again.span) == (5, 5)
    whole = Counter((row[3], row[4]) for batch in read(client, [0, 0], 3) for row in batch.rows)
    assert sum(whole.values()) == 1205
    assert sorted(place for place, count in whole.items() if count == 2) == sorted(
        (row[3], row[4]) for row in again.rows
    )


def test_a_topic_can_be_made_anew(client: Client) -> None:
    """The same offsets then hold other records, and nothing but the records shows it."""
    (before,) = read(client, [100, 100], 1)
    client.ksql("DROP STREAM D DELETE TOPIC; DROP STREAM S DELETE TOPIC;")
    client.ksql(batches.STATEMENTS)
    client.append("S", *({"K": f"other{number}", "ID": number} for number in range(1200)))

    (after,) = read(client, [100, 100], 1)
    assert len(before.rows) == len(after.rows) == 500
    assert not {row[1] for row in before.rows} & {row[1] for row in after.rows}


def test_a_source_can_gain_partitions(client: Client, server: DevServer) -> None:
    """Its description and its records show it; the sink's own log keeps its number."""
    server.change_log("S", partitions=4)
    client.append("S", *({"K": f"more{number}", "ID": 8000 + number} for number in range(50)))

    found = read(client, [0, 0], 3)
    assert {row[3] for batch in found for row in batch.rows} == {0, 1, 2, 3}
    assert len(found[-1].end) == 2
    assert client.ksql("DESCRIBE S;")[0]["sourceDescription"]["partitions"] == 4


def test_rows_inserted_into_the_sink_have_no_place(client: Client) -> None:
    """INSERT VALUES goes into a derived stream too."""
    before = log_ends_of(client)
    client.ksql("INSERT INTO D (K, ID) VALUES ('stranger', 1);")

    (found,) = read(client, before, 1)
    assert [row[1:] for row in found.rows] == [["stranger", 1, None, None]]


def test_a_second_query_that_writes_the_sink_ends_its_tokens(client: Client) -> None:
    """INSERT INTO ... SELECT: rows of both queries, two writers in the description, an ordinary push query."""
    client.ksql("CREATE STREAM S2 (K STRING KEY, ID BIGINT) WITH (KAFKA_TOPIC='s2', PARTITIONS=1);")
    client.append("S2", {"K": "other", "ID": 1})
    wrong = client.refused("INSERT INTO D SELECT K, ID FROM S2;")["message"]
    (made,) = client.ksql("INSERT INTO D SELECT K, ID, ROWPARTITION AS P, ROWOFFSET AS O FROM S2;")
    try:
        client.append("S2", {"K": "other", "ID": 2})
        writers = client.ksql("DESCRIBE D EXTENDED;")[0]["sourceDescription"]["writeQueries"]
        kinds = [kind_of(client, [0, 0])]
        rows = client.rows("SELECT ID, P, O FROM D WHERE K = 'other';")
        client.ksql(f"TERMINATE {made['commandStatus']['queryId']};")
        kinds.append(kind_of(client, [0, 0]))
    finally:
        client.ksql("DROP STREAM S2;")

    assert wrong.startswith("Incompatible schema between results and sink.")
    assert sorted(query["id"].partition("_")[0] for query in writers) == ["CSAS", "INSERTQUERY"]
    assert sorted(rows) == [[1, 0, 0], [2, 0, 1]]
    assert kinds == ["transient", "SCALABLE"]


def test_a_star_beside_a_column_is_refused(client: Client) -> None:
    """ROWTIME and all columns cannot be asked for together; all columns alone can."""
    answer = client.query("SELECT ROWTIME, * FROM D EMIT CHANGES;", properties=PROPERTIES)

    assert (answer.status_code, answer.json()["@type"]) == (400, "statement_error")
    assert kind_of(client, [0, 0], sql="SELECT * FROM D EMIT CHANGES;") == "SCALABLE"


def test_the_wrong_number_of_partitions_gives_rows_and_then_an_error(client: Client) -> None:
    """No token comes before it."""
    for offsets, told in (([0, 0, 0], "other:2,  offsets:3"), ([0], "other:2,  offsets:1")):
        with reading(client, offsets) as reader:
            found = reader.batches(1)
            assert (bool(found[0].rows), found[0].end) == (True, [])
            assert reader.error == f"java.lang.IllegalStateException: Should be equal {told}"


@pytest.mark.parametrize(
    "text", ["%%%", base64.b64encode(b'{"e":{}}').decode(), base64.b64encode(b"[1]").decode()]
)
def test_what_is_no_token_is_refused(client: Client, text: str) -> None:
    """400 with the statement."""
    body = {
        "ksql": SELECT,
        "streamsProperties": PROPERTIES,
        "requestProperties": {"request.ksql.query.push.continuation.token": text},
    }
    answer = requests.post(f"{client.url}/query", json=body, timeout=PATIENCE)

    assert (answer.status_code, answer.json()["message"]) == (400, "Couldn't decode push offset range token")


def test_the_sixth_catch_up_gets_an_error() -> None:
    """Five of one source go on; a place is free when one has left."""
    arguments = ["--setting", "ksql.query.push.v2.registry.installed=true", "--token-seconds", "0.2"]
    with DevServer.start(arguments=arguments) as started, ExitStack() as stack:
        client = Client(started.url)
        client.ksql(batches.STATEMENTS)
        readers = [stack.enter_context(reading(client, [0, 0])) for _ in range(5)]
        until(lambda: len(client.running()) == 5)
        with reading(client, [0, 0]) as sixth:
            assert sixth.batches(1) == []
            assert sixth.error == "Too many catchups registered, ksql.query.push.v2.max.catchup.consumers:5"
        with reading(client, None) as latest:
            assert latest.batches(1)[0].end == [0, 0]
        assert [reader.batches(1)[0].end for reader in readers] == [[0, 0]] * 5
        client.faults({"kind": "catch_ups_full", "times": 1})
        with reading(client, [0, 0]) as full:
            full.batches(1)
            assert full.error.startswith("Too many catchups registered")


def test_the_older_writer_is_cut_off_with_a_backlog(client: Client) -> None:
    """After 500 to 2,000 rows; fewer come whole."""
    client.append("S", *({"K": f"b{number}", "ID": number} for number in range(1200)))
    with reading(client, [0, 0], properties=LEGACY) as reader:
        found = reader.batches(9)
        assert 500 <= sum(len(batch.rows) for batch in found) <= 2000
        assert reader.error == "Hit limit of request queue"
    ends = log_ends_of(client)
    (whole,) = read(client, [ends[0] - 200, ends[1] - 200], 1, properties=LEGACY)
    assert len(whole.rows) == whole.span == 400


def test_a_slow_reader_is_cut_off_with_an_error(client: Client) -> None:
    """Its answer ends with the reason once it reads on."""
    client.append("S", *({"K": "x" * 2000, "ID": number} for number in range(20_000)))
    client.faults({"kind": "slow_reader", "pause_ms": 300, "times": 1})
    with reading(client, [0, 0]) as reader:
        until(lambda: client.asked()[-1]["state"] == "failed")
        found = reader.batches(1000)
        assert reader.error == "Hit limit of request queue"
        assert sum(len(batch.rows) for batch in found) < 21_200


def test_a_batch_can_come_again_with_an_empty_range(client: Client) -> None:
    """Around the end of the catch-up: its rows are more than its range has."""
    client.faults({"kind": "repeated_batch", "rows": 700, "times": 1})

    *found, again, empty = read(client, [0, 0], 5)
    assert [len(batch.rows) for batch in found] == [500, 500, 200]
    assert (len(again.rows), again.span, again.start) == (700, 0, found[-1].end)
    assert again.rows == [row for batch in found for row in batch.rows][-700:]
    assert (empty.rows, empty.start) == ([], again.end)


def test_a_batch_can_overlap_the_one_before(client: Client) -> None:
    """It adds up, and begins before the other's end."""
    client.faults({"kind": "overlapping_batch", "after_rows": 500, "rows": 10, "times": 1})

    first, second = read(client, [0, 0], 2)
    assert second.start == [end - 10 for end in first.end]
    assert (len(second.rows), second.span) == (500, 500)
    assert len(set(first.ids) & set(second.ids)) == 20


def test_rows_of_a_batch_can_be_missing(client: Client) -> None:
    """Only the number of rows shows it."""
    client.faults({"kind": "short_batch", "after_rows": 600, "rows": 3, "times": 1})

    found = read(client, [0, 0], 3)
    assert [(len(batch.rows), batch.span) for batch in found] == [(500, 500), (497, 500), (200, 200)]


def test_a_batch_can_be_missing(client: Client) -> None:
    """Only the beginning of the next one shows it."""
    client.faults({"kind": "skipped_batch", "after_rows": 1, "rows": 20, "times": 1})

    first, second = read(client, [0, 0], 2)
    assert second.start == [end + 20 for end in first.end]
    assert (len(second.rows), second.span) == (500, 500)


def test_a_log_survives_its_server() -> None:
    """A node that is killed and started again goes on at the same offsets, and so does the other."""
    with DevCluster.start(nodes=2, arguments=FAST) as cluster:
        client = Client(cluster.urls[0])
        client.ksql(batches.STATEMENTS)
        cluster.append("S", *({"K": f"k{number}", "ID": number} for number in range(700)))
        whole = [row for batch in read(client, [0, 0], 2) for row in batch.rows]
        with reading(client, [0, 0]) as reader:
            first, *_ = reader.batches(1)
            cluster.kill_node(1)
        assert first.rows == whole[:500]
        assert read(Client(cluster.urls[1]), first.end, 1)[0].rows == whole[500:]
        cluster.start_node(1)
        cluster.change_log("D", repeat={0: 2})  # of the source's last records
        until(lambda: requests.get(f"{client.url}/info", timeout=PATIENCE).status_code == 200)
        again = read(client, first.end, 1)[0].rows
        assert len(again) == 202
        assert {row[2] for row in again} == {row[2] for row in whole}.difference(first.ids)


def test_rows_come_once_while_a_producer_runs(client: Client) -> None:
    """Batches follow one another without a gap, and every row comes in one of them."""

    def produce() -> None:
        for number in range(2000, 2300, 10):
            client.append("S", *({"K": f"k{one}", "ID": one} for one in range(number, number + 10)))

    producer = threading.Thread(target=produce)
    with reading(client, [0, 0]) as reader:
        producer.start()
        found = reader.batches(1)
        while sum(len(batch.rows) for batch in found) < 1500:
            found += reader.batches(1)
    producer.join()

    assert all(before.end == after.start for before, after in pairwise(found))
    assert all(len(batch.rows) == batch.span for batch in found)
    assert sorted(number for batch in found for number in batch.ids) == [*range(1200), *range(2000, 2300)]
