"""Names and texts inside ksqlDB statements; there are no bind parameters, so quoting is the only defence."""

from __future__ import annotations

import re

from ksql_lake.errors import ConfigError
from ksql_lake.feeds.model import SOURCE_PATTERN

_SOURCE = re.compile(SOURCE_PATTERN)


def quote_identifier(name: str) -> str:
    """Quote a column or source name so that its case and every character of it are kept.

    Raises:
        ConfigError: The name is empty.
    """
    if not name:
        raise ConfigError("a name in ksqlDB cannot be empty")
    return "`" + name.replace("`", "``") + "`"


def quote_literal(text: str) -> str:
    """Quote a string value; ksqlDB knows no backslash escapes, only the doubled quote."""
    return "'" + text.replace("'", "''") + "'"


def source_name(name: str) -> str:
    """Return the name of a stream or table if ksqlDB could have one of that name.

    Raises:
        ConfigError: It could not; says which characters it may have.
    """
    if _SOURCE.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} cannot be the name of a ksqlDB stream or table",
            hint="Names have letters, digits, '_' and '-' only, and are case sensitive; "
            "`ksql-lake feeds discover` shows them as they are.",
        )
    return name
