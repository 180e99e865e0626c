"""The checks that every export of a feed evaluates, and the severity of each. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ksql_lake.feeds.model import CheckName, Feed, Severity, StreamFeed

WEEKS = 8
"""The most earlier days of the same weekday with which a day's volume is compared."""

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
"""Default severities; checks that find the lake changed since its commits block."""


@dataclass(frozen=True, slots=True)
class CheckAsked:
    """A check of a feed.

    Attributes:
        asks: The condition that it checks, as one sentence.
        severity: `warn` for unusual data, `error` for wrong data, `block` if nothing below the asset may run.
    """

    asks: str
    severity: Severity


def check_severity(feed: Feed, name: CheckName) -> Severity:
    """Return the severity of a feed's check."""
    return feed.checks.severity.get(name, SEVERITIES[name])


def promises(feed: Feed, topic_retention: str = "") -> dict[str, CheckAsked]:
    """Return the checks of a feed, in order, without those switched off.

    Args:
        feed: The feed.
        topic_retention: How long the topic keeps records, in words; empty for no check of it.
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
        names["day_boundaries"] = f"Every row is in its own day of {feed.timezone}."
        names["volume"] = f"A closed day has about as many records as that weekday in the {WEEKS} weeks before."
        names["certificate"] = "A closed day holds the rows that were certified when it was read to its end."
    else:
        most = f"{feed.max_shrinkage:.0%}"
        names["shrinkage"] = f"A version has lost at most {most} of the records of the version before."
    names["schema_unchanged"] = "The columns are those of the export before."
    names["files_match"] = "Every committed file exists and has the recorded size."
    return names
