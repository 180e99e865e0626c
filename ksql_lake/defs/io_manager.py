"""Between Dagster and the lake: an asset's extraction is landed, a downstream input is loaded.

Not a UPathIOManager: that one refuses ranges of partitions, and here a range is one query and one commit.
"""

from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.execution.context.system import StepExecutionContext
from pydantic import Field

from ksql_lake.defs.events import events, partition_metadata, run_metadata
from ksql_lake.defs.loading import Loaded, Wanted, load
from ksql_lake.defs.resources import LakeResource
from ksql_lake.errors import ConfigError, LakeError
from ksql_lake.export import ExportResult, Extraction
from ksql_lake.export.versions import keep_versions
from ksql_lake.feeds import Feed, FeedStore, TableFeed
from ksql_lake.query.day_range import days_text


@dataclass(slots=True)
class Delivery:
    """What an asset hands to the IO manager, and, once that has landed it, what happened."""

    extraction: Extraction
    result: ExportResult | None = None

    @property
    def landed(self) -> ExportResult:
        """What landing it did.

        Raises:
            ConfigError: It was not given to the lake's IO manager.
        """
        if self.result is None:
            raise ConfigError(
                "a feed's output was not landed in the lake",
                hint="Leave the resource `lake_io_manager` as ksql_lake.definitions gives it.",
            )
        return self.result


class LakeIOManager(dg.ConfigurableIOManager):
    """Lands what a feed's asset wants to read, and loads feeds into the assets below them."""

    lake: LakeResource
    feeds_root: str = Field(description="Folder with the feed files.")

    def handle_output(self, context: dg.OutputContext, obj: Delivery) -> None:
        """Read the source, commit its rows, and describe every partition of the run.

        In a run without a partition only the export knows which partitions those were; they are recorded one by
        one, and what Dagster records of the run itself names none.
        """
        step = context.step_context
        if not isinstance(obj, Delivery):
            with self.lake.failures(0):
                raise ConfigError(
                    f"the lake's IO manager got {type(obj).__name__} from {context.asset_key.to_user_string()}",
                    hint="It writes feeds only; give your own assets another io_manager_key.",
                )
        result = self.lake.land(obj.extraction, attempt=step.previous_attempt_count, log=context.log)
        obj.result = result
        lake = self.lake.lake.feed(result.feed)
        if not context.has_asset_partitions:
            for event in events(result, lake):
                context.log_event(event)
            step.add_asset_metadata(run_metadata(result, lake))
            return
        if isinstance(result.feed, TableFeed):
            # Dagster takes no metadata for a partition that the instance has never heard of.
            keep_versions(result.feed.versions_name, lake, step.instance)
        keys = context.asset_partition_keys
        for key in keys:
            metadata = partition_metadata(result, key, lake, newest=key == keys[-1])
            step.add_asset_metadata(metadata, partition_key=key)

    def load_input(self, context: dg.InputContext) -> Any:
        """Give a feed's committed rows as the type the input is annotated with; see `loading.load`."""
        with self.lake.failures(0):
            feed = FeedStore(self.feeds_root).load().file(context.asset_key.path[-1]).feed
            wanted = Wanted.of(_named(context, feed), context.definition_metadata)
            loaded = load(self.lake.lake.feed(feed), context.dagster_type.typing_type, wanted)
        if loaded.says:
            context.log.warning("%s: %s", feed.name, loaded.says)
        _describe(context, feed, loaded)
        return loaded.value


def _named(context: dg.InputContext, feed: Feed) -> list[str] | None:
    """The partitions that the asset below names; None where it gets all, of a table the newest version.

    Which partitions there are the instance is never asked: it may be new, or behind the lake.
    """
    if not context.has_asset_partitions:
        return None
    mapping = _mapping(context)
    if isinstance(mapping, dg.AllPartitionMapping):
        return None
    if isinstance(mapping, dg.LastPartitionMapping) and isinstance(feed, TableFeed):
        return None
    named = list(context.asset_partition_keys)
    if not named and isinstance(mapping, dg.LastPartitionMapping):
        raise LakeError("it has no last day, because none has ended yet", feed=feed.name)
    return named


def _mapping(context: dg.InputContext) -> dg.PartitionMapping | None:
    """How the asset below chooses partitions; None where it has partitions itself, and gives no mapping."""
    step = _step(context)
    below = step.assets_def if step is not None else None
    if step is None:
        return None
    given = below.get_partition_mapping_for_dep(context.asset_key) if below is not None else None
    if given is None and step.entity_partitions_def is None:
        return dg.AllPartitionMapping()
    return given


def _describe(context: dg.InputContext, feed: Feed, loaded: Loaded) -> None:
    """Say on what is made of the rows which version they are, and which days are not among them."""
    step = _step(context)
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


def _step(context: dg.InputContext) -> StepExecutionContext | None:
    """The step that asks; None outside a run, e.g. in a notebook."""
    try:
        return context.step_context
    except dg.DagsterInvariantViolationError:
        return None
