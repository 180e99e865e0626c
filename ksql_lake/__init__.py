"""ksql-lake: ksqlDB streams and tables as a plain Parquet lake, exactly once.

The public names load on first use, so that `import ksql_lake` costs nothing. Everything else is internal.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ksql_lake.lazy_names import lazy_names

if TYPE_CHECKING:
    from ksql_lake.devserver.process import DevServer
    from ksql_lake.errors import KsqlLakeError, Recovery
    from ksql_lake.export import Days, ExportResult, export_feed
    from ksql_lake.feeds import FeedStore
    from ksql_lake.ksqldb import KsqlClient
    from ksql_lake.lake import Lake
    from ksql_lake.orchestration import build_definitions, build_feed_assets
    from ksql_lake.orchestration.component import KsqlFeeds
    from ksql_lake.query import Changes, TableDiff, changes_since, connect, diff, read_stream, read_table
    from ksql_lake.settings import Settings, load_settings

    __version__: str

_HOMES = {
    "Changes": "ksql_lake.query",
    "Days": "ksql_lake.export",
    "DevServer": "ksql_lake.devserver.process",
    "ExportResult": "ksql_lake.export",
    "FeedStore": "ksql_lake.feeds",
    "KsqlClient": "ksql_lake.ksqldb",
    "KsqlFeeds": "ksql_lake.orchestration.component",
    "KsqlLakeError": "ksql_lake.errors",
    "Lake": "ksql_lake.lake",
    "Recovery": "ksql_lake.errors",
    "Settings": "ksql_lake.settings",
    "TableDiff": "ksql_lake.query",
    "build_definitions": "ksql_lake.orchestration",
    "build_feed_assets": "ksql_lake.orchestration",
    "changes_since": "ksql_lake.query",
    "connect": "ksql_lake.query",
    "diff": "ksql_lake.query",
    "export_feed": "ksql_lake.export",
    "load_settings": "ksql_lake.settings",
    "read_stream": "ksql_lake.query",
    "read_table": "ksql_lake.query",
}

__all__ = [
    "Changes",
    "Days",
    "DevServer",
    "ExportResult",
    "FeedStore",
    "KsqlClient",
    "KsqlFeeds",
    "KsqlLakeError",
    "Lake",
    "Recovery",
    "Settings",
    "TableDiff",
    "build_definitions",
    "build_feed_assets",
    "changes_since",
    "connect",
    "diff",
    "export_feed",
    "load_settings",
    "read_stream",
    "read_table",
]

_load = lazy_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from its package; `__version__` from the installed distribution."""
    if name == "__version__":
        # Importing it takes a third as long as `ksql-lake --help`.
        return import_module("importlib.metadata").version("ksql-lake")
    return _load(name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
