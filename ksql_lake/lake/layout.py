"""Map feeds and partitions to paths and back. Pure text; keys are relative to the lake's root."""

# Data folders hold Parquet only, because glob readers read every file. Manifests and staging are under
# `metadata/`.

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

Kind = Literal["stream", "table"]

CATALOGS = "metadata/catalogs.json"
"""The file that lists the catalog files which follow the lake, relative to its root."""

_DAY = re.compile(r"year=([0-9]{4})/month=([0-9]{2})/day=([0-9]{2})")
_VERSION = re.compile(r"version=v([1-9][0-9]{0,18})")
_VERSION_KEY = re.compile(r"v([1-9][0-9]{0,18})")
_FILE = re.compile(r"(data|snapshot)_([0-9]{8}_[0-9]{6})_([0-9]{6,20})\.parquet")
_SEQUENCE_DIGITS = 20


def partition_folder(kind: Kind, partition: str) -> str:
    """Return the folder of a partition inside its dataset, e.g. `year=2025/month=01/day=15` or `version=v4`."""
    if kind == "table":
        return f"version=v{version_number(partition)}"
    day = date.fromisoformat(partition)
    return f"year={day.year:04d}/month={day.month:02d}/day={day.day:02d}"


def partition_of(kind: Kind, folder: str) -> str | None:
    """Return the partition of a folder, or None when it is no partition's folder."""
    if kind == "table":
        match = _VERSION.fullmatch(folder)
        return f"v{match.group(1)}" if match else None
    match = _DAY.fullmatch(folder)
    if match is None:
        return None
    try:
        return date(*(int(part) for part in match.groups())).isoformat()
    except ValueError:
        return None


def version_number(key: str) -> int:
    """Return the number of a version key: 10 for `v10`.

    Raises:
        ValueError: The key is not `v` and a positive number.
    """
    match = _VERSION_KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"{key!r} is not a version key such as v1")
    return int(match.group(1))


def data_file(kind: Kind, partition: str, *, at: datetime, sequence: int) -> str:
    """Return the path of a commit's file for a partition, relative to the dataset folder.

    The name holds the UTC time and the commit number, so no two commits can use the same name.
    """
    stem = "snapshot" if kind == "table" else "data"
    stamp = at.astimezone(UTC).strftime("%Y%m%d_%H%M%S")
    return f"{partition_folder(kind, partition)}/{stem}_{stamp}_{sequence:06d}.parquet"


def file_time(path: str) -> datetime:
    """Return the time in a data file's name, to the second (UTC); the earliest time possible without one."""
    match = _FILE.fullmatch(path.rsplit("/", 1)[-1])
    try:
        return datetime.strptime(match.group(2) if match else "", "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def file_sequence(path: str) -> int | None:
    """Return the commit number in a data file's name, or None when the name is not one of ours."""
    match = _FILE.fullmatch(path, path.rfind("/") + 1)
    return int(match.group(3)) if match else None


@dataclass(frozen=True, slots=True)
class FeedLayout:
    """The paths of one feed, as keys relative to the lake's root."""

    kind: Kind
    name: str

    @property
    def dataset(self) -> str:
        """Folder that holds the feed's Parquet files and nothing else."""
        return f"{self.kind}s/{self.name}"

    @property
    def metadata(self) -> str:
        """Folder of all other files of the feed."""
        return f"metadata/{self.kind}s/{self.name}"

    @property
    def summary(self) -> str:
        """The derived `_metadata.json`."""
        return f"{self.metadata}/_metadata.json"

    @property
    def checkpoint(self) -> str:
        """The derived state file, which saves reading all manifests."""
        return f"{self.metadata}/checkpoint.json"

    @property
    def failures(self) -> str:
        """The record of failed exports since the last success."""
        return f"{self.metadata}/failures.json"

    @property
    def checks(self) -> str:
        """The record of the feed's check results."""
        return f"{self.metadata}/checks.json"

    @property
    def checks_lock(self) -> str:
        """The file lock for writing the check record."""
        return f"{self.metadata}/checks.lock"

    @property
    def commits(self) -> str:
        """Folder of the manifests."""
        return f"{self.metadata}/commits"

    @property
    def staging(self) -> str:
        """Folder of files that are not committed yet."""
        return f"{self.metadata}/staging"

    @property
    def lock(self) -> str:
        """The file lock that keeps two exports of one feed from doing the same work."""
        return f"{self.metadata}/lock"

    @property
    def way_out(self) -> str:
        """The advice for a feed whose log and files do not agree."""
        return (
            f"`ksql-lake doctor {self.name} --repair --apply` lists what is wrong and what it will do, then "
            "does it; nothing is deleted."
        )

    def index(self, form: str) -> str:
        """Folder of the feed's index in a table format; derived."""
        return f"{self.metadata}/{form}"

    def index_note(self, form: str) -> str:
        """The record of the commit from which that index was built."""
        return f"{self.metadata}/{form}.json"

    def manifest(self, sequence: int) -> str:
        """The manifest of one commit."""
        return f"{self.commits}/{sequence:0{_SEQUENCE_DIGITS}d}.json"

    def attempt(self, sequence: int, attempt: str) -> str:
        """The staging folder of one attempt at a commit number."""
        return f"{self.staging}/{sequence:0{_SEQUENCE_DIGITS}d}-{attempt}"

    def data(self, path: str) -> str:
        """The key of a file whose path is relative to the dataset folder."""
        return f"{self.dataset}/{path}"


def manifest_sequence(name: str) -> int | None:
    """Return the commit number of a manifest's file name, or None when it is no manifest."""
    stem = name.removesuffix(".json")
    if stem == name or len(stem) != _SEQUENCE_DIGITS or not (stem.isascii() and stem.isdecimal()):
        return None
    return int(stem)


def attempt_parts(name: str) -> tuple[int, str] | None:
    """Split a staging folder's name into commit number and attempt id, or None when it is none of ours."""
    sequence, _, attempt = name.partition("-")
    if len(sequence) != _SEQUENCE_DIGITS or not (sequence.isascii() and sequence.isdecimal()) or not attempt:
        return None
    return int(sequence), attempt
