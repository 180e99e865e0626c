"""Whole exports, from the server's bytes to Parquet on disk, beside what else one could do.

    python benchmarks/export.py [--rows 100000 --rows 1000000 --rows 5000000] [--shape flat] [--dlt PYTHON]
    python benchmarks/export.py --guard

Every way runs in a process of its own, in turns, against a server in another that sends a recorded answer, one
HTTP chunk per row as ksqlDB does. Prints one table of medians, ratios, peak memory and sizes. `seconds` are
those of the work, from the request to the finished file, after imports; `process` is the whole process, from
its start to its end; CPU time and peak are the whole process's, `work` is the CPU time of the work.
Several --days run in turns too. `ours` is this project, zstd; it asks for the older of ksqlDB's two writers and
gets two chunks a row. `newer` is the same with the newer one,
`snappy` the same with snappy. A ratio is given where a way wrote as many rows; of nested rows dlt makes a
table more for each list, so its time has no ratio. `--guard` fails when a ratio (never a time) is
worse than its limit, those of `continuing.py` among them.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click
import continuing
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from task import Task

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import Days, extract, plan_export
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

HERE = Path(__file__).parent
FIRST = date(2025, 1, 6)
SOURCES = {"flat": "TRANSACTION_FLATTENED", "nested": "TRANSACTION_STREAM", "wide": "WIDE"}
SCRIPTS = {
    "naive": "way_naive.py",
    "ours": "way_ours.py",
    "newer": "way_ours.py",
    "snappy": "way_ours.py",
    "download": "way_parts.py",
    "ready": "way_parts.py",
    "parts": "way_parts.py",
    "dlt": "dlt_rows.py",
}
ONCE = ("dlt", "snappy")  # minutes, and once is enough for a factor of twenty; only the size is of interest
PREPARED = ("download", "ready", "parts")  # their processes prepare things, only the seconds after it count
_FRAME = '{"row":{"columns":[]}},\n'
FRAMING = len("a5\r\n\r\n")  # of each row's HTTP chunk
_WIDE_COLUMNS = 34


@dataclass(frozen=True, slots=True)
class Shape:
    """What is exported: the name of the source's kind, how many rows, over how many days."""

    name: str
    rows: int
    days: int = 1

    @property
    def feed(self) -> dict[str, Any]:
        """The feed file."""
        source = SOURCES[self.name]
        return {"name": source.lower(), "kind": "stream", "source": source, "start_date": FIRST.isoformat()}

    @property
    def window(self) -> Days:
        """The days."""
        return Days(FIRST, FIRST + timedelta(days=self.days - 1))

    def ways(self, dlt: str | None) -> list[str]:
        """What can be compared: prepared text exists only for rows without nested values."""
        plain = ["naive", "ours", "newer", "snappy", "download"]
        return [*plain, *(["dlt"] if dlt else []), *([] if self.name == "nested" else ["ready", "parts"])]


def make_wide(folder: Path, rows: int, *, table: bool = False) -> None:
    """Write a stream or a table with about 500 bytes per row."""
    generator = np.random.default_rng(1)
    columns: dict[str, pa.Array] = {"ID": pa.array([f"order-{number:012}" for number in range(rows)])}
    types = {"ID": "STRING"}
    for number in range(_WIDE_COLUMNS):
        kind = ("STRING", "BIGINT", "DOUBLE")[number % 3]
        name = f"{kind}_{number}"
        types[name] = kind
        values = generator.integers(0, 10**9, rows)
        columns[name] = pa.array(
            [f"value {value}" for value in values]
            if kind == "STRING"
            else values / (1 if kind == "BIGINT" else 1000),
            {"STRING": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}[kind],
        )
    start = 1_736_121_600_000  # 2025-01-06 in UTC
    columns["ROWTIME"] = pa.array(start + np.arange(rows) * 86_400_000 // rows)
    pq.write_table(pa.table(columns), folder / "WIDE.parquet")
    if table:
        types["ID"] = "STRING PRIMARY KEY"
    listed = ", ".join(f"{name} {kind}" for name, kind in types.items())
    made = f"({listed}) WITH (KAFKA_TOPIC='wide', VALUE_FORMAT='JSON', PARTITIONS=1);"
    sql = f"CREATE STREAM WIDE {made}"
    if table:
        sql = f"CREATE TABLE WIDE {made} CREATE TABLE QUERYABLE_WIDE AS SELECT * FROM WIDE;"
    (folder / "WIDE.sql").write_text(sql, encoding="utf-8")


@contextmanager
def served(shape: Shape) -> Iterator[str]:
    """Yield the address of a server that sends the shape's recorded answer, one chunk per row."""
    with tempfile.TemporaryDirectory() as folder:
        arguments: list[str] = []
        if shape.name == "wide":
            make_wide(Path(folder), shape.rows)
        else:
            arguments += ["--sample-rows", str(shape.rows), "--sample-days", str(shape.days)]
        data = Path(folder) if shape.name == "wide" else None
        with DevServer.start(sample=data is None, data=data, arguments=arguments) as server:
            command = [sys.executable, str(HERE / "replay.py"), server.url]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as replay:
                if replay.stdout is None or replay.stdin is None:
                    raise OSError("no pipes to the replaying server")
                yield replay.stdout.readline().strip()
                replay.stdin.close()


def statement(shape: Shape, url: str, lake: Path) -> str:
    """The query that this project sends, so that all send it."""
    feed = FEED_ADAPTER.validate_python(shape.feed)
    with KsqlClient(load_settings(ksqldb_url=url)) as client:
        return extract(plan_export(feed, Lake(lake), days=shape.window), client).question.statement


def run(way: str, task: dict[str, Any], dlt: str | None) -> dict[str, float]:
    """Run one way once, in a process of its own; give its figures."""
    script, python = SCRIPTS[way], dlt if way == "dlt" else sys.executable
    if way == "snappy":
        task = {**task, "feed": {**task["feed"], "compression": "snappy"}}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "HOME": folder}
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(python), str(HERE / script), way, json.dumps({**task, "folder": folder})],
            stdout=said,
            env=quiet if way == "dlt" else None,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{way} failed")
        figures: dict[str, float] = {
            "process": time.perf_counter() - began,
            "cpu": used.ru_utime + used.ru_stime,
            "peak": used.ru_maxrss * 1024 / 1e6,
        }
        said.seek(0)
        figures |= json.loads(said.read().splitlines()[-1])
        kept = [path for path in Path(folder).rglob("*.parquet") if not path.parts[-2].startswith("_dlt")]
        figures["parquet"] = sum(path.stat().st_size for path in kept)
        figures["rows"] = sum(pq.read_metadata(path).num_rows for path in kept)
    return figures


@contextmanager
def prepared(shape: Shape) -> Iterator[dict[str, Any]]:
    """Yield the task of a shape whose answer is recorded, with the size of its JSON."""
    with served(shape) as url, tempfile.TemporaryDirectory() as lake:
        window = shape.window
        task = {"url": url, "sql": statement(shape, url, Path(lake)), "feed": shape.feed}
        task |= {"first": window.first.isoformat(), "last": window.last.isoformat()}
        size = Task({**task, "folder": lake}).download()  # also records the answer
        yield {**task, "json": size - FRAMING * shape.rows}


def measure(
    *shapes: Shape, rounds: int, dlt: str | None, ways: Sequence[str] | None = None
) -> list[dict[str, dict[str, float]]]:
    """Run all ways of all shapes in turns; give the median of every figure, for each shape."""
    found: list[dict[str, list[dict[str, float]]]] = [{} for _ in shapes]
    with ExitStack() as servers:
        tasks = [servers.enter_context(prepared(shape)) for shape in shapes]
        for number in range(rounds):
            for shape, task, runs in zip(shapes, tasks, found, strict=True):
                for way in ways or shape.ways(dlt):
                    if way in ONCE and number:
                        continue
                    runs.setdefault(way, []).append(run(way, task, dlt))
    medians = [
        {
            way: {name: statistics.median(one[name] for one in several) for name in several[0]}
            for way, several in runs.items()
        }
        for runs in found
    ]
    for shape, task, ways_of in zip(shapes, tasks, medians, strict=True):
        for figures in ways_of.values():
            figures["json"] = task["json"]
            figures["csv"] = task["json"] - (len(_FRAME) - 1) * shape.rows
    return medians


HEADINGS = (
    "",
    "seconds",
    "x naive",
    "process",
    "x naive",
    "CPU s",
    "work",
    "rows/s",
    "peak MB",
    "Parquet MB",
    "of JSON",
    "of CSV",
)


def add_rows(table: Table, shape: Shape, medians: dict[str, dict[str, float]]) -> None:
    """Add what was measured of one shape to the table."""
    size, csv = (next(iter(medians.values()))[what] for what in ("json", "csv"))
    days = f", {shape.days} days" if shape.days > 1 else ""
    table.add_section()
    table.add_row(f"[bold]{shape.rows:,} {shape.name}{days}[/]")
    table.add_row(f"[dim]{size / 1e6:,.0f} MB of JSON[/]")
    nothing = {"seconds": math.nan, "process": math.nan}
    for way, figures in medians.items():
        naive = medians.get("naive", nothing)
        if not same_shape(figures, naive):
            naive = nothing
        parquet = figures["parquet"]
        whole = way not in PREPARED
        table.add_row(
            way,
            f"{figures['seconds']:.2f}",
            _times(naive["seconds"] / figures["seconds"]),
            f"{figures['process']:.2f}" if whole else "-",
            _times(naive["process"] / figures["process"]) if whole else "-",
            f"{figures['cpu']:.2f}" if whole else "-",
            f"{figures['work']:.2f}" if "work" in figures else "-",
            f"{shape.rows / figures['seconds']:,.0f}",
            f"{figures['peak']:,.0f}" if whole else "-",
            f"{parquet / 1e6:,.1f}" if parquet else "-",
            f"{parquet / size:.1%}" if parquet else "-",
            f"{parquet / csv:.1%}" if parquet and shape.name != "nested" else "-",
        )


def same_shape(figures: dict[str, float], naive: dict[str, float]) -> bool:
    """Whether both wrote as many rows, all tables together; what only receives writes none."""
    return figures["rows"] in (0, naive.get("rows"))


def _times(ratio: float) -> str:
    return "-" if math.isnan(ratio) else f"{ratio:.1f}"


def guard(console: Console) -> None:
    """Fail when a ratio of CPU times, memory or sizes is worse than it must be; times are not looked at."""
    (flat,) = measure(Shape("flat", 300_000), rounds=3, dlt=None, ways=["naive", "ours", "newer", "snappy"])
    (more,) = measure(Shape("flat", 1_500_000), rounds=1, dlt=None, ways=["ours"])
    day, days = measure(
        Shape("flat", 1_000_000), Shape("flat", 1_000_000, 365), rounds=5, dlt=None, ways=["ours"]
    )
    (nested,) = measure(Shape("nested", 50_000), rounds=3, dlt=None, ways=["naive", "ours"])
    (wide,) = measure(Shape("wide", 50_000), rounds=3, dlt=None, ways=["naive", "ours"])
    ours = flat["ours"]
    limits = {  # what costs or takes too much, as a share of what it is compared with, and the largest allowed
        "flat rows: CPU time, of the naive script's": (ours["cpu"] / flat["naive"]["cpu"], 0.42),
        "flat rows: CPU time, of that with the newer writer": (ours["cpu"] / flat["newer"]["cpu"], 1.3),
        "nested rows: CPU time, of the naive script's": (_share(nested, "cpu"), 0.7),
        "wide rows: CPU time, of the naive script's": (_share(wide, "cpu"), 0.75),
        "365 days: CPU time, of one day's": (days["ours"]["cpu"] / day["ours"]["cpu"], 1.6),
        "365 days: CPU time after the start, of one day's": (days["ours"]["work"] / day["ours"]["work"], 1.8),
        "five times the rows: peak memory": (more["ours"]["peak"] / ours["peak"], 1.25),
        "flat rows: peak memory, of the naive script's": (_share(flat, "peak"), 0.45),
        "flat rows: Parquet, of JSON": (ours["parquet"] / ours["json"], 0.12),
        "flat rows: Parquet with snappy, of JSON": (flat["snappy"]["parquet"] / ours["json"], 0.2),
    }
    limits |= continuing.ratios(continuing.measure(continuing.CASES, rounds=5))
    for what, (share, most) in limits.items():
        console.print(f"{what:60} {share:5.2f}, at most {most:.2f}", style="red" if share > most else "green")
    if any(share > most for share, most in limits.values()):
        raise SystemExit(1)


def _share(medians: dict[str, dict[str, float]], what: str) -> float:
    return medians["ours"][what] / medians["naive"][what]


@click.command()
@click.option("--rows", multiple=True, type=int, default=(100_000, 1_000_000), show_default=True)
@click.option("--shape", "shapes", multiple=True, type=click.Choice([*SOURCES]), default=tuple(SOURCES))
@click.option("--days", multiple=True, type=int, default=(1,), show_default=True, help="Days of the rows.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--way", "ways", multiple=True, help="Only these; all if not given.")
@click.option(
    "--naive-most",
    default=1_000_000,
    show_default=True,
    help="Rows the naive script is spared beyond: it needs 2 GB for a million.",
)
@click.option("--dlt", help="Python of an environment with dlt[filesystem,parquet] and requests.")
@click.option("--guard", "guarded", is_flag=True, help="Only check the promised ratios.")
def main(  # noqa: PLR0913 - one parameter per option
    *,
    rows: tuple[int, ...],
    shapes: tuple[str, ...],
    days: tuple[int, ...],
    rounds: int,
    ways: tuple[str, ...],
    naive_most: int,
    dlt: str | None,
    guarded: bool,
) -> None:
    """Measure and print."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    if guarded:
        guard(console)
        return
    table = Table(title="medians of alternated runs" if rounds > 1 else None)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for name in shapes:
        for count in rows:
            shapes_of = [Shape(name, count, number) for number in days]
            chosen = [way for way in ways or shapes_of[0].ways(dlt) if way != "naive" or count <= naive_most]
            with console.status(f"{count:,} {name} rows"):
                found = measure(*shapes_of, rounds=rounds, dlt=dlt, ways=chosen)
            for shape, medians in zip(shapes_of, found, strict=True):
                add_rows(table, shape, medians)
    console.print(table)


if __name__ == "__main__":
    main()
