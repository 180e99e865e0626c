"""Counts and sizes as people read them, the same on the command line and in the report.

Pure text; it refuses to know what is counted.
"""

from __future__ import annotations


def count_text(number: int, noun: str, plural: str = "") -> str:
    """Give `1 day`, `2 days`, `10,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def size_text(size: float) -> str:
    """Give a size in the unit that reads best, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
