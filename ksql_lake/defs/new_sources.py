"""The sensor that proposes a feed file for each new source of the server; off until somebody switches it on.

It writes into `feeds/proposed/`, where nothing is exported from, and never into `feeds/active/`: which data is
wanted is a person's decision (`ksql-lake feeds accept NAME`). What it proposed once it does not propose again,
so that a proposal which was deleted stays away. Where the folder cannot be written, the tick still shows the
text.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from ksql_lake.defs.failures import failure
from ksql_lake.errors import FeedError, KsqlLakeError
from ksql_lake.export.uncovered import HOW, UncoveredSource, uncovered
from ksql_lake.feeds import Feeds, FeedStore, feed_name
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.settings import load_settings

SENSOR_SECONDS = 3600

_SHOWN = 10
"""How many proposals one tick shows in full."""


def new_sources_sensor(feeds_root: Path) -> dg.SensorDefinition:
    """Give the sensor over the server's sources and this folder of feeds."""

    @dg.sensor(
        name="new_sources",
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Asks the server for sources that no feed exports, one DESCRIBE each, and proposes a feed "
        "file for each new one in feeds/proposed; accept one with: ksql-lake feeds accept NAME.",
    )
    def new_sources(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        store = FeedStore(feeds_root)
        try:
            feeds = store.load()
            with KsqlClient(load_settings(attempts=1)) as client:
                found = uncovered(client, feeds, today=datetime.now(UTC).date())
        except KsqlLakeError as error:
            raise failure(error) from error
        known = set(json.loads(context.cursor)) if context.cursor else set()
        new = [source for source in found if source.name not in known and not _broken(source, feeds)]
        said = [_propose(source, store, shown=at < _SHOWN) for at, source in enumerate(new)]
        # What is gone from the server is forgotten: should it come back, it is new again.
        kept = known.intersection(source.name for source in found) | {source.name for source in new}
        return dg.SensorResult(
            skip_reason="\n\n".join(said) or f"{len(found)} sources without a feed, none of them new.",
            cursor=json.dumps(sorted(kept)),
        )

    return new_sources


def _broken(source: UncoveredSource, feeds: Feeds) -> bool:
    """Tell whether there is a feed file for this source that cannot be read at the moment."""
    return feed_name(source.name) in {file.name for file in feeds.quarantined}


def _propose(source: UncoveredSource, store: FeedStore, *, shown: bool) -> str:
    days = {"start_date": source.first_day} if source.kind == "stream" else {}
    feed = source.feed_with(**days)
    try:
        path = store.propose(feed)
        said = f"{source.name} is new. Proposed: {path}\nAccept it with: ksql-lake feeds accept {feed.name}"
    except FeedError as error:
        said = f"{source.name} is new. A proposal for feeds/active was not written: {error}"
    if source.reason:
        said += f"\nIt is {HOW[source.extraction]}: {source.reason}."
    return f"{said}\n{store.text(feed)}".strip() if shown else said
