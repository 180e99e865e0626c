"""Every snippet of README and docs runs, or says why it does not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.site.shell import Shell
from ksql_lake_tests.site.snippets import PAGES, ROOT, RUNNABLE, SHOWN, Snippet, indented_blocks, snippets

TESTS = ROOT / "ksql_lake_tests"
EMPTY = {"docs/tutorial.md"}
"""Pages that begin in an empty folder; the others begin in a project whose lake is filled."""
ELSEWHERE = {
    ("docs/backup.md", "sh"): "cli/test_restoring.py",
    ("docs/dagster.md", "python"): "orchestration/test_below.py",
    ("docs/dagster-component.md", "console"): "orchestration/test_component_page.py",
    ("docs/faults.md", "python"): "devserver/test_faults_page.py",
    ("docs/feeds.md", "sh"): "cli/test_feed_adding.py",
    ("docs/large-topics.md", "console"): "cli/test_large_topics.py",
    ("docs/readers/delta.md", "python"): "register/test_guides.py",
    ("docs/readers/iceberg.md", "python"): "register/test_guides.py",
    **{
        (f"docs/readers/{name}.md", "python"): "test_reader_guides.py"
        for name in ("asking", "duckdb", "pandas", "polars", "spark")
    },
}
"""Pages whose snippets of a language need more than a project, and the tests that run them."""
ALL = [snippet for page in PAGES for snippet in snippets(page)]
HERE = [one for one in ALL if (one.page, one.language) not in ELSEWHERE and one.mark != "not run"]
TYPED = sorted({one.page for one in HERE if one.language in RUNNABLE})


@pytest.mark.parametrize("snippet", ALL, ids=str)
def test_a_snippet_says_what_it_is(snippet: Snippet) -> None:
    """Its language is run or shown; a mark says what for; what is only shown holds no command to type."""
    assert snippet.language in (*RUNNABLE, *SHOWN)
    if snippet.mark:
        assert snippet.what
    if snippet.language == "text":
        assert not re.search(r"^(\$|export|cd|curl|make|pip|python|ksql-lake) ", snippet.code, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_fence(page: Path) -> None:
    """No block is marked by its indentation alone: such a block has no language."""
    assert indented_blocks(page) == []


@pytest.mark.parametrize(("page", "language"), sorted(ELSEWHERE))
def test_the_snippets_of_the_other_pages_are_run_by_their_tests(page: str, language: str) -> None:
    """The test that is named exists and reads the page, or all pages of its folder."""
    text = (TESTS / ELSEWHERE[page, language]).read_text(encoding="utf-8")
    name = Path(page)

    assert name.name in text or f'"{name.parent.name}"' in text


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    """What stands for the reader's own server: the embedded one with its sample."""
    with DevServer.start(sample=True) as running:
        yield running


@pytest.fixture(scope="module")
def filled(server: DevServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the sample's feeds and everything exported, its tables twice."""
    project = tmp_path_factory.mktemp("filled")
    shutil.copytree(ROOT / "feeds", project / "feeds")
    shell = Shell(project, server.url)
    shell.run("ksql-lake export --all\nksql-lake export --table merchants", "project")
    return project


@pytest.mark.parametrize("page", TYPED)
def test_the_snippets_of_a_page_run(
    page: str, server: DevServer, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Typed one after another they succeed, and what the page shows is printed."""
    folder = tmp_path / "project"
    if page in EMPTY:
        folder.mkdir()
    else:
        shutil.copytree(request.getfixturevalue("filled"), folder)
    shell = Shell(folder, server.url)

    for snippet in HERE:
        if snippet.page == page and (snippet.language in RUNNABLE or snippet.mark == "file"):
            shell.type(snippet)
