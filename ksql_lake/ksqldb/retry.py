"""Retry requests after errors that may pass by themselves, with back-off and jitter."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from ksql_lake.errors import KsqlLakeError, PropertyRefusedError, Recovery

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def retrying(attempts: int, *, sleep: Callable[[float], None] = time.sleep) -> Retrying:
    """Return a caller that tries a function at most `attempts` times in all; usable from several threads."""
    return Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(multiplier=0.5, max=15) + wait_random(0, 0.5),
        before_sleep=_log_retry,
        sleep=sleep,
        reraise=True,
    )


def without_refused(learn: Callable[[PropertyRefusedError], bool], work: Callable[[], Result]) -> Result:
    """Call `work` until it succeeds, each time without one more property that the server refuses.

    Args:
        learn: Records a refusal; returns whether a retry may help.
        work: Sends the query.

    Raises:
        PropertyRefusedError: A retry does not help.
    """
    while True:
        try:
            return work()
        except PropertyRefusedError as refused:
            if not learn(refused):
                raise


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, KsqlLakeError) and error.recovery is Recovery.RETRY


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    reason = str(error).split("\n", maxsplit=1)[0]
    logger.warning("%s; attempt %d follows in %.1f s", reason, state.attempt_number + 1, state.upcoming_sleep)
