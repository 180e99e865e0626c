"""What a diff of two versions of a table costs against DuckDB's own full outer join of the same two files.

    python benchmarks/diff.py [--rows 1000000] [--rounds 5] [--updated 5] [--churned 1]

Makes a lake with two versions: some per cent of the rows updated, some deleted and as many inserted, the files
in different orders, as ksqlDB sends them. Both contestants run in turn, each in a process of its own with the
same DuckDB settings; each round prints seconds, CPU seconds and the process's peak memory. DuckDB's own join
compares every column and only counts; the diff also keeps, names and orders what changed, and hands it all over
as Arrow.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.lake.rows.scan import spilling
from ksql_lake.query.table_diff import MEMORY, diff_versions
from ksql_lake.schema import arrow_schema, parse_schema

FEED = FEED_ADAPTER.validate_python({"name": "users", "kind": "table", "source": "USERS"})
SCHEMA = parse_schema(
    "`ID` BIGINT KEY, `NAME` STRING, `AMOUNT` DOUBLE, `BALANCE` DECIMAL(18, 2), `ACTIVE` BOOLEAN, "
    "`SEEN` TIMESTAMP, `AGE` INTEGER, `CITY` STRING, `NOTE` STRING, `VISITS` BIGINT"
)
VALUES = [column.name for column in SCHEMA if not column.key]


def fill(root: Path, rows: int, updated: float, churned: float) -> None:
    """Land the two versions."""
    gone = int(rows * churned / 100)
    every = round(100 / updated) if updated else rows * 2
    visits = f"hash(i + 11) % 1000 + CASE WHEN v = 1 AND i % {every} = 0 THEN 1 ELSE 0 END"
    for version in (0, 1):
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        made = connection.sql(
            f"""
            SELECT i::BIGINT AS ID, 'user_' || i AS NAME, (hash(i) % 100000) / 7.0::DOUBLE AS AMOUNT,
                (hash(i + 1) % 1000000)::DECIMAL(18, 2) AS BALANCE, hash(i * 3) % 5 = 0 AS ACTIVE,
                make_timestamptz((1736121600000 + (hash(i) % 1000000000)::BIGINT) * 1000) AS SEEN,
                (hash(i + 5) % 50)::INTEGER AS AGE, 'city ' || (hash(i * 7) % 500) AS CITY,
                'note ' || md5(i::VARCHAR) AS NOTE, ({visits})::BIGINT AS VISITS
            FROM (SELECT range AS i, {version} AS v FROM range({gone * version}, {rows + gone * version}))
            ORDER BY hash(i + v)
            """
        )
        read = ReadFacts(
            source="USERS", statement="SELECT ...;", read_at=f"2025-01-0{version + 1}T00:00:00+00:00"
        )
        with Lake(root).feed(FEED).stage(SCHEMA, read=read) as staging:
            for batch in made.to_arrow_reader(50_000):
                staging.write(batch.cast(arrow_schema(SCHEMA)))
            staging.commit()


def our_diff(root: Path) -> int:
    """The diff, every change handed over."""
    with diff_versions(Lake(root).feed(FEED), 1, 2) as found:
        return sum(batch.num_rows for batch in found.batches())


def own_join(root: Path) -> int:
    """DuckDB's full outer join of the two files, every column compared, differing rows counted."""
    old, new = (next(root.glob(f"tables/users/version=v{number}/*.parquet")) for number in (1, 2))
    differing = " OR ".join(f"o.{name} IS DISTINCT FROM n.{name}" for name in VALUES)
    limit, threads = MEMORY[0]
    with spilling(root, limit, threads) as connection:
        (found,) = connection.execute(
            f"SELECT count(*) FILTER ({differing}) FROM read_parquet('{old}') AS o "
            f"FULL JOIN read_parquet('{new}') AS n ON o.ID = n.ID"
        ).fetchone() or (0,)
    return int(found)


CONTESTANTS = {"diff": our_diff, "join": own_join}


def run(name: str, root: Path) -> None:
    """Run one contestant here and print what it took."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu, began = used.ru_utime + used.ru_stime, time.perf_counter()
    found = CONTESTANTS[name](root)
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(found, seconds, used.ru_utime + used.ru_stime - cpu, high_water_mark())


def high_water_mark() -> float:
    """The process's peak resident memory in MB of 1,000,000 bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main() -> None:
    """Make the lake, let both run in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updated", type=float, default=5, help="per cent of the rows")
    parser.add_argument("--churned", type=float, default=1, help="per cent deleted, and as many inserted")
    parser.add_argument("--run", nargs=2, metavar=("CONTESTANT", "LAKE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        run(asked.run[0], Path(asked.run[1]))
        return
    taken: dict[str, list[list[float]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), asked.rows, asked.updated, asked.churned)
        for number in range(asked.rounds):
            for name in sorted(CONTESTANTS, reverse=bool(number % 2)):
                command = [sys.executable, __file__, "--run", name, folder]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found, *figures = map(float, said.split())
                taken[name].append(figures)
                print(
                    f"{name:5} {found:>9,.0f} differ, {figures[0]:5.2f} s, {figures[1]:5.2f} s CPU, "
                    f"peak {figures[2]:4.0f} MB",
                    flush=True,
                )
    wall, cpu, peak = (
        {name: statistics.median(figures[at] for figures in rounds) for name, rounds in taken.items()}
        for at in range(3)
    )
    print(f"diff / join, medians: {cpu['diff'] / cpu['join']:.2f} of the CPU (at most 2), ", end="")
    print(f"{wall['diff'] / wall['join']:.2f} of the time; peak {peak['diff']:.0f} MB (below 1,000)")


if __name__ == "__main__":
    main()
