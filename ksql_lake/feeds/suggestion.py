"""Find known words similar to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 200
"""Longer words are not compared, because that takes time and they are rarely typed."""


def close_matches(word: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Return the known words most similar to `word`, best first; letter case does not count."""
    if len(word) > _LONGEST:
        return []
    by_folded: dict[str, str] = {}
    for name in known:
        if len(name) <= _LONGEST:
            by_folded.setdefault(name.casefold(), name)
    return [by_folded[match] for match in get_close_matches(word.casefold(), by_folded, n=most, cutoff=0.65)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean 'a' or 'b'?`, or an empty text when no known word is similar."""
    matches = [repr(match) for match in close_matches(word, known)]
    if not matches:
        return ""
    *front, last = matches
    return f"Did you mean {', '.join(front) + ' or ' if front else ''}{last}?"
