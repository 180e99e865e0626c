"""Peak memory of exporting one large day: prints rows, seconds and megabytes of the exporting process alone.

    python benchmarks/peak_memory.py [ROWS ...]

Each size runs in a process of its own against an embedded server in another one; the figure is the exporting
process's own high-water mark (VmHWM), which counts every page it ever held at once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import Days, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

DAY = date(2025, 1, 6)
FEED = FEED_ADAPTER.validate_python(
    {
        "name": "transaction_flattened",
        "kind": "stream",
        "source": "TRANSACTION_FLATTENED",
        "start_date": DAY.isoformat(),
    }
)


def high_water_mark() -> float:
    """The process's peak resident memory in MB of 1,000,000 bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def export_once(url: str) -> None:
    """Export the day into a throw-away lake, twice, and print one line for each."""
    with tempfile.TemporaryDirectory() as folder, KsqlClient(load_settings(ksqldb_url=url)) as client:
        for what in ("first export", "again, nothing new"):
            began = time.perf_counter()
            result = export_feed(FEED, client, Lake(folder), days=Days(DAY, DAY))
            seconds = time.perf_counter() - began
            print(
                f"{what:20} {result.read:>10,} rows {result.new:>10,} new",
                f"{result.bytes_read / 1e6:>6.0f} MB JSON {result.partitions[0].bytes / 1e6:>6.1f} MB Parquet",
                f"{seconds:>6.1f} s peak {high_water_mark():>5.0f} MB",
                flush=True,
            )


def main(arguments: list[str]) -> None:
    """Measure each size, or one in this process when called with a URL."""
    if arguments and arguments[0].startswith("http"):
        export_once(arguments[0])
        return
    for rows in [int(text) for text in arguments] or [200_000, 2_000_000]:
        with DevServer.start(
            sample=True, arguments=["--sample-rows", str(rows), "--sample-days", "1"]
        ) as server:
            subprocess.run([sys.executable, __file__, server.url], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
