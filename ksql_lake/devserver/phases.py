"""The phases of a server's life: starting, assigning partitions, restoring, running, shutting down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from ksql_lake.devserver.ksql_errors import RefusedError, bad_request

SHUTDOWN_SHARES = {"pushes_end": 3 / 37, "unqueryable": 7 / 37, "streams_cut": 15 / 37, "over": 1.0}
"""When things happen in a shutdown, as shares of its length; a real server takes 37 seconds."""


@dataclass(frozen=True, slots=True)
class PhaseSeconds:
    """How long each phase lasts, in seconds.

    Attributes:
        starting: Every request gets a 503, from the moment the process listens.
        locating: After that, table pulls cannot find the node that holds the partitions.
        restoring: After that, table pulls cannot read their stores; also after each takeover of a partition.
        stopping: From SIGTERM to the end of the process; requests are still answered.
    """

    starting: float = 0.0
    locating: float = 0.0
    restoring: float = 0.0
    stopping: float = 0.0


def parse_phases(texts: tuple[str, ...]) -> PhaseSeconds:
    """Read `NAME=SECONDS` texts.

    Raises:
        RefusedError: A text has another form, or names no phase.
    """
    known = {item.name for item in fields(PhaseSeconds)}
    given: dict[str, float] = {}
    for text in texts:
        name, _, seconds = text.partition("=")
        try:
            given[name] = float(seconds)
        except ValueError:
            raise bad_request(f"{text!r} is not a phase such as restoring=2.5") from None
        if name not in known or given[name] < 0:
            raise bad_request(f"{text!r} is not a phase: NAME=SECONDS with one of {', '.join(sorted(known))}")
    return PhaseSeconds(**given)


@dataclass(eq=False)
class Phases:
    """The phase of one server's life.

    Attributes:
        ready: What must hold before the server leaves its starting phase.
    """

    seconds: PhaseSeconds = field(default_factory=PhaseSeconds)
    ready: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        self._listening = time.monotonic()
        self._stopping: float | None = None

    def listen(self) -> None:
        """Begin the first phase: the process answers from now on."""
        self._listening = time.monotonic()

    def stop(self) -> None:
        """Begin the last phase: the process was asked to stop."""
        self._stopping = self._stopping or time.monotonic()

    def _age(self) -> float:
        return time.monotonic() - self._listening

    @property
    def starting(self) -> bool:
        """Whether every request gets a 503."""
        return self._age() < self.seconds.starting or not self.ready()

    @property
    def locating(self) -> bool:
        """Whether the owners of the partitions are still unknown."""
        return self._age() < self.seconds.starting + self.seconds.locating

    @property
    def restoring(self) -> bool:
        """Whether the stores cannot be read yet."""
        return self._age() < self.seconds.starting + self.seconds.locating + self.seconds.restoring

    @property
    def stopping(self) -> bool:
        """Whether the process was asked to stop."""
        return self._stopping is not None

    @property
    def unqueryable(self) -> bool:
        """Whether the persistent queries have ended already."""
        return self.past("unqueryable")

    def past(self, event: str) -> bool:
        """Whether an event of the shutdown is due."""
        if self._stopping is None:
            return False
        return time.monotonic() - self._stopping >= self.seconds.stopping * SHUTDOWN_SHARES[event]

    def check_tables(self) -> None:
        """Refuse a table pull that this phase cannot answer.

        Raises:
            RefusedError: The phase cannot answer it; in ksqlDB's words.
        """
        if self._stopping is not None:
            raise RefusedError(
                "Error starting pull query: KafkaStreams is not running. State is PENDING_SHUTDOWN."
            )
        if self.locating:
            raise cannot_determine()


def cannot_determine() -> RefusedError:
    """Return the refusal of a table pull whose partitions have no known owner."""
    return RefusedError(
        "Cannot determine which host contains the required partitions to serve the pull query. \n"
        "The underlying persistent query may be restarting (e.g. as a result of ALTER SYSTEM) view the status "
        "of your by issuing <DESCRIBE foo>."
    )
