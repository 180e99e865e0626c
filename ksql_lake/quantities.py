"""Counts, sizes and ages as people read them. Pure text."""

from __future__ import annotations


def count_text(number: int, noun: str, plural: str = "") -> str:
    """Return `1 day`, `2 days`, `10,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def size_text(size: float) -> str:
    """Return a size in a suitable unit, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_text(hours: float | None) -> str:
    """Return an age in a suitable unit: 12 min, 3.5 h, 26 h, 4 d."""
    if hours is None:
        return "never"
    if hours < 1 / 60:
        return "< 1 min"
    if hours * 60 < 59.5:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h".replace(".0 h", " h") if hours < 48 else f"{hours / 24:,.0f} d"
