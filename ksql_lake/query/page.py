"""What the page of a feed says in Markdown, in whatever shows it: what it is, how to read it, a few rows.

Pure but for the sample. It refuses to say what changes with every export; those are facts of the export.
"""

from __future__ import annotations

from dataclasses import dataclass

from ksql_lake.feeds.model import Feed, StreamFeed
from ksql_lake.lake import FeedLake
from ksql_lake.markdown import block, code
from ksql_lake.quantities import count_text
from ksql_lake.query.sample import sample
from ksql_lake.query.snippet import duckdb_snippet

NARROW = 60
"""Characters of a table's heading up to which it fits among the other facts of a page."""

FOLDED = 1000
"""From this many characters on Dagster opens Markdown in a window of its own."""


def description(lake: FeedLake) -> str:
    """Give the feed's own words, what its partitions are, and the SQL that reads it."""
    feed = lake.feed
    said = feed.description.rstrip(".") or f"The ksqlDB {feed.kind} {code(feed.source)} as Parquet"
    sql = block(duckdb_snippet(lake), "sql")
    return f"{said}.\n\n{_about(feed)}\n\nIn DuckDB, without anything of ours:\n\n{sql}"


@dataclass(frozen=True, slots=True)
class PartitionPage:
    """What the page of one day or version shows of its rows.

    Attributes:
        duckdb: SQL that reads it, on one line: pages break text, but not code.
        sample: The first rows as Markdown, of the newest day with rows where the day has none; None where the
            feed wants none shown.
    """

    duckdb: str
    sample: str | None


def partition_page(lake: FeedLake, partition: str) -> PartitionPage:
    """Give what the page of one day or version shows of its rows."""
    sql = " ".join(line.strip() for line in duckdb_snippet(lake, partition).splitlines())
    if not lake.feed.sample_rows:
        return PartitionPage(sql, None)
    rows = sample(lake, partition, rows=lake.feed.sample_rows)
    return PartitionPage(sql, rows if len(rows.partition("\n")[0]) <= NARROW else rows.ljust(FOLDED))


def _about(feed: Feed) -> str:
    if not isinstance(feed, StreamFeed):
        return (
            f"Each version is the whole table {code(feed.source)} at one moment; the newest "
            f"{count_text(feed.retention, 'version')} are kept. Only the open version, the next one, can be "
            "materialized; its key is not offered before it is asked for: *Add a partition*."
        )
    identity = {
        "row": "the lake does not hold",
        "key": f"whose {' and '.join(map(code, feed.identity.columns))} the lake does not hold",
        "offset": "whose Kafka offset the lake does not hold",
    }[feed.identity.by]
    return (
        f"Each partition is a day in {feed.timezone}, by {code(feed.event_time)}, of the stream "
        f"{code(feed.source)}. "
        f"Materializing a day again adds the rows {identity}, and deletes nothing."
    )
