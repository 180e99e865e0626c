"""The wheel, installed into an empty environment as a user would install it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.deploy.fleet import REPOSITORY


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """The programs of an environment that holds the wheel and what it needs, nothing else."""
    # Too large for the tests' own folder, which may be in memory.
    with tempfile.TemporaryDirectory(prefix="ksql_lake_wheel_") as folder:
        yield _environment(Path(folder))


def _environment(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "-qqq", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, REPOSITORY], check=True
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / "bin" / "python"
    # As constraints, which may hold neither hashes nor extras: our own wheel has no hash anybody knows.
    pinned = re.findall(
        r"^([\w.-]+)(?:\[.*\])?(==[^ ;]+)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE
    )
    (folder / "versions.txt").write_text("\n".join(map("".join, pinned)))
    # What these tests do not import needs no byte code either.
    command: list[str | Path] = [
        *pip,
        "--python",
        python,
        "install",
        "--no-compile",
        "--constraint",
        folder / "versions.txt",
        wheel,
    ]
    subprocess.run(command, check=True)
    return folder / "environment" / "bin"


@pytest.fixture(scope="module")
def devserver_packages(installed: Path) -> Path:
    """A folder with what the extra `devserver` adds to the wheel's own needs."""
    folder = installed.parents[1]
    extra = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pip = [sys.executable, "-m", "pip", "-qqq", "--disable-pip-version-check", "install"]
    wanted = [each for each in extra["devserver"] if each.startswith(("h2", "sqlglot"))]
    subprocess.run([*pip, "--target", folder / "extra", "-c", folder / "versions.txt", *wanted], check=True)
    return folder / "extra"


def _said(
    installed: Path, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed / "ksql-lake", *arguments],
        cwd=folder,
        env={"PATH": f"{installed}:/usr/bin:/bin", "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _run(installed: Path, folder: Path, *arguments: str, **environment: str) -> str:
    done = _said(installed, folder, *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_exports(installed: Path, tmp_path: Path) -> None:
    """The installed command adds a feed, exports it and reports on it, without sources and without extras."""
    with DevServer.start(sample=True, arguments=["--sample-rows", "500"]) as server:
        settings = {"KSQLDB_URL": server.url}
        _run(installed, tmp_path, "feeds", "add", "--source", "FX_RATES", **settings)
        told = json.loads(_run(installed, tmp_path, "export", "--all", "--json", **settings))

    report = json.loads(_run(installed, tmp_path, "report", "--format", "json"))

    assert told["exports"][0]["new"] > 0
    assert report["feeds"][0]["records"] == told["exports"][0]["new"]


def test_a_demo_that_lacks_packages_names_the_extra(installed: Path, tmp_path: Path) -> None:
    """Without the devserver's packages the demo says in one paragraph how to get them; exit code 2."""
    done = _said(installed, tmp_path, "demo")

    assert done.returncode == 2
    assert "the embedded server needs packages that are not installed: h2, sqlglot" in done.stderr
    assert "pip install 'ksql-lake[devserver]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_wheel_runs_the_demo_in_an_empty_folder(
    installed: Path, devserver_packages: Path, tmp_path: Path
) -> None:
    """Demo and report work from the wheel alone: sample feeds and the Dagster instance are inside it."""
    packages = {"PYTHONPATH": str(devserver_packages)}
    printed = _run(installed, tmp_path, "demo", "--at", "2025-01-19T12:00Z", **packages)
    report = json.loads(_run(installed, tmp_path / "demo", "report", "--format", "json"))

    assert "One check fails on purpose" in printed
    assert len(report["feeds"]) == 8
    assert all(feed["records"] > 0 for feed in report["feeds"])


def test_the_wheel_begins_a_project(installed: Path, tmp_path: Path) -> None:
    """`init`, `ping`, `feeds add`, `export` and `report` work from the wheel, in a project it made."""
    with DevServer.start(sample=True, arguments=["--sample-rows", "500"]) as server:
        settings = {"KSQLDB_URL": server.url}
        _run(installed, tmp_path, "init", "shop")
        shop = tmp_path / "shop"
        _run(installed, shop, "ping", **settings)
        _run(installed, shop, "feeds", "add", "--source", "FX_RATES", **settings)
        _run(installed, shop, "export", "--all", **settings)

    told = _run(installed, shop, "report", "--format", "json")

    assert [feed["name"] for feed in json.loads(told)["feeds"]] == ["fx_rates"]
    assert (shop / ".dagster_home" / "dagster.yaml").read_bytes() == (
        REPOSITORY / "deploy" / "dagster.yaml"
    ).read_bytes()


def test_the_wheel_loads_in_dagster(installed: Path, tmp_path: Path) -> None:
    """Dagster accepts the definitions of the installed package, beside a feeds folder of its own."""
    (tmp_path / "feeds" / "active").mkdir(parents=True)
    done = subprocess.run(
        [installed / "dagster", "definitions", "validate", "-m", "ksql_lake.definitions"],
        cwd=tmp_path,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},  # noqa: TID251 - handed on, not read
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_no_package_that_ours_needs_has_a_licence_that_binds_its_user(installed: Path) -> None:
    """None of the packages that the wheel brings along is under the GPL or the AGPL."""
    told = subprocess.run(
        [
            Path(sys.executable).parent / "pip-licenses",
            "--python",
            installed / "python",
            "--from=mixed",
            "--format=json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = {each["Name"]: each["License"] for each in json.loads(told.stdout)}

    assert "dagster" in packages
    bound = {
        name: licence
        for name, licence in packages.items()
        if "GPL" in licence.upper().replace("LGPL", "") or "GENERAL PUBLIC LICENSE" in licence.upper()
    }
    assert bound == {}
