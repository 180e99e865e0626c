"""Sources that come, change and go while the server runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ksql_lake_tests.devserver.conversation import Client, object_lines


@pytest.fixture
def stream(client: Client) -> Iterator[str]:
    """A stream of its own with two rows."""
    client.ksql("CREATE STREAM T (ID INT KEY, A STRING, `b c` DOUBLE) WITH (KAFKA_TOPIC='t', PARTITIONS=2);")
    client.append("T", {"ID": 1, "A": "1", "b c": 1.5, "ROWTIME": 10}, {"ID": 2, "A": "x", "ROWTIME": 20})
    yield "T"
    client.ksql("DROP STREAM T;")


def test_created_sources_answer_with_a_command_status(client: Client) -> None:
    """CREATE, CREATE AS, TERMINATE and DROP are currentStatus entities; a derived one names its query."""
    created, derived = client.ksql(
        "CREATE STREAM X (ID INT KEY) WITH (KAFKA_TOPIC='x'); CREATE STREAM Y AS SELECT * FROM X;"
    )
    query_id = derived["commandStatus"]["queryId"]
    ended, *dropped = client.ksql(
        f"TERMINATE {query_id}; DROP STREAM Y; DROP STREAM IF EXISTS Y; DROP STREAM X;"
    )

    assert (created["@type"], created["commandStatus"]["status"]) == ("currentStatus", "SUCCESS")
    assert created["commandId"] == "stream/`X`/create"
    assert query_id.startswith("CSAS_Y_")
    assert ended["commandStatus"]["message"] == "Query terminated."
    assert [entity["commandId"] for entity in dropped] == [
        "stream/`Y`/drop",
        "stream/`Y`/drop",
        "stream/`X`/drop",
    ]


def test_a_column_can_be_added(client: Client, stream: str) -> None:
    """After ALTER ... ADD COLUMN old rows hold null there and new rows may hold a value."""
    client.ksql(f"ALTER STREAM {stream} ADD COLUMN D DECIMAL(6, 2), ADD E ARRAY<INT>;")
    client.append(stream, {"ID": 3, "D": "12.30", "E": [1, None]})

    assert client.schema(f"SELECT * FROM {stream};").endswith("`D` DECIMAL(6, 2), `E` ARRAY<INTEGER>")
    assert client.rows(f"SELECT ID, D, E FROM {stream};") == [
        [1, None, None],
        [2, None, None],
        [3, 12.3, [1, None]],
    ]
    assert client.refused(f"ALTER STREAM {stream} ADD COLUMN A INT;")["message"] == "Duplicate column names: A"


def test_a_replaced_source_keeps_its_rows(client: Client, stream: str) -> None:
    """CREATE OR REPLACE reads the old rows with the new columns: dropped, added, retyped."""
    client.ksql(f"CREATE OR REPLACE STREAM {stream} (ID BIGINT KEY, A INT, NEW TIME) WITH (KAFKA_TOPIC='t');")

    assert client.schema(f"SELECT * FROM {stream};") == "`ID` BIGINT, `A` INTEGER, `NEW` TIME"
    assert client.rows(f"SELECT ROWTIME, ID, A, NEW FROM {stream};") == [[10, 1, 1, None], [20, 2, None, None]]


def test_offsets_can_be_made_columns(client: Client, stream: str) -> None:
    """A derived stream carries ROWPARTITION and ROWOFFSET of its source as ordinary columns."""
    client.ksql(f"CREATE STREAM T_LAKE AS SELECT *, ROWPARTITION AS RP, ROWOFFSET AS RO FROM {stream};")
    try:
        client.append(stream, *({"ID": number} for number in range(20)))
        pulled = client.rows("SELECT RP, RO, ID FROM T_LAKE;")
        pushed = client.rows(
            f"SELECT ROWPARTITION, ROWOFFSET, ID FROM {stream} EMIT CHANGES LIMIT 22;",
            **{"auto.offset.reset": "earliest"},
        )
        assert pulled == pushed
        assert len({(row[0], row[1]) for row in pulled}) == 22
    finally:
        client.ksql("DROP STREAM T_LAKE;")


def test_names_are_told_apart_by_case(client: Client) -> None:
    """Columns that differ only in case are different columns, here as on the real server."""
    client.ksql("CREATE STREAM CASES (ID INT KEY, `id` INT, `Id` STRING, `select` INT) WITH (KAFKA_TOPIC='c');")
    try:
        client.append("CASES", {"ID": 1, "id": 2, "Id": "three", "select": 4})
        assert client.rows("SELECT id, `id`, `Id`, `select`, ID + `id` AS `sum` FROM CASES;") == [
            [1, 2, "three", 4, 3]
        ]
    finally:
        client.ksql("DROP STREAM CASES;")


def test_nested_rows_come_in_through_json_lines(client: Client) -> None:
    """Arrays, maps, structs, bytes and exact decimals keep their values on their way in."""
    client.ksql(
        "CREATE STREAM NESTED (ID INT KEY, D DECIMAL(38, 10), B BYTES, L ARRAY<STRUCT<X INT, Y BYTES>>, "
        "M MAP<STRING, DOUBLE>, S STRUCT<T TIMESTAMP, I STRUCT<J BOOLEAN>>, E DOUBLE) WITH (KAFKA_TOPIC='n');"
    )
    line = (
        '{"ID": 1, "D": 12345678901234567890.1234567890, "B": "+/8=", "L": [{"X": 1, "Y": "AA=="}, null], '
        '"M": {"k": 1.5, "n": null}, "S": {"T": "2025-01-06T00:00:01", "I": {"J": true}}, "E": NaN}'
    )
    try:
        client.append_text("NESTED", line)
        answer = client.query("SELECT D, B, L, M, S, E FROM NESTED;")
        assert object_lines(answer.text)[1] == (
            '{"row":{"columns":[12345678901234567890.1234567890,"+/8=",[{"X":1,"Y":"AA=="},null],'
            '{"k":1.5,"n":null},{"T":1736121601000,"I":{"J":true}},"NaN"]}}'
        )
    finally:
        client.ksql("DROP STREAM NESTED;")


def test_the_header_of_star_may_have_another_order_than_its_rows(client: Client) -> None:
    """Tables with HEADER columns: the schema says keys, headers, values; the row keeps the declared order."""
    client.ksql(
        "CREATE SOURCE TABLE H (K INT PRIMARY KEY, TEXT STRING, HEADER BYTES HEADER('abc')) "
        "WITH (KAFKA_TOPIC='h');"
    )
    try:
        client.append("H", {"K": 1, "TEXT": "a1", "HEADER": "IQ=="})
        header, row = (json.loads(line) for line in object_lines(client.query("SELECT * FROM H;").text))
        assert header["header"]["schema"] == "`K` INTEGER KEY, `HEADER` BYTES HEADER('abc'), `TEXT` STRING"
        assert row["row"]["columns"] == [1, "a1", "IQ=="]
        explicit = client.schema("SELECT TEXT, HEADER, K FROM H;")
        assert explicit == "`TEXT` STRING, `HEADER` BYTES HEADER('abc'), `K` INTEGER KEY"
    finally:
        client.ksql("DROP TABLE H;")


def test_windows_are_computed(client: Client, stream: str) -> None:
    """TUMBLING and HOPPING windows have the bounds and counts that ksqlDB's definitions give."""
    client.append(stream, *({"ID": 9, "ROWTIME": ms} for ms in (0, 999, 1000, 2500)))
    client.ksql(
        f"CREATE TABLE TUMBLED AS SELECT ID, COUNT(*) AS N FROM {stream} "
        "WINDOW TUMBLING (SIZE 1 SECOND) GROUP BY ID;"
        f"CREATE TABLE HOPPED AS SELECT ID, COUNT(*) AS N FROM {stream} "
        "WINDOW HOPPING (SIZE 2 SECONDS, ADVANCE BY 1 SECOND) GROUP BY ID;"
    )
    try:
        assert sorted(client.rows("SELECT * FROM TUMBLED WHERE ID = 9;")) == [
            [9, 0, 1000, 2], [9, 1000, 2000, 1], [9, 2000, 3000, 1],
        ]  # fmt: skip
        assert sorted(client.rows("SELECT WINDOWSTART, N FROM HOPPED WHERE ID = 9 AND WINDOWSTART >= 0;")) == [
            [0, 3], [1000, 2], [2000, 1],
        ]  # fmt: skip
        (listed,) = client.ksql("DESCRIBE HOPPED;")
        assert listed["sourceDescription"]["windowType"] == "HOPPING"
    finally:
        client.ksql("DROP TABLE TUMBLED; DROP TABLE HOPPED;")


def test_a_derived_table_loses_what_its_source_loses(client: Client) -> None:
    """Deleting a key of a source table sends a tombstone through the table made from it."""
    client.ksql(
        "CREATE SOURCE TABLE P (ID INT PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='p');"
        "CREATE TABLE Q AS SELECT ID, V * 2 AS W FROM P WHERE V > 0;"
    )
    try:
        client.append("P", {"ID": 1, "V": 1}, {"ID": 2, "V": 2}, {"ID": 3, "V": 3})
        client.append("P", {"ID": 1, "@tombstone": True}, {"ID": 2, "V": -1}, {"ID": 3, "V": 4})

        assert client.rows("SELECT * FROM P;") == [[2, -1], [3, 4]]
        assert client.rows("SELECT * FROM Q;") == [[3, 8]]
        answer = client.query("SELECT ID, W FROM Q EMIT CHANGES LIMIT 6;").text
        assert answer.count('"tombstone":true') == 2
    finally:
        client.ksql("DROP TABLE Q; DROP TABLE P;")


def test_terminating_a_tables_query_makes_it_unqueryable(client: Client, stream: str) -> None:
    """Without its writing query a table keeps its rows and refuses pull queries."""
    derived = client.ksql(f"CREATE TABLE C AS SELECT ID, COUNT(*) AS N FROM {stream} GROUP BY ID;")[0]
    try:
        assert len(client.rows("SELECT * FROM C;")) == 2
        client.ksql(f"TERMINATE {derived['commandStatus']['queryId']};")
        assert "isn't queryable" in client.query("SELECT * FROM C;").json()["message"]
    finally:
        client.ksql("DROP TABLE C;")
