"""The newest result of each check of a feed and each partition, in one file of the lake.

The file only informs people. A result that cannot be recorded is a warning in the log, never an error of the
export.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date

import msgspec

from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds.model import Severity
from ksql_lake.lake.commit.feed_note import read_note, write_note
from ksql_lake.lake.layout import FeedLayout, version_number
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.locking import exclusive

FORMAT = 1
"""Version of the file's shape."""

_LONGEST = 2000
"""The most characters of a text that are recorded."""

_WAIT = 10.0
"""Seconds to wait for another process that records its results in the same file."""

_log = logging.getLogger(__name__)


class FailedPartition(msgspec.Struct, frozen=True, kw_only=True):
    """Why a check failed in a partition, when it was evaluated (ISO 8601 UTC), and after which commit."""

    at: str
    commit: int
    says: str


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest results of one check.

    Attributes:
        asks: The question that the check asked, as one sentence.
        severity: The severity of a failure when the check was evaluated.
        at: When the check was last evaluated, ISO 8601 UTC.
        commit: The commit after which it was evaluated.
        passed: Whether the check passed for everything that it judged.
        says: The reason, for people.
        judged: Partitions that have a result, as ranges `FIRST/LAST`; empty for a check of the whole feed.
        failed: Partition -> why the check failed there; an entry goes when the partition passes later.
    """

    asks: str
    severity: Severity
    at: str
    commit: int
    passed: bool
    says: str
    judged: tuple[str, ...] = ()
    failed: dict[str, FailedPartition] = {}

    @property
    def newest(self) -> str:
        """The newest partition that has a result; empty for a check of the whole feed."""
        return self.judged[-1].rpartition("/")[2] if self.judged else ""

    @property
    def count(self) -> int:
        """How many partitions have a result."""
        return sum(last - first + 1 for first, last in map(_ends, self.judged))

    @property
    def failing(self) -> Mapping[str, FailedPartition]:
        """The failed partitions that count: all days, but of a table's versions only the newest one.

        A replaced version is never read again, so its failure could not end.
        """
        if not self.newest.startswith("v"):
            return self.failed
        return {key: why for key, why in self.failed.items() if key == self.newest}

    @property
    def holds(self) -> bool:
        """Whether the newest result of every partition that counts is a pass."""
        return not self.failing if self.judged else self.passed

    def judged_keys(self) -> Iterator[str]:
        """Yield the partitions that have a result, oldest first."""
        for text in self.judged:
            first, last = _ends(text)
            yield from (_key(number, text) for number in range(first, last + 1))


class CheckNotes(msgspec.Struct, frozen=True, kw_only=True):
    """The results of all checks of a feed.

    Attributes:
        format: Version of the shape.
        commit: The newest commit that was judged; 0 when nothing was.
        checks: Check -> its results.
    """

    format: int = FORMAT
    commit: int = 0
    checks: dict[str, CheckRecord] = {}


class CheckFinding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check after one export, to be recorded.

    Attributes:
        name: The check.
        asks: The question that the check asks.
        severity: The severity of a failure.
        passed: Whether the check passed for everything that it judged.
        says: The reason, for people.
        judged: The partitions that were judged; empty for a check of the whole feed.
        failed: Partition -> why the check failed there.
    """

    name: str
    asks: str
    severity: Severity
    passed: bool
    says: str
    judged: Sequence[str] = ()
    failed: Mapping[str, str] = {}


def read_checks(storage: Storage, layout: FeedLayout) -> CheckNotes:
    """Return the recorded results of the checks; none when the file is absent or is not one of ours."""
    return read_note(storage, layout.checks, CheckNotes)


def record_checks(
    storage: Storage,
    layout: FeedLayout,
    findings: Iterable[CheckFinding],
    *,
    commit: int,
    at: str,
    held: Collection[str] | None = None,
) -> CheckNotes:
    """Record the results of the checks after a commit, and return what the lake records now; raises nothing.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        findings: The results.
        commit: The commit that was judged.
        at: When, ISO 8601 UTC.
        held: The partitions that the lake still holds; results of others are dropped. None drops none.
    """
    try:
        with exclusive(storage, layout, wait=_WAIT, key=layout.checks_lock):
            known = read_checks(storage, layout)
            checks = dict(known.checks)
            for finding in findings:
                checks[finding.name] = _merged(checks.get(finding.name), finding, commit, at, held)
            noted = CheckNotes(commit=max(known.commit, commit), checks=checks)
            write_note(storage, layout, layout.checks, noted)
            return noted
    except KsqlLakeError as unwritten:
        _log.warning("the check results of %s could not be recorded: %s", layout.name, unwritten.message)
        return read_checks(storage, layout)


def _merged(
    known: CheckRecord | None, new: CheckFinding, commit: int, at: str, held: Collection[str] | None
) -> CheckRecord:
    # If the check asked something else before, e.g. about other columns, that result is not one of this check.
    before = known if known is not None and known.asks == new.asks else None
    keys = {key for key in before.judged_keys() if held is None or key in held} if before else set[str]()
    failed = {key: why for key, why in before.failed.items() if key in keys} if before else {}
    for key in new.judged:
        failed.pop(key, None)
    for key, says in new.failed.items():
        failed[key] = FailedPartition(at=at, commit=commit, says=says[:_LONGEST])
    return CheckRecord(
        asks=new.asks,
        severity=new.severity,
        at=at,
        commit=commit,
        passed=new.passed,
        says=new.says[:_LONGEST],
        judged=tuple(_ranges(keys.union(new.judged))),
        failed=dict(sorted(failed.items(), key=lambda item: _number(item[0]))),
    )


def _ranges(keys: Collection[str]) -> Iterator[str]:
    numbers = sorted(map(_number, keys))
    example = next(iter(keys), "")
    start = 0
    for at, number in enumerate(numbers):
        if at + 1 == len(numbers) or numbers[at + 1] != number + 1:
            first, last = _key(numbers[start], example), _key(number, example)
            yield first if first == last else f"{first}/{last}"
            start = at + 1


def _ends(keys: str) -> tuple[int, int]:
    first, _, last = keys.partition("/")
    return _number(first), _number(last or first)


def _number(key: str) -> int:
    return version_number(key) if key.startswith("v") else date.fromisoformat(key).toordinal()


def _key(number: int, like: str) -> str:
    return f"v{number}" if like.startswith("v") else date.fromordinal(number).isoformat()
