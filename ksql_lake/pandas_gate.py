"""Keeps pandas out of processes that are done sooner without it."""

from __future__ import annotations

import sys


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
