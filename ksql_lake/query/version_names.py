"""Names of a table's versions: `v3`, `3`, `latest`, `previous`."""

from __future__ import annotations

from ksql_lake.errors import VersionError
from ksql_lake.lake import FeedState
from ksql_lake.lake.layout import version_number


def kept_version(state: FeedState, feed: str, wanted: str | int) -> str:
    """Return the key of a version that the lake keeps.

    Args:
        state: The committed state of the table.
        feed: Its feed's name.
        wanted: `v3`, `3`, `latest`, or `previous`, the one before the latest.

    Raises:
        VersionError: The lake does not hold the version, e.g. because retention removed it, or the name is
            invalid.
    """
    kept = state.partition_keys()
    name = str(wanted).strip().lower()
    if name in _FROM_END:
        if len(kept) < _FROM_END[name]:
            only = f"There is only {kept[0]}." if kept else f"Run `ksql-lake export --table {feed}` first."
            raise VersionError(f"there is no {name} version", hint=only, feed=feed)
        return kept[-_FROM_END[name]]
    try:
        key = f"v{version_number(name if name.startswith('v') else f'v{name}')}"
    except ValueError:
        raise VersionError(
            f"{wanted!r} is no version of a table", hint="Say v3, 3, latest or previous.", feed=feed
        ) from None
    if key not in kept:
        raise VersionError(
            f"version {key} is not in the lake", hint=f"There are {', '.join(kept) or 'none'}.", feed=feed
        )
    return key


_FROM_END = {"latest": 1, "previous": 2}
