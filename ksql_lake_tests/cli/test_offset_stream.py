"""The derived stream with offsets: its names, its statement, and how it is recognised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.cli.feeds.prepare import OffsetStream, planned, recognised
from ksql_lake.ksqldb import QueryInfo, SourceColumn, SourceDescription

REWRITTEN = (
    "CREATE STREAM L WITH (CLEANUP_POLICY='delete', KAFKA_TOPIC='L', PARTITIONS=2, RETENTION_MS=-1) AS "
    "SELECT\n  {0},\n  {1}.ROWPARTITION KP,\n  {1}.ROWOFFSET KO\nFROM {1} {1}\n{2}EMIT CHANGES;"
)
"""A statement as a server gives it back: qualified, one column a line, aliases without AS."""


def described(name: str, *columns: str, query: str = "") -> SourceDescription:
    """A stream as the server describes it."""
    made_by = QueryInfo("CSAS_1", query, (name,), (name,), "PERSISTENT", "RUNNING")
    return SourceDescription(
        name=name,
        kind="stream",
        columns=tuple(SourceColumn(column, "BIGINT") for column in columns),
        statement="",
        topic=name,
        partitions=1,
        key_format="KAFKA",
        value_format="JSON",
        window_type=None,
        timestamp="",
        read_queries=(),
        write_queries=(made_by,) if query else (),
        queryable=True,
        reason="",
        fix="",
    )


def test_the_statement_copies_everything_and_both_offsets() -> None:
    """Every name is quoted, so its case and characters are kept."""
    assert planned(described("my-orders", "ID")).statement == (
        "CREATE STREAM `my-orders_LAKE` AS SELECT *, ROWPARTITION AS `RP`, ROWOFFSET AS `RO` "
        "FROM `my-orders` EMIT CHANGES;"
    )


@pytest.mark.parametrize(
    ("columns", "taken", "names"),
    [
        (("ID",), (), ("RP", "RO")),
        (("ID", "RP"), (), ("RP_2", "RO_2")),
        (("ro",), (), ("RP_2", "RO_2")),
        (("ID", "Rp", "RO_2"), (), ("RP_3", "RO_3")),
        (("ID",), ("rp",), ("RP_2", "RO_2")),
    ],
)
def test_column_names_never_collide(
    columns: tuple[str, ...], taken: tuple[str, ...], names: tuple[str, str]
) -> None:
    """Neither with the source's columns nor with what a feed renames one to, in any case of letters."""
    found = planned(described("S", *columns), taken=taken)

    assert (found.partition, found.offset) == names


@given(
    rekeyed=st.booleans(),
    source=st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,20}", fullmatch=True),
    columns=st.lists(st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=5), max_size=5),
)
def test_its_own_statement_is_recognised(rekeyed: bool, source: str, columns: list[str]) -> None:
    """What was made by the planned statement is known again, with the same columns."""
    wanted = planned(described(source, *columns), rekeyed=rekeyed)

    made = described(wanted.name, *columns, wanted.partition, wanted.offset, query=wanted.statement)

    assert recognised(made) == wanted


def test_a_key_of_both_offsets_is_made_on_request() -> None:
    """A key that is never NULL, in a format that can hold it: rows with a NULL key are not sent on."""
    assert planned(described("my-orders", "ID"), rekeyed=True).statement == (
        "CREATE STREAM `my-orders_LAKE` WITH (KEY_FORMAT = 'JSON') AS SELECT *, ROWPARTITION AS `RP`, "
        "ROWOFFSET AS `RO` FROM `my-orders` PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET) "
        "EMIT CHANGES;"
    )


@pytest.mark.parametrize(
    ("source", "clause", "rekeyed"),
    [
        ("O", "PARTITION BY STRUCT(P:=O.ROWPARTITION, O:=O.ROWOFFSET)\n", True),
        ("`a,b)`", "PARTITION BY STRUCT(P:=`a,b)`.ROWPARTITION, O:=`a,b)`.ROWOFFSET)\n", True),
        ("O", "partition by struct( `o` := rowoffset , p := rowpartition )\n", True),
        ("O", "PARTITION BY O.ID\n", False),
        ("O", "PARTITION BY STRUCT(P:=O.ROWPARTITION)\n", False),
        ("O", "PARTITION BY STRUCT(P:=O.ID, O:=O.ROWOFFSET)\n", False),
        ("O", "PARTITION BY STRUCT(P:=O.ROWPARTITION, O:=(O.ROWOFFSET / 2))\n", False),
        ("O", "", False),
    ],
)
def test_a_key_of_both_offsets_is_read_from_the_text_a_server_shows(
    source: str, clause: str, rekeyed: bool
) -> None:
    """Only a STRUCT of the row's own partition and offset counts (constructed: no recording has the clause)."""
    query = REWRITTEN.format("*", source, clause)

    found = recognised(described("L", "ID", "KP", "KO", query=query))

    assert found is not None
    assert found.rekeyed is rekeyed


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (
            "create stream l as\n select *, rowpartition as kp, rowoffset as ko\n from orders emit changes;",
            OffsetStream("ORDERS", "L", "KP", "KO"),
        ),
        (
            "CREATE STREAM L AS SELECT *, o.ROWPARTITION AS `KP`, o.ROWOFFSET AS `KO` FROM `in-where` o;",
            OffsetStream("in-where", "L", "KP", "KO"),
        ),
        (REWRITTEN.format("*", "ORDERS", ""), OffsetStream("ORDERS", "L", "KP", "KO")),
        (
            REWRITTEN.format("`in-where`.ID ID", "`in-where`", "PARTITION BY `in-where`.ID\n"),
            OffsetStream("in-where", "L", "KP", "KO"),
        ),
        (REWRITTEN.format("*", "O", "WHERE (O.ID > 1)\n"), None),
        ("CREATE STREAM L AS SELECT\n  *,\n  O.ROWOFFSET KO,\n  O.ROWPARTITION\nFROM O O\nEMIT CHANGES;", None),
        ("CREATE STREAM L AS SELECT *, ROWPARTITION AS KP FROM ORDERS EMIT CHANGES;", None),
        ("CREATE STREAM L AS SELECT *, ROWPARTITION AS X, ROWOFFSET AS KO FROM ORDERS EMIT CHANGES;", None),
        (
            "CREATE STREAM L AS SELECT *, ROWPARTITION AS KP, ROWOFFSET AS KO FROM ORDERS WHERE ID > 1;",
            None,
        ),
        ("", None),
    ],
)
def test_another_stream_is_not_taken_for_it(query: str, found: OffsetStream | None) -> None:
    """A stream counts only when its query copies both offsets of all rows into columns it has."""
    assert recognised(described("L", "ID", "KP", "KO", query=query)) == found
