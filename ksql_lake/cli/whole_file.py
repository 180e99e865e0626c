"""A file a command writes for people or other programs: whole or not at all.

A scraper, a mail or a reader of the lake must never see half a document. It refuses to make folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ksql_lake.errors import ConfigError


@contextmanager
def whole_file(path: Path, what: str) -> Iterator[Path]:
    """Give a path to write to; when the block ends well, its file takes the place of `path`.

    Args:
        path: Where the file belongs; a device or a pipe is written to as it is.
        what: What is written, for the error (`the report`).

    Raises:
        ConfigError: The file cannot be written.
    """
    replaceable = path.is_file() or not path.exists()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp") if replaceable else path
    try:
        try:
            yield temporary
            if replaceable:
                temporary.replace(path)
        finally:
            if replaceable:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"{what} cannot be written: {reason}", hint="Name another --output.", path=path
        ) from error
