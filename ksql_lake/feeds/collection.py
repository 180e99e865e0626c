"""All feed files at one moment: usable ones, and quarantined ones with their problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ksql_lake.errors import FeedError, UnknownFeedError
from ksql_lake.feeds.model import Feed, StreamFeed, TableFeed
from ksql_lake.feeds.suggestion import did_you_mean


@dataclass(frozen=True, slots=True)
class FeedFile:
    """A feed and its file."""

    path: Path
    feed: Feed
    archived: bool


@dataclass(frozen=True, slots=True)
class QuarantinedFile:
    """A feed file that cannot be used.

    Attributes:
        path: The file.
        name: The presumed name of the feed: the file's name without `.json`.
        error: All its problems.
        archived: Whether it is in `archived/`.
        gleaned: Keys of the feed that can be read anyway, as texts; not usable for an export.
    """

    path: Path
    name: str
    error: FeedError
    archived: bool
    gleaned: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Feeds:
    """All feed files of the folder at one moment, sorted by name, active before archived."""

    files: tuple[FeedFile, ...]
    quarantined: tuple[QuarantinedFile, ...]

    @property
    def active(self) -> tuple[Feed, ...]:
        """The usable feeds in `active/`, disabled ones included."""
        return tuple(file.feed for file in self.files if not file.archived)

    @property
    def enabled(self) -> tuple[Feed, ...]:
        """The feeds of exports, schedules and Dagster: active and enabled."""
        return tuple(feed for feed in self.active if feed.enabled)

    @property
    def archived(self) -> tuple[Feed, ...]:
        """The usable feeds in `archived/`."""
        return tuple(file.feed for file in self.files if file.archived)

    @property
    def offset_sources(self) -> frozenset[str]:
        """The sources of feeds whose rows are known by offset: streams that may copy another one."""
        return frozenset(file.feed.source for file in self.files if file.feed.known_by == "offset")

    def get(self, name: str) -> Feed:
        """Return an active feed by name.

        Raises:
            UnknownFeedError: There is none; the hint says whether it is archived, or proposes similar names.
            FeedError: Its file is quarantined.
        """
        file = self.file(name)
        if file.archived:
            raise UnknownFeedError(
                f"feed {name!r} is archived", hint=f"Bring it back with: ksql-lake feeds restore {name}"
            )
        return file.feed

    def file(self, name: str) -> FeedFile:
        """Return a feed, archived or not, and its file by name.

        Raises:
            UnknownFeedError: There is none.
            FeedError: Its file is quarantined.
        """
        for file in self.files:
            if file.feed.name == name:
                return file
        for broken in self.quarantined:
            if broken.name == name:
                raise broken.error
        raise UnknownFeedError(f"there is no feed named {name!r}", hint=self._hint(name))

    def _hint(self, name: str) -> str:
        by_source = [feed.name for feed in self.active if feed.source == name]
        if by_source:
            return f"{name} is the source of feed {', '.join(by_source)}: name the feed."
        known = [file.feed.name for file in self.files] + [broken.name for broken in self.quarantined]
        meant = did_you_mean(name, known)
        return f"{meant} All of them: ksql-lake feeds list".strip() if known else "Add one: ksql-lake feeds add"


def streams_of(feeds: Iterable[Feed]) -> list[StreamFeed]:
    """Return the streams among feeds, in their order."""
    return [feed for feed in feeds if isinstance(feed, StreamFeed)]


def tables_of(feeds: Iterable[Feed]) -> list[TableFeed]:
    """Return the tables among feeds, in their order."""
    return [feed for feed in feeds if isinstance(feed, TableFeed)]
