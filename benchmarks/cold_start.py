"""From the shell's prompt to done: fresh processes of the command line, against three bare imports.

    python benchmarks/cold_start.py [--rounds 7]
    python benchmarks/cold_start.py --guard

Prints medians of seconds and CPU seconds, in turns, of `ksql-lake export --table user_transaction_summary`
(1,000 rows, without Dagster), of `export --all` with the sample's 8 feeds, of `plan --all`, `feeds list` and
`--help`, and what share each is of `python -c "import pyarrow.parquet, duckdb, requests"`. Run it in the
project folder, where the sample's feed files are. `--guard` fails when a share of CPU time exceeds its limit.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from ksql_lake.devserver.process import DevServer

IMPORTS = [sys.executable, "-c", "import pyarrow.parquet, duckdb, requests"]
KSQL_LAKE = str(Path(sys.executable).with_name("ksql-lake"))
COMMANDS = {
    "export": (["export", "--table", "user_transaction_summary"], 3.0),
    "export --all": (["export", "--all"], 6.0),
    "plan --all": (["plan", "--all"], 2.4),
    "feeds list": (["feeds", "list"], 1.3),
    "--help": (["--help"], 0.45),
}
"""What is typed, and the largest share of the imports' CPU time that it may take."""


def timed(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Run a command; give its seconds and CPU seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(rounds: int) -> dict[str, tuple[float, float]]:
    """Run all in turns; give the medians of seconds and CPU seconds."""
    found: dict[str, list[tuple[float, float]]] = {}
    # One user per 20 rows of the stream; each round writes the tables' next versions.
    sample = ["--sample-rows", "20000", "--sample-days", "1"]
    with DevServer.start(sample=True, arguments=sample) as server, tempfile.TemporaryDirectory() as folder:
        environment = {"KSQLDB_URL": server.url, "KSQL_LAKE_ROOT": folder, "PATH": os.defpath}
        for _ in range(rounds):
            found.setdefault("imports", []).append(timed(IMPORTS))
            for name, (arguments, _) in COMMANDS.items():
                found.setdefault(name, []).append(timed([KSQL_LAKE, *arguments], environment))
    return {
        name: (statistics.median(one[0] for one in several), statistics.median(one[1] for one in several))
        for name, several in found.items()
    }


@click.command()
@click.option("--rounds", default=7, show_default=True)
@click.option("--guard", "guarded", is_flag=True, help="Only check the promised shares.")
def main(*, rounds: int, guarded: bool) -> None:
    """Measure and print."""
    found = measure(rounds)
    bare, slow = found.pop("imports"), False
    print(f"{'imports':12} {bare[0]:5.2f} s, CPU {bare[1]:5.2f} s")
    for name, (seconds, cpu) in found.items():
        most = COMMANDS[name][1]
        shares = f"{seconds / bare[0]:4.2f} and {cpu / bare[1]:4.2f}, CPU at most {most:.2f}"
        print(f"{name:12} {seconds:5.2f} s, CPU {cpu:5.2f} s; of the imports {shares}")
        slow = slow or cpu / bare[1] > most
    if guarded and slow:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
