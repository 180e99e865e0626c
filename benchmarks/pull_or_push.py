"""A stream's days by pull query and by push query with offsets: what each takes, and what it proves.

    python benchmarks/pull_or_push.py [rows ...]

Three topics of the same rows: one that another query reads too, so that Kafka's ends of it are known; one that
no query reads; and one whose last records are markers of a transaction. Each is exported first, once
more with nothing new, and a last time with one late row. Prints seconds, the exporting process's CPU seconds,
what was received and the evidence. The server is the stand-in in a process of its own: what it takes itself
says nothing about ksqlDB, and is part of the seconds but not of the CPU time.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import date

import requests
from rich.console import Console
from rich.table import Table

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import Days, extract, land, plan_export
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.quantities import size_text
from ksql_lake.settings import load_settings

DAY = Days(date(2025, 1, 6), date(2025, 1, 6))
FIRST = 1_736_121_600_000
"""2025-01-06, in epoch ms."""
BATCH = 50_000
TOPICS = {"READ": "read by a query", "ALONE": "read by none", "MARKED": "transaction at end"}


def statement(url: str, text: str) -> None:
    """Run a statement."""
    requests.post(f"{url}/ksql", json={"ksql": text}, timeout=60).raise_for_status()


def append(url: str, source: str, numbers: range) -> None:
    """Append rows, in a committed transaction where the topic is to end with one."""
    for start in range(numbers.start, numbers.stop, BATCH):
        some = range(start, min(start + BATCH, numbers.stop))
        lines = "\n".join(
            json.dumps({"ID": number, "NOTE": f"note {number}", "ROWTIME": FIRST + number}) for number in some
        )
        inside = {"transaction": f"t{start}"} if source == "MARKED" else {}
        place = f"{url}/devserver/sources/{source}"
        requests.post(f"{place}/rows", data=lines, params=inside, timeout=600).raise_for_status()
        if inside:
            requests.post(f"{place}/transactions/t{start}/commit", timeout=60).raise_for_status()


def make(url: str, rows: int) -> None:
    """Make the three topics."""
    for source in TOPICS:
        columns = "(ID BIGINT, NOTE STRING)"
        described = f"KAFKA_TOPIC='{source}', PARTITIONS=3, VALUE_FORMAT='JSON'"
        statement(url, f"CREATE STREAM {source} {columns} WITH ({described});")
        if source != "ALONE":
            statement(url, f"CREATE STREAM {source}_BY AS SELECT ID FROM {source} WHERE ID < 0 EMIT CHANGES;")
        append(url, source, range(rows))


def export(url: str, source: str, way: str, root: str) -> list[str]:
    """Export the day; give the figures."""
    given = {"name": f"{source}_{way}".lower(), "kind": "stream", "source": source, "extraction": way}
    feed = FEED_ADAPTER.validate_python({**given, "start_date": "2025-01-06"})
    with KsqlClient(load_settings(ksqldb_url=url)) as client:
        clock, cpu = time.perf_counter(), time.process_time()
        result = land(extract(plan_export(feed, Lake(root), days=DAY), client), Lake(root))
        took, used = time.perf_counter() - clock, time.process_time() - cpu
    read = Lake(root).feed(feed).state().last_read
    judged = f"{read.evidence.level} by {read.judged_by or 'its end'}" if read and read.evidence else "-"
    return [f"{took:.2f}", f"{used:.2f}", size_text(result.bytes_read), f"{result.new:,}", judged]


def main() -> None:
    """Measure and print."""
    table = Table()
    for heading in ("topic", "rows", "export", "way", "seconds", "CPU s", "received", "new", "evidence"):
        table.add_column(heading, no_wrap=True)
    for rows in [int(word) for word in sys.argv[1:]] or [1000, 100_000]:
        with DevServer.start() as server, tempfile.TemporaryDirectory() as root:
            make(server.url, rows)
            export(server.url, "ALONE", "pull", f"{root}/warm")  # what is imported late is imported now
            for source, what in TOPICS.items():
                table.add_section()
                for number, turn in enumerate(("first", "nothing new", "one late row")):
                    if turn == "one late row":
                        append(server.url, source, range(rows, rows + 1))
                    for way in ("pull", "push"):
                        left = [what, f"{rows:,}"] if (number, way) == (0, "pull") else ["", ""]
                        table.add_row(*left, turn, way, *export(server.url, source, way, root))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
