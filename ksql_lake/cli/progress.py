"""How far running exports are: bars on a terminal's stderr, nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from ksql_lake.export import Progress
from ksql_lake.quantities import size_text


class ProgressBars:
    """One line per running export, and one for all of them; thread-safe.

    Args:
        display: Where they are drawn; None draws nothing.
        total: How many exports there are.
    """

    def __init__(self, display: RichProgress | None, total: int) -> None:
        self._display = display
        self._tasks: dict[str, TaskID] = {}
        self._total, self._done = total, 0
        self._all = display.add_task("feeds", total=total, amount=f"0 of {total}") if display else None

    def show(self, progress: Progress) -> None:
        """Draw how far one export is."""
        if self._display is None:
            return
        if progress.feed not in self._tasks:
            self._tasks[progress.feed] = self._display.add_task(progress.feed, total=None, amount="")
        again = f", attempt {progress.attempt}" if progress.attempt > 1 else ""
        amount = progress.note or f"{progress.rows:,} rows, {size_text(progress.bytes)}{again}"
        self._display.update(self._tasks[progress.feed], amount=amount)

    def finished(self, feed: str) -> None:
        """Take an export's line away and count it."""
        if self._display is None or self._all is None:
            return
        if feed in self._tasks:
            self._display.remove_task(self._tasks.pop(feed))
        self._done += 1
        self._display.update(self._all, advance=1, amount=f"{self._done} of {self._total}")


@contextmanager
def progress_bars(total: int) -> Iterator[ProgressBars]:
    """Show progress while exports run, if somebody is there to see it."""
    if not sys.stderr.isatty():
        yield ProgressBars(None, total)
        return
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
