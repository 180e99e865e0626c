"""Column definitions, types and WITH properties of CREATE statements, read by a cursor over their tokens."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from sqlglot import Token, TokenType

from ksql_lake.devserver.ksql_errors import RefusedError, syntax_error
from ksql_lake.devserver.sql.source_columns import Role
from ksql_lake.devserver.sql.statements import ColumnDefinition
from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct

_QUOTED = (TokenType.STRING, TokenType.IDENTIFIER)

_ALIASES = {"INT": "INTEGER", "VARCHAR": "STRING", "NUMERIC": "DECIMAL"}


class TokenCursor:
    """Takes tokens one after another.

    Args:
        source: The request's whole text.
        tokens: The statement's tokens, without its `;`.

    Attributes:
        text: The statement as written, with its `;`.
    """

    def __init__(self, source: str, tokens: Sequence[Token]) -> None:
        self._source = source
        self._tokens = tokens
        self._at = 0
        self.text = self.between(0, len(tokens)) + ";"

    @property
    def at(self) -> int:
        """How many tokens are taken."""
        return self._at

    @property
    def left(self) -> int:
        """How many tokens are not yet taken."""
        return len(self._tokens) - self._at

    def between(self, first: int, last: int) -> str:
        """The text of tokens `first` up to, not including, `last`."""
        if first >= last:
            return ""
        return self._source[self._tokens[first].start : self._tokens[last - 1].end + 1]

    def word(self, ahead: int = 0) -> str:
        """The keyword, name or mark at this place, upper-cased; "" for strings, quoted names and the end."""
        if self.left <= ahead:
            return ""
        token = self._tokens[self._at + ahead]
        return "" if token.token_type in _QUOTED else token.text.upper()

    def take(self, *words: str) -> bool:
        """Take these words if they come next."""
        if all(self.word(ahead) == word for ahead, word in enumerate(words)):
            self._at += len(words)
            return True
        return False

    def need(self, *words: str) -> None:
        """Take these words.

        Raises:
            RefusedError: Something else comes next.
        """
        if not self.take(*words):
            raise self.unexpected(" ".join(words))

    def unexpected(self, expected: str) -> RefusedError:
        """Return the error for what comes next instead of `expected`."""
        found = repr(self._tokens[self._at].text) if self.left else "'<EOF>'"
        at = self._tokens[self._at].start if self.left else self._tokens[-1].end + 1
        return syntax_error(self._source, at, f"mismatched input {found} expecting {expected}", self.text)

    def unknown_statement(self, known: Sequence[str]) -> RefusedError:
        """Return the error for a statement whose first word begins none of the known ones."""
        token = self._tokens[0]
        similar = difflib.get_close_matches(token.text.upper(), known, n=1, cutoff=0.6)
        hint = f"\nDid you mean '{similar[0]}'?" if similar else ""
        return syntax_error(
            self._source, token.start, f"Unknown statement '{token.text.upper()}'{hint}", self.text
        )

    def empty(self) -> RefusedError:
        """Return the error for an empty clause."""
        at = self._tokens[self._at].start if self.left else self._tokens[-1].end + 1
        return syntax_error(self._source, at, "", self.text)

    def name(self) -> str:
        """Take a name: quoted ones keep their case, others are upper-cased.

        Raises:
            RefusedError: No name comes next.
        """
        token = self._tokens[self._at] if self.left else None
        if token is None or token.token_type == TokenType.STRING:
            raise self.unexpected("a name")
        plain = token.text[:1].isalpha() or token.text[:1] in ("_", "@")
        if token.token_type != TokenType.IDENTIFIER and not plain:
            raise self.unexpected("a name")
        self._at += 1
        return token.text if token.token_type == TokenType.IDENTIFIER else token.text.upper()

    def exact_name(self) -> str:
        """Take a name as it is written: ids of queries are case-sensitive.

        Raises:
            RefusedError: No name comes next.
        """
        self.name()
        return self._tokens[self._at - 1].text

    def number(self) -> int:
        """Take a whole number.

        Raises:
            RefusedError: No number comes next.
        """
        word = self.word()
        if not word.isdigit():
            raise self.unexpected("a number")
        self._at += 1
        return int(word)

    def string(self) -> str:
        """Take a string literal.

        Raises:
            RefusedError: No string comes next.
        """
        if not self.left or self._tokens[self._at].token_type != TokenType.STRING:
            raise self.unexpected("a string")
        return self.value()

    def value(self) -> str:
        """Take one token of any sort: a property's value.

        Raises:
            RefusedError: The statement ends here.
        """
        if not self.left:
            raise self.unexpected("a value")
        self._at += 1
        return self._tokens[self._at - 1].text

    def text_until(self, *words: str) -> str:
        """Take everything up to one of the words outside parentheses, or to the end."""
        start, depth = self._at, 0
        while self.left and not (depth == 0 and self.word() in words):
            depth += (self.word() in ("(", "[")) - (self.word() in (")", "]"))
            self._at += 1
        return self.between(start, self._at)

    def end(self) -> None:
        """Check that no token is left.

        Raises:
            RefusedError: Something is.
        """
        if self.left:
            raise self.unexpected("';'")


def read_columns(cursor: TokenCursor) -> tuple[ColumnDefinition, ...]:
    """Read `(name type [key], ...)`.

    Raises:
        RefusedError: The text is no such list.
    """
    cursor.need("(")
    columns = [_column(cursor)]
    while cursor.take(","):
        columns.append(_column(cursor))
    cursor.need(")")
    return tuple(columns)


def _column(cursor: TokenCursor) -> ColumnDefinition:
    name, kind = cursor.name(), read_type(cursor)
    role: Role = "VALUE"
    header_key = None
    if cursor.take("PRIMARY", "KEY") or cursor.take("KEY"):
        role = "KEY"
    elif cursor.take("HEADERS"):
        role = "HEADER"
    elif cursor.take("HEADER"):
        role = "HEADER"
        cursor.need("(")
        header_key = cursor.string()
        cursor.need(")")
    return ColumnDefinition(name, kind, role, header_key)


def read_type(cursor: TokenCursor) -> KsqlType:
    """Read a type.

    Raises:
        RefusedError: ksqlDB has no such type.
    """
    word = _ALIASES.get(cursor.word(), cursor.word())
    if word in Primitive.__members__:
        cursor.value()
        cursor.take("(", "STRING", ")")  # VARCHAR(STRING), as old servers write it
        return Primitive(word)
    parameterised: dict[str, Callable[[TokenCursor], KsqlType]] = {
        "DECIMAL": _decimal,
        "ARRAY": _array,
        "MAP": _map,
        "STRUCT": _struct,
    }
    if word not in parameterised:
        raise cursor.unexpected("a type")
    cursor.value()
    return parameterised[word](cursor)


def _decimal(cursor: TokenCursor) -> KsqlType:
    cursor.need("(")
    precision = cursor.number()
    cursor.need(",")
    scale = cursor.number()
    cursor.need(")")
    return Decimal(precision, scale)


def _array(cursor: TokenCursor) -> KsqlType:
    cursor.need("<")
    element = read_type(cursor)
    cursor.need(">")
    return Array(element)


def _map(cursor: TokenCursor) -> KsqlType:
    cursor.need("<")
    key = read_type(cursor)
    cursor.need(",")
    value = read_type(cursor)
    cursor.need(">")
    return Map(key, value)


def _struct(cursor: TokenCursor) -> KsqlType:
    cursor.need("<")
    fields = [(cursor.name(), read_type(cursor))]
    while cursor.take(","):
        fields.append((cursor.name(), read_type(cursor)))
    cursor.need(">")
    return Struct(tuple(fields))


def read_properties(cursor: TokenCursor) -> dict[str, str]:
    """Read `(KEY = value, ...)`; keys are upper-cased.

    Raises:
        RefusedError: The text is no such list.
    """
    cursor.need("(")
    properties: dict[str, str] = {}
    while not cursor.take(")"):
        key = cursor.value()
        cursor.need("=")
        sign = "-" if cursor.take("-") else ""
        properties[key.upper()] = sign + cursor.value()
        cursor.take(",")
    return properties
