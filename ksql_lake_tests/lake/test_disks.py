"""Disks that are full, read-only, forbidden or broken, at every point of an export."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from ksql_lake_tests.lake.crashing.nursery import Nursery

AGAIN = "The commit is made; the next run of the feed finishes what is left of it. "
FULL = "Free some space or inodes (or move the lake with KSQL_LAKE_ROOT) and run it again."
READ_ONLY = "The filesystem is mounted read-only; remount it, or set KSQL_LAKE_ROOT elsewhere."
FORBIDDEN = "Give this user write permission on it, or set KSQL_LAKE_ROOT to a folder it owns."
LIMITED = "A file-size limit (ulimit -f) is set for this process; raise it, then run it again."
ELSEWHERE = "The lake renames and links between its folders; all of it must be on one filesystem."
BROKEN = "Check the disk, then run it again; every visible file is whole."

STAGING = "/metadata/streams/events/staging/00000000000000000002-"
COMMITS = "metadata/streams/events/commits"
COMMIT = f"/{COMMITS}/00000000000000000002.json: "
DATA = "/streams/events/year=2025/month=01/day=15/data_"
SUMMARY = "/metadata/streams/events/_metadata.json: "


@dataclass(frozen=True, slots=True)
class Case:
    """A fault and what the error has to say about it.

    Attributes:
        fault: Kind of the fault.
        arguments: Its arguments.
        point: Where in the export it strikes.
        where: A part of the path in the error.
        reason: What follows "could not be written:", or how that begins.
        hint: The line about what to do.
    """

    fault: str
    arguments: tuple[Any, ...]
    point: str
    where: str
    reason: str
    hint: str

    def __str__(self) -> str:
        return " ".join(map(str, (self.fault, *self.arguments, "at", self.point)))


NO_SPACE = "No space left on device (0 MB free on its disk)"
NO_INODES = "No space left on device (4 MB free, no inodes free on its disk)"
EIO = "Input/output error ("

BEFORE = [
    Case("full", (), "start", STAGING, NO_SPACE, FULL),
    Case("full", (), "commit", COMMIT, NO_SPACE, FULL),
    Case("no_inodes", (), "start", STAGING, NO_INODES, FULL),
    Case("no_inodes", (1,), "commit", COMMIT, NO_INODES, FULL),
    Case("read_only", (), "start", STAGING, "Read-only file system (4 MB free on its disk)", READ_ONLY),
    Case("read_only", (), "commit", COMMIT, "Read-only file system (4 MB free on its disk)", READ_ONLY),
    Case("forbidden", (), "start", STAGING, "Permission denied (", FORBIDDEN),
    Case("forbidden", (), "commit", COMMIT, "Permission denied (", FORBIDDEN),
    Case("file_limit", (), "start", STAGING, "File too large (", LIMITED),
    Case("file_limit", (), "commit", COMMIT, "File too large (", LIMITED),
    Case("failing", ("write", errno.ENOSPC), "start", STAGING, "No space left on device (", FULL),
    Case("failing", ("fsync", errno.EIO), "start", STAGING, EIO, BROKEN),
    Case("failing", ("fsync", errno.EIO), "commit", COMMIT, EIO, BROKEN),
    Case("other_disk", (COMMITS,), "start", COMMIT, "Invalid cross-device link (", ELSEWHERE),
]
"""Faults that strike before the commit point."""

AFTER = [
    Case("full", (), "derive", SUMMARY, NO_SPACE, FULL),
    Case("no_inodes", (), "publish", "/day=17/data_", NO_INODES, FULL),
    Case("read_only", (), "publish", DATA, "Read-only file system (4 MB free on its disk)", READ_ONLY),
    Case("forbidden", (), "publish", DATA, "Permission denied (", FORBIDDEN),
    Case("file_limit", (), "derive", SUMMARY, "File too large (", LIMITED),
    Case("failing", ("fsync", errno.EIO), "after link", f"/{COMMITS}: ", EIO, BROKEN),
    Case("failing", ("rename", errno.EIO), "publish", DATA, EIO, BROKEN),
    Case("failing", ("unlink", errno.EIO), "after link", COMMIT, EIO, BROKEN),
    Case("other_disk", ("streams/events",), "start", DATA, "Invalid cross-device link (", ELSEWHERE),
]
"""Faults that strike after it."""


def scene(nursery: Nursery, fault: str, arguments: Sequence[Any], point: str, **more: Any) -> dict[str, Any]:
    """Play a scene, or skip where the machine does not allow it."""
    outcome: dict[str, Any] = nursery.do("play", fault=fault, arguments=[*arguments], point=point, **more)
    if outcome["missing"]:
        pytest.skip(f"{fault} needs what is not here: {outcome['missing']}")
    return outcome


@pytest.mark.parametrize("case", BEFORE, ids=str)
def test_a_fault_before_the_commit_changes_nothing(nursery: Nursery, case: Case) -> None:
    """The export fails with path, free space and hint; nothing visible changed, and the next one is exact."""
    outcome = scene(nursery, case.fault, case.arguments, case.point)

    assert (outcome["struck"], outcome["committed"], outcome["broken"]) == (True, False, [])
    assert case.where in outcome["text"]
    assert f"could not be written: {case.reason}" in outcome["text"]
    assert outcome["text"].splitlines()[1:] == [case.hint]


@pytest.mark.parametrize("case", AFTER, ids=str)
def test_a_fault_after_the_commit_loses_nothing(nursery: Nursery, case: Case) -> None:
    """The error says that the commit is made; days are whole or not there yet, and the next export is exact."""
    outcome = scene(nursery, case.fault, case.arguments, case.point)

    assert (outcome["struck"], outcome["committed"], outcome["broken"]) == (True, True, [])
    assert case.where in outcome["text"]
    assert f"could not be written: {case.reason}" in outcome["text"]
    # While the manifest itself is being made durable, it is unknown whether the commit is made.
    made = "" if case.point == "after link" else AGAIN
    assert outcome["text"].splitlines()[1:] == [made + case.hint]


@pytest.mark.parametrize(("call", "at_least"), [("fsync", 20), ("rename", 5)])
def test_every_single_call_may_fail(nursery: Nursery, call: str, at_least: int) -> None:
    """Whichever fsync or rename of an export fails, from the first to the last, no promise is broken."""
    for nth in range(60):
        outcome = scene(nursery, "failing", [call, errno.EIO], f"before {call}", nth=nth)
        if not outcome["struck"]:
            break
        assert outcome["broken"] == [], f"{call} {nth}: {outcome}"

    assert at_least <= nth < 60


def test_the_disk_may_fill_up_at_any_byte(nursery: Nursery) -> None:
    """With a page more of space each time, from none to enough, no promise is broken wherever it runs out."""
    committed = []
    for pages in range(60):
        outcome = scene(nursery, "full", [pages * 4096], "start")
        if not outcome["error"]:
            break
        assert outcome["broken"] == [], f"{pages} pages: {outcome}"
        committed.append(outcome["committed"])

    # It ran out before the commit point, after it, and in the end not at all.
    assert set(committed) == {False, True}
    assert len(committed) < 60


@pytest.mark.parametrize(
    ("guard", "fault", "arguments", "point", "broken"),
    [
        ("errors are the lake's own", "forbidden", [], "start", "a WriteError, not PermissionError"),
        (
            "a failed sync is an error",
            "failing",
            ["fsync", errno.EIO],
            "start",
            "a WriteError, not none at all",
        ),
        ("a manifest is linked when it is whole", "file_limit", [], "commit", "the lake is usable"),
        ("files are renamed into place", "file_limit", [], "publish", "a visible file is whole"),
        ("the staging of a commit stays", "failing", ["rename", errno.EIO], "publish", "the lake is usable"),
    ],
)
def test_a_guard_taken_out_is_noticed(
    nursery: Nursery, guard: str, fault: str, arguments: list[Any], point: str, broken: str
) -> None:
    """The same scenes find a promise broken when the export lacks the guard that keeps it."""
    outcome = scene(nursery, fault, arguments, point, without=guard)

    assert any(broken in promise for promise in outcome["broken"]), outcome
