"""The derived stream that carries Kafka's partition and offset of every row as ordinary columns. Pure.

Pull queries may not ask for ROWPARTITION and ROWOFFSET, but a stream made from its source may copy them. It
refuses to take another stream of the same name for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import count

from ksql_lake.ksqldb import SourceDescription, quote_identifier
from ksql_lake.ksqldb.copied import carried_offsets, keyed_by_offsets

EARLIEST = {"auto.offset.reset": "earliest"}
"""With the server's default the stream would begin with the rows that come after its creation."""


@dataclass(frozen=True, slots=True)
class OffsetStream:
    """A stream with all rows of its source and where Kafka holds them.

    Attributes:
        source: What it is made from.
        name: Its own name.
        partition: The column with the Kafka partition of the source's row.
        offset: The column with its offset.
        rekeyed: Its key is made of both, so that no row has a NULL key.
    """

    source: str
    name: str
    partition: str
    offset: str
    rekeyed: bool = False

    @property
    def statement(self) -> str:
        """The statement that makes it."""
        partition, offset = quote_identifier(self.partition), quote_identifier(self.offset)
        # Only formats that hold a STRUCT can hold such a key; JSON needs no schema registry.
        head, tail = (" WITH (KEY_FORMAT = 'JSON')", f" {_REKEYED}") if self.rekeyed else ("", "")
        return (
            f"CREATE STREAM {quote_identifier(self.name)}{head} AS SELECT *, ROWPARTITION AS {partition}, "
            f"ROWOFFSET AS {offset} FROM {quote_identifier(self.source)}{tail} EMIT CHANGES;"
        )

    @property
    def feed_keys(self) -> dict[str, object]:
        """What a feed file says to export it by pull query."""
        return {"source": self.name, "identity": {"by": "offset", "columns": [self.partition, self.offset]}}

    @property
    def positions(self) -> dict[str, str]:
        """What a feed file says under `positions`."""
        return {"partition": self.partition, "offset": self.offset}


_REKEYED = "PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET)"


def planned(source: SourceDescription, *, taken: Collection[str] = (), rekeyed: bool = False) -> OffsetStream:
    """Choose the names of a source's derived stream.

    Args:
        source: The source.
        taken: Column names that are in use beside the source's own, in any case.
        rekeyed: Whether its key is to be made of partition and offset.
    """
    used = {name.casefold() for name in (*taken, *(column.name for column in source.columns))}
    pairs = (("RP", "RO") if number == 1 else (f"RP_{number}", f"RO_{number}") for number in count(1))
    partition, offset = next(pair for pair in pairs if not used & {name.casefold() for name in pair})
    return OffsetStream(source.name, f"{source.name}_LAKE", partition, offset, rekeyed)


def recognised(stream: SourceDescription) -> OffsetStream | None:
    """Read from a stream's own query that it carries all its source's rows and offsets; None if it does not."""
    found = carried_offsets(stream)
    if found is None:
        return None
    source, partition, offset = found
    return OffsetStream(source, stream.name, partition, offset, keyed_by_offsets(stream))
