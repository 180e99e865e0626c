"""What asking the lake costs against DuckDB over the same files, named by hand.

    python benchmarks/asking.py [--feeds 4] [--feeds 200] [--days 71] [--rows 500] [--versions 7] [--keys 20000]

Makes one stream and one table and copies both until there are as many feeds. Each question is asked in turn
by us and by DuckDB, each on a new connection; medians of the rounds in seconds of CPU, of all threads, and
ours as a multiple of DuckDB's. DuckDB's own history is a table of states that was written before.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from ksql_lake.feeds import FeedStore
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.query import connect
from ksql_lake.schema import arrow_schema, parse_schema

FIRST = date(2025, 1, 1)
EVENTS = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `AMOUNT` DOUBLE, `NOTE` STRING")
USERS = parse_schema("`ID` BIGINT KEY, `NAME` STRING, `AMOUNT` DOUBLE, `VISITS` BIGINT")
STREAM = FEED_ADAPTER.validate_python(
    {"name": "events", "kind": "stream", "source": "EVENTS", "start_date": str(FIRST)}
)
TABLE = FEED_ADAPTER.validate_python({"name": "users", "kind": "table", "source": "USERS"})
Ask = Callable[[], object]


def fill(root: Path, feeds: int, days: int, rows: int, versions: int, keys: int) -> None:
    """Land the stream and the table, and copy them."""
    lake = Lake(root)
    begin = datetime.combine(FIRST, datetime.min.time(), UTC)
    window = (FIRST, FIRST + timedelta(days=days - 1))
    read = ReadFacts(source="EVENTS", statement="SELECT 1;", read_at="2025-06-01T00:00:00.000+00:00")
    with lake.feed(STREAM).stage(EVENTS, read=read, days=window) as staging:
        for day in range(days):
            found = [
                {
                    "ROWTIME": begin + timedelta(days=day, seconds=at),
                    "ID": at,
                    "AMOUNT": at / 3,
                    "NOTE": f"n{at}",
                }
                for at in range(rows)
            ]
            staging.write(pa.RecordBatch.from_pylist(found, schema=arrow_schema(EVENTS)))
        staging.commit()
    held = dict.fromkeys(range(keys), 0)
    chance = random.Random(1)
    for version in range(1, versions + 1):
        for key in chance.sample(range(keys), keys // 20):
            held[key] = version
        read = ReadFacts(source="USERS", statement="SELECT 1;", read_at=f"{moment(version).isoformat()}")
        found = [{"ID": key, "NAME": f"u{key}", "AMOUNT": key / 3, "VISITS": at} for key, at in held.items()]
        with lake.feed(TABLE).stage(USERS, read=read) as staging:
            staging.write(pa.RecordBatch.from_pylist(found, schema=arrow_schema(USERS)))
            staging.commit()
    for copy in range(2, feeds // 2 + 1):
        for kind, name in (("streams", "events"), ("tables", "users")):
            for folder in (root / kind, root / "metadata" / kind):
                shutil.copytree(folder / name, folder / f"{name}_{copy}")


def moment(version: int) -> datetime:
    """When a version was read."""
    return datetime(2025, 3, version, 6, tzinfo=UTC)


def questions(root: Path, feeds: Path, days: int, versions: int) -> dict[str, tuple[Ask, Ask]]:
    """Return each question as we are asked it, and as DuckDB is."""
    streams = f"read_parquet('{root}/streams/events/*/*/*/*.parquet', hive_partitioning = true)"
    tables = f"read_parquet('{root}/tables/users/*/*.parquet', hive_partitioning = true)"
    last = FIRST + timedelta(days=days - 2)
    by_path = f"year = {last.year} AND month = {last.month} AND day = {last.day}"
    by_time = (
        f"ROWTIME >= TIMESTAMPTZ '{last}T00:00:00Z' AND ROWTIME < TIMESTAMPTZ '{last + timedelta(1)}T00:00:00Z'"
    )
    middle = moment(versions // 2)
    written = f"{feeds}/history.parquet"
    connect(root, feeds).sql(f"COPY (FROM users_history) TO '{written}'")
    then = f"valid_from <= TIMESTAMPTZ '{middle}' AND (valid_to IS NULL OR valid_to > TIMESTAMPTZ '{middle}')"
    version = f"version = 'v{versions // 2}'"

    def ours(sql: str) -> Ask:
        return lambda: connect(root, feeds).sql(sql).fetchall()

    def theirs(sql: str) -> Ask:
        def ask() -> object:
            with duckdb.connect() as connection:
                connection.execute("SET TimeZone = 'UTC'")
                return connection.sql(sql).fetchall()

        return ask

    total = 'SELECT count(*), sum("AMOUNT") FROM'
    return {
        "connect()": (lambda: connect(root, feeds), theirs("SELECT 1")),
        "SHOW TABLES": (ours("SHOW TABLES"), theirs("SHOW TABLES")),
        "one day, path columns": (
            ours(f"{total} events WHERE {by_path}"),
            theirs(f"{total} {streams} WHERE {by_path}"),
        ),
        "one day, ROWTIME": (
            ours(f"{total} events WHERE {by_time}"),
            theirs(f"{total} {streams} WHERE {by_time}"),
        ),
        "table as of a time": (
            ours(f"{total} users__as_of(TIMESTAMPTZ '{middle}')"),
            theirs(f"{total} {tables} WHERE {version}"),
        ),
        "history, one key": (
            ours('SELECT * FROM users_history WHERE "ID" = 77'),
            theirs(f"SELECT * FROM '{written}' WHERE \"ID\" = 77"),
        ),
        "history, as of a time with its times": (
            ours(f"SELECT count(*), max(valid_from) FROM users_history WHERE {then}"),
            theirs(f"SELECT count(*), max(valid_from) FROM '{written}' WHERE {then}"),
        ),
        "one day, NAME__between": (
            ours(f"{total} events__between('{last}T00:00:00Z', '{last + timedelta(1)}T00:00:00Z')"),
            theirs(f"{total} {streams} WHERE {by_time}"),
        ),
        "history, as of a time": (
            ours(f"{total} users_history WHERE {then}"),
            theirs(f"{total} '{written}' WHERE {then}"),
        ),
    }


def main() -> None:
    """Ask, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--feeds", type=int, action="append")
    for name, default in (("days", 71), ("rows", 500), ("versions", 7), ("keys", 20_000), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    print("| feeds | question | ksql-lake, CPU s | DuckDB, CPU s | ratio |\n|---|---|---|---|---|")
    for feeds in given.feeds or [4, 200]:
        with tempfile.TemporaryDirectory() as folder:
            root, files = Path(folder) / "lake", Path(folder) / "feeds"
            files.mkdir()
            for copy in range(1, feeds // 2 + 1):
                ending = "" if copy == 1 else f"_{copy}"
                for feed in (STREAM, TABLE):
                    FeedStore(files).add(feed.model_copy(update={"name": f"{feed.name}{ending}"}))
            fill(root, feeds, given.days, given.rows, given.versions, given.keys)
            for name, contestants in questions(root, files, given.days, given.versions).items():
                times: tuple[list[float], list[float]] = ([], [])
                for _ in range(given.rounds):
                    for ask, taken in zip(contestants, times, strict=True):
                        began = time.process_time()
                        ask()
                        taken.append(time.process_time() - began)
                ours, theirs = map(statistics.median, times)
                print(f"| {feeds} | {name} | {ours:.3f} | {theirs:.3f} | {ours / theirs:.1f} |", flush=True)


if __name__ == "__main__":
    main()
