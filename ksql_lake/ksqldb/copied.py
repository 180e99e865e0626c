"""Whether a stream is a copy of another that carries Kafka's offsets of every row as ordinary columns. Pure."""

from __future__ import annotations

import re

from ksql_lake.ksqldb.catalog import SourceDescription

_NAME = r"(`(?:[^`]|``)+`|[A-Za-z_]\w*)"
_FROM = re.compile(rf"\bFROM\s+{_NAME}", re.IGNORECASE)
_QUOTED = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'")
_NARROWED = re.compile(r"\b(WHERE|JOIN|GROUP\s+BY)\b", re.IGNORECASE)


def carried_offsets(stream: SourceDescription) -> tuple[str, str, str] | None:
    """Read from a stream's own query what it copies whole, and its columns with partition and offset there.

    None where it does not copy all rows, or not their offsets.
    """
    for query in stream.write_queries:
        source = _FROM.search(query.text)
        names = [_alias(pseudo, query.text) for pseudo in ("ROWPARTITION", "ROWOFFSET")]
        columns = {column.name for column in stream.columns}
        narrowed = _NARROWED.search(_QUOTED.sub("", query.text))
        if source and not narrowed and all(name in columns for name in names):
            partition, offset = names
            return _unquoted(source.group(1)), partition, offset
    return None


def _alias(pseudo: str, text: str) -> str:
    # A server gives its statements back in words of its own: columns qualified, aliases without AS.
    match = re.search(rf"\b{pseudo}`?\s+(?:AS\s+)?(?!(?:AS|FROM)\b){_NAME}", text, re.IGNORECASE)
    return _unquoted(match.group(1)) if match else ""


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name.upper()
