"""A stream, the stream derived from it, and a feed that reads that one on."""

from __future__ import annotations

from dataclasses import dataclass

from ksql_lake.feeds.model import FEED_ADAPTER, StreamFeed
from ksql_lake_tests.export.push.server import Server

ARGUMENTS = [
    "--setting", "ksql.query.push.v2.registry.installed=true",
    "--setting", "ksql.query.push.v2.new.latest.delay.ms=0",
    "--token-seconds", "0.2",
]  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """Names of a source and its derived stream."""

    source: str

    @property
    def derived(self) -> str:
        """The derived stream."""
        return f"{self.source}_D"

    def create(self, server: Server, *, partitions: int = 2) -> None:
        """Make both."""
        server.ksql(
            f"CREATE STREAM {self.source} (ID BIGINT, NOTE STRING) WITH (KAFKA_TOPIC='{self.source.lower()}', "
            f"VALUE_FORMAT='JSON', PARTITIONS={partitions});"
        )
        self.derive(server)

    def remake(self, server: Server, *, source: bool = False) -> None:
        """Recreate the derived stream, or both streams."""
        server.ksql(f"DROP STREAM {self.derived} DELETE TOPIC;")
        if source:
            server.ksql(f"DROP STREAM {self.source} DELETE TOPIC;")
            self.create(server)
        else:
            self.derive(server)

    def derive(self, server: Server) -> None:
        """Make the derived stream."""
        server.ksql(
            f"CREATE STREAM {self.derived} WITH (KEY_FORMAT='JSON') AS SELECT STRUCT(P := ROWPARTITION, "
            f"O := ROWOFFSET) AS K, ID, NOTE, ROWPARTITION AS P, ROWOFFSET AS O FROM {self.source} "
            "PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET) EMIT CHANGES;"
        )

    def feed(self, **keys: object) -> StreamFeed:
        """The feed."""
        given: dict[str, object] = {
            "name": self.source.lower(),
            "kind": "stream",
            "source": self.derived,
            "start_date": "2025-01-06",
            "extraction": "continue",
            "positions": {"partition": "P", "offset": "O"},
            "columns": ["ID", "NOTE"],
            **keys,
        }
        feed = FEED_ADAPTER.validate_python(given)
        assert isinstance(feed, StreamFeed)
        return feed
