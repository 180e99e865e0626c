"""What a lake is held to when a crash run is over: nothing acknowledged is lost, nothing doubled, all is sound.

The rows are counted by DuckDB from the Parquet files as they lie in the dataset folder, by no code of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.holdings import check_partitions
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.layout import version_number
from ksql_lake_tests.lake.crashing.source import DAYS, NEVER, Counts, Source, events, snapshot
from ksql_lake_tests.lake.crashing.writers import (
    CONTINUED_FEED,
    FEEDS,
    USERS_FEED,
    export_days,
    export_on,
    export_table,
)
from ksql_lake_tests.stores.places import Place

Finding = tuple[str, str]
"""A kind of finding (`missing`, `double`, `unsound`) and what exactly."""


def judge(
    root: str | Path, source: Source, acknowledged: list[dict[str, Any]], *, tick: int
) -> Iterator[Finding]:
    """Recover every feed, hold it against source and acknowledged commits, export the rest, examine it."""
    for feed in FEEDS:
        mine = [message for message in acknowledged if message["feed"] == feed.name]
        try:
            yield from _judge_feed(root, feed, source, mine, tick)
        except (KsqlLakeError, duckdb.Error, OSError) as error:
            yield "unsound", f"{feed.name}: {error}"


def _judge_feed(
    root: str | Path, feed: Feed, source: Source, acknowledged: list[dict[str, Any]], tick: int
) -> Iterator[Finding]:
    lake = Lake(root).feed(feed)
    numbers = [message["commit"] for message in acknowledged]
    if len(numbers) != len(set(numbers)):
        yield "missing", f"{feed.name}: two writers were told that they have the same commit"
    state = lake.recover()
    if lake.storage.delayed:
        # As each run does before it adds rows: a store may have finished a dead writer's copy after a merge.
        check_partitions(CommitLog(lake.storage, lake.layout), state, state.partition_keys())
    if max(numbers, default=0) > state.sequence:
        yield (
            "missing",
            f"{feed.name}: commit {max(numbers)} acknowledged, the last one is {state.sequence}",
        )
    # Two more commits: the second one clears what killed writers staged for the first one's number.
    if feed is USERS_FEED:
        yield from _judge_versions(root, acknowledged)
        for _ in range(2):
            export_table(lake, tick)
        lake.apply_retention()
    else:
        yield from _judge_promises(root, feed, source, acknowledged, tick)
        if feed is CONTINUED_FEED:
            export_on(lake, source, tick)
        for when in (tick, NEVER):
            export_days(lake, source, when, (0, DAYS - 1))
        yield from differing_rows(root, feed, source, tick)
    for finding in examine(lake.storage, lake.layout).findings:
        yield "unsound", f"{feed.name}: {finding.key}: {finding.problem.value} ({finding.detail})"


@contextmanager
def _files(root: str | Path, feed: Feed) -> Iterator[str]:
    """Yield the feed's files, as they are now, for DuckDB; nothing when there are none."""
    with Place(root).copied(f"{feed.kind}s/{feed.name}") as folder:
        there = next(folder.rglob("*.parquet"), None) is not None
        yield f"read_parquet('{folder}/**/*.parquet', hive_partitioning = false)" if there else ""


def _judge_promises(
    root: str | Path, feed: Feed, source: Source, acknowledged: list[dict[str, Any]], tick: int
) -> Iterator[Finding]:
    """Before anything is exported again: all that was acknowledged is there, and nothing that is no row."""
    promised: Counts = np.zeros_like(source.identity)
    for message in acknowledged:
        promised = np.maximum(promised, source.counts(message["tick"], *message["days"]))
    there: Counts = np.zeros_like(source.identity)
    with _files(root, feed) as files:
        if files:
            found = duckdb.execute(f'SELECT "ID", count(*) FROM {files} GROUP BY "ID"').fetchnumpy()
            there[found["ID"]] = found["count_star()"]
    yield from _differences(feed, "missing", promised > there)
    yield from _differences(feed, "double", there > source.counts(tick))


def _differences(feed: Feed, kind: str, wrong: Any) -> Iterator[Finding]:
    if wrong.any():
        yield kind, f"{feed.name}: {int(wrong.sum())} rows, e.g. ID {int(np.argmax(wrong))}"


def differing_rows(root: str | Path, feed: Feed, source: Source, tick: int) -> Iterator[Finding]:
    """Compare every column of every row, with multiplicity, with the source at a tick."""
    counts = source.counts(tick)
    expected = events(np.repeat(np.arange(len(counts)), counts), source.day)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("expected", expected)
    columns = '"ROWTIME", "ID", "NOTE"'
    with _files(root, feed) as files:
        held = f"SELECT {columns} FROM {files}"
        wanted = f"SELECT {columns} FROM expected"
        for kind, left, right in (("missing", wanted, held), ("double", held, wanted)):
            (rows,) = connection.execute(f"SELECT count(*) FROM ({left} EXCEPT ALL {right})").fetchone() or (0,)
            if rows:
                yield kind, f"{feed.name}: {rows} rows after everything was exported"
    connection.close()


def held_ids(root: str | Path, feed: Feed) -> dict[int, int]:
    """How often each `ID` is in the feed's files, as a reader finds it that globs."""
    with _files(root, feed) as files:
        if not files:
            return {}
        return dict(duckdb.execute(f'SELECT "ID", count(*) FROM {files} GROUP BY "ID"').fetchall())


def _judge_versions(root: str | Path, acknowledged: list[dict[str, Any]]) -> Iterator[Finding]:
    lake = Lake(root).feed(USERS_FEED)
    state = lake.state()
    there = [version_number(key) for key in state.partition_keys()]
    if there and there != list(range(there[0], state.latest_version + 1)):
        yield "missing", f"versions {there}, the newest is v{state.latest_version}"
    told = {message["version"]: message["tick"] for message in acknowledged}
    newest = max(map(version_number, told), default=0)
    if len(told) < len(acknowledged) or newest > state.latest_version:
        yield "missing", f"versions acknowledged: {sorted(told)}; the newest is v{state.latest_version}"
    for number in there:
        rows = lake.dataset(partitions=[f"v{number}"]).to_table(columns=["ID", "NAME"])
        tick = told.get(f"v{number}", int(rows.column("NAME")[0].as_py().split()[1]))
        if not rows.sort_by("ID").equals(snapshot(tick)):
            yield "missing", f"version v{number} is not the table of tick {tick}"
