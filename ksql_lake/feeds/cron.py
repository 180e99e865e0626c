"""Check cron expressions field by field, so that a mistake is reported for the feed file."""

# Every expression that passes here is valid in Dagster too.

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MACROS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")

DEFAULT_SCHEDULES: Mapping[str, str] = {"stream": "5 * * * *", "table": "30 1 * * *"}
"""Cron expressions of feeds without a `schedule`; a stream's first tick of a day closes the day before."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ITEM = re.compile(r"^(?P<first>\*|\w+)(-(?P<last>\w+))?(/(?P<step>\d+))?$", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: Mapping[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        value = self.words.get(text.lower(), int(text) if text.isdigit() else None)
        if value is None or not self.low <= value <= self.high:
            raise ValueError(f"{text!r} is not a valid {self.name} ({self.low}-{self.high})")
        return value

    def values(self, text: str) -> set[int]:
        chosen: set[int] = set()
        for item in text.split(","):
            match = _ITEM.match(item)
            if match is None or (match["first"] == "*" and match["last"]):
                raise ValueError(f"{item!r} is not a valid {self.name}, range or step")
            step = int(match["step"] or 1)
            if step == 0:
                raise ValueError(f"{item!r} steps by zero")
            chosen.update(self._range(match, item)[::step])
        return chosen

    def _range(self, match: re.Match[str], item: str) -> range:
        if match["first"] == "*":
            return range(self.low, self.high + 1)
        first = self.number(match["first"])
        if match["last"]:
            last = self.number(match["last"])
            if last < first:
                raise ValueError(f"the range {item!r} runs backwards")
            return range(first, last + 1)
        return range(first, self.high + 1 if match["step"] else first + 1)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field("day of the week", 0, 7, {name: number for number, name in enumerate(_WEEKDAYS)}),
)


def check_cron(expression: str) -> None:
    """Raise if a cron expression is invalid or never fires.

    Raises:
        ValueError: Names the wrong field and the reason.
    """
    if expression in MACROS:
        return
    parts = expression.split()
    if len(parts) != len(_FIELDS):
        found = f"found {len(parts)}" if parts else "found none"
        raise ValueError(f"needs five fields (minute hour day month weekday), e.g. '0 * * * *'; {found}")
    _, _, days, months, _ = (kind.values(part) for kind, part in zip(_FIELDS, parts, strict=True))
    # With a weekday the two day fields are alternatives, so the date alone does not decide.
    if parts[4] == "*" and all(min(days) > _LONGEST_MONTH[month - 1] for month in months):
        raise ValueError(f"never fires: no month of {parts[3]!r} has a day {min(days)}")
