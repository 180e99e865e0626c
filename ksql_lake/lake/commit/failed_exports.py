"""A feed's failed exports since its last success, recorded beside the manifests."""

# The record only informs. If it cannot be written, that is a warning in the log, never another error.

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

from ksql_lake.errors import KsqlLakeError
from ksql_lake.lake.commit.feed_note import read_note, write_note
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage

KEPT = 20
"""How many of the newest failures are recorded; older ones are only counted."""

_LONGEST = 2000
"""The most characters of a text that are recorded: a server may answer with a whole page."""

_log = logging.getLogger(__name__)


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One failed export.

    Attributes:
        at: When it failed, ISO 8601 UTC.
        error: Name of the error's class.
        message: What happened.
        hint: What to do next.
        where: Where it happened: feed, partition, column or row -> value.
    """

    at: str
    error: str
    message: str
    hint: str = ""
    where: dict[str, str] = {}


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """The failed exports since the last success.

    Attributes:
        count: How many.
        newest: The newest of them, oldest first.
    """

    count: int = 0
    newest: list[Failure] = []

    @property
    def last(self) -> Failure | None:
        """The newest failure, or None."""
        return self.newest[-1] if self.newest else None


def read_failures(storage: Storage, layout: FeedLayout) -> Failures:
    """Return the failures since the last success; none when the record is absent or is not one of ours."""
    return read_note(storage, layout.failures, Failures)


def record_failure(
    storage: Storage, layout: FeedLayout, error: Exception, *, at: datetime | None = None
) -> None:
    """Record a failed export, whatever ended it; raises nothing."""
    known = read_failures(storage, layout)
    raised = error if isinstance(error, KsqlLakeError) else _unexpected(error, layout.name)
    failure = Failure(
        at=(at or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        error=type(error).__name__,
        message=raised.message[:_LONGEST],
        hint=raised.hint[:_LONGEST],
        where={name: str(value)[:_LONGEST] for name, value in raised.where.items()},
    )
    noted = Failures(count=known.count + 1, newest=[*known.newest, failure][-KEPT:])
    try:
        write_note(storage, layout, layout.failures, noted)
    except KsqlLakeError as unwritten:
        _log.warning("the failed export of %s could not be recorded: %s", layout.name, unwritten.message)


def _unexpected(error: Exception, feed: str) -> KsqlLakeError:
    text = " ".join(str(error).split()) or "no message"
    return KsqlLakeError(
        f"unexpected {type(error).__name__}: {text}",
        hint="This is a defect: run the export from a shell with --debug, and report the traceback.",
        feed=feed,
    )


def clear_failures(storage: Storage, layout: FeedLayout) -> None:
    """Remove the record of failures after a success; raises nothing."""
    try:
        storage.remove(layout.failures)
    except KsqlLakeError as error:
        _log.warning("the failed exports of %s could not be cleared: %s", layout.name, error.message)
