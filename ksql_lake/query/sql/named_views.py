"""Find the views and tables that a text of SQL names, and make each once."""

# Every word of the text counts as a name, so it may make a view too many but never one too few.

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from threading import RLock

import duckdb
import pyarrow as pa

from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import Feed
from ksql_lake.feeds.suggestion import did_you_mean
from ksql_lake.lake.layout import FeedLayout, manifest_sequence
from ksql_lake.lake.rows.scan import committed_rows
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.query.event_range import Clock
from ksql_lake.query.known_feeds import Holdings
from ksql_lake.query.sql.macros import Macro, as_of_macros, between_macros
from ksql_lake.query.sql.pruning import pruned
from ksql_lake.query.sql.system_tables import SYSTEM_TABLES, system_table
from ksql_lake.query.sql.views import (
    Committed,
    View,
    base_views,
    derived_views,
    listed_views,
)

_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_ABOUT_ALL = re.compile(
    r"\b(information_schema|duckdb_\w+|pg_catalog|pg_\w+|sqlite_\w+|pragma|show\s+all\s+tables|export\s+database)\b"
    r"|\b(describe|show)\s*(;|$)"
)
"""Statements that read the columns of all views."""
_ABOUT_NAMES = re.compile(r"\bshow\s+tables\b")

_MACROS: dict[str, Callable[[Committed], list[Macro]]] = {
    "__as_of": as_of_macros,
    "__between": lambda committed: between_macros(
        committed.feed, committed.state, committed_rows(committed.state, committed.address)
    ),
}
_ENDINGS = {
    **dict.fromkeys(("_versions", "_changes", "_history", "__as_of"), "table"),
    "__between": "stream",
}
"""Ending of a name made from a feed's name -> the kind of feed that has it."""
Made = View | Macro | tuple[pa.Table, str]

_log = logging.getLogger(__name__)


def _timed(committed: Committed, words: set[str]) -> bool:
    """Return whether a text may have a condition on a stream's time; most have none and are not parsed."""
    if "make_date" in words:
        return True
    try:
        return Clock.of(committed.feed, committed.state).column.casefold() in words
    except KsqlLakeError:
        return False


class Naming:
    """The names of a lake, and the views made for them so far.

    Args:
        holdings: The lake and its feeds; the views show their present state.

    Attributes:
        problems: Name of a feed -> why it has no view.
        lock: Held while views are made.
    """

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self.problems: dict[str, KsqlLakeError] = {}
        self.lock = RLock()
        self._made: set[str] = set()
        self._listed = False
        self._committed: dict[str, Committed | None] = {}
        self._heads: dict[FeedLayout, int] | None = None
        if holdings.lake.storage.paged:
            for feed in holdings.feeds:
                self._of(feed)  # listing costs as much as reading the state
        else:
            # Feed files are not parsed for it: most feeds are not asked for.
            places = [layout for each in holdings.layouts.values() for layout in each]
            self._heads = {layout: _head(holdings.lake.storage, layout) for layout in places}

    def due(self, sql: str) -> Iterator[tuple[str, Made]]:
        """Yield the views that a text names and that were not made before; unreadable feeds are logged."""
        spoken = sql.casefold()
        words = set(_WORD.findall(spoken))
        if _ABOUT_ALL.search(spoken):
            words |= {*self.holdings.names, *SYSTEM_TABLES}
            words |= {f"{name}{ending}" for name in self.holdings.names for ending in _ENDINGS}
        if "rollback" in words:
            self.forget()
        # A view that another one names is made before it.
        for word in sorted(words - self._made, key=lambda word: (word.endswith(tuple(_MACROS)), word)):
            for name, made in self._called(word):
                if name not in self._made:
                    self._made.add(name)
                    yield name, made

    def forget(self) -> None:
        """Forget which views were made: a rollback removes those of its transaction."""
        self._made.clear()

    def narrowed(self, sql: str, connection: duckdb.DuckDBPyConnection, *, utc: bool = False) -> str:
        """Return a statement rewritten so that its conditions on time open fewer files; see `pruning`."""
        spoken = sql.casefold()
        words = set(_WORD.findall(spoken))
        if "where" not in words:
            return sql
        streams = {
            feed.name: committed
            for feed in map(self.holdings.find, words)
            if feed is not None
            and feed.kind == "stream"
            and (committed := self._of(feed)) is not None
            and _timed(committed, words)
        }
        histories = {
            word: committed
            for word in (words if words >= {"valid_from", "valid_to"} else ())
            if word.endswith("_history") and self.holdings.find(word) is None
            if (feed := self._feed_of(word)) is not None and (committed := self._of(feed)) is not None
        }
        if not streams and not histories:
            return sql
        return pruned(sql, streams, histories, connection=connection, utc=utc)

    def problem(self, name: str) -> KsqlLakeError | None:
        """Return why a name has no view, or None."""
        feed = self._feed_of(name.casefold())
        return self.problems.get(feed.name) if feed else None

    def hint(self, name: str) -> str:
        """Return a hint for an unknown view name; empty if no name is similar."""
        word = name.casefold()
        ending = next((each for each in sorted(_ENDINGS, key=len, reverse=True) if word.endswith(each)), "")
        feed = self.holdings.find(word.removesuffix(ending)) if ending else None
        if feed is None:
            known = [*self.holdings.view_names(), *SYSTEM_TABLES]
            known += [name for each in self.holdings.feeds for name in _made_names(each)]
            return "" if word in known else did_you_mean(name, known)
        if feed.kind != _ENDINGS[ending]:
            return f"{feed.name} is a {feed.kind}; its other views are {', '.join(_made_names(feed))}."
        committed = self._of(feed)
        if committed is not None and committed.state.columns is None:
            return f"{feed.name} has no export yet; its first rows add this view."
        if ending in {"_changes", "_history"}:
            return f"{feed.name} lacks its key columns, so its rows cannot be followed."
        if ending == "__between" and committed is not None:
            return f"The event time of {feed.name} has had two types, so it has no ranges."
        return ""

    def _called(self, word: str) -> Iterator[tuple[str, Made]]:
        feed = self._feed_of(word)
        if feed is None:
            if word in SYSTEM_TABLES:
                yield word, (self._table(word), SYSTEM_TABLES[word][0])
            return
        committed = self._of(feed)
        if committed is None:
            return
        try:
            ending = word.removeprefix(feed.name)
            if ending in _MACROS:
                yield from ((macro.name, macro) for macro in _MACROS[ending](committed))
                return
            views = base_views(committed)
            if word not in {view.name for view in views}:
                views = derived_views(committed, word)
        except KsqlLakeError as error:
            self._failed(feed, error)
            return
        yield from ((view.name, view) for view in views if view.name == word)

    def _feed_of(self, word: str) -> Feed | None:
        """Return the feed of a view's name; a feed of exactly this name comes first."""
        if (exact := self.holdings.find(word)) is not None:
            return exact
        for ending, kind in _ENDINGS.items():
            feed = self.holdings.find(word.removesuffix(ending))
            if word.endswith(ending) and feed is not None and feed.kind == kind:
                return feed
        return None

    def listed(self, sql: str) -> list[View]:
        """Return placeholders for views that a statement lists and that are not made yet."""
        if self._listed or not _ABOUT_NAMES.search(sql.casefold()):
            return []
        self._listed = True
        return list(self._stubs())

    def _stubs(self) -> Iterator[View]:
        names = [(name, comment) for name, (comment, *_) in SYSTEM_TABLES.items()]
        feeds = self.holdings.feeds
        taken = {feed.name for feed in feeds}
        for feed in feeds:
            # A stream always has one view; a table's views depend on its columns.
            plain = feed.kind == "stream" and feed.name not in self._committed and self._gapless(feed)
            committed = feed if plain else self._of(feed)
            if committed is not None:
                listed = listed_views(committed)
                names += [view for view in listed if view[0] == feed.name or view[0] not in taken]
        for name, comment in names:
            if name not in self._made:
                unmade = f"{name} is made only when a statement of this connection names it"
                yield View(name, f"SELECT error('{unmade}') AS unmade", comment)

    def _table(self, name: str) -> pa.Table:
        found = [
            (committed, self.holdings.lake.feed(feed).log)
            for feed in self.holdings.feeds
            if (committed := self._of(feed)) is not None
        ]
        return system_table(name, found)

    def _of(self, feed: Feed) -> Committed | None:
        if feed.name not in self._committed:
            try:
                lake = self.holdings.lake.feed(feed)
                head = None if self._heads is None else self._heads.get(lake.layout, 0)
                self._committed[feed.name] = Committed.of(lake, head)
            except KsqlLakeError as error:
                self._failed(feed, error)
        return self._committed[feed.name]

    def _failed(self, feed: Feed, error: KsqlLakeError) -> None:
        self.problems[feed.name] = error
        self._committed[feed.name] = None
        _log.warning("no view of feed %s: %s", feed.name, error.message)

    def _gapless(self, feed: Feed) -> bool:
        """Return whether the log has all its commits, so that listing the feed does not read it."""
        names = self.holdings.lake.storage.names(FeedLayout(feed.kind, feed.name).commits)
        numbers = {number for number in map(manifest_sequence, names) if number is not None}
        return len(numbers) == max(numbers, default=0)


def _made_names(feed: Feed) -> list[str]:
    return [f"{feed.name}{ending}" for ending, kind in _ENDINGS.items() if kind == feed.kind]


def _head(storage: Storage, layout: FeedLayout) -> int:
    """Return the number of a feed's last commit; its name is the last one, so few are parsed."""
    numbers = map(manifest_sequence, reversed(storage.names(layout.commits)))
    return next((number for number in numbers if number is not None), 0)
