"""The query of an export."""

from __future__ import annotations

from datetime import date

import pytest

from ksql_lake.errors import ConfigError, SchemaError
from ksql_lake.export import Days
from ksql_lake.export.question import check_fields
from ksql_lake.export.statement import lake_names, stream_statement, table_statement, wanted_columns
from ksql_lake.schema import parse_type
from ksql_lake_tests.lake.landing import stream_feed, table_feed

DAY = Days(date(2025, 1, 15), date(2025, 1, 15))


def test_a_stream_is_asked_for_a_half_open_window() -> None:
    """Columns are explicit and quoted, ROWTIME comes first, and the window's end is not included."""
    statement = stream_statement(stream_feed(), ["ROWTIME", "ID", "odd`name"], DAY, event_type="BIGINT")

    assert statement == (
        "SELECT ROWTIME, `ID`, `odd``name` FROM `EVENTS` "
        "WHERE ROWTIME >= 1736899200000 AND ROWTIME < 1736985600000;"
    )


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("BIGINT", "1736899200000", "1736985600000"),
        ("TIMESTAMP", "'2025-01-15T00:00:00.000'", "'2025-01-16T00:00:00.000'"),
    ],
)
def test_rows_without_event_time_are_asked_for_by_rowtime(kind: str, low: str, high: str) -> None:
    """A window over an event-time column includes the rows whose event time is NULL, by their ROWTIME."""
    statement = stream_statement(stream_feed(event_time="AT"), ["ROWTIME", "AT"], DAY, event_type=kind)

    assert statement.endswith(
        f"WHERE (`AT` >= {low} AND `AT` < {high}) OR "
        "(`AT` IS NULL AND ROWTIME >= 1736899200000 AND ROWTIME < 1736985600000);"
    )


@pytest.mark.parametrize(
    ("event_time", "kind", "unit", "end"),
    [
        ("ROWTIME", "BIGINT", "ms", "ROWTIME < 253402300799000;"),
        ("AT", "BIGINT", "ns", "`AT` < 9223372036854775807)"),
        ("AT", "TIMESTAMP", "ms", "`AT` < '9999-12-31T23:59:59.000')"),
    ],
)
def test_an_open_window_ends_where_times_end(event_time: str, kind: str, unit: str, end: str) -> None:
    """Rows of the future are asked for up to the last moment that their column can hold or a text can say."""
    feed = stream_feed(event_time=event_time, event_time_unit=unit)

    statement = stream_statement(feed, ["ROWTIME", "AT"], DAY, event_type=kind, open_end=True)

    assert end in statement


def test_the_window_follows_the_time_zone() -> None:
    """A Berlin day in March is 23 hours of epoch milliseconds."""
    day = Days(date(2025, 3, 30), date(2025, 3, 30))

    statement = stream_statement(stream_feed(timezone="Europe/Berlin"), ["ROWTIME"], day, event_type="BIGINT")

    assert "ROWTIME >= 1743289200000 AND ROWTIME < 1743372000000" in statement
    assert 1743372000000 - 1743289200000 == 23 * 3_600_000


def test_an_event_time_of_another_type_is_refused() -> None:
    """A string is not an event time."""
    with pytest.raises(ConfigError, match="event_time 'AT' is STRING; it must be BIGINT"):
        stream_statement(stream_feed(event_time="AT"), ["ROWTIME", "AT"], DAY, event_type="STRING")


def test_chosen_columns_keep_what_the_lake_needs() -> None:
    """`columns` narrows the query, but ROWTIME, event time, identity and window bounds always travel."""
    feed = stream_feed(columns=["B"], event_time="AT", identity={"by": "offset", "columns": ["P", "O"]})

    assert wanted_columns(feed, ["A", "B", "AT", "P", "O"]) == ["ROWTIME", "B", "AT", "P", "O"]
    assert wanted_columns(table_feed(columns=["ID", "N"]), ["ID", "WINDOWSTART", "WINDOWEND", "N"]) == [
        "WINDOWSTART",
        "WINDOWEND",
        "ID",
        "N",
    ]
    assert table_statement(table_feed(), ["ID", "WINDOWSTART"]) == "SELECT `ID`, WINDOWSTART FROM `USERS`;"


def test_an_unknown_column_is_named_with_the_nearest() -> None:
    """A misspelt column says where it stands and what was probably meant."""
    with pytest.raises(ConfigError) as caught:
        wanted_columns(stream_feed(columns=["amuont"]), ["ID", "AMOUNT"])

    assert str(caught.value) == (
        "feed events: `columns` names the column 'amuont', which EVENTS does not have\nDid you mean 'AMOUNT'?"
    )


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (["ROWTIME", "YEAR"], "would be 'YEAR', but that is a partition column of the lake"),
        (["ROWTIME", "a", "A"], "would be 'A', but that is also the name of column 'a'"),
    ],
)
def test_names_readers_would_mix_up_are_refused(columns: list[str], reason: str) -> None:
    """Names that differ from another only by case are refused with the line that corrects the feed file."""
    with pytest.raises(SchemaError) as caught:
        lake_names(stream_feed(), columns)

    assert reason in str(caught.value)
    assert f'"rename": {{"{columns[-1]}": "{columns[-1]}_"}}' in str(caught.value)


def test_renamed_columns_have_their_new_names_in_the_lake() -> None:
    """`rename` frees a name that collides."""
    feed = stream_feed(rename={"YEAR": "FLIGHT_YEAR"})

    assert lake_names(feed, ["ROWTIME", "YEAR"]) == ["ROWTIME", "FLIGHT_YEAR"]


def test_fields_of_a_struct_that_differ_only_in_case_are_refused() -> None:
    """The error names both by their paths and the ways out; readers would take one for the other."""
    kind = parse_type("ARRAY<STRUCT<`x` BIGINT, `X` STRING>>")

    check_fields([("A", parse_type("STRUCT<`x` BIGINT, `y` STRUCT<`X` BIGINT>>"))])
    with pytest.raises(SchemaError) as caught:
        check_fields([("S", kind)])

    assert str(caught.value) == (
        "column S: the fields 'S.x' and 'S.X' differ only in case, which DuckDB and Spark do not distinguish\n"
        "Leave the column out with the feed's `columns`, or derive a stream on the server where one of the "
        "fields has another name."
    )
