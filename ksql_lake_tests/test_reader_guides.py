"""The code on the pages of docs/readers is run unchanged, against a demo lake."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import export_feed
from ksql_lake.feeds import FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings
from ksql_lake_tests.query.spark import QUICK_JAVA

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {"delta", "iceberg"}
"""Pages about indexes, whose code runs after registering: register/test_guides.py."""
PAGES = [page for page in sorted((ROOT / "docs" / "readers").glob("*.md")) if page.stem not in ELSEWHERE]
FEEDS = ["transaction_stream", "user_transaction_summary"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with the sample's feeds that the pages name, exported."""
    root = tmp_path_factory.mktemp("demo")
    for name in FEEDS:
        (root / "feeds" / "active").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "feeds" / "active" / f"{name}.json", root / "feeds" / "active" / f"{name}.json")
    arguments = ["--sample-rows", "700", "--sample-days", "7"]
    with (
        DevServer.start(sample=True, arguments=arguments) as server,
        KsqlClient(load_settings(ksqldb_url=server.url)) as client,
    ):
        for feed in FeedStore(root / "feeds").load().active:
            export_feed(feed, client, Lake(root / "data_lake"))
    return root


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_the_page_runs(page: Path, project: Path) -> None:
    """Each block in turn, in one process, warnings and all; a page has at least one."""
    if page.stem == "spark" and shutil.which("java") is None:
        pytest.skip("no java on this machine")
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    # The one thing about the pages' places that cannot be true here.
    code = "\n".join(blocks).replace("/srv/lake", str(project))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KSQL")}  # noqa: TID251
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment |= {"SPARK_LOCAL_IP": "127.0.0.1", "JDK_JAVA_OPTIONS": QUICK_JAVA}

    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=False
    )

    assert outcome.returncode == 0, outcome.stderr[-3000:]


NOTEBOOK = """
import sys
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
source, folder, target = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
# Through a socket in the project's folder, which no other user can reach.
kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=folder + "/kernel")
NotebookClient(notebook, km=kernel, timeout=None, resources={"metadata": {"path": folder}}).execute()
nbformat.write(notebook, target)
"""
"""Runs a notebook in a process of its own, because its client leaves sockets to the garbage collector."""


def test_the_cells_of_the_notebook_run(project: Path, tmp_path: Path) -> None:
    """Each cell in turn, in a kernel in the project's folder; every picture is drawn."""
    path, done = ROOT / "docs" / "readers" / "tour.ipynb", tmp_path / "done.ipynb"
    environment = {name: text for name, text in os.environ.items() if not name.startswith("KSQL")}  # noqa: TID251

    outcome = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, path, project, done],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )

    assert outcome.returncode == 0, outcome.stderr[-3000:]
    before, after = ([_kinds(cell) for cell in json.loads(file.read_text())["cells"]] for file in (path, done))
    assert after == before
    assert sum("image/png" in kind for kinds in before for kind in kinds) == 3


def _kinds(cell: Any) -> list[list[str]]:
    """What a cell has shown: of each output its kinds."""
    return [[output["output_type"], *sorted(output.get("data", ()))] for output in cell.get("outputs", ())]
