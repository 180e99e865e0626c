"""Between Dagster and the lake: an asset's extraction is landed, a downstream input is loaded.

Not a UPathIOManager: that one refuses ranges of partitions, and here a range is one query and one commit.
"""

from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from ksql_lake.defs.events import partition_metadata
from ksql_lake.defs.loading import load
from ksql_lake.defs.resources import LakeResource
from ksql_lake.errors import ConfigError
from ksql_lake.export import ExportResult, Extraction
from ksql_lake.feeds import FeedStore


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
        """Read the source, commit its rows, and describe every partition of the run."""
        step = context.step_context
        if not isinstance(obj, Delivery):
            with self.lake.failures(0):
                raise ConfigError(
                    f"the lake's IO manager got {type(obj).__name__} from {context.asset_key.to_user_string()}",
                    hint="It writes feeds only; give your own assets another io_manager_key.",
                )
        result = self.lake.land(
            obj.extraction, step.instance, attempt=step.previous_attempt_count, log=context.log
        )
        obj.result = result
        lake, keys = self.lake.lake.feed(result.feed), context.asset_partition_keys
        for key in keys:
            metadata = partition_metadata(result, key, lake, newest=key == keys[-1])
            step.add_asset_metadata(metadata, partition_key=key)

    def load_input(self, context: dg.InputContext) -> Any:
        """Give a feed's committed rows as the type the input is annotated with."""
        partitions = context.asset_partition_keys if context.has_asset_partitions else None
        with self.lake.failures(0):
            feed = FeedStore(self.feeds_root).load().file(context.asset_key.path[-1]).feed
            # An asset without days of its own gets whatever there is.
            every = context.asset_partitions_def if partitions is not None and feed.kind == "stream" else None
            named = every is not None and len(partitions or ()) < len(every.get_partition_keys())
            lake = self.lake.lake.feed(feed)
            return load(lake, context.dagster_type.typing_type, partitions=partitions, named=named)
