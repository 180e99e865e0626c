"""Eight feeds in one Dagster run, in process, against the same eight exports without Dagster.

    python benchmarks/dagster_run.py [--rows 2000] [--rounds 3]

Both export one day of the sample's streams, each as two feeds, into fresh lakes, in turns. Prints medians of
seconds and CPU seconds, what Dagster adds per feed, and what the first time takes, imports included.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

import click

from ksql_lake.devserver.process import DevServer

DAY = "2025-01-06"
SOURCES = ("TRANSACTION_FLATTENED", "TRANSACTION_STREAM", "CARD_AUTHORIZATIONS", "LOGIN_EVENTS")


def write_feeds(folder: Path) -> None:
    """Write eight feed files."""
    (folder / "active").mkdir(parents=True)
    for source in SOURCES:
        for number in (1, 2):
            name = f"{source.lower()}_{number}"
            feed = {"name": name, "kind": "stream", "source": source, "start_date": DAY}
            (folder / "active" / f"{name}.json").write_text(json.dumps(feed), encoding="utf-8")


def directly(lake: Path) -> None:
    """Export the feeds one after the other."""
    from ksql_lake.export import Days, export_feed  # noqa: PLC0415 - its import is not what is measured
    from ksql_lake.feeds import FeedStore  # noqa: PLC0415
    from ksql_lake.ksqldb import KsqlClient  # noqa: PLC0415
    from ksql_lake.lake import Lake  # noqa: PLC0415
    from ksql_lake.settings import load_settings  # noqa: PLC0415

    settings, day = load_settings(), date.fromisoformat(DAY)
    with KsqlClient(settings) as client:
        for file in FeedStore(settings.feeds_root).load().files:
            export_feed(file.feed, client, Lake(lake), days=Days(day, day))


def in_a_run(lake: Path) -> None:
    """Materialise the feeds in one run, with an instance on disk as a person has it."""
    import dagster as dg  # noqa: PLC0415

    from ksql_lake.orchestration import build_definitions  # noqa: PLC0415
    from ksql_lake.settings import load_settings  # noqa: PLC0415

    job = build_definitions(
        load_settings().model_copy(update={"lake_root": str(lake)})
    ).resolve_implicit_global_asset_job_def()
    names = [f"{source.lower()}_{number}" for source in SOURCES for number in (1, 2)]
    with dg.instance_for_test(temp_dir=str(lake.parent)) as instance:
        done = job.execute_in_process(
            asset_selection=[dg.AssetKey([name]) for name in names], partition_key=DAY, instance=instance
        )
    if not done.success:
        raise SystemExit("the run failed")


@click.command()
@click.option("--rows", default=2_000, show_default=True, help="Rows of the sample's streams.")
@click.option("--rounds", default=3, show_default=True)
def main(*, rows: int, rounds: int) -> None:
    """Measure and print."""
    taken: dict[str, list[tuple[float, float]]] = {}
    arguments = ["--sample-rows", str(rows), "--sample-days", "1"]
    with (
        DevServer.start(sample=True, arguments=arguments) as server,
        tempfile.TemporaryDirectory() as text,
    ):
        folder = Path(text)
        write_feeds(folder / "feeds")
        for name, value in (("KSQLDB_URL", server.url), ("KSQL_LAKE_FEEDS", str(folder / "feeds"))):
            os.environ[name] = value  # noqa: TID251 - read by the settings of both ways
        for number in range(rounds + 1):  # the first round imports
            for way in (directly, in_a_run):
                lake = folder / f"{way.__name__}_{number}" / "lake"
                lake.parent.mkdir()
                began, busy = time.perf_counter(), time.process_time()
                way(lake)
                one = (time.perf_counter() - began, time.process_time() - busy)
                taken.setdefault(way.__name__, []).append(one)
    for way, times in taken.items():
        seconds, cpu = (statistics.median(column) for column in zip(*times[1:], strict=True))
        print(f"{way:10} {seconds:6.2f} s  {cpu:6.2f} CPU s   first time {times[0][0]:6.2f} s")
    more = [
        statistics.median(one[kind] for one in taken["in_a_run"][1:])
        - statistics.median(one[kind] for one in taken["directly"][1:])
        for kind in (0, 1)
    ]
    feeds = 2 * len(SOURCES)
    print(f"Dagster adds {more[0] / feeds * 1000:.0f} ms, {more[1] / feeds * 1000:.0f} CPU ms per feed")


if __name__ == "__main__":
    main()
