"""Which streams can be read on from where a reading ended, by what the server says of them."""

from __future__ import annotations

import dataclasses

import pytest

from ksql_lake.ksqldb import QueryInfo, SourceColumn, SourceDescription
from ksql_lake.ksqldb.reach import Carrier, carrier
from ksql_lake.ksqldb.version import parse_version

NEW = parse_version("8.0.7")
PLAIN = "CREATE STREAM L WITH (PARTITIONS=2) AS SELECT\n  *,\n  S.ROWPARTITION P,\n  S.ROWOFFSET O\nFROM S S\n"
OLD = "this server has release 7.1.1; a query can be continued from ksqlDB 0.24 (Confluent Platform 7.2) on"
REKEYED = f"{PLAIN}PARTITION BY STRUCT(P:=S.ROWPARTITION, O:=S.ROWOFFSET)\nEMIT CHANGES;"


def described(*queries: str, key: str = "") -> SourceDescription:
    """A stream as the server describes it, with the queries that write it."""
    columns = [SourceColumn(key, "STRING", key=True)] if key else []
    columns += [SourceColumn(name, "BIGINT") for name in ("ID", "P", "O")]
    return SourceDescription(
        name="L",
        kind="stream",
        columns=tuple(columns),
        statement="",
        topic="L",
        partitions=2,
        key_format="KAFKA",
        value_format="JSON",
        window_type=None,
        timestamp="",
        read_queries=(),
        write_queries=tuple(
            QueryInfo(f"CSAS_L_{number}", text, ("L",), ("L",), "PERSISTENT", "RUNNING")
            for number, text in enumerate(queries)
        ),
        queryable=True,
        reason="",
        fix="",
    )


def test_a_stream_with_a_key_of_its_own_can_be_continued() -> None:
    """Its columns, and the key that was made of them, are read from its query; nothing is against it."""
    found = carrier(described(REKEYED, key="KSQL_COL_0"), NEW)

    assert found == Carrier("S", "P", "O", made_key="KSQL_COL_0")
    assert "NULL" not in found.says
    assert found.says.endswith("by ksqlDB's source it works from 0.24 on, measured on 8.0.7 only")


def test_a_kept_key_is_told() -> None:
    """A key of the source's own may be NULL, which no description shows."""
    found = carrier(described(f"{PLAIN}EMIT CHANGES;", key="K"), NEW)

    assert found == Carrier("S", "P", "O")
    assert "on the server and that no row has a NULL key;" in found.says


@pytest.mark.parametrize(
    ("stream", "version", "obstacle"),
    [
        (
            described(REKEYED, key="KSQL_COL_0"),
            "7.1.1",
            OLD,
        ),
        (
            described(REKEYED, "INSERT INTO L SELECT * FROM T EMIT CHANGES;", key="KSQL_COL_0"),
            "8.0.7",
            "L is written by several queries (CSAS_L_0, CSAS_L_1); it must be one",
        ),
        (
            described(f"{PLAIN}EMIT CHANGES;"),
            "8.0.7",
            "L has no KEY column, and a query that is continued sends no rows with a NULL key",
        ),
    ],
    ids=["release", "queries", "key"],
)
def test_what_is_against_continuing_is_said(stream: SourceDescription, version: str, obstacle: str) -> None:
    """Rows are known by offset all the same; why the stream cannot be continued is a sentence."""
    found = carrier(stream, parse_version(version))

    assert found is not None
    assert (found.partition, found.offset, found.obstacle) == ("P", "O", obstacle)
    assert found.says == f"it carries the offsets of S, but cannot be continued: {obstacle}"


def test_the_smallest_release_is_0_24() -> None:
    """0.24 counts, and so does a release whose text says nothing."""
    stream = described(REKEYED, key="KSQL_COL_0")

    for text, fits in (("0.23.1", False), ("0.24.0", True), ("7.2.2", True), ("7.1.16", False), ("odd", True)):
        found = carrier(stream, parse_version(text))
        assert found is not None
        assert (not found.obstacle) is fits, text


@pytest.mark.parametrize(
    "stream",
    [
        described("CREATE STREAM L AS SELECT * FROM S S EMIT CHANGES;", key="K"),
        described(key="K"),
        described(REKEYED.replace("*,", "EXPLODE(S.ITEMS) ITEM,"), key="KSQL_COL_0"),
        described(REKEYED.replace("FROM S S", "FROM S S WHERE S.ID > 5"), key="KSQL_COL_0"),
        dataclasses.replace(described(REKEYED, key="KSQL_COL_0"), kind="table"),
    ],
    ids=["no offsets", "no query", "several rows of one", "not all rows", "a table"],
)
def test_other_sources_carry_nothing(stream: SourceDescription) -> None:
    """A source without its source's offsets is read as before."""
    assert carrier(stream, NEW) is None
