"""The growing sample: while the server runs, its rows arrive as they would have arrived."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ksql_lake.devserver.options import Options
from ksql_lake.devserver.store.sample import Sample, living_sample, load_sample
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.errors import ConfigError

TICK_SECONDS = 3.0


class Growth:
    """Appends to a sample the rows that have arrived, every few seconds, in its own thread.

    Args:
        sample: The sample.
        now: The clock, in epoch milliseconds.
    """

    def __init__(self, sample: Sample, now: Callable[[], int]) -> None:
        self._sample, self._now = sample, now
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sample", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, after the rows that are on their way."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            self._sample.advance(self._now())


def load(options: Options, catalog: Catalog) -> Growth | None:
    """Fill a server's catalog with the sample that its options ask for; return what makes it grow, if it does.

    Raises:
        ConfigError: Two options do not go together.
    """
    if options.sample_at is None:
        if options.sample_live:
            raise ConfigError(
                "--sample-live needs --sample-at, the moment at which the sample was begun",
                hint="For a sample that ends now: --sample-at now --sample-live",
            )
        if options.sample:
            load_sample(catalog, rows=options.sample_rows, days=options.sample_days)
        return None
    sample = living_sample(
        catalog,
        options.sample_at,
        rows=options.sample_rows,
        days=options.sample_days,
        until_ms=_now() if options.sample_live else None,
    )
    return Growth(sample, _now) if options.sample_live else None


def _now() -> int:
    return int(time.time() * 1000)
