"""The public surface: what `ksql_lake` promises to keep."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import ksql_lake

PUBLIC = [
    "Changes",
    "Days",
    "DevServer",
    "ExportResult",
    "FeedStore",
    "KsqlClient",
    "KsqlFeeds",
    "KsqlLakeError",
    "Lake",
    "Recovery",
    "Settings",
    "TableDiff",
    "build_definitions",
    "build_feed_assets",
    "changes_since",
    "connect",
    "diff",
    "export_feed",
    "load_settings",
    "read_stream",
    "read_table",
]


def test_the_public_names_are_these() -> None:
    """A name comes or goes only on purpose."""
    assert ksql_lake.__all__ == PUBLIC
    assert dir(ksql_lake) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_loads_and_is_documented(name: str) -> None:
    """Each public name is there and says what it is."""
    assert getattr(ksql_lake, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Lakes'"):
        ksql_lake.Lakes  # noqa: B018


def test_the_version_and_the_types_are_there_for_others() -> None:
    """`__version__` is that of the installed package, and type checkers may read its annotations."""
    assert ksql_lake.__version__ == metadata.version("ksql-lake")
    assert Path(ksql_lake.__file__).with_name("py.typed").exists()


def test_the_package_says_whose_it_is_and_where_it_runs() -> None:
    """Licence, authors and addresses are stated, and each Python it names is one that CI tries."""
    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (root / "LICENSE").read_text(encoding="utf-8")
    assert project["authors"]
    assert project["urls"]
    named = [name.rpartition(" ")[2] for name in project["classifiers"] if ":: Python :: 3." in name]
    tried = re.findall(r"3\.\d+", (root / ".ci" / "pythons").read_text(encoding="utf-8").split("PYTHONS=")[1])
    assert named == ["3.11", *tried]  # 3.11 is what the whole suite runs on


@pytest.mark.slow
def test_importing_the_package_costs_nothing() -> None:
    """`import ksql_lake` loads none of its rooms and none of their libraries."""
    heavy = {"pyarrow", "duckdb", "pandas", "requests", "pydantic", "dagster", "numpy"}
    code = f"import sys, ksql_lake; print(sorted(set(sys.modules) & {heavy}))"

    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert outcome.stdout.strip() == "[]"
