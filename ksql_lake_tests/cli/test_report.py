"""`ksql-lake report`: every format, to a pipe, a terminal or a file, with and without a server."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest

from ksql_lake.report import Report
from ksql_lake_tests.cli.conftest import COMMAND, SAMPLE_ROWS, Cli, Project, Server
from ksql_lake_tests.cli.test_output import on_a_terminal, without_styles


@pytest.fixture
def exported(cli: Cli, sample: Project) -> Project:
    """The sample project after one export."""
    assert cli("export", "--all").code == 0
    return sample


def test_the_console_report(cli: Cli, exported: Project) -> None:
    """Headline, one line per feed, and what the server has that nobody exports; nothing on stderr."""
    said = cli("report")

    lines = said.out.splitlines()
    assert (said.code, said.err) == (0, "")
    assert lines[0].startswith("3 feeds: 3 healthy. ")
    assert [line.split()[:5] for line in lines[3:6]] == [
        ["logins", "healthy", "proven", "ok", "90"],
        ["merchants", "healthy", "checked", "ok", "500"],
        ["transactions", "healthy", "proven", "ok", str(SAMPLE_ROWS)],
    ]
    assert "no feed: " in said.out
    assert "CARD_AUTHORIZATIONS" in said.out
    assert max(map(len, lines)) <= 80
    assert exported.root.is_dir()


def test_on_a_terminal_it_fits_and_has_colour(exported: Project, server: Server) -> None:
    """At 80 columns the table keeps its columns."""
    out = on_a_terminal(exported, "report", "--offline", COLUMNS="80", KSQLDB_URL=server.url)

    plain = without_styles(out)
    assert plain != out
    assert any(line.split()[:2] == ["transactions", "healthy"] for line in plain.splitlines())
    assert all(len(line.rstrip()) <= 80 for line in plain.splitlines())


def test_offline_asks_nobody(cli: Cli, exported: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--offline` the address does not matter, and the report says that no server was asked."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")

    said = cli("report", "--offline")

    assert said.code == 0
    assert "Server not asked." in said.out
    assert exported.root.is_dir()


@pytest.mark.usefixtures("exported")
def test_an_unreachable_server_is_a_remark(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is there all the same, with exit code 0, after one attempt."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")

    said = cli("report")

    assert (said.code, said.err) == (0, "")
    assert "no answer: the server: http://127.0.0.1:9: cannot connect: connection" in said.out


@pytest.mark.usefixtures("exported")
def test_machine_formats_on_stdout(cli: Cli) -> None:
    """JSON, CSV, Prometheus and HTML are whole documents, with nothing else on stdout."""
    document = msgspec.json.decode(cli("report", "--format", "json").out, type=Report)
    lines = list(csv.DictReader(io.StringIO(cli("report", "--format", "csv").out)))
    metrics = cli("report", "--format", "prometheus").out
    page = cli("report", "--format", "html").out

    assert [feed.name for feed in document.feeds] == ["logins", "merchants", "transactions"]
    assert [line["records"] for line in lines] == ["90", "500", str(SAMPLE_ROWS)]
    assert f'ksql_lake_feed_records{{feed="transactions",kind="stream"}} {SAMPLE_ROWS}\n' in metrics
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("r.html", "<!doctype"),
        ("r.json", "{"),
        ("r.csv", "name,kind"),
        ("r.prom", "# HELP"),
        ("r.txt", "3 feeds"),
    ],
)
def test_the_ending_of_the_file_decides(cli: Cli, exported: Project, name: str, start: str) -> None:
    """Without `--format` the file's name says what it is; an older file is replaced, whole."""
    path = exported.root / name
    path.write_text("old")

    said = cli("report", "--offline", "--output", name)

    assert (said.code, said.out) == (0, "")
    assert said.err.startswith(f"written: {name}: 3 feeds as ")
    assert path.read_text(encoding="utf-8").startswith(start)
    assert not list(exported.root.glob(".r*"))


@pytest.mark.usefixtures("exported")
def test_the_format_given_wins_over_the_ending(cli: Cli, project: Project) -> None:
    """`--format` is taken at its word."""
    assert cli("report", "--offline", "--format", "json", "--output", "report.txt").code == 0

    assert json.loads((project.root / "report.txt").read_bytes())["format"] == 2


def test_html_to_a_terminal_is_refused(exported: Project) -> None:
    """A page of markup is useless on a terminal; the answer says what to write instead."""
    out = on_a_terminal(exported, "report", "--offline", "--format", "html")

    said = " ".join(without_styles(out).split())
    assert "HTML needs a file: --output report.html" in said


def test_a_file_that_cannot_be_written_is_told(cli: Cli, exported: Project) -> None:
    """The path and the reason, exit code 2, and nothing left behind."""
    said = cli("report", "--offline", "--output", "no/such/folder/report.html")

    assert said.code == 2
    assert said.err == (
        "error: path no/such/folder/report.html: the report cannot be written: no such file or directory\n"
        "Name another --output.\n"
    )
    assert not (exported.root / "no").exists()


def test_a_device_is_written_to(cli: Cli, exported: Project) -> None:
    """A device is not replaced by a file."""
    assert cli("report", "--offline", "--output", "/dev/null").code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert exported.root.is_dir()


def test_a_project_without_a_lake(cli: Cli, sample: Project) -> None:
    """Before the first export every feed never ran, and no lake is made by looking."""
    said = cli("report", "--offline")

    assert said.code == 0
    assert said.out.startswith("3 feeds: 3 never ran. ")
    assert not (sample.root / "data_lake").exists()


def test_a_lake_that_is_a_file_is_told(cli: Cli, sample: Project) -> None:
    """A path that cannot be a lake is an error, not a report without feeds."""
    (sample.root / "data_lake").write_text("no folder")

    said = cli("report", "--offline")

    assert said.code == 2
    assert said.err.startswith("error: ")
    assert "the lake's folder is a file" in said.err


def test_a_folder_that_may_not_be_entered_is_one_failing_feed(sample: Project) -> None:
    """The other feeds are reported, and stderr names what could not be read."""
    assert sample.process("export", "--all").code == 0
    closed = sample.root / "data_lake/metadata/streams/logins"
    closed.chmod(0)
    # Root may enter every folder, unless it gives up that right.
    bare = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*bare, *COMMAND, "report", "--offline", "--json", "--fail-on", "failing"],
        cwd=sample.root,
        env=sample.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    closed.chmod(0o755)

    feeds = {feed["name"]: feed for feed in json.loads(done.stdout)["feeds"]}
    assert done.returncode == 1
    assert {name: feed["status"] for name, feed in feeds.items()} == {
        "logins": "failing",
        "merchants": "healthy",
        "transactions": "healthy",
    }
    assert feeds["logins"]["reason"] == "cannot be read: permission denied"
    assert f"warning: {closed}/failures.json cannot be read: permission denied\n" in done.stderr
    assert done.stderr.endswith("error: failing: logins\n")


def test_a_note_that_cannot_be_read_is_told(cli: Cli, sample: Project) -> None:
    """Failures noted in a damaged file are unknown, so a feed that looks healthy comes with a warning."""
    assert cli("export", "--all").code == 0
    note = sample.root / "data_lake/metadata/streams/logins/failures.json"
    note.write_text("{")

    said = cli("report", "--offline")

    assert said.code == 0
    assert said.err.startswith(f"warning: {note} cannot be read: ")
