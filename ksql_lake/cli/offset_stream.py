"""The derived stream that carries Kafka's partition and offset of every row as ordinary columns. Pure.

Pull queries may not ask for ROWPARTITION and ROWOFFSET, but a stream made from its source may copy them. It
refuses to take another stream of the same name for it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count

from ksql_lake.ksqldb import SourceDescription, quote_identifier

EARLIEST = {"auto.offset.reset": "earliest"}
"""With the server's default the stream would begin with the rows that come after its creation."""

_NAME = r"(`(?:[^`]|``)+`|[A-Za-z_]\w*)"
_FROM = re.compile(rf"\bFROM\s+{_NAME}", re.IGNORECASE)
_QUOTED = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'")
_NARROWED = re.compile(r"\b(WHERE|JOIN|GROUP\s+BY)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OffsetStream:
    """A stream with all rows of its source and where Kafka holds them.

    Attributes:
        source: What it is made from.
        name: Its own name.
        partition: The column with the Kafka partition of the source's row.
        offset: The column with its offset.
    """

    source: str
    name: str
    partition: str
    offset: str

    @property
    def statement(self) -> str:
        """The statement that makes it."""
        partition, offset = quote_identifier(self.partition), quote_identifier(self.offset)
        return (
            f"CREATE STREAM {quote_identifier(self.name)} AS SELECT *, ROWPARTITION AS {partition}, "
            f"ROWOFFSET AS {offset} FROM {quote_identifier(self.source)} EMIT CHANGES;"
        )

    @property
    def feed_keys(self) -> dict[str, object]:
        """What a feed file says to export it."""
        return {"source": self.name, "identity": {"by": "offset", "columns": [self.partition, self.offset]}}


def planned(source: SourceDescription, *, taken: Collection[str] = ()) -> OffsetStream:
    """Choose the names of a source's derived stream.

    Args:
        source: The source.
        taken: Column names that are in use beside the source's own, in any case.
    """
    used = {name.casefold() for name in (*taken, *(column.name for column in source.columns))}
    pairs = (("RP", "RO") if number == 1 else (f"RP_{number}", f"RO_{number}") for number in count(1))
    partition, offset = next(pair for pair in pairs if not used & {name.casefold() for name in pair})
    return OffsetStream(source.name, f"{source.name}_LAKE", partition, offset)


def recognised(stream: SourceDescription) -> OffsetStream | None:
    """Read from a stream's own query that it carries all its source's rows and offsets; None if it does not."""
    for query in stream.write_queries:
        source = _FROM.search(query.text)
        names = [_alias(pseudo, query.text) for pseudo in ("ROWPARTITION", "ROWOFFSET")]
        columns = {column.name for column in stream.columns}
        narrowed = _NARROWED.search(_QUOTED.sub("", query.text))
        if source and not narrowed and all(name in columns for name in names):
            partition, offset = names
            return OffsetStream(_unquoted(source.group(1)), stream.name, partition, offset)
    return None


def _alias(pseudo: str, text: str) -> str:
    # A server gives its statements back in words of its own: columns qualified, aliases without AS.
    match = re.search(rf"\b{pseudo}`?\s+(?:AS\s+)?(?!(?:AS|FROM)\b){_NAME}", text, re.IGNORECASE)
    return _unquoted(match.group(1)) if match else ""


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name.upper()
