"""`ksql-lake doctor`: all damage is listed by feed, repaired only on request, taken out only when shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ksql_lake.lake import Lake
from ksql_lake.lake.layout import FeedLayout
from ksql_lake_tests.cli.conftest import Cli, Orders, Project
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed

STREAM = FeedLayout("stream", "events")
TABLE = FeedLayout("table", "users")
FORGET = "quarantine and forget it; the next export of a stream reads its day again"


@pytest.fixture
def lake(project: Project) -> Lake:
    """A lake without feed files: a stream of three days in two exports, a table of two versions."""
    lake = Lake(project.root / "data_lake")
    land_rows(lake, stream_feed(), [event(number, day=number % 3) for number in range(30)])
    land_rows(lake, stream_feed(), [event(100, day=1)])
    for number in range(2):
        land_rows(lake, table_feed(), [{"ID": row, "NAME": "x"} for row in range(5 + number)])
    return lake


def files(lake: Lake) -> list[Path]:
    """The stream's Parquet files, oldest day first."""
    return sorted(Path(lake.root, STREAM.dataset).rglob("*.parquet"))


def flip(path: Path) -> None:
    """Change one bit near the beginning of a file."""
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)


def key(lake: Lake, path: Path) -> str:
    """A path as doctor names it."""
    return path.relative_to(lake.root).as_posix()


def test_a_sound_lake_is_told_with_what_was_looked_at(cli: Cli, lake: Lake) -> None:
    """Every feed in the lake is looked at, with or without a feed file, and nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in Path(lake.root).rglob("*")}

    said = cli("doctor")

    assert (said.code, said.err) == (0, "")
    stream, table, total = said.out.splitlines()
    assert stream.startswith("stream events: 4 files, ")
    assert table.startswith("table users: 2 files, ")
    assert stream.endswith(", sound")
    assert total.startswith("2 feeds, 6 files, ")
    assert total.endswith(" examined: sound")
    assert {path: path.stat().st_mtime_ns for path in Path(lake.root).rglob("*")} == before


def test_findings_are_grouped_by_feed_with_what_would_be_done(cli: Cli, lake: Lake) -> None:
    """Problem, path, detail and remedy of everything wrong stand under their feed; exit code 1."""
    damaged, missing = files(lake)[:2]
    flip(damaged)
    missing.unlink()
    Path(lake.root, TABLE.summary).unlink()

    said = cli("doctor")

    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[0].startswith("stream events: 3 files, ")
    assert lines[0].endswith(", 2 findings")
    assert lines[1:5] == [
        "  file missing: forget it; the next export of a stream reads its day again (--repair --apply)",
        f"    {key(lake, missing)}: 10 rows of 2025-01-16",
        f"  file damaged: {FORGET} (--repair --apply)",
        f"    {key(lake, damaged)}: its bytes are not those that were written (sha256 differs)",
    ]
    assert lines[5].startswith("table users: 2 files, ")
    assert lines[6:8] == [
        "  summary stale: rewrite it (--repair)",
        f"    {TABLE.summary}: it differs from the manifests",
    ]
    assert lines[8].endswith(" examined: 3 findings")
    assert said.err == "next: rebuild what can be derived: ksql-lake doctor --repair\n"
    only = cli("doctor", "users").out.splitlines()
    assert (only[:-1], only[-1].split(",")[0]) == (lines[5:8], "1 feed")


def test_repair_mends_what_can_be_derived_and_only_lists_the_rest(cli: Cli, lake: Lake) -> None:
    """What follows from other files is rewritten; a file that has to go stays until that is asked for."""
    damaged = files(lake)[0]
    flip(damaged)
    Path(lake.root, STREAM.manifest(2)).unlink()

    said = cli("doctor", "--repair")

    assert said.code == 1
    assert "  repaired: manifest missing (1)" in said.out
    assert "  remain: file damaged (1)\n" in said.out
    assert said.out.splitlines()[-1].endswith(" examined: 1 finding")
    assert said.err == "next: move the listed files out of the lake: ksql-lake doctor --repair --apply\n"
    assert damaged.exists()
    assert Path(lake.root, STREAM.manifest(2)).exists()


def test_apply_takes_out_what_was_shown(cli: Cli, lake: Lake) -> None:
    """With --apply the damaged file goes to quarantine after it was listed, and the lake is sound."""
    damaged = files(lake)[0]
    flip(damaged)
    data = damaged.read_bytes()

    said = cli("doctor", "--repair", "--apply")

    assert (said.code, said.err) == (0, "")
    shown, mended = said.out.index(key(lake, damaged)), said.out.index("  repaired: file damaged (1)\n")
    assert shown < mended < said.out.index("  sound now\n")
    assert not damaged.exists()
    (kept,) = Path(lake.root).glob(f"metadata/streams/events/quarantine/**/{damaged.name}")
    assert kept.read_bytes() == data
    assert cli("doctor").code == 0


def test_a_plan_that_appears_during_the_repair_is_shown_before_it_is_applied(cli: Cli, lake: Lake) -> None:
    """What turns out to be foreign once the manifests are back is listed first, then moved."""
    torn = files(lake)[-1]
    torn.write_bytes(torn.read_bytes()[:-30])
    shutil.rmtree(Path(lake.root, "metadata"))

    said = cli("doctor", "events", "--repair", "--apply")

    assert said.code == 0, said.out
    order = ["  manifest missing: ", "  repaired: manifest missing (2)", "  foreign file: ", key(lake, torn)]
    places = [said.out.index(text) for text in [*order, "  repaired: foreign file (1)", "  sound now"]]
    assert places == sorted(places)
    assert not torn.exists()


def test_without_the_wish_nothing_new_is_applied(cli: Cli, lake: Lake) -> None:
    """The same without --apply brings the manifests back, lists the torn file and leaves it."""
    torn = files(lake)[-1]
    torn.write_bytes(torn.read_bytes()[:-30])
    shutil.rmtree(Path(lake.root, "metadata"))

    said = cli("doctor", "events", "--repair")

    assert said.code == 1
    assert f"    {key(lake, torn)}: no commit names it\n" in said.out.partition("remain: foreign file (1)")[2]
    assert torn.exists()


def test_all_metadata_comes_back(cli: Cli, lake: Lake) -> None:
    """`rm -r metadata` and a repair: the lake is sound again and says the same totals."""
    summaries = {layout: json.loads(Path(lake.root, layout.summary).read_text()) for layout in (STREAM, TABLE)}
    shutil.rmtree(Path(lake.root, "metadata"))

    assert cli("doctor", "--repair").code == 0
    assert cli("doctor").code == 0

    for layout, before in summaries.items():
        after = json.loads(Path(lake.root, layout.summary).read_text())
        for total in ("total_records", "total_bytes", "latest_version"):
            assert after[total] == before[total], total


def test_rows_of_a_forgotten_file_come_back_with_the_next_export(cli: Cli, orders: Orders) -> None:
    """After a damaged file was taken out, an export without dates reads its day again."""
    assert cli("export", "--all").code == 0
    before = orders.project.rows("orders")
    flip(orders.file("2025-01-06"))

    assert cli("doctor", "--repair", "--apply").code == 0
    assert orders.project.rows("orders") == before - 24
    assert cli("export", "--all").code == 0

    assert orders.project.rows("orders") == before
    assert cli("certify", "orders", "2025-01-06").code == 0


def test_a_table_goes_on_after_its_newest_version_was_lost(cli: Cli, orders: Orders) -> None:
    """A lost version stays lost, and keeps the next one from neither being written nor counting on."""
    table = f"{orders.source}_NOTES"
    orders.run(f"CREATE TABLE {table} AS SELECT NOTE, COUNT(*) AS N FROM {orders.source} GROUP BY NOTE;")
    orders.project.feed({"name": "notes", "kind": "table", "source": table})
    for _ in range(2):
        assert cli("export", "--table", "notes").code == 0
    (newest,) = orders.project.root.glob("data_lake/tables/notes/version=v2/*.parquet")
    newest.unlink()

    assert cli("doctor", "--repair", "--apply").code == 0
    said = cli("export", "--table", "notes", "--json")

    assert said.code == 0, said.err
    assert json.loads(said.out)["exports"][0]["partitions"][0]["partition"] == "v3"
    assert cli("doctor").code == 0


def test_quick_looks_at_sizes_and_footers_only(cli: Cli, lake: Lake) -> None:
    """A changed byte in a file's middle is left to the thorough look; a file that is cut is not."""
    first, second, *_ = files(lake)
    flip(first)
    assert cli("doctor", "--quick").code == 0
    assert cli("doctor").code == 1

    second.write_bytes(second.read_bytes()[:-1])
    said = cli("doctor", "--quick")

    assert said.code == 1
    assert f"    {key(lake, second)}: " in said.out
    assert key(lake, first) not in said.out


def test_a_script_reads_findings_as_json(cli: Cli, lake: Lake) -> None:
    """`--json` says what was found, repaired and remains per feed; a plan about to be applied is on stderr."""
    damaged = files(lake)[0]
    flip(damaged)
    Path(lake.root, STREAM.summary).unlink()

    looked = json.loads(cli("doctor", "--json").out)
    said = cli("doctor", "--repair", "--apply", "--json")

    assert looked["sound"] is False
    stream, table = looked["feeds"]
    assert (table["feed"], table["kind"], table["sound"], table["findings"]) == ("users", "table", True, [])
    assert [one["problem"] for one in stream["findings"]] == ["file damaged", "summary stale"]
    assert stream["findings"][0] == {
        "problem": "file damaged",
        "path": key(lake, damaged),
        "detail": "its bytes are not those that were written (sha256 differs)",
        "commit": 1,
        "remedy": "apply",
        "action": FORGET,
    }
    assert stream["remaining"] == stream["findings"]
    assert f"    {key(lake, damaged)}: " in said.err
    repaired = json.loads(said.out)
    assert (said.code, repaired["sound"]) == (0, True)
    assert [one["problem"] for one in repaired["feeds"][0]["mended"]] == ["summary stale", "file damaged"]
    assert repaired["feeds"][0]["remaining"] == []


def test_a_feed_that_cannot_be_examined_does_not_hide_the_others(cli: Cli, lake: Lake) -> None:
    """What keeps one feed from being looked at is an error of its own; the others are examined."""
    shutil.rmtree(Path(lake.root, STREAM.commits))
    Path(lake.root, STREAM.commits).touch()

    said = cli("doctor")

    assert said.code == 1
    assert said.out.splitlines()[0].startswith("table users: 2 files, ")
    assert said.out.endswith(" examined: 0 findings, 1 failure\n")
    assert said.err == (
        f"error: feed events, path {lake.root}/{STREAM.commits}: cannot be read: not a directory\n"
        "A file has the name of one of the lake's folders; move it away.\n"
    )


def test_a_repair_without_a_lock_says_so(cli: Cli, lake: Lake) -> None:
    """Where no lock can be had the repair goes ahead, and says that it does."""
    Path(lake.root, STREAM.summary).unlink()
    Path(lake.root, STREAM.lock).mkdir()

    said = cli("doctor", "events", "--repair")

    assert said.code == 0
    assert said.err.startswith(f"warning: working on events without the lock {lake.root}/{STREAM.lock}: ")
    assert "  repaired: summary stale (1)\n  sound now\n" in said.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["event"], "holds nothing of a feed 'event'\nDid you mean 'events'?\n"),
        (["events", "zzz"], "holds nothing of a feed 'zzz'\nIt holds: events, users\n"),
        (["--apply"], "--apply goes with --repair\n"),
    ],
)
@pytest.mark.usefixtures("lake")
def test_a_mistake_is_answered(cli: Cli, arguments: list[str], text: str) -> None:
    """Unknown names and options that make no sense end before anything is examined."""
    said = cli("doctor", *arguments)

    assert (said.code, said.out) == (2, "")
    assert text in said.err


def test_no_lake_is_not_a_sound_lake(cli: Cli, project: Project) -> None:
    """A wrong folder is an error; an empty one is said to be empty."""
    missing = cli("doctor")
    (project.root / "data_lake").mkdir()
    empty = cli("doctor")
    (project.root / "data_lake").rmdir()
    (project.root / "data_lake").touch()
    file = cli("doctor")

    assert (missing.code, file.code) == (2, 2)
    assert missing.err.startswith(f"error: path {project.root}/data_lake: there is no lake here\n")
    assert (empty.code, empty.err) == (0, f"note: the lake at {project.root}/data_lake holds nothing yet\n")
    assert file.err.startswith(f"error: path {project.root}/data_lake: the lake's folder is a file\n")
