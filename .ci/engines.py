"""A small lake that any engine has to read alike: `write FOLDER` makes it, `read FOLDER` asks an engine.

What `ksql-lake schema --dialect trino` says is run by Trino itself, which `trino/RunTrino.java` starts: `trino
FOLDER` compares its answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from decimal import Decimal, localcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SUMS = "count(*), sum(L), count(S), sum(CAST(M AS DECIMAL(38, 4)))"
DAY = "year = 2025 AND month = 1 AND day = 17"
EVENTS = f"SELECT {SUMS} FROM events WHERE {DAY}"
USERS = "SELECT count(*), sum(ID) FROM users_versions WHERE version = 'v4'"
Found = dict[str, list[str]]


def found(events: Any, users: Any) -> Found:
    """What an engine found: rows and sums of one day; rows and keys of one version."""
    return {"events": list(map(str, events)), "users": list(map(str, users))}


def total(values: Iterable[Decimal]) -> Decimal:
    """Add DECIMALs up with all their digits; Python rounds to 28 of its own accord."""
    with localcontext(prec=76):
        return sum(values, Decimal())


def write(folder: Path) -> None:
    """Land rows of every type, write a catalog, and note what everybody has to find."""
    # Readers have no ksql-lake.
    lakes = import_module("ksql_lake_tests.query.lakes")
    made = lakes.EveryType.make(folder)
    catalogs = import_module("ksql_lake.query.sql.database_file")
    catalogs.write_catalog(folder / "lake.duckdb", root=made.lake, feeds=made.feeds, absolute=True)
    connection = import_module("ksql_lake").connect(made.lake, made.feeds)
    told = found(*(connection.execute(query).fetchone() for query in (EVENTS, USERS)))
    (folder / "expected.json").write_text(json.dumps(told))
    dialects = import_module("ksql_lake.query.sql.dialects")
    holdings = import_module("ksql_lake.query.known_feeds").Holdings.open(made.lake, made.feeds)
    said = [dialects.ddl(holdings.lake.feed(feed), "trino") for feed in holdings.feeds]
    users = USERS.replace("users_versions", "users")
    (folder / "trino.sql").write_text("\n".join([*said, f"{EVENTS};", f"{users};"]))


def by_duckdb(duckdb: Any, folder: Path) -> Found:
    """Ask the catalog, and the files."""
    files = f"read_parquet('{folder}/data_lake/streams/events/*/*/*/*.parquet', hive_partitioning = true)"
    with duckdb.connect(str(folder / "lake.duckdb"), read_only=True) as catalog:
        answers = found(*(catalog.execute(query).fetchone() for query in (EVENTS, USERS)))
        ends = "'2025-01-17T00:00:00Z', '2025-01-18T00:00:00Z'"
        ranged = catalog.execute(f"SELECT {SUMS} FROM events__between({ends})").fetchone()
        (plain,) = catalog.execute(f"SELECT count(*) FROM {files} WHERE {DAY}").fetchone()
    same = answers["events"][0] == str(plain) and answers["events"] == list(map(str, ranged))
    return answers if same else {"plain": [str(plain)], "between": list(map(str, ranged))}


def by_pandas(pandas: Any, folder: Path) -> Found:
    """Read two folders as the page of pandas does."""
    streams, tables = folder / "data_lake/streams", folder / "data_lake/tables"
    # Of a folder, as columns have changed; over all of them pyarrow would have to be given the types.
    folder = streams / "events/year=2025/month=01/day=17"
    events = pandas.read_parquet(folder, dtype_backend="pyarrow", columns=["L", "M", "S"])
    version = [("version", "=", "v4")]
    users = pandas.read_parquet(tables / "users", filters=version, dtype_backend="pyarrow")
    # Numpy's integers would have no room for NULL.
    exact = str(events["L"].dtype) == "int64[pyarrow]"
    sums = [len(events), events["L"].sum() if exact else None, events["S"].count(), total(events["M"].dropna())]
    return found(sums, [len(users), sum(map(int, users["ID"]))])


def by_polars(polars: Any, folder: Path) -> Found:
    """Scan the folders as the page of polars does."""
    streams, tables = folder / "data_lake/streams", folder / "data_lake/tables"
    events = polars.scan_parquet(streams / "events/year=2025/month=01/day=17/*.parquet", hive_partitioning=True)
    users = polars.scan_parquet(tables / "users/version=v4/*.parquet", hive_partitioning=True).collect()
    rows = events.select("L", "M", "S").collect()
    sums = [len(rows), rows["L"].sum(), rows["S"].count(), total(rows["M"].drop_nulls().to_list())]
    return found(sums, [len(users), sum(users["ID"].to_list())])


def by_spark(pyspark: Any, folder: Path) -> Found:
    """Read the folders with the wide types."""
    builder = import_module(f"{pyspark.__name__}.sql").SparkSession.builder.master("local[1]")
    for name in ("spark.driver.bindAddress", "spark.driver.host"):
        builder = builder.config(name, "127.0.0.1")
    session = builder.config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    reader = session.read.schema("L BIGINT, M DECIMAL(30, 4), S STRING, year INT, month INT, day INT")
    events = reader.parquet(f"{folder}/data_lake/streams/events").where(DAY)
    users = session.read.parquet(f"{folder}/data_lake/tables/users").where("version = 'v4'")
    return found(
        events.selectExpr("count(*)", "sum(L)", "count(S)", "sum(M)").first(),
        users.selectExpr("count(*)", "sum(ID)").first(),
    )


READERS: dict[str, Callable[[Any, Path], Found]] = {
    "duckdb": by_duckdb,
    "pandas": by_pandas,
    "polars": by_polars,
    "pyspark": by_spark,
}


def compare_trino(folder: Path) -> None:
    """Compare what Trino found, a row a line."""
    answers = json.loads((folder / "expected.json").read_text())
    expected = [f"[{', '.join(answers[name])}]" for name in ("events", "users")]
    answer = (folder / "trino.rows").read_text().splitlines()
    if answer[-2:] != expected:
        sys.exit(f"trino: {answer} is not {expected}")
    sys.stdout.write("trino: the same rows\n")


def main() -> None:
    """Write, or read with every engine that is installed; one that finds anything else ends this."""
    what, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    if what == "write":
        write(folder)
        return
    if what == "trino":
        compare_trino(folder)
        return
    expected = json.loads((folder / "expected.json").read_text())
    tried = [name for name in READERS if find_spec(name)]
    if not tried:
        sys.exit("no engine is installed")
    for name in tried:
        engine = import_module(name)
        answer = READERS[name](engine, folder)
        if answer != expected:
            sys.exit(f"{name} {engine.__version__}: {answer} is not {expected}")
        sys.stdout.write(f"{name} {engine.__version__}: the same rows\n")


if __name__ == "__main__":
    main()
