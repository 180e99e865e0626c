"""The public surface: what `ksql_lake` promises to keep."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ksql_lake

PUBLIC = [
    "Changes",
    "Days",
    "DevServer",
    "ExportResult",
    "FeedStore",
    "KsqlClient",
    "KsqlLakeError",
    "Lake",
    "Recovery",
    "Settings",
    "TableDiff",
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


def test_importing_the_package_costs_nothing() -> None:
    """`import ksql_lake` loads none of its rooms and none of their libraries."""
    heavy = {"pyarrow", "duckdb", "pandas", "requests", "pydantic", "dagster", "numpy"}
    code = f"import sys, ksql_lake; print(sorted(set(sys.modules) & {heavy}))"

    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert outcome.stdout.strip() == "[]"
