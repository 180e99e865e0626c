"""ksqlDB's lexical rules on top of sqlglot. `parsing` reads statements from the tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlglot import Token, TokenType, exp, parser, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError

from ksql_lake.devserver.ksql_errors import RefusedError, syntax_error, too_large


def _field_of(reader: Any, this: exp.Expr, field: exp.Expr) -> exp.Expr:
    dot: exp.Expr = reader.expression(exp.Dot(this=this, expression=field))
    return dot


def _lambda(reader: Any, names: list[exp.Expr]) -> exp.Expr:
    function: exp.Expr = reader.expression(exp.Lambda(this=reader._parse_disjunction(), expressions=names))  # noqa: SLF001 - sqlglot has no public name for it
    return function


class _Ksql(Dialect):
    class Tokenizer(tokens.Tokenizer):
        IDENTIFIERS: ClassVar[Any] = ["`", '"']
        QUOTES: ClassVar[Any] = ["'"]
        STRING_ESCAPES: ClassVar[Any] = ["'"]
        COMMENTS: ClassVar[Any] = ["--", ("/*", "*/")]
        COMMANDS: ClassVar[Any] = set()
        # `GROUP BY` as two tokens, so that clauses are found whatever the white space between.
        KEYWORDS: ClassVar[Any] = {
            word: kind for word, kind in tokens.Tokenizer.KEYWORDS.items() if " " not in word
        }

    class Parser(parser.Parser):
        # No function is known here, so each arrives by name and `functions` decides.
        FUNCTIONS: ClassVar[Any] = {}
        FUNCTION_PARSERS: ClassVar[Any] = {"CAST": parser.Parser.FUNCTION_PARSERS["CAST"]}
        NO_PAREN_FUNCTIONS: ClassVar[Any] = {}
        # `->` is a field here, also in an argument, and `=>` makes a function.
        LAMBDAS: ClassVar[Any] = {TokenType.FARROW: _lambda}
        COLUMN_OPERATORS: ClassVar[Any] = {**parser.Parser.COLUMN_OPERATORS, TokenType.ARROW: _field_of}


_DIALECT = _Ksql()


def tokenize(text: str) -> list[Token]:
    """Split a text into tokens.

    Raises:
        RefusedError: A string or a quoted name does not end.
    """
    try:
        return list(_DIALECT.tokenize(text))
    except TokenError:
        at = text.rfind("'") if text.count("'") % 2 else max(text.rfind("`"), text.rfind('"'))
        raise syntax_error(text, max(at, 0), "", text) from None


def parse_expressions(text: str) -> list[exp.Expr]:
    """Read a list of expressions: a select list, or one condition.

    Raises:
        RefusedError: The text is no expression.
    """
    try:
        trees = _DIALECT.parse(f"SELECT {text}")
    except RecursionError:
        raise too_large() from None
    except (ParseError, TokenError) as error:
        raise RefusedError(f"line 1:1: Syntax Error\n{_first_problem(error)} in {text!r}") from None
    select = trees[0] if len(trees) == 1 else None
    if not isinstance(select, exp.Select) or not select.expressions:
        raise RefusedError(f"line 1:1: Syntax Error\nExpecting an expression, found {text!r}")
    return list(select.expressions)


def _first_problem(error: Exception) -> str:
    details = getattr(error, "errors", None)
    return str(details[0]["description"]) if details else str(error)
