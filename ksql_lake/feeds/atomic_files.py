"""Change small text files atomically: create without overwriting, replace, move without overwriting."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ksql_lake.errors import FeedError


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise FeedError(
            f"cannot be written: {(error.strerror or str(error)).lower()}",
            hint="Nothing was changed. Check permissions and free space of its folder.",
            file=path,
        ) from error


@contextmanager
def _temporary(folder: Path, data: bytes) -> Iterator[Path]:
    """Yield a complete, synced, hidden file beside the target; remove it at the end unless it was renamed."""
    path = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def create_file(path: Path, data: bytes) -> None:
    """Create a file and the folders above it.

    Raises:
        FeedError: The file exists, or cannot be written.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent, data) as temporary:
            os.link(temporary, path)


def replace_file(path: Path, data: bytes) -> None:
    """Replace the content of an existing file, keeping its mode; a symbolic link stays one.

    Raises:
        FeedError: It cannot be written.
    """
    with _explained(path):
        target = path.resolve(strict=True)
        with _temporary(target.parent, data) as temporary:
            temporary.chmod(target.stat().st_mode & 0o7777)
            temporary.replace(target)


def _exists(path: Path) -> FeedError:
    return FeedError(
        "this file exists already and is not overwritten",
        hint="Move it away or choose another name.",
        file=path,
    )


def check_free(path: Path) -> None:
    """Raise if a file exists at the path; the change itself checks this again.

    Raises:
        FeedError: The path is taken.
    """
    if path.exists():
        raise _exists(path)


def move_file(path: Path, target: Path) -> Path:
    """Move a file inside one filesystem and return its new path.

    Raises:
        FeedError: The target exists, or cannot be written.
    """
    with _explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target, follow_symlinks=False)
        path.unlink()
    return target
