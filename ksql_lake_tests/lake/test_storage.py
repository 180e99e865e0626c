"""What the lake says when its files cannot be read; writing is tested with the commit protocol."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ksql_lake.errors import ConfigError, LakeError, WriteError
from ksql_lake.lake import Lake
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake_tests.lake.landing import event, land_rows, stream_feed

READS: dict[str, Callable[[LocalStorage, str], object]] = {
    "read": LocalStorage.read,
    "names": LocalStorage.names,
    "open": LocalStorage.open,
    "size": LocalStorage.size,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_lake_that_is_a_file_is_said_so(tmp_path: Path, read: Callable[[LocalStorage, str], object]) -> None:
    """Whatever is read first, the answer names the file and the variable that chose it."""
    path = tmp_path / "data_lake"
    path.write_text("not a folder")

    with pytest.raises(ConfigError) as raised:
        read(LocalStorage(path), "metadata/streams/events/commits")

    assert str(raised.value) == (
        f"path {path}: the lake's folder is a file\n"
        "Move the file away, or set KSQL_LAKE_ROOT to another folder."
    )


def test_every_door_says_so(tmp_path: Path) -> None:
    """Looking at a feed and exporting into it both refuse a lake that is a file."""
    path = tmp_path / "data_lake"
    path.write_text("not a folder")

    with pytest.raises(ConfigError, match="the lake's folder is a file"):
        Lake(path).feed(stream_feed()).state()
    with pytest.raises(ConfigError, match="the lake's folder is a file"):
        land_rows(Lake(path), stream_feed(), [event(1)])


@pytest.mark.parametrize(
    ("key", "reason", "hint"),
    [
        ("folder", "is a directory", "Is its disk still mounted, and without errors?"),
        ("file/below", "not a directory", "A file has the name of one of the lake's folders; move it away."),
        ("loop", "too many levels of symbolic links", "Is its disk still mounted, and without errors?"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, key: str, reason: str, hint: str) -> None:
    """The error says which path, why, and what to look at."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(LakeError) as raised:
        LocalStorage(tmp_path).read(key)

    assert str(raised.value) == f"path {tmp_path / key}: cannot be read: {reason}\n{hint}"


def test_opening_a_file_that_is_gone_points_to_doctor(tmp_path: Path) -> None:
    """Reading an object that should be there is an error; asking whether it is there is not."""
    storage = LocalStorage(tmp_path)

    assert (storage.read("gone"), storage.size("gone"), storage.names("gone")) == (None, None, [])
    with pytest.raises(LakeError, match="ksql-lake doctor"):
        storage.open("gone")


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("key", ["../x", "streams/../../x", "streams/events/.."])
def test_a_name_that_leads_out_of_the_lake_is_refused(
    tmp_path: Path, key: str, read: Callable[[LocalStorage, str], object]
) -> None:
    """Whatever name a caller passes, nothing above the root is touched."""
    with pytest.raises(LakeError, match="this name leads out of the lake"):
        read(LocalStorage(tmp_path), key)


def test_a_folder_that_cannot_be_synced_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the folder's own path and the reason, also if the lake's path leads through `..`."""

    def fails(_handle: int) -> None:
        raise OSError(errno.EIO, "broken")

    root = tmp_path / "elsewhere" / ".." / "lake"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "lake" / "streams").mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", fails)

    with pytest.raises(WriteError) as raised:
        LocalStorage(root).sync({"streams"})

    assert str(raised.value).startswith(f"path {root}/streams: ")
    assert os.strerror(errno.EIO).lower() in str(raised.value).lower()
