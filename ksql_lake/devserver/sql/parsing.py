"""Parse the ksqlDB statements that an exporter, a demo or a test sends. It refuses all others by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from sqlglot import TokenType

from ksql_lake.devserver.ksql_errors import syntax_error
from ksql_lake.devserver.sql.declarations import TokenCursor, read_columns, read_properties, read_type
from ksql_lake.devserver.sql.dialect import tokenize
from ksql_lake.devserver.sql.source_columns import Kind
from ksql_lake.devserver.sql.statements import (
    Alter,
    AssertTopic,
    ColumnDefinition,
    Create,
    Describe,
    Drop,
    Explain,
    Insert,
    InsertSelect,
    Listed,
    Listing,
    Print,
    Select,
    Statement,
    Terminate,
)

_CLAUSES = ("FROM", "WINDOW", "WHERE", "GROUP", "PARTITION", "HAVING", "ORDER", "EMIT", "LIMIT")
_JOINS = ("JOIN", "LEFT", "RIGHT", "INNER", "FULL", "OUTER", ",")


def parse_statements(text: str) -> list[Statement]:
    """Read all statements of a request.

    Raises:
        RefusedError: A statement has no `;`, cannot be read, or is unknown to this server.
    """
    tokens = tokenize(text)
    statements: list[Statement] = []
    start = 0
    for index, token in enumerate(tokens):
        if token.token_type == TokenType.SEMICOLON:
            if index > start:
                statements.append(_statement(TokenCursor(text, tokens[start:index])))
            start = index + 1
    if start < len(tokens):
        raise syntax_error(text, tokens[-1].end + 1, "missing ';' at '<EOF>'", text.strip())
    return statements


def _statement(cursor: TokenCursor) -> Statement:
    first = cursor.word()
    if first not in _READERS:
        raise cursor.unknown_statement(tuple(_READERS))
    statement = _READERS[first](cursor)
    cursor.end()
    return statement


def _select(cursor: TokenCursor) -> Select:
    start = cursor.at
    cursor.need("SELECT")
    projections = cursor.text_until(*_CLAUSES)
    cursor.need("FROM")
    source, alias = cursor.name(), ""
    if cursor.take("AS") or (cursor.left and cursor.word() not in (*_CLAUSES, *_JOINS)):
        alias = cursor.name()
    joins = bool(cursor.text_until(*_CLAUSES[1:]))

    def clause(*words: str) -> str:
        if not cursor.take(*words):
            return ""
        text = cursor.text_until(*_CLAUSES)
        if not text:
            raise cursor.empty()
        return text

    window, where = clause("WINDOW"), clause("WHERE")
    group_by, partition_by = clause("GROUP", "BY"), clause("PARTITION", "BY")
    having, emit = clause("HAVING"), clause("EMIT").upper()
    limit = cursor.number() if cursor.take("LIMIT") else None
    if emit not in ("", "CHANGES", "FINAL"):
        raise cursor.unexpected("CHANGES or FINAL")
    cursor.end()
    return Select(
        text=cursor.between(start, cursor.at) + ";",
        projections=projections,
        source=source,
        alias=alias,
        joins=joins,
        where=where,
        window=window,
        group_by=group_by,
        partition_by=partition_by,
        having=having,
        emit=emit,
        limit=limit,
    )


def _kind(cursor: TokenCursor) -> Kind:
    if cursor.take("STREAM"):
        return "STREAM"
    cursor.need("TABLE")
    return "TABLE"


def _create(cursor: TokenCursor) -> Create:
    cursor.need("CREATE")
    or_replace = cursor.take("OR", "REPLACE")
    readonly = cursor.take("SOURCE")
    kind = _kind(cursor)
    if_not_exists = cursor.take("IF", "NOT", "EXISTS")
    name = cursor.name()
    columns = read_columns(cursor) if cursor.word() == "(" else ()
    properties = read_properties(cursor) if cursor.take("WITH") else {}
    select = _select(cursor) if cursor.take("AS") else None
    return Create(cursor.text, kind, name, columns, properties, select, or_replace, if_not_exists, readonly)


def _alter(cursor: TokenCursor) -> Alter:
    cursor.need("ALTER")
    kind = _kind(cursor)
    name = cursor.name()
    columns = []
    while cursor.take("ADD"):
        cursor.take("COLUMN")
        columns.append(ColumnDefinition(cursor.name(), read_type(cursor)))
        cursor.take(",")
    if not columns:
        raise cursor.unexpected("ADD COLUMN")
    return Alter(cursor.text, kind, name, tuple(columns))


def _drop(cursor: TokenCursor) -> Drop:
    cursor.need("DROP")
    kind = _kind(cursor)
    if_exists = cursor.take("IF", "EXISTS")
    name = cursor.name()
    cursor.take("DELETE", "TOPIC")
    return Drop(cursor.text, kind, name, if_exists)


def _listed(cursor: TokenCursor) -> Listed | None:
    return next((what for what in get_args(Listed) if cursor.take(what)), None)


def _listing(cursor: TokenCursor) -> Listing:
    cursor.value()
    cursor.take("ALL")
    what = _listed(cursor)
    if what is None:
        raise cursor.unexpected(f"one of {', '.join(get_args(Listed))}")
    return Listing(cursor.text, what, cursor.take("EXTENDED"))


def _describe(cursor: TokenCursor) -> Describe | Listing:
    cursor.need("DESCRIBE")
    extended = cursor.take("EXTENDED")
    what = _listed(cursor) if cursor.word() in ("STREAMS", "TABLES") else None
    if what is not None:
        return Listing(cursor.text, what, cursor.take("EXTENDED") or extended, described=True)
    name = cursor.name()
    return Describe(cursor.text, name, cursor.take("EXTENDED") or extended)


def _explain(cursor: TokenCursor) -> Explain:
    cursor.need("EXPLAIN")
    if cursor.word() == "SELECT":
        return Explain(cursor.text, "", _select(cursor))
    return Explain(cursor.text, cursor.exact_name())


def _terminate(cursor: TokenCursor) -> Terminate:
    cursor.need("TERMINATE")
    cursor.take("QUERY")
    if cursor.take("ALL"):
        return Terminate(cursor.text, "ALL")
    return Terminate(cursor.text, cursor.exact_name())


def _insert(cursor: TokenCursor) -> Insert | InsertSelect:
    cursor.need("INSERT", "INTO")
    name = cursor.name()
    columns: list[str] = []
    if cursor.take("("):
        columns.append(cursor.name())
        while cursor.take(","):
            columns.append(cursor.name())
        cursor.need(")")
    if cursor.word() == "SELECT":
        return InsertSelect(cursor.text, name, _select(cursor))
    cursor.need("VALUES", "(")
    values = cursor.text_until(")")
    cursor.need(")")
    return Insert(cursor.text, name, tuple(columns), values)


def _assert(cursor: TokenCursor) -> AssertTopic:
    cursor.need("ASSERT", "TOPIC")
    topic = cursor.value()
    properties = read_properties(cursor) if cursor.take("WITH") else {}
    if cursor.take("TIMEOUT"):
        cursor.number()
        cursor.value()
    return AssertTopic(cursor.text, topic, properties)


def _print(cursor: TokenCursor) -> Print:
    cursor.text_until()
    return Print(cursor.text)


_READERS: dict[str, Callable[[TokenCursor], Statement]] = {
    "SELECT": _select,
    "CREATE": _create,
    "ALTER": _alter,
    "DROP": _drop,
    "LIST": _listing,
    "SHOW": _listing,
    "DESCRIBE": _describe,
    "EXPLAIN": _explain,
    "TERMINATE": _terminate,
    "INSERT": _insert,
    "ASSERT": _assert,
    "PRINT": _print,
}
