"""Backup, restore and edited feeds at the prompt: what an export refuses, and that the way out works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from ksql_lake.lake import Lake
from ksql_lake.lake.layout import FeedLayout
from ksql_lake_tests.cli.conftest import Cli, Orders, Project, Server
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"`ksql-lake ([^`]+)`")
DAYS = ("--from", "2025-01-06", "--to", "2025-01-08")
LAYOUT = FeedLayout("stream", "orders")


def hours(project: Project) -> list[int]:
    """Every row's hour, as a reader finds them that globs."""
    files = list((project.root / "data_lake/streams/orders").rglob("*.parquet"))
    if not files:
        return []
    return sorted(row[0] for row in duckdb.read_parquet([str(file) for file in files]).project("ID").fetchall())


def shell(project: Project, block: str, **environment: str) -> None:
    """Run a block of the page unchanged."""
    script = f'ksql-lake() {{ "{sys.executable}" -c "from ksql_lake.cli import main; main()" "$@"; }}\n{block}'
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=project.root,
        env=project.environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def run_printed(cli: Cli, text: str) -> None:
    """Run the first command that a message prints, unchanged."""
    found = COMMAND.search(text)
    assert found, text
    cli(*found.group(1).split())


def test_the_commands_of_the_page_work(cli: Cli, orders: Orders) -> None:
    """A lake is copied, lost and restored as the page says, whole or by halves, and holds every row once."""
    project = orders.project
    (project.root / "data_lake/tables").mkdir(parents=True)
    copying, whole, both, metadata, data = BLOCKS
    now = datetime.now(UTC)
    edit(orders, start_date=f"{now - timedelta(days=2):%Y-%m-%d}")
    newest = int(now.timestamp() - 1_736_121_600) // 3600 - 1
    expected = list(range(newest - 20, newest - 4))
    orders.append(*expected)
    assert cli("export", "--all").code == 0
    environment = {"KSQLDB_URL": orders.url}
    shell(project, copying, **environment)
    shell(project, whole, **environment)

    for number, block in enumerate((both, metadata, data)):
        orders.append(newest - number)
        expected = sorted([*expected, newest - number])
        assert cli("export", "--all").code == 0
        shell(project, block, **environment)
        assert hours(project) == expected
        assert cli("doctor").code == 0


LOSSES: dict[str, tuple[str, ...]] = {
    "the feed's metadata": ("metadata/streams/orders",),
    "the newest manifest": (LAYOUT.manifest(2),),
    "all manifests": (LAYOUT.commits,),
    "the data": ("streams/orders",),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_command_that_is_printed_is_the_way_out(cli: Cli, orders: Orders, loss: str) -> None:
    """An export over something lost fails with one command, and after that command it completes exactly."""
    cli("export", "--stream", "orders", "--date", "2025-01-06")
    cli("export", "--stream", "orders", *DAYS)
    for key in LOSSES[loss]:
        path = orders.project.root / "data_lake" / key
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = hours(orders.project)

    refused = cli("export", "--stream", "orders", *DAYS)

    assert (refused.code, hours(orders.project)) == (1, before)
    assert "ksql-lake doctor orders --repair --apply" in refused.err
    run_printed(cli, refused.err)
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    assert hours(orders.project) == list(range(48))
    assert cli("doctor").code == 0


def test_a_repair_shows_its_plan_before_it_acts(cli: Cli, orders: Orders) -> None:
    """Files whose rows are there twice are listed with what will be done, and stay until --apply."""
    cli("export", "--stream", "orders", *DAYS)
    (first,) = (orders.project.root / "data_lake/streams/orders").rglob("day=06/*.parquet")
    again = first.with_name(first.name.replace("_000001", "_000002"))
    shutil.copy(first, again)
    cli("export", "--stream", "orders", "--date", "2025-01-07")

    looked, tried = cli("doctor", "orders"), cli("doctor", "orders", "--repair")
    assert again.exists()
    done = cli("doctor", "orders", "--repair", "--apply")

    says = "rows doubled: move it to quarantine; rows that no other file holds go on in a new one"
    for said in (looked, tried, done):
        assert says in said.out
        assert f"{again.name}: 24 of its 24 rows of 2025-01-06 are in other files" in said.out
    assert (looked.code, done.code) == (1, 0)
    assert not again.exists()
    assert hours(orders.project) == list(range(48))


EDITS: dict[str, dict[str, Any]] = {
    "timezone": {"timezone": "Europe/Berlin"},
    "event_time": {"event_time": "ID"},
    "identity": {"identity": {"by": "key", "columns": ["ID"]}},
    "rename": {"rename": {"NOTE": "REMARK"}},
}


def edit(orders: Orders, **keys: object) -> None:
    """Rewrite the feed file with other keys."""
    orders.project.feed(
        {"name": "orders", "kind": "stream", "source": orders.source, "start_date": "2025-01-06", **keys}
    )


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_that_changes_what_rows_mean_is_refused(cli: Cli, orders: Orders, what: str) -> None:
    """No query is sent, `validate` reports it too, and when the key is back the export goes on."""
    cli("export", "--stream", "orders", *DAYS)
    statements = Lake(orders.project.root / "data_lake").feed(stream_feed(name="orders")).state().sequence
    edit(orders, **EDITS[what])

    refused, validated = cli("export", "--stream", "orders", *DAYS), cli("feeds", "validate")

    assert refused.code == 1
    assert f"Put `{what}`" in refused.err
    assert "Nothing was read" in refused.err
    if what != "rename":  # only the server knows whether the column's type has changed
        assert validated.code == 2
        assert f"`{what}` was" in validated.out
    edit(orders)
    assert cli("feeds", "validate").code == 0
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    assert hours(orders.project) == list(range(48))
    assert statements == 1


def test_the_way_to_a_new_feed_works(cli: Cli, orders: Orders) -> None:
    """The lines of docs/feeds.md archive a feed and begin again in another time zone, beside the old rows."""
    page = (Path(__file__).parents[2] / "docs" / "feeds.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ksql-lake (.*)$", page.partition("## What the first rows pin")[2], re.MULTILINE)[:3]
    cli("export", "--stream", "orders", *DAYS)

    for line in lines:
        said = cli(*line.replace("ORDERS", orders.source).split())
        assert said.code == 0, said.err

    assert len(lines) == 3
    assert orders.project.rows("orders") == orders.project.rows("orders_berlin") == 48


def test_another_source_is_refused_and_a_new_feed_is_the_way(cli: Cli, orders: Orders) -> None:
    """Rows of two sources never share a folder: archive the feed, add another, export that."""
    cli("export", "--stream", "orders", *DAYS)
    other = f"{orders.source}_B"
    orders.run(
        f"CREATE STREAM {other} (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='{other}', VALUE_FORMAT='JSON', "
        "PARTITIONS=1);"
    )
    edit(orders, source=other)

    refused = cli("export", "--stream", "orders", *DAYS)

    assert refused.code == 1
    assert f"`source` was {orders.source} for the rows that the lake holds, and is {other} now" in refused.err
    run_printed(cli, refused.err)
    orders.project.feed({"name": "others", "kind": "stream", "source": other, "start_date": "2025-01-06"})
    assert cli("export", "--all").code == 0
    assert hours(orders.project) == list(range(48))


def test_a_prepared_stream_takes_the_place_of_its_source(cli: Cli, orders: Orders) -> None:
    """`feeds prepare --apply --write` on a filled feed is no other source: rows land once, as it promises."""
    cli("export", "--stream", "orders", *DAYS)

    assert cli("feeds", "prepare", "orders", "--apply", "--write").code == 0

    assert cli("feeds", "validate").code == 0
    said = cli("export", "--stream", "orders", *DAYS)
    assert said.code == 0, said.err
    assert hours(orders.project) == list(range(48))


def test_a_lost_file_of_an_indexed_lake_that_moved_is_forgotten(
    cli: Cli, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that names files at their old place never keeps a repair from what it is asked to do."""
    lake = Lake(project.root / "data_lake")
    for number in range(2):
        land_rows(lake, stream_feed(), [event(number, day=number)])
    assert cli("register", "--format", "iceberg", "--all").code == 0
    moved = project.root / "moved"
    (project.root / "data_lake").rename(moved)
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(moved))
    next(moved.rglob("streams/**/*.parquet")).unlink()

    looked = cli("doctor", "--repair")
    done = cli("doctor", "--repair", "--apply")

    assert "file missing" in looked.out
    assert "Traceback" not in looked.err
    assert (done.code, cli("doctor").code) == (0, 0)
    assert Lake(moved).feed(stream_feed()).state().records == 1


def test_a_server_of_another_cluster_is_refused(cli: Cli, sample: Project, server: Server) -> None:
    """A lake that was filled from one Kafka cluster takes no rows from another, whatever KSQLDB_URL says."""
    assert server.url
    cli("export", "--stream", "logins", *DAYS[:3], "2025-01-07")
    layout = FeedLayout("stream", "logins")
    manifest = sample.root / "data_lake" / layout.manifest(1)
    meaning = msgspec.json.decode(manifest.read_bytes())["manifest"]["meaning"]

    assert meaning["kafka_cluster"] == "ksql-lake-devserver"
    assert meaning["service"] == "default_"
    assert meaning["topic"]
    assert os.environ["KSQLDB_URL"] == server.url  # noqa: TID251
