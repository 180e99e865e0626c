"""Pull queries: what they return, and what they refuse."""

from __future__ import annotations

import json

import pytest

from ksql_lake_tests.devserver.conversation import MIGRATE, Client, object_lines, raw_query

DAY = 86_400_000
FIRST = 1_736_121_600_000


def test_a_stream_pull_has_no_keys_and_says_when_it_is_complete(client: Client) -> None:
    """Streams: no KEY marks, a transient id, every row, `Query Completed`."""
    answer = client.query("SELECT TRANSACTION_ID, AMOUNT FROM TRANSACTION_STREAM;")
    first, *rows, last = [json.loads(line) for line in object_lines(answer.text)]

    assert first["header"]["schema"] == "`TRANSACTION_ID` STRING, `AMOUNT` DECIMAL(12, 2)"
    assert first["header"]["queryId"].startswith("transient_TRANSACTION_STREAM_")
    assert len({row["row"]["columns"][0] for row in rows}) == 2000
    assert last == {"finalMessage": "Query Completed"}
    assert answer.text.endswith('\n{"finalMessage":"Query Completed"}]')


def test_a_table_pull_marks_keys_and_ends_with_a_bracket_only(client: Client) -> None:
    """Tables: KEY marks, a query_ id, no finalMessage, not even with LIMIT."""
    answer = client.query("SELECT NAME, MERCHANT_ID FROM MERCHANTS LIMIT 3;")

    assert '"schema":"`NAME` STRING, `MERCHANT_ID` INTEGER KEY"' in answer.text
    assert '"queryId":"query_' in answer.text
    assert len(json.loads(answer.text)) == 4
    assert "finalMessage" not in answer.text


def test_star_puts_keys_and_window_bounds_first(client: Client) -> None:
    """`SELECT *` of a windowed table is key, WINDOWSTART, WINDOWEND, values, the bounds marked KEY."""
    schema = client.schema("SELECT * FROM DAILY_MERCHANT_VOLUME LIMIT 1;")

    assert schema.startswith("`MERCHANT_ID` INTEGER KEY, `WINDOWSTART` BIGINT KEY, `WINDOWEND` BIGINT KEY, `T")


@pytest.mark.parametrize(
    "window",
    [
        f"ROWTIME >= {FIRST + DAY} AND ROWTIME < {FIRST + 2 * DAY}",
        "ROWTIME >= '2025-01-07' AND ROWTIME < '2025-01-08T00:00:00'",
        "ROWTIME BETWEEN '2025-01-07T00:00:00.000' AND '2025-01-07T23:59:59.999'",
        "'2025-01-07T01:00:00+01:00' <= ROWTIME AND NOT (ROWTIME >= '2025-01-08')",
        "EVENT_TIME >= '2025-01-01T00:00:00' AND ROWTIME > 1736207999999 AND ROWTIME < 1736294400000",
    ],
)
def test_a_day_can_be_asked_for_in_every_way(client: Client, window: str) -> None:
    """Numbers and partial timestamps, in comparisons and BETWEEN, bound ROWTIME alike."""
    rows = client.rows(f"SELECT ROWTIME, TRANSACTION_ID FROM TRANSACTION_STREAM WHERE {window};")

    every = client.rows("SELECT ROWTIME, TRANSACTION_ID FROM TRANSACTION_STREAM;")
    assert rows == [row for row in every if FIRST + DAY <= row[0] < FIRST + 2 * DAY]
    assert len(rows) > 100


@pytest.mark.parametrize(
    ("condition", "check"),
    [
        ("USER_ID IN (1, 2, 3)", lambda row: row["USER_ID"] in (1, 2, 3)),
        ("CURRENCY LIKE 'E%' AND NOT CATEGORY = 'travel'",
         lambda row: row["CURRENCY"] == "EUR" and row["CATEGORY"] != "travel"),
        ("RISK_SCORE IS NULL", lambda row: row["RISK_SCORE"] is None),
        ("RISK_SCORE IS NOT NULL AND (AMOUNT > 900.5 OR IS_ONLINE = TRUE)",
         lambda row: row["RISK_SCORE"] is not None and (row["AMOUNT"] > 900.5 or row["IS_ONLINE"])),
        ("ITEM_COUNT NOT BETWEEN 2 AND 3", lambda row: not 2 <= row["ITEM_COUNT"] <= 3),
        ("CATEGORY <> 'café' AND `USER_ID` >= 50",
         lambda row: row["CATEGORY"] != "café" and row["USER_ID"] >= 50),
        ("LEN(CATEGORY) = 4 AND UCASE(CATEGORY) = 'FUEL'", lambda row: row["CATEGORY"] == "fuel"),
        ("USER_ID % 7 = 3 AND USER_ID / 2 * 2 = USER_ID", lambda row: row["USER_ID"] % 14 == 10),
    ],
)  # fmt: skip
def test_conditions_mean_what_they_say(client: Client, condition: str, check: object) -> None:
    """WHERE keeps exactly the rows that Python keeps."""
    names = [
        "TRANSACTION_ID",
        "USER_ID",
        "CURRENCY",
        "CATEGORY",
        "RISK_SCORE",
        "AMOUNT",
        "IS_ONLINE",
        "ITEM_COUNT",
    ]
    every = client.rows(f"SELECT {', '.join(names)} FROM TRANSACTION_FLATTENED;")
    wanted = [row for row in every if check(dict(zip(names, row, strict=True)))]  # type: ignore[operator]

    assert wanted
    assert client.rows(f"SELECT {', '.join(names)} FROM TRANSACTION_FLATTENED WHERE {condition};") == wanted


def test_expressions_have_ksqldbs_names_and_types(client: Client) -> None:
    """Fields of structs keep their names, other expressions are numbered, aliases win."""
    select = (
        "SELECT t.MERCHANT->NAME, MERCHANT->LOCATION->LAT AS `lat x`, ITEMS[1]->SKU, ITEMS[-1]->SKU, "
        "ATTRIBUTES['channel'], USER_ID + 1, CAST(AMOUNT AS STRING) s, ARRAY_LENGTH(ITEMS), "
        "TIMESTAMPTOSTRING(ROWTIME, 'yyyy-MM-dd''T''HH:mm:ss.SSS'), CASE WHEN IS_ONLINE THEN 1 ELSE 0 END "
        "FROM TRANSACTION_STREAM t LIMIT 5;"
    )
    assert client.schema(select) == (
        "`NAME` STRING, `lat x` DOUBLE, `SKU` STRING, `SKU_1` STRING, `KSQL_COL_0` STRING, "
        "`KSQL_COL_1` BIGINT, `S` STRING, `KSQL_COL_2` INTEGER, `KSQL_COL_3` STRING, `KSQL_COL_4` INTEGER"
    )
    whole = client.rows("SELECT MERCHANT, ITEMS, ATTRIBUTES, AMOUNT, ROWTIME FROM TRANSACTION_STREAM LIMIT 5;")
    for row, (merchant, items, attributes, amount, _) in zip(client.rows(select), whole, strict=True):
        assert row[:2] == [merchant["NAME"], merchant["LOCATION"]["LAT"]]
        assert row[2:5] == [items[0]["SKU"], items[-1]["SKU"], attributes["channel"]]
        assert float(row[6]) == amount
        assert row[7] == len(items)


def test_rows_come_in_offset_order_within_each_partition(client: Client) -> None:
    """A push query from the earliest offset shows partitions whose offsets count up without gaps."""
    rows = client.rows(
        "SELECT ROWPARTITION, ROWOFFSET FROM LOGIN_EVENTS EMIT CHANGES LIMIT 600;",
        **{"auto.offset.reset": "earliest"},
    )
    for partition in {row[0] for row in rows}:
        offsets = [offset for number, offset in rows if number == partition]
        assert offsets == list(range(len(offsets)))


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("SELECT * FROM NOPE;", "Exception while preparing statement: NOPE does not exist."),
        ("SELECT * FROM merchants_;", "Exception while preparing statement: MERCHANTS_ does not exist."),
        ("SELECT * FROM `Merchants`;",
         "Exception while preparing statement: Merchants does not exist.\nDid you mean MERCHANTS? Hint: "),
        ("SELECT NOPE FROM MERCHANTS;", "Line: 1, Col: 8: SELECT column 'NOPE' cannot be resolved."),
        ("SELECT `name` FROM MERCHANTS;", "Line: 1, Col: 8: SELECT column 'name' cannot be resolved."),
        ("SELECT ROWOFFSET FROM LOGIN_EVENTS;",
         "Pull queries don't support the following columns in SELECT clauses: `ROWOFFSET`"),
        ("SELECT ROWPARTITION, ROWOFFSET FROM MERCHANTS;",
         "Pull queries don't support the following columns in SELECT clauses: `ROWPARTITION`, `ROWOFFSET`"),
        ("SELECT NAME FROM MERCHANTS WHERE ROWPARTITION = 0;",
         "Pull queries don't support the following columns in WHERE clauses: `ROWPARTITION`"),
        ("SELECT COUNT(*) FROM MERCHANTS GROUP BY NAME;", "Pull queries don't support GROUP BY clauses."),
        ("SELECT NAME FROM MERCHANTS PARTITION BY NAME;", "Pull queries don't support PARTITION BY clauses."),
        ("SELECT NAME FROM MERCHANTS M JOIN FX_RATES F ON M.NAME = F.CURRENCY;",
         "Pull queries don't support JOIN clauses."),
        ("SELECT NAME FROM MERCHANTS ORDER BY NAME;", "line 1:28: Syntax Error"),
        ("SELECT *, NAME FROM MERCHANTS;", "Pull queries on tables cannot combine * with other columns."),
        ("SELECT NAME + FROM MERCHANTS;", "line 1:1: Syntax Error"),
        ("SELECT NAME FROM MERCHANTS WHERE NAME > DATE;",
         "Line: 1, Col: 41: WHERE column 'DATE' cannot be resolved."),
        ("SELECT NAME FROM MERCHANTS WHERE;", "line 1:33: Syntax Error"),
        ("SELECT NAME FROM MERCHANTS WHERE OPENS_AT > 5;", "Could not analyze the expression: "),
        ("SELECT NAME FROM MERCHANTS; SELECT NAME FROM MERCHANTS;",
         "Expected exactly one KSQL statement; found 2 instead"),
        ("PRINT 'x';", "PRINT is not something the ksql-lake devserver can do; a real ksqlDB server can."),
    ],
)  # fmt: skip
def test_what_pull_queries_refuse(client: Client, select: str, message: str) -> None:
    """A query that cannot run is 400/40001 before anything is streamed, on both endpoints."""
    for answer in (client.query(select), client.query_stream(select)):
        assert answer.status_code == 400
        assert answer.json()["@type"] == "statement_error"
        assert answer.json()["error_code"] == 40001
        assert answer.json()["message"].startswith(message)
        assert answer.json()["statementText"] == select


def test_a_plain_table_is_not_queryable(client: Client) -> None:
    """CREATE TABLE without AS or SOURCE answers the text that names the way out, and a CTAS of it works."""
    client.ksql("CREATE TABLE USERS (ID INT PRIMARY KEY, NAME STRING) WITH (KAFKA_TOPIC='u', PARTITIONS=1);")
    try:
        answer = client.query("SELECT * FROM USERS;")
        assert answer.status_code == 400
        assert answer.json()["message"] == (
            "The `USERS` table isn't queryable. To derive a queryable table, you can do 'CREATE TABLE "
            "QUERYABLE_USERS AS SELECT * FROM USERS'. See https://cnfl.io/queries for more info.\n"
            "Add EMIT CHANGES if you intended to issue a push query."
        )
        client.append("USERS", {"id": 1, "name": "a"}, {"id": 2, "name": "b"})
        client.ksql("CREATE TABLE QUERYABLE_USERS AS SELECT * FROM USERS;")
        assert client.rows("SELECT * FROM QUERYABLE_USERS;") == [[1, "a"], [2, "b"]]
    finally:
        client.ksql("DROP TABLE IF EXISTS QUERYABLE_USERS; DROP TABLE USERS;")


def test_only_the_older_writer_says_that_sessions_cannot_be_scanned(client: Client) -> None:
    """A session table answers 200 and nothing, looking complete; the older writer reports the error."""
    client.ksql(
        "CREATE TABLE VISITS AS SELECT USER_ID, COUNT(*) AS N FROM LOGIN_EVENTS WINDOW SESSION (30 MINUTES) "
        "GROUP BY USER_ID;"
    )
    try:
        answer = client.query("SELECT USER_ID, N FROM VISITS;")
        assert answer.status_code == 200
        (header,) = json.loads(answer.text)
        assert "header" in header
        legacy = client.query("SELECT USER_ID, N FROM VISITS;", properties={MIGRATE: False})
        (header, error) = json.loads(legacy.text)
        assert error["errorMessage"]["message"].startswith("Unable to execute pull query: io.confluent.ksql.")
        assert error["errorMessage"]["message"].endswith("/: Table scan unsupported on session tables")
    finally:
        client.ksql("DROP TABLE VISITS;")


@pytest.mark.parametrize("path", ["/query", "/query-stream"])
def test_old_protocols_are_refused(client: Client, path: str) -> None:
    """Queries over HTTP/1.0 are 400."""
    answer = raw_query(client.url, "SELECT NAME FROM MERCHANTS;", version="1.0", path=path)

    assert answer.head.startswith(b"HTTP/1.1 400 ")
    assert b"only available when using HTTP1.1 or HTTP2" in answer.body


@pytest.mark.parametrize(
    "select",
    [
        "SELECT NAME, NAME FROM MERCHANTS;",
        "SELECT NULL FROM MERCHANTS;",
        "SELECT GEO_DISTANCE(1, 2) FROM MERCHANTS;",
        "SELECT UCASE(NAME, NAME) FROM MERCHANTS;",
        "SELECT NAME FROM MERCHANTS WHERE ROWTIME > 'yesterday';",
        "SELECT MERCHANT->NOPE FROM TRANSACTION_STREAM;",
    ],
)
def test_some_mistakes_are_told_to_the_log_only(client: Client, select: str) -> None:
    """The newer writer answers 500/50000 and hides the reason; the older one gives it with a 400."""
    answer = client.query(select)
    assert (answer.status_code, answer.json()["error_code"]) == (500, 50000)
    assert answer.json()["message"].startswith("The server encountered an internal error")

    older = client.query(select, properties={MIGRATE: False})
    assert (older.status_code, older.json()["error_code"]) == (400, 40001)
    assert older.json()["statementText"] == select


def test_a_whole_number_through_zero_is_null(client: Client) -> None:
    """The row goes on; the query does not fail."""
    assert client.rows("SELECT MERCHANT_ID / 0 FROM MERCHANTS LIMIT 1;") == [[None]]


def test_a_statement_may_be_too_large(client: Client) -> None:
    """Thousands of conditions are refused in words, and the server lives on."""
    where = " OR ".join(f"MERCHANT_ID = {number}" for number in range(6000))
    answer = client.query(f"SELECT NAME FROM MERCHANTS WHERE {where};")

    assert (answer.status_code, answer.json()["error_code"]) == (400, 40001)
    assert "Statement is too large to parse" in answer.json()["message"]


def test_table_scans_can_be_switched_off(client: Client) -> None:
    """Without scans a table wants its whole key; with it, it answers."""
    off: dict[str, object] = {"ksql.query.pull.table.scan.enabled": False}
    answer = client.query("SELECT NAME FROM MERCHANTS;", properties=off)
    assert (answer.status_code, answer.json()["error_code"]) == (400, 40001)
    assert answer.json()["message"].startswith("Missing WHERE clause.  See https://cnfl.io/queries")
    assert len(client.rows("SELECT NAME FROM MERCHANTS WHERE MERCHANT_ID = 3;", **off)) == 1
    ranged = client.query("SELECT NAME FROM MERCHANTS WHERE MERCHANT_ID > 3;", properties=off)
    assert ranged.json()["message"].startswith(
        "WHERE clause missing key column for disjunct: (MERCHANT_ID > 3)."
    )


@pytest.mark.parametrize(
    ("where", "message", "statement"),
    [
        ("NAME = 1", "Error in WHERE expression: Cannot compare NAME (STRING) to 1 (INTEGER) with EQUAL.",
         "(NAME = 1)"),
        ("MERCHANT_ID < 'a'",
         "Error in WHERE expression: Cannot compare MERCHANT_ID (INTEGER) to 'a' (STRING) with LESS_THAN.",
         "(MERCHANT_ID < 'a')"),
        ("MERCHANT_ID",
         "Type error in WHERE expression: Should evaluate to boolean but is MERCHANT_ID (INTEGER) instead.",
         "MERCHANT_ID"),
    ],
)  # fmt: skip
def test_conditions_are_checked_before_anything_is_sent(
    client: Client, where: str, message: str, statement: str
) -> None:
    """Types that do not compare are a 400 that names the comparison, not an error after the head."""
    answer = client.query(f"SELECT NAME FROM MERCHANTS WHERE {where};")

    assert (answer.status_code, answer.json()["error_code"]) == (400, 40001)
    assert answer.json()["message"].startswith(message)
    assert answer.json()["statementText"] == statement


def test_other_statements_are_refused_at_query(client: Client) -> None:
    """A LIST is a bad request there, in ksqlDB's own words."""
    answer = client.query("LIST STREAMS;")

    assert (answer.status_code, answer.json()["error_code"]) == (400, 40000)
    assert answer.json()["message"].startswith("Statement type `io.confluent.ksql.parser.KsqlParser$Prepared")
