"""Feeds: one JSON file each, with the source, how it is exported and when."""

from __future__ import annotations

from ksql_lake.feeds.collection import FeedFile, Feeds, QuarantinedFile, streams_of, tables_of
from ksql_lake.feeds.model import Feed, PositionNames, StreamFeed, TableFeed
from ksql_lake.feeds.naming import feed_name
from ksql_lake.feeds.store import FeedStore, feed_json_schema
from ksql_lake.feeds.validation import parse_feed

__all__ = [
    "Feed",
    "FeedFile",
    "FeedStore",
    "Feeds",
    "PositionNames",
    "QuarantinedFile",
    "StreamFeed",
    "TableFeed",
    "feed_json_schema",
    "feed_name",
    "parse_feed",
    "streams_of",
    "tables_of",
]
