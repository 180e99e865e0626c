"""The IO manager between Dagster and the lake: it lands an asset's extraction and loads inputs."""

# Not a UPathIOManager, which rejects ranges of partitions: here a range is one query and one commit.

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin

import dagster as dg

from ksql_lake.errors import ConfigError, LakeError, VersionError
from ksql_lake.export import ExportResult, Extraction
from ksql_lake.export.version_keys import keep_versions
from ksql_lake.feeds import Feed, FeedStore, StreamFeed, TableFeed
from ksql_lake.lake import FeedLake, FeedState
from ksql_lake.lake.day_zone import with_its_zone
from ksql_lake.lake.days import day_of
from ksql_lake.orchestration.events import events, news, partition_metadata, run_metadata
from ksql_lake.orchestration.internals import describe_output, instance_of, previous_attempts, step_of
from ksql_lake.orchestration.resources import LakeResource
from ksql_lake.orchestration.scope import Scope
from ksql_lake.query.day_range import be, days_text, export_command, open_days, unread_days
from ksql_lake.query.engines import ENGINES, Rows
from ksql_lake.query.frames import read_rows

ALLOW_MISSING = "allow_missing_partitions"
"""The metadata key of an input that decides about days that no export has read; Dagster defines this name."""

ALLOW_OPEN = "allow_open"
"""The metadata key of an input that decides about days that were read before they had ended."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The partitions of an input.

    Attributes:
        partitions: Those that a partition mapping names; None means all, of a table the newest version.
        allow_missing: Whether to leave out unread days instead of raising an error; None means only if no
            mapping or day of the downstream asset asks for them.
        allow_open: Whether a day that was read before it had ended counts as read; None means as above.
        every_day: Whether a mapping asks for all partitions, so that none may be missing.
    """

    partitions: tuple[str, ...] | None = None
    allow_missing: bool | None = None
    allow_open: bool | None = None
    every_day: bool = False

    @classmethod
    def of(
        cls, partitions: Collection[str] | None, metadata: Mapping[str, object], *, every_day: bool = False
    ) -> Self:
        """Return the partitions of an input, with its metadata's keys.

        Raises:
            ConfigError: One of the two keys is neither true nor false.
        """
        for key in (ALLOW_MISSING, ALLOW_OPEN):
            if not isinstance(metadata.get(key), bool | None):
                raise ConfigError(
                    f"the input's metadata {key} is {metadata[key]!r}",
                    hint="Say True or False, or leave it out.",
                )
        named = None if partitions is None else tuple(sorted(partitions))
        missing, unfinished = metadata.get(ALLOW_MISSING), metadata.get(ALLOW_OPEN)
        return cls(named, missing, unfinished, every_day)  # type: ignore[arg-type]

    @property
    def leaves_out(self) -> bool:
        """Whether unread days are left out."""
        return self._lenient if self.allow_missing is None else self.allow_missing

    @property
    def takes_open(self) -> bool:
        """Whether open days count as read."""
        return self._lenient if self.allow_open is None else self.allow_open

    @property
    def _lenient(self) -> bool:
        return self.partitions is None and not self.every_day


@dataclass(slots=True)
class Loaded:
    """The value of an input.

    Attributes:
        value: The rows, as the annotated type.
        version: The version of a table; empty for a stream or several versions.
        missing: Days left out, because no export has read them, or only before they had ended.
        unfinished: Days included although they were read before they had ended.
        fill: The command that reads the missing days.
    """

    value: Any = None
    version: str = ""
    missing: Sequence[date] = field(default_factory=list)
    unfinished: Sequence[date] = field(default_factory=list)
    fill: str = ""

    @property
    def says(self) -> str:
        """The missing and unfinished days in a sentence; empty without any."""
        parts = []
        if self.missing:
            parts.append(
                f"{days_text(self.missing)} {be(self.missing)} left out, not read to the end; run: {self.fill}"
            )
        if self.unfinished:
            parts.append(f"{days_text(self.unfinished)} {be(self.unfinished)} read before the day had ended")
        return "; ".join(parts)


def load(lake: FeedLake, annotation: object, wanted: Wanted) -> Loaded:
    """Return committed rows as the annotated type.

    Args:
        lake: The feed's lake.
        annotation: The type; `typing.Any` (no annotation) means pandas.
        wanted: The partitions.

    Raises:
        ConfigError: The annotation is an unknown type.
        VersionError: A named version is not in the lake.
        LakeError: The feed was never exported, or a wanted day was not read, or not to its end.
    """
    give = _loader(annotation)
    loaded = Loaded()

    def choose(state: FeedState) -> Rows:
        if isinstance(lake.feed, StreamFeed):
            return Rows(lake, state, _days(with_its_zone(lake.feed, state), state, wanted, loaded))
        return Rows(lake, state, _versions(lake, state, wanted, loaded))

    loaded.value = read_rows(lake, choose, give)
    return loaded


def _days(feed: StreamFeed, state: FeedState, wanted: Wanted, loaded: Loaded) -> list[str]:
    today = day_of(datetime.now(UTC), feed.zone)
    if wanted.partitions is None:
        # The current day is no partition yet: its rows are included, but their absence is no error.
        asked = [feed.start_date + timedelta(days=at) for at in range((today - feed.start_date).days)]
        keys = state.partition_keys()
    else:
        asked = [day for day in map(date.fromisoformat, wanted.partitions) if day >= feed.start_date]
        keys = [key for key in state.partition_keys() if key in set(wanted.partitions)]
    never, opened = unread_days(state, asked), open_days(feed, state, {*asked, *map(date.fromisoformat, keys)})
    out = sorted(never if wanted.takes_open else [*never, *opened])
    # Before the feed's start a day that has rows is asked for too; only the current day may be absent.
    named = {*asked, *(day for day in opened if wanted.partitions is not None or day < today)}
    missing = [day for day in out if day in named]
    if missing and not wanted.leaves_out:
        raise _unread(feed, never, [day for day in opened if day in set(missing)])
    loaded.missing, loaded.unfinished = missing, sorted(opened) if wanted.takes_open else []
    loaded.fill = export_command(feed, missing) if missing else ""
    left_out = {day.isoformat() for day in out}
    return [key for key in keys if key not in left_out]


def _unread(feed: StreamFeed, never: list[date], opened: list[date]) -> LakeError:
    reasons = []
    if never:
        reasons.append(f"{days_text(never)} {be(never)} never read, so the rows are unknown")
    if opened:
        reasons.append(
            f"{days_text(opened)} {be(opened)} read before the day had ended, so rows may be missing"
        )
    or_open = f", or {ALLOW_OPEN}=True to accept days that were read before their end" if opened else ""
    return LakeError(
        "; ".join(reasons),
        hint=f"Run: {export_command(feed, sorted([*never, *opened]))}\n"
        f"Or set the input's metadata {ALLOW_MISSING}=True to leave them out{or_open}.",
        feed=feed.name,
    )


def _versions(lake: FeedLake, state: FeedState, wanted: Wanted, loaded: Loaded) -> list[str]:
    committed = state.partition_keys()
    if wanted.partitions is None:
        loaded.version = committed[-1] if committed else ""
        return committed[-1:]
    gone = [key for key in wanted.partitions if key not in committed]
    kept = [key for key in committed if key in wanted.partitions]
    if gone and not (wanted.leaves_out and kept):
        raise VersionError(
            f"{', '.join(gone)} is not in the lake; it holds {', '.join(committed) or 'no version'}",
            hint="Export it first. Without a partition mapping an input gets the latest version.",
            feed=lake.feed.name,
        )
    loaded.version = kept[0] if len(kept) == 1 else ""
    return kept


def _arrow_table(rows: Rows) -> Any:
    return ENGINES["arrow"](rows).to_table()


_LOADERS: Mapping[tuple[str, str], Callable[[Rows], Any]] = {
    ("pandas", "DataFrame"): ENGINES["pandas"],
    ("polars", "DataFrame"): lambda rows: ENGINES["polars"](rows).collect(),
    ("polars", "LazyFrame"): ENGINES["polars"],
    ("pyarrow", "Table"): _arrow_table,
    ("pyarrow", "Dataset"): ENGINES["arrow"],
    ("pyarrow", "RecordBatchReader"): lambda rows: ENGINES["arrow"](rows).scanner().to_reader(),
    ("duckdb", "DuckDBPyRelation"): ENGINES["duckdb"],
}


def _loader(annotation: object) -> Callable[[Rows], Any]:
    wanted = _stripped(annotation)
    if wanted is Any:
        return ENGINES["pandas"]
    # By name: only the rooms that use SQL import duckdb, and its classes are defined in `_duckdb`.
    package = getattr(wanted, "__module__", "").split(".")[0].lstrip("_")
    loader = _LOADERS.get((package, getattr(wanted, "__name__", "")))
    if loader is None:
        raise ConfigError(
            f"a feed cannot be loaded as {annotation!r}",
            hint="Annotate the input with one of: "
            + ", ".join(f"{package}.{name}" for package, name in _LOADERS),
        )
    return loader


def _stripped(annotation: object) -> object:
    """Return the annotation without `Optional`: an input gets rows or an error, never None."""
    if get_origin(annotation) in (Union, UnionType):
        left = [each for each in get_args(annotation) if each is not NoneType]
        return left[0] if len(left) == 1 else annotation
    return annotation


@dataclass(slots=True)
class ExportOutput:
    """What an asset passes to the IO manager; after landing also the result and its location."""

    extraction: Extraction
    result: ExportResult | None = None
    news: frozenset[str] = frozenset()

    @property
    def landed(self) -> ExportResult:
        """The result of the landing.

        Raises:
            ConfigError: The lake's IO manager did not handle it.
        """
        if self.result is None:
            raise ConfigError(
                "a feed's output was not landed in the lake",
                hint="Keep the resource `lake_io_manager` that ksql_lake.definitions defines.",
            )
        return self.result


class LakeIOManager(dg.IOManager):
    """Lands the extraction of a feed's asset, and loads feeds for downstream assets.

    Args:
        scope: The feeds.
        lake: The lake resource.
    """

    def __init__(self, scope: Scope, lake: LakeResource) -> None:
        self.scope = scope
        self.lake = lake

    def handle_output(self, context: dg.OutputContext, obj: ExportOutput) -> None:
        """Read the source, commit its rows, and describe every partition of the run.

        In a run without a partition only the export knows the partitions; they are recorded one by one, and the
        run's own event names none.
        """
        if not isinstance(obj, ExportOutput):
            with self.lake.failures(0):
                raise ConfigError(
                    f"the lake's IO manager got {type(obj).__name__} from {context.asset_key.to_user_string()}",
                    hint="It writes feeds only; use another io_manager_key for your assets.",
                )
        result = self.lake.land(obj.extraction, attempt=previous_attempts(context), log=context.log)
        obj.result = result
        lake = self.lake.lake.feed(result.feed)
        obj.news = news(result, context.asset_key, instance_of(context))
        if not context.has_asset_partitions:
            for event in events(result, lake, self.scope, obj.news):
                context.log_event(event)
            describe_output(context, {None: run_metadata(result, lake, self.scope)})
            return
        if isinstance(result.feed, TableFeed):
            # Dagster rejects metadata for a partition that the instance does not know.
            keep_versions(self.scope.versions(result.feed.name), lake, instance_of(context))
        keys = context.asset_partition_keys
        unread = set(keys).difference(part.partition for part in result.partitions)
        state = lake.state().partitions if unread else {}
        held = {key: part.records for key, part in state.items() if key in unread}
        described: dict[str | None, dict[str, Any]] = {
            key: partition_metadata(
                result, key, lake, self.scope, newest=key == keys[-1], held=held.get(key, 0)
            )
            for key in keys
        }
        describe_output(context, described)
        # A feed that is read from its marks gets new rows of any day, whatever days were asked for.
        for event in events(result, lake, self.scope, obj.news.difference(keys)):
            context.log_event(event)

    def load_input(self, context: dg.InputContext) -> Any:
        """Return a feed's committed rows as the input's annotated type; see `load`."""
        with self.lake.failures(0):
            feed = self._feed(context.asset_key)
            wanted = Wanted.of(
                _named(context, feed), context.definition_metadata, every_day=_mapping(context) is not None
            )
            loaded = load(self.lake.lake.feed(feed), context.dagster_type.typing_type, wanted)
        if loaded.says:
            context.log.warning("%s: %s", feed.name, loaded.says)
        _describe(context, feed, loaded)
        return loaded.value

    def _feed(self, key: dg.AssetKey) -> Feed:
        feeds = self.scope.separated(FeedStore(self.scope.feeds_root).load())
        for file in feeds.files:
            if self.scope.key(file.feed) == key:
                return file.feed
        for broken in feeds.quarantined:
            if self.scope.key_of_broken(broken) == key:
                raise broken.error
        return feeds.file(key.path[-1]).feed


def _named(context: dg.InputContext, feed: Feed) -> list[str] | None:
    """Return the partitions that the downstream asset names; None for all, of a table the newest version.

    The instance is never asked for the existing partitions: it may be new, or behind the lake.
    """
    mapping = _mapping(context)
    if not context.has_asset_partitions or _is_whole(context) or isinstance(mapping, dg.AllPartitionMapping):
        return None
    if isinstance(mapping, dg.LastPartitionMapping) and isinstance(feed, TableFeed):
        return None
    named = list(context.asset_partition_keys)
    if not named and isinstance(mapping, dg.LastPartitionMapping):
        raise LakeError("it has no last day, because no day has ended yet", feed=feed.name)
    # Dagster leaves out what is no partition; where it leaves out all, no rows would look like empty days.
    allowed = context.definition_metadata.get(ALLOW_MISSING) or getattr(
        mapping, "allow_nonexistent_upstream_partitions", False
    )
    if not named and isinstance(feed, StreamFeed) and not allowed:
        raise LakeError(
            "the partition mapping names no day that has ended, or none since the first one",
            hint="Change the offsets of the mapping, run the partition later, or set the input's metadata "
            f"{ALLOW_MISSING}=True to get no rows.",
            feed=feed.name,
        )
    return named


def _mapping(context: dg.InputContext) -> dg.PartitionMapping | None:
    """Return the mapping that the downstream asset defines for this input, or None."""
    step = step_of(context)
    below = step.assets_def if step is not None else None
    return below.get_partition_mapping_for_dep(context.asset_key) if below is not None else None


def _is_whole(context: dg.InputContext) -> bool:
    """Return whether an asset without partitions loads the input, and no mapping selects partitions."""
    step = step_of(context)
    return step is not None and step.entity_partitions_def is None and _mapping(context) is None


def _describe(context: dg.InputContext, feed: Feed, loaded: Loaded) -> None:
    """Record on the downstream output the version of the rows, and the days that are left out."""
    step = step_of(context)
    below = step.assets_def if step is not None else None
    facts: dict[str, Any] = {}
    if loaded.version:
        facts[f"{feed.name}/version"] = loaded.version
    if loaded.missing:
        facts[f"{feed.name}/missing_days"] = f"{len(loaded.missing)}: {days_text(loaded.missing)}"
    if loaded.unfinished:
        facts[f"{feed.name}/open_days"] = f"{len(loaded.unfinished)}: {days_text(loaded.unfinished)}"
    if step is None or below is None or not facts:
        return
    for key in below.keys:
        step.add_asset_metadata(facts, asset_key=key)
