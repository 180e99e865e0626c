"""Transactions: what readers get of committed, aborted and open ones, and pulls that never end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from ksql_lake_tests.devserver.conversation import PATIENCE, Client, lines_of
from ksql_lake_tests.devserver.nodes import until

COMMITTED: dict[str, object] = {"ksql.streams.consumer.isolation.level": "read_committed"}
PULL = "SELECT ID FROM PAID;"


@pytest.fixture
def paid(client: Client) -> Iterator[Client]:
    """A stream of two partitions with ids 0 and 1, one in each."""
    client.ksql("CREATE STREAM PAID (ID BIGINT) WITH (KAFKA_TOPIC='paid', PARTITIONS=2, VALUE_FORMAT='JSON');")
    client.append("PAID", {"ID": 0, "ROWPARTITION": 0}, {"ID": 1, "ROWPARTITION": 1})
    yield client
    client.ksql("DROP STREAM PAID;")


def append(client: Client, transaction: str, *rows: dict[str, int]) -> None:
    """Append rows inside a transaction."""
    lines = "\n".join(str(row).replace("'", '"') for row in rows)
    url = f"{client.url}/devserver/sources/PAID/rows"
    answer = requests.post(url, data=lines, params={"transaction": transaction}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text


def finish(client: Client, transaction: str, end: str, partitions: str = "") -> requests.Response:
    """Commit or abort."""
    url = f"{client.url}/devserver/sources/PAID/transactions/{transaction}/{end}"
    return requests.post(url, params={"partitions": partitions}, timeout=PATIENCE)


def ids(client: Client, **properties: object) -> list[Any]:
    """The ids that a pull gives, sorted."""
    return sorted(row[0] for row in client.rows(PULL, **properties))


def test_committed_and_aborted_rows(paid: Client) -> None:
    """Ordinary readers get the rows of both, those of committed rows only the committed ones."""
    append(paid, "good", {"ID": 2, "ROWPARTITION": 0})
    append(paid, "bad", {"ID": 3, "ROWPARTITION": 0}, {"ID": 4, "ROWPARTITION": 1})
    assert finish(paid, "good", "commit").status_code == 200
    assert finish(paid, "bad", "abort").status_code == 200

    assert ids(paid) == [0, 1, 2, 3, 4]
    for name in ("isolation.level", "consumer.isolation.level", "ksql.streams.isolation.level"):
        assert ids(paid, **{name: "read_committed"}) == [0, 1, 2]
    assert ids(paid, **COMMITTED) == [0, 1, 2]


def test_a_marker_takes_an_offset(paid: Client) -> None:
    """The record behind a transaction's end leaves a gap."""
    append(paid, "t", {"ID": 2, "ROWPARTITION": 0})
    finish(paid, "t", "commit")
    paid.append("PAID", {"ID": 3, "ROWPARTITION": 0})

    sql = "SELECT ID, ROWOFFSET FROM PAID WHERE ROWPARTITION = 0 EMIT CHANGES LIMIT 3;"
    assert paid.rows(sql, **{"auto.offset.reset": "earliest"}) == [[0, 0], [2, 1], [3, 3]]


def test_a_pull_of_committed_rows_waits_for_an_open_transaction(paid: Client) -> None:
    """Ordinary pulls get its rows at once; the other waits, and ends after the commit."""
    append(paid, "t", {"ID": 2, "ROWPARTITION": 0})
    paid.append("PAID", {"ID": 3, "ROWPARTITION": 0}, {"ID": 4, "ROWPARTITION": 1})
    assert ids(paid) == [0, 1, 2, 3, 4]
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.extend(ids(paid, **COMMITTED)))
    reader.start()
    until(lambda: len(paid.running()) == 1)

    finish(paid, "t", "commit")
    reader.join()
    assert got == [0, 1, 2, 3, 4]


def test_an_aborted_one_lets_the_waiting_pull_go_on_without_it(paid: Client) -> None:
    """The rows behind it come, its own do not."""
    append(paid, "t", {"ID": 2, "ROWPARTITION": 0})
    paid.append("PAID", {"ID": 3, "ROWPARTITION": 0})
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.extend(ids(paid, **COMMITTED)))
    reader.start()
    until(lambda: len(paid.running()) == 1)

    finish(paid, "t", "abort")
    reader.join()
    assert got == [0, 1, 3]


@pytest.mark.parametrize("properties", [{}, COMMITTED])
def test_a_partition_of_markers_only_never_ends(client: Client, properties: dict[str, object]) -> None:
    """Whatever its isolation, a pull waits for a record that does not come."""
    client.ksql("CREATE STREAM PAID (ID BIGINT) WITH (KAFKA_TOPIC='paid', PARTITIONS=2, VALUE_FORMAT='JSON');")
    try:
        client.append("PAID", {"ID": 0, "ROWPARTITION": 0})
        finish(client, "t", "commit", partitions="1")
        assert never_ends(client, properties)
    finally:
        client.ksql("DROP STREAM PAID;")


def test_a_partition_of_aborted_rows_only_never_ends_for_readers_of_committed_ones(client: Client) -> None:
    """Ordinary pulls get the aborted rows and end."""
    client.ksql("CREATE STREAM PAID (ID BIGINT) WITH (KAFKA_TOPIC='paid', PARTITIONS=2, VALUE_FORMAT='JSON');")
    try:
        client.append("PAID", {"ID": 0, "ROWPARTITION": 0})
        append(client, "t", {"ID": 1, "ROWPARTITION": 1})
        finish(client, "t", "abort")
        assert ids(client) == [0, 1]
        assert never_ends(client, COMMITTED)
    finally:
        client.ksql("DROP STREAM PAID;")


def never_ends(client: Client, properties: dict[str, object]) -> bool:
    """Whether a pull gives its one row and then only signs of life."""
    asked = {**properties, "ksql.endpoint.migrate.query": False}
    with client.query(PULL, properties=asked, stream=True) as answer:
        lines = lines_of(answer)
        found = [next(lines) for _ in range(4)]
    until(lambda: not client.running())
    return '{"row":{"columns":[0]}},' in found and not any("finalMessage" in line for line in found)


def test_push_queries_get_committed_rows_when_they_are_committed(paid: Client) -> None:
    """In each partition nothing overtakes an open transaction; the other partitions go on."""
    append(paid, "t", {"ID": 2, "ROWPARTITION": 0})
    paid.append("PAID", {"ID": 3, "ROWPARTITION": 0}, {"ID": 4, "ROWPARTITION": 1})
    asked = {"auto.offset.reset": "earliest", **COMMITTED}
    with paid.query("SELECT ID FROM PAID EMIT CHANGES;", properties=asked, stream=True) as answer:
        lines = (line for line in lines_of(answer) if "row" in line)
        first = {next(lines) for _ in range(3)}
        append(paid, "u", {"ID": 5, "ROWPARTITION": 1})
        finish(paid, "u", "abort")
        finish(paid, "t", "commit")
        second = [next(lines) for _ in range(2)]
        paid.append("PAID", {"ID": 6, "ROWPARTITION": 1})
        third = next(lines)

    assert first == {f'{{"row":{{"columns":[{number}]}}}},' for number in (0, 1, 4)}
    assert second == [f'{{"row":{{"columns":[{number}]}}}},' for number in (2, 3)]
    assert "[6]" in third


def test_what_cannot_be_ended_is_refused(paid: Client) -> None:
    """A transaction that is not open has no end."""
    answer = finish(paid, "nothing", "commit")
    assert answer.json()["message"] == "PAID has no open transaction 'nothing'"
    assert (
        finish(paid, "t", "forget").json()["message"] == "a transaction ends with commit or abort, not 'forget'"
    )
