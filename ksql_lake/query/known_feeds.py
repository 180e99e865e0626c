"""The feeds that can be read: those with a feed file, and those that only the lake holds."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Self

from ksql_lake.errors import ConfigError, CorruptLakeError, KsqlLakeError, UnknownFeedError
from ksql_lake.feeds import Feed, Feeds, FeedStore
from ksql_lake.feeds.model import FEED_ADAPTER, NAME_PATTERN
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.lake import FeedLake, FeedState, Lake
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.doctor.examination import feeds_in
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.settings import load_settings

UNKNOWN_START = date(1970, 1, 1)
"""The `start_date` of a stream without a feed file."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holdings:
    """A lake and its feeds; a feed's file is read at once and parsed when the feed is asked for.

    Attributes:
        lake: The lake.
        layouts: Name -> the places of the lake that hold something of it.
        names: All names that a feed may have, sorted.
    """

    lake: Lake
    layouts: Mapping[str, Sequence[FeedLayout]]
    names: tuple[str, ...]
    _store: FeedStore
    _files: Mapping[str, Mapping[Path, bytes | OSError]]
    _found: dict[str, Feed | None] = field(default_factory=dict)

    @classmethod
    def open(cls, root: str | Path | None = None, feeds: str | Path | None = None) -> Self:
        """Return the feeds of a lake; by default lake and feeds folder are those of the environment.

        Raises:
            ConfigError: There is neither a lake nor a feeds folder, or one of them cannot be read.
        """
        if root is None or feeds is None:
            settings = load_settings()
            root = settings.lake_root if root is None else root
            feeds = settings.feeds_root if feeds is None else feeds
        lake, store = Lake(root), FeedStore(feeds)
        layouts: dict[str, list[FeedLayout]] = {}
        for layout in feeds_in(lake.storage):
            layouts.setdefault(layout.name, []).append(layout)
        if not layouts and not store.root.is_dir():
            raise ConfigError(
                f"there is no lake at {lake.root}, and no feeds folder at {store.root}",
                hint="Run from the project's folder, or set KSQL_LAKE_ROOT and KSQL_LAKE_FEEDS.",
            )
        files: dict[str, dict[Path, bytes | OSError]] = {}
        for path, content in store.contents().items():
            files.setdefault(path.stem, {})[path] = content
        return cls(lake, layouts, tuple(sorted({*layouts, *files})), store, files)

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """All feeds, sorted by name, each name once."""
        return tuple(feed for name in self.names if (feed := self.find(name)) is not None)

    def find(self, name: str) -> Feed | None:
        """Return a feed by name, or None if there is none."""
        if name not in self._files and name not in self.layouts:
            return None
        if name not in self._found:
            self._found[name] = self._named(name)
        return self._found[name]

    def _named(self, name: str) -> Feed | None:
        # The lake alone is enough: it may have been copied to a machine without exports.
        stored = self._store.load(self._files[name]) if name in self._files else Feeds((), ())
        # An active feed decides the meaning of its name; then an archived one; then the lake.
        found = next(iter(stored.active), None)
        known = found or next(iter(stored.archived), None)
        for layout in self.layouts.get(name, ()):
            feed = known or _remembered(self.lake, layout)
            if feed is not None and feed.kind == layout.kind:
                found = feed
            elif feed is not None:
                _log.warning("%s is left out: feed %s is a %s", layout.dataset, feed.name, feed.kind)
        return found

    def view_names(self) -> list[str]:
        """Return the names of the views every feed has."""
        names = [
            [feed.name, *([f"{feed.name}_versions"] if feed.kind == "table" else [])] for feed in self.feeds
        ]
        return sorted({name for of_feed in names for name in of_feed})

    def get(self, name: str) -> Feed:
        """Return a feed by name.

        Raises:
            UnknownFeedError: There is no such feed; the hint names similar ones.
        """
        if (feed := self.find(name)) is not None:
            return feed
        names = [feed.name for feed in self.feeds]
        hint = did_you_mean(name, names) or (f"There are: {', '.join(names)}." if names else "There are none.")
        raise UnknownFeedError(f"no feed is called {name!r}", hint=hint)


def check_kept(lake: FeedLake, state: FeedState) -> None:
    """Check that a feed without commits has no files: else its metadata was lost.

    Raises:
        CorruptLakeError: There are files, but no commit.
    """
    # A commit exists before its files, so a commit that was made meanwhile is seen here.
    if state.sequence or not lake.storage.names(lake.layout.dataset) or lake.published().sequence:
        return
    raise CorruptLakeError(
        f"there are files in {lake.layout.dataset}, but no commit in {lake.layout.commits}: was the folder "
        "`metadata` left out when the lake was copied or restored?",
        hint="Restore that folder, or read the files as plain Parquet; see docs/backup.md.",
        feed=lake.feed.name,
    )


def _remembered(lake: Lake, layout: FeedLayout) -> Feed | None:
    """Return a feed without a feed file, made from the lake's metadata; None if the folder is no feed's."""
    if not lake.storage.names(layout.commits) or not re.match(NAME_PATTERN, layout.name):
        return None
    keys: dict[str, object] = {"name": layout.name, "kind": layout.kind}
    keys["source"] = _source(lake, layout) or layout.name
    if layout.kind == "stream":
        keys["start_date"] = UNKNOWN_START
    return FEED_ADAPTER.validate_python(keys)


def _source(lake: Lake, layout: FeedLayout) -> str:
    """Return the source of a feed, by its summary (a small file), else by its log; empty if both lack it."""
    try:
        source = json.loads(lake.storage.read(layout.summary) or b"{}")["source"]
    except (json.JSONDecodeError, KeyError, TypeError):
        source = None
    if source and isinstance(source, str):
        return source
    try:
        read = CommitLog(lake.storage, layout).load().last_read
    except KsqlLakeError:
        return ""  # reading the rows raises the error
    return read.source if read else ""
