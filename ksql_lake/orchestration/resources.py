"""The resources of assets: the ksqlDB client and the lake. Neither carries a secret."""

# Dagster shows a resource's configuration to everyone who can open the UI; credentials come from the
# environment.

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import dagster as dg
from pydantic import Field

from ksql_lake.export import ExportResult, Extraction, Progress, land
from ksql_lake.export.facts import beginning, rate, summary
from ksql_lake.followers import update_followers
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.orchestration.run_failures import dagster_failures
from ksql_lake.quantities import count_text
from ksql_lake.settings import Settings
from ksql_lake.telemetry import about, trace

PROGRESS_SECONDS = 10.0
"""Seconds between two progress lines of a long export in the run's log."""


def ksqldb_resource(settings: Settings) -> dg.ResourceDefinition:
    """Return the resource that holds a client of the ksqlDB server for the duration of a run."""

    @dg.resource(description="The ksqlDB server. The process that reads supplies address and credentials.")
    def ksqldb(context: dg.InitResourceContext) -> Iterator[KsqlClient]:
        # The client sends nothing until an asset uses it.
        trace(settings.otel_endpoint)
        with about(run=context.run.run_id if context.run else None), KsqlClient(settings) as client:
            yield client

    return ksqldb


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Parquet lake, and how often a failed step is retried."""

    root: str = Field(description="Folder of the lake.")
    retries: int = Field(
        default=2, ge=0, description="Further attempts of a step whose error may be temporary."
    )
    retry_wait: float = Field(ge=0, description="Seconds before each further attempt.")

    @property
    def lake(self) -> Lake:
        """The lake."""
        return Lake(self.root)

    def failures(self, attempt: int) -> AbstractContextManager[None]:
        """Return the context that turns ksql-lake's errors into Dagster's; `attempt` is 0 the first time."""
        return dagster_failures(attempt=attempt, retries=self.retries, wait=self.retry_wait)

    def land(self, extraction: Extraction, *, attempt: int, log: logging.Logger) -> ExportResult:
        """Read the source, commit its rows, and log the result in the run.

        Raises:
            dagster.RetryRequested: The error may be temporary and attempts are left.
            dagster.Failure: Any other error of ksql-lake.
        """
        log.info(beginning(extraction.plan, extraction.client.url))
        with self.failures(attempt):
            result = land(extraction, self.lake, on_progress=_progress_lines(extraction, log))
            update_followers(self.lake, result.feed)
        log.info(summary(result))
        return result


def _progress_lines(extraction: Extraction, log: logging.Logger) -> Callable[[Progress], None]:
    """Log the query when the server begins to answer it, then the progress at intervals."""
    began = last = time.monotonic()
    attempt = 0

    def line(progress: Progress) -> None:
        nonlocal began, last, attempt
        now = time.monotonic()
        if progress.attempt > attempt:
            began, attempt = now, progress.attempt
            again = f" (attempt {attempt})" if attempt > 1 else ""
            log.info(
                "%s%s: the server answers the query\n%s", progress.feed, again, extraction.question.statement
            )
        elif now - last >= PROGRESS_SECONDS:
            last = now
            so_far = rate(progress.rows, progress.bytes, now - began)
            log.info("%s: %s so far; %s", progress.feed, count_text(progress.rows, "row"), so_far)

    return line
