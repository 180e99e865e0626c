"""The runs that a tick starts for streams: a range of ended days, and the current day."""

# Dagster has no partition for the current day, and a run without a partition cannot feed a partitioned
# downstream asset. A run claims every day of its range for each asset, so streams with different ranges get
# separate runs.

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from ksql_lake.errors import KsqlLakeError
from ksql_lake.export import Days
from ksql_lake.export.export_plan import closed_days_due
from ksql_lake.feeds import StreamFeed
from ksql_lake.lake import Lake
from ksql_lake.orchestration.jobs import run_tags
from ksql_lake.orchestration.scope import Scope

RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")

DAYS_TAG = "ksql_lake/days"
"""The tag of a run without a partition that leaves ended days to another run: `open`."""


def stream_runs(
    streams: Sequence[StreamFeed],
    scope: Scope,
    tick: datetime,
    *,
    job: str | None = None,
    running_day: bool = True,
    now: datetime | None = None,
) -> list[dg.RunRequest]:
    """Return the runs that export streams of one time zone.

    Args:
        streams: The streams.
        scope: Their scope.
        tick: Name of the tick; a repeated evaluation with the same name starts no second run.
        job: The job of the runs; None means that of the sensor.
        running_day: Whether to export the current day too, and with it late rows of days read before.
        now: The current time; for tests.
    """
    if not streams:
        return []
    zone = streams[0].timezone
    ranges: dict[Days, list[StreamFeed]] = defaultdict(list)
    whole, apart = list[StreamFeed](), list[StreamFeed]()
    for feed in streams:
        due = _due(feed, scope.lake, now)
        if due is not None:
            ranges[due].append(feed)
            apart.append(feed)
        elif running_day or feed.extraction != "pull":
            whole.append(feed)
    wanted = [
        (str(days), feeds, dict(zip(RANGE_TAGS, (days.first.isoformat(), days.last.isoformat()), strict=True)))
        for days, feeds in ranges.items()
    ]
    if apart and running_day:
        wanted.append(("running day", apart, {DAYS_TAG: "open"}))
    if whole:
        wanted.append(("all", whole, {}))
    return [
        dg.RunRequest(
            run_key=f"{tick.isoformat()} {zone} {what} {_digest(feeds)}",
            job_name=job,
            asset_selection=scope.keys(feeds),
            tags={**run_tags("streams"), **tags},
        )
        for what, feeds, tags in wanted
    ]


def _digest(feeds: Sequence[StreamFeed]) -> str:
    """What tells a run's feeds apart: a tick that is evaluated again may find others due beside them."""
    return hashlib.sha256(" ".join(feed.name for feed in feeds).encode()).hexdigest()[:12]


def _due(feed: StreamFeed, lake: Lake, now: datetime | None) -> Days | None:
    try:
        return closed_days_due(feed, lake, now=now)
    except KsqlLakeError:
        # The export reports the problem in a run, whose failure raises an alert; the other streams continue.
        return None
