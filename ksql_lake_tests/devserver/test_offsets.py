"""Partitions, offsets, and persistent queries that lag behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from ksql_lake.devserver.sql.partitioner import install
from ksql_lake_tests.devserver.conversation import Client


@pytest.fixture
def orders(client: Client) -> Iterator[str]:
    """A keyed stream of two partitions, a table by its key, one by another column, and a copy."""
    client.ksql(
        "CREATE STREAM ORDERS (K STRING KEY, G STRING, V BIGINT) WITH (KAFKA_TOPIC='orders', PARTITIONS=2, "
        "VALUE_FORMAT='JSON');"
        "CREATE TABLE BY_KEY AS SELECT K, COUNT(*) AS N FROM ORDERS GROUP BY K;"
        "CREATE TABLE BY_G AS SELECT G, COUNT(*) AS N, SUM(V) AS S FROM ORDERS GROUP BY G;"
        "CREATE STREAM COPY AS SELECT * FROM ORDERS EMIT CHANGES;"
    )
    yield "ORDERS"
    client.faults()
    client.ksql("DROP TABLE BY_KEY; DROP TABLE BY_G; DROP STREAM COPY; DROP STREAM ORDERS;")


def fill(client: Client, first: int, last: int) -> None:
    """Append orders numbered `first` up to, not including, `last`."""
    client.append("ORDERS", *({"K": f"key-{n:06}", "G": f"g{n % 5}", "V": n} for n in range(first, last)))


def described(client: Client, name: str) -> dict[str, Any]:
    """DESCRIBE EXTENDED."""
    return dict(client.ksql(f"DESCRIBE {name} EXTENDED;")[0]["sourceDescription"])


def summary(client: Client, name: str) -> dict[str, list[tuple[int, int, int]]]:
    """Topic to partition, log end and consumer offset, of the query that writes a source."""
    return {
        topic["kafkaTopic"]: [
            (part["partition"], part["logEndOffset"], part["consumerOffset"]) for part in topic["offsets"]
        ]
        for group in described(client, name)["queryOffsetSummaries"]
        for topic in group["topicSummaries"]
    }


def tasks(client: Client, query_id: str) -> list[tuple[str, int, int]]:
    """Task, end and committed offset of a query, as SHOW QUERIES EXTENDED reports them."""
    (query,) = [
        item
        for item in client.ksql("SHOW QUERIES EXTENDED;")[0]["queryDescriptions"]
        if item["id"].startswith(query_id)
    ]
    assert all(task["timeCurrentIdlingStarted"] is None for task in query["tasksMetadata"])
    return [
        (task["taskId"], part["endOffset"], part["committedOffset"])
        for task in query["tasksMetadata"]
        for part in task["topicOffsets"]
    ]


def total(client: Client, table: str) -> int:
    """How many orders a table has counted."""
    return sum(int(row[1]) for row in client.rows(f"SELECT * FROM {table};"))


def test_keys_go_to_the_partitions_that_kafka_gives_them() -> None:
    """murmur2 of the key's bytes, against partitions of keys on running servers."""
    with duckdb.connect() as database:
        install(database)

        def partition(key: str, count: int) -> int:
            found = database.execute(f"SELECT kafka_hash_text(?) % {count}", [key]).fetchone()
            return int(found[0]) if found else -1

        eight = {
            0: (8, 14, 18, 31, 33), 1: (3,), 2: (6, 13, 19, 28, 29, 37), 3: (10, 11, 15, 17, 20, 27, 34),
            5: (1, 2, 5, 12, 22, 26, 36), 7: (4, 16, 23, 24, 25, 35),
        }  # fmt: skip
        for number, keys in eight.items():
            assert {partition(f"key-{key:06}", 8) for key in keys} == {number}
        assert [partition(f"g{number}", 2) for number in range(5)] == [1, 0, 1, 0, 1]
        assert database.execute("SELECT kafka_hash_text(NULL)").fetchone() == (None,)


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        ("INTEGER", "-5", b"\xff\xff\xff\xfb"),
        ("BIGINT", "258", bytes([0, 0, 0, 0, 0, 0, 1, 2])),
        ("DOUBLE", "1.5", bytes([0x3F, 0xF8, 0, 0, 0, 0, 0, 0])),
        ("VARCHAR", "'Zoë'", "Zoë".encode()),
    ],
)
def test_keys_of_the_kafka_format_are_hashed_by_their_bytes(kind: str, value: str, data: bytes) -> None:
    """Numbers are big-endian, texts UTF-8, as Kafka's serialisers write them."""
    with duckdb.connect() as database:
        install(database)
        name = {"VARCHAR": "text"}.get(kind, kind.lower())
        (hashed,) = database.execute(f"SELECT kafka_hash_{name}({value}::{kind})").fetchone() or (None,)

    assert hashed == reference(data)


def reference(data: bytes) -> int:
    """murmur2 byte by byte, as Kafka's own loop does it."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    result = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * factor & mask
        word = (word ^ word >> 24) * factor & mask
        result = (result * factor & mask) ^ word
    for place, byte in enumerate(data[whole:]):
        result ^= byte << 8 * place
    if len(data) > whole:
        result = result * factor & mask
    result = (result ^ result >> 13) * factor & mask
    return (result ^ result >> 15) & 0x7FFFFFFF


def test_descriptions_tell_the_topics_partitions(client: Client, orders: str) -> None:
    """DESCRIBE says how many partitions there are, extended or not; another source of the topic has as many."""
    (plain,) = client.ksql(f"DESCRIBE {orders};")
    assert (plain["sourceDescription"]["partitions"], plain["sourceDescription"]["replication"]) == (2, 1)
    assert plain["sourceDescription"]["queryOffsetSummaries"] == []
    client.ksql("CREATE STREAM TWIN (K STRING KEY) WITH (KAFKA_TOPIC='orders', VALUE_FORMAT='JSON');")
    assert described(client, "TWIN")["partitions"] == 2
    client.ksql("DROP STREAM TWIN;")


@pytest.mark.usefixtures("orders")
def test_consumers_stand_at_the_end_of_what_they_have_read(client: Client) -> None:
    """Nothing before the first record; then log ends and consumer offsets meet, tasks end one before."""
    assert summary(client, "BY_KEY") == {}
    assert tasks(client, "CTAS_BY_KEY_") == [("0_0", -1, -1), ("0_1", -1, -1)]

    fill(client, 0, 12)

    (offsets,) = summary(client, "BY_KEY").values()
    ends = [end for _, end, _ in offsets]
    assert sum(ends) == 12
    assert all(end == consumed for _, end, consumed in offsets)
    assert tasks(client, "CTAS_BY_KEY_") == [(f"0_{n}", end - 1, end) for n, end in enumerate(ends)]
    assert tasks(client, "CSAS_COPY_") == tasks(client, "CTAS_BY_KEY_")


@pytest.mark.usefixtures("orders")
def test_another_grouping_goes_through_a_repartition_topic(client: Client) -> None:
    """Its offsets stand beside those of the source, its tasks in a second sub-topology."""
    fill(client, 0, 30)
    told = summary(client, "BY_G")
    (query_id,) = [query["id"] for query in described(client, "BY_G")["writeQueries"]]

    internal = f"_confluent-ksql-default_query_{query_id}-Aggregate-GroupBy-repartition"
    assert set(told) == {internal, "orders"}
    assert told[internal] == [(0, 12, 12), (1, 18, 18)]
    assert [task for task, *_ in tasks(client, query_id)] == ["0_0", "0_1", "1_0", "1_1"]
    assert tasks(client, query_id)[2:] == [("1_0", 11, 12), ("1_1", 17, 18)]


@pytest.mark.usefixtures("orders")
def test_a_query_can_be_held_back(client: Client) -> None:
    """With `lag` offsets are behind and sinks lack those rows; both catch up when it is switched off."""
    client.faults({"kind": "lag", "rows": 3})
    fill(client, 0, 20)

    (offsets,) = summary(client, "BY_KEY").values()
    assert all(end - consumed == 3 for _, end, consumed in offsets)
    assert total(client, "BY_KEY") == total(client, "BY_G") == 14
    assert len(client.rows("SELECT K FROM COPY;")) == 14
    fill(client, 20, 24)
    assert total(client, "BY_KEY") == 18
    client.faults({"kind": "lag", "rows": 3, "source": "BY_G"})
    assert (total(client, "BY_KEY"), total(client, "BY_G")) == (24, 18)
    client.faults()

    assert total(client, "BY_KEY") == total(client, "BY_G") == 24
    assert sorted(client.rows("SELECT K FROM COPY;")) == sorted(client.rows("SELECT K FROM ORDERS;"))
    (offsets,) = summary(client, "BY_KEY").values()
    assert all(end == consumed for _, end, consumed in offsets)


@pytest.mark.usefixtures("orders")
def test_a_lag_may_be_told_of_rows_that_are_there(client: Client) -> None:
    """Switched on later, the query has only not committed them yet: its sink keeps what it has."""
    fill(client, 0, 20)
    client.faults({"kind": "lag", "rows": 2, "source": "BY_KEY"})

    (offsets,) = summary(client, "BY_KEY").values()
    assert all(end - consumed == 2 for _, end, consumed in offsets)
    assert total(client, "BY_KEY") == 20


@pytest.mark.usefixtures("orders")
def test_a_task_can_be_dead(client: Client) -> None:
    """One partition is read no further, whatever arrives; the others go on."""
    client.faults({"kind": "dead_task", "partition": 1, "source": "BY_KEY"})
    fill(client, 0, 20)

    (offsets,) = summary(client, "BY_KEY").values()
    (_, first_end, first), (_, second_end, second) = offsets
    assert (first, second) == (first_end, 0)
    assert total(client, "BY_KEY") == first_end
    assert tasks(client, "CTAS_BY_KEY_")[1] == ("0_1", second_end - 1, -1)
    assert total(client, "BY_G") == 20
    client.faults()
    assert total(client, "BY_KEY") == 20


@pytest.mark.usefixtures("orders")
def test_a_repartition_topic_can_be_behind(client: Client) -> None:
    """The source is read to its end, and the table is not built yet all the same."""
    fill(client, 0, 10)
    client.faults({"kind": "repartition_lag", "rows": 4, "source": "BY_G"})
    fill(client, 10, 30)

    told = summary(client, "BY_G")
    assert all(end == consumed for _, end, consumed in told["orders"])
    (internal,) = set(told) - {"orders"}
    assert told[internal] == [(0, 12, 8), (1, 18, 14)]
    assert total(client, "BY_G") == 22
    client.faults()
    assert summary(client, "BY_G")[internal] == [(0, 12, 12), (1, 18, 18)]
    assert total(client, "BY_G") == 30


def test_a_table_from_a_table_follows_a_lag(client: Client) -> None:
    """Its state is that of the records read so far, with keys that were updated or deleted later."""
    client.ksql(
        "CREATE TABLE P (K STRING PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='p', PARTITIONS=1);"
        "CREATE TABLE Q AS SELECT * FROM P;"
    )
    try:
        client.faults({"kind": "lag", "rows": 2, "source": "Q"})
        client.append(
            "P", {"K": "a", "V": 1}, {"K": "b", "V": 2}, {"K": "a", "V": 3}, {"K": "b", "@tombstone": True}
        )
        assert sorted(client.rows("SELECT * FROM Q;")) == [["a", 1], ["b", 2]]
        client.faults()
        assert client.rows("SELECT * FROM Q;") == [["a", 3]]
    finally:
        client.ksql("DROP TABLE Q; DROP TABLE P;")


def test_source_tables_have_a_query_without_a_sink(client: Client) -> None:
    """It is listed with its tasks, and DESCRIBE reports no offsets of it."""
    (reader,) = described(client, "MERCHANTS")["readQueries"]
    assert reader["id"].startswith("CST_MERCHANTS_")
    assert (reader["sinks"], reader["sinkKafkaTopics"]) == ([], [])
    assert described(client, "MERCHANTS")["queryOffsetSummaries"] == []
    assert reader["id"] in [query["id"] for query in client.ksql("SHOW QUERIES;")[0]["queries"]]
    assert sum(end + 1 for _, end, committed in tasks(client, reader["id"]) if committed == end + 1) == 500


def test_queries_name_the_host_that_runs_them(client: Client) -> None:
    """`ksqlHostQueryStatus` has the server's own address."""
    host = client.url.removeprefix("http://")

    for query in client.ksql("SHOW QUERIES EXTENDED;")[0]["queryDescriptions"]:
        assert query["ksqlHostQueryStatus"] == {host: "RUNNING"}


def test_a_star_stands_for_the_key_that_partition_by_makes(client: Client, orders: str) -> None:
    """A STRUCT of partition and offset becomes the key KSQL_COL_0, the old key a value; the text has `*`."""
    client.append(orders, {"K": None, "G": "a", "V": 1}, {"K": "k", "G": "b", "V": 2})
    client.ksql(
        "CREATE STREAM REKEYED WITH (KEY_FORMAT='JSON') AS SELECT *, ROWPARTITION AS P, ROWOFFSET AS O "
        "FROM ORDERS PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET) EMIT CHANGES;"
    )
    made = described(client, "REKEYED")
    rows = client.rows("SELECT * FROM REKEYED;")
    client.ksql("DROP STREAM REKEYED;")

    assert [(field["name"], field.get("type")) for field in made["fields"]] == [
        ("KSQL_COL_0", "KEY"), ("K", None), ("G", None), ("V", None), ("P", None), ("O", None),
    ]  # fmt: skip
    assert "SELECT\n  *,\n  ORDERS.ROWPARTITION P,\n  ORDERS.ROWOFFSET O\n" in made["statement"]
    assert "PARTITION BY STRUCT(P:=ORDERS.ROWPARTITION, O:=ORDERS.ROWOFFSET)\n" in made["statement"]
    assert [row[0] for row in rows] == [{"P": row[4], "O": row[5]} for row in rows]
    assert [row[1] for row in rows] == [None, "k"]
