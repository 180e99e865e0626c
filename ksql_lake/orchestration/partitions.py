"""Partitions in Dagster: days of streams, versions of tables. The running day is no partition yet."""

# All streams of one time zone share one daily definition, so that one run, one backfill and one query can
# cover them.

from collections.abc import Iterable, Mapping
from datetime import date, datetime

import dagster as dg

from ksql_lake.export.version_keys import open_version
from ksql_lake.feeds import Feeds, StreamFeed, TableFeed
from ksql_lake.orchestration.internals import PartitionsStore
from ksql_lake.orchestration.scope import Scope


def first_days(feeds: Iterable[StreamFeed]) -> dict[str, date]:
    """Return the first day of each time zone: the earliest `start_date` of its feeds."""
    starts: dict[str, date] = {}
    for feed in feeds:
        starts[feed.timezone] = min(feed.start_date, starts.get(feed.timezone, feed.start_date))
    return starts


def zone_starts(feeds: Feeds) -> dict[str, date]:
    """Return the first day of each time zone by every feed file, those that export nothing included.

    So that days do not come and go, for assets below other feeds too, when a feed is disabled or broken.
    """
    starts = first_days(file.feed for file in feeds.files if isinstance(file.feed, StreamFeed))
    for file in feeds.quarantined:
        zone, start = file.gleaned.get("timezone", "UTC"), file.gleaned.get("start_date", "")
        if zone in starts:
            starts[zone] = min([starts[zone], *dates_in(start)])
    return starts


def dates_in(text: str) -> list[date]:
    """Return the date that a text is; none where it is none."""
    try:
        return [date.fromisoformat(text)]
    except ValueError:
        return []


def daily_partitions(starts: Mapping[str, date]) -> dict[str, dg.DailyPartitionsDefinition]:
    """Return one daily definition per time zone, beginning with its first day."""
    return {zone: days_since(start, zone) for zone, start in starts.items()}


def days_since(start: date, zone: str) -> dg.DailyPartitionsDefinition:
    """Return the days of a time zone from one on."""
    return dg.DailyPartitionsDefinition(start.isoformat(), timezone=zone, end_offset=0)


def version_partitions(feed: TableFeed, scope: Scope) -> dg.DynamicPartitionsDefinition:
    """Return the dynamic partitions of one table; the open version is one although no instance offers it.

    So `dagster asset materialize --partition v4` works where v3 is the newest, and v1 in a fresh DAGSTER_HOME,
    although loading the definitions writes nothing anywhere.
    """
    made, lake = dg.DynamicPartitionsDefinition(name=scope.versions(feed.name)), scope.lake.feed(feed)
    offered = made.has_partition_key

    def has_partition_key(
        partition_key: str,
        current_time: datetime | None = None,
        dynamic_partitions_store: PartitionsStore | None = None,
    ) -> bool:
        return partition_key == open_version(lake.state()) or offered(
            partition_key, current_time, dynamic_partitions_store
        )

    # Not a class of its own: Dagster refuses to load an asset below that has the same partitions, unless both
    # definitions are of the very same type.
    made.has_partition_key = has_partition_key  # type: ignore[method-assign]
    return made
