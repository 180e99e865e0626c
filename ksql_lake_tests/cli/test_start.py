"""Starting up: fast, lazy, and helpful when mistyped."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys

import click
import pytest

from ksql_lake.cli.app import LazyGroup, app, feeds
from ksql_lake.settings import load_settings
from ksql_lake_tests.cli.conftest import Cli, Project

HEAVY = ("pyarrow", "duckdb", "pandas", "dagster", "requests", "pydantic", "rich", "numpy")


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], ()),
        (["feeds", "--help"], ()),
        (["feeds", "list", "--help"], ("pydantic", "rich")),
        (["devserver", "--help"], ("pydantic", "rich")),
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str], allowed: tuple[str, ...]) -> None:
    """Help answers at once: the data libraries are only imported by commands that use them."""
    code = (
        "import sys; from ksql_lake.cli.entry import run\n"
        f"assert run({arguments!r}) == 0\n"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = done.stdout.rpartition("LOADED")[2].split()
    assert set(loaded) <= set(allowed)


COMMANDS = ("plan", "export", "certify", "compact", "retention", "doctor", "feeds.prepare")


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_start_without_what_they_do_not_need(module: str) -> None:
    """No command that reads or writes the lake waits for pandas or Dagster to be imported."""
    code = f"import sys, ksql_lake.cli.{module}; print(*{{'pandas', 'dagster'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


@pytest.mark.parametrize(("given", "threads"), [("", 1), ("2", 2)])
def test_numpy_starts_no_threads(given: str, threads: int) -> None:
    """Threads for linear algebra would wait busily in every export; who wants them can still have them."""
    code = (
        "import os; from ksql_lake.cli.entry import spare_libraries; spare_libraries()\n"
        "import numpy; print(len(os.listdir('/proc/self/task')))"
    )
    environment = {"PATH": os.defpath} | ({"OPENBLAS_NUM_THREADS": given} if given else {})

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert int(done.stdout) == min(threads, os.cpu_count() or 1)


@pytest.mark.parametrize(("given", "handed_on"), [("", "None"), ("1", "1"), ("2", "2")])
@pytest.mark.parametrize("name", ["OPENBLAS_NUM_THREADS", "PYDANTIC_DISABLE_PLUGINS"])
def test_dagster_gets_what_the_user_set_for_libraries(name: str, given: str, handed_on: str) -> None:
    """Dagster runs the user's own assets too, which may need threads and plugins."""
    code = (
        "from pathlib import Path; from ksql_lake.cli.entry import spare_libraries; spare_libraries()\n"
        "from ksql_lake.cli.dagster_process import DagsterProject\n"
        f"print(DagsterProject(Path(), '', '', Path()).environment().get({name!r}))"
    )
    environment = {"PATH": os.defpath} | ({name: given} if given else {})

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [handed_on]


@pytest.mark.parametrize(
    ("arguments", "first"),
    [(["feeds", "list"], "NAME"), (["plan", "--all"], "FEED"), (["plan", "--all", "--json"], "{")],
)
def test_listing_and_planning_import_no_data_library(sample: Project, arguments: list[str], first: str) -> None:
    """They read feed files and manifests: no Arrow, NumPy or DuckDB, no HTTP client, and in a pipe no rich."""
    assert sample.process("export", "--all").code == 0
    code = (
        "import sys; from ksql_lake.cli.entry import run\n"
        f"assert run({arguments!r}, alone=True) == 0\n"
        f"print('LOADED', *[name for name in {(*HEAVY, 'urllib3', 'filelock')!r} if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=sample.environment(), capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith(first)
    assert done.stdout.splitlines()[-1].split() == ["LOADED", "pydantic"]


def test_an_export_of_its_own_process_does_without_pandas() -> None:
    """Arrow is handed lists and imports no pandas for them; whoever imports it later still gets it."""
    code = (
        "import sys; from ksql_lake.pandas_gate import keep_pandas_out; keep_pandas_out()\n"
        "import pyarrow as pa; assert pa.array(['a', None]).to_pylist() == ['a', None]\n"
        "assert 'pandas' not in sys.modules\n"
        "import pandas; print(pandas.Series([1]).sum())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("group", [app, feeds])
def test_every_listed_command_exists_and_has_help(group: LazyGroup) -> None:
    """Whatever the help lists can be imported and explains itself."""
    context = click.Context(group)

    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        assert command.help, name


def test_help_shows_examples_and_environment(cli: Cli) -> None:
    """The first page a newcomer sees has commands to copy and the variables that matter."""
    said = cli("--help")

    assert said.code == 0
    for text in ("ksql-lake export --all", "KSQLDB_URL", "Exit codes: 0 done", "feeds", "export", "plan"):
        assert text in said.out


def test_version(cli: Cli) -> None:
    """`--version` names the package and its version."""
    said = cli("--version")

    assert said.code == 0
    assert said.out.startswith("ksql-lake 0.")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["fedds"], "error: no such command 'fedds'. Did you mean 'feeds'?\nHelp: ksql-lake --help\n"),
        (
            ["feeds", "lst"],
            "error: no such command 'lst'. Did you mean 'list'?\nHelp: ksql-lake feeds --help\n",
        ),
        (["feeds", "show"], "error: missing argument 'NAME'.\nHelp: ksql-lake feeds show --help\n"),
        (["feeds", "list", "--jsn"], "error: no such option '--jsn'. Did you mean '--json'?\n"),
    ],
)
def test_a_mistyped_command_line_is_answered_with_what_was_meant(
    cli: Cli, arguments: list[str], text: str
) -> None:
    """Usage errors are one paragraph, exit code 2, and point at the help."""
    said = cli(*arguments)

    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(text)


def test_a_broken_environment_names_the_variable(project: Project) -> None:
    """A variable that cannot be used is named, without a traceback."""
    said = project.process("feeds", "list", KSQLDB_URL="localhost:8088")

    assert said.code == 2
    assert said.err == (
        "error: the environment cannot be used: KSQLDB_URL: must start with http:// or https://\n"
        "Correct the variable, or unset it to use its default.\n"
    )


def test_a_given_setting_takes_precedence_over_a_variable_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables count in lower case too, an empty one is none, and what code gives replaces them."""
    monkeypatch.setenv("ksqldb_url", "http://one:8088")
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "3")
    monkeypatch.setenv("KSQLDB_NODES", " ")

    read, given = load_settings(), load_settings(ksqldb_url="http://two:8088", attempts=5)

    assert (read.ksqldb_url, read.attempts, read.nodes) == ("http://one:8088", 3, None)
    assert (given.ksqldb_url, given.attempts) == ("http://two:8088", 5)


def test_a_process_of_its_own_keeps_freed_memory() -> None:
    """What a block of rows has freed is there for the next one, without fetching a page again."""
    code = (
        "import resource\n"
        "from ksql_lake.cli.entry import keep_freed_memory; keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def use(): return len([b'x' * (4 << 20) for _ in range(20)])\n"
        "use(); before = faults(); use(); print(faults() - before)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert int(done.stdout) < (80 << 20) // mmap.PAGESIZE // 10
