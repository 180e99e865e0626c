"""Quote names and values, and check that a text is one statement that only reads."""

# There are no bind parameters, so quoting is the only defence. This is no SQL parser: it finds quotes and
# comments only.

from __future__ import annotations

import re
from collections.abc import Mapping

from ksql_lake.errors import ConfigError, StatementError
from ksql_lake.feeds.model import SOURCE_PATTERN

_SOURCE = re.compile(SOURCE_PATTERN)

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | `(?:[^`]|``)*` | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | ;""", re.DOTALL | re.VERBOSE
)

_LIMITED = re.compile(r"\bLIMIT\s+[0-9]+\s*;?\s*\Z", re.IGNORECASE)
_READS = re.compile(r"\s*(?:LIST|SHOW|DESCRIBE|EXPLAIN)\b", re.IGNORECASE)


def quote_identifier(name: str) -> str:
    """Quote a column or source name so that its case and every character of it are kept.

    Raises:
        ConfigError: The name is empty.
    """
    if not name:
        raise ConfigError("a name in ksqlDB cannot be empty")
    return "`" + name.replace("`", "``") + "`"


def quote_literal(text: str) -> str:
    """Quote a string value; ksqlDB has no backslash escapes, only the doubled quote."""
    return "'" + text.replace("'", "''") + "'"


def source_name(name: str) -> str:
    """Return a name unchanged if a stream or table of ksqlDB can have it.

    Raises:
        ConfigError: No source can have this name; the hint lists the allowed characters.
    """
    if _SOURCE.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} cannot be the name of a ksqlDB stream or table",
            hint="Names have letters, digits, '_' and '-' only, and are case sensitive; "
            "`ksql-lake feeds discover` shows them as they are.",
        )
    return name


def statement_ends(sql: str) -> list[int]:
    """Return the positions of the semicolons outside quotes and comments."""
    return [match.start() for match in _TOKEN.finditer(sql) if match.group() == ";"]


def terminated(sql: str) -> str:
    """Return the statement, or statements, with a `;` at the end.

    Raises:
        StatementError: There is no statement.
    """
    text = sql.strip()
    if text in ("", ";"):
        raise StatementError("the statement is empty", hint="Write a ksqlDB statement.")
    ends = statement_ends(text)
    return text if ends and ends[-1] == len(text) - 1 else f"{text};"


def one_statement(sql: str) -> str:
    """Return the one statement with its `;`.

    Raises:
        StatementError: There is no statement, or something follows the first one.
    """
    text = terminated(sql)
    if len(statement_ends(text)) > 1:
        raise StatementError(
            "more than one statement where one is expected",
            hint="Send them one by one; a name or value that holds ';' must be quoted.",
            statement=shortened(text),
        )
    return text


def query_body(
    sql: str,
    properties: Mapping[str, object] | None = None,
    request: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Build the body of POST /query.

    Args:
        sql: One SELECT statement; a missing `;` is added.
        properties: Streams properties for this query alone.
        request: Request properties, which set how the server answers.

    Raises:
        StatementError: `sql` is empty or holds more than one statement.
    """
    # No `sessionVariables`: without them the server does not replace `${...}` inside literals and names.
    body: dict[str, object] = {"ksql": one_statement(sql), "streamsProperties": dict(properties or {})}
    if request:
        body["requestProperties"] = dict(request)
    return body


def only_reads(sql: str) -> bool:
    """Whether every statement of a text only reads; doubtful texts count as writing."""
    text = sql.strip()
    return bool(_READS.match(text)) and all(end == len(text) - 1 for end in statement_ends(text))


def limited(sql: str) -> bool:
    """Whether a query has a LIMIT; one with a comment after it is not found."""
    return bool(_LIMITED.search(sql))


def shortened(sql: str, *, width: int = 200) -> str:
    """Return the statement on one line, cut to `width` characters, for messages."""
    line = " ".join(sql.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
