"""`ksql-lake register`, and doctor's part in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable
from pyiceberg.table import StaticTable

from ksql_lake.lake import Lake
from ksql_lake.schema import parse_schema
from ksql_lake_tests.cli.conftest import Cli, Project, Said, ended
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed, table_feed


@pytest.fixture
def lake(project: Project) -> Lake:
    """A lake with a stream of two days and a table of two versions, and their feed files."""
    found, stream, table = Lake(project.root / "data_lake"), stream_feed(), table_feed()
    project.feed({"name": "events", "kind": "stream", "source": "EVENTS", "start_date": "2025-01-01"})
    project.feed({"name": "users", "kind": "table", "source": "USERS"})
    land_rows(found, stream, [event(1), event(2, day=1)])
    for name in "ab":
        land_rows(found, table, [{"ID": 1, "NAME": name}])
    return found


def test_all_feeds_are_registered_and_later_brought_up_to_date(lake: Lake, cli: Cli) -> None:
    """A table of what was done; without options every index there is follows the lake."""
    said = cli("register", "--format", "delta", "--all")
    cli("register", "--format", "iceberg", "--feed", "users")
    land_rows(lake, stream_feed(), [event(3)])
    again = cli("register")

    assert (said.code, said.err) == (0, "")
    assert [line.split()[:6] for line in said.out.splitlines()] == [
        ["FEED", "FORMAT", "FILES", "ROWS", "ADDED", "REMOVED"],
        ["events", "delta", "2", "2", "2", "0"],
        ["users", "delta", "2", "2", "2", "0"],
    ]
    assert [line.split()[:6] for line in again.out.splitlines()[1:]] == [
        ["events", "delta", "3", "3", "1", "0"],
        ["users", "delta", "2", "2", "-", "-"],
        ["users", "iceberg", "2", "2", "-", "-"],
    ]
    assert DeltaTable(lake.storage.uri("metadata/streams/events/delta")).to_pyarrow_table().num_rows == 3


def test_scripts_get_json(lake: Lake, cli: Cli) -> None:
    """Where each index is and what became of it."""
    document = json.loads(cli("register", "--format", "iceberg", "--feed", "users", "--json").out)

    assert document == {
        "lake": lake.root,
        "indexes": [
            {
                "feed": "users",
                "kind": "table",
                "format": "iceberg",
                "location": f"{lake.root}/metadata/tables/users/iceberg",
                "files": 2,
                "records": 2,
                "changed": True,
                "added": 2,
                "removed": 0,
                "left_out": [],
            }
        ],
        "failed": 0,
        "left_out": [],
    }
    assert StaticTable.from_metadata(document["indexes"][0]["location"]).scan().to_arrow().num_rows == 2


def test_doctor_finds_a_stale_index_and_mends_it(lake: Lake, cli: Cli) -> None:
    """An index that an export left behind is a finding; --repair registers again, as does taking files out."""
    for form in ("delta", "iceberg"):
        cli("register", "--format", form, "--feed", "events")
    assert cli("doctor").code == 0
    land_rows(lake, stream_feed(), [event(3)])

    found = cli("doctor", "events")
    mended = cli("doctor", "events", "--repair")
    gone = next(Path(lake.root).glob("streams/events/year=2025/month=01/day=16/*.parquet"))
    gone.unlink()
    applied = cli("doctor", "events", "--repair", "--apply")

    assert found.code == 1
    assert (
        "  index stale: register the feed again (--repair)\n"
        "    metadata/streams/events/delta: it has the files of commit 1, the lake is at 2\n"
        "    metadata/streams/events/iceberg: it has the files of commit 1, the lake is at 2\n"
    ) in found.out
    assert mended.code == 0
    assert "repaired: index stale (2)" in mended.out
    assert applied.code == 0
    for table in (
        DeltaTable(lake.storage.uri("metadata/streams/events/delta")).to_pyarrow_table(),
        StaticTable.from_metadata(lake.storage.uri("metadata/streams/events/iceberg")).scan().to_arrow(),
    ):
        assert sorted(table.column("ID").to_pylist()) == [1, 3]


def test_doctor_goes_on_after_an_index_that_no_library_can_read(lake: Lake, cli: Cli) -> None:
    """An index whose manifest list was cut, and that is behind too, is rebuilt; so are those after it."""
    cli("register", "--format", "iceberg", "--all")
    for kind, name in (("streams", "events"), ("tables", "users")):
        for path in Path(lake.root, "metadata", kind, name, "iceberg", "metadata").glob("snap-*.avro"):
            path.write_bytes(path.read_bytes()[:40])
    land_rows(lake, stream_feed(), [event(3)])

    found, mended = cli("doctor"), cli("doctor", "--repair")

    assert found.code == 1
    assert found.out.count("  index stale: register the feed again (--repair)\n") == 2
    assert found.out.count(".avro is damaged\n") == 2
    assert (mended.code, mended.err) == (0, "")
    assert mended.out.count("  repaired: index stale (1)\n  sound now\n") == 2
    for location, rows in (("streams/events", 3), ("tables/users", 2)):
        table = StaticTable.from_metadata(lake.storage.uri(f"metadata/{location}/iceberg"))
        assert table.scan().to_arrow().num_rows == rows


def test_an_error_of_a_library_stops_the_repair_of_one_index_only(lake: Lake, cli: Cli) -> None:
    """A column that the format refuses is an error of its feed; the other feeds are repaired."""
    cli("register", "--format", "iceberg", "--all")
    schema = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `year` BIGINT")
    land_rows(lake, stream_feed(), [{"ROWTIME": event(5)["ROWTIME"], "ID": 5, "year": 1}], schema=schema)
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "c"}])

    said = cli("doctor", "--repair")
    document = json.loads(cli("doctor", "--repair", "--json").out)

    assert said.code == 1
    assert (
        "error: feed events: unexpected ValueError: Invalid schema, multiple fields for name year" in said.err
    )
    assert "  repaired: index stale (1)\n  sound now\n" in said.out
    assert said.out.endswith(" examined: 1 finding, 1 failure\n")
    errors = [feed["error"] for feed in document["feeds"]]
    assert errors[0].startswith("feed events: unexpected ValueError: ")
    assert errors[1] is None


@pytest.mark.parametrize("left", ["archived", "nothing", "broken"])
def test_indexes_of_feeds_that_are_not_active_are_reached(
    lake: Lake, cli: Cli, project: Project, left: str
) -> None:
    """Indexes of a feed whose file is archived, gone or broken are updated and removed all the same."""
    for form in ("delta", "iceberg"):
        cli("register", "--format", form, "--feed", "users")
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "c"}])
    if left == "archived":
        assert cli("feeds", "archive", "users").code == 0
    elif left == "nothing":
        (project.root / "feeds/active/users.json").unlink()
    else:
        project.feed("{", file="users.json")

    updated, named, sound = cli("register"), cli("register", "--feed", "users"), cli("doctor")
    removed = cli("register", "--format", "delta", "--feed", "users", "--remove")
    rest = cli("register", "--format", "iceberg", "--all", "--remove")

    assert [line.split()[:6] for line in updated.out.splitlines()[1:]] == [
        ["users", "delta", "3", "3", "1", "0"],
        ["users", "iceberg", "3", "3", "1", "0"],
    ]
    assert [line.split()[:5] for line in named.out.splitlines()[1:]] == [
        ["users", "delta", "3", "3", "-"],
        ["users", "iceberg", "3", "3", "-"],
    ]
    assert sound.code == 0
    assert (removed.code, removed.out) == (0, "users: delta index removed\n")
    assert (rest.code, rest.out) == (0, "users: iceberg index removed\n")
    assert rest.err == "note: events has no iceberg index\n"


def test_an_index_of_an_archived_feed_is_not_made(lake: Lake, cli: Cli) -> None:
    """New indexes are of active feeds; the error says how to bring the feed back."""
    assert cli("feeds", "archive", "users").code == 0

    said = cli("register", "--format", "delta", "--feed", "users")

    assert said.code == 2
    assert said.err.startswith("error: feed 'users' is archived\n")
    assert lake.storage.size("metadata/tables/users/delta.json") is None


def test_a_broken_feed_file_is_said_to_be_left_out(lake: Lake, cli: Cli, project: Project) -> None:
    """`--all` registers the other feeds, names the file, and ends with 1."""
    project.feed("{", file="users.json")

    said = cli("register", "--format", "delta", "--all")
    document = json.loads(cli("register", "--format", "delta", "--all", "--json").out)

    assert said.code == 1
    assert [line.split()[0] for line in said.out.splitlines()] == ["FEED", "events"]
    assert said.err.startswith("left out: ")
    assert [file["feed"] for file in document["left_out"]] == ["users"]
    assert lake.storage.size("metadata/tables/users/delta.json") is None


def test_a_feed_without_an_index_is_not_said_of_all(lake: Lake, cli: Cli) -> None:
    """Where only the named feeds have no index, the note says no more."""
    cli("register", "--format", "delta", "--feed", "users")

    said = cli("register", "--feed", "events")

    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("note: none of these feeds has an index; ")
    assert lake.storage.size("metadata/streams/events/delta.json") is None


def test_scripts_learn_what_was_removed(lake: Lake, cli: Cli) -> None:
    """`--remove --json` prints a document, whether or not there was an index."""
    cli("register", "--format", "delta", "--feed", "users")

    first, second = (
        json.loads(cli("register", "--format", "delta", "--all", "--remove", "--json").out) for _ in range(2)
    )

    removed = [{"feed": "users", "kind": "table", "format": "delta"}]
    assert first == {"lake": lake.root, "removed": removed, "failed": 0}
    assert second == {"lake": lake.root, "removed": [], "failed": 0}


def test_doctor_rebuilds_indexes_after_metadata_was_lost_but_for_their_notes(lake: Lake, cli: Cli) -> None:
    """Manifests come back first, and the index then says what they say."""
    cli("register", "--format", "iceberg", "--feed", "users")
    shutil.rmtree(lake.storage.uri("metadata/tables/users/commits"))
    shutil.rmtree(lake.storage.uri("metadata/tables/users/iceberg"))

    assert cli("doctor", "--repair").code == 0

    location = lake.storage.uri("metadata/tables/users/iceberg")
    assert StaticTable.from_metadata(location).scan().to_arrow().num_rows == 2


def test_an_index_is_removed_and_nothing_else(lake: Lake, cli: Cli, project: Project) -> None:
    """`--remove` removes the index; a feed without one gets a note."""
    files = project.parquet
    cli("register", "--format", "delta", "--feed", "users")

    said = cli("register", "--format", "delta", "--all", "--remove")

    assert said.out == "users: delta index removed\n"
    assert said.err == "note: events has no delta index\n"
    assert project.parquet == files
    assert cli("register").err == (
        "note: no feed has an index; make one: ksql-lake register --format delta --all\n"
    )
    assert lake.storage.size("metadata/tables/users/delta.json") is None


def test_feeds_without_rows_and_columns_without_a_type_are_told(project: Project, cli: Cli) -> None:
    """Nothing is left out in silence."""
    project.feed({"name": "events", "kind": "stream", "source": "EVENTS", "start_date": "2025-01-01"})
    project.feed({"name": "users", "kind": "table", "source": "USERS"})
    lake = Lake(project.root / "data_lake")
    land_rows(lake, table_feed(), [{"ID": 1}], schema=parse_schema("`ID` BIGINT KEY, `OPENS` ARRAY<TIME>"))

    said = cli("register", "--format", "delta", "--all")

    assert said.code == 0
    assert said.err == (
        "note: events: has no export yet, so there is nothing to index\n"
        "note: users: left out: column OPENS (Delta has no type for a time of day)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--format", "delta"), "name the feeds: --all or --feed NAME"),
        (("--all", "--feed", "users", "--format", "delta"), "--all already means every feed; leave out --feed"),
        (("--remove",), "name the indexes to remove: --format, with --feed NAME or --all"),
        (
            ("--format", "hudi", "--all"),
            "invalid value for '--format': 'hudi' is not one of 'delta', 'iceberg'",
        ),
        (("--format", "delta", "--feed", "user"), "there is no feed named 'user'"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    lake: Lake, cli: Cli, arguments: tuple[str, ...], told: str
) -> None:
    """Each wrong combination says what to say instead, and does nothing."""
    said = cli("register", *arguments)

    assert said.code == 2
    assert said.err.startswith(f"error: {told}")
    assert not list(Path(lake.root).glob("metadata/*/*/delta*"))


@pytest.mark.parametrize(("form", "package"), [("delta", "deltalake"), ("iceberg", "pyiceberg")])
def test_a_missing_extra_is_named(lake: Lake, cli: Cli, project: Project, form: str, package: str) -> None:
    """Without the format's library the error says what to install; doctor needs it only to repair."""
    cli("register", "--format", form, "--all")
    land_rows(lake, table_feed(), [{"ID": 1, "NAME": "c"}])
    blocked = f"import sys; sys.modules[{package!r}] = None; from ksql_lake.cli import main; main()"

    def run(*arguments: str) -> Said:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", blocked, *arguments]
        environment = project.environment()
        return ended(
            subprocess.Popen(command, cwd=project.root, env=environment, stdout=pipe, stderr=pipe, text=True)
        )

    registered, examined, repaired = run("register"), run("doctor"), run("doctor", "--repair")

    told = (
        f"error: feed users: an index for {form} needs the Python package {package}, which is not installed\n"
        f"pip install 'ksql-lake[{form}]'\n"
    )
    assert (registered.code, registered.err) == (1, told)
    assert "index stale" in examined.out
    assert repaired.code == 1
    assert told in repaired.err
    assert "1 finding, 1 failure" in repaired.out


@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_one_feed_that_cannot_be_registered_does_not_stop_the_others(lake: Lake, cli: Cli, form: str) -> None:
    """Columns of an older release that no table format can hold are one error; other feeds are registered."""
    schema = parse_schema("`ROWTIME` TIMESTAMP, `ID` BIGINT, `S` STRUCT<`x` BIGINT, `X` BIGINT>")
    row = {"ROWTIME": event(5)["ROWTIME"], "ID": 5, "S": {"x": 1, "X": 2}}
    land_rows(lake, stream_feed(), [row], schema=schema)

    said = cli("register", "--format", form, "--all")

    assert said.code == 1
    assert "feed events: " in said.err
    assert "fields S.x and S.X differ only in case" in " ".join(said.err.split())
    assert "users" in said.out
    assert "Traceback" not in said.err
    asked = cli("sql", "SELECT S FROM events")
    assert asked.code == 2
    assert "differ only in case; read them with read_stream(as_='arrow')" in asked.err
    assert cli("sql", "SELECT sum(ID) AS n FROM events").out.split() == ["n", "8"]


def test_merges_and_retention_bring_the_indexes_along(lake: Lake, cli: Cli, project: Project) -> None:
    """After each the indexes hold the same rows in the files there are, without a word from anybody."""
    project.feed({"name": "users", "kind": "table", "source": "USERS", "retention": 1})
    for form in ("delta", "iceberg"):
        cli("register", "--format", form, "--all")
    land_rows(lake, stream_feed(), [event(3)])

    merged, removed = cli("compact", "--all"), cli("retention")

    assert (merged.code, removed.code) == (0, 0)
    events = DeltaTable(lake.storage.uri("metadata/streams/events/delta"))
    users = StaticTable.from_metadata(lake.storage.uri("metadata/tables/users/iceberg"))
    assert (len(events.file_uris()), events.to_pyarrow_table().num_rows) == (2, 3)
    assert users.scan().to_arrow().column("version").to_pylist() == ["v2"]
    assert cli("doctor").code == 0


def test_an_export_brings_the_indexes_along(sample: Project, cli: Cli) -> None:
    """The next version is in the index when the export ends; one that cannot follow fails no export."""
    cli("export", "--table", "merchants")
    cli("register", "--format", "delta", "--feed", "merchants")

    again = cli("export", "--table", "merchants")

    table = DeltaTable(str(sample.root / "data_lake/metadata/tables/merchants/delta"))
    assert (again.code, again.err) == (0, "")
    assert set(table.to_pyarrow_table().column("version").to_pylist()) == {"v1", "v2"}
    shutil.rmtree(sample.root / "data_lake/metadata/tables/merchants/delta")
    (sample.root / "data_lake/metadata/tables/merchants/delta").write_text("in the way")
    failed = cli("export", "--table", "merchants")
    assert failed.code == 0
    assert "merchants: the delta index is not up to date: " in failed.err
    assert len(list(sample.root.glob("data_lake/tables/merchants/*/*.parquet"))) == 3


def test_exports_and_retention_bring_the_catalog_along(sample: Project, cli: Cli) -> None:
    """A catalog from before the first export shows its rows, and the one version that is left."""
    written = cli("catalog", "lake.duckdb")
    path = sample.root / "lake.duckdb"

    exported = cli("export", "--table", "merchants")

    assert "without rows until their first export: " in " ".join(written.err.split())
    assert (exported.code, exported.err) == (0, "")
    with duckdb.connect(str(path), read_only=True, config={"file_search_path": str(sample.root)}) as catalog:
        assert catalog.sql("SELECT DISTINCT version FROM merchants").fetchall() == [("v1",)]
    # Types that versions do not share keep the view of all of them from being made.
    lake, feed = Lake(sample.root / "data_lake"), table_feed(name="merchants", source="MERCHANTS", retention=1)
    land_rows(lake, feed, [{"ID": 1, "NAME": "a"}])
    cli("catalog", "lake.duckdb")
    document = {"name": "merchants", "kind": "table", "source": "MERCHANTS", "retention": 1}
    sample.feed(document | {"min_ratio_to_previous": 0})
    assert cli("retention", "merchants").code == 0
    with duckdb.connect(str(path), read_only=True, config={"file_search_path": str(sample.root)}) as catalog:
        assert catalog.sql("FROM merchants_versions").fetchall() == [(1, "a", "v2")]
