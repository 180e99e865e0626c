"""Retry requests after errors that may pass by themselves, with back-off and jitter."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from ksql_lake.errors import KsqlLakeError, PropertyRefusedError, Recovery

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


_FIRST_WAIT, _LONGEST_WAIT, _JITTER = 0.5, 15.0, 0.5  # seconds; each wait is twice the one before


def tried(
    work: Callable[[int], Result], attempts: int, *, sleep: Callable[[float], None] = time.sleep
) -> Result:
    """Call `work` until it succeeds, at most `attempts` times in all.

    Args:
        work: Takes the attempt's number, from 1 on.
        attempts: How many calls.
        sleep: Waits for some seconds.

    Raises:
        Exception: The last attempt's, or one that no repetition helps against.
    """
    for number in range(1, attempts):
        try:
            return work(number)
        except KsqlLakeError as error:
            if error.recovery is not Recovery.RETRY:
                raise
            reason = str(error).split("\n", maxsplit=1)[0]
        wait = min(_FIRST_WAIT * 2 ** (number - 1), _LONGEST_WAIT) + random.uniform(0, _JITTER)  # noqa: S311
        logger.warning("%s; attempt %d follows in %.1f s", reason, number + 1, wait)
        sleep(wait)
    return work(attempts)


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
