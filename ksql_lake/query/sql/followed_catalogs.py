"""Catalog files that follow their lake: the lake records their paths, and each commit updates them."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock

from ksql_lake.errors import WriteError, printable
from ksql_lake.feeds import Feed
from ksql_lake.lake import Lake
from ksql_lake.lake.layout import CATALOGS
from ksql_lake.query.sql.database_file import DatabaseFile, refresh_catalog, write_catalog
from ksql_lake.settings import load_settings

_LOCK = "metadata/catalogs.lock"
_LOCK_SECONDS = 60.0
_PATHS = msgspec.json.Decoder(list[str])

_log = logging.getLogger(__name__)


def write_followed(path: Path, *, absolute: bool = False) -> tuple[DatabaseFile, WriteError | None]:
    """Write a catalog as `write_catalog` does, and let later commits update it.

    Returns the result, and the error if the lake, e.g. a read-only one, cannot record the catalog's path.

    Raises:
        ConfigError: `path` is another program's file, or cannot be written.
    """
    lake = Lake(load_settings().lake_root)
    try:
        with _alone(lake):
            written = write_catalog(path, root=lake.root, absolute=absolute)
            _note(lake, path, absolute=absolute)
    except WriteError as error:
        return write_catalog(path, root=lake.root, absolute=absolute), error
    return written, None


def _note(lake: Lake, path: Path, *, absolute: bool) -> None:
    noted = str(path.absolute().resolve())
    if not absolute and "://" not in lake.root:
        noted = os.path.relpath(noted, Path(lake.root).resolve())
    known = _noted(lake)
    if noted not in known:
        data = msgspec.json.encode(sorted([*known, noted]))
        lake.storage.replace(CATALOGS, data, temporary=f"metadata/.catalogs.{secrets.token_hex(8)}.tmp")


def keep_catalogs(lake: Lake, feed: Feed) -> tuple[Path, ...]:
    """Rewrite a feed's changed views in the lake's catalogs, and return those catalogs; raises nothing.

    A catalog that cannot be written is logged and stays as it was; the commit is not affected.
    """
    done: list[Path] = []
    path: Path | None = None
    try:
        for noted in _noted(lake):
            path = Path(noted) if "://" in lake.root else (Path(lake.root) / noted).resolve()
            if path.is_file():
                with _alone(lake):
                    if refresh_catalog(path, lake, feed):
                        done.append(path)
    except Exception as error:  # noqa: BLE001 - no error here may affect the commit
        why = printable(str(error)).partition("\n")[0]
        _log.warning(
            "%s: the catalog %s is not up to date: %s; `ksql-lake catalog` rewrites it",
            feed.name,
            path or CATALOGS,
            why,
        )
    return tuple(done)


def _noted(lake: Lake) -> list[str]:
    """Return the paths of the catalogs, relative to the lake's root; empty if the record cannot be read."""
    data = lake.storage.read(CATALOGS)
    try:
        return _PATHS.decode(data) if data else []
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


@contextmanager
def _alone(lake: Lake) -> Iterator[None]:
    """Let only one process of this machine at a time write catalogs of the lake."""
    path = lake.storage.lock_file(_LOCK)
    with lake.storage.writing("metadata"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=_LOCK_SECONDS)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
