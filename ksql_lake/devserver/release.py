"""Which ksqlDB release the server plays, and what that changes on the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ksql_lake.devserver.ksql_errors import bad_request

CURRENT = "0.29.0"
_CONFLUENT_PLATFORM = {
    (5, 5): (0, 7), (6, 0): (0, 10), (6, 1): (0, 14), (6, 2): (0, 17), (7, 0): (0, 21),
    (7, 1): (0, 23), (7, 2): (0, 26), (7, 3): (0, 28), (7, 4): (0, 28),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Release:
    """A release number as `/info` shows it, and the behaviour it stands for.

    Attributes:
        text: As given, e.g. `0.29.0` or Confluent Platform's `7.5.1`.
        release: The stand-alone (major, minor) with the same behaviour.
    """

    text: str
    release: tuple[int, int]

    @property
    def final_message(self) -> bool:
        """Stream pulls end with `Query Completed`."""
        return self.release >= (0, 25)

    @property
    def migrated(self) -> bool:
        """`/query` is written by the `/query-stream` handler unless the request says otherwise."""
        return self.release >= (0, 24)

    @property
    def labels_rows(self) -> bool:
        """The newer writer says its content type."""
        return not self.migrated or self.release >= (0, 29)

    @property
    def http1_query_stream(self) -> bool:
        """`/query-stream` answers over HTTP/1.1."""
        return self.release >= (0, 24)

    @property
    def stream_pulls(self) -> bool:
        """Pull queries on streams are on."""
        return self.release >= (0, 23)

    @property
    def explains_sources(self) -> bool:
        """An unknown source is told a second time, as the cause."""
        return self.release < (0, 29)

    @property
    def repeats_statements(self) -> bool:
        """Messages of the parser, and of the newer writer's planner, end with the statement."""
        return self.release <= (0, 26)

    @property
    def loses_errors(self) -> bool:
        """The newer writer may end a table pull that failed as if it were complete."""
        return self.release >= (0, 29)

    @property
    def loses_forwarded(self) -> bool:
        """A node loses rows of the other nodes while it forwards them; measured on these two releases."""
        return self.text in ("7.3.5", "7.5.1")

    @property
    def table_scan(self) -> bool:
        """Table scans are on unless the request says otherwise."""
        return self.release >= (0, 23)

    @property
    def topic_settings(self) -> bool:
        """Statements are shown with the clean-up policy and retention of their topics."""
        return self.release >= (0, 29)

    @property
    def query_positions(self) -> bool:
        """SHOW QUERIES EXTENDED tells how far each running query has read."""
        return self.release >= (0, 18)

    @property
    def pull_limit(self) -> bool:
        """Pull queries take LIMIT."""
        return self.release >= (0, 24)

    @property
    def continuation_tokens(self) -> bool:
        """Scalable push queries tell where they are, and go on from there."""
        return self.release >= (0, 24)

    @property
    def offsets(self) -> bool:
        """ROWPARTITION and ROWOFFSET exist."""
        return self.release >= (0, 23)


def parse_version(text: str) -> Release:
    """Read a release number; Confluent Platform numbers (5.5 to 8) are mapped to their ksqlDB release.

    Raises:
        RefusedError: The text does not start with two numbers.
    """
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if match is None:
        raise bad_request(f"{text!r} is not a server version such as {CURRENT}")
    number = (int(match.group(1)), int(match.group(2)))
    if number[0] == 0:
        return Release(text, number)
    return Release(text, _CONFLUENT_PLATFORM.get(number, (0, 29) if number >= (7, 5) else (0, 6)))
