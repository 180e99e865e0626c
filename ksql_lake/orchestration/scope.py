"""A scope: the names and settings of one lake's definitions, which keep several lakes in one instance apart."""

# Every name that Dagster compares between definitions, code locations or runs is made here. A scope without a
# label has the plain names, so that an instance keeps its history. It never reads the environment: its maker
# passes the settings.

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from ksql_lake.errors import ConfigError, FeedError, KsqlLakeError
from ksql_lake.feeds import Feed, FeedFile, Feeds, QuarantinedFile, StreamFeed, TableFeed
from ksql_lake.lake import Lake
from ksql_lake.settings import Settings

RETRY_SECONDS = 30.0

Translate = Callable[[dg.AssetSpec, Feed], dg.AssetSpec]
"""A function that may change key, group, tags, owners, description and metadata of a feed's asset."""

GROUP_TAG = "group"
"""The tag of a feed that names its asset's group in Dagster's graph."""

SOURCES = "ksqldb"
"""Prefix of the keys of the external assets of ksqlDB's streams and tables."""

_NAME = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Scope:
    """One lake with its feeds and its server in Dagster's definitions.

    Attributes:
        settings: Feeds, lake and server; holds the secrets.
        prefix: Prefix of every asset key.
        label: Prefix of the names of jobs, ops, schedules, sensors, resources and the pool; empty means
            `prefix`.
        group: Group of the feeds' assets; None means `streams` and `tables`.
        translate: Changes the spec of a feed's asset; None keeps it.
        checks: Names of the checks to define; None means all.
        schedules: Names of the schedules to define, without the label; None means all.
        sensors: Names of the sensors to define, in the same way.
        retry_wait: Seconds before a step with a temporary error is retried.
        whole_location: Whether every run of the code location raises alerts, not only this scope's.

    Raises:
        ConfigError: A part of the prefix, or the label, is an invalid name in Dagster.
    """

    settings: Settings
    prefix: tuple[str, ...] = ()
    label: str = ""
    group: str | None = None
    translate: Translate | None = field(default=None, compare=False)
    checks: frozenset[str] | None = None
    schedules: frozenset[str] | None = None
    sensors: frozenset[str] | None = None
    retry_wait: float = RETRY_SECONDS
    whole_location: bool = False

    def __post_init__(self) -> None:
        labels = [("name", self.label)] if self.label else []
        for what, text in (*(("key_prefix", part) for part in self.prefix), *labels):
            if not _NAME.fullmatch(text):
                raise ConfigError(
                    f"{what}: {text!r} cannot be part of Dagster's names",
                    hint="Use letters (A-Z, a-z), digits and underscores.",
                )

    @cached_property
    def lake(self) -> Lake:
        """The lake."""
        return Lake(self.settings.lake_root)

    @cached_property
    def feeds_root(self) -> Path:
        """The absolute path of the folder of feed files."""
        return self.settings.feeds_root.resolve()

    def named(self, name: str) -> str:
        """Return the name of a job, op, schedule, sensor, resource or pool in this scope.

        A leading underscore stays in front: it keeps ops and graphs apart from assets.
        """
        label = self.label or "_".join(self.prefix)
        if not label:
            return name
        return f"_{label}{name}" if name.startswith("_") else f"{label}_{name}"

    def key(self, feed: Feed) -> dg.AssetKey:
        """Return the asset key of a feed.

        Raises:
            ConfigError: The translation cannot be used for this feed; see `separated`.
        """
        key = self.plain_key(feed.name)
        if self.translate is None:
            return key
        known = self._translated_keys.get(feed.name)
        if known is not None and known[0] == feed:
            return known[1]
        group, owners = self.feed_group(feed), list(feed.owners)
        spec = self._asked(dg.AssetSpec(key, group_name=group, tags=feed.tags, owners=owners), feed)
        if spec.partitions_def is not None:
            raise ConfigError(
                "its translation sets partitions_def, but a feed is exported by days or versions",
                hint="Leave partitions_def out of the translation.",
                feed=feed.name,
            )
        self._translated_keys[feed.name] = feed, spec.key
        return spec.key

    def _asked(self, spec: dg.AssetSpec, feed: Feed) -> dg.AssetSpec:
        """Return what the translation makes of a spec.

        Raises:
            ConfigError: It fails, or makes a key that no step can be called by, or the key of a source.
        """
        if self.translate is None:
            return spec
        try:
            made = self.translate(spec, feed)
            key = made.key
        except KsqlLakeError:
            raise
        except Exception as error:
            # A function of the user's project: one feed that it does not expect must not stop the others.
            raise ConfigError(
                f"its translation cannot be used: {type(error).__name__}: {error}", feed=feed.name
            ) from error
        says = f"its translation makes the asset key {key.to_user_string()!r}"
        if not _NAME.fullmatch(key.to_python_identifier()):
            raise ConfigError(
                says,
                hint="Use letters (A-Z, a-z), digits, underscores, hyphens and dots, with / between the parts.",
                feed=feed.name,
            )
        if key.path[:-1] == self.own_key(SOURCES).path:
            raise ConfigError(
                f"{says}, which means a source of ksqlDB",
                hint="Use another key: the graph shows the source under this one.",
                feed=feed.name,
            )
        return made

    def separated(self, feeds: Feeds) -> Feeds:
        """Return the feeds with those in quarantine that the translation fails for, or that share an asset key.

        One that exports keeps the key beside others that do not. Of two that export neither does: the key's
        history, and what is below it, can only mean one lake.

        Raises:
            ConfigError: The translation fails for every feed, so the fault is its own.
        """
        if self.translate is None:
            return feeds
        sharing: dict[dg.AssetKey, list[FeedFile]] = defaultdict(list)
        apart: dict[str, QuarantinedFile] = {}
        for file in feeds.files:
            try:
                sharing[self.key(file.feed)].append(file)
            except ConfigError as error:
                apart[file.feed.name] = _kept_out(file, error)
                if len(apart) == len(feeds.files):
                    raise
        for key, files in sharing.items():
            exporting = [file for file in files if file.feed.enabled and not file.archived]
            for file in files if len(files) > 1 else ():
                if exporting != [file]:
                    apart[file.feed.name] = _sharing(file, key, files)
        kept = tuple(file for file in feeds.files if file.feed.name not in apart)
        return Feeds(kept, (*feeds.quarantined, *apart.values()))

    def translated(self, spec: dg.AssetSpec, feed: Feed) -> dg.AssetSpec:
        """Return the translated spec of a feed's asset."""
        if self.translate is None:
            return spec
        plain = spec.replace_attributes(key=self.plain_key(feed.name))
        return self._asked(plain, feed).replace_attributes(key=spec.key)

    def key_of_broken(self, file: QuarantinedFile) -> dg.AssetKey:
        """Return the asset key of a feed whose file cannot be used: if possible the key it had before."""
        plain = self.plain_key(file.name)
        if self.translate is None:
            return plain
        known: dict[str, Any] = {
            key: file.gleaned[key] for key in ("kind", "source", "timezone") if key in file.gleaned
        }
        model = TableFeed if known.get("kind") == "table" else StreamFeed
        try:
            return self._asked(dg.AssetSpec(plain), model.model_construct(name=file.name, **known)).key
        except ConfigError:
            # The translation needs keys that the file lacks.
            return plain

    def wants_check(self, name: str) -> bool:
        """Return whether this scope includes a check of the feeds."""
        return self.checks is None or name in self.checks

    def keys(self, feeds: Iterable[Feed]) -> list[dg.AssetKey]:
        """Return the asset keys of feeds."""
        return [self.key(feed) for feed in feeds]

    def plain_key(self, name: str) -> dg.AssetKey:
        """Return the asset key of a feed's name before translation."""
        return dg.AssetKey([*self.prefix, name])

    def own_key(self, *path: str) -> dg.AssetKey:
        """Return the key of an asset that is not a feed."""
        return dg.AssetKey([*self._own, *path])

    def feed_group(self, feed: Feed) -> str:
        """Return the group of a feed: its tag `group`, else the scope's, else that of its kind."""
        own = re.sub(r"\W", "_", feed.tags.get(GROUP_TAG, ""), flags=re.ASCII)
        return own or self.group or self.named(f"{feed.kind}s")

    def versions(self, table: str) -> str:
        """Return the name of a table's dynamic partitions, which must be unique in the Dagster instance."""
        return "/".join([*self._own, f"{table}_versions"])

    def taken(self, feeds: Iterable[Feed]) -> set[str]:
        """Return the names that jobs cannot have, because jobs and assets share one namespace."""
        return {key.to_python_identifier() for key in self.keys(feeds)}

    def free_name(self, name: str, taken: Collection[str]) -> str:
        """Return a free job name in this scope: this one, or with `_job` appended."""
        free = self.named(name)
        while free in taken:
            free += "_job"
        return free

    @cached_property
    def _translated_keys(self) -> dict[str, tuple[Feed, dg.AssetKey]]:
        """Name -> the feed, and its key: templates take milliseconds, and a key is asked for many times."""
        return {}

    @property
    def clocks_run(self) -> bool:
        """Whether sensors and schedules of exports and upkeep are switched on by default."""
        return self.settings.schedules == "running"

    @property
    def pool(self) -> str:
        """The pool in which every step that reads from the server holds a slot."""
        return self.named("ksqldb")

    @property
    def server_key(self) -> str:
        """The key of the server's client resource."""
        return self.named("ksqldb")

    @property
    def lake_key(self) -> str:
        """The key of the lake resource."""
        return self.named("lake")

    @property
    def duckdb_key(self) -> str:
        """The key of the DuckDB resource."""
        return self.named("lake_duckdb")

    @property
    def io_manager_key(self) -> str:
        """The key of the IO manager."""
        return self.named("lake_io_manager")

    @property
    def _own(self) -> tuple[str, ...]:
        return self.prefix or ((self.label,) if self.label else ())


def _sharing(file: FeedFile, key: dg.AssetKey, files: Iterable[FeedFile]) -> QuarantinedFile:
    """A feed whose asset key others have too."""
    feed, others = file.feed, sorted(other.feed.name for other in files if other is not file)
    error = FeedError(
        f"its translated asset key {key.to_user_string()} is also that of {', '.join(others)}",
        hint="Change the translation so that each feed has a key of its own.",
        feed=feed.name,
    )
    return _kept_out(file, error)


def _kept_out(file: FeedFile, error: ConfigError) -> QuarantinedFile:
    """A feed that cannot be an asset, with what is known of its partitions."""
    feed = file.feed
    shown = FeedError(error.message, hint=error.hint, feed=feed.name)
    known = {"kind": feed.kind, "source": feed.source}
    if isinstance(feed, StreamFeed):
        known |= {"timezone": feed.timezone, "start_date": feed.start_date.isoformat()}
    return QuarantinedFile(file.path, feed.name, shown, file.archived, known)
