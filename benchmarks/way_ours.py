"""This project: exact types, proven complete, row checksums, durable commit; set up as its CLI is."""

from __future__ import annotations

from ksql_lake.cli.entry import keep_freed_memory
from ksql_lake.pandas_gate import keep_pandas_out

keep_freed_memory()

from collections.abc import Callable  # noqa: E402 - Arrow must not be imported before
from datetime import date  # noqa: E402

from task import Task, measured  # noqa: E402

from ksql_lake.errors import PropertyRefusedError  # noqa: E402
from ksql_lake.export import Days, export_feed  # noqa: E402
from ksql_lake.feeds.model import FEED_ADAPTER  # noqa: E402
from ksql_lake.ksqldb import KsqlClient  # noqa: E402
from ksql_lake.ksqldb.properties import LEGACY_WRITER  # noqa: E402
from ksql_lake.lake import Lake  # noqa: E402
from ksql_lake.settings import load_settings  # noqa: E402


def ours(task: Task, *, refused: tuple[str, ...] = ()) -> Callable[[], object]:
    """An export, without the properties that the server is to have refused."""
    keep_pandas_out()
    feed = FEED_ADAPTER.validate_python(task.feed)
    days = Days(date.fromisoformat(task.first), date.fromisoformat(task.last))

    def run() -> object:
        with KsqlClient(load_settings(ksqldb_url=task.url)) as client:
            client.properties.learn(PropertyRefusedError("for the benchmark", names=refused))
            return export_feed(feed, client, Lake(task.folder), days=days).read

    return run


def newer(task: Task) -> Callable[[], object]:
    """An export from the newer of ksqlDB's two writers, which sends one HTTP chunk a row."""
    return ours(task, refused=(LEGACY_WRITER,))


if __name__ == "__main__":
    measured({"ours": ours, "snappy": ours, "newer": newer})
