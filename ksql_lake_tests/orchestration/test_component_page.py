"""The commands of docs/dagster-component.md and the project in examples/, typed in a real shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ksql_lake.devserver.process import DevServer

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "dagster-component.md").read_text(encoding="utf-8")
BESIDE = Path(sys.executable).parent

INSTALLED = ("pip install ksql-lake", "pip install -e .")
"""What a test does not type: the packages are installed, and the project is found by PYTHONPATH."""


@pytest.fixture(scope="module")
def sample() -> Iterator[DevServer]:
    """The sample's server."""
    with DevServer.start(sample=True, arguments=("--sample-rows", "500", "--sample-days", "3")) as server:
        yield server


def _shell(script: str, folder: Path, server: DevServer) -> str:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    around = dict(os.environ)  # noqa: TID251 - handed on, not read
    kept = {name: value for name, value in around.items() if not name.startswith(("KSQL", "DAGSTER"))}
    told = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            **kept,
            "PATH": f"{BESIDE}{os.pathsep}{around['PATH']}",
            "PYTHONPATH": "src",
            "KSQLDB_URL": server.url,
            "DAGSTER_HOME": str(home),
            "DAGSTER_DG_CLI_DISABLE_TELEMETRY": "1",
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout + told.stderr


def test_the_page_leads_to_the_first_rows_in_under_ten_commands(sample: DevServer, tmp_path: Path) -> None:
    """From nothing to a materialised day of a stream, by the commands of the page alone."""
    block = re.search(r"```console\n(.*?)```", PAGE, re.DOTALL)
    assert block
    commands = [line.removeprefix("$ ") for line in block.group(1).splitlines()]
    typed = [command for command in commands if not command.startswith(INSTALLED)]

    said = _shell("\n".join(typed), tmp_path, sample)

    assert len(commands) < 10
    assert len(commands) - len(typed) == len(INSTALLED)
    assert "All definitions loaded successfully" in said
    assert list((tmp_path / "shop" / "data_lake" / "streams" / "transaction_stream").rglob("*.parquet"))


def test_the_example_is_a_project_as_create_dagster_makes_it(sample: DevServer, tmp_path: Path) -> None:
    """Everything of it is found, exported and built upon, by `dg` and by the commands of plain Dagster."""
    shutil.copytree(REPOSITORY / "examples" / "shop", tmp_path / "shop")
    steps = {
        "components": "dg list components",
        "defs": "dg list defs",
        "stream": "dagster asset materialize -m shop.definitions --partition 2025-01-07 "
        "--select shop/transaction_stream",
        "table": "dagster job execute -m shop.definitions -j shop_table_user_transaction_summary",
        "below": "dg launch --assets daily_sales --partition 2025-01-07",
    }
    said = {name: _shell(f"cd shop\n{command}", tmp_path, sample) for name, command in steps.items()}

    assert "ksql_lake.KsqlFeeds" in said["components"]
    for name in (
        "shop/transaction_stream",
        "shop_table_user_transaction_summary",
        "shop_streams",
        "daily_sales",
        "there_are_customers",
        "daily_sales_job_schedule",
        "shop_retention_schedule",
        "shop_lake_in_step",
    ):
        assert name in said["defs"], said["defs"]
    assert "RUN_SUCCESS" in said["stream"]
    assert "RUN_SUCCESS" in said["table"]
    assert "there_are_customers" in said["below"]
    assert "passed" in said["below"]
