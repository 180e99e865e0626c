"""From the shell's prompt to done: fresh processes of the command line, against three bare imports.

    python benchmarks/cold_start.py [--rounds 7]
    python benchmarks/cold_start.py --guard

Prints the smallest seconds and CPU seconds, in turns, of `ksql-lake export --table user_transaction_summary`
(1,000 rows, without Dagster), of `export --all` with 8 feeds whose tables rest on Kafka's offsets and with the
sample's 8 (two source tables, which have to rest for 2 s), of `plan --all`, `feeds list` and `--help`, and what
share each is of `python -c "import pyarrow.parquet, duckdb, requests"`; of exports also the seconds before and
after the feeds were read and landed. Run it in the project folder, where the sample's feed files are. `--guard`
fails when a share exceeds its limit.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from ksql_lake.devserver.process import DevServer

IMPORTS = [sys.executable, "-c", "import pyarrow.parquet, duckdb, requests"]
KSQL_LAKE = str(Path(sys.executable).with_name("ksql-lake"))
SOURCE_TABLES = ("fx_rates", "merchants")
"""Feeds whose server reports no offsets of Kafka; two other feeds take their places."""
TWICE = ("login_events", "transaction_flattened")


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, and the largest shares of the imports' time that it may take.

    Attributes:
        arguments: What follows `ksql-lake`.
        cpu: Of their CPU time.
        seconds: Of their seconds; None where it waits for the server.
        offsets: Whether the feeds are those whose tables rest on Kafka's offsets.
    """

    arguments: tuple[str, ...]
    cpu: float
    seconds: float | None
    offsets: bool = False


COMMANDS = {
    "export": Command(("export", "--table", "user_transaction_summary", "--json"), 1.8, 3.5),
    "export --all": Command(("export", "--all", "--json"), 2.95, 5.5, offsets=True),
    "with source tables": Command(("export", "--all", "--json"), 2.95, None),
    "plan --all": Command(("plan", "--all"), 0.95, 1.3),
    "feeds list": Command(("feeds", "list"), 0.72, 1.1),
    "--help": Command(("--help",), 0.3, 0.5),
}


@dataclass(frozen=True, slots=True)
class Times:
    """The seconds and CPU seconds of a process, and its seconds outside of the longest export."""

    seconds: float
    cpu: float
    around: float = 0.0


def timed(command: list[str], environment: dict[str, str] | None = None) -> Times:
    """Run a command and return its times."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    reading = max(one["seconds"] for one in json.loads(said)["exports"]) if "--json" in command else seconds
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Times(seconds, cpu, seconds - reading)


def write_feeds(folder: Path) -> None:
    """Write the sample's feeds without the source tables, and two of them once more under another name."""
    (folder / "active").mkdir(parents=True)
    for path in Path("feeds/active").glob("*.json"):
        if path.stem not in SOURCE_TABLES:
            (folder / "active" / path.name).write_bytes(path.read_bytes())
    for name in TWICE:
        feed = json.loads(Path(f"feeds/active/{name}.json").read_text())
        (folder / f"active/{name}_2.json").write_text(json.dumps({**feed, "name": f"{name}_2"}))


def measure(rounds: int) -> dict[str, Times]:
    """Run all in turns, and return the smallest times of each."""
    found: dict[str, list[Times]] = {}
    # One user per 20 rows of the stream; each round writes the tables' next versions.
    sample = ["--sample-rows", "20000", "--sample-days", "1"]
    with DevServer.start(sample=True, arguments=sample) as server, tempfile.TemporaryDirectory() as folder:
        write_feeds(Path(folder, "feeds"))
        common = {"KSQLDB_URL": server.url, "PATH": os.defpath}
        for _ in range(rounds):
            found.setdefault("imports", []).append(timed(IMPORTS))
            for name, command in COMMANDS.items():
                own = {"KSQL_LAKE_ROOT": f"{folder}/lake_{command.offsets}"}
                if command.offsets:
                    own["KSQL_LAKE_FEEDS"] = f"{folder}/feeds"
                found.setdefault(name, []).append(timed([KSQL_LAKE, *command.arguments], common | own))
    return {
        name: Times(*(min(getattr(one, part) for one in several) for part in ("seconds", "cpu", "around")))
        for name, several in found.items()
    }


@click.command()
@click.option("--rounds", default=7, show_default=True)
@click.option("--guard", "guarded", is_flag=True, help="Only check the promised shares.")
def main(*, rounds: int, guarded: bool) -> None:
    """Measure and print."""
    found = measure(rounds)
    bare, slow = found.pop("imports"), False
    print(f"{'imports':18} {bare.seconds:5.2f} s, CPU {bare.cpu:5.2f} s")
    for name, times in found.items():
        most = COMMANDS[name]
        shares = times.seconds / bare.seconds, times.cpu / bare.cpu
        around = f", {times.around:.2f} s around the exports" if times.around else ""
        print(
            f"{name:18} {times.seconds:5.2f} s, CPU {times.cpu:5.2f} s; of the imports {shares[0]:5.2f} "
            f"(at most {most.seconds or '-'}) and {shares[1]:4.2f} (at most {most.cpu}){around}"
        )
        slow = slow or shares[1] > most.cpu or (most.seconds is not None and shares[0] > most.seconds)
    if guarded and slow:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
