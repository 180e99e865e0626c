"""Dates and times as people give them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ConfigError
from ksql_lake.query.moments import NANOS, DaySpan, begin_of, days_of, end_of, last_of

_UTC, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
MARCH = DaySpan(date(2025, 3, 1), date(2025, 3, 31))
THIRD = DaySpan(date(2025, 3, 3), date(2025, 3, 3))


def ms(text: str) -> int:
    """Epoch milliseconds of a text."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def ns(text: str) -> int:
    """Epoch nanoseconds of a text."""
    return ms(text) * NANOS


@pytest.mark.parametrize("given", ["2025-03", np.datetime64("2025-03"), pd.Period("2025-03", "M"), " 2025-03 "])
def test_a_month_is_all_its_days(given: Any) -> None:
    """As text, and as numpy and pandas have it; at its beginning or its end in the zone that is asked for."""
    assert days_of(given, "start") == MARCH
    assert begin_of(given, "from_time", BERLIN) == ns("2025-03-01T00:00+01:00")
    assert end_of(given, "to_time", BERLIN) == ns("2025-04-01T00:00+02:00")
    assert last_of(given, "as_of", _UTC) == ms("2025-04-01T00:00Z") - 1


@pytest.mark.parametrize(
    "given",
    [
        *("2025-03-03", date(2025, 3, 3), np.datetime64("2025-03-03"), pd.Timestamp("2025-03-03")),
        *(datetime(2025, 3, 3), pd.Period("2025-03-03", "D")),  # noqa: DTZ001 - as pandas' calendars give it
    ],
)
def test_a_day_in_every_form(given: Any) -> None:
    """A midnight without a zone stands for its day where days are asked for, and is an instant elsewhere."""
    assert days_of(given, "start") == THIRD
    zone = _UTC if isinstance(given, datetime) else BERLIN
    assert begin_of(given, "from_time", BERLIN) == ns(f"2025-03-03T00:00{'+01:00' if zone is BERLIN else 'Z'}")


@pytest.mark.parametrize(
    "given",
    [
        *("2025-03-03T10:00:00.001Z", "2025-03-03 11:00:00.001+01:00", "2025-03-03T10:00:00.001"),
        *(
            datetime(2025, 3, 3, 10, 0, 0, 1000, UTC),
            datetime(2025, 3, 3, 5, 0, 0, 1000, timezone(timedelta(hours=-5))),
        ),
        *(
            pd.Timestamp("2025-03-03T11:00:00.001", tz="Europe/Berlin"),
            np.datetime64("2025-03-03T10:00:00.001"),
        ),
        *(np.datetime64("2025-03-03T10:00:00.001000000"), pd.Timestamp("2025-03-03T10:00:00.001")),
    ],
)
def test_an_instant_in_every_form(given: Any) -> None:
    """Without an offset it is UTC, whatever the zone of the feed."""
    at = ms("2025-03-03T10:00:00.001Z")
    assert begin_of(given, "t", BERLIN) == end_of(given, "t", BERLIN) == at * NANOS
    assert last_of(given, "t", BERLIN) == at


@given(st.integers(-(10**18), 4 * 10**18))
def test_nanoseconds_count(nanoseconds: int) -> None:
    """An instant is exact, and `last_of` is the last whole millisecond that is not after it."""
    for instant in (np.datetime64(nanoseconds, "ns"), pd.Timestamp(nanoseconds)):
        assert begin_of(instant, "t", _UTC) == end_of(instant, "t", _UTC) == nanoseconds
        assert last_of(instant, "t", _UTC) == nanoseconds // 1_000_000


@pytest.mark.parametrize(
    "given", ["yesterday", "2025-13", 5, True, None, pd.NaT, np.datetime64("NaT"), "2025-W10"]
)
def test_anything_else_is_refused(given: Any) -> None:
    """The answer names the argument and shows what can be said."""
    with pytest.raises(ConfigError) as caught:
        begin_of(given, "from_time", _UTC)

    assert str(caught.value).startswith("from_time must be a date or a time, not ")
    assert "'2025-03-15T12:00:00Z'" in str(caught.value)


def test_an_instant_is_no_day() -> None:
    """Days are whole; the answer names the arguments for instants."""
    for instant in (datetime(2025, 3, 3, 1, tzinfo=UTC), datetime(2025, 3, 3, tzinfo=UTC), "2025-03-03T00:00"):
        with pytest.raises(ConfigError, match=r"start must be a day, not .*\n.*from_time and to_time"):
            days_of(instant, "start")
