"""A project folder: the files that `init` writes, and the sample feeds of the package.

It overwrites nothing. The originals are the files `deploy/dagster.yaml` and `feeds/active`, which an installed
package contains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ksql_lake.errors import ConfigError
from ksql_lake.feeds import FeedStore
from ksql_lake.feeds.store import SCHEMA_FILE

HOME = ".dagster_home"
"""Dagster's folder in a project."""

_PACKAGE = Path(__file__).parents[1]
_CLONE = _PACKAGE.parent
_GITIGNORE = f"""/data_lake/
/{HOME}/*
!/{HOME}/dagster.yaml
/.env
/.venv/
"""
_WORKSPACE = """# What `dagster dev` loads: one asset per feed in feeds/active.
load_from:
  - python_module:
      module_name: ksql_lake.definitions
      working_directory: .
      location_name: ksql_lake
"""
_ENVIRONMENT = """# Copy this file to .env and fill it in; .env stays out of git.
# `dagster dev` reads .env by itself. For ksql-lake:  set -a; . ./.env; set +a
KSQLDB_URL=http://localhost:8088

# Credentials: a user with a password (or API key with its secret), or a token.
#KSQLDB_USER=
#KSQLDB_PASSWORD=
#KSQLDB_TOKEN=

# TLS: the authority that signed the server's certificate; for mutual TLS also a client certificate and its key.
#KSQLDB_CA_FILE=
#KSQLDB_CERT_FILE=
#KSQLDB_KEY_FILE=

# The lake: a folder, or a bucket such as s3://bucket/prefix.
#KSQL_LAKE_ROOT=data_lake
"""


@dataclass(frozen=True, slots=True)
class Written:
    """One file of a project.

    Attributes:
        path: Its path below the project's folder.
        new: Whether it was written now; False means that it existed and is unchanged.
    """

    path: str
    new: bool


def shipped(inside: str, outside: str) -> Path:
    """Return a file or folder of the package: inside the package, or in the clone it runs from.

    Raises:
        ConfigError: Neither place has it.
    """
    for found in (_PACKAGE / inside, _CLONE / outside):
        if found.exists():
            return found
    raise ConfigError(
        f"this installation of ksql-lake lacks {inside}",
        hint="Reinstall it: pip install --force-reinstall ksql-lake",
    )


def sample_feeds() -> Mapping[str, bytes]:
    """Return the sample's feed files by file name."""
    folder = shipped("sample_feeds", "feeds/active")
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.json"))}


def make_project(folder: Path) -> Iterator[Written]:
    """Write a project's missing files and folders; yield each file, written or kept.

    Raises:
        ConfigError: A file or folder cannot be written.
    """
    contents = {
        "workspace.yaml": _WORKSPACE,
        f"{HOME}/dagster.yaml": shipped("dagster.yaml", "deploy/dagster.yaml").read_text("utf-8"),
        ".gitignore": _GITIGNORE,
        ".env.example": _ENVIRONMENT,
        "feeds/active/.gitkeep": "",
        "feeds/archived/.gitkeep": "",
    }
    try:
        for name, text in contents.items():
            yield Written(name, _create(folder / name, text))
        schema = folder / "feeds" / SCHEMA_FILE
        if new := not schema.exists():
            FeedStore(folder / "feeds").write_schema()
        yield Written(f"feeds/{SCHEMA_FILE}", new)
    except OSError as error:
        raise ConfigError(
            f"the project cannot be written: {error.strerror}", path=error.filename or folder
        ) from None


def _create(path: Path, text: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True
