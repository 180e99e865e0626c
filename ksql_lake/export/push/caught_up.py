"""Decide whether a push query has caught up: by Kafka's offsets, else by its positions, else by silence.

Pure.
"""

# Only rows at ends that Kafka reported before the query began are a proof. Time is passed in, in small steps,
# so that a paused process does not count its own pause as the server's silence.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ksql_lake.errors import ServerUnavailableError
from ksql_lake.ksqldb import Position
from ksql_lake.ksqldb.offsets import LogOffsets

STEP_SHARE = 1 / 8
"""How much of the time between two looks counts as the server's silence, at most; a share of a quiet period."""
START_FACTOR = 3
"""How many quiet periods a query may need to report anything: an application starts on the server."""
REST_SHARE = 0.5
"""Share of a quiet period for which a partition rests at its end, where the server reports positions."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What showed that a query had caught up: `offsets`, `positions` or `silence`, and a sentence about it."""

    judged_by: str
    text: str


@dataclass(slots=True)
class _Partition:
    """A partition's position, since when it has been there, and since when no more of it was delivered."""

    position: Position
    since: float
    still_since: float

    def resting(self, clock: float, quiet: float) -> bool:
        rested = clock - self.since
        short = self.position.end - self.position.committed
        if self.position.known and short <= 0:
            return rested >= quiet * REST_SHARE
        # An empty partition looks like one that has not been fetched yet.
        return rested >= quiet and short <= 0


class CaughtUp:
    """Decides for one running push query whether it has caught up.

    Args:
        topic: The source's topic, for texts.
        partitions: How many partitions it has; 0 if unknown.
        quiet: Length of a quiet period in seconds.
        patience: Seconds without progress before its end after which a query has failed.
        ends: Where the topic's partitions ended before the query began; empty where that is not known.
    """

    def __init__(
        self,
        *,
        topic: str,
        partitions: int,
        quiet: float,
        patience: float,
        ends: Mapping[int, LogOffsets] | None = None,
    ) -> None:
        self._known_ends = dict(ends or {})
        self._topic = topic
        self._count = partitions
        self._quiet = quiet
        self._patience = max(patience, quiet)
        self._clock = 0.0
        self._old_row_at = 0.0
        self._any_row = False
        self._reported_at: float | None = None
        self._partitions: dict[int, _Partition] = {}
        self._seen: dict[int, int] = {}
        self._old_rows_at: dict[int, float] = {}
        self._passed_at: dict[int, float] = {}
        self._firsts: Mapping[int, int] = {}

    def step(self, seconds: float) -> None:
        """Note that time has passed."""
        self._clock += min(seconds, self._quiet * STEP_SHARE)

    def heard(self, *, old: bool, seen: Mapping[int, int] | None = None) -> None:
        """Note that rows came.

        Args:
            old: Whether one of them may be from before the query began.
            seen: Kafka partition -> offset of its last row.
        """
        self._any_row = True
        if old:
            self._old_row_at = self._clock
        for number, offset in (seen or {}).items():
            if old and offset < self._firsts.get(number, offset + 1):
                self._old_rows_at[number] = self._clock
            self._seen[number] = offset

    def lit(self, firsts: Mapping[int, int]) -> None:
        """Note which offsets are surely from after the query began: Kafka partition -> the first of them."""
        self._firsts = firsts

    @property
    def clock(self) -> float:
        """Seconds that have passed for the query."""
        return self._clock

    def reported(self, positions: Mapping[int, Position] | None) -> None:
        """Note the query's positions as the server reported them; None when it reported nothing."""
        if positions is None:
            return
        self._reported_at = self._clock
        for number, position in positions.items():
            known = self._partitions.get(number)
            if known is None or known.position != position:
                moved = known is None or known.position.committed != position.committed
                still = self._clock if known is None or moved else known.still_since
                self._partitions[number] = _Partition(position, self._clock, still)

    @property
    def silent_only(self) -> bool:
        """Whether silence is the only evidence."""
        return self._reported_at is None

    @property
    def unreported(self) -> bool:
        """Whether the server has had time enough to report the query's positions, and has not."""
        return self._reported_at is None and self._clock >= self._quiet * START_FACTOR

    def ends(self) -> dict[int, int]:
        """Return the known ends of partitions: Kafka's of before the query, or later ones the server reported.

        The server reports the newest record that the query has fetched, which may be less.
        """
        found = {number: part.end for number, part in self._known_ends.items()}
        for number, part in self._partitions.items():
            if part.position.known:
                found[number] = max(part.position.end, found.get(number, 0))
        return found

    def verdict(self) -> Verdict | None:
        """Judge; None while the query has not caught up.

        Raises:
            ServerUnavailableError: The query makes no progress before its end.
        """
        if (found := self.proof()) is not None:
            return found
        return self._by_silence() if self._reported_at is None else self._by_positions()

    def proof(self) -> Verdict | None:
        """Judge by Kafka's ends alone; None while they are not reached, or where they are unknown."""
        if not self._known_ends:
            return None
        for number, part in self._known_ends.items():
            if part.start < part.end and self._seen.get(number, -1) < part.end - 1:
                return None
        reached = sum(part.end for part in self._known_ends.values())
        return Verdict(
            "offsets",
            f"every partition of {self._topic} was read to where Kafka's log ended when the query began "
            f"({reached:,} in {len(self._known_ends)})",
        )

    def _by_silence(self) -> Verdict | None:
        limit = self._quiet * (1 if self._any_row else START_FACTOR)
        if self._known_ends:
            # The rows at the ends are still to come, unless ksqlDB skips them.
            limit = max(limit, self._patience)
        if self._clock - self._old_row_at < limit:
            return None
        return Verdict("silence", f"no row from before the query began came for {limit:g} s")

    def _by_positions(self) -> Verdict | None:
        parts = self._partitions
        started = self._clock >= self._quiet * START_FACTOR or any(
            part.position.known for part in parts.values()
        )
        waiting = [
            part
            for number, part in parts.items()
            if not self._passed(number, part)
            and not (part.resting(self._clock, self._quiet) and self._arrived(number))
        ]
        if started and not waiting and len(parts) >= max(self._count, 1):
            return Verdict(
                "positions", f"every partition of {self._topic} was read to its end: {self._numbers()}"
            )
        still = max((self._clock - part.still_since for part in waiting or parts.values()), default=self._clock)
        if min(still, self._clock - self._old_row_at) >= self._patience:
            raise ServerUnavailableError(
                f"the query has made no progress for {self._patience:g} s, at {self._numbers()}",
                hint="Nothing was kept; the export can be run again. Is a Kafka broker down, or a transaction "
                'open? "isolation": "uncommitted" in the feed file does not wait for transactions.',
            )
        return None

    def _passed(self, number: int, part: _Partition) -> bool:
        """Whether a partition was read to a row that came after the query began."""
        first = self._firsts.get(number)
        if first is None:
            return False
        if self._seen.get(number, -1) >= first:
            return True
        if part.position.committed < first:
            return False
        # The query has delivered everything up to there, but it may still be on its way.
        since = self._passed_at.setdefault(number, self._clock)
        return self._clock - since >= self._quiet * REST_SHARE and self._arrived(number)

    def _arrived(self, number: int) -> bool:
        """Whether no row of a partition from before the query began has come for a while."""
        last = self._old_rows_at.get(number, -self._quiet) if self._seen else self._old_row_at
        return self._clock - last >= self._quiet * REST_SHARE

    def _numbers(self) -> str:
        ordered = sorted(self._partitions.items())
        shown = [
            f"{number}: {max(part.position.committed, 0):,} of {max(part.position.end, 0):,}"
            for number, part in ordered[:8]
        ]
        return ", ".join(shown) + (f" and {len(ordered) - 8} more" if len(ordered) > 8 else "")
