"""The documentation says what there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from ksql_lake.cli.app import app
from ksql_lake.feeds.model import Checks, StreamFeed, TableFeed
from ksql_lake.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEEDS = (ROOT / "docs" / "feeds.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize(
    "key", sorted({*StreamFeed.model_fields, *TableFeed.model_fields, *Checks.model_fields})
)
def test_every_feed_key_is_documented(key: str) -> None:
    """Each key of a feed file stands in docs/feeds.md."""
    assert f"`{key}`" in FEEDS


def test_every_command_is_documented() -> None:
    """Each command of the command line is named in the README or in docs."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)

    for name in app.list_commands(click.Context(app)):
        assert re.search(rf"ksql-lake [a-z, ]*\b{name}\b", text), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of the project has a file at its end."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def _anchors(page: Path) -> set[str]:
    """The anchors that a Git host, and the site, give to a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = [re.sub(r"[`*]", "", heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_are_headings(page: Path) -> None:
    """Each link to a part of a page has a heading at its end."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        other = page.parent / target if target else page
        if "://" not in target and other.suffix == ".md":
            assert anchor in _anchors(other), f"{target}#{anchor}"


def test_the_map_names_files_that_exist() -> None:
    """Each module and each test of the map is a file, below the package where the map leaves its name out."""
    text = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.py|[\w/]+/)`", text))

    assert len(named) > 30
    assert [
        name for name in named if not ((ROOT / name).exists() or (ROOT / "ksql_lake" / name).exists())
    ] == []


def test_the_map_has_every_room() -> None:
    """Each folder and each module of the top level stands in the picture."""
    text = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    rooms = [path.stem for path in (ROOT / "ksql_lake").iterdir() if path.suffix == ".py" or path.is_dir()]

    assert [name for name in rooms if not name.startswith("_") and name not in text] == []


def test_every_environment_variable_is_documented() -> None:
    """Each variable that is read stands in the README or in docs."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for field in Settings.model_fields.values():
        (name,) = field.validation_alias.choices  # type: ignore[union-attr]
        assert str(name) in text, name


def test_make_targets_of_the_readme_exist() -> None:
    """Each `make` command in the README is a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in set(re.findall(r"^\s*make ([a-z]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
