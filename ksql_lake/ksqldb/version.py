"""The server's version, and what it allows."""

# Confluent Platform 7.5.1 is ksqlDB 0.29.0. An unreadable version counts as the newest: its rules are the
# strictest.

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBERS = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})(?![0-9])")
# A platform release between two releases of ksqlDB counts as the older one.
_PLATFORM: dict[tuple[int, int], tuple[int, int]] = {
    (5, 4): (0, 6),
    (5, 5): (0, 7),
    (6, 0): (0, 10),
    (6, 1): (0, 14),
    (6, 2): (0, 17),
    (7, 0): (0, 21),
    (7, 1): (0, 23),
    (7, 2): (0, 26),
    (7, 3): (0, 28),
    (7, 4): (0, 28),
}
_NEWEST = (0, 29)


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """A server's version.

    Attributes:
        text: As the server reports it, e.g. `7.5.1`.
        release: The ksqlDB release that it is at least, e.g. `(0, 29)`; None if the text is unreadable.
    """

    text: str
    release: tuple[int, int] | None

    @property
    def stream_pulls_say_completed(self) -> bool:
        """Whether a stream pull ends with a final message; before 0.25 it ended with a bracket only."""
        return self.release is None or self.release >= (0, 25)

    @property
    def pulls_streams(self) -> bool:
        """Whether pull queries on streams are on by default."""
        return self.release is None or self.release >= (0, 23)

    @property
    def has_two_writers(self) -> bool:
        """Whether a query may ask for the older of two writers; before 0.24 there was no such property."""
        return self.release is None or self.release >= (0, 24)

    @property
    def scans_tables(self) -> bool:
        """Whether pull queries may scan whole tables without a property."""
        return self.release is None or self.release >= (0, 23)

    @property
    def limits_pulls(self) -> bool:
        """Whether pull queries may have a LIMIT."""
        return self.release is None or self.release >= (0, 24)

    @property
    def knows_offsets(self) -> bool:
        """Whether push queries may ask for ROWPARTITION and ROWOFFSET."""
        return self.release is None or self.release >= (0, 23)


def parse_version(text: str) -> ServerVersion:
    """Parse a version text; raises nothing."""
    match = _NUMBERS.match(text)
    if match is None:
        return ServerVersion(text, None)
    major, minor = int(match.group(1)), int(match.group(2))
    if major == 0:
        return ServerVersion(text, (major, minor))
    if (major, minor) >= (7, 5):
        return ServerVersion(text, _NEWEST)
    return ServerVersion(text, _PLATFORM.get((major, minor)))


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The answer to GET /info.

    Attributes:
        version: The server's version.
        kafka_cluster_id: Id of its Kafka cluster.
        service_id: Id of its ksqlDB cluster.
        status: `RUNNING` or another state; None before 0.12.
    """

    version: ServerVersion
    kafka_cluster_id: str | None
    service_id: str | None
    status: str | None
