"""Whether a stream is a copy of another that carries Kafka's offsets of every row as ordinary columns."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ksql_lake.ksqldb.catalog import Asks, SourceDescription, describe

_NAME = r"(`(?:[^`]|``)+`|[A-Za-z_]\w*)"
_FROM = re.compile(rf"\bFROM\s+{_NAME}", re.IGNORECASE)
_QUOTED = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'")
_REKEYED = re.compile(r"\bPARTITION\s+BY\s+STRUCT\s*\(", re.IGNORECASE)
_FIELD = re.compile(
    rf"{_NAME}\s*:=\s*(?:{_NAME}\s*\.\s*)?`?(ROWPARTITION|ROWOFFSET)`?\s*(?=[,)])", re.IGNORECASE
)
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


def copied_sources(client: Asks, streams: Iterable[str]) -> set[str]:
    """Ask which sources some streams copy whole, with their offsets; one DESCRIBE each.

    Raises:
        KsqlError: The server cannot be asked.
    """
    found = (carried_offsets(describe(client, name)) for name in streams)
    return {carried[0] for carried in found if carried is not None}


def keyed_by_offsets(stream: SourceDescription) -> bool:
    """Read from a stream's own queries that each gives every row a key of its source's partition and offset.

    Such a key is never NULL. Rows with a NULL key are not sent by a query that continues at offsets.
    """
    return bool(stream.write_queries) and all(_rekeys(query.text) for query in stream.write_queries)


def _rekeys(text: str) -> bool:
    *_, clause = _REKEYED.split(text) if _REKEYED.search(text) else ("",)
    return {match.group(3).upper() for match in _FIELD.finditer(clause)} == {"ROWPARTITION", "ROWOFFSET"}


def _alias(pseudo: str, text: str) -> str:
    # A server gives its statements back in words of its own: columns qualified, aliases without AS.
    match = re.search(rf"\b{pseudo}`?\s+(?:AS\s+)?(?!(?:AS|FROM)\b){_NAME}", text, re.IGNORECASE)
    return _unquoted(match.group(1)) if match else ""


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name.upper()
