"""A real server process, a real client and a lake, for tests of exports by push query."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import requests

from ksql_lake.export import Days, ExportResult, extract, land, plan_export
from ksql_lake.feeds.model import FEED_ADAPTER, Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.doctor import examine, repair
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.settings import load_settings

PATIENCE = 60.0
QUIET = 0.4
DAY = 86_400_000
FIRST = 1_736_121_600_000
"""2025-01-06, in epoch ms."""
ASIDES = ("SELECT ROWPARTITION, ROWO", "SELECT UNIX_TIMESTAMP()")
"""How the queries begin that only look where a source ends, or what time it is."""
DAYS = Days(date(2025, 1, 6), date(2025, 1, 9))


def feed(name: str, **keys: object) -> Feed:
    """A feed that is read by push query; a stream unless it says otherwise."""
    given: dict[str, object] = {
        "name": name,
        "kind": "stream",
        "source": name.upper(),
        "extraction": "push",
        **keys,
    }
    if given["kind"] == "stream":
        given.setdefault("start_date", "2025-01-06")
    return FEED_ADAPTER.validate_python(given)


@dataclass(frozen=True)
class Server:
    """One devserver, asked over HTTP."""

    url: str

    def ksql(self, text: str) -> list[dict[str, Any]]:
        """Run statements."""
        body = {"ksql": text, "streamsProperties": {"auto.offset.reset": "earliest"}}
        answer = requests.post(f"{self.url}/ksql", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def append(self, source: str, *rows: Mapping[str, object]) -> None:
        """Append rows."""
        body = "\n".join(json.dumps(dict(row)) for row in rows)
        answer = requests.post(f"{self.url}/devserver/sources/{source}/rows", data=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text

    def faults(self, *faults: Mapping[str, object]) -> None:
        """Switch faults."""
        answer = requests.put(f"{self.url}/devserver/faults", json=list(faults), timeout=PATIENCE)
        assert answer.status_code == 200, answer.text

    def asked(self, source: str) -> list[dict[str, Any]]:
        """The queries that read a source so far, and how they went, without those `ASIDES`."""
        queries = requests.get(f"{self.url}/devserver/queries", timeout=PATIENCE).json()
        reading = [query for query in queries if not query["statement"].startswith(ASIDES)]
        return [query for query in reading if f"`{source}`" in query["statement"]]

    def running(self) -> list[str]:
        """The queries that run."""
        return list(requests.get(f"{self.url}/devserver", timeout=PATIENCE).json()["queries"])

    def export(
        self,
        root: Path | str,
        wanted: Feed,
        *,
        days: Days | None = DAYS,
        new_topic: bool = False,
        **settings: object,
    ) -> ExportResult:
        """Export a feed with a client of its own; by default with one attempt and a short quiet period."""
        quick = {"ksqldb_url": self.url, "attempts": 1, "read_timeout": 30, "quiet_seconds": QUIET}
        with KsqlClient(load_settings(**quick | settings), sleep=lambda _seconds: None) as client:
            given = days if wanted.kind == "stream" else None
            plan = plan_export(wanted, Lake(root), days=given, new_topic=new_topic)
            return land(extract(plan, client), Lake(root))


def row(number: int, *, day: int = 0, **keys: object) -> dict[str, object]:
    """A row of a stream."""
    return {"ID": number, "NOTE": f"n{number % 3}", "ROWTIME": FIRST + day * DAY + number, **keys}


def lose(root: Path, wanted: Feed, number: int, *, files: bool = False) -> None:
    """Lose a stream's commit, and with `files` its data too."""
    layout = FeedLayout("stream", wanted.name)
    (root / layout.manifest(number)).unlink()
    for path in root.glob(f"{layout.dataset}/**/*_{number:06d}.parquet") if files else ():
        path.unlink()


def repaired(root: Path, wanted: Feed) -> None:
    """Run doctor with all repairs; nothing is left to repair."""
    storage, layout = Lake(root).storage, FeedLayout("stream", wanted.name)
    list(repair(storage, examine(storage, layout), apply=True))
    assert examine(storage, layout).sound


def held(root: Path | str, wanted: Feed) -> Counter[int]:
    """The ids that an independent reader sees in the lake, with their multiplicity."""
    path = f"{root}/streams/{wanted.name}/*/*/*/*.parquet"
    found = duckdb.execute(f"SELECT ID FROM read_parquet('{path}')").fetchall()
    return Counter(number for (number,) in found)


def snapshot(root: Path | str, wanted: Feed, version: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """The rows of a table's version as an independent reader sees them, sorted."""
    path = f"{root}/tables/{wanted.name}/version={version}/*.parquet"
    rows = duckdb.execute(f"SELECT {columns} FROM read_parquet('{path}', hive_partitioning = false)").fetchall()
    return sorted(rows, key=repr)
