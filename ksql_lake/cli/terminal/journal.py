"""Logs as JSON lines on standard error (KSQL_LAKE_LOG=json), one object a line and nothing else."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from datetime import UTC, datetime
from typing import TextIO

from ksql_lake.telemetry import fields, trace

RUN = uuid.uuid4().hex
"""The fields that all records of this process share."""

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            "run": RUN,
            **fields(),
            **{key: value for key, value in vars(record).items() if key not in _PLAIN},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


ALWAYS_TOLD = ("ksql_lake.ksqldb.wire.session", "ksql_lake.settings")
"""The loggers whose warnings every command shows: unencrypted credentials, variables without effect."""


class _Journal:
    handler: logging.StreamHandler[TextIO] | None = None


def watch(*, log_format: str, otel_endpoint: str | None) -> None:
    """Set up logs and traces as the settings say."""
    trace(otel_endpoint)
    if log_format == "json" and _Journal.handler is None:
        _Journal.handler = logging.StreamHandler(sys.stderr)
        _Journal.handler.setFormatter(_JsonLines())
        log = logging.getLogger("ksql_lake")
        log.addHandler(_Journal.handler)
        log.setLevel(logging.INFO)


def journal() -> logging.Logger | None:
    """Return the logger for notes and errors; None when standard error is for people."""
    return logging.getLogger("ksql_lake.cli") if _Journal.handler else None
