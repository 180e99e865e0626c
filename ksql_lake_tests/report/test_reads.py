"""The manifests that a report and a plan read; damage behind a checkpoint is found all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from ksql_lake.feeds import StreamFeed
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.derived_files import decode_checkpoint, decode_facts, encode_checkpoint
from ksql_lake.lake.commit.log import CHECKPOINT_EVERY, CommitLog
from ksql_lake.lake.doctor.examination import examine
from ksql_lake.lake.doctor.findings import Problem
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake.report import MetadataReader
from ksql_lake.report.lake_facts import SAMPLED_MANIFESTS, History, read_history
from ksql_lake_tests.lake.landing import land_rows, stream_feed, table_feed
from ksql_lake_tests.report.lakes import NOON, land_days, of_day

D15, D17 = date(2025, 1, 15), date(2025, 1, 17)
FEED = stream_feed(start_date="2025-01-15")
SHORT = stream_feed(name="short", start_date="2025-01-15")
LONG = 2 * CHECKPOINT_EVERY + 1
"""Commits of a history of which one came after the last checkpoint."""


class Counting(LocalStorage):
    """A lake that notes which manifests are read."""

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self.manifests: list[str] = []

    def read(self, key: str) -> bytes | None:
        """Read a file, and note a manifest."""
        if "/commits/" in key:
            self.manifests.append(key)
        return super().read(key)


def fill(root: Path, feed: StreamFeed, commits: range) -> None:
    """Land commits: rows, late rows, and looks that bring nothing."""
    lake = Lake(root)
    for number in commits:
        rows = [*of_day(D15, number + 1), *of_day(D17, 1)] if number % 8 == 0 else []
        land_days(lake, feed, rows, days=(D15, D17), response_bytes=1000 + number)


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lake a commit before its second checkpoint; and one a commit after it, with a shorter feed beside."""
    before, after = (tmp_path_factory.mktemp(name) / "lake" for name in ("before", "after"))
    fill(before, FEED, range(LONG - 2))
    shutil.copytree(before, after)
    fill(after, FEED, range(LONG - 2, LONG))
    fill(after, SHORT, range(CHECKPOINT_EVERY + 1))
    return before, after


@pytest.fixture
def early(lakes: tuple[Path, Path], tmp_path: Path) -> CommitLog:
    """The log of a copy of the first lake, in `tmp_path`."""
    shutil.copytree(lakes[0], tmp_path, dirs_exist_ok=True)
    return Lake(tmp_path).feed(FEED).log


@pytest.fixture
def log(lakes: tuple[Path, Path], tmp_path: Path) -> CommitLog:
    """The log of the long feed in a copy of the second lake, in `tmp_path`."""
    shutil.copytree(lakes[1], tmp_path, dirs_exist_ok=True)
    return Lake(tmp_path).feed(FEED).log


def history_of(log: CommitLog, **asked: int) -> History:
    """What a fresh reader finds."""
    fresh = CommitLog(log.storage, log.layout)
    through = fresh.load().sequence
    return read_history(fresh, through=through, commits=1000, **asked)


def without_checkpoint(log: CommitLog) -> History:
    """What the manifests alone say; the checkpoint is put back."""
    path = Path(log.storage.uri(log.layout.checkpoint))
    aside = path.rename(path.with_suffix(".aside"))
    found = history_of(log)
    aside.rename(path)
    return found


def test_the_checkpoint_says_what_the_manifests_say(log: CommitLog) -> None:
    """Exports, late rows, sizes and the first commit are the same, from the checkpoint or the manifests."""
    found = history_of(log)

    assert found == without_checkpoint(log)
    assert (len(found.exports), found.late_rows, found.first) == (LONG, 8 * 8, 1)


def test_table_versions_that_are_gone_are_told_from_the_checkpoint(tmp_path: Path) -> None:
    """Versions that retention removed keep their rows and sizes in the history."""
    lake, feed = Lake(tmp_path), table_feed(retention=2)
    for number in range(CHECKPOINT_EVERY):
        land_rows(lake, feed, [{"ID": each, "NAME": "n"} for each in range(number + 1)])
    lake.feed(feed).apply_retention()
    log = lake.feed(feed).log

    found = history_of(log)

    assert found == without_checkpoint(log)
    assert [found.versions[number].records for number in (1, 32)] == [1, 32]


def test_a_history_of_any_length_takes_as_many_manifests(log: CommitLog) -> None:
    """Only what came after the checkpoint and the day's sample is read."""
    reader = MetadataReader(Path(log.storage.uri("")))
    reader.storage = storage = Counting(log.storage.uri(""))

    found, _ = reader.list_all_metadata(now=NOON)

    assert len(found.history.exports) == LONG
    counted = Counter(key.split("/")[2] for key in storage.manifests)
    assert len(storage.manifests) == len(set(storage.manifests))
    assert all(count <= 1 + SAMPLED_MANIFESTS for count in counted.values())


def test_bits_that_turned_are_found_within_the_turns(log: CommitLog) -> None:
    """A manifest that changed while size and time stayed is named by one of the next reports, and by doctor."""
    path = Path(log.storage.uri(log.layout.manifest(5)))
    seen = path.stat()
    path.write_bytes(path.read_bytes().replace(b"SELECT", b"select"))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    turns = -(-LONG // SAMPLED_MANIFESTS)
    damage = [text for turn in range(turns) for text in history_of(log, turn=turn).damage]

    assert damage == ["commit 5: this manifest was changed after it was written"]
    found = examine(log.storage, log.layout, contents=False)
    assert [finding.sequence for finding in found.of(Problem.MANIFEST_DAMAGED)] == [5]


def test_an_older_checkpoint_says_nothing_of_the_commits(early: CommitLog, tmp_path: Path) -> None:
    """One of an older release leaves the manifests to be read, and the next checkpoint knows of all of them."""
    path = Path(early.storage.uri(early.layout.checkpoint))
    state = decode_checkpoint(path.read_bytes(), "stream")
    assert state is not None
    path.write_bytes(encode_checkpoint(state))
    assert decode_facts(path.read_bytes(), "stream", through=99) == ()

    assert len(history_of(early).exports) == 2 * CHECKPOINT_EVERY - 1
    land_days(Lake(tmp_path), FEED, [], days=(D15, D17))

    facts = decode_facts(path.read_bytes(), "stream", through=99) or ()
    assert [each.sequence for each in facts] == list(range(1, 2 * CHECKPOINT_EVERY + 1))
    assert all(each.stamp for each in facts)


def test_manifests_of_another_time_are_read_and_learnt_anew(early: CommitLog, tmp_path: Path) -> None:
    """A restored lake, whose files have other times, is read from its manifests until the next checkpoint."""
    whole = history_of(early)
    for path in Path(early.storage.uri(early.layout.commits)).iterdir():
        os.utime(path, ns=(1, 1))

    assert history_of(early) == whole
    land_days(Lake(tmp_path), FEED, [], days=(D15, D17))

    storage = Counting(tmp_path)
    history_of(CommitLog(storage, early.layout))
    assert storage.manifests == []


def test_edited_facts_are_not_believed(log: CommitLog) -> None:
    """Facts without their digest count as none; doctor names the checkpoint and derives it again."""
    path, whole = Path(log.storage.uri(log.layout.checkpoint)), history_of(log)
    good = path.read_bytes()
    state, _, facts = good.partition(b'"facts":')
    path.write_bytes(state + b'"facts":' + facts.replace(b",1000,", b",9000,", 1))
    assert path.read_bytes() != good

    assert history_of(log) == whole
    found = examine(log.storage, log.layout, contents=False)

    assert [finding.problem for finding in found.findings] == [Problem.CHECKPOINT_DAMAGED]


@pytest.mark.parametrize("command", [("plan", "--all"), ("report", "--offline")])
def test_files_opened_do_not_grow_with_history(
    log: CommitLog, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """A feed of twice the commits takes a command no more files, but for the report's sample."""
    active = tmp_path / "feeds" / "active"
    active.mkdir(parents=True)
    for feed in (FEED, SHORT):
        keys = {"name": feed.name, "kind": "stream", "source": feed.source, "start_date": "2025-01-15"}
        (active / f"{feed.name}.json").write_text(json.dumps(keys))
    code = (
        "import sys\nopened = []\n"
        "sys.addaudithook(lambda event, given: event == 'open' and opened.append(str(given[0])))\n"
        "from ksql_lake.cli.entry import run\nrun(sys.argv[1:])\nprint(*opened, sep='\\n', file=sys.stderr)"
    )
    places = {"KSQL_LAKE_ROOT": str(tmp_path), "KSQL_LAKE_FEEDS": str(active.parent), "PATH": os.defpath}
    arguments = [sys.executable, "-c", code, *command]
    done = subprocess.run(arguments, env=places, cwd=tmp_path, capture_output=True, text=True, check=True)

    above = f"{log.storage.uri('metadata/streams')}/"
    counted = Counter(
        path.removeprefix(above).split("/")[0] for path in done.stderr.splitlines() if path.startswith(above)
    )

    assert counted[SHORT.name] >= 2
    assert counted[FEED.name] - counted[SHORT.name] <= (SAMPLED_MANIFESTS if command[0] == "report" else 0)
