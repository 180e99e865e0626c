"""ksqlDB's lexical rules on top of sqlglot: tokens and expressions.

It reads expressions only. ksqlDB's statements (EMIT, WINDOW, WITH, LIST, ...) are read in `statements` from the
tokens, because no SQL dialect of sqlglot knows them.
"""

from __future__ import annotations

from typing import ClassVar

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError
from sqlglot.parser import Parser
from sqlglot.tokens import Token, Tokenizer, TokenType

from ksql_lake.devserver.refusals import RefusedError


class _Ksql(Dialect):
    class Tokenizer(Tokenizer):
        IDENTIFIERS: ClassVar = ["`", '"']
        QUOTES: ClassVar = ["'"]
        STRING_ESCAPES: ClassVar = ["'"]
        COMMENTS: ClassVar = ["--", ("/*", "*/")]
        COMMANDS: ClassVar = set()
        # `GROUP BY` as two tokens, so that clauses are found whatever the white space between.
        KEYWORDS: ClassVar = {word: kind for word, kind in Tokenizer.KEYWORDS.items() if " " not in word}

    class Parser(Parser):
        # No function is known here, so each arrives by name and `functions` decides about it.
        FUNCTIONS: ClassVar = {}
        FUNCTION_PARSERS: ClassVar = {"CAST": Parser.FUNCTION_PARSERS["CAST"]}
        NO_PAREN_FUNCTIONS: ClassVar = {}
        COLUMN_OPERATORS: ClassVar = {
            **Parser.COLUMN_OPERATORS,
            TokenType.ARROW: lambda self, this, to: self.expression(exp.Dot(this=this, expression=to)),
        }


_DIALECT = _Ksql()


def tokenize(text: str) -> list[Token]:
    """Split a text into tokens.

    Raises:
        RefusedError: A string or a quoted name does not end.
    """
    try:
        return list(_DIALECT.tokenize(text))
    except TokenError as error:
        raise RefusedError(f"line 1:1: Syntax Error\n{error}", statement=text) from None


def parse_expressions(text: str) -> list[exp.Expression]:
    """Read a select list, or one condition.

    Raises:
        RefusedError: The text is no expression.
    """
    try:
        trees = _DIALECT.parse(f"SELECT {text}")
    except (ParseError, TokenError) as error:
        raise RefusedError(f"line 1:1: Syntax Error\n{_plain(error)} in {text!r}") from None
    select = trees[0] if len(trees) == 1 else None
    if not isinstance(select, exp.Select) or not select.expressions:
        raise RefusedError(f"line 1:1: Syntax Error\nExpecting an expression, found {text!r}")
    return list(select.expressions)


def _plain(error: Exception) -> str:
    details = getattr(error, "errors", None)
    return str(details[0]["description"]) if details else str(error)
