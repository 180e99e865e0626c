"""The properties that every query carries, and those that a server refuses; see docs/completeness.md."""

# The server's defaults deliver records of aborted transactions, deliver rows twice after a pause, and end a
# failed table pull like a whole one.

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from ksql_lake.errors import PropertyRefusedError
from ksql_lake.ksqldb.version import ServerVersion
from ksql_lake.ksqldb.wire.answer_events import QueryKind

LEGACY_WRITER = "ksql.endpoint.migrate.query"
"""False asks for the older of two writers: it reports errors, sends heartbeats and ends with its client."""
SESSION_TIMEOUT = "ksql.streams.consumer.session.timeout.ms"
POLL_INTERVAL = "ksql.streams.consumer.max.poll.interval.ms"
ISOLATION = "ksql.streams.consumer.isolation.level"
TABLE_SCAN = "ksql.query.pull.table.scan.enabled"

SESSION_STEPS = (1_500_000, 300_000, 60_000)
"""Milliseconds of a consumer's session, tried in this order while the broker refuses; then the server's own."""
_MOST_POLL = 2_147_483_647
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True, slots=True)
class SentProperties:
    """The properties that a query carries.

    Attributes:
        legacy: Whether the older writer was asked for.
        session_ms: Length of the consumer's session; None is the server's default.
        poll: Whether the time between two polls of the consumer is unlimited.
        committed: Whether only committed records were asked for.
    """

    legacy: bool = False
    session_ms: int | None = None
    poll: bool = False
    committed: bool = False

    @property
    def rows_may_repeat(self) -> bool:
        """Whether a pause of server, broker or client may make the server read rows twice."""
        return self.session_ms != SESSION_STEPS[0] or not self.poll


class QueryProperties:
    """The properties of one server's queries, and those that it refuses. Usable from several threads.

    Args:
        required: Whether a refused property is an error instead of weaker evidence.
    """

    def __init__(self, *, required: bool = False) -> None:
        self._required = required
        self._lock = threading.Lock()
        self._refused: set[str] = set()
        self._session = 0

    @property
    def refused(self) -> tuple[str, ...]:
        """The refused properties and what is lost without them, as sentences, sorted."""
        with self._lock:
            names = sorted(self._refused)
            session = self._session
        lost = [f"{name}: {_LOST[name]}" for name in names]
        if 0 < session < len(SESSION_STEPS):
            seconds = SESSION_STEPS[session] // 1000
            lost.append(f"{SESSION_TIMEOUT} above {seconds} s: rows may repeat after a longer pause")
        return tuple(lost)

    def wanted(self, kind: QueryKind, version: ServerVersion | None, *, committed: bool) -> dict[str, object]:
        """Return the properties for one query.

        Args:
            kind: The kind of query.
            version: The server's version; None counts as the newest.
            committed: Whether to leave out records of aborted and open transactions.

        Raises:
            PropertyRefusedError: Only committed records are wanted, and the server does not allow the property.
        """
        with self._lock:
            refused, session = set(self._refused), self._session
        found: dict[str, object] = {}
        if version is None or version.has_two_writers:
            found[LEGACY_WRITER] = False
        if kind is QueryKind.PULL_TABLE:
            if version is not None and not version.scans_tables:
                found[TABLE_SCAN] = True
            return {name: value for name, value in found.items() if name not in refused}
        if committed and ISOLATION in refused:
            raise PropertyRefusedError(
                f"this server does not let a query ask for committed records only ({ISOLATION})",
                hint='Ask its administrator to allow the property, or set "isolation": "uncommitted" in the '
                "feed file: records of aborted and of open transactions then land too.",
                names=(ISOLATION,),
            )
        if session < len(SESSION_STEPS):
            found[SESSION_TIMEOUT] = SESSION_STEPS[session]
        found[POLL_INTERVAL] = _MOST_POLL
        if committed:
            found[ISOLATION] = "read_committed"
        return {name: value for name, value in found.items() if name not in refused}

    def learn(self, error: PropertyRefusedError) -> bool:
        """Record a refused property; return whether a retry without it may help."""
        known = {name for name in _LOST if any(_same(name, named) for named in error.names)}
        if self._required or not known:
            return False
        with self._lock:
            if error.session_ms is None:
                fresh = known - self._refused
                self._refused |= fresh
                return bool(fresh)
            if error.session_ms not in SESSION_STEPS:
                return False
            # Several queries may fail with the same session length at once; that is one step down, not several.
            self._session = max(self._session, SESSION_STEPS.index(error.session_ms) + 1)
            if self._session == len(SESSION_STEPS):
                self._refused.add(SESSION_TIMEOUT)
            return True


_LOST = {
    LEGACY_WRITER: "failed answers may end like whole ones, so nothing is proven",
    SESSION_TIMEOUT: "rows may repeat after a pause",
    POLL_INTERVAL: "rows may repeat after a pause",
    ISOLATION: "records of aborted and open transactions cannot be left out",
    TABLE_SCAN: "tables cannot be read whole by pull queries",
}


def sent_properties(sent: Mapping[str, object]) -> SentProperties:
    """Return which of the properties a query carries."""
    session = sent.get(SESSION_TIMEOUT)
    return SentProperties(
        legacy=sent.get(LEGACY_WRITER) is False,
        session_ms=session if isinstance(session, int) else None,
        poll=POLL_INTERVAL in sent,
        committed=sent.get(ISOLATION) == "read_committed",
    )


def named_properties(text: str) -> tuple[str, ...]:
    """Find the names of properties in a refusal's text."""
    return tuple(dict.fromkeys(_NAME.findall(text)))


def _same(name: str, named: str) -> bool:
    """Whether a server names a property that we sent, with or without its prefix."""
    return name == named or name.endswith(f".{named}")
