"""Three hundred feeds over three years in Dagster, against eight: what loading, one export and a tick cost.

    python benchmarks/dagster_feeds.py [--feeds 300] [--few 8] [--years 3] [--rounds 3] [--output FILE]

Makes two projects, each with a lake of its own: two streams to one table, several time zones, a cron expression
of its own for every third feed, a row a month in each stream and every day read. One stream has all its days in
Dagster as well. A project of assets that do nothing, with five checks each, shows what Dagster itself needs.
Prints a Markdown table of medians and ratios: CPU seconds of fresh processes, and of ticks within one process;
seconds of the requests that show an asset's page. `--output` writes the table to a file as well.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click
import pyarrow as pa
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.feeds.model import FEED_ADAPTER, StreamFeed
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.schema import arrow_schema, parse_schema

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo")
LOCATION = ("-m", "ksql_lake.definitions")
EVENTS = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT")
USERS = parse_schema("`ID` BIGINT KEY, `N` BIGINT")
SENSORS = ("streams_due", "tables_due", "lake_in_step", "feed_files", "run_failures", "failed_checks")
"""The sensors that a project has running, exports by the clock included."""

_PAGE = """query($path: [String!]!) {assetNodeOrError(assetKey: {path: $path}) {... on AssetNode {
  id description groupName opVersion owners {__typename} kinds
  metadataEntries {label} hasMaterializePermission
  partitionStats {numMaterialized numPartitions numFailed}
  assetPartitionStatuses {... on TimePartitionStatuses {ranges {startKey endKey status}}}
  assetMaterializations(limit: 100) {partition timestamp metadataEntries {label}}
  dependencyKeys {path} dependedByKeys {path}
  assetChecksOrError {... on AssetChecks {checks {name executionForLatestMaterialization {status}}}}}}}"""
_GRAPH = "{assetNodes {id assetKey {path} groupName dependencyKeys {path} kinds isPartitioned}}"

Figures = dict[str, float]


@dataclass(frozen=True)
class Place:
    """A project of so many feeds.

    Attributes:
        folder: Where feeds, lake and DAGSTER_HOME are.
        server: Address of the ksqlDB server.
        feed: The stream that has its days in Dagster, and is exported.
        day: The day that is exported.
    """

    folder: Path
    server: str
    feed: str
    day: date

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        return {
            **os.environ,  # noqa: TID251 - handed on, not read
            "KSQLDB_URL": self.server,
            "KSQL_LAKE_ROOT": str(self.folder / "lake"),
            "KSQL_LAKE_FEEDS": str(self.folder / "feeds"),
            "DAGSTER_HOME": str(self.folder / "home"),
        }


def write_sources(folder: Path, count: int) -> None:
    """Write as many sources as there are feeds, with one row each."""
    statements = []
    for number in range(count):
        if number % 3 == 2:
            statements.append(
                f"CREATE TABLE S{number:03} AS SELECT ID, COUNT(*) AS N FROM S{number - 1:03} GROUP BY ID;"
            )
        else:
            statements.append(
                f"CREATE STREAM S{number:03} (ID BIGINT) "
                f"WITH (KAFKA_TOPIC='s{number:03}', VALUE_FORMAT='JSON', PARTITIONS=1);"
            )
    (folder / "1_sources.sql").write_text("\n".join(statements), encoding="utf-8")


def make(folder: Path, count: int, years: int, server: str) -> Place:
    """Write the feeds and land what the lake is to hold."""
    for name in ("feeds/active", "home"):
        (folder / name).mkdir(parents=True)
    today = datetime.now(UTC).date()
    start, lake = today - timedelta(days=365 * years), Lake(folder / "lake")
    for number in range(count):
        keys: dict[str, object] = {"name": f"s{number:03}", "source": f"S{number:03}"}
        if number % 3 == 2:
            keys |= {"kind": "table"}
        else:
            keys |= {"kind": "stream", "start_date": start.isoformat(), "timezone": ZONES[number // 3 % 4]}
        if number % 3 == 1:
            keys["schedule"] = f"{number % 60} {number % 24} * * *"
        (folder / "feeds" / "active" / f"s{number:03}.json").write_text(json.dumps(keys), encoding="utf-8")
        land(lake, keys, start, today)
    return Place(folder, server, "s000", today - timedelta(days=1))


def land(lake: Lake, keys: Mapping[str, object], start: date, today: date) -> None:
    """Land a row a month of a stream, or one version of a table, in one commit."""
    feed = FEED_ADAPTER.validate_python(keys)
    stream = isinstance(feed, StreamFeed)
    last = today - timedelta(days=2)
    read = ReadFacts(
        source=feed.source,
        statement="SELECT ...;",
        read_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        first_day=start.isoformat() if stream else None,
        last_day=last.isoformat() if stream else None,
    )
    if stream:
        days = range(0, (last - start).days, 30)
        noons = [datetime.combine(start + timedelta(days=day), datetime.min.time(), UTC) for day in days]
        rows = [{"ROWTIME": noon + timedelta(hours=12), "ID": at} for at, noon in enumerate(noons)]
    else:
        rows = [{"ID": number, "N": 1} for number in range(100)]
    schema = EVENTS if stream else USERS
    window = (start, last) if stream else None
    with lake.feed(feed).stage(schema, read=read, days=window) as staging:
        staging.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(schema)))
        staging.commit()


def process(place: Place, *arguments: str) -> float:
    """Run Python in the project and return the CPU seconds that it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=place.folder, env=place.environment, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout.decode() + done.stderr.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ticks(place: Place) -> Figures:
    """Evaluate each running sensor in one fresh process, the second time for the figure."""
    told = subprocess.run(
        [sys.executable, __file__, "--ticks"],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        check=True,
    )
    figures: Figures = json.loads(told.stdout.decode().splitlines()[-1])
    return figures


def tick_all() -> None:
    """Print what each sensor's tick costs in this process, in CPU seconds; all that is due is long ago."""
    import dagster as dg  # noqa: PLC0415 - its import is not what is measured

    from ksql_lake.definitions import ksql_lake  # noqa: PLC0415

    repository, figures = ksql_lake().get_repository_def(), Figures()
    with dg.DagsterInstance.get() as instance:
        for name in SENSORS:
            cursor = None
            for _ in range(2):
                context = dg.build_sensor_context(instance, cursor=cursor, repository_def=repository)
                busy = time.process_time()
                cursor = repository.get_sensor_def(name).evaluate_tick(context).cursor
                what = "1,000 days to record" if name == "lake_in_step" else "nothing due"
                figures[f"tick of `{name}`, {what}"] = time.process_time() - busy
        cursor = json.dumps({"since": "2020-01-01T00:00:00+00:00", "waiting": {}})
        context = dg.build_sensor_context(instance, cursor=cursor, repository_def=repository)
        busy = time.process_time()
        repository.get_sensor_def("streams_due").evaluate_tick(context)
        figures["tick of `streams_due`, every stream due"] = time.process_time() - busy
    click.echo(json.dumps(figures))


@contextmanager
def web_server(place: Place) -> Iterator[str]:
    """Yield the address of Dagster's web server on the project."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", *LOCATION, "-h", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command,
        cwd=place.folder,
        env=place.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}/graphql"
            while server.poll() is None and not _loaded(url):
                time.sleep(0.5)
            yield url
        finally:
            server.terminate()


def _loaded(url: str) -> bool:
    try:
        return bool(ask(url, _GRAPH)["assetNodes"])
    except requests.ConnectionError:
        return False


def ask(url: str, query: str, **variables: object) -> dict[str, list[object]]:
    """Ask GraphQL as the UI does."""
    told = requests.post(url, json={"query": query, "variables": variables}, timeout=600).json()
    if "errors" in told:
        raise SystemExit(json.dumps(told["errors"], indent=2))
    data: dict[str, list[object]] = told["data"]
    return data


def pages(place: Place, rounds: int) -> Figures:
    """Return the seconds that the requests behind an asset's page and the graph take."""
    with web_server(place) as url:
        asked: dict[str, Callable[[], object]] = {
            "asset page, its days included (seconds)": lambda: ask(url, _PAGE, path=[place.feed]),
            "asset graph (seconds)": lambda: ask(url, _GRAPH),
        }
        return {what: statistics.median(_seconds(one) for _ in range(rounds)) for what, one in asked.items()}


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def measure(place: Place, rounds: int, feeds: int) -> Figures:
    """Return the medians of everything in one project."""
    # The first process creates the databases, and the stream's days are recorded once.
    process(place, "-c", _RECORD.format(feed=place.feed))
    load = (
        "from ksql_lake.definitions import ksql_lake; ksql_lake().get_repository_def().load_all_definitions()"
    )
    select = ("--select", place.feed, "--partition", place.day.isoformat())
    (place.folder / "bare.py").write_text(_BARE.format(feeds=feeds), encoding="utf-8")
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        for what, arguments in (
            ("load the code location", ("-c", load)),
            ("`dagster definitions validate`", ("-m", "dagster", "definitions", "validate", *LOCATION)),
            (
                "`dagster asset materialize`, one day",
                ("-m", "dagster", "asset", "materialize", *LOCATION, *select),
            ),
            (
                "the same in a project of assets that do nothing",
                ("-m", "dagster", "asset", "materialize", "-m", "bare", *select),
            ),
        ):
            figures.setdefault(what, []).append(process(place, *arguments))
        for what, cost in ticks(place).items():
            figures.setdefault(what, []).append(cost)
    return {
        **{what: statistics.median(costs) for what, costs in figures.items()},
        **pages(place, rounds),
        **instigators(place),
    }


_BARE = """
import dagster as dg


def bare(number):
    key = dg.AssetKey(f"s{{number:03}}")
    names = ("one", "two", "three", "four", "five")

    @dg.asset(
        key=key,
        partitions_def=dg.DailyPartitionsDefinition("2023-01-01", end_offset=1),
        check_specs=[dg.AssetCheckSpec(name, asset=key) for name in names],
        deps=[f"source_{{number}}"],
    )
    def asset(context):
        yield dg.Output(None)
        for name in names:
            yield dg.AssetCheckResult(check_name=name, passed=True)

    return asset


@dg.io_manager
def nothing(_context):
    class Nothing(dg.IOManager):
        def handle_output(self, context, obj): ...
        def load_input(self, context): ...

    return Nothing()


defs = dg.Definitions(assets=[bare(number) for number in range({feeds})], resources={{"io_manager": nothing}})
"""

_RECORD = """
import dagster as dg
from ksql_lake.feeds import FeedStore
from ksql_lake.orchestration.scope import Scope
from ksql_lake.orchestration.sync import sync_feed
from ksql_lake.settings import load_settings
settings = load_settings()
with dg.DagsterInstance.get() as instance:
    feed = FeedStore(settings.feeds_root).load().get({feed!r})
    print(sync_feed(Scope(settings), feed, instance, limit=10**6).said)
"""


def instigators(place: Place) -> Figures:
    """Return how many schedules and sensors there are, those that start runs by the clock apart."""
    code = (
        "from ksql_lake.definitions import ksql_lake; found = ksql_lake().get_repository_def(); "
        "due = [each for each in found.sensor_defs if each.name.endswith(('_due', '_closing'))]; "
        "print(len(found.schedule_defs) + len(due), len(found.sensor_defs) - len(due))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=place.folder, env=place.environment, capture_output=True, check=True
    )
    clocks, others = told.stdout.decode().split()[-2:]
    return {"schedules, and sensors of what is due": float(clocks), "other sensors": float(others)}


def table(few: Figures, many: Figures, counts: tuple[int, int]) -> str:
    """Return both as a Markdown table."""
    lines = [f"| CPU seconds, median | {counts[0]} feeds | {counts[1]} feeds | ratio |", "|---|---|---|---|"]
    for what, small in few.items():
        shown = [f"{each:.0f}" if float(each).is_integer() else f"{each:.3f}" for each in (small, many[what])]
        lines.append(f"| {what} | {shown[0]} | {shown[1]} | {many[what] / small if small else 0:.2f} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--feeds", default=300, show_default=True)
@click.option("--few", default=8, show_default=True, help="What it is compared with.")
@click.option("--years", default=3, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="A file for the table.")
@click.option("--ticks", "only_ticks", is_flag=True, hidden=True)
def main(*, feeds: int, few: int, years: int, rounds: int, output: Path | None, only_ticks: bool) -> None:
    """Measure and print."""
    if only_ticks:
        tick_all()
        return
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "sources").mkdir()
        write_sources(folder / "sources", feeds)
        with DevServer.start(data=folder / "sources") as server:
            places = [make(folder / str(count), count, years, server.url) for count in (few, feeds)]
            small, large = measure(places[0], rounds, few), measure(places[1], rounds, feeds)
    shown = table(small, large, (few, feeds))
    click.echo(shown)
    if output is not None:
        output.write_text(shown, encoding="utf-8")


if __name__ == "__main__":
    main()
