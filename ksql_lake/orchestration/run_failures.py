"""ksql-lake's errors as Dagster's: temporary ones request a retry, others fail the step at once."""

# There is no RetryPolicy on the assets: Dagster applies one to cancelled runs too.

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import dagster as dg

from ksql_lake.errors import KsqlLakeError, Recovery
from ksql_lake.feeds import StreamFeed, TableFeed

FeedT = TypeVar("FeedT", StreamFeed, TableFeed, StreamFeed | TableFeed)


@contextmanager
def dagster_failures(*, attempt: int, retries: int, wait: float) -> Iterator[None]:
    """Turn an error of ksql-lake into Dagster's retry request or failure.

    Args:
        attempt: How often this step was tried before; 0 the first time.
        retries: How often a step may be retried.
        wait: Seconds before the next attempt.

    Raises:
        dagster.RetryRequested: The error may be temporary and attempts are left.
        dagster.Failure: Any other error; it shows message, location and hint, and is not retried.
    """
    try:
        yield
    except KsqlLakeError as error:
        if error.recovery is Recovery.RETRY and attempt < retries:
            raise dg.RetryRequested(max_retries=retries, seconds_to_wait=wait) from error
        raise failure(error) from error


def each_feed(feeds: Sequence[FeedT], work: Callable[[FeedT], str], log: logging.Logger) -> None:
    """Do a work for each feed and log the text it returns; a failed feed does not stop the others.

    Raises:
        dagster.Failure: At least one feed failed; names each.
    """
    broken = []
    for feed in feeds:
        try:
            log.info(work(feed))
        except KsqlLakeError as error:
            broken.append(str(error.at(feed=feed.name)))
    if broken:
        raise dg.Failure("\n".join(broken), allow_retries=False)


def failure(error: KsqlLakeError) -> dg.Failure:
    """Return a Dagster failure with the error's text."""
    facts = {name: str(value) for name, value in error.where.items()}
    if error.hint:
        facts["what to do"] = error.hint
    return dg.Failure(str(error), metadata={**facts, "error": type(error).__name__}, allow_retries=False)
