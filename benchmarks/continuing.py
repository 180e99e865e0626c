"""What an export costs that reads only what is new: the same for any topic, and for any day it lands in.

    python benchmarks/continuing.py [rounds]

A feed with `"extraction": "continue"` is entered once and then exported several times, each from a copy of that
lake: 10,000 new rows on a topic of 1,000,000 and one of 100,000,000 records, and 100,000 of them into an open
day that is empty and into one that holds 5,000,000 rows. The server is `endless.py`, which computes the rows of
such a topic; the first reading is shortened, because there the server shows the topic's last rows. What is
counted: rows and bytes received, requests that the server got, files of the lake that were opened (the kernel
counts them, whatever opens them), and the exporting process's CPU seconds. Prints medians of runs in turns.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from endless import PARTITIONS
from rich.console import Console
from rich.table import Table

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import Days, extract, land, plan_export
from ksql_lake.feeds.model import FEED_ADAPTER, Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

HERE = Path(__file__).parent
SOURCE = (
    "CREATE STREAM S (ID BIGINT, NOTE STRING) "
    f"WITH (KAFKA_TOPIC='s', PARTITIONS={PARTITIONS}, VALUE_FORMAT='JSON');"
)
DERIVED = (
    "CREATE STREAM D WITH (KEY_FORMAT='JSON') AS SELECT STRUCT(P := ROWPARTITION, O := ROWOFFSET) AS K, "
    "ID, NOTE, ROWPARTITION AS P, ROWOFFSET AS O FROM S "
    "PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET) EMIT CHANGES;"
)
_OPENED, _FOLDER, _EVENT = 0x20, 0x40000000, struct.calcsize("iIII")


@dataclass(frozen=True, slots=True)
class Case:
    """What is exported into.

    Attributes:
        name: For the table.
        topic: Records of the topic.
        held: Rows that the lake holds before the first export that counts.
        held_today: They are rows of today; else of yesterday.
        new: Rows that are new to each export, all of today.
    """

    name: str
    topic: int
    held: int
    held_today: bool = True
    new: int = 10_000

    @property
    def today(self) -> int:
        """The number of the first row of today."""
        return 0 if self.held_today else self.topic


CASES = {
    "short": Case("topic of 1,000,000", 1_000_000, 10_000),
    "long": Case("topic of 100,000,000", 100_000_000, 10_000),
    "empty": Case("into an empty day", 100_000_000, 10_000, held_today=False, new=100_000),
    "full": Case("into an open day of 5,000,000", 100_000_000, 5_000_000, new=100_000),
}


class Endless:
    """The server, in a process of its own."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, str(HERE / "endless.py"), url, "D"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._said()

    def ask(self, line: str) -> str:
        """Send a line; give the answer."""
        if self._process.stdin is None:
            raise OSError("no pipe to the server")
        print(line, file=self._process.stdin, flush=True)
        return self._said()

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _said(self) -> str:
        if self._process.stdout is None:
            raise OSError("no pipe to the server")
        return self._process.stdout.readline().strip()


class Opened:
    """Counts the files below a folder that are opened, by whatever means; files made later are not watched."""

    def __init__(self, root: Path) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._watch = self._library.inotify_init1(os.O_NONBLOCK)
        for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            if self._library.inotify_add_watch(self._watch, os.fsencode(folder), _OPENED) < 0:
                raise OSError(ctypes.get_errno(), "the kernel counts no files", str(folder))

    def count(self) -> int:
        """How many were opened so far; ends the counting."""
        opened = 0
        try:
            while data := os.read(self._watch, 1 << 16):
                at = 0
                while at < len(data):
                    _, mask, _, length = struct.unpack_from("iIII", data, at)
                    opened += not mask & _FOLDER
                    at += _EVENT + length
        except BlockingIOError:
            pass
        os.close(self._watch)
        return opened


@contextmanager
def endless() -> Iterator[Endless]:
    """Start both servers."""
    with DevServer.start() as stand_in:
        for statement in (SOURCE, DERIVED):
            answer = requests.post(f"{stand_in.url}/ksql", json={"ksql": statement}, timeout=60)
            answer.raise_for_status()
        lines = "\n".join(f'{{"ID": {number}, "NOTE": "n"}}' for number in range(64))
        place = f"{stand_in.url}/devserver/sources/S/rows"
        requests.post(place, data=lines, timeout=60).raise_for_status()
        server = Endless(stand_in.url)
        try:
            yield server
        finally:
            server.close()


def feed() -> Feed:
    """The feed, from yesterday on."""
    start = datetime.now(UTC).date() - timedelta(days=1)
    given: dict[str, Any] = {"name": "d", "kind": "stream", "source": "D", "start_date": start.isoformat()}
    given |= {"extraction": "continue", "columns": ["ID", "NOTE"]}
    return FEED_ADAPTER.validate_python({**given, "positions": {"partition": "P", "offset": "O"}})


def export(server: Endless, root: Path, *, expected: int) -> dict[str, float]:
    """Export what is new; give the figures."""
    wanted = feed()
    today = datetime.now(UTC).date()
    server.ask("count")
    opened = Opened(root) if root.exists() else None
    with KsqlClient(load_settings(ksqldb_url=server.url, attempts=1)) as client:
        clock, cpu = time.perf_counter(), time.process_time()
        plan = plan_export(wanted, Lake(root), days=Days(today - timedelta(days=1), today))
        result = land(extract(plan, client), Lake(root))
        took, used = time.perf_counter() - clock, time.process_time() - cpu
    read = Lake(root).feed(wanted).state().last_read
    if result.new != expected or read is None or read.extraction != "continue":
        raise SystemExit(f"{result.new} rows are new, and not {expected}: {read}")
    return {
        "rows": read.rows,
        "bytes": result.bytes_read,
        "requests": int(server.ask("count")),
        "files": opened.count() if opened else 0,
        "cpu": used,
        "seconds": took,
    }


def measure(cases: dict[str, Case], *, rounds: int) -> dict[str, dict[str, float]]:
    """Enter the stream once for each case, then export what is new in turns; give the medians."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    with endless() as server, tempfile.TemporaryDirectory() as folder:
        for name, case in cases.items():
            server.ask(f"{case.topic - case.held} {case.topic} {case.today}")
            export(server, Path(folder) / name, expected=case.held)
        for _ in range(rounds):
            for name, case in cases.items():
                # Each goes on from the same lake, so that no round finds what the one before it left.
                root = Path(folder) / "lake"
                shutil.copytree(Path(folder) / name, root)
                server.ask(f"0 {case.topic + case.new} {case.today}")
                figures[name].append(export(server, root, expected=case.new))
                shutil.rmtree(root)
    return {
        name: {what: statistics.median(one[what] for one in several) for what in several[0]}
        for name, several in figures.items()
    }


def ratios(found: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Return what must not grow, as a share of what it is compared with, and the largest allowed."""
    short, long = found["short"], found["long"]
    names = {
        "rows": "rows received",
        "bytes": "bytes received",
        "requests": "requests",
        "files": "lake files opened",
    }
    shares = {
        f"continue, 100 times the topic: {text}": (long[name] / short[name], 1.2)
        for name, text in names.items()
    }
    shares["continue, open day of 5M rows: CPU time, of an empty one's"] = (
        found["full"]["cpu"] / found["empty"]["cpu"],
        1.2,
    )
    return shares


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    table = Table(title=f"medians of {rounds}")
    for heading in ("", "new rows", "rows received", "bytes", "requests", "files opened", "CPU s", "seconds"):
        table.add_column(heading, justify="right" if heading else "left")
    found = measure(CASES, rounds=rounds)
    for name, one in found.items():
        counts = [f"{one[what]:,.0f}" for what in ("rows", "bytes", "requests", "files")]
        table.add_row(
            CASES[name].name, f"{CASES[name].new:,}", *counts, f"{one['cpu']:.2f}", f"{one['seconds']:.2f}"
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for what, (share, most) in ratios(found).items():
        console.print(f"{what:60} {share:5.2f}, at most {most:.2f}")


if __name__ == "__main__":
    main()
