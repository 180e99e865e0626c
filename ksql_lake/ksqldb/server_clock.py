"""The server's time, selected through ksqlDB or read from the Date header of a proxy in front of it."""

# If neither is available the result is None; our own clock never replaces the server's.

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol

import msgspec

from ksql_lake.errors import KsqlLakeError
from ksql_lake.ksqldb.listening import Listening
from ksql_lake.ksqldb.response import QueryResponse
from ksql_lake.ksqldb.sql_text import quote_identifier
from ksql_lake.ksqldb.version import ServerVersion
from ksql_lake.ksqldb.wire.answer_events import QueryKind, RowBlock
from ksql_lake.ksqldb.wire.messages import UNREADABLE

FRESH_SECONDS = 600.0
"""Seconds for which the server's answer is reused; the machine's monotonic clock measures the time since."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerTime:
    """A moment by the clock of a server or proxy.

    Attributes:
        moment: The time of that clock (UTC).
        heard: When it was received, in seconds of `time.monotonic`.
        origin: `server`, or a `proxy` in front of it.
    """

    moment: datetime
    heard: float
    origin: Literal["server", "proxy"]

    def at(self, steady: float) -> datetime:
        """Return that clock's time at an instant of ours, in seconds of `time.monotonic`."""
        return self.moment + timedelta(seconds=steady - self.heard)


class ServerClock:
    """The times that one client received from its server."""

    def __init__(self) -> None:
        self._asked: ServerTime | None = None
        self.proxy: ServerTime | None = None

    @property
    def fresh(self) -> ServerTime | None:
        """The server's own time, if it is recent enough."""
        asked = self._asked
        return asked if asked is not None and time.monotonic() - asked.heard < FRESH_SECONDS else None

    def hear(self, milliseconds: int) -> ServerTime:
        """Record the server's time, received now, in epoch milliseconds."""
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
        self._asked = ServerTime(moment, time.monotonic(), "server")
        return self._asked

    def overhear(self, date: str | None) -> None:
        """Record the time of a Date header, if it can be read."""
        if date is None:
            return
        try:
            moment = parsedate_to_datetime(date)
        except ValueError:
            return
        self.proxy = ServerTime(
            moment if moment.tzinfo else moment.replace(tzinfo=UTC), time.monotonic(), "proxy"
        )


class Clocked(Protocol):
    """The part of a client that this module uses."""

    @property
    def clock(self) -> ServerClock:
        """The times received so far."""
        ...

    @property
    def quiet_seconds(self) -> float:
        """Seconds to wait for a push query's first row."""
        ...

    def known_version(self) -> ServerVersion | None:
        """Return the server's version, if it reports one."""
        ...

    def query(
        self,
        sql: str,
        *,
        kind: QueryKind,
        properties: Mapping[str, object] | None = None,
        committed: bool = True,
    ) -> QueryResponse:
        """Send a query."""
        ...

    def listen(
        self, sql: str, *, properties: Mapping[str, object] | None = None, committed: bool = True
    ) -> Listening:
        """Send a push query."""
        ...


def server_time(client: Clocked, stream: str) -> ServerTime | None:
    """Return the server's time; None if neither it nor a proxy reports one.

    Args:
        client: The server.
        stream: The exact name of a stream with at least one row, from which the time is selected.
    """
    if client.clock.fresh is not None:
        return client.clock.fresh
    try:
        milliseconds = first_number(client, stream, "UNIX_TIMESTAMP()")
        if milliseconds is not None:
            return client.clock.hear(milliseconds)
    except (KsqlLakeError, *UNREADABLE, OverflowError, ValueError) as error:
        _log.info("the server does not report its time: %s", error)
    return client.clock.proxy


def first_number(client: Clocked, stream: str, expression: str) -> int | None:
    """Select a whole number from the first row of a stream; None for NULL, or without a row.

    Args:
        client: The server.
        stream: The stream's exact name.
        expression: What to select, as ksqlDB's SQL.

    Raises:
        KsqlLakeError: The query failed.
        ValueError: The answer is no whole number.
    """
    select = f"SELECT {expression} FROM {quote_identifier(stream)}"
    version = client.known_version()
    if version is None or version.limits_pulls:
        # With committed records only, the query would wait for the end of every open transaction.
        with client.query(f"{select} LIMIT 1;", kind=QueryKind.PULL_STREAM, committed=False) as response:
            times = [_number(block) for block in response]
        return times[0] if times else None
    earliest = {"auto.offset.reset": "earliest"}
    with client.listen(f"{select} EMIT CHANGES LIMIT 1;", properties=earliest, committed=False) as pushed:
        block = pushed.next(client.quiet_seconds)
    return _number(block) if isinstance(block, RowBlock) else None


def _number(block: RowBlock) -> int | None:
    row, *_ = msgspec.json.decode(b"[" + bytes(block.data) + b"]")
    (value,) = row["row"]["columns"]
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{value!r} is no whole number")
    return value
