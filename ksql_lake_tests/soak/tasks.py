"""The processes of a soak: `python -m ksql_lake_tests.soak.tasks TASK URL ROOT TODAY`.

`export` and `upkeep` do it once, after a line that says they are ready to be killed. `serve` does both round by
round for as long as its input is open, as a scheduler's process does, and reports its size after each. `watch`
reads all the time, as a stranger who globs and as our own reader.
"""

from __future__ import annotations

import json
import logging
import select
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import KsqlLakeError, Recovery
from ksql_lake.export import export_feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake_tests.soak.scene import feeds, may_be_twice, settings

_REPLACES = b"ksql_lake.replaces"


def tell(**message: object) -> None:
    """Say something to the conductor."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def stopped() -> bool:
    """Whether the conductor has closed our input, or is gone."""
    return bool(select.select([sys.stdin], [], [], 0)[0]) and not sys.stdin.readline()


class Task:
    """One process's part.

    Args:
        url: The server.
        root: The lake.
        today: The newest day of the soak.
    """

    def __init__(self, url: str, root: Path, today: date) -> None:
        self.url, self.root = url, root
        self.stream, self.table = feeds(today)

    def export(self) -> None:
        """Export both feeds; what may pass by itself is reported, anything else is a finding."""
        with KsqlClient(settings(self.url, self.root)) as client:
            lake = Lake(self.root)
            for feed in (self.stream, self.table):
                try:
                    result = export_feed(feed, client, lake)
                    tell(what="exported", feed=feed.name, new=result.new)
                except KsqlLakeError as error:
                    self._failed(error)

    def upkeep(self) -> None:
        """Merge the files of closed days and remove old versions."""
        lake = Lake(self.root)
        try:
            days = list(lake.feed(self.stream).compact())
            gone = lake.feed(self.table).apply_retention()
            tell(what="upkept", merged=len(days), removed=len(gone.remove))
        except KsqlLakeError as error:
            self._failed(error)

    def serve(self) -> None:
        """Export and keep up round by round in one process, and report its size."""
        process, rounds = psutil.Process(), 0
        while not stopped():
            self.export()
            rounds += 1
            if rounds % 5 == 0:
                self.upkeep()
            self._committed()
            tell(
                what="size",
                rss=process.memory_info().rss,
                files=process.num_fds(),
                threads=threading.active_count(),
            )
            time.sleep(0.2)

    def _committed(self, columns: list[str] | None = None) -> pa.Table | None:
        """Everything our own reader returns; None before the first commit, and after a reported error."""
        lake = Lake(self.root).feed(self.stream)
        try:
            return lake.dataset().to_table(columns=columns) if lake.state().partitions else None
        except KsqlLakeError as error:
            self._failed(error)
        except FileNotFoundError:
            # Merged meanwhile: who opens a dataset and reads it later opens it again.
            tell(what="interrupted")
        return None

    def watch(self) -> None:
        """Read until the input ends, and report what was seen."""
        figures: Counter[str] = Counter()
        most = 0
        while not stopped():
            figures["polls"] += 1
            try:
                for kind, text in self._globbed(figures):
                    tell(what=kind, text=text)
                most = self._exact(figures, most)
            except FileNotFoundError:
                # Listed, then merged or removed before it was opened: a plain reader lists again.
                figures["interrupted"] += 1
            time.sleep(0.1)
        tell(what="watched", figures=figures)

    def _globbed(self, figures: Counter[str]) -> Iterator[tuple[str, str]]:
        """Look at what anybody sees who lists the folder and knows nothing of manifests."""
        numbers: dict[str, npt.NDArray[np.int64]] = {}
        replaced: set[str] = set()
        folder = self.root / "streams" / self.stream.name
        for path in sorted(folder.rglob("*.parquet")):
            try:
                with pq.ParquetFile(path) as file:
                    numbers[path.relative_to(folder).as_posix()] = file.read(columns=["ID"])["ID"].to_numpy()
                    replaced.update(json.loads((file.metadata.metadata or {}).get(_REPLACES, b"[]")))
            except pa.ArrowException as error:
                yield "torn", f"{path.name}: {error}"
        if _doubles(numbers):
            # Between the first and the last step of a merge; documented, and the footers show it.
            left = {path: ids for path, ids in numbers.items() if path not in replaced}
            if doubled := _doubles(left):
                yield "double", f"{len(doubled)} rows, e.g. {doubled[:3]}"
            figures["in a merge"] += 1

    def _exact(self, figures: Counter[str], most: int) -> int:
        """Look through our own reader: never a row twice, never fewer than before."""
        table = self._committed(["ID"])
        if table is None:
            return most
        found = table["ID"].to_numpy()
        figures["exact reads"] += 1
        if doubled := _doubles({"": found}):
            tell(what="double", text=f"by our own reader: {len(doubled)} rows, e.g. {doubled[:3]}")
        if len(found) < most:
            tell(what="missing", text=f"{len(found)} rows after {most}")
        return max(most, len(found))

    def _failed(self, error: KsqlLakeError) -> None:
        passing = error.recovery is Recovery.RETRY
        tell(what="passing" if passing else "failed", text=f"{type(error).__name__}: {error}")


def _doubles(numbers: dict[str, npt.NDArray[np.int64]]) -> list[int]:
    """The rows that are there more often than they can have been made."""
    if not numbers:
        return []
    found, counts = np.unique(np.concatenate(list(numbers.values())), return_counts=True)
    return [
        int(number)
        for number, count in zip(found[counts > 1], counts[counts > 1], strict=True)
        if count > 2 or not may_be_twice(int(number))
    ]


def main() -> None:
    """Do one task."""
    name, url, root, today = sys.argv[1:5]
    logging.disable(logging.CRITICAL)
    task = Task(url, Path(root), date.fromisoformat(today))
    tell(what="ready")
    {"export": task.export, "upkeep": task.upkeep, "serve": task.serve, "watch": task.watch}[name]()
    tell(what="done")


if __name__ == "__main__":
    main()
