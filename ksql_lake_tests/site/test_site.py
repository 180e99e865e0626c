"""The site is built from the pages, without a warning and without anything from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import ViewportSize

import ksql_lake
from ksql_lake_tests.orchestration.browser import chromium_page
from ksql_lake_tests.site.generated import DOCS, PAGES, current
from ksql_lake_tests.site.message_lists import KINDS, messages
from ksql_lake_tests.site.pictures import LARGEST, PICTURES
from ksql_lake_tests.site.snippets import ROOT

HOW = "run `make docs-pages` and commit what it writes"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning, a link or an anchor that leads nowhere fails the build."""
    target = tmp_path_factory.mktemp("site")
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # noqa: TID251 - of a process that is started
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT,
        env=quiet,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return target


def test_every_page_is_on_the_site(site: Path) -> None:
    """Each page of docs/ has its place."""
    for page in DOCS.rglob("*.md"):
        place = page.relative_to(DOCS).with_suffix("")
        folder = place.parent if place.name == "index" else place
        assert (site / folder / "index.html").is_file(), page


def test_every_page_is_in_the_menu(site: Path) -> None:
    """A reader gets to each page of docs/, the notebook too, from the menu of the start page."""
    menu = (site / "index.html").read_text(encoding="utf-8")
    for page in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]:
        place = page.relative_to(DOCS)
        target = f"{place.with_suffix('')}/" if place.suffix == ".md" else str(place)
        assert place.name == "index.md" or re.search(rf'href="?{re.escape(target)}["> ]', menu), page


def test_no_page_asks_for_anything_from_elsewhere(site: Path) -> None:
    """A browser on a narrow screen asks no other server, finds everything, and scrolls no page sideways."""
    asked: set[str] = set()
    failed: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    address = f"http://127.0.0.1:{server.server_port}/"
    with server, chromium_page(size=ViewportSize(width=390, height=800)) as page:
        Thread(target=server.serve_forever).start()
        page.on("request", lambda request: asked.add(request.url))
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.on("pageerror", lambda error: failed.append(str(error)))
        for place in ("", "tutorial/", "concepts/", "map/", "python/", "troubleshooting/"):
            page.goto(address + place)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, place
        server.shutdown()

    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert failed == []


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Leave the standard error of a test alone."""


def test_the_site_takes_nothing_from_elsewhere(site: Path) -> None:
    """Fonts, scripts, styles and pictures all come with it: it works without a network."""
    loaded = re.compile(
        r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//"""
        r"""|<link[^>]+rel=["']?(?:stylesheet|preconnect|icon)[^>]+href=["']?(?:https?:)?//"""
        # With it the theme's script asks a Git host for the number of stars.
        r"""|data-md-component=["']?source\b"""
    )
    for page in site.rglob("*.html"):
        assert not loaded.search(page.read_text(encoding="utf-8")), page
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8"), style


def test_the_python_page_shows_docstrings(site: Path) -> None:
    """Each public name stands on the page with its docstring."""
    text = re.sub(r"<[^>]+>|\s+", " ", (site / "python" / "index.html").read_text(encoding="utf-8"))
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    for name in ksql_lake.__all__:
        assert re.search(rf"^::: ksql_lake\.[\w.]+\.{name}$", page, re.MULTILINE), name
        first = (getattr(ksql_lake, name).__doc__ or "").strip().split("\n")[0].split("`")[0][:30]
        assert " ".join(first.split()) in " ".join(text.split()), name


@pytest.mark.parametrize("page", PAGES)
def test_generated_parts_are_current(page: str) -> None:
    """Commands, settings, feed keys and messages on the pages are those of the code."""
    assert (DOCS / page).read_text(encoding="utf-8") == current(page), HOW


def test_every_kind_of_error_has_an_entry() -> None:
    """Each class of the tree of errors stands in troubleshooting under a heading of its own, once."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## .+\n\n`(\w+)`$", text, re.MULTILINE)

    assert sorted(entries) == sorted(KINDS)
    for kind in KINDS:
        assert f"<!-- generated: messages {kind} -->" in text


def test_the_messages_are_found_in_the_code() -> None:
    """A message is taken whole, with what is to be done; a value that differs becomes three dots."""
    said = {message.text: message.hint for message in messages()["ConfigError"]}

    assert said["feed ... is disabled"] == "Enable it first: ksql-lake feeds enable ..."
    assert sum(map(len, messages().values())) > 200


@pytest.mark.parametrize("name", ["ui.png", "report.png"])
def test_pictures_are_small(name: str) -> None:
    """The README's pictures are there, and small enough for everybody who clones the repository."""
    assert 10_000 < (PICTURES / name).stat().st_size < LARGEST
