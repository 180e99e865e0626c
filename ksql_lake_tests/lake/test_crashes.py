"""Processes killed anywhere while they write to one lake: the harness of `crashing`, and that it can fail."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ksql_lake_tests.lake.crashing.figures import BAD
from ksql_lake_tests.lake.crashing.guards import GUARDS
from ksql_lake_tests.lake.crashing.nursery import Nursery
from ksql_lake_tests.lake.crashing.traps import POINTS

KILLS = 200
PATIENCE = 280.0
"""Seconds after which a run ends with as many kills as it has; a busy machine needs a minute."""


def test_hundreds_of_kills_lose_double_and_tear_nothing() -> None:
    """After 200 kills, random and at every armed point, rows equal the source's and doctor finds nothing."""
    command = [sys.executable, "-m", "ksql_lake_tests.lake.crashing"]
    command += ["--kills", str(KILLS), "--seed", "7", "--seconds", str(PATIENCE)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE + 60, check=False)

    figures = dict(re.findall(r"^ *(.+?)  +(\S.*)$", done.stdout, re.MULTILINE))
    assert {kind: figures.get(kind) for kind in BAD} == dict.fromkeys(BAD, "0"), done.stdout + done.stderr
    assert done.returncode == 0
    killed, at_random, armed = map(int, re.findall(r"\d+", figures["kills"]))
    assert killed >= KILLS
    assert at_random >= KILLS // 4
    assert armed >= KILLS // 4
    # A process may be killed elsewhere before it comes to where its trap is.
    assert sum(int(figures[point]) > 0 for point in POINTS) >= len(POINTS) - 3, done.stdout
    assert int(figures["commits"]) > KILLS // 4
    assert int(figures["stopped and continued"]) > 0
    assert int(figures["reader: polls"]) > 0
    assert int(figures["files read"]) > 0


@pytest.mark.parametrize("store", ["moto", "seaweedfs"])
def test_kills_into_a_store_lose_double_and_tear_nothing(store: str) -> None:
    """The same in an object store: no rename, no lock, requests cut off anywhere, and every row once."""
    command = [sys.executable, "-m", "ksql_lake_tests.lake.crashing", "--store", store]
    command += ["--kills", "40", "--seed", "11", "--seconds", str(PATIENCE)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE + 120, check=False)

    figures = dict(re.findall(r"^ *(.+?)  +(\S.*)$", done.stdout, re.MULTILINE))
    assert {kind: figures.get(kind) for kind in BAD} == dict.fromkeys(BAD, "0"), done.stdout + done.stderr
    assert done.returncode == 0
    assert int(figures["commits"]) > 10
    assert int(figures["reader: polls"]) > 0


@pytest.mark.parametrize("guard", GUARDS)
def test_the_harness_notices_a_guard_taken_out(nursery: Nursery, guard: str) -> None:
    """Without any one of its guards the same lake, written by the same writers, is found out."""
    kinds: set[str] = set()
    for _ in range(3):  # kills come at random, and may all miss the moment that the guard is for
        found = nursery.do("run_without", guard=guard, kills=120, seconds=100.0)
        kinds |= {kind for kind, findings in found.items() if findings}
        if kinds & GUARDS[guard].findings:
            break

    assert kinds & GUARDS[guard].findings
