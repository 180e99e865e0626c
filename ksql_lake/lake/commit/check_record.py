"""What the checks of a feed found: the newest result of each check and partition, in one file of the lake.

It only ever informs people. Where it is absent nothing was evaluated, and a reader says so. It refuses to fail:
what cannot be noted is a warning in the log, never an error of the export that was judged.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date

import msgspec

from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds.model import Severity
from ksql_lake.lake.layout import FeedLayout, version_number
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.locking import exclusive

FORMAT = 1
"""Version of the file's shape."""

_LONGEST = 2000
"""Characters of a text that are kept."""

_WAIT = 10.0
"""Seconds to wait for another process that notes its results in the same file."""

_log = logging.getLogger(__name__)


class FailedPartition(msgspec.Struct, frozen=True, kw_only=True):
    """Why a check does not hold in a partition: when that was judged (ISO 8601 UTC), and after which commit."""

    at: str
    commit: int
    says: str


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one check found, newest results only.

    Attributes:
        asks: What it asked then, as one sentence.
        severity: What a failure meant then.
        at: When it was evaluated last, ISO 8601 UTC.
        commit: After which commit.
        passed: Whether it held for all that it judged then.
        says: Why, for people.
        judged: Partitions that have a result, as ranges `FIRST/LAST`; empty for a check of the whole feed.
        failed: Partition -> why it does not hold there; judged again without a finding, it is gone from here.
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
    def holds(self) -> bool:
        """Whether it holds everywhere, by the newest result of each partition."""
        return not self.failed if self.judged else self.passed

    def judged_keys(self) -> Iterator[str]:
        """Yield the partitions that have a result, oldest first."""
        for text in self.judged:
            first, _, last = text.partition("/")
            yield from (_key(number, first) for number in range(_number(first), _number(last or first) + 1))


class CheckNotes(msgspec.Struct, frozen=True, kw_only=True):
    """What all checks of a feed found.

    Attributes:
        format: Version of the shape.
        commit: The newest commit that was judged; 0 when nothing was.
        checks: Check -> what it found.
    """

    format: int = FORMAT
    commit: int = 0
    checks: dict[str, CheckRecord] = {}


class CheckFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found in one export, to be noted.

    Attributes:
        name: The check.
        asks: What it asks.
        severity: What a failure means.
        passed: Whether it holds for all it judged.
        says: Why.
        judged: The partitions it looked at; empty for a check of the whole feed.
        failed: Partition -> why it does not hold there.
    """

    name: str
    asks: str
    severity: Severity
    passed: bool
    says: str
    judged: Sequence[str] = ()
    failed: Mapping[str, str] = {}


_DECODER = msgspec.json.Decoder(CheckNotes)


def read_checks(storage: Storage, layout: FeedLayout) -> CheckNotes:
    """Return what the checks found; nothing when the file is absent or is not one of ours."""
    try:
        data = storage.read(layout.checks)
        return CheckNotes() if data is None else _DECODER.decode(data)
    except (KsqlLakeError, OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _log.warning("%s cannot be read: %s", storage.uri(layout.checks), error)
        return CheckNotes()


def record_checks(
    storage: Storage,
    layout: FeedLayout,
    findings: Iterable[CheckFinding],
    *,
    commit: int,
    at: str,
    held: Collection[str] | None = None,
) -> None:
    """Note what the checks found after a commit; raises nothing.

    Args:
        storage: The lake's storage.
        layout: The feed's layout.
        findings: What they found.
        commit: The commit that was judged.
        at: When, ISO 8601 UTC.
        held: The partitions that are still there; others are forgotten. None forgets none.
    """
    # Number 0 is below every commit: should the process die in between, the next commit clears the folder.
    folder = layout.attempt(0, uuid.uuid4().hex[:8])
    try:
        with exclusive(storage, layout, wait=_WAIT, key=layout.checks_lock):
            known = read_checks(storage, layout)
            checks = dict(known.checks)
            for finding in findings:
                checks[finding.name] = _merged(checks.get(finding.name), finding, commit, at, held)
            noted = CheckNotes(commit=max(known.commit, commit), checks=checks)
            storage.begin(folder)
            try:
                text = msgspec.json.format(msgspec.json.encode(noted))
                storage.replace(layout.checks, text, temporary=f"{folder}/checks.tmp")
            finally:
                storage.remove_folder(folder)
    except KsqlLakeError as unwritten:
        _log.warning("what the checks of %s found could not be noted: %s", layout.name, unwritten.message)


def _merged(
    known: CheckRecord | None, new: CheckFinding, commit: int, at: str, held: Collection[str] | None
) -> CheckRecord:
    # What was asked in another way before, of other columns for instance, is no result of this check.
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


def _number(key: str) -> int:
    return version_number(key) if key.startswith("v") else date.fromisoformat(key).toordinal()


def _key(number: int, like: str) -> str:
    return f"v{number}" if like.startswith("v") else date.fromordinal(number).isoformat()
