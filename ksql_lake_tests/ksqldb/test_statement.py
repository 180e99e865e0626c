"""Promises about statements and names: nothing slips through a quote."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ConfigError, StatementError
from ksql_lake.ksqldb.client import ACCEPT_ROWS
from ksql_lake.ksqldb.sql_text import (
    one_statement,
    only_reads,
    query_body,
    quote_identifier,
    quote_literal,
    source_name,
)


def test_a_query_body_has_the_keys_that_slash_query_reads() -> None:
    """The request is `ksql` and `streamsProperties`, with the semicolon in place and no session variables."""
    assert query_body(" SELECT * FROM S ") == {"ksql": "SELECT * FROM S;", "streamsProperties": {}}
    body = query_body("SELECT 1;", {"auto.offset.reset": "earliest"})
    assert body == {"ksql": "SELECT 1;", "streamsProperties": {"auto.offset.reset": "earliest"}}
    assert ACCEPT_ROWS == "application/vnd.ksql.v1+json"


@given(st.text(min_size=1), st.text())
def test_quoted_names_and_values_stay_inside_their_quotes(name: str, value: str) -> None:
    """Whatever a name or a value holds, the statement around it stays one statement."""
    sql = f"SELECT {quote_identifier(name)} FROM `S` WHERE K = {quote_literal(value)}"
    assert one_statement(sql) == f"{sql.strip()};"
    assert quote_identifier(name)[1:-1].replace("``", "`") == name
    assert quote_literal(value)[1:-1].replace("''", "'") == value


def test_a_second_statement_is_refused_and_shown() -> None:
    """An unquoted semicolon before the end is an error that shows the statement."""
    with pytest.raises(StatementError) as caught:
        one_statement("SELECT * FROM S WHERE K = 'a'; DROP STREAM S;")
    assert str(caught.value).startswith(
        "statement SELECT * FROM S WHERE K = 'a'; DROP STREAM S;: more than one"
    )
    with pytest.raises(StatementError, match="the statement is empty"):
        one_statement(" ; ")


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("LIST STREAMS;", True),
        (" show tables ", True),
        ("DESCRIBE `A;B` EXTENDED;", True),
        ("EXPLAIN CTAS_X_1;", True),
        ("LIST STREAMS; DROP STREAM S;", False),
        ("LISTEN;", False),
        ("CREATE STREAM S AS SELECT * FROM T;", False),
        ("INSERT INTO S VALUES ('LIST STREAMS');", False),
        ("-- LIST\nDROP STREAM S;", False),
        ("", False),
    ],
)
def test_only_statements_that_surely_read_may_be_repeated(sql: str, *, reads: bool) -> None:
    """A statement is sent twice only when it is certain to change nothing."""
    assert only_reads(sql) is reads


@pytest.mark.parametrize("name", ["ORDERS", "a-b_1", "x" * 249])
def test_names_that_ksqldb_allows_pass(name: str) -> None:
    """Every name the server could have is accepted as it is."""
    assert source_name(name) == name


@pytest.mark.parametrize("name", ["", "A B", "A;DROP", "A`", "Ä", "A\n", "x" * 250])
def test_names_that_ksqldb_cannot_have_are_refused(name: str) -> None:
    """Anything else is refused before it can reach a statement."""
    with pytest.raises(
        ConfigError, match=re.escape(f"{name!r} cannot be the name of a ksqlDB stream or table")
    ):
        source_name(name)


def test_an_empty_identifier_is_refused() -> None:
    """There is no empty name."""
    with pytest.raises(ConfigError, match="cannot be empty"):
        quote_identifier("")
