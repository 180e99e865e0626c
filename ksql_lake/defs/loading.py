"""What a downstream asset gets for a feed it names as input: the type its annotation asks for.

pandas columns keep their exact Arrow types, because a BIGINT with a NULL in it does not survive as a float.
Datasets, readers and relations are lazy. It refuses annotations it does not know instead of guessing one.
"""

from collections.abc import Callable, Collection
from datetime import date
from typing import Any

import pandas as pd
import pyarrow as pa

from ksql_lake.errors import ConfigError, VersionError
from ksql_lake.feeds import StreamFeed
from ksql_lake.lake import FeedLake
from ksql_lake.query.day_range import check_read


def _pandas(lake: FeedLake, partitions: Collection[str] | None) -> pd.DataFrame:
    frame: pd.DataFrame = _table(lake, partitions).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _table(lake: FeedLake, partitions: Collection[str] | None) -> pa.Table:
    return lake.dataset(partitions=partitions).to_table()


_LOADERS: dict[tuple[str, str], Callable[[FeedLake, Collection[str] | None], Any]] = {
    ("pandas", "DataFrame"): _pandas,
    ("pyarrow", "Table"): _table,
    ("pyarrow", "Dataset"): lambda lake, partitions: lake.dataset(partitions=partitions),
    ("pyarrow", "RecordBatchReader"): lambda lake, partitions: (
        lake.dataset(partitions=partitions).scanner().to_reader()
    ),
    ("duckdb", "DuckDBPyRelation"): lambda lake, partitions: lake.relation(partitions=partitions),
}


def load(lake: FeedLake, wanted: object, *, partitions: Collection[str] | None, named: bool = False) -> Any:
    """Give committed rows as the wanted type.

    Args:
        lake: The feed's lake.
        wanted: The annotation; `typing.Any` (none) means pandas.
        partitions: Which partitions, None for all. Of several versions of a table only the newest is given:
            each of them is the whole table.
        named: Whether the partitions are some that are wanted, and not all there are.

    Raises:
        ConfigError: The annotation is none of the known types.
        VersionError: The one version asked for is not in the lake.
        LakeError: Nothing was ever exported, or a day of a stream that is wanted was never read.
    """
    loader = _loader(wanted)
    feed = lake.feed
    if isinstance(feed, StreamFeed) and partitions is not None and named:
        days = [day for day in map(date.fromisoformat, partitions) if day >= feed.start_date]
        check_read(feed, lake.state(), days)
    return loader(lake, _versions(lake, partitions) if lake.feed.kind == "table" else partitions)


def _loader(wanted: object) -> Callable[[FeedLake, Collection[str] | None], Any]:
    if wanted is Any:
        return _pandas
    # By name: importing duckdb is left to the rooms that speak SQL, and its classes live in `_duckdb`.
    package = getattr(wanted, "__module__", "").split(".")[0].lstrip("_")
    loader = _LOADERS.get((package, getattr(wanted, "__name__", "")))
    if loader is None:
        raise ConfigError(
            f"a feed cannot be loaded as {wanted!r}",
            hint="Annotate the input with one of: "
            + ", ".join(f"{package}.{name}" for package, name in _LOADERS),
        )
    return loader


def _versions(lake: FeedLake, partitions: Collection[str] | None) -> list[str]:
    state = lake.state()
    committed = state.partition_keys()
    wanted = committed if partitions is None else [key for key in committed if key in partitions]
    if not wanted and partitions and committed:
        raise VersionError(
            f"{', '.join(partitions)} is not in the lake; it holds {', '.join(committed)}",
            hint="Export it first. Without a partition mapping an input gets the latest version there is.",
            feed=lake.feed.name,
        )
    return wanted[-1:]
