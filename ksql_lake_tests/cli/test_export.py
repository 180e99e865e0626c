"""`ksql-lake export` against a real server, as real processes where it matters."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ksql_lake import DevServer
from ksql_lake_tests.cli.conftest import COMMAND, SAMPLE_ROWS, Cli, Project, Server, ended
from ksql_lake_tests.cli.test_output import on_a_terminal, without_styles

LOGINS = 90
MERCHANTS = 500


def test_export_all_twice_lands_everything_once(sample: Project) -> None:
    """The first export lands every row, the second reads again and finds nothing new; stderr stays empty."""
    first = sample.process("export", "--all")
    second = sample.process("export", "--all", "--from", "2025-01-06", "--to", "2025-01-07")

    assert (first.code, first.err) == (0, "")
    assert [line.split()[0] for line in first.out.splitlines()] == [
        "FEED",
        "logins",
        "merchants",
        "transactions",
    ]
    assert (second.code, second.err) == (0, "")
    words = second.out.splitlines()[-1].split()
    assert words[:8] == ["transactions", "2", "of", "2", "days", str(SAMPLE_ROWS), "0", str(SAMPLE_ROWS)]
    assert [sample.rows(name) for name in ("transactions", "logins", "merchants")] == [
        SAMPLE_ROWS,
        LOGINS,
        MERCHANTS,
    ]


def loaded(sample: Project, arguments: list[str], names: set[str]) -> set[str]:
    """Run an export in a process of its own; return which of some modules it imported."""
    code = (
        "import sys; from ksql_lake.cli.entry import run\n"
        f"assert run({['export', *arguments]!r}, alone=True) == 0\n"
        f"print('LOADED', *{names!r} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=sample.environment(), capture_output=True, text=True, check=True
    )
    said, *found = done.stdout.splitlines()[-1].split()
    assert said == "LOADED"
    return set(found)


def test_an_export_that_compares_nothing_waits_for_no_duckdb(sample: Project) -> None:
    """DuckDB and pandas are imported for what needs them: not for a table, nor for days that are new."""
    assert loaded(sample, ["--all"], {"duckdb", "pandas", "dagster"}) == set()
    assert sample.rows("merchants") == MERCHANTS


def test_rows_that_all_differ_are_counted_without_duckdb(sample: Project) -> None:
    """The check `unique` asks DuckDB only where two rows may be equal."""
    keys = {"source": "MERCHANTS", "checks": {"unique": ["MERCHANT_ID"]}}
    sample.feed({"name": "merchants", "kind": "table", **keys})

    assert loaded(sample, ["--table", "merchants"], {"duckdb"}) == set()


def test_a_script_reads_results_as_json(cli: Cli, sample: Project) -> None:
    """`--json` gives one document with every export's counts, and nothing else on stdout."""
    said = cli("export", "--stream", "transactions", "--table", "merchants", "--json")

    document = json.loads(said.out)
    assert (said.code, document["failed"], document["left_out"]) == (0, [], [])
    transactions, merchants = document["exports"]
    assert (transactions["feed"], transactions["read"], transactions["new"]) == (
        "transactions",
        SAMPLE_ROWS,
        SAMPLE_ROWS,
    )
    assert [merchants["partitions"][0]["partition"]] == ["v1"]
    assert sample.rows("merchants") == MERCHANTS


def test_an_unreachable_server_is_one_line(sample: Project) -> None:
    """However many feeds there are, one line names the address; nothing on stdout, exit code 1."""
    said = sample.process("export", "--all", KSQLDB_URL="http://127.0.0.1:9", KSQLDB_ATTEMPTS="2")

    assert (said.code, said.out) == (1, "")
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: server http://127.0.0.1:9: cannot connect: connection refused. ")
    assert not (sample.root / "data_lake").exists()


def test_an_unreachable_server_is_noted_in_a_lake_that_is_there(
    cli: Cli, sample: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that fails because nobody answers is a failed export of every planned feed."""
    assert cli("export", "--all").code == 0
    assert not list(sample.root.rglob("failures.json"))
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "1")

    assert cli("export", "--all").code == 1

    notes = {path.parent.name: json.loads(path.read_bytes()) for path in sample.root.rglob("failures.json")}
    assert sorted(notes) == ["logins", "merchants", "transactions"]
    assert notes["logins"]["newest"][0]["error"] == "ServerUnavailableError"


@pytest.mark.parametrize(
    ("scheme", "error", "code"), [("http", "UnauthorizedError", 1), ("https", "SettingsError", 2)]
)
def test_a_server_that_refuses_every_export_makes_every_feed_red(
    cli: Cli, sample: Project, monkeypatch: pytest.MonkeyPatch, scheme: str, error: str, code: int
) -> None:
    """Credentials that expired and an address that is wrong are failed exports, as a server that is down is."""
    assert cli("export", "--all").code == 0
    with DevServer.start(sample=True, arguments=["--token", "another"]) as closed:
        monkeypatch.setenv("KSQLDB_URL", closed.url.replace("http", scheme))
        said = cli("export", "--all", "--json")

    document = json.loads(said.out)
    assert said.code == code
    assert [(one["feed"], one["type"]) for one in document["failed"]] == [
        ("logins", error),
        ("merchants", error),
        ("transactions", error),
    ]
    red = cli("report", "--offline", "--fail-on", "failing")
    assert (red.code, red.err) == (1, "error: failing: logins, merchants, transactions\n")
    assert len(list(sample.root.rglob("failures.json"))) == 3


def test_one_failing_feed_never_stops_the_others(
    cli: Cli, sample: Project, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failing feed is named with its error, the others have landed, and the exit code is 1."""
    server.fault(kind="error", source="LOGIN_EVENTS", after_rows=3)
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "1")

    said = cli("export", "--all")

    assert said.code == 1
    assert "logins        failed" in said.out
    assert said.err.startswith("error: feed logins, server http://")
    assert "boom" in said.err
    assert "Traceback" not in said.err
    assert sample.rows("transactions") == SAMPLE_ROWS
    assert sample.rows("merchants") == MERCHANTS
    assert not list(sample.root.glob("data_lake/streams/logins"))


@pytest.mark.usefixtures("sample")
def test_the_same_failure_of_several_feeds_is_told_once(
    cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where several feeds fail for one reason, one paragraph names them all."""
    server.fault(kind="busy")
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "1")

    said = cli("export", "--all")

    assert said.code == 1
    assert said.err.count("error:") == 1, said.err
    assert "error: feeds logins, merchants, transactions: " in said.err


def test_a_cut_answer_is_read_again(cli: Cli, sample: Project, server: Server) -> None:
    """An answer that breaks off is reported on stderr and read again; what lands is whole and not doubled."""
    server.fault(kind="cut_row", source="TRANSACTION_STREAM", after_rows=100, times=1)

    said = cli("export", "--stream", "transactions")

    assert said.code == 0
    assert said.err.startswith("warning: ")
    assert "the answer was cut off" in said.err
    assert sample.rows("transactions") == SAMPLE_ROWS


def test_two_exports_at_once_double_nothing(sample: Project) -> None:
    """Two processes exporting the same feeds land every row once; both succeed."""
    both = [sample.start("export", "--all", "--json") for _ in range(2)]
    said = [ended(process) for process in both]

    assert [one.code for one in said] == [0, 0], said
    assert [sample.rows(name) for name in ("transactions", "logins")] == [SAMPLE_ROWS, LOGINS]
    exports = [export for one in said for export in json.loads(one.out)["exports"]]
    assert sum(export["new"] for export in exports if export["kind"] == "stream") == SAMPLE_ROWS + LOGINS
    # An export that was asked for before the other began to read has nothing to add to its version.
    written = [export for export in exports if export["kind"] == "table" and export["commit"] is not None]
    assert len(written) in (1, 2)
    assert len(list(sample.root.glob("data_lake/tables/merchants/version=*"))) == len(written)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing_half(
    cli: Cli, sample: Project, server: Server, sent: signal.Signals
) -> None:
    """Ctrl-C ends the queries on the server and leaves no visible file; the next export lands everything."""
    server.fault(kind="slow", rows_per_second=10)
    process = sample.start("export", "--all", "--workers", "2")
    server.wait_for_queries(2)

    process.send_signal(sent)
    said = ended(process)

    assert said.code == 130
    assert "interrupted: ending 2 exports; Ctrl-C again does not wait\n" in said.err
    assert "Traceback" not in said.err
    assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [
        [name, "interrupted"] for name in ("logins", "merchants", "transactions")
    ]
    assert sample.parquet == []
    assert server.queries == []
    server.fault(kind="slow", rows_per_second=1e9)
    assert cli("export", "--all").code == 0
    assert sample.rows("transactions") == SAMPLE_ROWS


def test_a_second_interruption_does_not_wait(sample: Project, server: Server) -> None:
    """If the server has fallen silent, the second Ctrl-C ends the process at once and prints the results."""
    server.fault(kind="hang", source="TRANSACTION_STREAM", after_rows=5)
    process = sample.start("export", "--stream", "transactions", "--json")
    server.wait_for_queries(1)
    assert process.stderr is not None

    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("interrupted: ending 1 export")
    process.send_signal(signal.SIGINT)
    said = ended(process)

    assert said.code == 130
    assert json.loads(said.out)["failed"] == [
        {"feed": "transactions", "type": "Interrupted", "error": "interrupted"}
    ]
    assert sample.parquet == []


def test_a_broken_feed_file_is_left_out_and_told(cli: Cli, sample: Project) -> None:
    """`--all` exports the good feeds, names the broken file and its problem, and exits with 1."""
    sample.feed({"name": "bad", "kind": "table", "source": "X", "retention": 0})

    said = cli("export", "--all", "--json")

    assert said.code == 1
    document = json.loads(said.out)
    assert [len(document["exports"]), document["failed"]] == [3, []]
    assert document["left_out"] == [
        {
            "path": "feeds/active/bad.json",
            "feed": "bad",
            "problems": ["retention: must be at least 1, not 0"],
        }
    ]
    assert said.err == (
        "left out: file feeds/active/bad.json: 1 problem found\n  retention: must be at least 1, not 0\n"
    )


def test_a_stream_that_starts_later_has_nothing_to_read(cli: Cli, sample: Project) -> None:
    """With `--all` such a feed is a line and a remark, not a failure."""
    sample.feed({"name": "later", "kind": "stream", "source": "LOGIN_EVENTS", "start_date": "2199-01-01"})

    said = cli("export", "--all")

    assert said.code == 0
    assert "later         nothing " in said.out
    assert said.err == "note: later: nothing to read: start_date 2199-01-01 is in the future\n"


def test_progress_is_drawn_on_terminals_only(cli: Cli, sample: Project) -> None:
    """A terminal sees feeds and rows go by and then the table; a pipe sees the table alone."""
    seen = without_styles(on_a_terminal(sample, "export", "--all", COLUMNS="100"))
    piped = cli("export", "--all")

    assert "of 3" in seen
    assert f"{SAMPLE_ROWS} " in seen
    assert "Already" in seen
    assert "\x1b" not in piped.out + piped.err
    assert piped.err == ""


def test_in_a_narrow_terminal_results_become_paragraphs(sample: Project) -> None:
    """If the table does not fit, each feed gets a few lines, every column with its name."""
    seen = without_styles(on_a_terminal(sample, "export", "--table", "merchants", COLUMNS="50"))

    lines = [line.rstrip() for line in seen.splitlines()]
    assert lines[-8].endswith("merchants")
    assert [line.split("  ")[1] for line in lines[-7:]] == [
        "Partitions",
        "Read",
        "New",
        "Already there",
        "Late",
        "Size",
        "Seconds",
    ]
    assert lines[-6].split() == ["Read", "500"]


def test_dagster_that_cannot_be_told_is_a_warning(sample: Project) -> None:
    """With an unusable DAGSTER_HOME the export has landed all the same: a warning, exit code 0."""
    said = sample.process("export", "--table", "merchants", DAGSTER_HOME=str(sample.root / "nowhere"))

    assert said.code == 0
    assert said.err.startswith("warning: ")
    assert "the exports landed, but Dagster's records could not be updated: there is no such folder" in said.err
    assert sample.rows("merchants") == MERCHANTS


def test_a_full_pipe_reader_that_goes_away_loses_no_rows(sample: Project) -> None:
    """`ksql-lake export --all | true` lands everything although nobody reads the table."""
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" | true', "sh", *COMMAND, "export", "--all"],
        cwd=sample.root,
        env=sample.environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert sample.rows("transactions") == SAMPLE_ROWS


def test_a_lake_that_cannot_be_written_is_told(cli: Cli, sample: Project) -> None:
    """A file in place of the lake's folder is a mistake of configuration, reported once for all feeds."""
    (sample.root / "data_lake").write_text("")

    said = cli("export", "--all")

    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"error: path {sample.root}/data_lake: the lake's folder is a file\n"
        "Move the file away, or set KSQL_LAKE_ROOT to another folder.\n"
    )
    assert Path("data_lake").read_text() == ""
