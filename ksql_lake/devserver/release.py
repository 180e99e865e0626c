"""The ksqlDB release that the server imitates, and what that changes on the wire."""

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
    """A release number as `/info` shows it, and the behaviour that goes with it.

    Attributes:
        text: As given, e.g. `0.29.0` or Confluent Platform's `7.5.1`.
        release: The stand-alone (major, minor) with the same behaviour.
    """

    text: str
    release: tuple[int, int]

    @property
    def final_message(self) -> bool:
        """Whether stream pulls end with `Query Completed`."""
        return self.release >= (0, 25)

    @property
    def migrated(self) -> bool:
        """Whether the `/query-stream` handler writes `/query` unless the request says otherwise."""
        return self.release >= (0, 24)

    @property
    def labels_rows(self) -> bool:
        """Whether the newer writer sends its content type."""
        return not self.migrated or self.release >= (0, 29)

    @property
    def http1_query_stream(self) -> bool:
        """Whether `/query-stream` answers over HTTP/1.1."""
        return self.release >= (0, 24)

    @property
    def stream_pulls(self) -> bool:
        """Whether pull queries on streams are on."""
        return self.release >= (0, 23)

    @property
    def explains_sources(self) -> bool:
        """Whether an unknown source is reported a second time, as the cause."""
        return self.release < (0, 29)

    @property
    def repeats_statements(self) -> bool:
        """Whether messages of the parser, and of the newer writer's planner, end with the statement."""
        return self.release <= (0, 26)

    @property
    def loses_errors(self) -> bool:
        """Whether the newer writer may end a table pull that failed as if it were complete."""
        return self.release >= (0, 29)

    @property
    def loses_forwarded(self) -> bool:
        """Whether a node loses rows of other nodes when it forwards them; measured on these two releases."""
        return self.text in ("7.3.5", "7.5.1")

    @property
    def table_scan(self) -> bool:
        """Whether table scans are on unless the request says otherwise."""
        return self.release >= (0, 23)

    @property
    def topic_settings(self) -> bool:
        """Whether statements are shown with the clean-up policy and retention of their topics."""
        return self.release >= (0, 29)

    @property
    def query_positions(self) -> bool:
        """Whether SHOW QUERIES EXTENDED reports how far each running query has read."""
        return self.release >= (0, 18)

    @property
    def pull_limit(self) -> bool:
        """Whether pull queries take LIMIT."""
        return self.release >= (0, 24)

    @property
    def continuation_tokens(self) -> bool:
        """Whether scalable push queries report their positions, and can begin at them."""
        return self.release >= (0, 24)

    @property
    def offsets(self) -> bool:
        """Whether ROWPARTITION and ROWOFFSET exist."""
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
