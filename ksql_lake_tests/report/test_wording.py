"""Numbers as people read them."""

from __future__ import annotations

from datetime import date

import pytest

from ksql_lake.lake.days import Days
from ksql_lake.quantities import age_text, count_text, size_text
from ksql_lake.report.wording import ranges_text, seconds_text, short_count


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (None, "never"), (-3, "< 1 min"), (0, "< 1 min"), (1 / 60, "1 min"), (0.99, "59 min"), (0.999, "1 h"),
        (26, "26 h"), (26.04, "26 h"), (1.25, "1.2 h"), (47.9, "47.9 h"), (48, "2 d"), (24 * 400, "400 d"),
    ],
)  # fmt: skip
def test_ages(hours: float | None, text: str) -> None:
    """The unit follows the size; no unit runs over."""
    assert age_text(hours) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (9_999, "9,999"), (10_000, "10.0k"), (99_900, "99.9k"), (118_888, "119k"), (999_400, "999k"),
        (999_600, "1.0M"), (4_100_000, "4.1M"), (7.2e9, "7.2G"), (3e15, "3000.0T"),
    ],
)  # fmt: skip
def test_short_counts(number: float, text: str) -> None:
    """At most six characters up to a quadrillion."""
    assert short_count(number) == text


def test_counts_sizes_and_seconds() -> None:
    """One is singular; sizes are powers of 1000; seconds grow into hours."""
    assert [count_text(1, "day"), count_text(2500, "day")] == ["1 day", "2,500 days"]
    assert count_text(2, "day or version", "days and versions") == "2 days and versions"
    assert [size_text(size) for size in (0, 999, 1000, 5.4e6, 2e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "5.4 MB",
        "2000.0 TB",
    ]
    assert [seconds_text(value) for value in (None, 0.04, 12.3, 240, 5400)] == [
        "-",
        "0.04 s",
        "12.3 s",
        "4.0 min",
        "1.5 h",
    ]


def test_many_ranges_are_counted() -> None:
    """The newest ranges are named, the days before them are a number."""
    ranges = [Days(date(2025, month, 1), date(2025, month, 2)) for month in range(1, 7)]

    assert ranges_text(ranges[:1]) == "2025-01-01 to 2025-01-02"
    assert ranges_text(ranges).startswith("2025-03-01 to 2025-03-02, ")
    assert ranges_text(ranges).endswith(" and 4 days before")
