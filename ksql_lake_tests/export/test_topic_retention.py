"""Which days Kafka deletes before an export has read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.export.expiry import days_at_risk, kept_retention, risk_text, safe_text
from ksql_lake.export.topology import Topology
from ksql_lake.feeds import StreamFeed
from ksql_lake.ksqldb.inventory import Retention, retention_of, topic_retention
from ksql_lake.lake import FeedState

NOON = datetime(2025, 1, 20, 12, tzinfo=UTC)


def _feed(**keys: object) -> StreamFeed:
    raw = {"name": "orders", "kind": "stream", "source": "ORDERS", "start_date": "2025-01-10", **keys}
    return StreamFeed.model_validate(raw)


def _state(**looked: str) -> FeedState:
    """A state in which these days (`d10`) were read at these times."""
    days = {f"2025-01-{day[1:]}": f"{at}+00:00" for day, at in looked.items()}
    return FeedState(kind="stream", sequence=1 if days else 0, looked=days)


def _read(until: int) -> dict[str, str]:
    """Every day from the tenth on, read soon after its end."""
    return {f"d{day}": f"2025-01-{day + 1}T00:05:00" for day in range(10, until + 1)}


def _fates(feed: StreamFeed, state: FeedState, hours: float, now: datetime = NOON) -> dict[str, str]:
    retention = Retention(hours, known=True, text="")
    return {str(day.day): day.fate for day in days_at_risk(feed, state, retention, now=now)}


def test_days_fall_behind_one_after_the_other() -> None:
    """Kept for four days: what came more than three days ago is urgent, four fading, five lost."""
    found = _fates(_feed(), _state(**_read(13)), 96)

    assert found == {"2025-01-14": "lost", "2025-01-15": "lost", "2025-01-16": "fading", "2025-01-17": "urgent"}


def test_who_exports_in_time_hears_nothing() -> None:
    """Read to yesterday and this morning: nothing is at risk, however short the topic keeps it."""
    state = _state(**_read(19), d20="2025-01-20T11:05:00")

    assert _fates(_feed(), state, 24) == {}
    assert _fates(_feed(), state, 2) == {}


def test_the_running_day_counts_from_its_last_read() -> None:
    """With a topic of four hours, what came since 07:00 is at risk at noon, although the day has not ended."""
    state = _state(**_read(19), d20="2025-01-20T07:00:00")

    (risk,) = days_at_risk(_feed(), state, Retention(4, known=True, text=""), now=NOON)

    assert (risk.fate, risk.until) == ("fading", datetime(2025, 1, 20, 11, tzinfo=UTC))


def test_what_was_gone_before_the_first_export_is_nobodys_loss() -> None:
    """For a feed with a long past that was never exported, only days that can still be saved are named."""
    assert _fates(_feed(start_date="2020-01-01"), _state(), 48) == {
        "2025-01-18": "fading",
        "2025-01-19": "urgent",
    }


def test_days_are_those_of_the_feeds_time_zone() -> None:
    """A Berlin day begins an hour before the UTC day, and so does Kafka to delete it."""
    hours = (NOON - datetime(2025, 1, 16, tzinfo=UTC)) / timedelta(hours=1)
    berlin, utc = _feed(timezone="Europe/Berlin"), _feed()

    assert _fates(utc, _state(**_read(15)), hours + 0.5)["2025-01-16"] == "urgent"
    assert _fates(berlin, _state(**_read(15)), hours + 0.5)["2025-01-16"] == "fading"


@given(st.floats(1, 500), st.integers(0, 400), st.integers(10, 19))
def test_a_day_never_gets_better_by_waiting(hours: float, later: int, read: int) -> None:
    """As time passes a day goes from safe to urgent to fading to lost, and never back."""
    order = {"safe": 0, "urgent": 1, "fading": 2, "lost": 3}
    feed, state = _feed(), _state(**_read(read))

    before = _fates(feed, state, hours)
    after = _fates(feed, state, hours, NOON + timedelta(hours=later))

    for day, fate in before.items():
        assert order[after.get(day, "safe")] >= order[fate]
    assert all(day > f"2025-01-{read}" for day in after)


def test_what_is_known_decides_and_the_feed_knows_best() -> None:
    """The feed's own word wins over the statement; where both are silent nothing is watched."""
    statement = "CREATE STREAM ORDERS (ID INT) WITH (KAFKA_TOPIC='o', RETENTION_MS=86400000);"

    assert topic_retention(_feed(), statement).text == "for 24 h, by the source's statement"
    assert topic_retention(_feed(topic_retention_hours=6), statement).text == "for 6 h, by the feed"
    assert kept_retention(_feed(), Topology()).known is False
    silent = Retention(None, known=False, text="for an unknown time")
    assert list(days_at_risk(_feed(), _state(), silent, now=NOON)) == []
    assert safe_text(silent) == "Kafka keeps the records for an unknown time."
    assert retention_of("CREATE STREAM S (RETENTION_MS INT) WITH (KAFKA_TOPIC='s');").known is False


def test_the_text_says_what_is_lost_and_what_to_do() -> None:
    """A line per fate with days and instants, how long Kafka keeps it, and the command."""
    feed, retention = _feed(), Retention(96, known=True, text="for 4 d, by the feed")

    text = risk_text(feed, list(days_at_risk(feed, _state(**_read(13)), retention, now=NOON)), retention)

    assert text.splitlines() == [
        "2025-01-14 to 2025-01-15: not exported before Kafka could delete all of it",
        "2025-01-16: not exported, and Kafka has been deleting it since 2025-01-20 00:00 UTC",
        "2025-01-17: not exported, and Kafka begins to delete it at 2025-01-21 00:00 UTC",
        "Kafka keeps ORDERS for 4 d, by the feed.",
        (
            "What to do: ksql-lake export --stream orders --from 2025-01-14 --to 2025-01-17, "
            "or materialise these days."
        ),
    ]
    assert risk_text(feed, [], retention) == ""


@pytest.mark.parametrize("hours", [0, -1])
def test_a_topic_keeps_something(hours: float) -> None:
    """A feed cannot say that nothing is kept."""
    with pytest.raises(ValueError, match="greater than 0"):
        _feed(topic_retention_hours=hours)
