"""Find and commit the rows that only files outside the log hold."""

# A restored or copied folder may hold rows twice. Files are compared by row identity with those of the commits
# that did not know them. A file moves to quarantine; rows that only it holds are committed in a new file.

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import SchemaError
from ksql_lake.feeds.feed_columns import ROWTIME
from ksql_lake.lake.commit.attempt import Attempt
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.manifest import Manifest
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.files.precision import OLDEST
from ksql_lake.lake.files.writer import PartitionWriter, StagedFile, footer_facts
from ksql_lake.lake.layout import FeedLayout, file_sequence, file_time, partition_of
from ksql_lake.lake.rows.event_days import Milliseconds, event_times
from ksql_lake.lake.rows.identity import Candidate, Held, copy_rows, new_rows
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.schema import Schema, arrow_schema, parse_schema

_OWN = {"partition", "attempt", "replaces"}
"""Footer keys that describe the file and not its rows."""


def keep_aside(storage: Storage, layout: FeedLayout, key: str, *, still: bool = False) -> None:
    """Move a file to quarantine, or with `still` copy it there and leave it in place.

    Raises:
        WriteError: The disk is full or not writable.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S_%f")
    target = f"{layout.metadata}/quarantine/{stamp}/{key.removeprefix(layout.metadata).lstrip('/')}"
    storage.publish(key, target, keep=still)
    if not still:
        storage.remove(key)


@dataclass(frozen=True)
class Unnamed:
    """A sound data file of the feed that the log does not name as live.

    Attributes:
        path: Relative to the dataset folder.
        partition: `2025-01-15` or `v4`.
        records: How many rows it has.
        facts: The facts of its footer.
        strangers: Numbers of the commits that did not know it.
    """

    path: str
    partition: str
    records: int
    facts: Mapping[str, str]
    strangers: frozenset[int] = frozenset()

    @property
    def number(self) -> int:
        """The commit number in its name."""
        return file_sequence(self.path) or 0

    @property
    def schema(self) -> Schema:
        """The file's columns."""
        return parse_schema(self.facts["schema"])

    @property
    def form(self) -> int:
        """The form in which its rows were read."""
        return int(self.facts.get("form", OLDEST))

    def events(self, rows: pa.RecordBatch) -> Milliseconds:
        """Return the event times of rows of the file."""
        return event_times(
            rows, self.facts.get("event_time", "ROWTIME"), self.facts.get("event_time_unit", "ms")
        )

    @property
    def like(self) -> tuple[str, str, int, frozenset[int]]:
        """The key by which files are compared together."""
        return self.partition, self.facts["schema"], self.form, self.strangers


def read_unnamed(storage: Storage, layout: FeedLayout, key: str) -> Unnamed | None:
    """Read a whole data file; None when it is damaged, or not one that we wrote for this feed."""
    path = key.removeprefix(f"{layout.dataset}/")
    partition = partition_of(layout.kind, path.rpartition("/")[0])
    if partition is None or file_sequence(path) is None:
        return None
    try:
        with storage.open(key, whole=True) as data, pq.ParquetFile(data) as parquet:
            found = Unnamed(path, partition, parquet.metadata.num_rows, footer_facts(parquet))
            schema, rows = arrow_schema(found.schema), 0
            for batch in parquet.iter_batches():
                read = batch.cast(schema)
                rows += len(found.events(read) if layout.kind == "stream" else read)
        own = (found.facts.get("feed"), found.facts.get("partition", partition)) == (layout.name, partition)
        sound = own and rows == found.records and found.form >= OLDEST
    except (pa.ArrowException, OSError, KeyError, ValueError, SchemaError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # an error of the operating system; Arrow's own errors carry no number
        return None
    return found if sound else None


def known_since(file: Unnamed, manifests: Mapping[int, Manifest], *, after: int | None = None) -> Unnamed:
    """Return the file with the commits that did not know it.

    Args:
        file: The file.
        manifests: The log.
        after: The commit that removed the file from the log, if any: later commits do not know its rows.
    """
    if after is not None:
        return replace(file, strangers=frozenset(number for number in manifests if number > after))
    attempt = file.facts.get("attempt")
    if any(manifest.attempt == attempt and attempt for manifest in manifests.values()):
        # An existing commit made this file under another name or in another folder: it is a copy.
        return replace(file, strangers=frozenset(manifests))
    written = file_time(file.path)
    strangers = set()
    for number, manifest in manifests.items():
        made = datetime.fromisoformat(manifest.committed_at).replace(microsecond=0)
        # In one history the higher number is the later one. If the file's own number belongs to another commit,
        # no commit after that one knew the file.
        diverged = (
            number >= file.number if file.number in manifests else number > file.number and made < written
        )
        if diverged or (number < file.number and made > written):
            strangers.add(number)
    return replace(file, strangers=frozenset(strangers))


def fresh_counts(
    storage: Storage,
    layout: FeedLayout,
    state: FeedState,
    files: Sequence[Unnamed],
    *,
    lost: Collection[str],
) -> dict[str, int]:
    """Count, by path, the rows that no file of the log holds; 0 for a table's version, which is a whole."""
    if layout.kind == "table":
        return dict.fromkeys((file.path for file in files), 0)
    counts: dict[str, int] = {}
    with TemporaryDirectory(prefix="ksql-lake-doctor-") as scratch:
        for group in _alike(files):
            found = _fresh(storage, layout, state, group, Path(scratch), lost)
            counts |= {file.path: len(rows) for file, rows in zip(group, found, strict=True)}
    return counts


def keep_rows(storage: Storage, layout: FeedLayout, files: Sequence[Unnamed]) -> None:
    """Commit the rows that only these files hold in new files, and move the old ones to quarantine.

    One call handles the files of one history; call it again while files remain.

    Raises:
        ConflictError: Other runs took the commit number each time.
        WriteError: The disk is full or not writable.
    """
    for group in _alike(_first_history(files)):
        _keep(CommitLog(storage, layout), group)


def _keep(log: CommitLog, group: list[Unnamed]) -> None:
    with Attempt(log) as attempt:
        for state in attempt.states():
            now = datetime.now(UTC)
            fresh = _fresh(log.storage, log.layout, state, group, attempt.path("scratch"))
            staged = _copied(attempt, group, fresh)
            manifest = Manifest(
                sequence=attempt.sequence,
                attempt=attempt.id,
                feed=log.layout.name,
                kind=log.layout.kind,
                operation="append",
                committed_at=now.isoformat(timespec="milliseconds"),
                schema=group[0].schema.text,
                added=[attempt.entry(file, file.partition, at=now) for file in staged if file.records],
                removed=[file.path for file in group],
                # The log had lost a commit; the marks of another one may be behind the rows that come back.
                new_topic=log.layout.kind == "stream",
                merged_form=group[0].form,
            )
            for file in group:
                keep_aside(log.storage, log.layout, log.layout.data(file.path), still=True)
            if attempt.commit(manifest):
                log.finish()
                return


def _copied(
    attempt: Attempt, group: Sequence[Unnamed], fresh: Sequence[npt.NDArray[np.int64]]
) -> list[StagedFile]:
    """Write the numbered rows of each file to one staged file."""
    layout, facts, schema = attempt.log.layout, group[0].facts, arrow_schema(group[0].schema)
    metadata = {f"ksql_lake.{name}": value for name, value in facts.items() if name not in _OWN}
    writer = PartitionWriter(
        attempt,
        schema,
        compression="zstd",
        metadata={**metadata, "ksql_lake.attempt": attempt.id},
        suffix=f"{attempt.sequence}.kept.tmp",
    )
    keys = [layout.data(file.path) for file in group]
    with attempt.log.storage.local_copies(keys) as paths:
        for file, key, numbers in zip(group, keys, fresh, strict=True):
            for batch in copy_rows(Path(paths[key]), numbers):
                rows = batch.cast(schema)
                events = file.events(rows)
                writer.write(file.partition, rows, events=(int(events.min()), int(events.max())))
    return writer.close()


def _fresh(
    storage: Storage,
    layout: FeedLayout,
    state: FeedState,
    group: Sequence[Unnamed],
    scratch: Path,
    lost: Collection[str] = (),
) -> list[npt.NDArray[np.int64]]:
    """Return, per file, the numbers of the rows that are in no file of the commits that did not know it.

    Lost or damaged files of these commits count as empty; doctor forgets them.
    """
    partition, schema = group[0].partition, group[0].schema
    others = [
        file
        for file in state.files_of(partition)
        if (file_sequence(file.path) or 0) in group[0].strangers and layout.data(file.path) not in lost
    ]
    if not others:
        return [np.arange(file.records) for file in group]
    scratch.mkdir(parents=True, exist_ok=True)
    together = scratch / "together.tmp"
    keys = [layout.data(path) for path in (*(file.path for file in group), *(file.path for file in others))]
    with storage.local_copies(keys) as paths:
        with pq.ParquetWriter(together, arrow_schema(schema)) as writer:
            for path in keys[: len(group)]:
                with pq.ParquetFile(paths[path]) as parquet:
                    for batch in parquet.iter_batches():
                        writer.write_batch(batch.cast(arrow_schema(schema)))
        held = tuple(
            Held(paths[path], state.shape(file), state.form(file))
            for path, file in zip(keys[len(group) :], others, strict=True)
        )
        records = sum(file.records for file in group)
        candidate = Candidate(partition, str(together), records, held, group[0].form)
        names, null_keys, time = _key(state)
        found = new_rows(
            [candidate], schema, key=names, null_keys=null_keys, time=time, spill=scratch / "spill"
        )
        numbers = found[partition]
    edges = np.cumsum([0, *(file.records for file in group)])
    return [numbers[(numbers >= begin) & (numbers < end)] - begin for begin, end in pairwise(edges.tolist())]


def _key(state: FeedState) -> tuple[tuple[str, ...], bool, str]:
    """Return the columns that identify a row (none: the whole row), whether NULL equals NULL, and its time.

    The time is empty unless another event may have the same key: at an offset of a topic that was recreated.
    """
    if state.meaning is None or state.meaning.identity[:1] in {(), ("row",)}:
        return (), True, ""
    rename = state.meaning.rename or {}
    null_keys = (state.settings or {}).get("identity", {}).get("null_keys", "distinct")
    by, *columns = state.meaning.identity
    names = tuple(rename.get(column, column) for column in columns)
    return names, null_keys == "equal", ROWTIME if by == "offset" else ""


def _alike(files: Sequence[Unnamed]) -> Iterator[list[Unnamed]]:
    """Yield the files in groups that are compared together, so that equal rows among them are counted."""
    groups: dict[object, list[Unnamed]] = {}
    for file in sorted(files, key=lambda file: file.path):
        groups.setdefault(file.like, []).append(file)
    yield from groups.values()


def _first_history(files: Sequence[Unnamed]) -> list[Unnamed]:
    """Return, per partition, the oldest files whose numbers rise with time; a fall begins another log."""
    chosen: dict[str, list[Unnamed]] = {}
    over: set[str] = set()
    for file in sorted(files, key=lambda file: (file_time(file.path), file.number)):
        mine = chosen.setdefault(file.partition, [])
        if mine and file.number <= mine[-1].number:
            over.add(file.partition)
        if file.partition not in over:
            mine.append(file)
    return [file for mine in chosen.values() for file in mine]
