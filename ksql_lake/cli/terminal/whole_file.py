"""Write an output file whole or not at all.

It creates no folders. On request it overwrites only files that it wrote.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from ksql_lake.errors import ConfigError


@contextmanager
def whole_file(path: Path, what: str, *, force: bool = True) -> Iterator[Path]:
    """Yield a path to write to; when the block ends without an error, its file replaces `path`.

    Args:
        path: The file to write; a device or a pipe is written to directly.
        what: The content, for the error message (`the report`).
        force: Whether to overwrite any file; else only one that this module wrote.

    Raises:
        ConfigError: The file cannot be written, or another program wrote it.
    """
    if not force and path.is_file() and path.stat().st_size and not _ours(path):
        raise ConfigError(
            "this file exists already, and this command did not write its present content",
            hint="Name another --output, or say --force to overwrite it.",
            path=path,
        )
    replaceable = path.is_file() or not path.exists()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp") if replaceable else path
    try:
        try:
            yield temporary
            if replaceable:
                _mark(temporary)
                temporary.replace(path)
        finally:
            if replaceable:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"{what} cannot be written: {reason}", hint="Name another --output.", path=path
        ) from error


def chosen_form(form: str | None, *, as_json: bool) -> str | None:
    """Return the format that `--format` and `--json` name; None without both.

    Raises:
        click.UsageError: They name different formats.
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} exclude each other")
    return "json" if as_json else form


def form_of(output: Path | None, forms: Mapping[str, str]) -> str:
    """Return the format of a file's ending; `console` without a file, and for devices and pipes.

    Raises:
        click.UsageError: The ending belongs to no format.
    """
    if output is None or (output.exists() and not output.is_file()):
        return "console"
    form = forms.get(output.suffix.lower())
    if form is None:
        known = ", ".join(forms)
        raise click.UsageError(f"the ending of {output.name} names no format: use {known}, or say --format")
    return form


_MARK = "user.ksql_lake.written"


def _stamp(path: Path) -> bytes:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}".encode()


def _mark(path: Path) -> None:
    # On a filesystem without extended attributes every file counts as another program's, and needs --force.
    with suppress(OSError, AttributeError):
        os.setxattr(path, _MARK, _stamp(path))


def _ours(path: Path) -> bool:
    """Return whether this module wrote the file and it is unchanged."""
    try:
        return os.getxattr(path, _MARK) == _stamp(path)
    except (OSError, AttributeError):
        return False
