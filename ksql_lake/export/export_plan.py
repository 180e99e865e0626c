"""Plan an export before anything is sent: the days of a stream, or the version of a table."""

# An export without dates begins at the first day that is not closed, so no day is ever skipped.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from ksql_lake.errors import ConfigError, VersionError
from ksql_lake.feeds.model import Feed, StreamFeed, TableFeed
from ksql_lake.lake.closing import read_to_end
from ksql_lake.lake.commit.meaning import Origin, meaning_of, other_rows
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.days import Days, day_of

if TYPE_CHECKING:
    from ksql_lake.lake import Lake


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What one export reads.

    Attributes:
        feed: The feed.
        days: The days to read (streams); None when there is nothing to read, e.g. all before `start_date`.
        version: Number of the version to write (tables).
        pinned: Whether the caller named the version, so that no other may be written instead.
        reason: Why exactly this, as a phrase.
        new_topic: Whether the source's topic was recreated, so that the lake's offsets are no longer valid.
        timed: Whether the time of each change of a table is read too.
        open_end: Whether the last day is today and rows of the future are read too, to be counted and left out.
        window: All days of which rows may land, where these are more than the days requested.
        fell_back: Why a pull query reads a feed that is to be read on from its marks; empty where none does.
        already: Partitions of the plan that another export has read since the plan was made.
        made_at: When it was made (UTC); None for a plan that other exports do not change.
        basis: Day -> when it had last been read at the time of the plan (`FeedState.looked`).
        named: Whether the caller named the days, so that no reading that began before is taken for this one.
    """

    feed: Feed
    days: Days | None = None
    version: int | None = None
    pinned: bool = False
    reason: str = ""
    new_topic: bool = False
    timed: bool = False
    open_end: bool = False
    window: Days | None = None
    fell_back: str = ""
    already: tuple[str, ...] = ()
    made_at: datetime | None = field(default=None, compare=False, repr=False)
    basis: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    named: bool = field(default=False, compare=False, repr=False)

    def pulled(self, reason: str = "") -> ExportPlan:
        """Return the plan of reading the same days by pull query, where the feed says `continue`."""
        if self.feed.extraction != "continue":
            return self
        feed = self.feed.model_copy(update={"extraction": "pull"})
        return replace(self, feed=feed, window=None, fell_back=reason)

    @property
    def partitions(self) -> list[str]:
        """The partition keys the export covers."""
        if self.version is not None:
            return [f"v{self.version}"]
        return self.days.keys() if self.days else []


def plan_export(
    feed: Feed,
    lake: Lake,
    *,
    days: Days | None = None,
    version: int | None = None,
    new_topic: bool = False,
    now: datetime | None = None,
) -> ExportPlan:
    """Decide what to read; see `plan_from`.

    Raises:
        ConfigError: The days are in the future, or days were given for a table.
        VersionError: The version is not the open one.
        CorruptLakeError: The feed's manifests cannot be read.
    """
    state = lake.feed(feed).state()
    return plan_from(feed, state, days=days, version=version, new_topic=new_topic, now=now)


def plan_from(
    feed: Feed,
    state: FeedState,
    *,
    days: Days | None = None,
    version: int | None = None,
    new_topic: bool = False,
    now: datetime | None = None,
) -> ExportPlan:
    """Decide what to read after what the lake holds.

    Args:
        feed: The feed.
        state: What the feed's lake holds.
        days: Days of a stream; None means every day that is not closed, and `lookback_days` more.
        version: Version of a table; None means the open one.
        new_topic: Whether the stream's topic was recreated: then rows are compared by value.
        now: The present; for tests.

    Raises:
        ConfigError: The days are in the future, or days were given for a table.
        VersionError: The version is not the open one.
    """
    now = now or datetime.now(UTC)
    if isinstance(feed, TableFeed):
        return replace(_plan_table(feed, state, days, version), made_at=now)
    if version is not None:
        raise ConfigError("a stream has days, not versions", hint="Name a date instead.", feed=feed.name)
    planned = _plan_stream(feed, state, days, now)
    planned = replace(planned, new_topic=new_topic, made_at=now, basis=state.looked, named=days is not None)
    if feed.extraction != "continue" or planned.days is None:
        return planned
    # New rows are of any day, whatever days were requested.
    window = Days(feed.start_date, day_of(now, feed.zone))
    return replace(planned, window=window, reason=f"{planned.reason}; {_way_in(state)}")


def still_wanted(
    plan: ExportPlan, state: FeedState, *, origin: Origin | None = None, now: datetime | None = None
) -> ExportPlan:
    """Return a plan without what another export has read since the plan was made.

    These are days at its beginning and end that an export read which began after this one was requested, and
    days that were read to their end, unless the caller named the days. Otherwise the running day is read again.
    A plan of days that were not named gets all days if no row has landed, and the source is another one.

    Args:
        plan: The plan, made before the feed's lock was held.
        state: What the feed's lake holds now that the lock is held.
        origin: What the server reports about the source.
        now: The present; for tests.

    Raises:
        VersionError: The version that the caller named is no longer the open one.
    """
    if plan.made_at is None:
        return plan
    if isinstance(plan.feed, TableFeed):
        return _version_still_wanted(plan, plan.feed, state, plan.made_at)
    if plan.days is None or plan.new_topic or plan.feed.extraction == "continue":
        # New rows are read on from the marks, which are read under the lock.
        return plan
    if not plan.named and (reason := _read_otherwise(plan.feed, state, origin)):
        return replace(plan, days=Days(plan.feed.start_date, plan.days.last), reason=reason)
    moment = now or datetime.now(UTC)
    left = [day for day in plan.days if not _read_since(plan, plan.made_at, state, day, moment)]
    days = Days(left[0], left[-1]) if left else None
    already = tuple(day.isoformat() for day in plan.days if days is None or not days.first <= day <= days.last)
    if not already:
        return plan
    said = f"{already[0]} to {already[-1]} were" if len(already) > 1 else f"{already[0]} was"
    reason = f"{said} read by another export (commit {state.sequence}) while this one waited"
    open_end = plan.open_end and days is not None and days.last == plan.days.last
    return replace(plan, days=days, already=already, open_end=open_end, reason=reason)


def _read_since(plan: ExportPlan, made_at: datetime, state: FeedState, day: date, now: datetime) -> bool:
    read_at = state.looked.get(day.isoformat())
    if read_at is None or read_at == plan.basis.get(day.isoformat()):
        return False
    if datetime.fromisoformat(read_at) >= made_at:
        return True
    # Days are named to fetch late rows, which may have come since that reading began.
    return not plan.named and read_to_end(state.looked, day, plan.feed.zone, now=now)


def _version_still_wanted(plan: ExportPlan, feed: TableFeed, state: FeedState, made_at: datetime) -> ExportPlan:
    if plan.version is None or plan.version == state.next_version:
        return plan
    if plan.pinned:
        return _plan_table(feed, state, None, plan.version)
    last = state.last_read
    if last is not None and datetime.fromisoformat(last.read_at) >= made_at:
        reason = f"v{state.latest_version} was read by another export after this one was asked for"
        return replace(plan, version=None, already=(f"v{state.latest_version}",), reason=reason)
    return replace(plan, version=state.next_version, reason=f"after v{state.latest_version}")


def closed_days_due(feed: StreamFeed, lake: Lake, *, now: datetime | None = None) -> Days | None:
    """Return the ended days still to be read to their end, with `lookback_days` before them.

    None where there are none, or where the running day cannot be read apart from them.

    Raises:
        CorruptLakeError: The feed's manifests cannot be read.
    """
    plan = plan_export(feed, lake, now=now)
    moment = now or datetime.now(UTC)
    today = day_of(moment, feed.zone)
    if feed.extraction != "pull" or plan.days is None or plan.days.first == today:
        return None
    if _first_open_day(feed, lake.feed(feed).state(), today, moment) == today:
        return None
    return Days(plan.days.first, today - timedelta(days=1))


def running_day(feed: StreamFeed, *, now: datetime | None = None) -> Days:
    """Return the day that is running in a stream's time zone."""
    today = day_of(now or datetime.now(UTC), feed.zone)
    return Days(today, today)


def _plan_table(feed: TableFeed, state: FeedState, days: Days | None, version: int | None) -> ExportPlan:
    if days is not None:
        raise ConfigError(
            "a table is exported as a whole, not by day", hint="Leave the dates out.", feed=feed.name
        )
    if version is not None and version != state.next_version:
        done = f"v{version} exists already" if version < state.next_version else f"v{version} is not open yet"
        raise VersionError(
            f"{done}: a snapshot shows the table as it is now, so only the open version "
            f"v{state.next_version} can be written",
            hint=f"Materialise v{state.next_version} instead.",
            feed=feed.name,
        )
    reason = "first snapshot" if state.latest_version == 0 else f"after v{state.latest_version}"
    return ExportPlan(feed, version=state.next_version, pinned=version is not None, reason=reason)


def _plan_stream(feed: StreamFeed, state: FeedState, days: Days | None, now: datetime) -> ExportPlan:
    today, open_end = day_of(now, feed.zone), feed.extraction != "push"
    if days is not None:
        if days.last > today:
            raise ConfigError(
                f"{days.last} has not begun yet (today is {today} in {feed.timezone})",
                hint=f"Use days up to {today}.",
                feed=feed.name,
            )
        if days.last < feed.start_date:
            return ExportPlan(feed, reason=f"all of {days} is before start_date {feed.start_date}")
        asked = Days(max(days.first, feed.start_date), days.last)
        return ExportPlan(feed, days=asked, reason="as asked", open_end=open_end and days.last == today)
    if today < feed.start_date:
        return ExportPlan(feed, reason=f"start_date {feed.start_date} is in the future")
    if not state.looked:
        reason = "no day counts as read since a repair" if state.partitions else "first export, from start_date"
        return ExportPlan(feed, days=Days(feed.start_date, today), reason=reason, open_end=open_end)
    if reason := _read_otherwise(feed, state):
        return ExportPlan(feed, days=Days(feed.start_date, today), reason=reason, open_end=open_end)
    open_day = _first_open_day(feed, state, today, now)
    # Not counted from the last export: that may have read other days, e.g. only the running one.
    first = max(feed.start_date, open_day - timedelta(days=feed.lookback_days))
    reason = (
        f"{open_day} is the first day not read to its end; {feed.lookback_days} day(s) of lookback before it"
    )
    return ExportPlan(feed, days=Days(first, today), reason=reason, open_end=open_end)


def _read_otherwise(feed: StreamFeed, state: FeedState, origin: Origin | None = None) -> str:
    """Return why days without a row are read again: the first row pins what a day holds; empty otherwise."""
    last = state.last_read
    if state.partitions or last is None or not state.looked:
        return ""
    if state.event_clock not in ("", feed.event_clock):
        return f"event_time was {state.event_clock} and found no row; every day is read by {feed.event_clock}"
    if last.meant is None:
        return "it is not recorded what was read without a row; every day is read once more"
    changed = other_rows(last.meant, meaning_of(feed, origin))
    return f"{', '.join(changed)} changed before the first row; every day is read again" if changed else ""


def _way_in(state: FeedState) -> str:
    """Return from where a `continue` feed is read, in words."""
    marks = state.continued
    if marks is None:
        return "the stream is read from its first row on, and from then on only what is new"
    if marks.out:
        return f"the stream is read from its first row on, because of {marks.out}"
    read = sum(mark.next for mark in marks.sink)
    return f"only what came after the first {read:,} records of the stream"


def _first_open_day(feed: StreamFeed, state: FeedState, today: date, now: datetime) -> date:
    day = feed.start_date
    while day < today:
        if not read_to_end(state.looked, day, feed.zone, now=now):
            return day
        day += timedelta(days=1)
    return today
