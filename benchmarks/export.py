"""Whole exports, from the server's bytes to Parquet on disk, beside what else one could do.

    python benchmarks/export.py [--rows 100000 --rows 1000000] [--shape flat] [--rounds 3] [--dlt PYTHON]
    python benchmarks/export.py --guard

Every way runs in a process of its own, in turns, against a server in another one that sends a recorded answer,
one HTTP chunk per row as ksqlDB does. Prints medians, ratios, peak memory and sizes. `--guard` measures 200,000
flat rows and 30,000 nested ones and fails when a ratio (never a time) is worse than its limit.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from contestants import Task
from rich.console import Console
from rich.table import Table

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import Days, extract, plan_export
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

HERE = Path(__file__).parent
FIRST = date(2025, 1, 6)
SOURCES = {"flat": "TRANSACTION_FLATTENED", "nested": "TRANSACTION_STREAM", "wide": "WIDE"}
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
        plain = ["naive", "ours", "download"]
        return [*plain, *(["dlt"] if dlt else []), *([] if self.name == "nested" else ["ready", "parts"])]


def make_wide(folder: Path, rows: int) -> None:
    """Write a source with about 500 bytes per row."""
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
    listed = ", ".join(f"{name} {kind}" for name, kind in types.items())
    sql = f"CREATE STREAM WIDE ({listed}) WITH (KAFKA_TOPIC='wide', VALUE_FORMAT='JSON', PARTITIONS=1);"
    (folder / "WIDE.sql").write_text(sql, encoding="utf-8")


@contextmanager
def served(shape: Shape) -> Iterator[str]:
    """Give the address of a server that sends the shape's recorded answer, one chunk per row."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--row-chunks"]
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
    """Run one way once."""
    script, python = ("dlt_rows.py", dlt) if way == "dlt" else ("contestants.py", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        given = json.dumps({**task, "folder": folder})
        quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "HOME": folder}
        done = subprocess.run(
            [str(python), str(HERE / script), way, given],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=quiet if way == "dlt" else None,
        )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(
    shape: Shape, *, rounds: int, dlt: str | None, ways: list[str] | None = None
) -> dict[str, dict[str, float]]:
    """Run all ways in turns; give the median of every figure."""
    found: dict[str, list[dict[str, float]]] = {}
    with served(shape) as url, tempfile.TemporaryDirectory() as lake:
        window = shape.window
        task = {"url": url, "sql": statement(shape, url, Path(lake)), "feed": shape.feed}
        task |= {"first": window.first.isoformat(), "last": window.last.isoformat()}
        json_bytes = len(Task({**task, "folder": lake}).ask().content)  # also records the answer
        for number in range(rounds):
            for way in ways or shape.ways(dlt):
                if way == "dlt" and number:
                    continue  # minutes each; once is enough for a factor of twenty
                found.setdefault(way, []).append(run(way, task, dlt))
    medians = {
        way: {name: statistics.median(one[name] for one in several) for name in several[0]}
        for way, several in found.items()
    }
    for figures in medians.values():
        figures["json"] = json_bytes
    return medians


def shown(shape: Shape, medians: dict[str, dict[str, float]]) -> Table:
    """Make the table of one shape."""
    size = next(iter(medians.values()))["json"]
    days = f" over {shape.days} days" if shape.days > 1 else ""
    table = Table(title=f"{shape.name}: {shape.rows:,} rows{days}, {size / 1e6:.0f} MB of JSON")
    for heading in ("", "seconds", "CPU s", "x naive", "rows/s", "peak MB", "Parquet MB", "of JSON"):
        table.add_column(heading, justify="right" if heading else "left")
    naive = medians["naive"]["seconds"] if "naive" in medians else float("nan")
    for way, figures in medians.items():
        parquet = figures["parquet"]
        table.add_row(
            way,
            f"{figures['seconds']:.2f}",
            f"{figures['cpu']:.2f}",
            f"{naive / figures['seconds']:.1f}",
            f"{shape.rows / figures['seconds']:,.0f}",
            f"{figures['peak']:.0f}",
            f"{parquet / 1e6:.1f}" if parquet else "-",
            f"{parquet / size:.1%}" if parquet else "-",
        )
    return table


def guard(console: Console) -> None:
    """Fail when a ratio of CPU times or sizes is worse than it must be; a busy machine changes them little."""
    flat = measure(Shape("flat", 200_000), rounds=3, dlt=None, ways=["naive", "ours", "parts"])
    nested = measure(Shape("nested", 30_000), rounds=3, dlt=None, ways=["naive", "ours"])
    ours = flat["ours"]
    limits = {  # what costs or takes too much, as a share of what it is compared with, and the largest allowed
        "flat rows: CPU time, of the naive script's": (ours["cpu"] / flat["naive"]["cpu"], 0.45),
        "flat rows: CPU time, of the parts' alone": (ours["cpu"] / flat["parts"]["cpu"], 4.0),
        "flat rows: Parquet, of JSON": (ours["parquet"] / ours["json"], 0.12),
        "nested rows: CPU time, of the naive script's": (nested["ours"]["cpu"] / nested["naive"]["cpu"], 0.6),
    }
    for what, (share, most) in limits.items():
        console.print(f"{what:45} {share:5.2f}, at most {most:.2f}", style="red" if share > most else "green")
    if any(share > most for share, most in limits.values()):
        raise SystemExit(1)


@click.command()
@click.option("--rows", multiple=True, type=int, default=(100_000, 1_000_000), show_default=True)
@click.option("--shape", "shapes", multiple=True, type=click.Choice([*SOURCES]), default=tuple(SOURCES))
@click.option("--days", default=1, show_default=True, help="Days the rows are spread over.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--way", "ways", multiple=True, help="Only these; all if not given.")
@click.option("--dlt", help="Python of an environment with dlt[filesystem,parquet] and requests.")
@click.option("--guard", "guarded", is_flag=True, help="Only check the promised ratios.")
def main(  # noqa: PLR0913 - one parameter per option
    *,
    rows: tuple[int, ...],
    shapes: tuple[str, ...],
    days: int,
    rounds: int,
    ways: tuple[str, ...],
    dlt: str | None,
    guarded: bool,
) -> None:
    """Measure and print."""
    console = Console()
    if guarded:
        guard(console)
        return
    for name in shapes:
        for count in rows:
            shape = Shape(name, count, days)
            console.print(shown(shape, measure(shape, rounds=rounds, dlt=dlt, ways=list(ways) or None)))


if __name__ == "__main__":
    main()
