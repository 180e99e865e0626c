"""An export in a process of its own, so that it can be killed anywhere, and what it says of itself."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ksql_lake.errors import KsqlLakeError
from ksql_lake.export import extract, land, plan_export
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.settings import load_settings
from ksql_lake_tests.tokenloop.world import feed

QUIET = 0.4


@dataclass
class Export:
    """A running export.

    Attributes:
        pid: Its process.
    """

    pid: int
    _pipe: int

    @classmethod
    def start(cls, root: Path, url: str, *, new_topic: bool = False, pulled: bool = False) -> Self:
        """Start one; only without threads."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            return cls(pid, reader)
        try:
            os.close(reader)
            told = _exported(root, url, new_topic=new_topic, pulled=pulled)
            os.write(writer, json.dumps(told).encode())
        finally:
            # Neither the parent's buffers nor its exit handlers are the child's business.
            os._exit(0)

    def kill(self) -> None:
        """End it as a crash would."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> dict[str, Any]:
        """Wait for its end; gives what it said, nothing if it was killed."""
        parts = []
        while part := os.read(self._pipe, 65_536):
            parts.append(part)
        os.close(self._pipe)
        os.waitpid(self.pid, 0)
        text = b"".join(parts)
        found: dict[str, Any] = json.loads(text) if text else {}
        return found


def _exported(root: Path, url: str, *, new_topic: bool, pulled: bool) -> dict[str, Any]:
    logging.disable()
    wanted, lake = feed(), Lake(root)
    if pulled:
        wanted = wanted.model_copy(update={"extraction": "pull"})
    settings = load_settings(ksqldb_url=url, attempts=4, read_timeout=20, quiet_seconds=QUIET)
    try:
        with KsqlClient(settings, sleep=lambda seconds: time.sleep(min(seconds, 1.0))) as client:
            result = land(extract(plan_export(wanted, lake, new_topic=new_topic), client), lake)
    except KsqlLakeError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except Exception:  # noqa: BLE001 - whatever else it meets is what the loop is to find
        return {"error": "defect", "text": traceback.format_exc()[-2000:]}
    return {
        "new": result.new,
        "received": result.received,
        "fell_back": result.fell_back,
        "pulled": pulled,
        "query": result.query_id,
        "level": result.evidence.level if result.evidence else "",
    }
