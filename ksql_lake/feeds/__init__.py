"""Feeds: what to export, how and when; one JSON file each."""

from __future__ import annotations

from ksql_lake.feeds.collection import FeedFile, Feeds, QuarantinedFile
from ksql_lake.feeds.jsonschema import feed_json_schema
from ksql_lake.feeds.model import Feed, PositionNames, StreamFeed, TableFeed
from ksql_lake.feeds.naming import feed_name
from ksql_lake.feeds.reading import parse_feed
from ksql_lake.feeds.store import FeedStore

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
]
