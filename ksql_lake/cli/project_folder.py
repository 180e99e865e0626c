"""A project folder: the files that `init` writes, and the sample feeds that come with the package.

Nothing is overwritten. What is written stands in files of its own (`deploy/dagster.yaml`, `feeds/active`),
which an installed package carries inside itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ksql_lake.errors import ConfigError
from ksql_lake.feeds import FeedStore
from ksql_lake.feeds.store import SCHEMA_FILE

HOME = ".dagster_home"
"""Dagster's own folder in a project."""

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

# TLS: the authority that signed the server's certificate; for mutual TLS a certificate of your own and its key.
#KSQLDB_CA_FILE=
#KSQLDB_CERT_FILE=
#KSQLDB_KEY_FILE=

# Where the lake is: a folder, or a bucket such as s3://bucket/prefix.
#KSQL_LAKE_ROOT=data_lake
"""


@dataclass(frozen=True, slots=True)
class Written:
    """One file of a project.

    Attributes:
        path: Where, below the project's folder.
        new: Whether it was written now; else it was there already, and is as it was.
    """

    path: str
    new: bool


def shipped(inside: str, outside: str) -> Path:
    """Return a file or folder that comes with the package: inside it, or in the clone it runs from.

    Raises:
        ConfigError: It is in neither place.
    """
    for found in (_PACKAGE / inside, _CLONE / outside):
        if found.exists():
            return found
    raise ConfigError(
        f"this installation of ksql-lake lacks {inside}",
        hint="Install it anew: pip install --force-reinstall ksql-lake",
    )


def sample_feeds() -> Mapping[str, bytes]:
    """Return the feed files of the sample by file name."""
    folder = shipped("sample_feeds", "feeds/active")
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.json"))}


def make_project(folder: Path) -> Iterator[Written]:
    """Write a project's files and folders where they are missing; yield each file as it is seen to.

    Raises:
        ConfigError: Something cannot be written.
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
