"""Choose the kind of query that can read all of a source on this server: pull, push or continue. Pure."""

# A pull query proves its own end and a push query does not, so push needs a reason.

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ksql_lake.ksqldb.inventory import Asks, SourceDescription, describe
from ksql_lake.ksqldb.refusals import PUSH_FIX
from ksql_lake.ksqldb.version import ServerVersion

_NAME = r"(`(?:[^`]|``)+`|[A-Za-z_]\w*)"
_FROM = re.compile(rf"\bFROM\s+{_NAME}", re.IGNORECASE)
_QUOTED = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'")
_REKEYED = re.compile(r"\bPARTITION\s+BY\s+STRUCT\s*\(", re.IGNORECASE)
_FIELD = re.compile(
    rf"{_NAME}\s*:=\s*(?:{_NAME}\s*\.\s*)?`?(ROWPARTITION|ROWOFFSET)`?\s*(?=[,)])", re.IGNORECASE
)
_CHANGED = re.compile(
    r"\b(?:WHERE|JOIN|GROUP\s+BY)\b|\b(?:EXPLODE|CUBE_EXPLODE|GENERATE_SERIES)\s*\(", re.IGNORECASE
)
"""Clauses and functions that drop or multiply rows. User-defined table functions can have any name."""

Extraction = Literal["pull", "push"]
CONTINUES_SINCE = (0, 24)
"""The release from which on a query can be continued, by ksqlDB's source."""

CONTINUES_MEASURED = "8.0.7"
"""The release on which that was tried."""


def carried_offsets(stream: SourceDescription) -> tuple[str, str, str] | None:
    """Return the source that a stream copies whole, and its columns with that source's partition and offset.

    None if the stream's query does not copy all rows with their offsets.
    """
    for query in stream.write_queries:
        source = _FROM.search(query.text)
        names = [_alias(pseudo, query.text) for pseudo in ("ROWPARTITION", "ROWOFFSET")]
        columns = {column.name for column in stream.columns}
        changed = _CHANGED.search(_QUOTED.sub("", query.text))
        if source and not changed and all(name in columns for name in names):
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
    """Whether each query of a stream keys every row by its source's partition and offset.

    Such a key is never NULL. Rows with a NULL key are not sent by a query that continues at offsets.
    """
    return bool(stream.write_queries) and all(_rekeys(query.text) for query in stream.write_queries)


def _rekeys(text: str) -> bool:
    *_, clause = _REKEYED.split(text) if _REKEYED.search(text) else ("",)
    return {match.group(3).upper() for match in _FIELD.finditer(clause)} == {"ROWPARTITION", "ROWOFFSET"}


def _alias(pseudo: str, text: str) -> str:
    # A server rewrites the statements that it reports: columns are qualified, aliases have no AS.
    match = re.search(rf"\b{pseudo}`?\s+(?:AS\s+)?(?!(?:AS|FROM)\b){_NAME}", text, re.IGNORECASE)
    return _unquoted(match.group(1)) if match else ""


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name.upper()


@dataclass(frozen=True, slots=True)
class Reach:
    """How a source can be read.

    Attributes:
        extraction: `pull` or `push`.
        reason: Why no pull query can read it; empty for `pull`.
        fix: What would help; empty for `pull`.
    """

    extraction: Extraction
    reason: str = ""
    fix: str = ""


def reach(source: SourceDescription, version: ServerVersion) -> Reach:
    """Return how a source can be read on a server of this version."""
    if source.kind == "stream" and not version.pulls_streams:
        reason = (
            f"{source.name} is a stream, and this server has release {version.text}: pull queries on streams "
            "came with ksqlDB 0.23 (Confluent Platform 7.1)"
        )
        return Reach("push", reason, f"{PUSH_FIX}.")
    if not source.queryable:
        return Reach("push", source.reason, source.fix)
    return Reach("pull")


@dataclass(frozen=True, slots=True)
class Carrier:
    """A derived stream that carries its source's offsets in columns.

    Attributes:
        source: The source that it copies.
        partition: The column with the source's ROWPARTITION.
        offset: The column with the source's ROWOFFSET.
        made_key: The key column made of both; empty if the source's key was kept.
        obstacle: Why a query over it cannot be continued; empty if its description shows no obstacle.
    """

    source: str
    partition: str
    offset: str
    made_key: str = ""
    obstacle: str = ""

    @property
    def says(self) -> str:
        """What to know before its feed is enabled, a sentence without its full stop."""
        if self.obstacle:
            return f"it carries the offsets of {self.source}, but cannot be continued: {self.obstacle}"
        since = ".".join(map(str, CONTINUES_SINCE))
        kept = "" if self.made_key else " and that no row has a NULL key"
        return (
            f"it carries the offsets of {self.source}. That needs ksql.query.push.v2.registry.installed=true "
            f"on the server{kept}; by ksqlDB's source it works from {since} on, measured on "
            f"{CONTINUES_MEASURED} only"
        )


def carrier(stream: SourceDescription, version: ServerVersion) -> Carrier | None:
    """Return how a stream carries its source's offsets, by its description; None if it carries none.

    The description does not show whether the server was started with the setting that continued queries need.
    """
    found = carried_offsets(stream) if stream.kind == "stream" else None
    if found is None:
        return None
    made = stream.key_columns[0] if keyed_by_offsets(stream) and len(stream.key_columns) == 1 else ""
    return Carrier(*found, made_key=made, obstacle=_obstacle(stream, version))


def _obstacle(stream: SourceDescription, version: ServerVersion) -> str:
    if version.release is not None and version.release < CONTINUES_SINCE:
        return (
            f"this server has release {version.text}; a query can be continued from ksqlDB 0.24 "
            "(Confluent Platform 7.2) on"
        )
    if len(stream.write_queries) > 1:
        names = ", ".join(query.id for query in stream.write_queries)
        return f"{stream.name} is written by several queries ({names}); it must be one"
    if not stream.key_columns:
        return f"{stream.name} has no KEY column, and a query that is continued sends no rows with a NULL key"
    return ""
