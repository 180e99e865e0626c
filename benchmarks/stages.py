"""Where the time goes: CPU seconds of each stage of an export, measured alone on the same rows, as a picture.

    python benchmarks/stages.py [--rows 200000] [--svg docs/pictures/stages.svg]

The stages are the project's own, called one after the other in one process; in an export they overlap. Prints
the figures and draws one bar per shape, as long as a million rows would take.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click
import pyarrow as pa
from export import SOURCES, Shape, served, statement
from task import Task

from ksql_lake.decode import RowDecoder
from ksql_lake.ksqldb import KsqlClient, QueryKind
from ksql_lake.ksqldb.wire.answer_events import Header, RowBlock
from ksql_lake.ksqldb.wire.row_parser import RowsParser
from ksql_lake.lake.files.checksum import RowChecksum
from ksql_lake.lake.files.dictionaries import TextDictionaries
from ksql_lake.lake.files.writer import PartitionWriter
from ksql_lake.schema import parse_schema
from ksql_lake.settings import load_settings

ROUNDS = 5
_WIDTH, _LEFT, _BAR, _GAP = 860, 120, 34, 26
COLOURS = {
    "bytes from the wire": "#7a8ca3",
    "rows separated": "#a7b5c4",
    "decoding": "#2f6fb3",
    "dictionaries": "#c9c46a",
    "row checksum": "#d9a441",
    "Parquet": "#4f9d69",
}
_CHUNK = 6 << 20


class _Area:
    """A folder for staged files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / name

    def writing(self) -> AbstractContextManager[None]:
        return nullcontext()


def best(work: Callable[[], object]) -> float:
    """The least CPU seconds of several rounds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def stages(shape: Shape) -> dict[str, float]:
    """CPU seconds by stage."""
    with served(shape) as url, tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        sql = statement(shape, url, folder)
        window = shape.window
        given = {"url": url, "sql": sql, "feed": shape.feed, "folder": text}
        Task({**given, "first": window.first.isoformat(), "last": window.last.isoformat()}).download()

        def receive() -> None:
            with (
                KsqlClient(load_settings(ksqldb_url=url)) as client,
                client.query(sql, kind=QueryKind.PULL_STREAM) as answer,
            ):
                while answer._body.pieces(_CHUNK):  # noqa: SLF001 - the transport alone
                    pass

        def parse() -> list[Header | RowBlock]:
            parser, found = RowsParser(QueryKind.PULL_STREAM), []
            for begin in range(0, len(data), _CHUNK):
                found += parser.feed(data[begin : begin + _CHUNK])
            return [event for event in found if isinstance(event, Header | RowBlock)]

        def decode() -> list[pa.RecordBatch]:
            return [
                decoder.decode(block.data, count=block.count, first_row=block.first_row, breaks=block.breaks)
                for block in blocks
            ]

        def encode() -> list[pa.RecordBatch]:
            texts = TextDictionaries()
            return [texts.encoded(batch) for batch in batches]

        def add() -> None:
            for batch in encoded:
                checksum.add(batch)

        def write() -> None:
            writer = PartitionWriter(_Area(folder), batches[0].schema, compression="zstd", metadata={})
            for batch in encoded:
                writer.write("day", batch, hashed=(0, 0))
            writer.close()

        taken = {next(iter(COLOURS)): best(receive)}
        data = _recorded(url, sql)
        events = parse()
        schema = next(parse_schema(event.schema_text) for event in events if isinstance(event, Header))
        blocks = [event for event in events if isinstance(event, RowBlock)]
        decoder, checksum = RowDecoder(schema), RowChecksum()
        batches = decode()
        encoded = encode()
        works = (parse, decode, encode, add, write)
        return taken | {name: best(work) for name, work in zip(list(COLOURS)[1:], works, strict=True)}


def _recorded(url: str, sql: str) -> bytes:
    import requests  # noqa: PLC0415 - only to have the whole text once

    body = {"ksql": sql, "streamsProperties": {}}
    accept = {"Accept": "application/vnd.ksql.v1+json"}
    return requests.post(f"{url}/query", json=body, headers=accept, timeout=600).content


def drawn(found: dict[str, dict[str, float]]) -> str:
    """Return the picture: one bar per shape, its stages side by side, CPU seconds per million rows."""
    longest = max(sum(taken.values()) for taken in found.values())
    height = 60 + len(found) * (_BAR + _GAP) + 26
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        '<g font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    at = _LEFT
    for name, colour in COLOURS.items():
        lines.append(f'<rect x="{at}" y="14" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{at + 17}" y="25" fill="#222">{name}</text>')
        at += 40 + 7 * len(name)
    for number, (shape, taken) in enumerate(found.items()):
        top, at = 50 + number * (_BAR + _GAP), float(_LEFT)
        lines.append(f'<text x="{_LEFT - 10}" y="{top + 22}" text-anchor="end" fill="#222">{shape}</text>')
        for name, seconds in taken.items():
            wide = seconds / longest * (_WIDTH - _LEFT - 90)
            lines.append(
                f'<rect x="{at:.1f}" y="{top}" width="{wide:.1f}" height="{_BAR}" fill="{COLOURS[name]}"/>'
            )
            if wide > 34:  # room for the figure
                lines.append(
                    f'<text x="{at + wide / 2:.1f}" y="{top + 22}" text-anchor="middle" fill="#fff">'
                    f"{seconds:.2f}</text>"
                )
            at += wide
        lines.append(f'<text x="{at + 8:.1f}" y="{top + 22}" fill="#222">{sum(taken.values()):.2f} s</text>')
    lines.append(
        f'<text x="{_LEFT}" y="{height - 14}" fill="#555">CPU seconds for a million rows, each stage alone; '
        "in an export they overlap</text></g></svg>"
    )
    return "\n".join(lines) + "\n"


@click.command()
@click.option(
    "--rows", default=200_000, show_default=True, help="Flat rows; a fifth of it of the other shapes."
)
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help="Draw the picture here.")
def main(*, rows: int, svg: Path | None) -> None:
    """Measure, print, draw."""
    found = {}
    for name in SOURCES:
        count = rows if name == "flat" else rows // 5
        taken = stages(Shape(name, count))
        found[name] = {stage: seconds * 1e6 / count for stage, seconds in taken.items()}
        print(name, *(f"{stage} {seconds:.2f}" for stage, seconds in found[name].items()), sep="  ", flush=True)
    if svg is not None:
        svg.write_text(drawn(found), encoding="utf-8")


if __name__ == "__main__":
    main()
