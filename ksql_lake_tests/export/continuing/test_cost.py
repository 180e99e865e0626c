"""What the export of a `continue` feed will cost, estimated before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksql_lake.export import plan_export
from ksql_lake.export.cost import Cost, estimate
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings
from ksql_lake_tests.export.continuing.scene import Scene
from ksql_lake_tests.export.push.server import DAYS, Server, row


def cost(server: Server, root: Path, scene: Scene) -> Cost:
    """Estimate the next export."""
    lake, feed = Lake(root), scene.feed()
    with KsqlClient(load_settings(ksqldb_url=server.url)) as client:
        return estimate(plan_export(feed, lake, days=DAYS), lake.feed(feed).state(), client)


def test_only_new_rows_are_scanned_once_the_stream_was_entered(server: Server, tmp_path: Path) -> None:
    """The first export reads the whole stream, later ones new rows; a recreated stream is read whole again."""
    scene = Scene("COST")
    scene.create(server)
    server.append(scene.source, *(row(number, day=number % 3) for number in range(30)))

    first = cost(server, tmp_path, scene)
    entered = server.export(tmp_path, scene.feed())
    nothing = cost(server, tmp_path, scene)
    server.append(scene.source, *(row(number) for number in range(100, 160)))
    new = cost(server, tmp_path, scene)
    server.ksql(f"DROP STREAM {scene.derived};")
    scene.derive(server)
    anew = cost(server, tmp_path, scene)

    assert entered.new == 30
    assert [one.scanned for one in (first, nothing, new, anew)] == [30, 0, 60, 90]
    assert first.seconds is None
    assert nothing.seconds is not None
    assert new.seconds == pytest.approx(nothing.seconds * 2)
    assert first.basis == "all of the derived stream, as its source has it by Kafka's offsets (2 partitions)"
    assert new.basis == "what is new in the source, by Kafka's offsets (2 partitions)"
    assert not new.advice
