"""The objects of the recordings: their statements, and rows that give what the recordings show."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from ksql_lake_tests.devserver.conversation import Client
from ksql_lake_tests.devserver.replaying import Recording, recordings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STATEMENTS = """
CREATE STREAM ORD (K STRING KEY, ID BIGINT, AMOUNT DOUBLE, NAME STRING)
  WITH (KAFKA_TOPIC='hC_ord', PARTITIONS=2, VALUE_FORMAT='JSON');
CREATE STREAM TYPES (K STRING KEY, B BOOLEAN, I INT, L BIGINT, D DOUBLE, S VARCHAR, DEC DECIMAL(20,4),
  BIN BYTES, T TIME, DA DATE, TS TIMESTAMP, AR ARRAY<INT>, MP MAP<VARCHAR, DOUBLE>,
  ST STRUCT<A INT, B VARCHAR, `c d` DOUBLE, T TIME, DA DATE, TS TIMESTAMP, DEC DECIMAL(10,2), BIN BYTES>,
  NEST ARRAY<STRUCT<X MAP<VARCHAR, BIGINT>>>) WITH (KAFKA_TOPIC='hC_types', PARTITIONS=1, VALUE_FORMAT='JSON');
CREATE STREAM EMPTY (K STRING KEY, V INT) WITH (KAFKA_TOPIC='hC_empty', VALUE_FORMAT='JSON');
CREATE STREAM NOKEY (V INT, W STRING) WITH (KAFKA_TOPIC='hC_nokey', PARTITIONS=1, VALUE_FORMAT='JSON');
CREATE STREAM ODD (K STRING KEY, `my col` INT, `SELECT` STRING, `a.b` DOUBLE, `lower` BOOLEAN, `ünï` STRING,
  `with-dash` INT, KSQL_COL_0 INT) WITH (KAFKA_TOPIC='hC_odd', VALUE_FORMAT='JSON');
CREATE STREAM `mixedCase` (K STRING KEY, V INT) WITH (KAFKA_TOPIC='hC_mixed', VALUE_FORMAT='JSON');
CREATE STREAM DELIM (K STRING KEY, V INT, W STRING, D DOUBLE)
  WITH (KAFKA_TOPIC='hC_delim', VALUE_FORMAT='DELIMITED');
CREATE STREAM TSCOL (K STRING KEY, ID INT, EV BIGINT)
  WITH (KAFKA_TOPIC='hC_tscol', VALUE_FORMAT='JSON', TIMESTAMP='EV');
CREATE STREAM HDR (K STRING KEY, V INT, H ARRAY<STRUCT<KEY STRING, VALUE BYTES>> HEADERS)
  WITH (KAFKA_TOPIC='hC_hdr', VALUE_FORMAT='JSON');
CREATE TABLE USERS (K STRING PRIMARY KEY, NAME STRING, AGE INT)
  WITH (KAFKA_TOPIC='hC_users', PARTITIONS=1, VALUE_FORMAT='JSON');
CREATE SOURCE TABLE USERS_SRC (K STRING PRIMARY KEY, NAME STRING, AGE INT)
  WITH (KAFKA_TOPIC='hC_users', VALUE_FORMAT='JSON');
CREATE TABLE USERS_Q WITH (KAFKA_TOPIC='hC_users_q') AS SELECT * FROM USERS;
CREATE TABLE TOT WITH (KAFKA_TOPIC='hC_tot') AS SELECT K, COUNT(*) AS N, SUM(AMOUNT) AS S FROM ORD GROUP BY K;
CREATE TABLE WT WITH (KAFKA_TOPIC='hC_wt') AS
  SELECT K, COUNT(*) AS N FROM ORD WINDOW TUMBLING (SIZE 6 HOURS) GROUP BY K;
CREATE TABLE WH WITH (KAFKA_TOPIC='hC_wh') AS
  SELECT K, COUNT(*) AS N FROM ORD WINDOW HOPPING (SIZE 6 HOURS, ADVANCE BY 3 HOURS) GROUP BY K;
CREATE TABLE WS WITH (KAFKA_TOPIC='hC_ws') AS
  SELECT K, COUNT(*) AS N FROM ORD WINDOW SESSION (2 HOURS) GROUP BY K;
CREATE STREAM ORD_BIG WITH (KAFKA_TOPIC='hC_ord_big') AS SELECT K, ID, AMOUNT FROM ORD WHERE ID > 5;
CREATE TABLE TYPES_T WITH (KAFKA_TOPIC='hC_types_t') AS SELECT K, LATEST_BY_OFFSET(D) AS D,
  LATEST_BY_OFFSET(DEC) AS DEC, LATEST_BY_OFFSET(TS) AS TS, COUNT(*) AS N FROM TYPES GROUP BY K;
"""
SAFE_STATEMENTS = """
CREATE STREAM TOK_S (K STRING KEY, ID BIGINT) WITH (KAFKA_TOPIC='tok_s', PARTITIONS=2, VALUE_FORMAT='JSON');
CREATE STREAM TOK_D AS SELECT K, ID, ROWPARTITION AS P, ROWOFFSET AS O FROM TOK_S;
CREATE STREAM ORDERS (K STRING KEY, AMOUNT DOUBLE)
  WITH (KAFKA_TOPIC='orders', PARTITIONS=3, VALUE_FORMAT='JSON');
CREATE TABLE TOTALS AS SELECT K, COUNT(*) AS N, SUM(AMOUNT) AS S FROM ORDERS GROUP BY K;
"""
LATER_STATEMENTS = """
CREATE STREAM RP_S (K STRING KEY, G STRING, V BIGINT)
  WITH (KAFKA_TOPIC='rp_s', PARTITIONS=2, VALUE_FORMAT='JSON');
CREATE TABLE RP_TOPIC (K STRING PRIMARY KEY) WITH (KAFKA_TOPIC='rp_t', PARTITIONS=2, VALUE_FORMAT='JSON');
CREATE SOURCE TABLE RP_T (K STRING PRIMARY KEY, V BIGINT) WITH (KAFKA_TOPIC='rp_t', VALUE_FORMAT='JSON');
CREATE TABLE RP_A AS SELECT G, COUNT(*) AS N, SUM(V) AS S FROM RP_S GROUP BY G;
CREATE STREAM GM_S (K STRING KEY, ID BIGINT) WITH (KAFKA_TOPIC='gm_s', PARTITIONS=1, VALUE_FORMAT='JSON');
"""
_ROWS = {
    "ORD": ("D push stream product", "ROWTIME K ID AMOUNT NAME ROWPARTITION"),
    "TYPES": ("B pull types product", "ROWTIME K B I L D S DEC BIN T DA TS AR MP ST NEST"),
    "NOKEY": ("B pull nokey", "V W"),
    "mixedCase": ("B pull mixed", "ROWTIME K V"),
    "DELIM": ("B pull delim", "ROWTIME K V W D"),
    "TSCOL": ("B pull tscol", "ROWTIME K ID EV"),
    "HDR": ("B pull hdr", "ROWTIME K V H"),
}
_SAFE_ROWS = {"TOK_S": ("safe: push from earliest, client hangs up after 8 s", "ROWTIME K ID ROWPARTITION")}
_LATER_ROWS = {
    "GM_S": ("session limit of the broker 60 s: none, legacy", "K ID"),
    "RP_T": ("safe: pull of a source table", "K V"),
}


def make(client: Client) -> None:
    """Make the objects of 8.0.7.jsonl, and fill them with the rows that it shows."""
    client.ksql(STATEMENTS)
    known = {item.name: item for item in recordings("8.0.7.jsonl")}
    _fill(client, known, _ROWS)
    odd = ["K", "my col", "SELECT", "a.b", "lower", "ünï", "with-dash", "KSQL_COL_0"]
    client.append("ODD", dict(zip(["ROWTIME", *odd], known["B pull odd"].rows[0], strict=True)))
    for table in ("USERS", "USERS_SRC"):
        for key, name, age, place, _ in known["D push table product"].rows:
            deleted = {"@tombstone": True} if place is None else {}
            client.append(table, {"K": key, "NAME": name, "AGE": age, **deleted})


def make_safe(client: Client) -> None:
    """Make the objects that 8.0.7-safe.jsonl begins with, and fill them with rows that give what it shows."""
    client.ksql(SAFE_STATEMENTS)
    known = {item.name: item for item in recordings("8.0.7-safe.jsonl")}
    _fill(client, known, _SAFE_ROWS)
    for place, (key, count, total) in enumerate(known["safe: table pull"].rows):
        partition = 0 if place < 17 else 1 if place < 36 else 2
        amounts = (0 if n else total for n in range(count))
        client.append(
            "ORDERS", *({"K": key, "AMOUNT": amount, "ROWPARTITION": partition} for amount in amounts)
        )


def make_later(client: Client) -> None:
    """Make the objects that 8.0.7-safe.jsonl asks about later."""
    client.ksql(LATER_STATEMENTS)
    _fill(client, {item.name: item for item in recordings("8.0.7-safe.jsonl")}, _LATER_ROWS)
    places = [(f"k{n}", 1 if n >= 17 else 0) for n in range(30)]
    rows = (
        {"K": key, "G": f"g{n % 5}", "V": n, "ROWPARTITION": place} for n, (key, place) in enumerate(places)
    )
    client.append("RP_S", *rows)


def make_tokens(client: Client) -> None:
    """Make the objects of 8.0.7-tokens.jsonl, the records of TOK_D in the order that its own log has there."""
    client.ksql(SAFE_STATEMENTS)
    whole = next(item for item in recordings("8.0.7-tokens.jsonl") if "from the start of both" in item.name)
    logs = [whole.rows[:9], whole.rows[9:]]  # its partition 1, and then its partition 0
    rows, ends = [], [0, 0]
    while any(logs):
        log = next(log for log in logs if log and ends[log[0][3]] == log[0][4])
        moment, key, number, partition, _ = log.pop(0)
        ends[partition] += 1
        rows.append({"ROWTIME": moment, "K": key, "ID": number, "ROWPARTITION": partition})
    client.append("TOK_S", *rows)


def make_older(client: Client, known: dict[str, Recording]) -> None:
    """Make the objects of an older server from the descriptions that it gave, without rows.

    A source over a topic that exists takes its partitions, so another source brings each topic into being.
    """
    entities = (json.loads(known[name].text) for name in ("show_streams_extended", "show_tables_extended"))
    described = [source for (entity,) in entities for source in entity["sourceDescriptions"]]
    for source in sorted(described, key=lambda item: " AS SELECT" in item["statement"]):
        topic = f"KAFKA_TOPIC='{source['topic']}', PARTITIONS={source['partitions']}, VALUE_FORMAT='JSON'"
        client.ksql(
            f"CREATE STREAM TOPIC_OF_IT (V INT) WITH ({topic}); {source['statement']} DROP STREAM TOPIC_OF_IT;"
        )


def _fill(client: Client, known: dict[str, Recording], sources: dict[str, tuple[str, str]]) -> None:
    for source, (name, columns) in sources.items():
        rows = [dict(zip(columns.split(), row, strict=False)) for row in known[name].rows]
        client.append(source, *(_typed(row) if source == "TYPES" else row for row in rows))


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of TYPES as JSON lines take it: no numbers inside structs for times, no signs of far years."""
    far = {"0000-01-01": "0001-01-01 (BC)", "0001-01-03T00:00:00.000": "0001-01-01T00:00:00.000"}
    told = {
        key: far.get(value, value.lstrip("+")) if key in ("DA", "TS") and value else value
        for key, value in row.items()
    }
    struct = told.get("ST")
    if struct and struct["T"] is not None:
        moment = _EPOCH + timedelta(milliseconds=struct["TS"])
        struct = {
            **struct,
            "T": str(timedelta(milliseconds=struct["T"])).rjust(8, "0")[:12],
            "DA": (_EPOCH + timedelta(days=struct["DA"])).date().isoformat(),
            "TS": moment.isoformat().removesuffix("+00:00"),
        }
    return {**told, "ST": struct}
