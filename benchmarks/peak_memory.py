"""Peak memory of exporting one large day: prints rows, seconds and megabytes of the exporting process alone.

    python benchmarks/peak_memory.py [--shape flat] [ROWS ...]
    python benchmarks/peak_memory.py --guard

Each size runs in a process of its own against an embedded server in another one; the figure is the exporting
process's own high-water mark (VmHWM), which counts every page it ever held at once. A table is read through the
spool of received bytes, by pull or by push; its second export writes a second version. `--guard` fails when
three times the rows take much more memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import click
from export import SOURCES, make_wide

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import Days, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

DAY = date(2025, 1, 6)
SHAPES = (*SOURCES, "table", "pushed")
GUARDED = {"flat": 400_000, "nested": 200_000, "wide": 300_000, "table": 300_000, "pushed": 100_000}
"""Rows of the smaller export; enough to fill every buffer, about 150 MB of wide rows."""
MOST = 1.4
"""How many times its memory three times the rows may take."""


def feed_keys(shape: str) -> dict[str, Any]:
    """Return the feed file of a shape."""
    if shape == "table":
        return {"name": "wide", "kind": "table", "source": "QUERYABLE_WIDE"}
    if shape == "pushed":
        return {"name": "wide", "kind": "table", "source": "WIDE", "extraction": "push"}
    source = SOURCES[shape]
    return {"name": source.lower(), "kind": "stream", "source": source, "start_date": DAY.isoformat()}


def high_water_mark() -> float:
    """The process's peak resident memory in MB of 1,000,000 bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def export_once(url: str, shape: str) -> None:
    """Export the rows into a throw-away lake, twice; print the peak after each, as one line of JSON."""
    feed, peaks = FEED_ADAPTER.validate_python(feed_keys(shape)), []
    days = Days(DAY, DAY) if shape in SOURCES else None
    with tempfile.TemporaryDirectory() as folder, KsqlClient(load_settings(ksqldb_url=url)) as client:
        for what in ("first export", "once more"):
            began = time.perf_counter()
            result = export_feed(feed, client, Lake(folder), days=days)
            seconds = time.perf_counter() - began
            peaks.append(high_water_mark())
            print(
                f"{shape:7}{what:14}{result.read:>10,} rows {result.new:>10,} new",
                f"{result.bytes_read / 1e6:>6.0f} MB JSON {seconds:>6.1f} s peak {peaks[-1]:>5.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    print(json.dumps(peaks))


@contextmanager
def serving(shape: str, rows: int) -> Iterator[str]:
    """Yield the address of a server with so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        if shape in {"flat", "nested"}:
            sized = ["--sample-rows", str(rows), "--sample-days", "1"]
            with DevServer.start(sample=True, arguments=sized) as server:
                yield server.url
            return
        make_wide(Path(folder), rows, table=shape not in SOURCES)
        with DevServer.start(data=Path(folder)) as server:
            yield server.url


def measure(shape: str, rows: int) -> list[float]:
    """Export so many rows twice, in a process of its own; return its peak in MB after each."""
    with serving(shape, rows) as url:
        command = [sys.executable, __file__, "--url", url, "--shape", shape]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    peaks: list[float] = json.loads(done.stdout)
    return peaks


def guard() -> None:
    """Fail when three times the rows take much more memory."""
    worst = 0.0
    for shape, rows in GUARDED.items():
        few, many = measure(shape, rows), measure(shape, 3 * rows)
        for what, one, more in zip(("first export", "once more"), few, many, strict=True):
            share = more / one
            worst = max(worst, share)
            name = f"{shape}, {what}: peak memory of three times the rows"
            print(f"{name:60} {share:5.2f}, at most {MOST:.2f}")
    if worst > MOST:
        raise SystemExit(1)


@click.command()
@click.argument("rows", type=int, nargs=-1)
@click.option(
    "--shape", "shapes", multiple=True, type=click.Choice(SHAPES), default=("flat",), show_default=True
)
@click.option("--guard", "guarded", is_flag=True, help="Only check the promised ratios.")
@click.option("--url", hidden=True)
def main(*, rows: tuple[int, ...], shapes: tuple[str, ...], guarded: bool, url: str | None) -> None:
    """Measure each shape and number of rows."""
    if url is not None:
        export_once(url, shapes[0])
    elif guarded:
        guard()
    else:
        for shape in shapes:
            for count in rows or (200_000, 2_000_000):
                measure(shape, count)


if __name__ == "__main__":
    main()
