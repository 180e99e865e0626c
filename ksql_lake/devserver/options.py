"""How a server is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ksql_lake.devserver.faults import Fault
from ksql_lake.devserver.phases import PhaseSeconds
from ksql_lake.devserver.property_rules import SESSION_MS
from ksql_lake.devserver.release import CURRENT


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that can be set when a server starts.

    Attributes:
        port: 0 takes a free one.
        data: Folder of `NAME.sql` and data files.
        sample: Serve the payments sample.
        sample_rows: Rows of the sample's largest stream; the others follow in proportion.
        sample_days: Days of the sample, from 2025-01-06 on.
        sample_at: Serve the sample as it was at this moment instead; the moment is in the last of its days.
        sample_live: Add the sample's rows up to now, and go on while the server runs.
        user: Name and password that every request must carry (basic), or None.
        token: Bearer token that every request must carry, or None.
        row_chunks: Rows come in the HTTP chunks of the real writers; without it those of streams come in large
            ones, which no ksqlDB does.
        ready_file: Written with the URL once the server answers.
        until_stdin_closes: Stop when the process at the other end of standard input has ended.
        memory_limit: DuckDB's, e.g. `2GB`.
        nodes: Processes that serve one service, on ports from `port` on.
        node: The number of this process among them; None where it serves alone.
        broker: Host and port of the process that started the nodes.
        session_seconds: Seconds of silence after which a group drops a member: a node, whose partitions the
            others take, or a query's consumer. None means 3 (nodes) and Kafka's 45 (consumers).
        lag_reporting: Whether to imitate `ksql.heartbeat.enable` and `ksql.lag.reporting.enable`.
        phases: How long starting, restoring and so on take.
        settings: `NAME=VALUE` of the server's own settings; see `properties.SETTABLE`.
        token_seconds: Seconds without a row after which a query with continuation tokens sends one.
    """

    host: str = "127.0.0.1"
    port: int = 8088
    data: Path | None = None
    sample: bool = False
    sample_rows: int = 100_000
    sample_days: int = 14
    sample_at: datetime | None = None
    sample_live: bool = False
    server_version: str = CURRENT
    faults: tuple[Fault, ...] = field(default=())
    user: tuple[str, str] | None = None
    token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    row_chunks: bool = True
    ready_file: Path | None = None
    until_stdin_closes: bool = False
    memory_limit: str | None = None
    nodes: int = 1
    node: int | None = None
    broker: str | None = None
    session_seconds: float | None = None
    lag_reporting: bool = False
    phases: PhaseSeconds = field(default_factory=PhaseSeconds)
    settings: tuple[str, ...] = ()
    token_seconds: float = 5.0

    @property
    def node_session(self) -> float:
        """Seconds without a heartbeat after which the other nodes take a node's partitions."""
        return 3.0 if self.session_seconds is None else self.session_seconds

    @property
    def consumer_session_ms(self) -> float:
        """Milliseconds of silence after which the group of a query's consumer drops it."""
        return SESSION_MS if self.session_seconds is None else self.session_seconds * 1000
