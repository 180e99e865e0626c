"""`ksql-lake retention`: the plan is shown, then applied; Dagster's versions follow."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.cli.retention import version_ranges
from ksql_lake.feeds.model import TableFeed
from ksql_lake.lake import Lake
from ksql_lake.quantities import size_text
from ksql_lake_tests.cli.conftest import Cli, Project
from ksql_lake_tests.lake.landing import land_rows, table_feed


def fill(project: Project, feed: TableFeed, *, versions: int) -> Lake:
    """Commit this many versions of a table and write its feed file."""
    lake = Lake(project.root / "data_lake")
    for number in range(versions):
        land_rows(lake, feed, [{"ID": row, "NAME": "x"} for row in range(3 + number)])
    project.feed(feed.model_dump(mode="json", exclude_defaults=True) | {"kind": "table"})
    return lake


def versions(project: Project, name: str = "users") -> list[str]:
    """The version folders any reader sees, oldest first."""
    folder = project.root / "data_lake" / "tables" / name
    return sorted(
        (path.name.removeprefix("version=") for path in folder.iterdir()), key=lambda key: int(key[1:])
    )


def test_a_dry_run_shows_the_plan_and_removes_nothing(cli: Cli, project: Project) -> None:
    """Versions, files and bytes that would go are shown; nothing goes."""
    lake = fill(project, table_feed(retention=2), versions=12)
    gone = [path for path in project.parquet if path.parent.name not in ("version=v11", "version=v12")]

    said = cli("retention", "--dry-run")

    assert (said.code, said.err) == (0, "")
    header, row = said.out.splitlines()
    assert header.split() == ["TABLE", "STAYS", "GOES", "VERSIONS", "FILES", "SIZE"]
    size = size_text(sum(path.stat().st_size for path in gone))
    assert row.split() == ["users", "v11-v12", "v1-v10", "10", "10", *size.split()]
    assert len(versions(project)) == 12
    assert lake.feed(table_feed()).state().sequence == 12


def test_the_plan_is_applied_as_one_commit(cli: Cli, project: Project) -> None:
    """Old versions go, folder and manifest; a second run finds nothing to do and commits nothing."""
    lake = fill(project, table_feed(retention=2), versions=5)

    said = cli("retention", "users")
    again = cli("retention", "users")

    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-1].startswith("users: removed v1-v3: 3 files, ")
    assert versions(project) == ["v4", "v5"]
    assert again.out.splitlines()[1:] == ["users  v4-v5  -            0      0   0 B"]
    state = lake.feed(table_feed()).state()
    assert (state.sequence, state.latest_version) == (6, 5)
    assert cli("doctor").code == 0


def test_a_script_reads_what_was_removed_as_json(cli: Cli, project: Project) -> None:
    """`--json` gives one document: per table what stays, what goes, the files, and whether they went."""
    fill(project, table_feed(retention=1), versions=3)

    planned = json.loads(cli("retention", "--dry-run", "--json").out)
    done = json.loads(cli("retention", "--json").out)

    assert (planned["dry_run"], done["dry_run"]) == (True, False)
    (before,), (after,) = planned["tables"], done["tables"]
    assert (before.pop("removed"), after.pop("removed")) == (False, True)
    assert before == after
    assert (after["keep"], after["remove"], after["error"]) == (["v3"], ["v1", "v2"], None)
    assert [path.split("/")[0] for path in after["files"]] == ["version=v1", "version=v2"]
    assert after["bytes"] > 0


def test_one_broken_table_does_not_keep_the_others(cli: Cli, project: Project) -> None:
    """A table whose manifests are damaged is named; the others' versions go; exit code 1."""
    fill(project, table_feed(retention=1), versions=2)
    other = table_feed(retention=1, name="accounts")
    lake = fill(project, other, versions=2)
    Path(lake.root, lake.feed(table_feed()).layout.manifest(1)).unlink()
    project.feed({"name": "bad", "kind": "table", "source": "X", "retention": 0})

    said = cli("retention")

    assert said.code == 1
    assert [line.split()[:2] for line in said.out.splitlines()[1:3]] == [
        ["accounts", "v2"],
        ["users", "failed"],
    ]
    assert said.out.splitlines()[3].startswith("accounts: removed v1: 1 file, ")
    assert "error: feed users, path " in said.err
    assert "manifest 1 is missing\n" in said.err
    assert "left out: " in said.err
    assert (versions(project, "accounts"), versions(project)) == (["v2"], ["v1", "v2"])


def test_disabled_tables_are_left_alone_unless_named(cli: Cli, project: Project) -> None:
    """The data of a disabled feed stays; who names the feed means it."""
    fill(project, table_feed(retention=1, enabled=False), versions=2)

    all_of_them = cli("retention")
    named = cli("retention", "users")

    assert all_of_them.err == "note: no table feed is enabled in feeds/active\n"
    assert all_of_them.out == ""
    assert named.code == 0
    assert versions(project) == ["v2"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("orders", "feed 'orders' is a stream; this is for tables\nA stream has days; they are never removed"),
        ("user", "there is no feed named 'user'\nDid you mean 'users'?"),
    ],
)
def test_a_wrong_name_removes_nothing(cli: Cli, project: Project, name: str, text: str) -> None:
    """A stream, or a name that no feed has, ends the command before anything is removed."""
    fill(project, table_feed(retention=1), versions=2)
    project.feed({"name": "orders", "kind": "stream", "source": "ORDERS", "start_date": "2025-01-01"})

    said = cli("retention", "users", name)

    assert (said.code, said.out) == (2, "")
    assert text in said.err
    assert versions(project) == ["v1", "v2"]


def test_dagster_offers_the_versions_that_are_left(
    cli: Cli, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder and Dagster partition go together, also those a lost message left behind."""
    import dagster as dg

    home = project.root / "home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    fill(project, table_feed(retention=2), versions=4)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("users_versions", ["v1", "v2", "v3", "v4", "v5", "v99"])

        dry = cli("retention", "--dry-run")
        assert instance.has_dynamic_partition("users_versions", "v1")
        said = cli("retention")

        assert (dry.code, said.code, said.err) == (0, 0, "")
        assert instance.get_dynamic_partitions("users_versions") == ["v3", "v4", "v5"]


def test_a_lost_dagster_home_is_a_warning(cli: Cli, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was removed is removed, whatever Dagster says."""
    monkeypatch.setenv("DAGSTER_HOME", str(project.root / "nowhere"))
    fill(project, table_feed(retention=1), versions=2)

    said = cli("retention")

    assert said.code == 0
    assert said.err.startswith(f"warning: dagster_home {project.root}/nowhere: the lake is up to date, but ")
    assert versions(project) == ["v2"]


@given(st.sets(st.integers(1, 40)))
def test_version_ranges_name_every_version_once(numbers: set[int]) -> None:
    """Read back, the short text is the list it was made of, and no two ranges touch."""
    text = version_ranges([f"v{number}" for number in sorted(numbers)])

    edges = [[int(edge.removeprefix("v")) for edge in part.split("-")] for part in text.split(", ") if part]
    assert [n for edge in edges for n in range(edge[0], edge[-1] + 1)] == sorted(numbers)
    assert all(left[-1] + 1 < right[0] for left, right in pairwise(edges))
