"""The names of Dagster that it does not publish: all of them stand here, each beside what serves without it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.instance import DynamicPartitionsStore

    PartitionsStore = DynamicPartitionsStore
else:
    PartitionsStore = Any

WILL_RETRY_TAG = "dagster/will_retry"
"""The tag of a failed run that Dagster tries again by itself."""


def _inner(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return None


RUN_REACTION = _inner("dagster._core.definitions.run_request", "DagsterRunReaction")
ERROR_INFO = _inner("dagster_shared.error", "SerializableErrorInfo")


def failed_tick(run: dg.DagsterRun, said: str, *, kind: str, reaction: Any = RUN_REACTION) -> Any:
    """Return what a run status sensor returns so that its tick fails for one run, and goes on to the next.

    Raises:
        dagster.Failure: This Dagster has no such thing; the tick ends here.
    """
    if reaction is None or ERROR_INFO is None:
        raise dg.Failure(said)
    return reaction(run, error=ERROR_INFO(said, stack=[], cls_name=kind), run_status=run.status)
