"""The server's version, and what it means for reading its answers."""

# Confluent Platform 7.5.1 is ksqlDB 0.29.0. An unreadable version counts as the newest: its rules are the
# strictest.

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBERS = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})(?![0-9])")
# Where a platform release lies between two of ksqlDB's, the older one stands here.
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
        text: As the server says it, e.g. `7.5.1`.
        release: The ksqlDB release it has at least, e.g. `(0, 29)`; None when the text tells nothing.
    """

    text: str
    release: tuple[int, int] | None

    @property
    def stream_pulls_say_completed(self) -> bool:
        """Whether a stream pull ends with a final message; before 0.25 a closing bracket was all there was."""
        return self.release is None or self.release >= (0, 25)

    @property
    def pulls_streams(self) -> bool:
        """Whether pull queries on streams are on, unless somebody switched them off."""
        return self.release is None or self.release >= (0, 23)

    @property
    def has_two_writers(self) -> bool:
        """Whether the older of two writers may be asked for; before 0.24 the property was not known."""
        return self.release is None or self.release >= (0, 24)

    @property
    def scans_tables(self) -> bool:
        """Whether pull queries may scan whole tables without asking for the right to."""
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
    """Read a version text; never fails."""
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
    """What a server says about itself.

    Attributes:
        version: Its version.
        kafka_cluster_id: The Kafka cluster it works on.
        service_id: Its ksqlDB cluster.
        status: `RUNNING` or what else it says; None before 0.12.
    """

    version: ServerVersion
    kafka_cluster_id: str | None
    service_id: str | None
    status: str | None
