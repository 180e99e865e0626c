"""What the commands that look at every feed cost with few feeds and with many, each with a long history.

    python benchmarks/every_feed.py [--feeds 300] [--days 400] [--command "plan --all"]
    python benchmarks/every_feed.py --guard

Makes a lake of stream feeds, one commit and one file per day, and runs each command in a process of its own
with 8 feeds and with all of them. Prints CPU seconds of both, seconds of the second, milliseconds of CPU per
feed more, and the files that Python opens and the folders that it lists per feed more (in the command's own
process: `doctor` examines many feeds in several). `--guard` compares 8 with 40 feeds, and 80 days with
400, and fails when a share (never a time) is worse than its limit.
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
from report import FIRST, feeds, fill

from ksql_lake.feeds import StreamFeed

FEW = 8
ROUNDS = 3
COMMANDS = {
    "feeds list": ("feeds", "list"),
    "plan --all": ("plan", "--all"),
    "report": ("report",),
    "doctor": ("doctor",),
    "code location": (),
}
SAID = "the audit says "


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command took: CPU seconds, seconds, files opened, folders listed."""

    cpu: float
    seconds: float
    opened: int
    listed: int


def make(folder: Path, count: int, days: int) -> None:
    """Make feed files and a lake in which nothing is wrong."""
    lake, active = folder / "data_lake", folder / "feeds" / "active"
    active.mkdir(parents=True)
    found = [file.feed for file in feeds(count).files if isinstance(file.feed, StreamFeed)]
    for feed in found:
        keys = {"name": feed.name, "kind": "stream", "source": feed.source, "start_date": FIRST.isoformat()}
        (active / f"{feed.name}.json").write_text(json.dumps(keys))
        fill(lake, feed, days)


def run(folder: Path, arguments: tuple[str, ...]) -> Cost:
    """Run a command in a process of its own, on the feeds and the lake of a folder."""
    work = (
        "from ksql_lake.cli.entry import run; run(sys.argv[2:])"
        if arguments
        else "from ksql_lake.definitions import ksql_lake; ksql_lake()"
    )
    code = (
        "import sys, collections\n"
        "seen, root = collections.Counter(), sys.argv[1]\n"
        "def look(event, given):\n"
        "    if event in ('open', 'os.listdir', 'os.scandir') and str(given[0]).startswith(root):\n"
        "        seen[event.rpartition('.')[2].replace('scandir', 'listdir')] += 1\n"
        "sys.addaudithook(look)\n"
        f"{work}\n"
        f"print({SAID!r}, seen['open'], seen['listdir'], file=sys.stderr)"
    )
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "KSQL_LAKE_ROOT": str(folder / "data_lake"),
        "KSQL_LAKE_FEEDS": str(folder / "feeds"),
    }
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = done.stderr.rpartition(SAID)[2].split()
    if done.returncode or len(found) != 2:
        raise SystemExit(f"{arguments} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, seconds, *map(int, found))


def measure(count: int, days: int, names: tuple[str, ...]) -> dict[str, Cost]:
    """Run commands on so many feeds of so many days; return the cheapest run of each."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), count, days)
        rounds = {name: 1 if name == "doctor" else ROUNDS for name in names}  # it reads every file each time
        return {
            name: min(
                (run(Path(folder), COMMANDS[name]) for _ in range(rounds[name])), key=lambda cost: cost.cpu
            )
            for name in names
        }


def guard() -> None:
    """Fail when a command looks at history, or costs too much per feed."""
    names = tuple(COMMANDS)
    few, many, short = measure(FEW, 400, names), measure(40, 400, names), measure(40, 80, names)
    worst = False
    for name in names:
        long, brief, (slope, most) = many[name], short[name], LIMITS[name]
        looks = {
            "CPU time of 40 feeds, of 8": (long.cpu / few[name].cpu, slope),
            "files opened of 400 days, of 80": ((long.opened + 1) / (brief.opened + 1), most),
            "folders listed of 400 days, of 80": ((long.listed + 1) / (brief.listed + 1), most),
        }
        for what, (share, limit) in looks.items():
            print(f"{name + ': ' + what:60} {share:5.2f}, at most {limit:.2f}")
            worst = worst or share > limit
    if worst:
        raise SystemExit(1)


LIMITS = {
    "feeds list": (1.5, 1.1),
    "plan --all": (2.0, 1.3),
    "report": (2.5, 1.3),
    "doctor": (5.0, 6.0),
    "code location": (1.5, 1.3),
}
"""How many times the CPU time five times the feeds may take, and how many times the files and folders five
times the days. Both numbers of days leave as many commits behind the last checkpoint. `doctor` is there to look
at every file."""


@click.command()
@click.option("--feeds", "count", default=300, show_default=True)
@click.option("--days", default=400, show_default=True)
@click.option("--command", "names", multiple=True, type=click.Choice([*COMMANDS]), default=tuple(COMMANDS))
@click.option("--guard", "guarded", is_flag=True, help="Only check the promised ratios.")
def main(*, count: int, days: int, names: tuple[str, ...], guarded: bool) -> None:
    """Measure and print."""
    if guarded:
        guard()
        return
    few, many = measure(FEW, days, names), measure(count, days, names)
    headings = f"{'ms/feed':>10}{'opened/feed':>14}{'listed/feed':>14}"
    print(f"{'':16}{f'{FEW} feeds':>10}{f'{count} feeds':>12}{'in':>9}{headings}")
    for name in names:
        a, b, more = few[name], many[name], count - FEW
        print(
            f"{name:16}{a.cpu:9.2f}s{b.cpu:11.2f}s{b.seconds:8.2f}s{(b.cpu - a.cpu) / more * 1000:10.1f}"
            f"{(b.opened - a.opened) / more:14.1f}{(b.listed - a.listed) / more:14.1f}"
        )


if __name__ == "__main__":
    main()
