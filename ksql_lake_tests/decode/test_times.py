"""Times against Java's documented behaviour and against calendars computed another way."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.decode import times
from ksql_lake_tests.decode.comparing import values
from ksql_lake_tests.decode.writing import date_text, time_text
from ksql_lake_tests.quick import examples

GREGORIAN_START = -12_219_292_800_000
JULIAN_YEAR_1 = -719_164  # the epoch day of 0001-01-01 in the Julian calendar

# What `new SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss.SSS")` prints in UTC.
JAVA = [
    (0, "1970-01-01T00:00:00.000"),
    (-1, "1969-12-31T23:59:59.999"),
    (951_782_400_000, "2000-02-29T00:00:00.000"),
    (253_402_300_799_999, "9999-12-31T23:59:59.999"),
    (253_402_300_800_000, "10000-01-01T00:00:00.000"),
    (GREGORIAN_START, "1582-10-15T00:00:00.000"),
    (GREGORIAN_START - 1, "1582-10-04T23:59:59.999"),
    (-62_135_596_800_000, "0001-01-03T00:00:00.000"),  # .NET's smallest date
    (-62_135_769_600_000, "0001-01-01T00:00:00.000"),
    (9_223_372_036_854_775_807, "292278994-08-17T07:12:55.807"),
]


@pytest.mark.parametrize(("instant", "text"), JAVA)
def test_timestamps_are_the_instants_java_printed(instant: int, text: str) -> None:
    """The text of a TIMESTAMP gives back the instant it was printed from."""
    assert times.timestamp_of(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        *(
            "1582-10-05T00:00:00.000",
            "1582-10-14T23:59:59.999",
            "0000-01-01T00:00:00.000",
            "2025-02-29T00:00:00.000",
        ),
        *(
            "1900-02-29T00:00:00.000",
            "2025-01-15T24:00:00.000",
            "2025-01-15T10:00:60.000",
            "2025-01-15 10:00:00.000",
        ),
        *(
            "2025-01-15T10:00:00.000Z",
            "2025-01-15T10:00:00",
            "2025-01-15T10:00:00.00",
            "2025-13-01T00:00:00.000",
        ),
        *(
            "2025-00-01T00:00:00.000",
            "2025-01-00T00:00:00.000",
            "02025-01-15T10:00:00.000",
            "٢٠٢٥-01-15T10:00:00.000",
        ),
    ],
)
def test_texts_that_java_does_not_print_are_refused(text: str) -> None:
    """A text outside the form, or a day that Java's calendar does not have, is no TIMESTAMP."""
    assert times.timestamp_of(text) is None
    with pytest.raises(ValueError, match=r"TIMESTAMP|long|parse"):
        times.timestamps(pa.array([text], pa.string()))


def julian_texts() -> st.SearchStrategy[tuple[int, str]]:
    """Days of the Julian calendar up to 1582-10-04, and their texts, counted by its four-year cycle."""
    lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    cycle = [
        (year, month, day + 1)
        for year in (1, 2, 3, 4)
        for month, length in enumerate(lengths, 1)
        for day in range(length + (year == 4 and month == 2))
    ]

    def text(day: int) -> tuple[int, str]:
        cycles, rest = divmod(day - JULIAN_YEAR_1, len(cycle))
        year, month, dom = cycle[rest]
        return day, f"{year + 4 * cycles:04}-{month:02}-{dom:02}"

    return st.integers(JULIAN_YEAR_1, GREGORIAN_START // times.DAY_MS - 1).map(text)


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(days=st.lists(julian_texts(), min_size=1, max_size=5), milli=st.integers(0, times.DAY_MS - 1))
def test_julian_dates_are_exact(days: list[tuple[int, str]], milli: int) -> None:
    """Every day before 1582-10-15 is read in the calendar it was printed in, alone and in a column."""
    clock = str(np.datetime64(milli, "ms")).partition("T")[2]
    texts = [f"{text}T{clock}" for _, text in days]
    instants = [day * times.DAY_MS + milli for day, _ in days]

    assert [times.timestamp_of(text) for text in texts] == instants
    try:
        column = times.timestamps(pa.array([*texts, None], pa.string()))
    except ValueError:
        # Only a leap day that the Gregorian calendar lacks is left to the exact reader.
        assert any(text[5:10] == "02-29" for text in texts)
    else:
        assert values(column) == [*instants, None]


@pytest.mark.slow
@settings(max_examples=examples(300), deadline=None)
@given(instants=st.lists(st.integers(GREGORIAN_START, 253_402_300_799_999), max_size=5))
def test_gregorian_timestamps_are_exact(instants: list[int]) -> None:
    """From 1582-10-15 to 9999 a column of texts gives back its instants, in UTC."""
    texts = [str(np.datetime64(instant, "ms")) for instant in instants]
    column = times.timestamps(pa.array([*texts, None], pa.string()))

    assert column.type == pa.timestamp("ms", tz="UTC")
    assert values(column) == [*instants, None] == [*map(times.timestamp_of, texts), None]


@settings(max_examples=examples(300), deadline=None)
@given(day=st.integers(-(2**31), 2**31 - 1))
def test_dates_of_any_year_are_exact(day: int) -> None:
    """Every day that date32 holds comes back from its text, five-digit and negative years included."""
    assert times.date_of(date_text(day)) == day


def test_every_second_of_the_day_is_exact() -> None:
    """TIME comes back with and without its seconds, and with milliseconds where there are some."""
    seconds = range(86_400)
    texts = [time_text(second * 1000) for second in seconds]
    expected = [second * 1000 for second in seconds]

    assert [times.time_of(text) for text in texts] == expected
    assert values(times.times(pa.array([*texts, None], pa.string()))) == [*expected, None]
    assert times.time_of("23:59:59.999") == 86_399_999
    assert values(times.times(pa.array(["23:59:59.999"], pa.string()))) == [86_399_999]


def test_empty_columns_are_empty() -> None:
    """No values and only nulls are columns like any other."""
    for read, nulls in itertools.product((times.times, times.dates, times.timestamps), (0, 2)):
        assert values(read(pa.nulls(nulls, pa.string()))) == [None] * nulls


def test_a_sliced_column_is_read_from_its_own_bytes() -> None:
    """A column that begins in the middle of its buffers is read there."""
    texts = ["x", "2025-01-15T10:00:00.000", "2025-01-16T10:00:00.000"]
    column = pa.array(texts, pa.string()).slice(1)

    assert values(times.timestamps(column)) == [1_736_935_200_000, 1_737_021_600_000]
