"""Rows straight into a lake, for tests of the lake alone: no server, no decoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from ksql_lake.feeds.model import FEED_ADAPTER, Feed, StreamFeed, TableFeed
from ksql_lake.lake import Commit, Lake, ReadFacts
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.schema import Schema, arrow_schema, parse_schema

Row = dict[str, Any]

EVENTS = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `NOTE` STRING")
USERS = parse_schema("`ID` BIGINT KEY, `NAME` STRING")
FIRST = date(2025, 1, 15)


def stream_feed(**keys: object) -> StreamFeed:
    """A stream feed named `events`."""
    given = {"name": "events", "kind": "stream", "source": "EVENTS", "start_date": "2025-01-01", **keys}
    feed = FEED_ADAPTER.validate_python(given)
    assert isinstance(feed, StreamFeed)
    return feed


def table_feed(**keys: object) -> TableFeed:
    """A table feed named `users`."""
    feed = FEED_ADAPTER.validate_python({"name": "users", "kind": "table", "source": "USERS", **keys})
    assert isinstance(feed, TableFeed)
    return feed


def event(number: int, *, day: int = 0, note: str | None = "n") -> Row:
    """An event of the given day (0 is 2025-01-15), a second per number after its midnight."""
    midnight = datetime.combine(FIRST + timedelta(days=day), datetime.min.time(), UTC)
    return {"ROWTIME": midnight + timedelta(seconds=number), "ID": number, "NOTE": note}


def land_rows(  # noqa: PLR0913 - what a test varies
    lake: Lake,
    feed: Feed,
    rows: Iterable[Row],
    *,
    schema: Schema | None = None,
    days: int = 3,
    version: int | None = None,
    read_at: str = "2025-01-19T00:00:00.000+00:00",
    origin: Origin | None = None,
) -> Commit:
    """Stage rows in batches of 1000 and commit them; with an origin the first rows pin their meaning."""
    columns = schema or (EVENTS if feed.kind == "stream" else USERS)
    arrow = arrow_schema(columns)
    window = (FIRST, FIRST + timedelta(days=days - 1)) if feed.kind == "stream" else None
    read = ReadFacts(
        source=feed.source,
        statement="SELECT ...;",
        read_at=read_at,
        first_day=window[0].isoformat() if window else None,
        last_day=window[1].isoformat() if window else None,
    )
    listed: Sequence[Row] = list(rows)
    with lake.feed(feed).stage(columns, read=read, days=window, origin=origin) as staging:
        for start in range(0, len(listed), 1000):
            staging.write(pa.RecordBatch.from_pylist(listed[start : start + 1000], schema=arrow))
        return staging.commit(version=version)


def held_rows(lake: Lake, feed: Feed) -> Counter[str]:
    """Every committed row as text, with its multiplicity, by our own reader."""
    table = lake.feed(feed).dataset().to_table()
    return Counter(repr(sorted(row.items(), key=lambda item: item[0])) for row in table.to_pylist())
