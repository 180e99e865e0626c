"""`python -m ksql_lake_tests.lake.crashing.restoring`: a lake is killed, restored, copied, edited, repaired.

Each round something happens to the lake, then everything is exported. An export may succeed or refuse; where it
refuses, the command in its message is run unchanged, and then the export has to succeed. DuckDB compares the
files with the source, by no code of the product. The parent has no threads: forked children do all work.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from ksql_lake.errors import ConflictError, KsqlLakeError
from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import Lake, ReadFacts
from ksql_lake.lake import feed_lake as feed_lake_module
from ksql_lake.lake.commit import attempt as attempt_module
from ksql_lake.lake.commit import log as log_module
from ksql_lake.lake.commit.log import StepHook, no_step
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake_tests.lake.crashing.nursery import SINGLE_THREADED
from ksql_lake_tests.lake.crashing.source import DAYS, Source, window
from ksql_lake_tests.lake.crashing.verdict import differing_rows, held_ids
from ksql_lake_tests.lake.crashing.writers import EVENTS_FEED, fork, merge
from ksql_lake_tests.lake.landing import EVENTS

MOST_REFUSED = 0.2
"""The share of rounds that may refuse."""
BAD = ("double", "missing", "failed", "stuck")
_COMMAND = re.compile(r"`(ksql-lake doctor [^`]+)`")
_READ_AT = "2025-02-01T12:00:00.000+00:00"
_STEPS = 12
_COPIES = 4
_ORIGIN = Origin(topic="events", kafka_cluster="k", service="s", made_by="CSAS_EVENTS_1")
_FREE: tuple[dict[str, object], ...] = (
    {"compression": "snappy"},
    {"lookback_days": 5},
    {"description": "other words"},
    {"start_date": "2024-12-01"},
    {},
)
_PINNED: tuple[dict[str, object], ...] = (
    {"timezone": "Europe/Berlin"},
    {"source": "OTHERS"},
    {"identity": {"by": "key", "columns": ["ID"]}},
    {"rename": {"NOTE": "REMARK"}},
)


@dataclass(slots=True)
class Figures:
    """What happened.

    Attributes:
        rounds: Rounds played.
        events: What happened in them.
        refused: Rounds whose export refused.
        commands: Commands that were run because a refusal named them.
        findings: What must not be.
    """

    rounds: int = 0
    events: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    commands: int = 0
    findings: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in BAD})
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing was found, and not too much refused."""
        return not any(self.findings.values()) and self.refused <= MOST_REFUSED * self.rounds

    def lines(self) -> Iterator[str]:
        """The figures, a line each."""
        rows: list[tuple[str, object]] = [
            ("rounds", self.rounds),
            *((f"  {event}", count) for event, count in sorted(self.events.items())),
            ("refused", self.refused),
            ("commands run as they were printed", self.commands),
            *((kind, len(texts)) for kind, texts in self.findings.items()),
            ("seconds", f"{self.seconds:.1f}"),
        ]
        yield from (f"{name:<36}  {value}" for name, value in rows)
        for kind, texts in self.findings.items():
            yield from (f"{kind}: {text}" for text in texts[:5])


def in_child(task: Callable[[], object]) -> Any:
    """Do a task in a process of its own, and give what it gives."""
    with tempfile.TemporaryFile("w+") as answer:

        def work() -> None:
            logging.disable()
            os.write(answer.fileno(), json.dumps(task()).encode())

        _, status = os.waitpid(fork(work), 0)
        answer.seek(0)
        text = answer.read()
    if status or not text:
        raise RuntimeError(f"a child ended with {status:#x}")
    return json.loads(text)


class Restoring:
    """Rounds over one lake.

    Args:
        root: The lake's folder; absent.
        aside: A folder for copies.
        seed: Of everything random.
        rounds: How many.
    """

    def __init__(self, root: Path, aside: Path, *, seed: int, rounds: int) -> None:
        self.root, self.aside, self.rounds = root, aside, rounds
        self.random = Random(seed)
        self.source = Source(seed, ticks=max(rounds, 2))
        self.feed = EVENTS_FEED
        self.figures = Figures()
        self.tick = 0
        self._copies: list[Path] = []
        self._made = 0

    def execute(self) -> Figures:
        """Play rounds until something is found, and give the figures."""
        began = time.monotonic()
        for tick in range(self.rounds):
            self.tick = tick
            self._round()
            self.figures.rounds += 1
            if any(self.figures.findings.values()):
                break  # what is wrong now stays wrong
        self.figures.seconds = time.monotonic() - began
        return self.figures

    def _round(self) -> None:
        events: dict[str, tuple[int, Callable[[], None]]] = {
            "an export is killed": (24, self._kill),
            "days are merged": (10, lambda: self._child(lambda: merge(self._lake()))),
            "a merge is killed": (8, lambda: self._kill(merging=True)),
            "one day is exported": (10, lambda: self._child(lambda: self._export(self._window()))),
            "a copy is made": (14, self._copy),
            "doctor looks and mends": (6, self._mend),
            "a free key is edited": (10, lambda: self._edit(self.random.choice(_FREE))),
            "a pinned key is edited": (4, self._edit_pinned),
            "metadata is restored": (3, lambda: self._restore("metadata")),
            "data is restored": (3, lambda: self._restore("streams")),
            "data is restored over what is there": (2, lambda: self._restore("streams", over=True)),
            "both are restored": (2, lambda: self._restore("metadata", "streams")),
            "both are restored from two copies": (2, self._restore_two),
            "metadata is restored under an export": (2, self._restore_under_export),
            "all metadata is lost": (1, lambda: shutil.rmtree(self.root / "metadata", ignore_errors=True)),
            "the newest manifest is lost": (1, self._lose_manifest),
        }
        names, weights = list(events), [weight for weight, _ in events.values()]
        (name,) = self.random.choices(names, weights=weights)
        self.figures.events[name] += 1
        before = in_child(lambda: held_ids(self.root, self.feed))
        try:
            events[name][1]()
            self._settle(name)
        except RuntimeError as error:
            self.figures.findings["failed"].append(f"round {self.tick}, {name}: {error}")
            return
        if name in {"metadata is restored", "all metadata is lost", "the newest manifest is lost"}:
            after = Counter({int(key): count for key, count in in_child(self._held).items()})
            if lost := Counter({int(key): count for key, count in before.items()}) - after:
                self.figures.findings["missing"].append(f"round {self.tick}, {name}: {len(lost)} rows are gone")
        for kind, text in in_child(lambda: list(differing_rows(self.root, self.feed, self.source, self.tick))):
            self.figures.findings[kind].append(f"round {self.tick}, {name}: {text}")

    def _held(self) -> dict[int, int]:
        return held_ids(self.root, self.feed)

    def _settle(self, name: str) -> None:
        """Export everything; where that refuses, run what it says and export again."""
        refusal = in_child(self._try_export)
        if not refusal:
            return
        self.figures.refused += 1
        command = _COMMAND.search(refusal)
        if command is None:
            self.figures.findings["stuck"].append(f"round {self.tick}, {name}: no command in: {refusal}")
            return
        said = self._run(command.group(1))
        if again := in_child(self._try_export):
            told = f"{refusal}\n{said}\n{again}"
            self.figures.findings["stuck"].append(f"round {self.tick}, {name}, after the command: {told}")

    def _try_export(self) -> str:
        try:
            self._export((0, DAYS - 1))
        except KsqlLakeError as error:
            return str(error)
        return ""

    def _lake(self, on_step: StepHook = no_step) -> Any:
        return Lake(self.root, on_step=on_step).feed(self.feed)

    def _window(self) -> tuple[int, int]:
        first = self.random.randrange(DAYS)
        return first, self.random.randrange(first, DAYS)

    def _export(self, days: tuple[int, int], on_step: StepHook = no_step) -> None:
        lake, dates = self._lake(on_step), window(*days)
        lake.check(_ORIGIN)
        facts = ReadFacts(
            source=self.feed.source,
            statement="SELECT ...;",
            read_at=_READ_AT,
            first_day=dates[0].isoformat(),
            last_day=dates[1].isoformat(),
        )
        for _ in range(3):
            with suppress(ConflictError), lake.stage(EVENTS, read=facts, days=dates, origin=_ORIGIN) as staging:
                for batch in self.source.rows(self.tick, *days).to_batches():
                    staging.write(batch)
                staging.commit()
                return

    def _child(self, task: Callable[[], None]) -> None:
        """Run work that may be refused."""

        def work() -> None:
            logging.disable()
            with suppress(KsqlLakeError):
                task()

        os.waitpid(fork(work), 0)

    def _kill(self, *, merging: bool = False) -> None:
        days, left = self._window(), self.random.randrange(_STEPS)

        def die(_name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        self._child(lambda: merge(self._lake(die)) if merging else self._export(days, die))

    def _copy(self) -> None:
        """Copy a living lake: one half, an export, the other half."""
        self._made += 1
        copy = self.aside / str(self._made)
        halves = ["metadata", "streams"]
        self.random.shuffle(halves)
        for half in halves:
            if (self.root / half).exists():
                shutil.copytree(self.root / half, copy / half)
            self._child(lambda: self._export(self._window()))
        self._copies.append(copy)
        if len(self._copies) > _COPIES:
            shutil.rmtree(self._copies.pop(0))

    def _restore(self, *halves: str, over: bool = False) -> None:
        if self._copies:
            copy = self.random.choice(self._copies)
            for half in halves:
                self._put_back(copy, half, over=over)

    def _restore_two(self) -> None:
        for half in ("metadata", "streams"):
            self._restore(half)

    def _put_back(self, copy: Path, half: str, *, over: bool = False) -> None:
        if not over:
            shutil.rmtree(self.root / half, ignore_errors=True)
        if (copy / half).exists():
            shutil.copytree(copy / half, self.root / half, dirs_exist_ok=True)

    def _restore_under_export(self) -> None:
        """Stop an export anywhere, restore metadata under it, and let it go on."""
        left = self.random.randrange(_STEPS)

        def sleep(_name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGSTOP)

        def work() -> None:
            logging.disable()
            with suppress(KsqlLakeError):
                self._export(days, sleep)

        days = self._window()
        pid = fork(work)
        _, status = os.waitpid(pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            self._restore("metadata")
            os.kill(pid, signal.SIGCONT)
            os.waitpid(pid, 0)

    def _lose_manifest(self) -> None:
        folder = self.root / "metadata" / "streams" / self.feed.name / "commits"
        with suppress(ValueError, FileNotFoundError):
            max(folder.glob("*.json")).unlink()

    def _edit(self, keys: dict[str, object]) -> None:
        self.feed = StreamFeed.model_validate({**EVENTS_FEED.model_dump(), **keys})

    def _edit_pinned(self) -> None:
        """Change what the rows mean: that has to be refused, and is put back."""
        before = self.feed
        self._edit(self.random.choice(_PINNED))
        refusal = in_child(self._try_export)
        held = in_child(self._held)
        self.feed = before
        if held:
            self.figures.refused += 1
        if held and "Nothing was read. Put " not in refusal:
            self.figures.findings["failed"].append(f"round {self.tick}: an edit was not refused: {refusal}")

    def _mend(self) -> None:
        self._run("ksql-lake doctor --repair --apply")

    def _run(self, command: str) -> str:
        """Run a command as it is printed, and give what it says."""
        self.figures.commands += 1
        program, *arguments = command.split()
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments],
            env={**os.environ, "KSQL_LAKE_ROOT": str(self.root)},  # noqa: TID251 - handed on
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr


def without_checks() -> None:
    """Take out what stops a run where log and folder disagree, as in early releases, to see it noticed."""
    attempt_module.check_partitions = lambda *_arguments: None  # type: ignore[attr-defined]
    for module in (attempt_module, feed_lake_module):
        module.check_beginning = lambda *_arguments: None  # type: ignore[attr-defined]
    log_module.published_through = lambda data: len(data or b"") * 0  # type: ignore[attr-defined]


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(
        prog="python -m ksql_lake_tests.lake.crashing.restoring", description=main.__doc__
    )
    parser.add_argument("--rounds", type=int, default=200, help="how many rounds to play (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default 1)")
    parser.add_argument("--without-checks", action="store_true", help="take the checks out, to see it noticed")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in SINGLE_THREADED.items()):  # noqa: TID251
        os.execve(  # noqa: S606 - itself again
            sys.executable,
            [sys.executable, "-m", "ksql_lake_tests.lake.crashing.restoring", *sys.argv[1:]],
            {**os.environ, **SINGLE_THREADED},  # noqa: TID251
        )
    if arguments.without_checks:
        without_checks()
    with tempfile.TemporaryDirectory(prefix="ksql-lake-restoring-") as folder:
        run = Restoring(
            Path(folder, "lake"), Path(folder, "copies"), seed=arguments.seed, rounds=arguments.rounds
        )
        figures = run.execute()
    sys.stdout.write("\n".join([f"seed {arguments.seed}", *figures.lines(), ""]))
    return 0 if figures.clean else 1


if __name__ == "__main__":
    sys.exit(main())
