"""Exports by push query while producers append, killed and broken at any moment, against what was sent."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from ksql_lake.errors import KsqlLakeError
from ksql_lake.export import ExportResult
from ksql_lake.lake import Commit, FeedLake, Lake, Staging
from ksql_lake.lake.doctor import examine
from ksql_lake.lake.layout import FeedLayout
from ksql_lake_tests.export.push.server import PATIENCE, Server, feed, held, row, snapshot

TRIES = 5
FAULTS: list[dict[str, object]] = [
    {"kind": "cut_row", "after_rows": 7},
    {"kind": "short", "after_rows": 3},
    {"kind": "replay", "after_rows": 9, "rows": 6},
    {"kind": "hang", "after_rows": 8},
    {"kind": "no_positions"},
]
EXPORTER = """
import sys
from ksql_lake_tests.export.push.server import Server, feed
print("ready", flush=True)
while sys.stdin.readline():
    server, (root, name, kind) = Server(sys.argv[1]), sys.argv[2:]
    more = {"min_ratio_to_previous": 0} if kind == "table" else {}
    server.export(root, feed(name, kind=kind, **more))
    print("done", flush=True)
"""


class Exporter:
    """A process that exports, and can be killed in the middle."""

    def __init__(self, server: Server, root: Path, name: str, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", EXPORTER, server.url, str(root), name, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def killed_after(self, seconds: float) -> bool:
        """Let it export, and kill it meanwhile; False when it had ended before."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        assert stdout.readline() == "ready\n"
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        stdin.write("go\n")
        stdin.flush()
        ended = stdout.readline() == "done\n"
        self._process.kill()
        timer.cancel()
        self._process.communicate(timeout=PATIENCE)
        return not ended


class Producer(threading.Thread):
    """Appends rows, twins among them, until `stop` is set."""

    def __init__(self, server: Server, source: str) -> None:
        super().__init__(daemon=True)
        self.server, self.source = server, source
        self.sent: Counter[int] = Counter()
        self.stop = threading.Event()

    def run(self) -> None:
        """Append six rows at a time."""
        number = 0
        while not self.stop.wait(0.02):
            ids = [number + step // 2 for step in range(6)]
            self.server.append(self.source, *(row(each, day=each % 3) for each in ids))
            self.sent.update(ids)
            number += 3


def test_every_row_once_whatever_ends_an_export(server: Server, tmp_path: Path) -> None:
    """Killed, cut, stalled and replayed while rows arrive, the lake ends with exactly the stream's rows."""
    chance = random.Random(20250106)
    wanted = feed("hunted")
    server.ksql("CREATE STREAM HUNTED (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='hunted', PARTITIONS=4);")
    server.append("HUNTED", *({**row(number, day=number % 3), "ID": -number} for number in range(1000)))
    producer = Producer(server, "HUNTED")
    producer.start()
    outcomes: Counter[str] = Counter()
    for number in range(TRIES):
        exporter = Exporter(server, tmp_path, "hunted", "stream")  # imports while this process exports
        fault = FAULTS[number % len(FAULTS)]
        server.faults({**fault, "times": 1})
        try:
            server.export(tmp_path, wanted, read_timeout=2)
        except KsqlLakeError:
            outcomes["broken"] += 1
        outcomes["killed"] += exporter.killed_after(chance.uniform(0.05, 1.0))
    producer.stop.set()
    producer.join(PATIENCE)
    server.faults()

    server.export(tmp_path, wanted)
    assert server.export(tmp_path, wanted).new == 0

    expected = producer.sent + Counter(-number for number in range(1000))
    assert held(tmp_path, wanted) == expected
    assert outcomes["killed"] >= TRIES // 2, outcomes
    assert outcomes["broken"] >= 3, outcomes
    assert examine(Lake(tmp_path).storage, FeedLayout("stream", "hunted")).sound
    server.ksql("DROP STREAM HUNTED;")


def test_a_killed_snapshot_is_no_version(server: Server, tmp_path: Path) -> None:
    """Versions that are there are whole, and the next export goes on as if nothing had been."""
    wanted = feed("chased", kind="table", min_ratio_to_previous=0)
    server.ksql(
        "CREATE TABLE CHASED (ITEM STRING PRIMARY KEY, CENTS INT) WITH (KAFKA_TOPIC='chased', PARTITIONS=2);"
    )
    chance = random.Random(7)
    killed = 0
    for number in range(3):
        server.append("CHASED", *({"ITEM": f"k{each}", "CENTS": number} for each in range(200)))
        killed += Exporter(server, tmp_path, "chased", "table").killed_after(chance.uniform(0.02, 0.5))
    # What the last killed process staged is cleared by the commit after the next one.
    server.export(tmp_path, wanted)
    result = server.export(tmp_path, wanted)

    assert killed >= 1
    assert snapshot(tmp_path, wanted, result.partitions[0].partition) == sorted(
        (f"k{each}", 2) for each in range(200)
    )
    assert examine(Lake(tmp_path).storage, FeedLayout("table", "chased")).sound
    server.ksql("DROP TABLE CHASED;")


def test_two_exports_at_once_double_nothing(server: Server, tmp_path: Path) -> None:
    """Without a lock between them, one of two exports that read the same rows reads again."""
    wanted = feed("raced")
    server.ksql("CREATE STREAM RACED (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='raced', PARTITIONS=2);")
    server.append("RACED", *(row(number) for number in range(20)))
    server.export(tmp_path, wanted)
    server.append("RACED", *(row(number) for number in range(20, 30)))
    results: list[ExportResult] = []
    threads = [
        threading.Thread(target=lambda: results.append(server.export(tmp_path, wanted, attempts=4)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert sorted(result.new for result in results) == [0, 0, 10]
    assert held(tmp_path, wanted) == Counter(range(30))
    server.ksql("DROP STREAM RACED;")


@pytest.mark.parametrize("new_topic", [False, True], ids=["first", "new_topic"])
def test_marks_never_go_back(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_topic: bool
) -> None:
    """An export of days without marks reads again if one that read further commits before it."""
    wanted, commit, overtaken = feed(f"overtaken_{new_topic}".lower()), Staging.commit, list[ExportResult]()
    server.ksql(f"CREATE STREAM {wanted.source} (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='{wanted.name}', "
                "PARTITIONS=1);")  # fmt: skip
    server.append(wanted.source, *(row(number) for number in range(10)))

    def late(staging: Staging, **keys: Any) -> Commit:
        if not overtaken:
            server.append(wanted.source, *(row(number) for number in range(10, 20)))
            monkeypatch.setattr(Staging, "commit", commit)
            overtaken.append(server.export(tmp_path, wanted, new_topic=new_topic))
        return commit(staging, **keys)

    monkeypatch.setattr(FeedLake, "exclusive", lambda *_args, **_keys: nullcontext())
    monkeypatch.setattr(Staging, "commit", late)
    result = server.export(tmp_path, wanted, attempts=2, new_topic=new_topic)

    assert (overtaken[0].new, result.new, result.attempts) == (20, 0, 2)
    assert server.export(tmp_path, wanted).new == 0
    assert held(tmp_path, wanted) == Counter(range(20))
    server.ksql(f"DROP STREAM {wanted.source};")
