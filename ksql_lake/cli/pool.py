"""Export several feeds at once, one per worker thread, with progress bars on a terminal."""

# The first Ctrl-C or SIGTERM stops each export at its next block of rows: the query is closed and the staged
# files are removed. The second one, or GRACE_SECONDS, ends the process; the next export removes what remains.
# Signals are counted and not raised, so that no export can be started and then forgotten.

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from ksql_lake.cli.plan import Planned
from ksql_lake.cli.terminal.journal import RUN
from ksql_lake.cli.terminal.loudness import quiet
from ksql_lake.cli.terminal.output import note
from ksql_lake.export import ExportPlan, ExportResult, Progress, extract, land
from ksql_lake.export.expiry import kept_retention
from ksql_lake.export.judging import JudgedCheck, judge_export
from ksql_lake.export.topology import kept_topology
from ksql_lake.feeds import Feed, StreamFeed
from ksql_lake.followers import update_followers
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.quantities import count_text, size_text
from ksql_lake.settings import Settings
from ksql_lake.telemetry import about

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

GRACE_SECONDS = 5.0
"""Seconds that running exports have to end after an interruption."""

_HEED_SECONDS = 0.2
"""Seconds until the main thread notices an interruption that another thread received: Python runs a signal's
handler in the main thread only, and does not wake that thread for it."""

_log = logging.getLogger(__name__)


class ProgressBars:
    """One progress line per running export and one for all of them; thread-safe.

    Args:
        display: Where to draw the lines; None draws nothing.
        total: Number of exports.
    """

    def __init__(self, display: RichProgress | None, total: int) -> None:
        self._display = display
        self._tasks: dict[str, TaskID] = {}
        self._total, self._done = total, 0
        self._all = display.add_task("feeds", total=total, amount=f"0 of {total}") if display else None

    def show(self, progress: Progress) -> None:
        """Draw the progress of one export."""
        if self._display is None:
            return
        if progress.feed not in self._tasks:
            self._tasks[progress.feed] = self._display.add_task(progress.feed, total=None, amount="")
        again = f", attempt {progress.attempt}" if progress.attempt > 1 else ""
        amount = progress.note or f"{progress.rows:,} rows, {size_text(progress.bytes)}{again}"
        self._display.update(self._tasks[progress.feed], amount=amount)

    def finished(self, feed: str) -> None:
        """Remove an export's line and count the export as finished."""
        if self._display is None or self._all is None:
            return
        if feed in self._tasks:
            self._display.remove_task(self._tasks.pop(feed))
        self._done += 1
        self._display.update(self._all, advance=1, amount=f"{self._done} of {self._total}")


@contextmanager
def progress_bars(total: int) -> Iterator[ProgressBars]:
    """Show progress while exports run, if stderr is a terminal."""
    if not sys.stderr.isatty() or quiet():
        yield ProgressBars(None, total)
        return
    from rich.console import Console  # noqa: PLC0415 - rich loads only on a terminal
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as RichProgress  # noqa: PLC0415

    display = RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with display:
        yield ProgressBars(display, total)


@dataclass(frozen=True, slots=True)
class FeedOutcome:
    """How a feed's export ended: with a result, with an error, or with neither after an interruption.

    Attributes:
        feed: The feed.
        result: What the export did.
        error: Why it failed.
        checks: What its checks found; empty if it failed or read nothing.
        unjudged: Why the checks could not be evaluated, although the rows landed.
    """

    feed: Feed
    result: ExportResult | None = None
    error: BaseException | None = None
    checks: tuple[JudgedCheck, ...] = ()
    unjudged: Exception | None = None

    @property
    def interrupted(self) -> bool:
        """Whether an interruption stopped it or prevented its start."""
        return self.result is None and self.error is None

    @property
    def failed(self) -> bool:
        """Whether an error ended it, or a check of severity `error` or `block` failed."""
        return self.error is not None or self.unjudged is not None or any(check.grave for check in self.checks)


@dataclass(slots=True)
class _Stop:
    """How many interruptions arrived, and whether exports have to stop at their next block.

    It has no lock, because a signal's handler cannot wait for one.
    """

    asked: int = 0
    heeded: bool = False


class _StoppedError(Exception):
    """Raised inside an export, between two blocks of rows, after an interruption."""


def export_all(
    planned: Sequence[Planned], client: KsqlClient, settings: Settings, *, workers: int
) -> list[FeedOutcome]:
    """Export every planned feed and return how each ended, in the order of the plans."""
    lake, stop = Lake(settings.lake_root), _Stop()
    with progress_bars(len(planned)) as bars, _interruptions(stop):
        pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="export")
        hook = _hook(stop, bars)
        futures = {
            one.feed.name: pool.submit(
                _export_one, one.plan, client, lake, hook=hook, attempts=settings.attempts
            )
            for one in sorted(planned, key=_tables_first)
            if one.plan is not None
        }
        _follow(futures, stop, bars)
        if stop.asked:
            _wait_for_end(list(futures.values()), stop)
        # An export that still runs waits for a silent server; it ends with the process.
        pool.shutdown(wait=False, cancel_futures=True)
    return [_outcome(one, futures.get(one.feed.name)) for one in planned]


def _tables_first(one: Planned) -> bool:
    # A table may rest for seconds until it counts as built; streams are read meanwhile.
    return one.feed.kind != "table"


def _follow(futures: Mapping[str, Future[FeedOutcome]], stop: _Stop, bars: ProgressBars) -> None:
    """Wait until all exports have ended or an interruption arrives."""
    names = {future: name for name, future in futures.items()}
    running = set(names)
    while running and not stop.asked:
        done, running = wait(running, timeout=_HEED_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            bars.finished(names[future])


def _export_one(
    plan: ExportPlan,
    client: KsqlClient,
    lake: Lake,
    *,
    hook: Callable[[Progress], None],
    attempts: int,
) -> FeedOutcome:
    hook(Progress(plan.feed.name, rows=0, bytes=0))
    with about(feed=plan.feed.name, run=RUN):
        _log.info("export begins: %s", plan.reason)
        result = land(extract(plan, client), lake, on_progress=hook, attempts=attempts)
        update_followers(lake, plan.feed)
        _log.info("export landed", extra=_landed(result))
        return _judged(result, lake)


def _judged(result: ExportResult, lake: Lake) -> FeedOutcome:
    """Evaluate the checks; the rows stay in the lake whatever the checks find."""
    feed = result.feed
    if result.commit is None:
        return FeedOutcome(feed, result=result)
    try:
        retention = kept_retention(feed, kept_topology(lake)) if isinstance(feed, StreamFeed) else None
        return FeedOutcome(feed, result=result, checks=tuple(judge_export(result, lake.feed(feed), retention)))
    except Exception as error:  # noqa: BLE001 - reported with the feed's name; the export itself is done
        return FeedOutcome(feed, result=result, unjudged=error)


def _landed(result: ExportResult) -> dict[str, object]:
    """Return what an export did, as fields of a log record."""
    facts = result.as_dict()
    wanted = ("query_id", "commit", "read", "new", "already_there", "late", "bytes_read", "seconds", "attempts")
    return {name: facts[name] for name in wanted}


def _hook(stop: _Stop, bars: ProgressBars) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if stop.heeded:
            raise _StoppedError
        bars.show(progress)

    return on_progress


def _wait_for_end(futures: Sequence[Future[FeedOutcome]], stop: _Stop) -> None:
    """Start no further export, and wait for the running ones to end."""
    running = {future for future in futures if not future.done() and not future.cancel()}
    if running:
        note(f"ending {count_text(len(running), 'export')}; Ctrl-C again does not wait", label="interrupted")
    stop.heeded = True
    until = time.monotonic() + GRACE_SECONDS
    while running and stop.asked == 1 and time.monotonic() < until:
        _, running = wait(running, timeout=_HEED_SECONDS)


def _outcome(one: Planned, future: Future[FeedOutcome] | None) -> FeedOutcome:
    if future is None:
        return FeedOutcome(one.feed, error=one.error)
    if future.cancelled() or not future.done():
        return FeedOutcome(one.feed)
    error = future.exception()
    if isinstance(error, _StoppedError):
        return FeedOutcome(one.feed)
    return FeedOutcome(one.feed, error=error) if error else future.result()


@contextmanager
def _interruptions(stop: _Stop) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM ask exports to stop; the third signal raises KeyboardInterrupt."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        stop.asked += 1
        if stop.asked > 2:
            raise KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    # A shell that starts a program in the background may make it ignore Ctrl-C; that choice stays.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
