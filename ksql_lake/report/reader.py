"""Everything the lake knows about its feeds, read without changing anything and without a feed file.

The manifests decide, proven by their digests; DuckDB reads what is derived from them (`_metadata.json`) and
what they are about (Parquet footers). One feed that cannot be read is a problem told, never
the end of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from ksql_lake.errors import KsqlLakeError
from ksql_lake.lake import Failures, FeedState
from ksql_lake.lake.doctor.examine import feeds_in
from ksql_lake.lake.failures import read_failures
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.log import CommitLog
from ksql_lake.lake.opening import open_storage
from ksql_lake.lake.storage import Storage
from ksql_lake.report.attempts import Attempt, newest_attempt
from ksql_lake.report.history import History, read_history
from ksql_lake.report.summaries import Summary, read_summaries

HISTORY = 1000
"""How many of a feed's newest commits are read one by one: six weeks of hourly exports, years of daily ones."""


@dataclass(frozen=True, slots=True)
class FeedMetadata:
    """What the lake knows about one feed.

    Attributes:
        layout: Its name, kind and places.
        state: What is committed; None when the manifests cannot be read.
        problem: Why they cannot be read.
        history: The newest commits, condensed.
        failures: Failed exports since the last one that landed.
        attempt: An attempt that is at work or was killed.
        summary: What `_metadata.json` says; None when there is none or it says nothing.
    """

    layout: FeedLayout
    state: FeedState | None
    problem: KsqlLakeError | None = None
    history: History = field(default_factory=History)
    failures: Failures = field(default_factory=Failures)
    attempt: Attempt | None = None
    summary: Summary | None = None

    @property
    def name(self) -> str:
        """The feed's name."""
        return self.layout.name


class MetadataReader:
    """Reads a lake's metadata.

    Args:
        lake_root: The lake's folder, which need not exist, or its address.
        connection: DuckDB to read with; without one the reader has its own, in memory.
        history: How many of a feed's newest commits are read one by one.
    """

    def __init__(
        self,
        lake_root: str | Path,
        *,
        connection: duckdb.DuckDBPyConnection | None = None,
        history: int = HISTORY,
    ) -> None:
        self.storage: Storage = open_storage(lake_root)
        self.connection = connection or duckdb.connect()
        self.storage.attach(self.connection)
        self.history = history

    @property
    def root(self) -> str:
        """Where the lake is."""
        return self.storage.uri("").rstrip("/")

    def list_all_metadata(self, *, now: datetime | None = None) -> tuple[FeedMetadata, ...]:
        """Read the metadata of every feed the lake holds anything of, by kind and name.

        Args:
            now: The present; for tests.

        Raises:
            LakeError: The lake's folder cannot be listed.
        """
        layouts = feeds_in(self.storage)
        summaries = self._summaries(layouts)
        moment = now or datetime.now(UTC)
        return tuple(self._read(layout, summaries.get(layout.summary), moment) for layout in layouts)

    def _read(self, layout: FeedLayout, summary: Summary | None, now: datetime) -> FeedMetadata:
        log = CommitLog(self.storage, layout)
        failures = read_failures(self.storage, layout)
        try:
            state = log.load()
            history = read_history(log, through=state.sequence, commits=self.history)
            attempt = newest_attempt(self.storage, layout, after=state.sequence, now=now)
        except KsqlLakeError as error:
            return FeedMetadata(layout, None, problem=error, failures=failures, summary=summary)
        return FeedMetadata(layout, state, history=history, failures=failures, attempt=attempt, summary=summary)

    def _summaries(self, layouts: Sequence[FeedLayout]) -> dict[str, Summary]:
        with self.storage.local_copies([layout.summary for layout in layouts]) as paths:
            keys = {path: key for key, path in paths.items() if Path(path).is_file()}
            found = read_summaries(self.connection, list(keys))
        return {keys[path]: summary for path, summary in found.items()}
