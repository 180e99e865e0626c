"""The HTTP client for ksqlDB: server info, statements, and one streamed query. Usable from several threads."""

# Only requests that can be repeated without harm are retried. A query is one attempt: only its caller can
# repeat it. No exception of requests or urllib3 leaves this module, and no error, log or `repr` holds a secret.

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

import msgspec
import requests

from ksql_lake.errors import (
    IncompleteResponseError,
    KsqlError,
    PropertyRefusedError,
    ProtocolError,
    ServerUnavailableError,
    SettingsError,
    StatementError,
    UnauthorizedError,
)
from ksql_lake.ksqldb.listening import Listening
from ksql_lake.ksqldb.properties import QueryProperties, sent_properties
from ksql_lake.ksqldb.refusals import excerpt, refusal
from ksql_lake.ksqldb.response import Limits, QueryResponse
from ksql_lake.ksqldb.retry import tried
from ksql_lake.ksqldb.server_clock import ServerClock
from ksql_lake.ksqldb.sql_text import limited, only_reads, query_body, shortened, terminated
from ksql_lake.ksqldb.tokens import BEGIN_AT, PROPERTIES, encode_token
from ksql_lake.ksqldb.version import ServerInfo, ServerVersion, parse_version
from ksql_lake.ksqldb.wire.answer_events import QueryKind
from ksql_lake.ksqldb.wire.messages import ENTITIES, INFO, UNREADABLE
from ksql_lake.ksqldb.wire.network import NETWORK_ERRORS, request_failure
from ksql_lake.ksqldb.wire.session import open_session
from ksql_lake.ksqldb.wire.transport import Body, lift_time_limit
from ksql_lake.settings import Settings

logger = logging.getLogger(__name__)

ACCEPT_ROWS = "application/vnd.ksql.v1+json"
"""The response format of exports; always requested, because the server's default differs between versions."""

_CLOSE_TIMEOUT = 3.0
"""Seconds that closing a query may take; short, because it must not delay an error."""
_NODE_CONNECT_TIMEOUT = 5.0
"""Seconds that a connection to a single node of several may take to open."""
_REFUSAL_BYTES = 64 * 1024
"""The most bytes that are read of a refusal's body."""
_ANSWER_BYTES = 32 * 1024 * 1024
"""The most bytes of an answer other than a query's; the list of ten thousand sources is a tenth of it."""
_ANSWER_TIMES = 5
"""Such an answer may take this many read time-outs in all."""


class KsqlClient:
    """One ksqlDB server, or several behind one address. Opens no connection before the first request.

    Args:
        settings: Address, credentials, certificates, time-outs and attempts.
        sleep: Waits between attempts, given seconds.
        properties: The properties that the server is known to refuse; none by default.

    Attributes:
        settings: The settings.
        properties: The properties that every query carries, except those that the server refuses.
        clock: The server's time, if a response held it; `server_time` asks for it.
        requests: How many requests were sent.

    Raises:
        SettingsError: Certificates or credentials cannot be used as they are.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        properties: QueryProperties | None = None,
    ) -> None:
        self.settings = settings
        self.properties = properties or QueryProperties(required=settings.require_properties)
        self.sleep = sleep
        self.clock = ServerClock()
        self.requests = 0
        self._url = settings.ksqldb_url
        self._session = open_session(settings)
        self._signed = settings.ksqldb_user is not None or settings.ksqldb_token is not None
        self._verify: bool | str = str(settings.ksqldb_ca_file) if settings.ksqldb_ca_file else True
        self._connect_timeout = settings.connect_timeout
        self._read_timeout = settings.read_timeout
        self._attempts = settings.attempts
        self._quiet_seconds = settings.quiet_seconds
        self._info: ServerInfo | None = None
        self._unknown = False
        self._info_lock = threading.Lock()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._url

    @property
    def attempts(self) -> int:
        """How many times a retryable request is sent in all."""
        return self._attempts

    @property
    def read_timeout(self) -> float:
        """Seconds that the server may be silent within an answer."""
        return self._read_timeout

    @property
    def quiet_seconds(self) -> float:
        """Seconds without an old row after which a push query counts as caught up by silence."""
        return self._quiet_seconds

    def __repr__(self) -> str:
        return f"KsqlClient({self._url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all idle connections."""
        self._session.close()

    def server_info(self) -> ServerInfo:
        """Ask the server for its version and ids, once; later calls return the first answer.

        Raises:
            ServerUnavailableError: It cannot be reached, or is not ready, after all attempts.
            UnauthorizedError: It does not accept the credentials.
            ProtocolError: The answer is not that of a ksqlDB server.
        """
        with self._info_lock:
            if self._info is None:
                self._info = tried(lambda _: self._ask_info(), self._attempts, sleep=self.sleep)
            return self._info

    def execute(
        self, statement: str, *, properties: Mapping[str, object] | None = None
    ) -> list[dict[str, Any]]:
        """Run one or more statements that are no queries; return one entity per statement.

        Statements that only read (LIST, SHOW, DESCRIBE, EXPLAIN) are retried; all others are sent once.

        Raises:
            StatementError: The server refused the statement.
            ServerUnavailableError: It cannot be reached, or is not ready.
            UnauthorizedError: It does not accept the credentials, or they do not allow this.
            ProtocolError: The answer is not that of a ksqlDB server.
        """
        body: dict[str, object] = {"ksql": terminated(statement), "streamsProperties": dict(properties or {})}
        if only_reads(statement):
            return tried(lambda _: self._run(body), self._attempts, sleep=self.sleep)
        try:
            return self._run(body)
        except (ServerUnavailableError, IncompleteResponseError) as error:
            error.hint += " If the statement was sent it may have run: check that before you send it again."
            raise

    def listen(
        self, sql: str, *, properties: Mapping[str, object] | None = None, committed: bool = True
    ) -> Listening:
        """Send one push query, in one attempt, and return a context manager that reads its rows.

        Raises:
            KsqlError: The server refused, was busy, broke off or could not be reached; see `recovery`.
        """
        return Listening(self.query(sql, kind=QueryKind.PUSH, properties=properties, committed=committed))

    def listen_from(self, sql: str, offsets: Sequence[int]) -> Listening:
        """Send one push query that begins at offsets of its source's topic, in one attempt; see `tokens`.

        Raises:
            KsqlError: As for `listen`.
        """
        return Listening(self._ask(sql, QueryKind.PUSH, PROPERTIES, {BEGIN_AT: encode_token(offsets)}))

    def query(
        self,
        sql: str,
        *,
        kind: QueryKind,
        properties: Mapping[str, object] | None = None,
        request: Mapping[str, object] | None = None,
        committed: bool = True,
    ) -> QueryResponse:
        """Send one query, in one attempt, and return its answer, read up to the header.

        If the server refuses a property, the query is sent again without it, and so are all later queries.

        Args:
            sql: The SELECT statement.
            kind: The kind of query; decides what proves the answer complete.
            properties: Streams properties for this query, beside those that every query carries.
            request: Request properties for this query.
            committed: Whether to leave out records of aborted and open transactions (streams and push queries).

        Raises:
            KsqlError: The server refused, was busy, broke off or could not be reached; see `recovery`.
        """
        while True:
            wanted = self.properties.wanted(kind, self.known_version(), committed=committed)
            try:
                return self._ask(sql, QueryKind(kind), {**wanted, **(properties or {})}, request)
            except PropertyRefusedError as refused:
                self.learn(refused)
                # The result of `learn` does not matter: another thread may have learned the same before.
                if self.properties.wanted(kind, self.known_version(), committed=committed) == wanted:
                    raise

    def learn(self, refused: PropertyRefusedError) -> bool:
        """Record a property that the server refuses; return whether a retry without it may help."""
        before = self.properties.refused
        again = self.properties.learn(refused)
        for lost in self.properties.refused:
            if lost not in before:
                logger.warning("the server at %s refuses %s", self._url, lost)
        return again

    def known_version(self) -> ServerVersion | None:
        """Return the server's version; None if /info reports none, which counts as the newest.

        Raises:
            ServerUnavailableError: It cannot be reached, or is not ready, after all attempts.
        """
        if self._unknown:
            return None
        try:
            return self.server_info().version
        except (ProtocolError, StatementError, UnauthorizedError) as error:
            self._unknown = True
            logger.warning("the server's version is unknown, the strictest rules apply: %s", error.message)
            return None

    def node(self, url: str, *, signed: bool) -> KsqlClient:
        """Return a client of another node of the same service, which shares the record of refused properties.

        Args:
            url: The node's address.
            signed: Whether the node gets the credentials.
        """
        # One try: a caller with several nodes asks the next one.
        quick = min(self._connect_timeout, _NODE_CONNECT_TIMEOUT)
        changes: dict[str, object] = {"ksqldb_url": url, "attempts": 1, "connect_timeout": quick}
        if not signed:
            changes |= {"ksqldb_user": None, "ksqldb_password": None, "ksqldb_token": None}
        return KsqlClient(
            self.settings.model_copy(update=changes), sleep=self.sleep, properties=self.properties
        )

    def _ask(
        self,
        sql: str,
        kind: QueryKind,
        properties: Mapping[str, object],
        request: Mapping[str, object] | None,
    ) -> QueryResponse:
        sent = sent_properties(properties)
        settings = self.settings
        with ExitStack() as unless_handed_out:
            response = self._send("POST", "/query", query_body(sql, properties, request))
            unless_handed_out.callback(response.close)
            if response.status_code != 200:
                raise self._refusal(response).at(server=self._url, statement=shortened(sql))
            body = Body(response, url=self._url, read_timeout=self._read_timeout)
            few = limited(sql)
            # A query with a LIMIT is a look-up, so it may not stall as long as an export's query.
            stall = min(settings.stall_timeout, self._read_timeout) if few else settings.stall_timeout
            limits = Limits(settings.max_row_mb * 1_000_000, stall, limited=few)
            answer = QueryResponse(self, response, body, kind=kind, sent=sent, limits=limits).begin()
            if kind is QueryKind.PUSH and not sent.legacy:
                lift_time_limit(response)
            if kind is not QueryKind.PULL_STREAM:
                body.receive_ahead(limit=settings.spool_mb * 1_000_000)
            unless_handed_out.pop_all()
            return answer

    def close_query(self, query_id: str) -> None:
        """End a push query or stream pull; no error if it has ended already.

        Raises:
            KsqlError: The server could not be reached in time, or refused.
        """
        # A 400 means that the query has ended already.
        with suppress(StatementError):
            self._exchange("POST", "/close-query", {"queryId": query_id}, timeout=_CLOSE_TIMEOUT)

    def _ask_info(self) -> ServerInfo:
        content = self._exchange("GET", "/info")
        try:
            info = INFO.decode(content).info
        except UNREADABLE as error:
            raise self._not_ksqldb(content) from error
        return ServerInfo(
            parse_version(info.version), info.kafka_cluster_id, info.ksql_service_id, info.server_status
        )

    def _run(self, body: dict[str, object]) -> list[dict[str, Any]]:
        content = self._exchange("POST", "/ksql", body)
        try:
            return ENTITIES.decode(content)
        except UNREADABLE as error:
            raise self._not_ksqldb(content) from error

    def _exchange(
        self, method: str, path: str, body: dict[str, object] | None = None, *, timeout: float | None = None
    ) -> bytes:
        """Send a request and read its whole answer."""
        with self._send(method, path, body, timeout=timeout) as response:
            if response.status_code != 200:
                where = {"statement": shortened(str(body["ksql"]))} if body and "ksql" in body else {}
                raise self._refusal(response).at(server=self._url, **where)
            return self._whole(response, read_timeout=timeout or self._read_timeout)

    def _whole(self, response: requests.Response, *, read_timeout: float) -> bytes:
        """Read an answer's whole body, within limits of size and time."""
        body = Body(response, url=self._url, read_timeout=read_timeout)
        parts: list[bytes] = []
        last = time.monotonic() + _ANSWER_TIMES * read_timeout
        while part := body.read():
            parts.append(part)
            if body.bytes_read > _ANSWER_BYTES:
                raise ProtocolError(
                    f"the answer is longer than {_ANSWER_BYTES:,} bytes",
                    hint="Is KSQLDB_URL the address of a ksqlDB server, without a path?",
                    server=self._url,
                )
            if time.monotonic() > last:
                raise ServerUnavailableError(
                    f"the answer did not end within {_ANSWER_TIMES * read_timeout:g} s",
                    hint="Does a proxy between here and the server delay it?",
                    server=self._url,
                )
        return b"".join(parts)

    def _send(
        self, method: str, path: str, body: dict[str, object] | None = None, *, timeout: float | None = None
    ) -> requests.Response:
        """Send a request and read its answer's head."""
        connect, read = timeout or self._connect_timeout, timeout or self._read_timeout
        self.requests += 1
        try:
            response = self._session.request(
                method,
                f"{self._url}{path}",
                data=None if body is None else msgspec.json.encode(body),
                headers={"Accept": ACCEPT_ROWS, "Content-Type": "application/json"},
                timeout=(connect, read),
                # Set with each request, because REQUESTS_CA_BUNDLE overrides the session's setting.
                verify=self._verify,
                allow_redirects=False,
                stream=True,
            )
        except NETWORK_ERRORS as error:
            failure = request_failure(error, url=self._url, connect_timeout=connect, read_timeout=read)
            # Errors about an address repeat it, and a proxy's may hold a password.
            raise failure from (None if isinstance(failure, SettingsError) else error)
        self.clock.overhear(response.headers.get("Date"))
        return response

    def _refusal(self, response: requests.Response) -> KsqlError:
        body = Body(response, url=self._url, read_timeout=self._read_timeout, patience=self._read_timeout)
        content = b""
        # If the body cannot be read, the status is enough.
        with suppress(KsqlError):
            content = body.read(_REFUSAL_BYTES)[:_REFUSAL_BYTES]
        response.close()
        return refusal(response.status_code, content, reason=response.reason, signed=self._signed)

    def _not_ksqldb(self, content: bytes) -> ProtocolError:
        return ProtocolError(
            f"the answer is not that of a ksqlDB server: {excerpt(content)}",
            hint="Is KSQLDB_URL the address of a ksqlDB server, without a path?",
            server=self._url,
        )
