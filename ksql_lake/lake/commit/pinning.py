"""Compare what a feed's rows mean with what is pinned, and record it in commits and footers."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import LakeError, SourceRecreatedError
from ksql_lake.feeds.model import Feed
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.manifest import Manifest, PartitionCount, ReadFacts
from ksql_lake.lake.commit.meaning import Meaning, Origin, free_settings, learnt, meaning_of, refuse_changes
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.files.writer import StagedFile, footer_facts
from ksql_lake.quantities import count_text

_log = logging.getLogger(__name__)


def early_meaning(log: CommitLog, state: FeedState) -> Meaning | None:
    """Return what the footers say about rows that an early release committed; None when there are no rows."""
    files = list(state.files())
    if not files:
        return None
    source = state.last_read.source if state.last_read else ""
    try:
        with log.storage.open(log.layout.data(files[-1].path)) as data, pq.ParquetFile(data) as parquet:
            facts = footer_facts(parquet)
    except (LakeError, OSError, pa.ArrowException):
        facts = {}  # a lost or damaged file is reported when its rows are compared, and by doctor
    if state.kind == "table":
        return Meaning(source=source)
    return Meaning(
        source=source,
        timezone=facts.get("timezone", ""),
        event_time=facts.get("event_time", ""),
        event_unit=facts.get("event_time_unit", "ms") if facts else "",
    )


@dataclass(frozen=True)
class Pinning:
    """A feed, and what the server reported about its source.

    Attributes:
        feed: The feed.
        origin: What the server reported; None if it was not asked, and then an export pins nothing.
    """

    feed: Feed
    origin: Origin | None = None

    @cached_property
    def meaning(self) -> Meaning:
        """What the feed's rows mean now."""
        return meaning_of(self.feed, self.origin)

    @property
    def footer(self) -> dict[str, str]:
        """Return the meaning as key and value for the footers of the export's files."""
        return {"meaning": self.meaning.encode()} if self.origin is not None else {}

    def check(self, state: FeedState, pinned: Meaning | None = None) -> None:
        """Raise if the new rows would mean something else than the rows that the lake holds.

        Args:
            state: The feed's state.
            pinned: What the lake's rows mean, if the state does not say.

        Raises:
            MeaningChangeError: Names what changed, what it would do, and the ways out.
        """
        held = state.columns.names if state.columns else ()
        refuse_changes(self.feed, state.meaning or pinned, self.meaning, held=held, origin=self.origin)

    def check_return(
        self,
        state: FeedState,
        counts: Sequence[PartitionCount],
        fresh: Mapping[str, StagedFile],
        *,
        marked: Collection[str],
    ) -> None:
        """Raise or warn if the source seems to have been recreated: none of its rows are known by their values.

        Args:
            state: The feed's state.
            counts: The counts of each day that was read.
            fresh: Day -> its new rows.
            marked: Days that were read from their marks on, so that all of their rows are new.

        Raises:
            SourceRecreatedError: The server reports that the source was recreated, none of the lake's rows of
                these days came back, and other rows did.
        """
        if self.feed.known_by != "row":
            return
        known = [count for count in counts if state.files_of(count.partition) and count.partition not in marked]
        if self.origin is not None and self.origin.accepted:
            return
        before, now = state.meaning.made_by if state.meaning else "", self.meaning.made_by
        if before and now and before != now:
            self._check_remade(state, counts, known)
        for count in known:
            part, file = state.partitions[count.partition], fresh.get(count.partition)
            again = part.records <= count.read == count.new and count.partition in state.certified
            if again and file is not None and (file.min_event or 0) <= (part.max_event or 0):
                _log.warning(
                    "%s: %s was read to its end before, and all of its %d rows came back as new ones; was %s "
                    "recreated? Compare with `ksql-lake sql` before they are used.",
                    self.feed.name,
                    count.partition,
                    count.read,
                    self.feed.source,
                )

    def _check_remade(
        self, state: FeedState, counts: Sequence[PartitionCount], known: Sequence[PartitionCount]
    ) -> None:
        held = sum(state.partitions[count.partition].records for count in known)
        new = sum(count.new for count in counts)
        if held and new and not any(count.already_there for count in known):
            name = self.feed.name
            raise SourceRecreatedError(
                f"{self.feed.source} was recreated on the server: none of the {count_text(held, 'row')} that "
                f"the lake holds of these days came back, and {new:,} others did",
                hint="Nothing was committed. If these are the same events again, begin a new feed: "
                f"`ksql-lake feeds archive {name}`, add one of another name, export it. If they are other "
                f"events: `ksql-lake export --stream {name} --new-topic`.",
                feed=name,
            )

    def meant(self, state: FeedState, read: ReadFacts) -> ReadFacts:
        """Return how a stream's rows are read, and what they mean if the lake has none that pin it."""
        if state.partitions:
            return read
        before = state.last_read.meant if state.last_read is not None else None
        return msgspec.structs.replace(read, meant=learnt(before, self.meaning))

    def recorded(self, state: FeedState, manifest: Manifest) -> Manifest:
        """Return a commit with the meaning from the first rows on, and the free keys that changed."""
        if self.origin is not None and (manifest.added or state.partitions):
            pinned = learnt(state.meaning, self.meaning)
            if state.meaning and self._unsettled(state.meaning, manifest):
                pinned = msgspec.structs.replace(pinned, made_by=state.meaning.made_by)
            manifest = msgspec.structs.replace(manifest, meaning=None if pinned == state.meaning else pinned)
        settings = free_settings(self.feed)
        if settings != (state.settings or {}):
            manifest = msgspec.structs.replace(manifest, settings=settings)
        return manifest

    def _unsettled(self, pinned: Meaning, manifest: Manifest) -> bool:
        """Whether a commit leaves open if the query that writes the source now brings the lake's rows back."""
        # An export of a recreated source that is still empty must not learn the new query: the rows that come
        # later would then count as new without a question.
        accepted = self.origin is not None and self.origin.accepted
        came_back = accepted or any(count.already_there for count in manifest.counts)
        return bool(pinned.made_by) and self.feed.known_by == "row" and not came_back
