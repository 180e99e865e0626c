"""Feed names made from source names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.feeds import TableFeed, feed_name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("ORDERS", "orders"),
        ("My-Stream", "my_stream"),
        ("_X", "feed__x"),
        ("2024", "feed_2024"),
        ("OUTPUT", "output_feed"),
        ("---", "feed"),
    ],
)
def test_follows_the_source(source: str, name: str) -> None:
    """The name is recognisably the source's."""
    assert feed_name(source) == name


def test_counts_on_when_taken() -> None:
    """A name that is taken gets the next free number."""
    assert feed_name("ORDERS", taken={"orders", "orders_2"}) == "orders_3"


@given(st.from_regex(r"\A[a-zA-Z0-9_-]{1,249}\Z"))
def test_is_always_a_valid_name(source: str) -> None:
    """Whatever ksqlDB allows as a name becomes one that a feed file allows."""
    feed = TableFeed(name=feed_name(source, taken={"a"}), kind="table", source=source)

    assert feed.name not in ("", "a")
