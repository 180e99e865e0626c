"""How fast rows become Arrow, beside what else one could do with the same bytes.

    python benchmarks/decode.py [rows] [rounds]

Prints, for rows of eleven flat columns and for nested rows, the best of several rounds of each way, taken in
turns so that a busy machine slows all of them alike: rows per second, and the time as a multiple of
`orjson.loads`, which only parses: of the whole response, of the blocks that the decoder gets, and of pieces so
small that their objects stay in the processor's cache, which no response allows. The naive script is
what one writes in five lines: json.loads a line, a pandas frame, an Arrow table.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import orjson
import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from ksql_lake.decode import RowDecoder
from ksql_lake.decode.arrow_columns import ColumnReader
from ksql_lake.decode.decoder import COLUMN_PIECE, PlacedReader, collector_paused
from ksql_lake.schema import Schema, arrow_schema, parse_schema

BLOCK = 3 << 20
FLAT = parse_schema(
    "`ID` STRING, `ACCOUNT` BIGINT, `QUANTITY` INTEGER, `SCORE` DOUBLE, `AMOUNT` DECIMAL(12, 2), "
    "`APPROVED` BOOLEAN, `AT` TIMESTAMP, `DAY` DATE, `NOTE` STRING, `CURRENCY` STRING, `ROWTIME` BIGINT"
)
NESTED = parse_schema(
    "`ID` STRING, `ITEMS` ARRAY<STRUCT<`SKU` STRING, `COUNT` INTEGER, `PRICE` DOUBLE, `PAID` DECIMAL(10, 2)>>, "
    "`TAGS` MAP<STRING, STRING>, `AT` TIMESTAMP, `CUSTOMER` STRUCT<`NAME` STRING, `AGE` INTEGER>, "
    "`ROWTIME` BIGINT"
)
NOTES = (
    "Grüße",
    "naïve café",
    "東京タワー",
    "plain, with comma",
    "ok",
    "nothing in particular, at some length",
    "😀",
)
DAY = datetime(2025, 1, 15)  # noqa: DTZ001 - the server's text has no zone


def flat_rows(count: int) -> Iterable[str]:
    """Make the values of flat rows as a server writes them."""
    source = random.Random(1)
    for number in range(count):
        at = DAY + timedelta(milliseconds=source.randrange(86_400_000))
        yield (
            f'"txn-{number:012}",{source.getrandbits(62)},{source.randrange(100_000)},'
            f"{source.random() * 1000!r},{source.randrange(100_000)}.{source.randrange(100):02},"
            f"{source.choice(('true', 'false'))},"
            f'"{at.isoformat(timespec="milliseconds")}","{at.date()}","{source.choice(NOTES)}",'
            f'"{source.choice(("EUR", "USD", "GBP"))}",{1_736_899_200_000 + number}'
        )


def nested_rows(count: int) -> Iterable[str]:
    """Make the values of nested rows as a server writes them."""
    source = random.Random(2)
    for number in range(count):
        at = DAY + timedelta(milliseconds=source.randrange(86_400_000))
        items = ",".join(
            f'{{"SKU":"sku-{source.randrange(5000)}","COUNT":{source.randrange(9)},'
            f'"PRICE":{source.random() * 90!r},"PAID":{source.randrange(10_000) / 100!r}}}'
            for _ in range(source.randrange(5))
        )
        yield (
            f'"order-{number}",[{items}],{{"channel":"web","note":"{source.choice(NOTES)}"}},'
            f'"{at.isoformat(timespec="milliseconds")}",{{"NAME":"n{number}","AGE":{source.randrange(99)}}},{number}'
        )


def blocks_of(rows: Iterable[str], size: int) -> list[tuple[bytes, int]]:
    """Put rows into blocks of about `size` bytes, as a response brings them."""
    blocks, lines, length = [], list[bytes](), 0
    for values in rows:
        line = b'{"row":{"columns":[' + values.encode() + b"]}}"
        lines.append(line)
        length += len(line) + 2
        if length >= size:
            blocks.append((b",\n".join(lines), len(lines)))
            lines, length = [], 0
    return [*blocks, (b",\n".join(lines), len(lines))] if lines else blocks


def pieces(blocks: list[tuple[bytes, int]], size: int) -> list[list[bytes]]:
    """Cut blocks into lists of lines of about `size` bytes together."""
    found = []
    for data, count in blocks:
        lines = data.split(b",\n")
        step = max(1, count * size // len(data))
        found += [lines[begin : begin + step] for begin in range(0, count, step)]
    return found


def naive(schema: Schema, blocks: list[tuple[bytes, int]]) -> None:
    """Parse each line, make one frame and one table of all."""
    rows = [json.loads(line)["row"]["columns"] for data, _ in blocks for line in data.split(b",\n")]
    pa.Table.from_pandas(pd.DataFrame(rows, columns=list(schema.names)))


def ways(schema: Schema, blocks: list[tuple[bytes, int]]) -> dict[str, Callable[[], object]]:
    """Everything that is measured, by name."""
    arrow = arrow_schema(schema)
    decoder = RowDecoder(schema)
    whole = b"[" + b",\n".join(data for data, _ in blocks) + b"]"
    same = [b"[" + data + b"]" for data, _ in blocks]
    small = [b"[" + b",\n".join(lines) + b"]" for lines in pieces(blocks, 1 << 17)]
    lined = pieces(blocks, COLUMN_PIECE)
    columns = ColumnReader(schema, arrow)

    def parse(documents: list[bytes]) -> None:
        for data in documents:
            orjson.loads(data)

    def decode() -> None:
        for data, count in blocks:
            decoder.decode(data, count=count, first_row=0)

    def by_columns() -> None:
        for lines in lined:
            with collector_paused():
                columns.read(lines)

    found: dict[str, Callable[[], object]] = {
        "orjson.loads, whole response": lambda: parse([whole]),
        "orjson.loads, the same blocks": lambda: parse(same),
        "orjson.loads, 128 KiB at a time": lambda: parse(small),
        "RowDecoder": decode,
        "its column reader alone": by_columns,
    }
    placed = PlacedReader(schema, arrow)
    found["its reader of places alone"] = lambda: [placed.read(data).num_rows for data, _ in blocks]
    found["naive script, json and pandas"] = lambda: naive(schema, blocks)
    return found


def measure(title: str, schema: Schema, rows: Iterable[str], rounds: int) -> Table:
    """Time every way in turns; give the table of the best times."""
    blocks = blocks_of(rows, BLOCK)
    count = sum(number for _, number in blocks)
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in ways(schema, blocks).items():
            begin = time.perf_counter()
            run()
            best[name] = min(best.get(name, float("inf")), time.perf_counter() - begin)
    parsed = list(best.values())[:3]
    size = sum(len(data) for data, _ in blocks)
    table = Table(title=f"{title}: {count:,} rows, {size / count:.0f} bytes each")
    for heading in ("", "rows/s", "x orjson, whole", "x same blocks", "x 128 KiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, seconds in best.items():
        table.add_row(name, f"{count / seconds:,.0f}", *(f"{seconds / other:.2f}" for other in parsed))
    return table


def main() -> None:
    """Measure both kinds of rows and print the tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    console = Console()
    console.print(measure("Eleven flat columns", FLAT, flat_rows(count), rounds))
    console.print(measure("Nested columns", NESTED, nested_rows(count // 5), rounds))


if __name__ == "__main__":
    main()
