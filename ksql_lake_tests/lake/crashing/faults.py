"""Disks that fail: full, out of inodes, read-only, forbidden, limited, or with system calls that return errors.

Each fault is the real thing as the kernel (or libfiu in front of it) does it, in one process that is thrown
away: mounts are made in a mount namespace of its own and vanish with it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ksql_lake_tests.lake.crashing.nursery import posix_faults

_NEW_NAMESPACE, _NEW_USER = 0x20000, 0x10000000
_NOBODY = 65_534
_SIZE = "4m"
_INODES = 400
_PAGE = 4_096
_FILE_BYTES = 100
_FIU_ONETIME = 1
_FIU_NAMES = {
    "fsync": b"posix/io/sync/fsync",
    "rename": b"posix/io/dir/rename",
    "unlink": b"posix/io/dir/unlink",
    "write": b"posix/io/rw/write",
}


class Missing(Exception):  # noqa: N818 - not an error but a lack
    """What a fault needs is not there: a privilege, or a library."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that works until it is struck, and again when that is lifted."""

    strike: Callable[[], object]
    lift: Callable[[], object]


def mount(*arguments: str | Path) -> None:
    """Run `mount`.

    Raises:
        Missing: It is not allowed.
    """
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"mount {' '.join(map(str, arguments))}: {done.stderr.strip()}")


@contextmanager
def small_filesystem(root: Path) -> Iterator[None]:
    """Mount a filesystem of a few MB on a folder, for this process alone.

    Raises:
        Missing: The process is neither root nor allowed a user namespace.
    """
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if library.unshare(_NEW_NAMESPACE | (_NEW_USER if user else 0)):
        raise Missing(f"mounts of its own: {os.strerror(ctypes.get_errno())}")
    if user:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        except OSError as error:
            raise Missing(f"a user namespace of its own: {error}") from error
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "-o", f"size={_SIZE},nr_inodes={_INODES}", "tmpfs", root)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


@contextmanager
def full(root: Path, spare: int = 0) -> Iterator[Disk]:
    """Yield a disk that has `spare` bytes left when it is struck."""
    ballast = root / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            _until_no_space(lambda: file.write(b"x" * _PAGE))
            file.truncate(max(file.tell() - spare, 0))

    with small_filesystem(root):
        yield Disk(fill, ballast.unlink)


@contextmanager
def no_inodes(root: Path, spare: int = 0) -> Iterator[Disk]:
    """Yield a disk on which `spare` more files can be made when it is struck."""
    ballast = [root / f"ballast-{number}" for number in range(_INODES)]

    def fill() -> None:
        unmade = iter(ballast)
        _until_no_space(lambda: next(unmade).touch())
        for path in [path for path in ballast if path.exists()][:spare]:
            path.unlink()

    def lift() -> None:
        for path in ballast:
            path.unlink(missing_ok=True)

    with small_filesystem(root):
        yield Disk(fill, lift)


@contextmanager
def read_only(root: Path) -> Iterator[Disk]:
    """Yield a disk that is remounted read-only when it is struck."""
    with small_filesystem(root):
        yield Disk(lambda: mount("-o", "remount,bind,ro", root), lambda: mount("-o", "remount,bind,rw", root))


@contextmanager
def other_disk(root: Path, folder: str) -> Iterator[Disk]:
    """Yield a disk of which one folder becomes a mount of its own: nothing can be linked or renamed into it."""
    inner = root / folder
    with small_filesystem(root):
        yield Disk(lambda: mount("--bind", inner, inner), lambda: subprocess.run(["umount", inner], check=True))


@contextmanager
def forbidden(root: Path) -> Iterator[Disk]:
    """Yield a disk that an ordinary user may read and not write when it is struck."""
    root.chmod(0o755)

    def allow(write: bool) -> None:
        for path in [root, *root.rglob("*")]:
            if path.is_dir():
                mode = path.stat().st_mode
                path.chmod(mode | stat.S_IWUSR if write else mode & ~stat.S_IWUSR)

    if os.getuid() == 0:
        # Root without root's privileges, and back: the kernel checks permissions by the effective user.
        yield Disk(lambda: os.seteuid(_NOBODY), lambda: os.seteuid(0))
    else:
        yield Disk(lambda: allow(False), lambda: allow(True))


@contextmanager
def file_limit(root: Path) -> Iterator[Disk]:
    """Yield a disk on which no file may be longer than a line of text when it is struck (`ulimit -f`)."""
    del root
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield Disk(
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
    )


@contextmanager
def failing(root: Path, call: str, number: int) -> Iterator[Disk]:
    """Yield a disk whose next system call of a kind fails once, with an error number, when it is struck.

    Raises:
        Missing: libfiu is not installed.
    """
    del root
    if posix_faults() is None:
        raise Missing("libfiu's preload library is not installed (Debian: fiu-utils)")
    library, name = ctypes.CDLL("libfiu.so.0"), _FIU_NAMES[call]
    library.fiu_enable.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]
    yield Disk(lambda: library.fiu_enable(name, 1, number, _FIU_ONETIME), lambda: library.fiu_disable(name))


def _until_no_space(write: Callable[[], object]) -> None:
    try:
        while True:
            write()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


FAULTS: dict[str, Callable[..., AbstractContextManager[Disk]]] = {
    kind.__name__: kind for kind in (full, no_inodes, read_only, other_disk, forbidden, file_limit, failing)
}
"""Every kind of fault by its name; called with the lake's folder and the fault's own arguments."""
