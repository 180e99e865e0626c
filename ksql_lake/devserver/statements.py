"""ksqlDB statements as plain data, and how to read them from text.

It reads what an exporter, a demo and a test send; anything else is refused by name. It knows no source:
whether a name exists is the catalog's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot.tokens import Token, TokenType

from ksql_lake.devserver.columns import Kind, Role
from ksql_lake.devserver.dialect import tokenize
from ksql_lake.devserver.refusals import RefusedError, not_implemented
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

_ALIASES = {"INT": "INTEGER", "VARCHAR": "STRING"}
_CLAUSES = ("FROM", "WINDOW", "WHERE", "GROUP", "PARTITION", "HAVING", "ORDER", "EMIT", "LIMIT")


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT, cut into its clauses; clause texts are as written, "" when absent."""

    text: str
    projections: str
    source: str
    alias: str
    joins: bool
    where: str = ""
    window: tuple[str, ...] = ()
    group_by: str = ""
    partition_by: str = ""
    having: str = ""
    emit: str = ""
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """One column of a CREATE statement."""

    name: str
    type: KsqlType
    role: Role = "VALUE"
    header_key: str | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE STREAM or TABLE, with columns, or AS a SELECT."""

    text: str
    kind: Kind
    name: str
    columns: tuple[ColumnDefinition, ...]
    properties: dict[str, str]
    select: Select | None
    or_replace: bool = False
    if_not_exists: bool = False
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """DROP STREAM or TABLE."""

    text: str
    kind: Kind
    name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """LIST, SHOW or DESCRIBE of everything of one sort."""

    text: str
    what: Literal["STREAMS", "TABLES", "QUERIES", "TOPICS", "PROPERTIES", "FUNCTIONS", "TYPES", "VARIABLES"]
    extended: bool


@dataclass(frozen=True, slots=True)
class Describe:
    """DESCRIBE one source."""

    text: str
    name: str
    extended: bool


@dataclass(frozen=True, slots=True)
class Explain:
    """EXPLAIN a persistent query by id, or a SELECT."""

    text: str
    query_id: str
    select: Select | None


@dataclass(frozen=True, slots=True)
class Terminate:
    """TERMINATE one query, or ALL."""

    text: str
    query_id: str


@dataclass(frozen=True, slots=True)
class Insert:
    """INSERT INTO ... VALUES: one row; `values` is the text between the parentheses."""

    text: str
    name: str
    columns: tuple[str, ...]
    values: str


@dataclass(frozen=True, slots=True)
class Print:
    """PRINT a topic."""

    text: str


Statement = Select | Create | Drop | Listing | Describe | Explain | Terminate | Insert | Print


def parse_statements(text: str) -> list[Statement]:
    """Read all statements of a request.

    Raises:
        RefusedError: A statement has no `;`, cannot be read, or is none this server knows.
    """
    tokens = tokenize(text)
    statements: list[Statement] = []
    start = 0
    for index, token in enumerate(tokens):
        if token.token_type == TokenType.SEMICOLON:
            if index > start:
                statements.append(_Reader(text, tokens[start:index]).statement())
            start = index + 1
    if start < len(tokens):
        last = tokens[-1]
        raise RefusedError(
            f"line {last.line}:{last.col}: Syntax Error\nmissing ';' at '<EOF>'", statement=text.strip()
        )
    return statements


class _Reader:
    """A cursor over the tokens of one statement."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.source = text
        self.text = text[tokens[0].start : tokens[-1].end + 1] + ";"

    # Tokens.

    def word(self, ahead: int = 0) -> str:
        """The keyword or plain name here, upper-cased; "" for strings, quoted names and the end."""
        if self.at + ahead >= len(self.tokens):
            return ""
        token = self.tokens[self.at + ahead]
        return "" if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER) else token.text.upper()

    def take(self, *words: str) -> bool:
        if all(self.word(ahead) == word for ahead, word in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def need(self, *words: str) -> None:
        if not self.take(*words):
            raise self.fail(f"expecting {' '.join(words)}")

    def fail(self, expected: str) -> RefusedError:
        token = self.tokens[min(self.at, len(self.tokens) - 1)]
        found = repr(token.text) if self.at < len(self.tokens) else "the end"
        return RefusedError(
            f"line {token.line}:{token.col}: Syntax Error\nmismatched input {found} {expected}",
            statement=self.text,
        )

    def name(self) -> str:
        if self.at >= len(self.tokens):
            raise self.fail("expecting a name")
        token = self.tokens[self.at]
        if token.token_type == TokenType.IDENTIFIER:
            self.at += 1
            return token.text
        if not token.text or not (token.text[0].isalpha() or token.text[0] in "_@"):
            raise self.fail("expecting a name")
        if token.token_type == TokenType.STRING:
            raise self.fail("expecting a name")
        self.at += 1
        return token.text.upper()

    def string(self) -> str:
        if self.at < len(self.tokens) and self.tokens[self.at].token_type == TokenType.STRING:
            self.at += 1
            return self.tokens[self.at - 1].text
        raise self.fail("expecting a string")

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise self.fail("expecting ';'")

    def text_until(self, *words: str) -> str:
        """The text up to one of the words outside parentheses, or to the end."""
        start, depth = self.at, 0
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if depth == 0 and self.word() in words:
                break
            depth += (token.text in "([" and token.token_type != TokenType.STRING and bool(token.text)) - (
                token.text in ")]" and token.token_type != TokenType.STRING and bool(token.text)
            )
            self.at += 1
        if start == self.at:
            return ""
        return self.source[self.tokens[start].start : self.tokens[self.at - 1].end + 1]

    # Statements.

    def statement(self) -> Statement:
        first = self.word()
        readers = {
            "SELECT": self.select,
            "CREATE": self.create,
            "DROP": self.drop,
            "LIST": self.listing,
            "SHOW": self.listing,
            "DESCRIBE": self.describe,
            "EXPLAIN": self.explain,
            "TERMINATE": self.terminate,
            "INSERT": self.insert,
        }
        if first == "PRINT":
            return Print(self.text)
        if first not in readers:
            raise self.fail("expecting a statement such as SELECT, CREATE, DROP, LIST, SHOW, DESCRIBE, EXPLAIN")
        statement: Statement = readers[first]()
        self.end()
        return statement

    def select(self) -> Select:
        start = self.at
        self.need("SELECT")
        projections = self.text_until(*_CLAUSES)
        self.need("FROM")
        source = self.name()
        alias = ""
        if self.take("AS") or (self.at < len(self.tokens) and not self._clause_or_join()):
            alias = self.name()
        joins = bool(self.text_until(*_CLAUSES[1:]))
        clauses: dict[str, str] = {}
        window: tuple[str, ...] = ()
        limit = None
        if self.take("WINDOW"):
            window = tuple(
                self.text_until(*_CLAUSES[2:]).upper().replace("(", " ( ").replace(")", " ) ").split()
            )
        if self.take("WHERE"):
            clauses["where"] = self.text_until(*_CLAUSES)
        if self.take("GROUP", "BY"):
            clauses["group_by"] = self.text_until(*_CLAUSES)
        if self.take("PARTITION", "BY"):
            clauses["partition_by"] = self.text_until(*_CLAUSES)
        if self.take("HAVING"):
            clauses["having"] = self.text_until(*_CLAUSES)
        if self.take("EMIT"):
            clauses["emit"] = self.word()
            if not (self.take("CHANGES") or self.take("FINAL")):
                raise self.fail("expecting CHANGES or FINAL")
        if self.take("LIMIT"):
            if not self.word().isdigit():
                raise self.fail("expecting a number")
            limit = int(self.word())
            self.at += 1
        self.end()
        text = self.source[self.tokens[start].start : self.tokens[-1].end + 1] + ";"
        return Select(text, projections, source, alias, joins, window=window, limit=limit, **clauses)

    def _clause_or_join(self) -> bool:
        return self.word() in (*_CLAUSES, "JOIN", "LEFT", "RIGHT", "INNER", "FULL", "OUTER", ",")

    def create(self) -> Create:
        self.need("CREATE")
        or_replace = self.take("OR", "REPLACE")
        readonly = self.take("SOURCE")
        kind: Kind = "STREAM" if self.take("STREAM") else "TABLE"
        if kind == "TABLE":
            self.need("TABLE")
        if_not_exists = self.take("IF", "NOT", "EXISTS")
        name = self.name()
        columns = self.column_definitions() if self.word() == "(" else ()
        properties = self.properties() if self.take("WITH") else {}
        select = None
        if self.take("AS"):
            select = self.select()
        return Create(self.text, kind, name, columns, properties, select, or_replace, if_not_exists, readonly)

    def column_definitions(self) -> tuple[ColumnDefinition, ...]:
        self.need("(")
        columns: list[ColumnDefinition] = []
        while True:
            name, kind = self.name(), self.type()
            role: Role = "VALUE"
            header_key = None
            if self.take("PRIMARY", "KEY") or self.take("KEY"):
                role = "KEY"
            elif self.take("HEADERS"):
                role = "HEADER"
            elif self.take("HEADER"):
                role = "HEADER"
                self.need("(")
                header_key = self.string()
                self.need(")")
            columns.append(ColumnDefinition(name, kind, role, header_key))
            if not self.take(","):
                break
        self.need(")")
        return tuple(columns)

    def type(self) -> KsqlType:
        word = _ALIASES.get(self.word(), self.word())
        if word in Primitive.__members__:
            self.at += 1
            if self.take("(", "STRING", ")"):  # VARCHAR(STRING), as old servers write it
                return Primitive.STRING
            return Primitive(word)
        if self.take("DECIMAL") or self.take("NUMERIC"):
            self.need("(")
            precision = int(self.name_or_number())
            self.need(",")
            scale = int(self.name_or_number())
            self.need(")")
            return Decimal(precision, scale)
        if self.take("ARRAY"):
            self.need("<")
            element = self.type()
            self.close()
            return Array(element)
        if self.take("MAP"):
            self.need("<")
            key = self.type()
            self.need(",")
            value = self.type()
            self.close()
            return Map(key, value)
        if self.take("STRUCT"):
            self.need("<")
            fields = [(self.name(), self.type())]
            while self.take(","):
                fields.append((self.name(), self.type()))
            self.close()
            return Struct(tuple(fields))
        raise self.fail("expecting a type")

    def name_or_number(self) -> str:
        word = self.word()
        if not word.isdigit():
            raise self.fail("expecting a number")
        self.at += 1
        return word

    def close(self) -> None:
        """One `>`: nested types end in `>>`, which the tokenizer may take for one token."""
        self.need(">")

    def properties(self) -> dict[str, str]:
        self.need("(")
        properties: dict[str, str] = {}
        while not self.take(")"):
            key = self.string() if self.tokens[self.at].token_type == TokenType.STRING else self.name()
            self.need("=")
            if self.at >= len(self.tokens):
                raise self.fail("expecting a value")
            properties[key.upper()] = self.tokens[self.at].text
            self.at += 1
            self.take(",")
        return properties

    def drop(self) -> Drop:
        self.need("DROP")
        kind: Kind = "STREAM" if self.take("STREAM") else "TABLE"
        if kind == "TABLE":
            self.need("TABLE")
        if_exists = self.take("IF", "EXISTS")
        name = self.name()
        self.take("DELETE", "TOPIC")
        return Drop(self.text, kind, name, if_exists)

    def listing(self) -> Listing:
        self.at += 1
        self.take("ALL")
        what = self.word()
        if what not in {
            "STREAMS",
            "TABLES",
            "QUERIES",
            "TOPICS",
            "PROPERTIES",
            "FUNCTIONS",
            "TYPES",
            "VARIABLES",
        }:
            raise self.fail("expecting STREAMS, TABLES, QUERIES, TOPICS or PROPERTIES")
        self.at += 1
        return Listing(self.text, what, self.take("EXTENDED"))  # type: ignore[arg-type]

    def describe(self) -> Describe | Listing:
        self.need("DESCRIBE")
        extended = self.take("EXTENDED")
        what = self.word()
        if what in ("STREAMS", "TABLES"):
            self.at += 1
            return Listing(self.text, what, self.take("EXTENDED") or extended)
        if what == "FUNCTION" and len(self.tokens) > self.at + 1:
            raise not_implemented("DESCRIBE FUNCTION")
        name = self.name()
        return Describe(self.text, name, self.take("EXTENDED") or extended)

    def explain(self) -> Explain:
        self.need("EXPLAIN")
        if self.word() == "SELECT":
            return Explain(self.text, "", self.select())
        return Explain(self.text, self.name(), None)

    def terminate(self) -> Terminate:
        self.need("TERMINATE")
        self.take("QUERY")
        return Terminate(self.text, self.name())

    def insert(self) -> Insert:
        self.need("INSERT", "INTO")
        name = self.name()
        columns: list[str] = []
        if self.take("("):
            columns.append(self.name())
            while self.take(","):
                columns.append(self.name())
            self.need(")")
        if self.word() == "SELECT":
            raise not_implemented("INSERT INTO ... SELECT")
        self.need("VALUES", "(")
        start = self.at
        self.at = len(self.tokens) - 1
        values = self.source[self.tokens[start].start : self.tokens[self.at - 1].end + 1]
        self.need(")")
        return Insert(self.text, name, tuple(columns), values)
