"""Cron expressions."""

from __future__ import annotations

import re

import pytest
from dagster._utils.schedules import is_valid_cron_schedule
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.feeds.cron import MACROS, check_cron


@pytest.mark.parametrize(
    "expression",
    [
        *MACROS,
        "0 * * * *",
        "*/7 1-5,9 * JAN-MAR mon-fri",
        "0 0 31 2 1",
        "0  0 * * 7",
        "5/10 * 29 feb *",
        "0 0 30,31 2-4 *",
    ],
)
def test_accepts_what_fires(expression: str) -> None:
    """Ordinary expressions pass, names and steps included."""
    check_cron(expression)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "needs five fields (minute hour day month weekday), e.g. '0 * * * *'; found none"),
        ("0 * * *", "needs five fields (minute hour day month weekday), e.g. '0 * * * *'; found 4"),
        ("0 0 1 1 * 2025", "needs five fields (minute hour day month weekday), e.g. '0 * * * *'; found 6"),
        ("@reboot", "needs five fields (minute hour day month weekday), e.g. '0 * * * *'; found 1"),
        ("60 * * * *", "'60' is not a valid minute (0-59)"),
        ("0 25 * * *", "'25' is not a valid hour (0-23)"),
        ("0 0 0 * *", "'0' is not a valid day of the month (1-31)"),
        ("0 0 * * mot", "'mot' is not a valid day of the week (0-7)"),
        ("0 0 * 5-1 *", "the range '5-1' runs backwards"),
        ("*/0 * * * *", "'*/0' steps by zero"),
        ("0 0,,1 * * *", "'' is not a valid hour, range or step"),
        ("*-5 * * * *", "'*-5' is not a valid minute, range or step"),
        ("0 0 31 2 *", "never fires: no month of '2' has a day 31"),
        ("0 0 31 4,6,9,11 *", "never fires: no month of '4,6,9,11' has a day 31"),
    ],
)
def test_says_which_field_is_wrong(expression: str, why: str) -> None:
    """A refused expression names the field, the text and the allowed range."""
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        check_cron(expression)


def _items(low: int, high: int, names: str = "") -> st.SearchStrategy[str]:
    numbers = st.integers(low - 1, high + 1).map(str)
    words = st.sampled_from(names.split()) if names else numbers
    bases = st.just("*") | numbers | words | st.tuples(numbers, numbers).map("-".join)
    steps = st.just("") | st.integers(0, 70).map("/{}".format)
    return st.lists(st.tuples(bases, steps).map("".join), min_size=1, max_size=2).map(",".join)


@given(
    st.tuples(
        _items(0, 59),
        _items(0, 23),
        _items(1, 31),
        _items(1, 12, "jan FEB dec"),
        _items(0, 7, "sun MON sat"),
    ).map(" ".join)
)
def test_dagster_accepts_everything_that_passes(expression: str) -> None:
    """No schedule that passes here can fail when Dagster loads it."""
    try:
        check_cron(expression)
    except ValueError:
        return

    assert is_valid_cron_schedule(expression)
