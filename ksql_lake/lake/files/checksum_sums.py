"""The two sums that make a checksum, as numbers and as text. Pure."""

from __future__ import annotations

from collections.abc import Iterable

Sums = tuple[int, int]
"""The two sums of the hashes of some rows, modulo 2**64."""

EMPTY = "0" * 32
"""The checksum of no rows."""

_MASK = (1 << 64) - 1


def added(one: Sums, other: Sums) -> Sums:
    """Return the sums of all rows together from those of two parts."""
    return (one[0] + other[0]) & _MASK, (one[1] + other[1]) & _MASK


def sums_text(sums: Sums) -> str:
    """Write sums as a checksum: 32 hexadecimal digits."""
    return f"{sums[0]:016x}{sums[1]:016x}"


def combined(checksums: Iterable[str]) -> str:
    """Return the checksum of all rows together from the checksums of the parts."""
    total: Sums = (0, 0)
    for text in checksums:
        total = added(total, (int(text[:16], 16), int(text[16:], 16)))
    return sums_text(total)
