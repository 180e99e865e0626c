"""Switches for faults: which fault, for which source, after how many rows, how often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ksql_lake.devserver.ksql_errors import NOT_READY, TOO_MANY_REQUESTS, RefusedError, bad_request

RequestFault = Literal["not_ready", "busy", "drop", "prohibit", "session_limit", "wrong_context"]
QueryFault = Literal[
    "cut_row",
    "cut_chunk",
    "reset",
    "error",
    "no_final",
    "no_bracket",
    "short",
    "duplicate",
    "hang",
    "slow",
    "endless",
    "overshoot",
    "replay",
    "no_positions",
    "failure",
    "stall",
    "stranger_close",
    "session_lost",
    "slow_reader",
    "forward_lost",
    "unrestored",
    "topic_deleted",
]
TokenFault = Literal[
    "not_scalable", "catch_ups_full", "repeated_batch", "overlapping_batch", "short_batch", "skipped_batch"
]
LagFault = Literal["lag", "repartition_lag", "dead_task"]
TOKEN_FAULTS = (
    "not_scalable",
    "catch_ups_full",
    "repeated_batch",
    "overlapping_batch",
    "short_batch",
    "skipped_batch",
)
LAG_FAULTS = ("lag", "repartition_lag", "dead_task")
REQUEST_FAULTS = ("not_ready", "busy", "drop", "prohibit", "session_limit", "wrong_context")
STOPPING = (
    "cut_row",
    "cut_chunk",
    "reset",
    "error",
    "hang",
    "short",
    "no_final",
    "no_bracket",
    "failure",
    "stall",
    "stranger_close",
)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One switch.

    Kinds that concern a request: `not_ready` (every route but /chc answers 503), `busy` (queries get 429),
    `drop` (queries: the connection closes without an answer), `prohibit` (a request that overrides `property`
    gets 400/40000), `session_limit` (a query whose consumer asks for a session time-out over `limit_ms`
    fails at once, as with a broker's group.max.session.timeout.ms), `wrong_context` (/close-query answers 500).
    Kinds that concern a query, all after `after_rows` whole rows (None: after the last): `cut_row` (TCP
    closes in the middle of the next row), `cut_chunk` (TCP closes between two rows and two HTTP chunks),
    `reset` (TCP reset), `error` (errorMessage), `no_final` (clean end with `]` but without finalMessage),
    `no_bracket` (clean HTTP end, no `]` either), `short` (clean and complete-looking end), `hang`
    (silence), `stall` (no more rows; the older writer goes on sending newlines), `failure` (a failure of
    the server: the newer writer loses the error of a table pull), `stranger_close` (another client's
    /close-query: the newer writer ends with `Query Completed`). And for whole queries: `duplicate` (the
    last `rows` rows come twice), `slow` (`rows_per_second`), `endless` (a push query that never runs out of
    rows), `overshoot` (a stream pull also sends rows that arrived after it began, at most one per
    partition), `replay` (a push query sends the `rows` rows before `after_rows` once more, and then goes on
    from there), `no_positions` (SHOW QUERIES EXTENDED does not list the query), `session_lost` (like
    `replay`, for every query of a stream whose consumer would not outlive a pause of `pause_ms`),
    `slow_reader` (a table pull or push query whose client reads nothing for `pause_ms` is cut off),
    `forward_lost` (`rows` rows of each other node get lost on their way), `unrestored` (a table's store
    cannot be read), `topic_deleted` (the source's topic is gone).

    Kinds that concern a query with continuation tokens: `not_scalable` (it is an ordinary push query, and its
    token is ignored), `catch_ups_full` (as if all places for catch-ups were taken), and after the first batch
    that ends after `after_rows` rows (None: that reaches the end of the log): `repeated_batch` (the last
    `rows` rows come again, with a token whose range is empty), `overlapping_batch` (the next batch begins
    `rows` records earlier in each partition), `short_batch` (its last `rows` rows do not come),
    `skipped_batch` (the next batch begins `rows` records later in each partition).

    Kinds that delay a persistent query, `source` naming what it writes, until they are switched off: `lag`
    (it leaves the last `rows` records of each partition unread), `repartition_lag` (the same of its repartition
    topic), `dead_task` (it reads `partition` no further).

    Attributes:
        after_rows: Whole rows before the fault; None means all of them.
        source: Only queries of this source; None means any.
        times: For how many queries or requests; None means until switched off.
        message: Text of `error`.
        code: Error code of `error`.
        rows: How many rows `duplicate` and `replay` repeat, `lag` and `repartition_lag` leave unread, and the
            batches of continuation tokens have too many or too few.
        partition: The one at which `dead_task` stops.
        rows_per_second: Speed of `slow`.
        pause_ms: Length of the pause of `session_lost`, or of the patience of `slow_reader`.
        property: Name of the property that `prohibit` refuses.
        limit_ms: The broker's limit of `session_limit`.
    """

    kind: RequestFault | QueryFault | TokenFault | LagFault
    after_rows: int | None = None
    source: str | None = None
    times: int | None = None
    message: str = "java.lang.RuntimeException: boom"
    code: int = 50000
    rows: int = 1
    partition: int = 0
    rows_per_second: float = 100.0
    pause_ms: int = 55_000
    property: str = ""
    limit_ms: int = 1_800_000


@dataclass(frozen=True, slots=True)
class ReadLimit:
    """How far a query may read.

    Attributes:
        source: Its limit in its source, by partition; a missing partition is read to its end.
        unread: Records that it leaves unread at the end of each partition of its repartition topic.
    """

    source: dict[int, int] = field(default_factory=dict)
    unread: int = 0


class FaultBoard:
    """The faults that are on; they may change while queries run, which keep the faults they took."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._left: list[tuple[Fault, int | None]] = []
        self._held: tuple[Fault, ...] = ()
        self.set(faults)
        self.hold(faults)

    def set(self, faults: tuple[Fault, ...]) -> None:
        """Replace all switches except those that delay persistent queries."""
        with self._lock:
            self._left = [(fault, fault.times) for fault in faults if fault.kind not in LAG_FAULTS]

    def hold(self, faults: tuple[Fault, ...]) -> None:
        """Replace the switches that delay persistent queries, which all nodes of a service share."""
        with self._lock:
            self._held = tuple(fault for fault in faults if fault.kind in LAG_FAULTS)

    def current(self) -> list[Fault]:
        """Return the faults that are on now, with `times` as what is left."""
        with self._lock:
            switched = [
                fault if left is None else msgspec.structs.replace(fault, times=left)
                for fault, left in self._left
            ]
            return [*switched, *self._held]

    def take_for_query(self, source: str, *, tokens: bool = False) -> tuple[Fault, ...]:
        """Return the faults of the query that starts now.

        Args:
            source: The source it reads.
            tokens: Whether it asks for continuation tokens, and could have them.
        """
        others = REQUEST_FAULTS if tokens else (*REQUEST_FAULTS, *TOKEN_FAULTS)
        return self._take(lambda fault: fault.kind not in others and fault.source in (None, source))

    def take_for_request(self, *, query: bool, probe: bool) -> Fault | None:
        """Return the fault of the request that arrives now.

        Args:
            query: Whether it is a /query or /query-stream.
            probe: Whether it is a /chc route, which answers even when the server is not ready.
        """
        kinds = (() if probe else ("not_ready",)) + (("busy", "drop") if query else ())
        taken = self._take(lambda fault: fault.kind in kinds, most=1)
        return taken[0] if taken else None

    def reach(self, name: str, ends: Mapping[int, int], positions: Mapping[int, int]) -> ReadLimit:
        """Return how far a persistent query may read; these switches stay on until they are switched off.

        Args:
            name: The query's sink, or the source table that it reads.
            ends: Where its source's partitions end.
            positions: How far it has read them.
        """
        names = (None, name)
        held = [fault for fault in self._held if fault.source in names]
        limits: dict[int, int] = {}
        for fault in held:
            if fault.kind == "lag":
                behind = {number: max(0, end - fault.rows) for number, end in ends.items()}
                limits = {number: min(limits.get(number, end), end) for number, end in behind.items()}
            elif fault.kind == "dead_task":
                limits[fault.partition] = positions.get(fault.partition, 0)
        unread = max((fault.rows for fault in held if fault.kind == "repartition_lag"), default=0)
        return ReadLimit(limits, unread)

    def take_prohibited(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the names that may not be overridden."""
        given = set(names)
        taken = self._take(lambda fault: fault.kind == "prohibit" and fault.property in given)
        return tuple(fault.property for fault in taken)

    def take_session_limit(self, session_ms: int) -> bool:
        """Whether the broker refuses a consumer with this session time-out."""
        return bool(self._take(lambda fault: fault.kind == "session_limit" and session_ms > fault.limit_ms))

    def take_wrong_context(self) -> bool:
        """Whether this /close-query fails."""
        return bool(self._take(lambda fault: fault.kind == "wrong_context", most=1))

    def _take(self, applies: Callable[[Fault], bool], most: int | None = None) -> tuple[Fault, ...]:
        taken: list[Fault] = []
        kept: list[tuple[Fault, int | None]] = []
        with self._lock:
            for fault, left in self._left:
                wanted = applies(fault) and (most is None or len(taken) < most)
                if wanted:
                    taken.append(fault)
                remaining = left - 1 if wanted and left is not None else left
                if remaining is None or remaining > 0:
                    kept.append((fault, remaining))
            self._left = kept
        return tuple(taken)


def refusal_of(fault: Fault) -> RefusedError:
    """Return the answer to a request that a `not_ready` or `busy` fault strikes."""
    if fault.kind == "not_ready":
        return RefusedError(
            "KSQL is not yet ready to serve requests.",
            status=503,
            code=NOT_READY,
            statement=None,
            shown="bare",
        )
    return RefusedError(
        "Host is at rate limit for pull queries. Currently set to 1.0 qps.",
        status=429,
        code=TOO_MANY_REQUESTS,
        statement=None,
    )


def parse_faults(body: bytes) -> tuple[Fault, ...]:
    """Read a JSON array of faults.

    Raises:
        RefusedError: It is no such array; the error names the key.
    """
    try:
        return tuple(msgspec.json.decode(body, type=list[Fault]))
    except msgspec.DecodeError as error:
        raise bad_request(f"Not a list of faults: {error}") from None


def fault_text(fault: Fault) -> str:
    """Return a fault as text for the command line."""
    pairs = {key: value for key, value in msgspec.to_builtins(fault).items() if key != "kind"}
    return f"{fault.kind}:" + ",".join(f"{key}={value}" for key, value in pairs.items())


def parse_fault(text: str) -> Fault:
    """Read a command-line fault such as `cut_row:after_rows=100,times=1`.

    Raises:
        RefusedError: It is no such text; the error names the key.
    """
    kind, _, rest = text.partition(":")
    pairs = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    try:
        return msgspec.convert({"kind": kind, **pairs}, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise bad_request(f"{text!r} is not a fault: {error}") from None
