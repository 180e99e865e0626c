"""Whether a feed's `event_time` counts what the feed says, judged by one row of a source that seems empty.

Seconds taken for milliseconds lie in January 1970, microseconds in a far future: every window is empty, and
every day would be closed without a row.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from ksql_lake.errors import ConfigError, KsqlLakeError
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.ksqldb import KsqlClient, quote_identifier
from ksql_lake.ksqldb.clock import first_number
from ksql_lake.lake.days import UNITS

_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_LIKELY = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
"""Between these an event is likely to have happened; a number fits in with one unit only."""

_log = logging.getLogger(__name__)


def check_unit(feed: StreamFeed, event_type: str, client: KsqlClient) -> None:
    """Look at one row, without any condition, where a window held none.

    Args:
        feed: The feed.
        event_type: ksqlDB type of its event-time column.
        client: The server.

    Raises:
        ConfigError: The column counts in another unit than the feed says.
    """
    if feed.event_time == "ROWTIME" or event_type != "BIGINT":
        return
    try:
        found = first_number(client, feed.source, quote_identifier(feed.event_time))
    except (KsqlLakeError, ValueError) as error:
        _log.info("%s: no row can be looked at: %s", feed.name, error)
        return
    if found is None or _likely(found, feed.event_time_unit):
        return
    unit = next((unit for unit in UNITS if _likely(found, unit)), None)
    if unit is not None:
        raise ConfigError(
            f"no row of {feed.source} lies in these days, but a row has {feed.event_time} {found}: it seems to "
            f"count {_NAMES[unit]} ({_moment(found, unit):%Y-%m-%d %H:%M} UTC), not "
            f"{_NAMES[feed.event_time_unit]}",
            hint=f'Nothing was closed. Set "event_time_unit": "{unit}" in the feed file, or name '
            f"another column "
            "in `event_time`, and export again: every day is read anew.",
            feed=feed.name,
        )


def _likely(number: int, unit: str) -> bool:
    milliseconds = _milliseconds(number, unit)
    first, last = (edge.timestamp() * 1000 for edge in _LIKELY)
    return first <= milliseconds < last


def _milliseconds(number: int, unit: str) -> int:
    times, parts = UNITS[unit]
    return number * times // parts


def _moment(number: int, unit: str) -> datetime:
    return datetime.fromtimestamp(_milliseconds(number, unit) / 1000, UTC)
