"""A feed name made from a source's name. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from ksql_lake.feeds.model import is_reserved


def feed_name(source: str, *, taken: Collection[str] = ()) -> str:
    """Return a valid feed name for a source: lower case, `_` for anything else, numbered when taken.

    Args:
        source: The stream's or table's name.
        taken: Names of other feeds.
    """
    name = re.sub(r"[^a-z0-9_]", "_", source.lower())
    if not name[:1].isalpha():
        name = f"feed_{name}".rstrip("_")
    if is_reserved(name):
        name = f"{name}_feed"
    name = name[:95]
    candidates = (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3)))
    return next(candidate for candidate in candidates if candidate not in taken)
