"""What `--quick` leaves out, and what it does not let pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ksql_lake_tests.quick import MARKERS, PLACES, marker
from ksql_lake_tests.workers import LONGEST

HERE = Path(__file__).parent


def test_every_marked_place_exists_and_has_a_known_marker() -> None:
    """A renamed file does not lose its marker unnoticed."""
    assert [place for place in PLACES if not (HERE / place).exists()] == []
    assert set(PLACES.values()) <= set(MARKERS)


def test_every_long_file_exists() -> None:
    """A renamed file does not begin last unnoticed."""
    assert [name for name in LONGEST if not (HERE / name).is_file()] == []


def test_the_marker_follows_from_the_place_and_from_the_fixtures() -> None:
    """The nearest place counts; a server of ours makes a test slow, an S3 server one of the stores."""
    assert marker(HERE / "orchestration" / "test_sync.py") == "slow"
    assert marker(HERE / "orchestration" / "test_nginx.py") == "browser"
    assert marker(HERE / "decode" / "test_flat.py") is None
    assert marker(HERE / "cli" / "test_sql.py", fixtures=frozenset({"devserver"})) == "slow"
    assert marker(HERE / "lake" / "test_commit.py", fixtures=frozenset({"place"}), parameter="moto") == "stores"
    assert marker(HERE / "lake" / "test_commit.py", fixtures=frozenset({"place"}), parameter="local") is None


@pytest.mark.slow
def test_a_process_without_a_marker_fails(tmp_path: Path) -> None:
    """The guard is no ornament: with `--quick` this very suite refuses to start a process."""
    plugin = (
        "from ksql_lake_tests.quick import *\nfrom ksql_lake_tests.quick import configure as pytest_configure\n"
    )
    (tmp_path / "conftest.py").write_text(plugin)
    (tmp_path / "test_it.py").write_text(
        "import subprocess\ndef test_it() -> None:\n    subprocess.run(['true'], check=True)\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "--quick", "-q", "-p", "no:cacheprovider", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(HERE.parent), "PATH": ""},
    )
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "test_it starts a process; give it the marker slow" in outcome.stdout
