"""Check that values in a lake's files can be true: names inside the lake, possible numbers and times. Pure."""

# A digest shows that a manifest is undamaged, not who wrote it, and files that it names are opened or moved.

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Protocol

import msgspec

from ksql_lake.errors import SchemaError
from ksql_lake.lake.layout import Kind, file_sequence, partition_folder, partition_of
from ksql_lake.schema import parse_schema

_MOST = 2**63 - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
"""A count or size in a file of the lake; reading the file refuses other numbers."""
EventTime = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]
"""An event time in a file of the lake, epoch ms."""
_ATTEMPT = re.compile(r"[A-Za-z0-9_]{1,64}")
_CHECKSUM = re.compile(r"(?:[0-9a-f]{32})?")


class UnsoundError(ValueError):
    """A value in a lake's file that cannot be true; the message names it."""


class _File(Protocol):
    """The part of a file's entry that is checked."""

    @property
    def path(self) -> str: ...
    @property
    def partition(self) -> str: ...
    @property
    def staged(self) -> str: ...
    @property
    def checksum(self) -> str: ...


def check_files(kind: Kind, files: Iterable[_File]) -> None:
    """Raise if a path is not that of a data file inside its own partition.

    Raises:
        UnsoundError: Names the entry.
    """
    folders: dict[str, str] = {}
    for file in files:
        folder = folders.get(file.partition)
        if folder is None:
            folder = folders[file.partition] = check_partition(kind, file.partition)
        above, _, name = file.path.rpartition("/")
        if above != folder or file_sequence(name) is None:
            raise UnsoundError(f"{file.path!r} is not a data file of partition {file.partition!r}")
        if not file.staged or "/" in file.staged or "\0" in file.staged or file.staged in {".", ".."}:
            raise UnsoundError(f"{file.staged!r} is not the name of a staged file")
        check_checksum(file.checksum)


def check_paths(kind: Kind, paths: Iterable[str]) -> None:
    """Raise if a path is not that of a data file inside the dataset.

    Raises:
        UnsoundError: Names the path.
    """
    for path in paths:
        above, _, name = path.rpartition("/")
        if file_sequence(name) is None or not _is_folder(kind, above):
            raise UnsoundError(f"{path!r} is not a data file of the lake")


@lru_cache(maxsize=32_768)  # manifests repeat the same days, and a feed is opened often
def check_partition(kind: Kind, partition: str) -> str:
    """Return a partition's folder.

    Raises:
        UnsoundError: It is no day or version, or not in the one form in which we write them.
    """
    try:
        folder = partition_folder(kind, partition)
    except ValueError:
        folder = ""
    # ISO 8601 has several forms of a day, and other scripts have digits too; we write only one form.
    if not folder or partition_of(kind, folder) != partition:
        raise UnsoundError(f"{partition!r} is not a {'version' if kind == 'table' else 'day'}")
    return folder


def check_moments(*texts: str | None) -> None:
    """Raise if a time is not ISO 8601 with an offset; None passes.

    Raises:
        UnsoundError: Names the text.
    """
    for text in texts:
        if text is None:
            continue
        try:
            time = datetime.fromisoformat(text)
            # A time that overflows in UTC cannot be compared with other times.
            known = time.tzinfo is not None and (1 < time.year < 9999 or time.astimezone(UTC) is not None)
        except (ValueError, OverflowError):
            known = False
        if not known:
            raise UnsoundError(f"{text!r} is not a time with an offset")


def check_numbers(*numbers: int) -> None:
    """Raise if a count or size is negative, or beyond 64 bits.

    Raises:
        UnsoundError: Names the number.
    """
    for number in numbers:
        if not 0 <= number <= _MOST:
            raise UnsoundError(f"{number} is not a count")


def check_checksum(text: str) -> None:
    """Raise if a text is no checksum; an empty one passes.

    Raises:
        UnsoundError: Names the text.
    """
    if _CHECKSUM.fullmatch(text) is None:
        raise UnsoundError(f"{text!r} is not a checksum")


def check_attempt(text: str) -> None:
    """Raise if an attempt id cannot be part of a folder's name.

    Raises:
        UnsoundError: Names the text.
    """
    if _ATTEMPT.fullmatch(text) is None:
        raise UnsoundError(f"{text!r} is not an attempt")


def check_schema(*texts: str) -> None:
    """Raise if a text is no ksqlDB schema; an empty text passes.

    Raises:
        UnsoundError: Says what is wrong with them.
    """
    for text in texts:
        try:
            if text:
                parse_schema(text)
        except SchemaError as error:
            raise UnsoundError(f"its columns cannot be read: {error.message}") from None


def check_days(days: Iterable[str]) -> None:
    """Raise if a key is no day.

    Raises:
        UnsoundError: Names the key.
    """
    for day in days:
        check_partition("stream", day)


def _is_folder(kind: Kind, folder: str) -> bool:
    partition = partition_of(kind, folder)
    return partition is not None and partition_folder(kind, partition) == folder
