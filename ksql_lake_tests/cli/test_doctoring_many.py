"""`ksql-lake doctor` with many feeds, which several processes examine."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ksql_lake.cli import doctor
from ksql_lake.lake import Lake
from ksql_lake.lake.layout import FeedLayout
from ksql_lake_tests.cli.conftest import Cli, Project
from ksql_lake_tests.cli.test_doctoring import STREAM, flip
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed


def die(*_: object) -> None:
    """The body of a process that is killed before it has examined anything."""
    os._exit(9)


@pytest.fixture
def fleet(project: Project) -> Lake:
    """A lake of 16 streams, of which one has a damaged file and one no summary."""
    lake = Lake(project.root / "data_lake")
    for number in range(16):
        land_rows(lake, stream_feed(name=f"feed_{number:02}"), [event(number)])
    flip(next(Path(lake.root, FeedLayout("stream", "feed_05").dataset).rglob("*.parquet")))
    Path(lake.root, FeedLayout("stream", "feed_10").summary).unlink()
    return lake


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("killed", [False, True])
def test_many_feeds_are_examined_by_several_processes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """They print what one process prints, also when the others are killed, and none outlives the command."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    alone = cli("doctor")
    assert (alone.code, alone.out.count(", sound\n")) == (1, 14)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    if killed:
        monkeypatch.setattr(doctor, "_send_sound", die)
    started: list[multiprocessing.process.BaseProcess] = []
    start = multiprocessing.process.BaseProcess.start

    def counted(process: multiprocessing.process.BaseProcess) -> None:
        started.append(process)
        start(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", counted)

    several = cli("doctor")

    assert len(started) == 2
    assert several == alone
    assert multiprocessing.active_children() == []


def examine_for_ever() -> None:
    """The body of a process of doctor that is in the middle of a large feed."""

    def look(*_: object) -> None:
        sys.stdout.write("busy\n")
        sys.stdout.flush()
        threading.Event().wait()

    vars(doctor)["_look"] = look
    vars(doctor)["_send_sound"](".", [STREAM], None, None)


def test_a_killed_doctor_leaves_no_process_behind(project: Project) -> None:
    """A process that examines for it ends with it, also in the middle of a feed."""
    code = (
        "import multiprocessing; from ksql_lake_tests.cli.test_doctoring_many import examine_for_ever\n"
        "multiprocessing.get_context('spawn').Process(target=examine_for_ever).start()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=project.environment(), stdout=subprocess.PIPE, text=True
    ) as asker:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "busy\n"
        asker.kill()

        assert asker.stdout.read() == ""  # its other end is closed when both processes have ended


def refuse(*_: object) -> None:
    """Stands in for a system that starts no further process."""
    raise BlockingIOError(errno.EAGAIN, "no more processes")


@pytest.mark.usefixtures("fleet")
def test_a_system_without_room_for_processes_is_no_finding(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no other process can be started, the command's own examines every feed."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    alone = cli("doctor")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)

    assert cli("doctor") == alone


@pytest.mark.usefixtures("fleet")
def test_many_feeds_are_repaired_where_they_are_shown(cli: Cli) -> None:
    """What other processes find is repaired by the command's own process, under the feed's lock."""
    said = cli("doctor", "--repair", "--apply")

    assert said.code == 0, said
    assert "file damaged" in said.out
    assert "summary stale" in said.out
    assert cli("doctor").out.endswith("examined: sound\n")
