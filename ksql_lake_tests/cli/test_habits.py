"""What people expect of any command line: -q, -v, completion, --json, readers that go away, hints for typos."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime

import pytest

from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake_tests.cli.conftest import COMMAND, STREAM, TABLE, Cli, Project
from ksql_lake_tests.report.lakes import backdate


@pytest.fixture
def checked(sample: Project) -> Project:
    """The sample project with a promise that its rows break."""
    path = sample.root / "feeds/active/logins.json"
    feed = json.loads(path.read_bytes())
    feed["checks"] = {"min_records": 10_000, "unique": ["SUCCESS"]}
    path.write_text(json.dumps(feed))
    return sample


def test_a_failed_check_is_told_and_is_1(cli: Cli, checked: Project) -> None:
    """The rows land, an error is an error paragraph and exit code 1, what is only unusual is a note."""
    said = cli("export", "--stream", "logins")

    assert said.code == 1
    assert "error: logins: check unique (error): 2025-01-06: " in said.err
    assert "note: logins: check min_records (warn): Fewer than 10,000 records: " in said.err
    assert checked.rows("logins") == 90


def test_report_and_export_agree_on_a_failed_check(cli: Cli, checked: Project) -> None:
    """The report of the same lake is red for the same check, and so is its exit code where that is asked."""
    document = json.loads(cli("export", "--all", "--json").out)

    report = json.loads(cli("report", "--offline", "--json").out)
    told = cli("report", "--offline", "--fail-on", "stale,failing")
    calm = cli("report", "--offline", "--fail-on", "stale", "--fail-on", "missing")

    feeds = {feed["name"]: feed for feed in report["feeds"]}
    failed = {check["name"] for check in feeds["logins"]["checks"] if check["state"] == "failed"}
    assert {check["check"] for check in document["failed_checks"]} == failed == {"min_records", "unique"}
    assert {name: feed["status"] for name, feed in feeds.items()} == {
        "logins": "failing",
        "merchants": "healthy",
        "transactions": "healthy",
    }
    assert (told.code, told.err) == (1, "error: failing: logins\n")
    assert told.out.startswith("3 feeds: 1 failing, 2 healthy.")
    assert (calm.code, calm.err) == (0, "")
    assert checked.root.is_dir()


def test_the_advice_about_a_damaged_file_leads_out(cli: Cli, sample: Project) -> None:
    """The report stays red after a repair until an export has judged the files again, and says so."""
    assert cli("export", "--stream", "logins").code == 0
    damaged = sample.parquet[-1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert cli("export", "--stream", "logins", "--date", "2025-01-06").code == 1
    assert cli("doctor", "logins", "--repair", "--apply").code == 0

    def told() -> dict[str, object]:
        report = json.loads(cli("report", "--offline", "--json").out)
        found: dict[str, object] = {feed["name"]: feed for feed in report["feeds"]}["logins"]
        return found

    red = told()
    export = cli("export", "--stream", "logins")

    assert red["status"] == "failing"
    assert " bytes instead of " in str(red["reason"])
    assert "What to do" not in str(red["reason"])
    assert (
        red["next_step"]
        == "Repair what `ksql-lake doctor logins` finds, then: ksql-lake export --stream logins"
    )
    assert (export.code, told()["status"]) == (0, "healthy")


def test_days_that_lack_are_missing_for_cron(cli: Cli, sample: Project) -> None:
    """Before the first export every feed is missing; a word that means nothing is a mistake."""
    said = cli("report", "--offline", "--fail-on", "missing")
    wrong = cli("report", "--offline", "--fail-on", "broken")

    assert (said.code, said.err) == (1, "error: missing: logins, merchants, transactions\n")
    assert wrong.code == 2
    assert "'broken' is none of failing, stale, missing" in wrong.err
    assert sample.root.is_dir()


def test_open_days_are_missing_also_where_a_check_fails(cli: Cli, checked: Project) -> None:
    """A feed whose status is that of a check lacks the days all the same that were not read to their end."""
    assert cli("export", "--all").code == 1
    calm = cli("report", "--offline", "--fail-on", "missing")
    feed = FeedStore(checked.root / "feeds").load().get("logins")
    backdate(Lake(checked.root / "data_lake"), feed, datetime(2025, 1, 20, 12, tzinfo=UTC))

    said = cli("report", "--offline", "--fail-on", "failing,missing")

    assert calm.code == 0
    assert (said.code, said.err) == (1, "error: failing: logins\nerror: missing: logins\n")


def test_json_is_there_when_the_server_is_not(
    cli: Cli, sample: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program gets a document that says what happened, and people their paragraph."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "1")

    export, discover, report = (
        cli(*line, "--json") for line in (("export", "--all"), ("feeds", "discover"), ("report",))
    )

    assert [one["feed"] for one in json.loads(export.out)["failed"]] == ["logins", "merchants", "transactions"]
    assert json.loads(discover.out)["error"]["type"] == "ServerUnavailableError"
    assert json.loads(report.out)["server"]["problem"]
    assert (export.code, discover.code, report.code) == (1, 1, 0)
    assert export.err.startswith("error: ")
    assert sample.root.is_dir()


def test_quiet_and_verbose(cli: Cli, sample: Project) -> None:
    """-q leaves what is wrong, -v adds each step, both anywhere on the line and not together."""
    quiet = cli("export", "--stream", "logins", "-q")
    verbose = cli("-v", "export", "--stream", "logins")
    both = cli("-q", "report", "--verbose")
    wrong = cli("export", "--stream", "nobody", "--quiet")

    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert "info: export begins: " in verbose.err
    assert "info: export landed" in verbose.err
    assert (both.code, both.err) == (2, "error: -q and -v exclude each other\n")
    assert wrong.code == 2
    assert "nobody" in wrong.err
    assert sample.rows("logins") == 90


def test_a_mistyped_variable_is_told(project: Project) -> None:
    """What begins like one of our variables and is none is a warning with the nearest name."""
    project.feed(STREAM)

    said = project.process("feeds", "list", KSQLDB_ULR="http://x", KSQL_LAKE_ROTO="x", SQL_LAKE="x")

    assert said.code == 0
    text = "warning: the environment variable {} is unknown and does nothing; did you mean {}?"
    assert said.err.splitlines() == [
        text.format("KSQLDB_ULR", "KSQLDB_URL"),
        text.format("KSQL_LAKE_ROTO", "KSQL_LAKE_ROOT"),
    ]


def test_the_default_schedule_is_told(cli: Cli, project: Project) -> None:
    """A feed without a schedule of its own shows the one it runs by, and that it is the default."""
    project.feed(STREAM)
    project.feed({**TABLE, "schedule": "0 3 * * *"})

    said = cli("feeds", "list")
    entries = {entry["name"]: entry for entry in json.loads(cli("feeds", "list", "--json").out)}

    assert "5 * * * * (default)" in said.out
    assert "0 3 * * * (default)" not in said.out
    assert (entries["orders"]["schedule"], entries["orders"]["runs_at"]) == (None, "5 * * * *")
    assert entries["totals"]["runs_at"] == "0 3 * * *"
    assert "(default)" in cli("feeds", "show", "orders").out


@pytest.mark.parametrize("line", ["report --offline", "sql 'SELECT * FROM range(2000000)'", "feeds list"])
def test_a_reader_that_goes_away_is_no_error(sample: Project, line: str) -> None:
    """`| head` ends a command without a word."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {line} | head -n 1', "sh", *COMMAND],
        cwd=sample.root,
        env=sample.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def _completed(project: Project, line: str, **environment: str) -> list[str]:
    """What a shell would offer for the last word of a line."""
    words = line.split(" ")
    said = project.process(
        _KSQL_LAKE_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **environment
    )
    assert said.err == ""
    return [each.partition(",")[2] for each in said.out.splitlines() if each]


def test_names_are_completed(sample: Project) -> None:
    """Commands, options, feeds of the right kind, and the server's sources and columns."""
    assert _completed(sample, "ksql-lake re") == ["retention", "register", "report"]
    assert _completed(sample, "ksql-lake export --stream ") == ["logins", "transactions"]
    assert _completed(sample, "ksql-lake diff ") == ["merchants"]
    assert _completed(sample, "ksql-lake head m") == ["merchants"]
    assert _completed(sample, "ksql-lake feeds add --source transaction_s") == ["TRANSACTION_STREAM"]
    assert "AMOUNT" in _completed(sample, "ksql-lake feeds add --source TRANSACTION_STREAM --column AM")
    assert _completed(sample, "ksql-lake feeds add --source ", KSQLDB_URL="http://127.0.0.1:9") == []


def test_a_name_is_completed_from_the_folder_that_the_command_reads(cli: Cli, sample: Project) -> None:
    """`feeds restore` offers archived feeds and `feeds accept` proposed ones; the others offer active feeds."""
    assert cli("feeds", "archive", "merchants").code == 0
    sample.feed("{}", file="carts.json", folder="proposed")

    assert _completed(sample, "ksql-lake feeds restore ") == ["merchants"]
    assert _completed(sample, "ksql-lake feeds accept ") == ["carts"]
    assert _completed(sample, "ksql-lake feeds archive ") == ["logins", "transactions"]


def test_a_completion_script_is_printed(cli: Cli) -> None:
    """Each shell gets its own."""
    for shell in ("bash", "zsh", "fish"):
        said = cli("completion", shell)

        assert said.code == 0
        assert "_KSQL_LAKE_COMPLETE" in said.out


@pytest.mark.parametrize("command", ["sql", "diff", "report"])
def test_json_and_another_format_exclude_each_other(cli: Cli, command: str) -> None:
    """--json is --format json, and no second opinion."""
    arguments = {"sql": ["SELECT 1"], "diff": ["totals"]}.get(command, [])
    other = "csv" if command != "diff" else "parquet"

    said = cli(command, *arguments, "--json", "--format", other)

    assert said.code == 2
    assert f"--json and --format {other} exclude each other" in said.err
