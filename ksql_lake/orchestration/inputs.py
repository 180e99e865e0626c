"""The inputs of the definitions, each read once: the feed files, and the sources that the lake keeps."""

# It waits a few seconds for a lake that does not answer, then continues without: the code location loads, and
# is reloaded when the lake is back. It never asks the server.

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
"""Seconds that loading waits for the lake."""

_UNKNOWN = b"\0the lake did not answer"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """All inputs of the definitions.

    Attributes:
        feeds: Every feed file.
        topology: The server's sources as the lake keeps them.
        fingerprint: Digest of feed files and topology.
        lake_answers: Whether the lake could be read.
    """

    feeds: Feeds
    topology: Topology
    fingerprint: str
    lake_answers: bool


def read_inputs(scope: Scope, *, patience: float = LAKE_SECONDS) -> Inputs:
    """Read the feeds folder and the lake of a scope.

    Args:
        scope: The scope.
        patience: Seconds to wait for the lake.

    Raises:
        ConfigError: There is no feeds folder; or the definitions are only validated and a feed file, which it
            names, cannot be used.
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
        # The other definitions of the code location load nevertheless.
        _log.warning("There are no feeds: %s", error)
        return Feeds((), ())
    return scope.separated(feeds)


def fingerprint(feeds_root: Path, lake: Lake) -> str:
    """Return a digest of every feed file's name and content, and of the topology in the lake.

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

    # An object store's client retries for a minute, which is too long for loading a graph.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(patience)
    answer = found[0] if found else LakeError(f"it did not answer in {patience:g} s", path=lake.root)
    if isinstance(answer, LakeError):
        _log.warning("The definitions are loaded without the lake's data: %s", answer)
        return _UNKNOWN
    return answer


def _broken(feeds: Feeds) -> KsqlLakeError:
    problems = "\n\n".join(str(file.error) for file in feeds.quarantined)
    count = len(feeds.quarantined)
    files = "1 feed file" if count == 1 else f"{count} feed files"
    return ConfigError(
        f"{files} cannot be used\n{problems}",
        hint="Correct them, or load the definitions: these show them as broken feeds.",
    )
