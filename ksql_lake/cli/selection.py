"""The feeds and days that a command line selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import click

from ksql_lake.cli.completion import feed_names
from ksql_lake.errors import ConfigError
from ksql_lake.export import Days
from ksql_lake.feeds import Feed, Feeds, QuarantinedFile, StreamFeed, TableFeed
from ksql_lake.lake.days import day_of

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Feed = TypeVar("_Feed", StreamFeed, TableFeed)


class Day(click.ParamType[date]):
    """A day written `YYYY-MM-DD`."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the day; an invalid text is a usage error."""
        try:
            return value if isinstance(value, date) else datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007
        except ValueError:
            self.fail(f"{value!r} is not a day written YYYY-MM-DD, e.g. 2025-01-31", param, ctx)


@dataclass(frozen=True, slots=True)
class Asked:
    """The selection as the command line states it.

    Attributes:
        everything: `--all`.
        streams: Feeds named with `--stream`.
        tables: Feeds named with `--table`.
        day: `--date`.
        first: `--from`.
        last: `--to`.
    """

    everything: bool
    streams: tuple[str, ...]
    tables: tuple[str, ...]
    day: date | None = None
    first: date | None = None
    last: date | None = None

    @property
    def dated(self) -> bool:
        """Whether any day was given."""
        return any((self.day, self.first, self.last))


@dataclass(frozen=True, slots=True)
class Selection:
    """The feeds to export, and the unusable files that `--all` leaves out."""

    feeds: tuple[Feed, ...]
    broken: tuple[QuarantinedFile, ...] = ()


def selection_options(command: _Command) -> _Command:
    """Add to a command the options that `asked` reads."""
    day = Day()
    for option in reversed(
        (
            click.option("--all", "everything", is_flag=True, help="Every enabled feed."),
            click.option(
                "--stream",
                "streams",
                shell_complete=feed_names("stream"),
                multiple=True,
                metavar="NAME",
                help="A stream feed; repeatable.",
            ),
            click.option(
                "--table",
                "tables",
                shell_complete=feed_names("table"),
                multiple=True,
                metavar="NAME",
                help="A table feed; repeatable.",
            ),
            click.option("--date", "day", type=day, metavar="DAY", help="Only this day of the streams."),
            click.option("--from", "first", type=day, metavar="DAY", help="First day of the streams."),
            click.option("--to", "last", type=day, metavar="DAY", help="Last day, included; default: today."),
        )
    ):
        command = option(command)
    return command


def asked(options: dict[str, Any]) -> Asked:
    """Return the selection of a command's options, and remove it from them.

    Raises:
        click.UsageError: The options contradict each other.
    """
    names = ("everything", "streams", "tables", "day", "first", "last")
    found = Asked(**{name: options.pop(name) for name in names})
    if found.everything and (found.streams or found.tables):
        raise click.UsageError("--all already means every feed; leave out --stream and --table")
    if not (found.everything or found.streams or found.tables):
        raise click.UsageError("name the feeds: --all, --stream NAME or --table NAME")
    if found.day and (found.first or found.last):
        raise click.UsageError("--date is one day and --from/--to are a range; use only one of them")
    if found.last and not found.first:
        raise click.UsageError("--to needs --from")
    if found.first and found.last and found.first > found.last:
        raise click.UsageError(f"--from {found.first} is after --to {found.last}")
    if found.dated and not (found.everything or found.streams):
        raise click.UsageError("a table is exported as a whole, not by day; leave out the dates")
    return found


def select(feeds: Feeds, wanted: Asked) -> Selection:
    """Return the selected feeds.

    Raises:
        UnknownFeedError: No feed has that name, or it is archived.
        FeedError: A named feed's file is quarantined.
        ConfigError: A named feed is disabled or of the other kind.
    """
    if wanted.everything:
        return Selection(feeds.enabled, tuple(file for file in feeds.quarantined if not file.archived))
    named = dict.fromkeys(
        [("stream", name) for name in wanted.streams] + [("table", name) for name in wanted.tables]
    )
    return Selection(tuple(_named(feeds, kind, name) for kind, name in named))


def _named(feeds: Feeds, kind: str, name: str) -> Feed:
    feed = feeds.get(name)
    if feed.kind != kind:
        raise ConfigError(f"feed {name!r} is a {feed.kind}, not a {kind}", hint=f"Say --{feed.kind} {name}")
    if not feed.enabled:
        raise ConfigError(f"feed {name!r} is disabled", hint=f"Enable it first: ksql-lake feeds enable {name}")
    return feed


def of_kind(feeds: Feeds, kind: type[_Feed], names: Sequence[str]) -> tuple[_Feed, ...]:
    """Return the named feeds, also disabled ones; without names, every enabled feed of a kind.

    Raises:
        UnknownFeedError: No feed has that name, or it is archived.
        FeedError: A named feed's file is quarantined.
        ConfigError: A named feed is of the other kind.
    """
    if not names:
        return tuple(feed for feed in feeds.enabled if isinstance(feed, kind))
    found = []
    for name in dict.fromkeys(names):
        feed = feeds.get(name)
        if not isinstance(feed, kind):
            wanted = "table" if feed.kind == "stream" else "stream"
            raise ConfigError(
                f"feed {name!r} is a {feed.kind}; this is for {wanted}s", hint=_INSTEAD[feed.kind]
            )
        found.append(feed)
    return tuple(found)


_INSTEAD = {
    "stream": "A stream has days; they are never removed, but their files can be merged: ksql-lake compact",
    "table": "A table has versions, each in one file; remove old ones with: ksql-lake retention",
}


def days_for(feed: Feed, wanted: Asked, *, now: datetime | None = None) -> Days | None:
    """Return the selected days of a feed; None for tables and without dates.

    Raises:
        ConfigError: The days have not begun yet in the feed's time zone.
    """
    if not isinstance(feed, StreamFeed) or not wanted.dated:
        return None
    if wanted.day:
        return Days(wanted.day, wanted.day)
    today = day_of(now or datetime.now(UTC), feed.zone)
    first = wanted.first or today
    if first > today:
        raise ConfigError(
            f"{first} has not begun yet (today is {today} in {feed.timezone})",
            hint=f"Use days up to {today}.",
            feed=feed.name,
        )
    return Days(first, wanted.last or today)
