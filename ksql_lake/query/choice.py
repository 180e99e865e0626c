"""Choose the files, and parts of files, that hold the rows a reader asks for."""

# Days that no export has read, and rows that were removed, are errors.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

import msgspec

from ksql_lake.errors import ConfigError, LakeError, VersionError
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.day_zone import with_its_zone
from ksql_lake.lake.layout import version_number
from ksql_lake.lake.timeline import Timeline, narrowed
from ksql_lake.query.day_range import check_closed, check_read, days_between
from ksql_lake.query.engines import Rows
from ksql_lake.query.event_range import Clock, EventRange
from ksql_lake.query.moments import Given, begin_of, days_of, end_of, last_of
from ksql_lake.query.version_names import kept_version

_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Moment:
    """An earlier state of the lake, by commit number or time; neither means the present state."""

    commit: int | None = None
    as_of: Given = None

    def number(self, timeline: Timeline, zone: ZoneInfo) -> int:
        """Return the commit's number.

        Raises:
            ConfigError: Both are set, or one of them is invalid.
            LakeError: Nothing was committed by then.
        """
        if self.commit is not None and self.as_of is not None:
            raise ConfigError("commit and as_of name two moments", hint="Use only one of them.")
        if self.commit is not None:
            if isinstance(self.commit, bool) or not hasattr(self.commit, "__index__"):
                raise ConfigError(f"commit must be a number, not {self.commit!r}")
            return int(self.commit)
        if self.as_of is None:
            return timeline.now.sequence
        found = timeline.commit_by(last_of(self.as_of, "as_of", zone))
        if not found:
            raise LakeError(
                f"nothing had been committed as of {self.as_of}",
                hint="`FROM ksql_lake_commits` lists the commits and their times.",
                feed=timeline.log.layout.name,
            )
        return found


NOW = Moment()


@dataclass(frozen=True, slots=True)
class StreamChoice:
    """The rows of a stream to read; None always means no bound.

    Attributes:
        start: First day.
        end: Last day, included.
        from_time: First event time.
        to_time: End of the event times, not included; a day or month is included.
        moment: The state of the lake.
        allow_missing: Whether days that no export has read count as empty.
        allow_open: Whether days that were read before their end are accepted.
    """

    start: Given = None
    end: Given = None
    from_time: Given = None
    to_time: Given = None
    moment: Moment = NOW
    allow_missing: bool = False
    allow_open: bool = False

    def check(self) -> None:
        """Check the days.

        Raises:
            ConfigError: A day is invalid; the message names the argument.
        """
        first = None if self.start is None else days_of(self.start, "start").first
        last = None if self.end is None else days_of(self.end, "end").last
        if first and last and first > last:
            raise ConfigError(f"start {first} is after end {last}", hint="Both days are included.")

    def rows(self, lake: FeedLake, now: FeedState) -> Rows:
        """Return the files with the rows, by the present state.

        Raises:
            ConfigError: An argument is invalid.
            LakeError: A day was not read, or rows were removed.
        """
        feed = with_its_zone(lake.feed, now)
        zone = feed.zone
        timeline = Timeline(lake.log, now)
        state = timeline.state(self.moment.number(timeline, zone))
        events = self._events(lake, now, state, zone)
        first, last = self._days(events, zone)
        if isinstance(feed, StreamFeed) and (first or last):
            wanted = days_between(state, first, last)
            if not self.allow_missing:
                check_read(feed, state, wanted)
            if last and not self.allow_open:
                check_closed(feed, state, wanted)
        # Files are chosen by their event times, which hold whatever zone the days have.
        first, last = self._days(None, zone)
        days = [day for day in state.partition_keys() if (first or day) <= day <= (last or day)]
        if state is now and events is None:
            return Rows(lake, state, days)
        files = [file for day in days for file in state.files_of(day) if not events or events.may_hold(file)]
        found = timeline.find(files, state)
        # Merged files are found in the present state; columns are those of the earlier state.
        held = narrowed(_with_columns(now, state), found.whole)
        more = timeline.rows(held, found.pieces) if found.pieces else None
        return Rows(lake, held, held.partition_keys(), events=events, more=more)

    def _events(self, lake: FeedLake, now: FeedState, state: FeedState, zone: ZoneInfo) -> EventRange | None:
        if self.from_time is None and self.to_time is None:
            return None
        low = None if self.from_time is None else begin_of(self.from_time, "from_time", zone)
        high = None if self.to_time is None else end_of(self.to_time, "to_time", zone)
        if low is not None and high is not None and low > high:
            raise ConfigError(
                f"from_time {self.from_time} is after to_time {self.to_time}",
                hint="to_time itself is not included; a day or month is.",
            )
        return EventRange(Clock.of(lake.feed, _with_columns(now, state)), low, high)

    def _days(self, events: EventRange | None, zone: ZoneInfo) -> tuple[str | None, str | None]:
        first = None if self.start is None else days_of(self.start, "start").first
        last = None if self.end is None else days_of(self.end, "end").last
        if events is not None:
            low, high = events.days(zone)
            first, last = _inner(max, first, low), _inner(min, last, high)
        return (first.isoformat() if first else None), (last.isoformat() if last else None)


@dataclass(frozen=True, slots=True)
class TableChoice:
    """The version of a table to read: by name, or the newest one at a moment."""

    version: str | int | None = None
    moment: Moment = NOW

    def rows(self, lake: FeedLake, now: FeedState) -> Rows:
        """Return the files of the version.

        Raises:
            ConfigError: An argument is invalid.
            VersionError: The version is not in the lake.
        """
        name = lake.feed.name
        if self.moment == NOW:
            return Rows(lake, now, [kept_version(now, name, self.version or "latest")])
        if self.version is not None:
            raise ConfigError("version and a moment name two versions", hint="Use only one of them.")
        if self.moment.as_of is not None and self.moment.commit is None:
            return Rows(lake, now, [version_as_of(lake, now, last_of(self.moment.as_of, "as_of", _UTC))])
        timeline = Timeline(lake.log, now)
        then = timeline.state(self.moment.number(timeline, _UTC)).partition_keys()
        if not then:
            raise VersionError(f"there was no version at commit {self.moment.commit}", feed=name)
        return Rows(lake, now, [kept_version(now, name, then[-1])])


def version_as_of(lake: FeedLake, state: FeedState, moment: int) -> str:
    """Return the newest version whose reading had begun by an epoch millisecond.

    Raises:
        VersionError: The lake does not hold it, e.g. because retention removed it.
    """
    kept = state.partition_keys()
    at = {key: lake.read_at(state, key) for key in kept}
    found = [key for key in kept if round(at[key].timestamp() * 1000) <= moment]
    number = version_number(found[-1]) if found else 0
    later = [version_number(key) for key in kept if version_number(key) > number]
    gone = (min(later) if later else state.next_version) - number - 1
    if found and not gone:
        return found[-1]
    oldest = f"The oldest kept one is {kept[0]}, read at {at[kept[0]].isoformat()}." if kept else ""
    raise VersionError(
        "the lake no longer holds the newest version of that time"
        if gone
        else "no version had been read by then",
        hint=oldest,
        feed=lake.feed.name,
    )


def _inner(choose: Callable[[list[date]], date], *days: date | None) -> date | None:
    known = [day for day in days if day is not None]
    return choose(known) if known else None


def _with_columns(now: FeedState, then: FeedState) -> FeedState:
    """Return the present state with the columns of an earlier one; one before the first row had none."""
    return msgspec.structs.replace(now, schema=then.schema or now.schema)
