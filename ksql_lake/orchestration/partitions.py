"""Partitions in Dagster: days of streams, versions of tables. The current day is no partition yet."""

# All streams of one time zone share one daily definition, so that one run and one backfill can cover them.

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
    """Return the first day of each time zone over all feed files, also those that export nothing.

    So partitions do not change, also not for assets downstream of other feeds, when a feed is disabled or
    broken.
    """
    starts = first_days(file.feed for file in feeds.files if isinstance(file.feed, StreamFeed))
    for file in feeds.quarantined:
        zone, start = file.gleaned.get("timezone", "UTC"), file.gleaned.get("start_date", "")
        if zone in starts:
            starts[zone] = min([starts[zone], *dates_in(start)])
    return starts


def dates_in(text: str) -> list[date]:
    """Return the date of a text in a list; empty if the text is no date."""
    try:
        return [date.fromisoformat(text)]
    except ValueError:
        return []


def daily_partitions(starts: Mapping[str, date]) -> dict[str, dg.DailyPartitionsDefinition]:
    """Return one daily definition per time zone, beginning with its first day."""
    return {zone: days_since(start, zone) for zone, start in starts.items()}


def days_since(start: date, zone: str) -> dg.DailyPartitionsDefinition:
    """Return the days of a time zone from a first one on."""
    return dg.DailyPartitionsDefinition(start.isoformat(), timezone=zone, end_offset=0)


def version_partitions(feed: TableFeed, scope: Scope) -> dg.DynamicPartitionsDefinition:
    """Return the dynamic partitions of one table; they include the open version, which no instance offers.

    So `dagster asset materialize --partition v4` works if v3 is the newest version, and v1 in a new
    DAGSTER_HOME, although loading the definitions writes nothing.
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

    # Not a subclass: Dagster loads a downstream asset with the same partitions only if both definitions have
    # the same type.
    made.has_partition_key = has_partition_key  # type: ignore[method-assign]
    return made
