"""A lake is killed, restored, copied, edited and repaired, round by round; and the harness can fail."""

from __future__ import annotations

import re
import subprocess
import sys

from ksql_lake_tests.lake.crashing.restoring import BAD, MOST_REFUSED

ROUNDS = 40


def played(*arguments: str) -> tuple[int, dict[str, str], str]:
    """Run the harness, and give its exit code, its figures and all it said."""
    command = [sys.executable, "-m", "ksql_lake_tests.lake.crashing.restoring", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    figures = dict(re.findall(r"^ *(.+?)  +(\S.*)$", done.stdout, re.MULTILINE))
    return done.returncode, figures, done.stdout + done.stderr


def test_restores_edits_and_kills_double_and_lose_nothing() -> None:
    """Rows equal the source's after each round, and the command that a refusal prints repairs it."""
    code, figures, said = played("--rounds", str(ROUNDS), "--seed", "1")

    assert {kind: figures.get(kind) for kind in BAD} == dict.fromkeys(BAD, "0"), said
    assert int(figures["rounds"]) == ROUNDS
    assert 0 < int(figures["refused"]) <= MOST_REFUSED * ROUNDS
    assert int(figures["commands run as they were printed"]) > 0
    assert code == 0


def test_the_harness_notices_what_is_silently_doubled() -> None:
    """Without the looks at log and folder the same rounds double rows, and that is found."""
    _, figures, said = played("--rounds", str(ROUNDS), "--seed", "1", "--without-checks")

    assert int(figures["double"]) > 0, said
