"""What definitions are made of, each read once: the feed files, and what the lake keeps of the sources.

A lake that does not answer is waited for a few seconds, and then done without: the code location loads, and is
loaded anew when the lake is back. It refuses to ask the server.
"""

import hashlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ksql_lake.errors import ConfigError, KsqlLakeError, LakeError
from ksql_lake.export.topology import KEY, Topology, parse_topology
from ksql_lake.feeds import Feeds, FeedStore
from ksql_lake.lake import Lake
from ksql_lake.orchestration.scope import Scope

LAKE_SECONDS = 10.0
"""How long loading waits for the lake."""

_UNKNOWN = b"\0the lake did not answer"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Everything that was read.

    Attributes:
        feeds: Every feed file.
        topology: What the lake keeps of the server's sources.
        fingerprint: Digest of all of it.
        lake_answers: Whether the lake could be read.
    """

    feeds: Feeds
    topology: Topology
    fingerprint: str
    lake_answers: bool


def read_inputs(scope: Scope, *, patience: float = LAKE_SECONDS) -> Inputs:
    """Read the feeds folder and the lake of a scope.

    Args:
        scope: Whose.
        patience: Seconds to wait for the lake.

    Raises:
        ConfigError: There is no feeds folder; or the definitions are only validated, and a feed file cannot be
            used, which it names.
    """
    store = FeedStore(scope.feeds_root)
    contents = store.contents()
    feeds = _feeds(store, contents, scope)
    if scope.settings.validating and feeds.quarantined:
        raise _broken(feeds)
    data = _topology(scope.lake, patience)
    known = Topology() if data is None or data is _UNKNOWN else parse_topology(data)
    return Inputs(feeds, known, _digest(store.root, contents, data), data is not _UNKNOWN)


def _feeds(store: FeedStore, contents: Mapping[Path, bytes | OSError], scope: Scope) -> Feeds:
    try:
        feeds = store.load(contents)
    except ConfigError as error:
        if scope.whole_location or scope.settings.validating:
            raise
        # What else is in the code location loads all the same.
        _log.warning("There are no feeds: %s", error)
        return Feeds((), ())
    return scope.separated(feeds)


def fingerprint(feeds_root: Path, lake: Lake) -> str:
    """Return a digest of every feed file's name and content, and of the topology that is kept in the lake.

    Raises:
        LakeError: The lake cannot be read.
    """
    return _digest(feeds_root, FeedStore(feeds_root).contents(), lake.storage.read(KEY))


def _digest(root: Path, contents: Mapping[Path, bytes | OSError], topology: bytes | None) -> str:
    digest = hashlib.sha256(topology or b"")
    for path, content in contents.items():
        name = path.relative_to(root).as_posix()
        data = f"unreadable: {content.strerror}".encode() if isinstance(content, OSError) else content
        digest.update(f"{len(name)} {name} {len(data)} ".encode())
        digest.update(data)
    return digest.hexdigest()


def _topology(lake: Lake, patience: float) -> bytes | None:
    found: list[bytes | LakeError | None] = []

    def read() -> None:
        try:
            found.append(lake.storage.read(KEY))
        except LakeError as error:
            found.append(error)

    # A store's client tries again for a minute, which nobody waits for who looks at a graph.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(patience)
    answer = found[0] if found else LakeError(f"it did not answer in {patience:g} s", path=lake.root)
    if isinstance(answer, LakeError):
        _log.warning("The definitions are loaded without what the lake keeps: %s", answer)
        return _UNKNOWN
    return answer


def _broken(feeds: Feeds) -> KsqlLakeError:
    told = "\n\n".join(str(file.error) for file in feeds.quarantined)
    count = len(feeds.quarantined)
    files = "1 feed file" if count == 1 else f"{count} feed files"
    return ConfigError(f"{files} cannot be used\n{told}", hint="Loading would show them in quarantine.")
