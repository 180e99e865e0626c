"""What a feed promises of its rows: the checks that every export evaluates, and how bad a failure is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ksql_lake.feeds.model import CheckName, Feed, Severity, StreamFeed

WEEKS = 8
"""How many earlier days of the same weekday a day's volume is compared with, at most."""

SEVERITIES: dict[CheckName, Severity] = {
    "min_records": "warn",
    "not_null": "error",
    "unique": "error",
    "day_boundaries": "block",
    "volume": "warn",
    "shrinkage": "warn",
    "schema_unchanged": "warn",
    "files_match": "block",
    "topic_retention": "error",
    "certificate": "error",
}
"""What a failure means where the feed says nothing; those block that find the lake not as it was committed."""


@dataclass(frozen=True, slots=True)
class CheckAsked:
    """A check that a feed has.

    Attributes:
        asks: What it asks, as one sentence.
        severity: What a failure means: `warn` unusual, `error` wrong, `block` so wrong that nothing may
            build on it.
    """

    asks: str
    severity: Severity


def check_severity(feed: Feed, name: CheckName) -> Severity:
    """Return what a failure of a check means for a feed."""
    return feed.checks.severity.get(name, SEVERITIES[name])


def promises(feed: Feed, topic_retention: str = "") -> dict[str, CheckAsked]:
    """Return the checks of a feed, in order, without those switched off.

    Args:
        feed: The feed.
        topic_retention: How long the topic keeps records, in words, if that is to be watched.
    """
    asks = _asks(feed)
    if topic_retention:
        asks["topic_retention"] = f"Every day is read before Kafka deletes it; it keeps them {topic_retention}."
    asked = {name: CheckAsked(text, check_severity(feed, name)) for name, text in asks.items()}
    return {name: check for name, check in asked.items() if check.severity != "off"}


def _asks(feed: Feed) -> dict[CheckName, str]:
    asked, names = feed.checks, dict[CheckName, str]()
    if asked.min_records is not None:
        names["min_records"] = f"Every closed partition has at least {asked.min_records:,} records."
    if asked.not_null:
        names["not_null"] = f"No NULL in {', '.join(asked.not_null)}."
    if asked.unique:
        names["unique"] = f"No two rows of a partition share {', '.join(asked.unique)}."
    if isinstance(feed, StreamFeed):
        names["day_boundaries"] = f"Every row lies in its own day of {feed.timezone}."
        names["volume"] = f"A closed day has about as many records as that weekday in the {WEEKS} weeks before."
        names["certificate"] = "A closed day holds the rows that were certified when it was read to its end."
    else:
        most = f"{feed.max_shrinkage:.0%}"
        names["shrinkage"] = f"A version has lost at most {most} of the records of the one before."
    names["schema_unchanged"] = "The columns are those of the export before."
    names["files_match"] = "Every committed file is there and has its size."
    return names
