"""Plots as geometry: bars and calendars in plain numbers, for a template to draw. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ksql_lake.lake.days import Days
from ksql_lake.quantities import count_text, size_text
from ksql_lake.report.feed_model import Coverage, DayPoint, FeedReport
from ksql_lake.report.wording import seconds_text, short_count

DAYS_SHOWN = 120
EXPORTS_SHOWN = 60
VERSIONS_SHOWN = 40
WEEKS_SHOWN = 53
"""Columns of a strip of the calendar."""
STRIPS_SHOWN = 3
FEWEST_WEEKS = 36
"""Columns of a feed's only strip, however young the feed is."""

SLOT = 10
"""Width of the place of one bar."""
HEIGHT = 100
"""Height of every plot of bars."""
_LEAST = 1.5
"""Height of the smallest bar that has a value."""
CELL = 8
"""Width and height of the place of one day in a calendar; the day itself leaves one unit free."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its box, what it means (`main`, `late`, `gone`), and its tooltip."""

    x: float
    y: float
    height: float
    meaning: str
    title: str
    width: float = SLOT - 2


@dataclass(frozen=True, slots=True)
class Bars:
    """A plot of bars.

    Attributes:
        bars: The bars, from left to right.
        slots: How many places there are.
        top: The value of the full height.
        first: Name of the first place.
        last: Name of the last one.
    """

    bars: tuple[Bar, ...]
    slots: int
    top: str
    first: str
    last: str

    @property
    def width(self) -> int:
        """Width of the box."""
        return self.slots * SLOT

    @property
    def height(self) -> int:
        """Height of the box."""
        return HEIGHT


@dataclass(frozen=True, slots=True)
class CalendarRun:
    """Consecutive days with a tooltip: their state, their path, and its text."""

    state: str
    path: str
    title: str


@dataclass(frozen=True, slots=True)
class CalendarStrip:
    """Up to a year of days, a column per week, Monday on top.

    Attributes:
        first: The Monday of the first column.
        last: The last day.
        weeks: Columns there is room for.
        filled: Path of the complete days with rows.
        bare: Path of the complete days without rows.
        runs: The open and the missing days.
        months: Names of months with their place in percent of the width.
    """

    first: date
    last: date
    weeks: int
    filled: str
    bare: str
    runs: tuple[CalendarRun, ...]
    months: tuple[tuple[str, float], ...]

    @property
    def width(self) -> int:
        """Width of the box."""
        return self.weeks * CELL

    @property
    def height(self) -> int:
        """Height of the box."""
        return 7 * CELL


def records_per_day(feed: FeedReport) -> Bars | None:
    """Rows per day, of the newest days with rows."""
    days = _newest(feed.days)
    if not days:
        return None
    top = max(point.records for point in days)
    bars: list[Bar] = []
    for point in days:
        title = f"{point.day}: {count_text(point.records, 'row')}"
        if point.late:
            title += f", {point.late:,} of them late"
        bars.append(_bar(_at(point, days), point.records, top, "main", title))
    return _over_days(bars, days, top)


def late_rows(feed: FeedReport) -> Bars | None:
    """Late rows per day, on their own scale, over the same days as `records_per_day`."""
    days = _newest(feed.days)
    top = max((point.late for point in days), default=0)
    if not top:
        return None
    bars = [
        _bar(_at(point, days), point.late, top, "late", f"{point.day}: {point.late:,} late")
        for point in days
        if point.late
    ]
    return _over_days(bars, days, top)


def version_growth(feed: FeedReport) -> Bars | None:
    """Rows per table version; versions that retention removed are paler."""
    versions = feed.versions[-VERSIONS_SHOWN:]
    if not versions:
        return None
    top = max(point.records for point in versions)
    bars = [
        _bar(
            index * SLOT + 1,
            point.records,
            top,
            "main" if point.kept else "gone",
            f"v{point.version}, {point.committed_at:%Y-%m-%d %H:%M} UTC: {count_text(point.records, 'row')}, "
            f"{size_text(point.bytes)}{'' if point.kept else ' (removed since)'}",
        )
        for index, point in enumerate(versions)
    ]
    names = f"v{versions[0].version}", f"v{versions[-1].version}"
    return Bars(tuple(bars), len(versions), f"{short_count(top)} rows", *names)


def export_durations(feed: FeedReport) -> Bars | None:
    """Seconds per export, the newest ones."""
    timed = [(point, point.seconds) for point in feed.exports if point.seconds is not None][-EXPORTS_SHOWN:]
    if not timed:
        return None
    top = max(seconds for _, seconds in timed)
    bars = [
        _bar(
            index * SLOT + 1,
            seconds,
            top,
            "main",
            f"{point.at:%Y-%m-%d %H:%M} UTC: {seconds_text(seconds)}, {count_text(point.read, 'row')} read, "
            f"{point.new:,} new",
        )
        for index, (point, seconds) in enumerate(timed)
    ]
    return Bars(tuple(bars), len(timed), seconds_text(top), _stamp(timed[0][0].at), _stamp(timed[-1][0].at))


def outline(plot: Bars) -> str:
    """Return a plot's bars as one path, for small drawings."""
    return "".join(f"M{bar.x:g} {bar.y:g}h{bar.width:g}V{HEIGHT}h-{bar.width:g}z" for bar in plot.bars)


def calendar(feed: FeedReport) -> tuple[CalendarStrip, ...]:
    """Return the feed's days in strips of a year, the newest last; none for tables and feeds still to begin."""
    covered = feed.coverage
    if covered is None or covered.first > covered.last:
        return ()
    weeks = min(max((covered.last - covered.first).days // 7 + 2, FEWEST_WEEKS), WEEKS_SHOWN)
    strips: list[CalendarStrip] = []
    last = covered.last
    while last >= covered.first and len(strips) < STRIPS_SHOWN:
        monday = last - timedelta(days=last.weekday(), weeks=WEEKS_SHOWN - 1)
        strips.insert(0, _strip(feed, covered, max(covered.first, monday), last, weeks=weeks))
        last = monday - timedelta(days=1)
    return tuple(strips)


def _strip(feed: FeedReport, covered: Coverage, first: date, last: date, *, weeks: int) -> CalendarStrip:
    monday = first - timedelta(days=first.weekday())
    rows = {point.day: point.records for point in feed.days if first <= point.day <= last}
    runs: list[CalendarRun] = []
    unsure: set[date] = set()
    for state, ranges in (("open", covered.open_days), ("missing", covered.missing_days)):
        for days in ranges:
            inside = [day for day in days if first <= day <= last]
            if inside:
                unsure.update(inside)
                held = sum(rows.get(day, 0) for day in inside)
                so_far = f", {count_text(held, 'row')} so far" if held else ""
                runs.append(CalendarRun(state, _path(inside, monday), f"{days}: {state}{so_far}"))
    sure = [day for day in Days(first, last) if day not in unsure]
    return CalendarStrip(
        first=monday,
        last=last,
        weeks=weeks,
        filled=_path([day for day in sure if rows.get(day)], monday),
        bare=_path([day for day in sure if not rows.get(day)], monday),
        runs=tuple(runs),
        months=tuple(_months(monday, last, weeks)),
    )


def _path(days: Sequence[date], monday: date) -> str:
    side = CELL - 1
    return "".join(
        f"M{(day - monday).days // 7 * CELL} {day.weekday() * CELL}h{side}v{side}h-{side}z" for day in days
    )


def _months(monday: date, last: date, weeks: int) -> Iterator[tuple[str, float]]:
    """Name the first month with its year, then every January and as many others as there is room for."""
    step = 1 if weeks <= 40 else 2
    free = 0
    for week in range((last - monday).days // 7 + 1):
        day = monday + timedelta(weeks=week)
        named = week == 0 or (day.day <= 7 and (day.month % step == 1 % step))
        if not named or week < free:
            continue
        with_year = week == 0 or day.month == 1
        yield f"{_MONTHS[day.month - 1]}{f' {day.year}' if with_year else ''}", round(week / weeks * 100, 1)
        free = week + (9 if with_year else 4) * weeks // WEEKS_SHOWN + 1


def _newest(days: Sequence[DayPoint]) -> list[DayPoint]:
    if not days:
        return []
    first = days[-1].day - timedelta(days=DAYS_SHOWN - 1)
    return [point for point in days if point.day >= first]


def _over_days(bars: Sequence[Bar], days: Sequence[DayPoint], top: int) -> Bars:
    first, last = days[0].day, days[-1].day
    return Bars(tuple(bars), (last - first).days + 1, f"{short_count(top)} rows", f"{first}", f"{last}")


def _at(point: DayPoint, days: Sequence[DayPoint]) -> int:
    return (point.day - days[0].day).days * SLOT + 1


def _bar(x: float, value: float, top: float, meaning: str, title: str) -> Bar:
    height = max(value / top * HEIGHT, _LEAST) if top and value else _LEAST / 3
    return Bar(x, round(HEIGHT - height, 2), round(height, 2), meaning, title)


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
