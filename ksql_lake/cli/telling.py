"""Dagster is told about what the shell did; whatever it answers, what was done stays done.

Nothing of Dagster is imported here: it takes seconds, and most shells have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ksql_lake.cli.output import note
from ksql_lake.errors import KsqlLakeError


@contextmanager
def never_failing(done: str) -> Iterator[None]:
    """Make a warning of everything that goes wrong inside.

    Args:
        done: What has happened all the same, e.g. `the exports landed`.
    """
    try:
        yield
    except KsqlLakeError as error:
        note(str(error), label="warning")
    except Exception as error:  # noqa: BLE001 - what was done is done, whatever Dagster says
        message = " ".join(str(error).split())
        note(f"{done}, but telling Dagster failed: {type(error).__name__}: {message}", label="warning")
