"""Names and values inside statements: whatever they are made of, they stay one name and one value."""

from __future__ import annotations

from datetime import date

from hypothesis import assume, given
from hypothesis import strategies as st

from ksql_lake.devserver.sql.dialect import parse_expressions
from ksql_lake.devserver.sql.parsing import parse_statements
from ksql_lake.devserver.sql.statements import Select
from ksql_lake.errors import StatementError
from ksql_lake.export import Days
from ksql_lake.export.statement import stream_statement, table_statement
from ksql_lake.feeds.model import FEED_ADAPTER, StreamFeed
from ksql_lake.ksqldb import quote_identifier, quote_literal
from ksql_lake.ksqldb.sql_text import one_statement, statement_ends

NASTY = ["`", "``", "'", '"', ";", "--", "/*", "*/", "\\", "\n", "\0", " ", "; DROP STREAM X;", "` FROM Y; --"]
names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.lists(st.one_of(st.sampled_from(NASTY), st.text("aA1_`", max_size=3)), min_size=1, max_size=4).map(
        "".join
    ),
).filter(bool)
sources = st.from_regex(r"[a-zA-Z0-9_-]{1,30}", fullmatch=True)
DAY = Days(date(2025, 1, 15), date(2025, 1, 15))


def columns_of(select: Select) -> list[str]:
    """The column names that the server's parser reads."""
    return [node.alias_or_name for node in parse_expressions(select.projections)]


@given(source=sources, columns=st.lists(names, min_size=1, max_size=4, unique=True))
def test_any_names_are_one_statement_with_these_names(source: str, columns: list[str]) -> None:
    """A column or source of any name the server allows is read back as itself; nothing becomes SQL."""
    assume(all("\0" not in name for name in columns))
    feed = FEED_ADAPTER.validate_python({"name": "f", "kind": "table", "source": source})

    (statement,) = parse_statements(one_statement(table_statement(feed, columns)))

    assert isinstance(statement, Select)
    assert statement.source == source
    assert columns_of(statement) == columns


@given(source=sources, name=names)
def test_an_event_time_of_any_name_is_compared_and_nothing_else(source: str, name: str) -> None:
    """The column that decides the day stands in the condition, quoted there too."""
    assume("\0" not in name)
    feed = FEED_ADAPTER.validate_python(
        {"name": "f", "kind": "stream", "source": source, "start_date": "2025-01-01", "event_time": name}
    )
    assert isinstance(feed, StreamFeed)

    text = stream_statement(feed, ["ROWTIME", name], DAY, event_type="TIMESTAMP")

    assert statement_ends(text) == [len(text) - 1]
    (statement,) = parse_statements(text)
    assert isinstance(statement, Select)
    assert columns_of(statement) == ["ROWTIME", name]


@given(names)
def test_a_value_is_one_value(text: str) -> None:
    """A quoted text ends where it ends, whatever quotes, comments and semicolons it holds."""
    assume("\0" not in text)
    (node,) = parse_expressions(quote_literal(text))
    assert node.is_string
    assert node.this == text


@given(names)
def test_a_quoted_text_never_ends_a_statement(text: str) -> None:
    """Our own count of statements agrees: there is one."""
    sql = f"SELECT {quote_identifier(text)} FROM T WHERE A = {quote_literal(text)}"
    try:
        assert one_statement(sql).startswith(sql)
    except StatementError as error:
        raise AssertionError(sql) from error
