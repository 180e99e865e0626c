"""How the time of a table's changes grows with their number, deletions and rows in turns.

    python benchmarks/push_table.py [changes]

Puts the changes of a push query together, decodes them and keeps them in a change log, as an export does, for a
number of changes and for eight times as many. Prints microseconds a change and what eight times as many cost: a
factor near 8 is linear time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator

from rich.console import Console

from ksql_lake.decode import RowDecoder
from ksql_lake.export.push.beacon import runs
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import RowBlock
from ksql_lake.ksqldb.wire.answer_events import Event, Tombstone
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.schema import parse_schema

SCHEMA = parse_schema("`K` STRING KEY, `N` BIGINT, `NOTE` STRING, `ROWPARTITION` INTEGER, `ROWOFFSET` BIGINT")
GATHERED = 64
"""Pieces that are there at once; a busy server sends many, a quiet one a few."""
FEED = FEED_ADAPTER.validate_python({"name": "t", "kind": "table", "source": "T", "extraction": "push"})
READ = ReadFacts(source="T", statement="SELECT ...;", read_at="2025-02-01T00:00:00.000+00:00")


def pieces(count: int) -> Iterator[Event]:
    """Make rows and deletions in turns."""
    for number in range(count):
        if number % 2:
            text = f'{{"row":{{"columns":["k{number // 2}",null,null,null,null]}}}}'
            yield Tombstone(text.encode(), number)
        else:
            text = f'{{"row":{{"columns":["k{number // 2}",{number},"note {number}",0,{number}]}}}}'
            yield RowBlock(text.encode(), 1, number)


def seconds(count: int) -> float:
    """Measure how long so many changes take."""
    changes = list(pieces(count))
    decoder = RowDecoder(SCHEMA)
    with tempfile.TemporaryDirectory() as root:
        lake = Lake(root).feed(FEED)
        begun = time.perf_counter()
        with lake.stage(SCHEMA, read=READ) as staging, staging.change_log(SCHEMA, ["K"]) as log:
            for start in range(0, count, GATHERED):
                for run in runs(changes[start : start + GATHERED], first_row=start):
                    batch = decoder.decode(run.data, count=run.count, first_row=run.first_row)
                    log.write(batch, gone=run.gone)
            kept = sum(batch.num_rows for batch, _ in log.last())
        if kept != (count + 1) // 2:
            raise SystemExit(f"{kept} keys are not the {(count + 1) // 2} that were written")
        return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    seconds(1000)  # what is imported late is imported now
    few, many = (min(seconds(number) for _ in range(3)) for number in (count, 8 * count))
    console = Console()
    console.print(f"{count:,} changes: {few / count * 1e6:.1f} µs each")
    console.print(f"{8 * count:,} changes: {many / count / 8 * 1e6:.1f} µs each")
    console.print(f"8 times as many take {many / few:.1f} times as long")


if __name__ == "__main__":
    main()
