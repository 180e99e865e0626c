"""Every way to name the wrong feed or the wrong day has its answer, before anything is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ksql_lake.lake import Lake
from ksql_lake.lake.compaction_plan import OPEN_FILES
from ksql_lake_tests.cli.conftest import STREAM, TABLE, Cli, Project
from ksql_lake_tests.lake.landing import FIRST, event, land_rows, stream_feed

TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


@pytest.fixture
def feeds(project: Project) -> Project:
    """One feed of every sort."""
    project.feed(STREAM)
    project.feed(TABLE)
    project.feed({**STREAM, "name": "quiet", "enabled": False})
    project.feed({**STREAM, "name": "old"}, folder="archived")
    project.feed({**STREAM, "name": "broken", "lookback_days": "1"})
    return project


USAGE = [
    ("", "name the feeds: --all, --stream NAME or --table NAME"),
    ("--all --stream orders", "--all already means every feed; leave out --stream and --table"),
    ("--all --date yesterday", "'yesterday' is not a day written YYYY-MM-DD, e.g. 2025-01-31"),
    ("--all --date 2025-02-30", "'2025-02-30' is not a day written YYYY-MM-DD, e.g. 2025-01-31"),
    (
        "--all --date 2025-01-01 --from 2025-01-01",
        "--date is one day and --from/--to are a range; use only one",
    ),
    ("--all --to 2025-01-01", "--to needs --from"),
    ("--all --from 2025-01-02 --to 2025-01-01", "--from 2025-01-02 is after --to 2025-01-01"),
    ("--table totals --date 2025-01-01", "a table is exported as a whole, not by day; leave out the dates"),
    ("--all --stram orders", "no such option '--stram'"),
]
MEANT = [
    ("--stream order", "there is no feed named 'order'\nDid you mean 'orders'?"),
    ("--stream ORDERS", "there is no feed named 'ORDERS'\nORDERS is the source of feed"),
    ("--stream totals", "feed 'totals' is a table, not a stream\nSay --table totals"),
    ("--table orders", "feed 'orders' is a stream, not a table\nSay --stream orders"),
    ("--stream quiet", "feed 'quiet' is disabled\nEnable it first: ksql-lake feeds enable quiet"),
    ("--stream old", "feed 'old' is archived\nBring it back with: ksql-lake feeds restore old"),
    (
        "--stream broken",
        "file feeds/active/broken.json: 1 problem found\n  lookback_days: must be a whole number",
    ),
    (f"--stream orders --date {TOMORROW}", f"feed orders: {TOMORROW} has not begun yet (today is"),
    (f"--stream orders --from {TOMORROW}", f"feed orders: {TOMORROW} has not begun yet (today is"),
    (f"--all --from 2025-01-01 --to {TOMORROW}", f"feed orders: {TOMORROW} has not begun yet (today is"),
    (
        "--stream orders --date 2024-12-31",
        "feed orders: all of 2024-12-31 is before start_date 2025-01-01\nCorrect",
    ),
]


@pytest.mark.parametrize("command", ["plan", "export"])
@pytest.mark.parametrize(("line", "text"), [*USAGE, *MEANT])
def test_a_mistake_is_told_before_anything_is_sent(
    cli: Cli, feeds: Project, command: str, line: str, text: str
) -> None:
    """`plan` and `export` answer a wrong name or day alike: what, why, the way out, and exit code 2."""
    said = cli(command, *line.split())

    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {text}") or text in said.err
    assert "Traceback" not in said.err
    assert not (feeds.root / "data_lake").exists()


def test_plan_says_what_an_export_would_read(cli: Cli, project: Project) -> None:
    """Without a server, every enabled feed is planned: a stream's days, a table's version, and why."""
    project.feed({**STREAM, "start_date": datetime.now(UTC).date().isoformat()})
    project.feed(TABLE)
    project.feed({**TABLE, "name": "quiet", "enabled": False})
    today = datetime.now(UTC).date()

    said = cli("plan", "--all")

    assert (said.code, said.err) == (0, "")
    assert [line.split(maxsplit=3) for line in said.out.splitlines()] == [
        ["FEED", "KIND", "READS", "WHY"],
        ["orders", "stream", str(today), "first export, from start_date"],
        ["totals", "table", "v1", "first snapshot"],
    ]


def test_plan_takes_a_range_and_repeated_names(cli: Cli, project: Project) -> None:
    """Dates are for the streams; tables keep their version; a feed named twice is planned once."""
    project.feed(STREAM)
    project.feed(TABLE)

    said = cli(
        "plan", "--stream", "orders", "--stream", "orders", "--table", "totals", "--from", "2024-12-30",
        "--to", "2025-01-02", "--json",
    )  # fmt: skip

    assert json.loads(said.out) == {
        "plans": [
            {
                "feed": "orders",
                "kind": "stream",
                "source": "ORDERS",
                "first_day": "2025-01-01",
                "last_day": "2025-01-02",
                "version": None,
                "reason": "as asked",
                "refused_by_the_server": [],
                "advice": [],
            },
            {
                "feed": "totals",
                "kind": "table",
                "source": "TOTALS",
                "first_day": None,
                "last_day": None,
                "version": 1,
                "reason": "first snapshot",
                "refused_by_the_server": [],
                "advice": [],
            },
        ],
        "left_out": [],
    }


def test_with_all_a_feed_that_starts_later_is_no_mistake(cli: Cli, project: Project) -> None:
    """`--all --date` plans nothing for feeds that begin after that day, and says so."""
    project.feed(STREAM)
    project.feed({**STREAM, "name": "later", "start_date": "2025-06-01"})

    said = cli("plan", "--all", "--date", "2025-01-02")

    assert said.code == 0
    assert "later   stream  nothing     all of 2025-01-02 is before start_date 2025-06-01" in said.out


def test_plan_names_the_files_it_left_out(cli: Cli, project: Project) -> None:
    """A broken file is named with its problems, the others are planned, and the exit code is 1."""
    project.feed(TABLE)
    project.feed("{", file="broken.json")
    project.feed("{", file="old.json", folder="archived")

    said = cli("plan", "--all")

    assert said.code == 1
    assert "totals" in said.out
    assert said.err == (
        "left out: file feeds/active/broken.json: this is not a feed file\n"
        "  line 1, column 2: a key in double quotes is expected here; the file ends too early\n"
    )


def test_a_lake_that_cannot_be_read_fails_that_feed_alone(cli: Cli, project: Project) -> None:
    """One feed's damaged manifests do not keep the others from being planned."""
    project.feed(TABLE)
    project.feed({**TABLE, "name": "damaged"})
    commits = project.root / "data_lake" / "metadata" / "tables" / "damaged" / "commits"
    commits.mkdir(parents=True)
    (commits / "00000000000000000001.json").write_text("{")

    said = cli("plan", "--all")

    assert said.code == 1
    assert "damaged  table  failed" in said.out
    assert "totals   table  v1" in said.out


def test_nothing_to_do_is_said(cli: Cli, project: Project) -> None:
    """Without enabled feeds there is nothing to plan, which is no failure."""
    project.feed({**TABLE, "enabled": False})

    for command in ("plan", "export"):
        said = cli(command, "--all")

        assert (said.code, said.out) == (0, "")
        assert said.err == "note: nothing to export: no enabled feed in feeds/active\n"


def test_plan_says_what_would_be_cheaper(cli: Cli, project: Project) -> None:
    """Small files of the running day are reported, as text and for scripts."""
    lake, today = Lake(project.root / "data_lake"), datetime.now(UTC).date()
    offset = (today - FIRST).days
    for number in range(OPEN_FILES):
        land_rows(lake, stream_feed(), [event(number, day=offset)], days=offset + 1)
    project.feed(stream_feed().model_dump(mode="json", exclude_defaults=True) | {"kind": "stream"})

    said = cli("plan", "--all")
    told = json.loads(cli("plan", "--all", "--json").out)

    text = (
        f"events has {OPEN_FILES} files of 1 day that exports still write to; few are left after: "
        "ksql-lake compact events --open"
    )
    assert f"note: {text}\n" in said.err
    assert told["plans"][0]["advice"] == [text]
    assert cli("compact", "events", "--open").code == 0
    assert json.loads(cli("plan", "--all", "--json").out)["plans"][0]["advice"] == []
