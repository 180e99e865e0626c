"""Compare metadata with the disk: every `_metadata.json`, and footers and sizes of a daily sample of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from ksql_lake.errors import KsqlLakeError
from ksql_lake.lake import FeedState, FileEntry
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.files.sql_values import literally
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.report.lake_facts import FeedMetadata
from ksql_lake.report.lake_model import CrossCheck, Disagreement

# A file without rows has no row group, so it appears in the first relation only.
_QUERY = """
    SELECT file_name, num_rows, coalesce(compressed, 0), coalesce(uncompressed, 0)
    FROM parquet_file_metadata($paths)
    LEFT JOIN (
        SELECT file_name, sum(total_compressed_size) AS compressed, sum(total_uncompressed_size) AS uncompressed
        FROM parquet_metadata($paths)
        GROUP BY file_name
    ) USING (file_name)
"""

SAMPLE = 10
"""Files of each feed whose footers are read."""


@dataclass(frozen=True, slots=True)
class Footer:
    """The contents of a file's footer that the report compares.

    Attributes:
        rows: Its rows.
        compressed: Bytes of its column chunks.
        uncompressed: Their bytes, encoded but not compressed.
        problem: Why the footer cannot be read; then the numbers mean nothing.
    """

    rows: int = 0
    compressed: int = 0
    uncompressed: int = 0
    problem: str = ""


def read_footers(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> dict[str, Footer]:
    """Read the footers of existing files."""
    if not paths:
        return {}
    try:
        rows = connection.execute(_QUERY, {"paths": [literally(path) for path in paths]}).fetchall()
    except duckdb.Error as error:
        if len(paths) == 1:
            return {paths[0]: Footer(problem=str(error).splitlines()[0])}
        # One damaged file stops the query for all; halves find it in few queries.
        middle = len(paths) // 2
        return read_footers(connection, paths[:middle]) | read_footers(connection, paths[middle:])
    return {path: Footer(count, int(small), int(large)) for path, count, small, large in rows}


@dataclass(frozen=True, slots=True)
class Agreement:
    """The cross-check, and how many times smaller compression made the sampled files of each feed."""

    check: CrossCheck
    ratios: dict[FeedLayout, float]


@dataclass(frozen=True, slots=True)
class _Sampled:
    feed: FeedMetadata
    entry: FileEntry
    key: str
    path: str
    size: int | None


def cross_check(
    storage: Storage,
    connection: duckdb.DuckDBPyConnection,
    metadata: Sequence[FeedMetadata],
    *,
    per_feed: int = SAMPLE,
    turn: int = 0,
) -> Agreement:
    """Compare metadata with files.

    Args:
        storage: The lake's storage.
        connection: DuckDB to read footers with.
        metadata: What the lake knows about its feeds.
        per_feed: How many files of each feed are checked.
        turn: Which sample; the number of the day.
    """
    readable = [feed for feed in metadata if feed.state is not None]
    sample = [item for feed in readable for item in _sample(storage, feed, per_feed, turn)]
    present = {item.path: item for item in sample if item.size is not None}
    footers = read_footers(connection, list(present))
    wrong = [
        (item.feed, found) for item in sample for found in _file_disagreement(item, footers.get(item.path))
    ]
    for feed in readable:
        wrong += [(feed, found) for found in _summary_disagreement(feed)]
        damage = [Disagreement(feed.name, feed.layout.commits, text) for text in feed.history.damage]
        wrong += [(feed, found) for found in damage]
    check = CrossCheck(
        files=sum(len(part.files) for feed in readable for part in _state(feed).partitions.values()),
        sampled=len(sample),
        summaries=sum(feed.summary is not None for feed in readable),
        disagreements=tuple(_still_so(storage, wrong)),
    )
    return Agreement(check, _ratios(present, footers))


def _state(feed: FeedMetadata) -> FeedState:
    assert feed.state is not None  # noqa: S101 - only readable feeds come here
    return feed.state


def _sample(storage: Storage, feed: FeedMetadata, count: int, turn: int) -> Iterator[_Sampled]:
    files = list(_state(feed).files())
    if not files or count < 1:
        return
    step = -(-len(files) // count)
    # The newest file is always checked: it is the one most likely to be read next.
    chosen = {entry.path: entry for entry in (*files[turn % step :: step], files[-1])}
    for entry in chosen.values():
        key = feed.layout.data(entry.path)
        yield _Sampled(feed, entry, key, storage.uri(key), _size(storage, key))


def _size(storage: Storage, key: str) -> int | None:
    try:
        return storage.size(key)
    except KsqlLakeError:
        return None


def _file_disagreement(item: _Sampled, footer: Footer | None) -> Iterator[Disagreement]:
    entry = item.entry
    if item.size is None or footer is None:
        what = f"the file does not exist; its manifest says {entry.records:,} rows"
    elif item.size != entry.bytes:
        what = f"the file has {item.size:,} bytes, its manifest says {entry.bytes:,}"
    elif footer.problem:
        what = f"the footer cannot be read: {footer.problem}"
    elif footer.rows != entry.records:
        what = f"the footer says {footer.rows:,} rows, the manifest {entry.records:,}"
    else:
        return
    yield Disagreement(item.feed.name, item.key, what)


def _summary_disagreement(feed: FeedMetadata) -> Iterator[Disagreement]:
    state, said = _state(feed), feed.summary
    if state.sequence == 0:
        return
    if said is None:
        what = "it does not exist, or is no JSON; the next export writes it"
    elif said.commit != state.sequence:
        what = f"it is of commit {said.commit}, the newest is {state.sequence}; the next export rewrites it"
    elif (said.records, said.bytes) != (state.records, state.bytes):
        what = (
            f"it says {_number(said.records)} rows in {_number(said.bytes)} bytes, "
            f"the manifests {state.records:,} in {state.bytes:,}"
        )
    else:
        return
    yield Disagreement(feed.name, feed.layout.summary, what)


def _number(value: int | None) -> str:
    return "no" if value is None else f"{value:,}"


def _still_so(storage: Storage, found: Sequence[tuple[FeedMetadata, Disagreement]]) -> Iterator[Disagreement]:
    """Leave out differences that a concurrent export explains: its feed is at another commit now."""
    moved: dict[FeedLayout, bool] = {}
    for feed, item in found:
        if feed.layout not in moved:
            moved[feed.layout] = _sequence(storage, feed) != _state(feed).sequence
        if not moved[feed.layout]:
            yield item


def _sequence(storage: Storage, feed: FeedMetadata) -> int:
    try:
        return CommitLog(storage, feed.layout).load().sequence
    except KsqlLakeError:
        return _state(feed).sequence


def _ratios(present: dict[str, _Sampled], footers: dict[str, Footer]) -> dict[FeedLayout, float]:
    sizes: dict[FeedLayout, tuple[int, int]] = {}
    for path, footer in footers.items():
        layout = present[path].feed.layout
        small, large = sizes.get(layout, (0, 0))
        sizes[layout] = (small + footer.compressed, large + footer.uncompressed)
    return {layout: large / small for layout, (small, large) in sizes.items() if small}
