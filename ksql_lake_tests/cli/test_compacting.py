"""`ksql-lake compact`: many files become one, day by day; rows stay."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from ksql_lake.feeds.model import StreamFeed
from ksql_lake.lake import Lake
from ksql_lake.lake.compaction_plan import OPEN_FILES
from ksql_lake_tests.cli.conftest import Cli, Project
from ksql_lake_tests.lake.landing import FIRST, event, land_rows, stream_feed


def fill(project: Project, feed: StreamFeed, *, exports: int = 3, days: int = 2) -> Lake:
    """Commit this many exports with a row of each day, and write the feed file."""
    lake = Lake(project.root / "data_lake")
    for number in range(exports):
        land_rows(lake, feed, [event(number, day=day) for day in range(days)])
    project.feed(feed.model_dump(mode="json", exclude_defaults=True) | {"kind": "stream"})
    return lake


def rows(project: Project, name: str = "events") -> Counter[object]:
    """Every row an independent reader finds."""
    pattern = f"{project.root}/data_lake/streams/{name}/**/*.parquet"
    return Counter(duckdb.read_parquet(pattern, hive_partitioning=False).fetchall())


def test_a_dry_run_lists_the_days(cli: Cli, project: Project) -> None:
    """Each day with files to merge is listed with what it holds now; nothing changes."""
    fill(project, stream_feed())
    before = project.parquet

    said = cli("compact", "events", "--dry-run")

    assert (said.code, said.err) == (0, "")
    header, *lines = said.out.splitlines()
    assert header.split() == ["FEED", "DAY", "FILES", "SIZE"]
    assert [line.split()[:3] for line in lines] == [
        ["events", day, "3"] for day in ("2025-01-15", "2025-01-16")
    ]
    assert project.parquet == before


def test_days_are_merged_and_rows_stay(cli: Cli, project: Project) -> None:
    """One file per day is left with the same rows; a second run has nothing to do."""
    lake = fill(project, stream_feed())
    before = rows(project)

    said = cli("compact", "--all")
    again = cli("compact", "--all")

    assert (said.code, said.err) == (0, "")
    header, *lines = said.out.splitlines()
    assert header.split() == ["FEED", "DAY", "FILES", "FILES", "NOW", "SIZE", "SIZE", "NOW"]
    assert [line.split()[:4] for line in lines] == [
        ["events", day, "3", "1"] for day in ("2025-01-15", "2025-01-16")
    ]
    assert len(project.parquet) == 2
    assert rows(project) == before
    assert lake.feed(stream_feed()).state().sequence == 5
    assert (again.code, again.out) == (0, "")
    assert (
        again.err == "note: nothing to merge: no closed day of that age has several files of the same columns\n"
    )
    assert cli("doctor").code == 0


def test_a_merge_that_was_killed_is_finished(cli: Cli, project: Project) -> None:
    """Where a killed merge left both files, the next run removes the old ones, with nothing else to merge."""

    def stop(name: str) -> None:
        if name == "remove":
            raise KeyboardInterrupt

    lake = fill(project, stream_feed(), days=1)
    before = rows(project)
    with pytest.raises(KeyboardInterrupt):
        list(Lake(lake.root, on_step=stop).feed(stream_feed()).compact(now=datetime(2025, 3, 1, tzinfo=UTC)))
    assert rows(project) != before

    said = cli("compact", "events")

    assert (said.code, rows(project)) == (0, before)


def test_only_days_old_enough_are_merged(cli: Cli, project: Project) -> None:
    """`--older-than` counts the full days between a day's end and today."""
    fill(project, stream_feed())
    today = datetime.now(UTC).date()
    age = (today - FIRST).days - 1

    younger = cli("compact", "events", "--older-than", str(age), "--dry-run", "--json")
    none = cli("compact", "events", "--older-than", str(age + 1), "--dry-run", "--json")

    if datetime.now(UTC).date() == today:
        assert [day["day"] for day in json.loads(younger.out)["days"]] == ["2025-01-15"]
    assert json.loads(none.out)["days"] == []


def test_a_script_reads_days_as_json(cli: Cli, project: Project) -> None:
    """`--json` gives plan or result per day, with commit, files and bytes."""
    fill(project, stream_feed(), days=1)

    planned = json.loads(cli("compact", "events", "--dry-run", "--json").out)
    done = json.loads(cli("compact", "events", "--json").out)

    (before,), (after,) = planned["days"], done["days"]
    assert before == {"feed": "events", "day": "2025-01-15", "files": 3, "bytes": after["bytes_before"]}
    assert (after["files_before"], after["files_after"], after["commit"]) == (3, 1, 4)
    assert after["bytes_after"] == project.parquet[0].stat().st_size
    assert (done["failed"], done["left_out"]) == ([], [])


def test_one_damaged_feed_does_not_keep_the_others(cli: Cli, project: Project) -> None:
    """A feed with a lost file is named and left as it is; the others are merged; exit code 1."""
    fill(project, stream_feed(), days=1)
    fill(project, stream_feed(name="clicks"), days=1)
    lost = project.parquet[-1]
    assert "events" in str(lost)
    lost.unlink()

    said = cli("compact", "--all")

    assert said.code == 1
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["clicks"]
    assert said.err.startswith("error: feed events, ")
    assert lost.name in said.err
    assert "ksql-lake doctor" in said.err
    assert len(list(Path(project.root, "data_lake/streams/events").rglob("*.parquet"))) == 2


def test_a_day_that_cannot_be_merged_leaves_the_index_right(cli: Cli, project: Project) -> None:
    """Its file is named, other feeds are merged, and the index names the files of the days before it."""
    fill(project, stream_feed(name="clicks"))
    lake = fill(project, stream_feed(), days=1)
    assert cli("register", "--format", "delta", "--feed", "clicks").code == 0
    damaged = max(Path(project.root, "data_lake/streams/clicks").rglob("day=16/*.parquet"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:4] + bytes(100) + content[104:])

    said = cli("compact", "--all", "--json")

    document = json.loads(said.out)
    assert said.code == 1
    assert [entry["feed"] for entry in document["failed"]] == ["clicks"]
    assert f"{damaged.name}: it cannot be read: " in said.err
    assert sorted((day["feed"], day["day"]) for day in document["days"]) == [
        ("clicks", "2025-01-15"),
        ("events", "2025-01-15"),
    ]
    named = DeltaTable(lake.storage.uri("metadata/streams/clicks/delta")).file_uris()
    assert len(named) == 4
    assert all(Path(path).is_file() for path in named)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "name feeds, or say --all\n"),
        (["events", "--all"], "name feeds, or say --all\n"),
        (["totals"], "feed 'totals' is a table; this is for streams\nA table has versions, each in one file"),
        (["event"], "there is no feed named 'event'\nDid you mean 'events'?"),
        (["events", "--older-than", "-1"], "-1 is not in the range x>=0."),
    ],
)
def test_a_mistake_merges_nothing(cli: Cli, project: Project, arguments: list[str], text: str) -> None:
    """Wrong names and options end the command before anything is merged."""
    fill(project, stream_feed())
    project.feed({"name": "totals", "kind": "table", "source": "TOTALS"})

    said = cli("compact", *arguments)

    assert (said.code, said.out) == (2, "")
    assert text in said.err
    assert len(project.parquet) == 6


def test_the_running_day_is_left_alone(cli: Cli, project: Project) -> None:
    """Whatever is asked for, a day that has not ended is never merged."""
    lake, today = Lake(project.root / "data_lake"), datetime.now(UTC).date()
    offset = (today - FIRST).days
    for number in range(2):
        land_rows(lake, stream_feed(), [event(number, day=offset)], days=offset + 1)
    project.feed(stream_feed().model_dump(mode="json", exclude_defaults=True) | {"kind": "stream"})

    said = cli("compact", "events", "--older-than", "0", "--json")

    if datetime.now(UTC).date() == today:
        assert json.loads(said.out)["days"] == []
        assert len(project.parquet) == 2


def test_small_files_of_the_running_day_are_merged_on_request(cli: Cli, project: Project) -> None:
    """`--open` makes one file of many of today's; rows stay, and where files are few nothing is done."""
    lake, today = Lake(project.root / "data_lake"), datetime.now(UTC).date()
    offset = (today - FIRST).days
    for number in range(OPEN_FILES):
        land_rows(lake, stream_feed(), [event(number, day=offset)], days=offset + 1)
    project.feed(stream_feed().model_dump(mode="json", exclude_defaults=True) | {"kind": "stream"})
    before = rows(project)

    planned = cli("compact", "--all", "--open", "--dry-run", "--json")
    said = cli("compact", "--all", "--open", "--json")
    again = cli("compact", "--all", "--open")

    if datetime.now(UTC).date() == today:
        assert [(day["day"], day["files"]) for day in json.loads(planned.out)["days"]] == [
            (today.isoformat(), OPEN_FILES)
        ]
        (done,) = json.loads(said.out)["days"]
        assert (done["files_before"], done["files_after"]) == (OPEN_FILES, 1)
        assert again.err == (
            "note: nothing to merge: no closed day of that age has several files of the same columns and no "
            "younger one has many small ones\n"
        )
    assert rows(project) == before
    assert cli("doctor").code == 0
