"""From the shell's prompt to done: a fresh process exports a table of 1,000 rows, against three bare imports.

    python benchmarks/cold_start.py [ROUNDS]

Prints medians of seconds and CPU seconds, in turns, of `ksql-lake export --table user_transaction_summary`
(without Dagster) and of `python -c "import pyarrow.parquet, duckdb, requests"`, and the ratios. Run it in the
project folder, where the sample's feed files are.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ksql_lake.devserver.process import DevServer

IMPORTS = [sys.executable, "-c", "import pyarrow.parquet, duckdb, requests"]
EXPORT = [
    str(Path(sys.executable).with_name("ksql-lake")),
    "export",
    "--table",
    "user_transaction_summary",
]


def timed(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Run a command; give its seconds and CPU seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: list[str]) -> None:
    """Measure and print."""
    imports, exports = list[tuple[float, float]](), list[tuple[float, float]]()
    # One user per 20 rows of the stream; each round writes the table's next version.
    sample = ["--sample-rows", "20000", "--sample-days", "1"]
    with DevServer.start(sample=True, arguments=sample) as server, tempfile.TemporaryDirectory() as folder:
        environment = {"KSQLDB_URL": server.url, "KSQL_LAKE_ROOT": folder}
        for _ in range(int(arguments[0]) if arguments else 7):
            imports.append(timed(IMPORTS))
            exports.append(timed(EXPORT, environment))
    for number, what in enumerate(("seconds", "CPU seconds")):
        bare, whole = (statistics.median(one[number] for one in several) for several in (imports, exports))
        print(f"{what:12} imports {bare:5.2f}  export {whole:5.2f}  ratio {whole / bare:4.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
