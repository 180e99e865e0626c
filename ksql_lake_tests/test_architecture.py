"""Tests of the building itself: rooms, walls, sizes, and what an import may bring along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "ksql_lake").rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
CORE = ["errors", "settings", "schema", "feeds", "ksqldb", "decode", "lake", "export", "report", "query"]


@pytest.mark.slow
def test_rooms_and_walls_hold() -> None:
    """import-linter finds every room in its place and no wall broken."""
    linter = Path(sys.executable).with_name("lint-imports")

    outcome = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)

    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_stay_small(path: Path) -> None:
    """No module is over 400 lines, and every module opens by saying what it does."""
    text = path.read_text(encoding="utf-8")

    assert text.count("\n") <= MAX_MODULE_LINES
    assert not text or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_stay_small(path: Path) -> None:
    """No function body is over 50 lines, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_there_is_no_dumping_ground() -> None:
    """No module is named after nothing in particular."""
    names = {path.stem for path in MODULES} | {path.parent.name for path in MODULES}

    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "shared", "base"}


def test_a_file_name_means_one_module() -> None:
    """No two modules have the same file name, but those that Python itself names."""
    names = Counter(path.name for path in MODULES if not path.stem.startswith("__"))

    assert [name for name, count in names.items() if count > 1] == []


def test_a_public_class_name_means_one_class() -> None:
    """No two public classes of the package have the same name."""
    names = Counter(
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )

    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "room",
    [
        room
        for room in CORE
        if (ROOT / "ksql_lake" / room).exists() or (ROOT / "ksql_lake" / f"{room}.py").exists()
    ],
)
def test_the_core_works_without_dagster(room: str) -> None:
    """Importing a core room does not load Dagster."""
    code = f"import sys, ksql_lake.{room}; sys.exit('dagster' in sys.modules)"

    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("name", ["requirements.lock", "requirements.image.lock"])
def test_a_lock_file_names_no_index_and_every_hash(name: str) -> None:
    """The pinned packages can be installed from any index, and no file but the pinned ones."""
    pinned = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "").splitlines()

    assert len(pinned) > 100
    for line in pinned:
        assert "://" not in line
        assert not line.startswith("-")
        requirement, *hashes = line.split("--hash=")
        assert "==" in requirement
        assert hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64} *", value) for value in hashes)


def test_the_image_has_the_versions_the_tests_ran_with() -> None:
    """No package of the image has another version than in the lock of the tests."""
    tested, image = (
        dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==([^ ;]+)", (ROOT / name).read_text("utf-8"), re.MULTILINE))
        for name in ("requirements.lock", "requirements.image.lock")
    )

    assert {name: version for name, version in image.items() if tested.get(name, version) != version} == {}
