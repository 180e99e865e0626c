"""What a process of our own may do and one of others may not: leave pandas out, keep the memory it has freed.

pyarrow is told that there is no pandas before it imports it by itself. Freed memory is kept for the next block
of rows instead of being given back and fetched anew, page by page. Refuses to touch a process where pandas is
loaded already.
"""

from __future__ import annotations

import sys

ALONE = "alone"
"""Key in click's context object: the process is the command line's own, not a test or a program of others."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of glibc's mallopt
_KEPT = 128 << 20
_LARGEST = 32 << 20


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the arrays of the next block; does nothing without glibc."""
    import ctypes  # noqa: PLC0415 - start-up stays light

    if sys.platform != "linux" or not hasattr(process := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    process.mallopt(_TRIM_THRESHOLD, _KEPT)
    process.mallopt(_MMAP_THRESHOLD, _LARGEST)


class _NoPandas:
    """An import finder that says there is no pandas."""

    @staticmethod
    def find_spec(name: str, *_where: object) -> None:
        """Refuse pandas, and leave all else to the other finders."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out", name=name)


def keep_pandas_out() -> None:
    """Let pyarrow find no pandas, which it would import at the first list it is handed.

    That takes as long as a small export. Importing pandas afterwards works; only pyarrow does without it.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa  # noqa: PLC0415 - start-up stays light

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array(["", None])
    finally:
        sys.meta_path.remove(finder)
