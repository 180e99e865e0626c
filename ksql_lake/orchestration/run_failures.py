"""Our errors in Dagster's terms: retry what can succeed, fail at once where it cannot."""

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
    """Turn an error of ours into what Dagster acts on.

    Args:
        attempt: How often this step was tried before; 0 the first time.
        retries: How often a step may be tried again.
        wait: Seconds before the next attempt.

    Raises:
        dagster.RetryRequested: The error may pass by itself and attempts are left.
        dagster.Failure: Anything else of ours; shows message, location and hint, and is not retried.
    """
    try:
        yield
    except KsqlLakeError as error:
        if error.recovery is Recovery.RETRY and attempt < retries:
            raise dg.RetryRequested(max_retries=retries, seconds_to_wait=wait) from error
        raise failure(error) from error


def each_feed(feeds: Sequence[FeedT], work: Callable[[FeedT], str], log: logging.Logger) -> None:
    """Do something for each feed and log what it tells; one that cannot be done does not stop the others.

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
    """Return the Dagster failure that says what the error says."""
    facts = {name: str(value) for name, value in error.where.items()}
    if error.hint:
        facts["what to do"] = error.hint
    return dg.Failure(str(error), metadata={**facts, "error": type(error).__name__}, allow_retries=False)
