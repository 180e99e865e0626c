"""Land a reading in the lake: retries, the snapshot guard, the commit, retention."""

# Every attempt is a fresh query and a fresh staging folder. Rows of a reading that is not proven complete are
# dropped.

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import msgspec
import pyarrow as pa

from ksql_lake.errors import (
    DecodeError,
    KsqlLakeError,
    NotHereError,
    PropertyRefusedError,
    UnsendableError,
)
from ksql_lake.export.continuing import FallBackError
from ksql_lake.export.evidence import demand
from ksql_lake.export.export_plan import plan_export
from ksql_lake.export.extraction import Extraction
from ksql_lake.export.guards import SmallSnapshotError, check_unit, checked_origin, lost_share, shrunk_text
from ksql_lake.export.push import PositionsUntoldError
from ksql_lake.export.push.outside import noted_outside
from ksql_lake.export.push.snapshot import snapshot_rows
from ksql_lake.export.reading import Reading
from ksql_lake.export.reading_clock import Beginning, timed
from ksql_lake.export.result import ExportResult, Progress, held_partitions, in_order, partition_results
from ksql_lake.feeds.model import Feed, StreamFeed, TableFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.retry import tried
from ksql_lake.lake import Commit, FeedLake, Lake, ReadFacts, Staging
from ksql_lake.lake.commit.marks import KnownDays, known_days
from ksql_lake.lake.commit.meaning import Origin
from ksql_lake.lake.days import Days
from ksql_lake.lake.files.precision import CURRENT
from ksql_lake.telemetry import about, span

Landed = tuple[Commit, Reading]
ProgressHook = Callable[[Progress], None]

_log = logging.getLogger(__name__)

_MOST_BAD_DAYS = 20
"""After how many days with unreadable rows the search for further ones stops: each costs some queries."""
_MOVE_SECONDS = 2.0
"""How long to wait for nodes that move their work among themselves before the next try."""


@dataclass(slots=True)
class _Landing:
    """What one attempt needs, and what it leaves."""

    extraction: Extraction
    lake: FeedLake
    on_progress: ProgressHook
    attempt: int = 1
    suspicious: int | None = None
    sighted: bool = True
    settle: bool = False
    apart: bool = False
    """Whether a push query has to leave out other days' rows, one of which cannot be read."""
    origin: Origin | None = None
    received: int = 0

    def once(self) -> tuple[Commit, Reading]:
        """Read everything, stage it, commit it."""
        plan = self.extraction.plan
        known = self._known()
        sighted = self.sighted and (self.apart or self._positions_reported())
        began = Beginning()
        with self.extraction.open(known=known, sighted=sighted, note=self._note) as reading:
            reading.on_wait = partial(self._report, reading)
            facts = self._facts(reading)
            self._report(reading)
            days = plan.window or plan.days
            window = (days.first, days.last) if days else None
            with self.lake.stage(
                reading.schema, read=facts, days=window, known=known, origin=self.origin
            ) as staging:
                with span("read") as noted:
                    for batch in self._batches(reading, staging):
                        staging.write(batch)
                        self._report(reading)
                    self._report(reading)
                    self.received = reading.rows
                    noted |= {"query": reading.query_id, "rows": reading.rows, "bytes": reading.bytes_read}
                evidence = reading.evidence()
                demand(plan.feed, evidence)
                if isinstance(plan.feed, StreamFeed) and not staging.rows and not plan.window:
                    check_unit(plan.feed, self.extraction.question.event_type, self.extraction.client)
                lost = self._guard(staging, reading, evidence.level)
                read = timed(facts, plan.feed, self.extraction.client, began)
                staging.read = msgspec.structs.replace(read, shrunk=lost, **reading.notes)
                pinned = plan.version if plan.pinned else None
                with span("commit"):
                    done = staging.commit(
                        response_bytes=reading.bytes_read,
                        version=pinned,
                        pushed=reading.pushed,
                        evidence=evidence,
                    )
                return done, reading

    def _batches(self, reading: Reading, staging: Staging) -> Iterable[pa.RecordBatch]:
        return reading if reading.log is None else snapshot_rows(reading.log, staging)

    def _known(self) -> KnownDays:
        """Return what the lake knows by offset of the days to read."""
        plan = self.extraction.plan
        going_on = plan.feed.extraction == "continue"
        if plan.days is None or plan.feed.extraction == "pull":
            return KnownDays()
        state = self.lake.state()
        if going_on:
            return KnownDays(continued=None if plan.new_topic else state.continued, base=state.reading)
        if plan.new_topic or not state.partitions:
            # Before the first rows the marks may be those of another source or event time.
            return KnownDays(marked=state.marked)
        return known_days(state.marks, state.marked, plan.days.keys())

    def _positions_reported(self) -> bool:
        """Return whether the server reported the query's positions last time."""
        last = self.lake.state().last_read
        return last is not None and last.judged_by in ("positions", "offsets")

    def _facts(self, reading: Reading) -> ReadFacts:
        plan = self.extraction.plan
        return ReadFacts(
            source=plan.feed.source,
            statement=reading.statement,
            read_at=reading.read_at.isoformat(timespec="milliseconds"),
            query_id=reading.query_id,
            server_version=self.extraction.client.server_info().version.text,
            first_day=plan.days.first.isoformat() if plan.days else None,
            last_day=plan.days.last.isoformat() if plan.days else None,
            event_time=plan.feed.event_clock,
            form=CURRENT,
            fell_back=plan.fell_back,
        )

    def _report(self, reading: Reading) -> None:
        feed = self.extraction.feed.name
        self.on_progress(Progress(feed, reading.rows, reading.bytes_read, self.attempt))

    def _note(self, line: str) -> None:
        """Report what the export waits for."""
        _log.info("%s", line)
        self.on_progress(Progress(self.extraction.feed.name, 0, 0, self.attempt, note=line))

    def _guard(self, staging: Staging, reading: Reading, level: str) -> float:
        """Return the share of rows that a snapshot has lost; a suspicious loss is read twice."""
        feed, seen = self.extraction.feed, self.suspicious
        if not isinstance(feed, TableFeed):
            return 0.0
        # Nodes that shut down report for a while that they run; one node has nothing to wait for.
        several = level != "proven" and reading.nodes != 1
        self.settle, self.suspicious = several, staging.rows
        if reading.log is not None and not staging.rows:
            # The push query ran from the first change on, for as long as a query may need to begin. Where the
            # lake held no row before, a second reading would show no more.
            seen = seen if self.lake.state().records else 0
        lost = lost_share(feed, self.lake.state(), staging.rows, seen=seen)
        if lost:
            _log.warning("%s: the table has %s; read twice", feed.name, shrunk_text(lost))
        return lost


def land(
    extraction: Extraction,
    lake: Lake,
    *,
    on_progress: ProgressHook | None = None,
    attempts: int | None = None,
) -> ExportResult:
    """Read an extraction and land it, exactly once whatever happens on the way.

    Args:
        extraction: What to read.
        lake: Where it lands.
        on_progress: Called after every block; an exception it raises ends the export with nothing landed.
        attempts: How often a retryable failure is tried in all; None takes the client's setting.

    Raises:
        DecodeError, UnsendableError: A row cannot be read; the other days of a stream's window have landed.
        KsqlLakeError: The export failed; the lake shows what it showed before.
        Exception: The same; it is a defect, and recorded like any other failure.
    """
    feed = extraction.feed
    watched = _Watched(on_progress)
    with about(feed=feed.name), span("export") as noted:
        try:
            result = _land_around(extraction, lake, watched, attempts)
            if result.commit is not None:
                lake.feed(feed).clear_failures()
        except KsqlLakeError as error:
            lake.feed(feed).record_failure(error.at(feed=feed.name))
            raise error from error.__cause__
        except Exception as error:
            if error is not watched.raised:
                lake.feed(feed).record_failure(error)
            raise
        noted |= {"commit": result.commit, "read": result.read, "new": result.new, "attempts": result.attempts}
    return result


@dataclass(slots=True)
class _Watched:
    """A hook, and what it raised: that interrupts the export and is no failure of it.

    Attributes:
        apart: Whether a row was met that cannot be read, so that days are read apart.
        bad_days: On how many days such rows were met.
    """

    hook: ProgressHook | None
    raised: Exception | None = None
    apart: bool = False
    bad_days: int = 0

    def __call__(self, progress: Progress) -> None:
        if self.hook is None:
            return
        try:
            self.hook(progress)
        except Exception as error:
            self.raised = error
            raise


def _land_around(
    extraction: Extraction, lake: Lake, on_progress: _Watched, attempts: int | None
) -> ExportResult:
    """Land a window; if a row of it cannot be read, land the days without such a row, then raise."""
    try:
        return _land(extraction, lake, on_progress, attempts)
    except (DecodeError, UnsendableError) as error:
        if extraction.feed.extraction == "continue":  # by pull query the other days land
            pulled = extraction.pulled(f"a row cannot be read: {error.message}")
            return _land_around(pulled, lake, on_progress, attempts)
        days = extraction.plan.days
        if isinstance(error, UnsendableError):
            error.at(columns=", ".join(extraction.question.doubtful) or None)
        if days is None:
            raise
        if extraction.plan.open_end:
            _log.warning("%s: %s; reading without rows of the future", extraction.feed.name, error.message)
            closed = Extraction(replace(extraction.plan, open_end=False), extraction.client)
            return _land_around(closed, lake, on_progress, attempts)
        on_progress.apart = True
        on_progress.bad_days += len(days) == 1
        if len(days) == 1 or on_progress.bad_days >= _MOST_BAD_DAYS:
            raise error.at(feed=extraction.feed.name, partition=days) from error.__cause__
        _log.warning("%s: %s; reading the days apart", extraction.feed.name, error.message)
    extraction = Extraction(replace(extraction.plan, made_at=None), extraction.client)  # its own commits follow
    first: DecodeError | UnsendableError | None = None
    for half in days.halves():
        part = Extraction(replace(extraction.plan, days=half), extraction.client)
        try:
            _land_around(part, lake, on_progress, attempts)
        except (DecodeError, UnsendableError) as error:
            first = first or error
    if first is None:  # the unreadable row is gone since
        return _land(extraction, lake, on_progress, attempts)
    raise first from first.__cause__


def _land(extraction: Extraction, lake: Lake, on_progress: _Watched, attempts: int | None) -> ExportResult:
    started, clock, requests = datetime.now(UTC), time.monotonic(), extraction.client.requests
    feed = extraction.feed
    result = ExportResult(feed, extraction.plan, started)
    if extraction.empty:
        return result
    feed_lake = lake.feed(feed)
    landing = _Landing(extraction, feed_lake, on_progress, apart=on_progress.apart)
    # Asked once, with separate retries (inside the loop below they would multiply), and before the lock: if
    # the server is down, nothing is created on disk.
    landing.origin = checked_origin(extraction, feed_lake)
    with feed_lake.exclusive():
        # Under the lock, so that what another export has read meanwhile is not read again.
        extraction = landing.extraction = extraction.still_wanted(feed_lake, landing.origin)
        already = held_partitions(feed_lake, extraction.plan.already)
        result = replace(result, plan=extraction.plan, partitions=already)
        if extraction.empty:
            return result
        commit, reading = _with_retries(landing, attempts or extraction.client.attempts)
        removed = _retain(feed, feed_lake)
    held, read = commit.state.readable(), commit.manifest.read
    return replace(
        result,
        commit=commit.sequence,
        partitions=in_order(already, partition_results(feed_lake, commit)),
        removed=removed,
        statement=reading.statement,
        caught_up=read.caught_up if read else "",
        evidence=commit.manifest.read.evidence if commit.manifest.read else None,
        replaced_texts=reading.replaced_texts,
        query_id=reading.query_id,
        schema=reading.schema,
        seconds=time.monotonic() - clock,
        bytes_read=reading.bytes_read,
        attempts=landing.attempt,
        open_version=commit.state.next_version if isinstance(feed, TableFeed) else None,
        held_records=sum(part.records for part in held),
        held_bytes=sum(part.bytes for part in held),
        read_at=datetime.fromisoformat(read.read_at) if read else None,
        clock=read.clock if read else "",
        shrunk=read.shrunk if read else 0.0,
        outside=noted_outside(feed, read),
        fell_back=read.fell_back if read else "",
        received=landing.received,
        requests=extraction.client.requests - requests,
        compared=commit.compared,
    )


def export_feed(
    feed: Feed,
    client: KsqlClient,
    lake: Lake,
    *,
    days: Days | None = None,
    version: int | None = None,
    on_progress: ProgressHook | None = None,
) -> ExportResult:
    """Plan, read and land one feed.

    Args:
        feed: The feed.
        client: The server.
        lake: Where it lands.
        days: Days of a stream; None means what is due.
        version: Version of a table; None means the open one.
        on_progress: Called after every block.

    Raises:
        KsqlLakeError: The export failed; the lake shows what it showed before.
    """
    try:
        plan = plan_export(feed, lake, days=days, version=version)
    except KsqlLakeError as error:
        raise error.at(feed=feed.name) from error.__cause__
    return land(Extraction(plan, client), lake, on_progress=on_progress)


def _with_retries(landing: _Landing, attempts: int) -> tuple[Commit, Reading]:
    name = landing.extraction.feed.name
    client = landing.extraction.client

    def attempt(number: int) -> tuple[Commit, Reading]:
        landing.attempt = number
        try:
            return _patiently(client, landing.once, name)
        except SmallSnapshotError as small:
            _log.warning("%s: %s; reading once more", name, small)
            if landing.settle:
                client.sleep(client.settings.settle_time)
        except FallBackError as back:
            _log.warning("%s: %s; reading by pull query this time", name, back.reason)
            landing.extraction = landing.extraction.pulled(back.reason)
        except PositionsUntoldError:
            landing.sighted = False
            _log.warning("%s: the server does not report how far the query is; reading without condition", name)
        return _patiently(client, landing.once, name)

    return tried(attempt, attempts, sleep=client.sleep)


def _patiently(client: KsqlClient, once: Callable[[], Landed], name: str) -> Landed:
    """Read again, without counting it as a try, where a new try is sure to differ.

    That is without a property that the server refuses, or after nodes have moved their work among themselves:
    each time the table has to be built and its nodes have to run before it is read.
    """
    moves = int(client.settings.table_wait / _MOVE_SECONDS)
    while True:
        try:
            return once()
        except PropertyRefusedError as refused:
            if not client.learn(refused):
                raise
        except NotHereError as moving:
            if moves <= 0:
                raise
            moves -= 1
            _log.warning("%s: %s", name, moving.message)
            client.sleep(_MOVE_SECONDS)


def _retain(feed: Feed, lake: FeedLake) -> tuple[str, ...]:
    return lake.apply_retention().remove if isinstance(feed, TableFeed) else ()
