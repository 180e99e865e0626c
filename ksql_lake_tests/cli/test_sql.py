"""`ksql-lake sql` and `catalog`: questions from a shell, answers for people and programs."""

from __future__ import annotations

import base64
import csv
import io
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from ksql_lake.cli.entry import run
from ksql_lake.feeds import FeedStore
from ksql_lake.lake import Lake
from ksql_lake_tests.cli.conftest import COMMAND, Project
from ksql_lake_tests.cli.test_output import on_a_terminal, without_styles
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed
from ksql_lake_tests.query.lakes import BIG, EveryType

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> EveryType:
    """A lake with every type."""
    return EveryType.make(tmp_path_factory.mktemp("every"))


@pytest.fixture
def here(every: EveryType, monkeypatch: pytest.MonkeyPatch) -> EveryType:
    """That lake as the one the environment names."""
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(every.lake))
    monkeypatch.setenv("KSQL_LAKE_FEEDS", str(every.feeds))
    return every


@pytest.fixture
def said(here: EveryType, capfdbinary: pytest.CaptureFixture[bytes]) -> Said:
    """Runs `ksql-lake sql` in this process; gives exit code, stdout and stderr."""
    assert here.lake.exists()

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(["sql", *arguments])
        captured = capfdbinary.readouterr()
        return code, captured.out.decode(), captured.err.decode()

    return command


def test_in_a_pipe_rows_are_aligned_and_whole(said: Said) -> None:
    """Titles as they are, numbers right, NULL as NULL, line ends as two characters, nothing cut."""
    code, out, err = said(
        "SELECT 'a' || chr(10) || 'b' AS text, 1.50 AS number, NULL AS nothing, repeat('x', 200) AS long"
    )

    assert (code, err) == (0, "")
    assert out.splitlines() == ["text  number  nothing  long", f"a\\nb    1.50  NULL     {'x' * 200}"]


def test_a_long_answer_comes_whole(said: Said) -> None:
    """All rows, in their order, however many."""
    code, out, _ = said("SELECT range AS n FROM range(5000) ORDER BY n DESC")

    assert code == 0
    assert [int(line) for line in out.split()[1:]] == list(reversed(range(5000)))


def test_on_a_terminal_it_fits(every: EveryType, tmp_path: Path) -> None:
    """As many rows as one looks at, wide rows as paragraphs, and a note that there are more."""
    environment = {"KSQL_LAKE_ROOT": str(every.lake), "KSQL_LAKE_FEEDS": str(every.feeds), "COLUMNS": "60"}
    out = without_styles(
        on_a_terminal(Project(tmp_path), "sql", "FROM events ORDER BY ROWTIME", "--limit", "2", **environment)
    )

    assert all(len(line.rstrip()) <= 60 for line in out.splitlines())
    assert out.count("2025-01-15 00:00:0") == 2
    assert "note: the first 2 rows; --limit shows more" in " ".join(out.split())


def test_csv_and_json_hold_every_digit(said: Said) -> None:
    """BIGINT as a number of all its digits, DECIMAL as text in JSON, BYTES as base64, NaN as text."""
    _, out, _ = said(
        "SELECT L, M, Y FROM events WHERE L IS NOT NULL ORDER BY ROWTIME LIMIT 1", "--format", "csv"
    )
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["L"], row["M"]) == (str(BIG), f"{BIG}.0001")

    code, out, err = said(
        "SELECT L, M, Y, P, \"AT\", ROWTIME, 'nan'::DOUBLE AS nan, [{'d': '-inf'::FLOAT}] AS deep, "
        "1 AS twice, 2 AS twice "
        "FROM events WHERE L IS NOT NULL ORDER BY ROWTIME LIMIT 1",
        "--format",
        "json",
    )
    assert (code, err) == (0, "")
    assert json.loads(out, parse_constant=pytest.fail) == [
        {
            "L": BIG,
            "M": f"{BIG}.0001",
            "Y": "AP8A",
            "P": {"a": "1.10", "b": None},
            "AT": "23:59:59.000",
            "ROWTIME": "2025-01-15T00:00:00.000Z",
            "nan": "NaN",
            "deep": [{"d": "-Infinity"}],
            "twice": 1,
            "twice_1": 2,
        }
    ]
    assert json.loads(said("FROM users LIMIT 0", "--format", "json")[1]) == []


def test_csv_with_json_inside_on_request(said: Said) -> None:
    """Nested values are JSON that holds every digit, BYTES are base64; the rest is as in CSV."""
    query = "SELECT L, M, S, Y, A, P, N, SS, ROWTIME FROM events ORDER BY ROWTIME LIMIT 4"
    code, out, _ = said(query, "--format", "csv-json")
    plain = said(query, "--format", "csv")[1]
    rows, same = (list(csv.DictReader(io.StringIO(text))) for text in (out, plain))

    assert code == 0
    assert base64.b64decode(rows[1]["Y"]) == bytes([0, 255, 1])
    assert json.loads(rows[1]["A"]) == [BIG, None, 1]
    assert json.loads(rows[1]["P"]) == {"a": "1.10", "b": None}
    assert json.loads(rows[1]["N"]) == {"x": 1, "y": None, "inner": {"s": "deep", "t": None}}
    assert json.loads(rows[1]["SS"]) == [{"sku": "k", "n": 1, "note": None}, None]
    assert [rows[3][name] for name in ("Y", "A", "N")] == ["", "", ""]
    for name in ("L", "M", "S", "ROWTIME"):
        assert [row[name] for row in rows] == [row[name] for row in same]


@pytest.mark.parametrize("name", ["r.csv", "r.json", "r.parquet", "r.txt"])
def test_the_ending_of_the_file_decides(said: Said, name: str, tmp_path: Path) -> None:
    """The file is written whole, in the place of an older one where that is meant, and a note says so."""
    path = tmp_path / name
    path.write_text("old")
    refused = said("FROM users_versions", "--output", str(path))
    assert refused[0] == 2
    assert "this file exists already, and this command did not write its present content" in refused[2]
    assert path.read_text() == "old"

    code, out, err = said("FROM users_versions", "--output", str(path), "--force")

    assert (code, out, err) == (
        0,
        "",
        f"written: {path}: the answer as {'console' if name == 'r.txt' else path.suffix[1:]}\n",
    )
    counts = {
        "csv": lambda: len(path.read_text().splitlines()) - 1,
        "txt": lambda: len(path.read_text().splitlines()) - 1,
        "json": lambda: len(json.loads(path.read_text())),
        "parquet": lambda: pq.read_metadata(path).num_rows,
    }
    count: Callable[[], int] = counts[path.suffix[1:]]
    assert count() == 12
    assert [found.name for found in tmp_path.iterdir()] == [name]
    # It overwrites its own file, until something else changes it.
    assert said("FROM users_versions", "--output", str(path))[0] == 0
    with path.open("ab") as file:
        file.write(b"more")
    assert said("FROM users_versions", "--output", str(path))[0] == 2


def test_appending_and_broken_pipes(every: EveryType, tmp_path: Path) -> None:
    """`>>` appends, and a reader that has had enough ends it without a word."""
    environment = Project(tmp_path).environment(
        KSQL_LAKE_ROOT=str(every.lake), KSQL_LAKE_FEEDS=str(every.feeds)
    )
    command = shlex.join(map(str, [*COMMAND, "sql"]))
    script = (
        f"echo first > out.csv; {command} 'SELECT 2 AS n' --format csv >> out.csv; "
        f"{command} 'FROM range(3000000)' --format csv | head -2; "
        f"echo 'SELECT 7 AS seven' | {command} --format csv"
    )
    process = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    assert (tmp_path / "out.csv").read_text() == "first\nn\n2\n"
    assert (process.stdout, process.stderr) == ("range\n0\nseven\n7\n", "")


def test_a_file_with_several_statements(said: Said, tmp_path: Path) -> None:
    """All are run, the last one's rows are shown."""
    path = tmp_path / "q.sql"
    path.write_text(
        "CREATE TEMP TABLE t AS SELECT max(L) AS most FROM events;\n-- the end\nSELECT most FROM t;\n"
    )

    assert said("-f", str(path), "--format", "csv") == (0, f"most\n{BIG + 14}\n", "")
    assert said("SELECT 1; SET threads = 1") == (0, "", "note: the last statement returns no rows\n")


def test_all_views_and_their_plans(said: Said) -> None:
    """`SHOW TABLES` knows every view, and EXPLAIN ANALYZE shows that a month opens a month's files."""
    views = ["events", "users", "users_changes", "users_history", "users_versions"]
    own = [f"ksql_lake_{name}" for name in ("commits", "feeds", "partitions", "versions")]
    assert [line.split()[0] for line in said("SHOW TABLES")[1].splitlines()] == [
        "name",
        views[0],
        *own,
        *views[1:],
    ]
    assert "users_versions" + " " * 8 + "table USERS (all kept versions)" in said("SHOW TABLES")[1]
    plan = said("EXPLAIN ANALYZE SELECT sum(L) FROM events WHERE year = 2025 AND month = 2")[1]

    assert "Scanning Files: 1/3" in plan  # of the files with the newer columns
    assert "Scanning Files: 0/2" in plan  # of those with the older ones


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["FROM evnts"], "error: there is no view 'evnts'\nDid you mean 'events'?\n"),
        (
            ["FROM nothing_like_it"],
            "error: there is no view 'nothing_like_it'\nThere are: events, users, users_versions.\n",
        ),
        (["SELEC 1"], 'error: Parser Error: syntax error at or near "SELEC"'),
        (
            ["SELECT ROWTIM FROM events"],
            'error: Binder Error: Referenced column "ROWTIM" not found in FROM clause!\n',
        ),
        (["SELECT CAST(S AS INTEGER) FROM events"], "error: Conversion Error: Could not convert string"),
        (["  ;  "], "error: there is no statement\n"),
        (["SELECT 1", "-f", "x.sql"], "error: use QUERY or -f, not both\n"),
        (["-f", "/no/such.sql"], "error: /no/such.sql cannot be read: no such file or directory\n"),
        (
            ["SELECT 1", "--limit", "3", "--format", "csv"],
            "error: --limit is for the console; say LIMIT in the query\n",
        ),
        (
            ["SELECT 1", "--output", "/no/such/file.csv"],
            "error: path /no/such/file.csv: the answer cannot be written: no such file or directory\n",
        ),
    ],
)
def test_mistakes_are_answered(said: Said, arguments: list[str], text: str) -> None:
    """What is wrong and what there is, exit code 2, nothing on stdout."""
    code, out, err = said(*arguments)

    assert (code, out) == (2, "")
    assert err.startswith(text)


def test_a_file_that_is_gone(said: Said, tmp_path: Path) -> None:
    """Files that vanish while they are read are the lake's error, not the question's."""
    code, _, err = said(f"FROM read_parquet('{tmp_path}/*.parquet')")

    assert code == 1
    assert err.startswith("error: IO Error: No files found that match the pattern")
    assert "run it again" in err


def test_a_damaged_feed_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The others can be asked; whoever asks for the damaged one hears what is wrong with it."""
    made = EveryType.make(tmp_path)
    monkeypatch.setenv("KSQL_LAKE_ROOT", str(made.lake))
    monkeypatch.setenv("KSQL_LAKE_FEEDS", str(made.feeds))
    (made.lake / "metadata/streams/events/commits/00000000000000000001.json").unlink()

    assert run(["sql", "SELECT count(*) AS n FROM users", "--format", "csv"]) == 0
    assert run(["sql", "SHOW TABLES"]) == 0
    assert run(["sql", "FROM events"]) == 1
    captured = capfdbinary.readouterr()
    assert captured.out.startswith(b"n\n5\nname ")
    assert b"\nusers " in captured.out
    assert b"\nevents " not in captured.out
    assert b"no view of feed events: manifest 1 is missing" in captured.err
    assert b"error: path" in captured.err


def test_a_feed_that_was_never_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Its view is there, typed as far as anybody can know, and empty."""
    FeedStore(tmp_path / "feeds").add(stream_feed())
    monkeypatch.chdir(tmp_path)

    assert run(["sql", "SELECT ROWTIME, year FROM events", "--format", "csv"]) == 0
    assert capfdbinary.readouterr().out == b"ROWTIME,year\n"


def test_the_catalog_command(
    every: EveryType, here: EveryType, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The file is there, and stderr says what is in it; a foreign file stays, exit code 2."""
    assert here is every
    path = tmp_path / "lake.duckdb"

    assert run(["catalog", str(path), "--absolute"]) == 0
    assert capfdbinary.readouterr().err.decode() == f"written: {path}: 4 views\n"
    assert duckdb.connect(str(path)).sql("SELECT count(*) FROM users").fetchall() == [(5,)]
    path.write_bytes(b"mine")
    assert run(["catalog", str(path)]) == 2
    assert b"is no catalog of ksql-lake" in capfdbinary.readouterr().err


def test_days_that_were_not_read_are_told(said: Said) -> None:
    """A question about days that no export has read is answered, and a note on stderr says which these are."""
    read = said("SELECT count(*) AS n FROM events WHERE year = 2025 AND month = 1 AND day = 16")
    assert (read[0], read[2]) == (0, "")
    assert said("SELECT count(*) AS n FROM events WHERE L > 0")[2] == ""
    assert said("SELECT count(*) AS n FROM users WHERE version = 'v1'")[2] == ""

    code, out, err = said("SELECT count(*) AS n FROM events x WHERE x.year = 2025 AND month = 1 AND day < 16")

    assert (code, out.split()) == (0, ["n", "8"])
    assert err == ("note: events: no export has read 2025-01-01 to 2025-01-14, which the query asks for\n")


@pytest.mark.parametrize("name", ["r.xlsx", "r.arrow", "r.pdf", "rows"])
def test_an_ending_nobody_knows_is_a_usage_error(said: Said, name: str, tmp_path: Path) -> None:
    """Nothing is written as console text because its name was not understood."""
    code, _, err = said("SELECT 1", "--output", str(tmp_path / name))

    assert code == 2
    assert f"the ending of {name} names no format: use .csv, .json, .parquet, .txt" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO 'stolen.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'stolen.csv'",
        "explain /* */ analyze copy (SELECT 1) TO 'stolen.csv'",
        "ATTACH 'stolen.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "CREATE TABLE stolen AS FROM events",
        "PRAGMA version",
        "SELECT 1; COPY (SELECT 1) TO 'stolen.csv'",
        "FROM holdings",
    ],
)
def test_safe_lets_a_question_do_nothing_else(
    said: Said, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --safe no file is read but the lake's, nothing is written, loaded or set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    code, out, err = said(statement, "--safe")

    assert code != 0
    assert out == ""
    assert err.startswith("error: ")
    assert "unexpected" not in err
    assert not list(tmp_path.rglob("*stolen*"))


@pytest.mark.parametrize("form", ["console", "csv", "json", "parquet"])
def test_safe_answers_as_ever(said: Said, form: str, tmp_path: Path) -> None:
    """The lake's own rows come in every form, and are the same as without it."""
    question = "SELECT *, sum(L) OVER () AS huge, 1 AS twice, 2 AS twice FROM events ORDER BY ROWTIME, L, S"
    outputs = [tmp_path / f"{name}.out" for name in ("free", "safe")]
    for path, more in zip(outputs, ([], ["--safe"]), strict=True):
        assert said(question, "--format", form, "--output", str(path), *more)[0] == 0

    if form == "parquet":
        free, confined = map(pq.read_table, outputs)
        assert confined.to_pylist() == free.to_pylist()
        assert confined.schema.types == free.schema.types
    else:
        assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert said("EXPLAIN FROM events", "--safe")[0] == 0
    assert said("SHOW TABLES", "--safe")[1] == said("SHOW TABLES")[1]


def test_a_feed_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    """A feed that is called like something inside the program is read all the same."""
    lake = Lake(tmp_path / "lake")
    for name in ("answer", "named"):
        land_rows(lake, stream_feed(name=name), [event(7)])
    monkeypatch.setenv("KSQL_LAKE_ROOT", lake.root)

    for form in ("console", "csv"):
        assert said("SELECT 1 AS one FROM answer, named", "--format", form)[1].split() == ["one", "1"]


def test_null_is_told_from_its_name_and_nothing_commands_the_terminal(said: Said) -> None:
    """The text NULL is in quotes; control characters and marks that turn the direction are escaped."""
    out = said("SELECT NULL AS a, 'NULL' AS b, chr(155) || chr(8238) || chr(27) || 'x' AS c")[1]

    assert out.splitlines() == ["a     b       c", "NULL  'NULL'  \\x9b\\u202e\\x1bx"]


@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_terminal_no_digit_and_no_column_goes_unseen(
    every: EveryType, tmp_path: Path, columns: int
) -> None:
    """Columns that do not fit are left out in the middle and named; a number is whole or not there."""
    environment = {
        "KSQL_LAKE_ROOT": str(every.lake),
        "KSQL_LAKE_FEEDS": str(every.feeds),
        "COLUMNS": str(columns),
    }
    numbers = [f"{number + 1}339187.31" for number in range(9)]
    listed = ", ".join(f"{number} AS c{at}" for at, number in enumerate(numbers))

    out = without_styles(on_a_terminal(Project(tmp_path), "sql", f"SELECT {listed}", **environment))

    shown = out.splitlines()[0].split()
    gone = [f"c{at}" for at in range(9) if f"c{at}" not in shown]
    assert "…" in shown
    assert out.splitlines()[1].split() == [numbers[int(name[1])] if name != "…" else "…" for name in shown]
    assert f"{len(gone)} of 9 columns do not fit in: {', '.join(gone)};" in " ".join(out.split())
