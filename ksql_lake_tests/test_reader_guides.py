"""The code on the pages of docs/readers is run as it stands there, against a demo lake."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from ksql_lake.devserver.process import DevServer
from ksql_lake.export import export_feed
from ksql_lake.feeds import FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings

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
    environment["SPARK_LOCAL_IP"] = "127.0.0.1"

    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=False
    )

    assert outcome.returncode == 0, outcome.stderr[-3000:]


def test_the_cells_of_the_notebook_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell in turn, in a kernel of its own in the project's folder; every picture is drawn."""
    for name in [name for name in os.environ if name.startswith("KSQL")]:  # noqa: TID251
        monkeypatch.delenv(name)
    path = ROOT / "docs" / "readers" / "tour.ipynb"
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    before = [_kinds(cell) for cell in notebook.cells]

    # Through a socket in a folder of our own, which nobody else can speak to.
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(project / "kernel"))
    place = {"metadata": {"path": str(project)}}
    NotebookClient(notebook, km=kernel, timeout=None, resources=place).execute()

    assert [_kinds(cell) for cell in notebook.cells] == before
    assert sum("image/png" in kind for kinds in before for kind in kinds) == 3


def _kinds(cell: Any) -> list[list[str]]:
    """What a cell has shown: of each output its kinds."""
    return [[output.output_type, *sorted(output.get("data", ()))] for output in cell.get("outputs", ())]
