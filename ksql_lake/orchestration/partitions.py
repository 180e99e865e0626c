"""Which partitions Dagster sees: days of streams, versions of tables.

All streams of one time zone share one daily definition, so that one run, one backfill and one query can cover
them together. It refuses to count the running day: a partition exists when its day is over. A table's version
keys are kept in the Dagster instance; the lake says which ones there are.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime

import dagster as dg

from ksql_lake.export.version_keys import open_version
from ksql_lake.feeds.model import StreamFeed, TableFeed
from ksql_lake.lake import FeedLake
from ksql_lake.orchestration.internals import PartitionsStore


def first_days(feeds: Iterable[StreamFeed]) -> dict[str, date]:
    """Give the first day of each time zone: the earliest `start_date` of its feeds."""
    starts: dict[str, date] = {}
    for feed in feeds:
        starts[feed.timezone] = min(feed.start_date, starts.get(feed.timezone, feed.start_date))
    return starts


def daily_partitions(feeds: Iterable[StreamFeed]) -> dict[str, dg.DailyPartitionsDefinition]:
    """Give one daily definition per time zone, beginning with its first day."""
    return {zone: days_since(start, zone) for zone, start in first_days(feeds).items()}


def days_since(start: date, zone: str) -> dg.DailyPartitionsDefinition:
    """Give the days of a time zone from one on."""
    return dg.DailyPartitionsDefinition(start.isoformat(), timezone=zone, end_offset=0)


class VersionPartitions(dg.DynamicPartitionsDefinition):
    """A table's versions, the open one included although the instance does not offer it.

    So `dagster asset materialize --partition v4` works where v3 is the newest, and v1 in a fresh DAGSTER_HOME,
    although loading the definitions writes nothing anywhere.
    """

    open_key: Callable[[], str]

    def has_partition_key(
        self,
        partition_key: str,
        current_time: datetime | None = None,
        dynamic_partitions_store: PartitionsStore | None = None,
    ) -> bool:
        """Whether a run may be started for this key."""
        return partition_key == self.open_key() or super().has_partition_key(
            partition_key, current_time, dynamic_partitions_store
        )


def version_partitions(feed: TableFeed, lake: FeedLake) -> VersionPartitions:
    """Give the dynamic partitions of one table."""
    made = VersionPartitions(name=feed.versions_name)
    made.open_key = lambda: open_version(lake.state())
    return made
