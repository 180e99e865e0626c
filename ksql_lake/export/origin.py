"""What a server tells of a source that says which one it is: topic, clusters, the query that makes it."""

from __future__ import annotations

from collections.abc import Iterator

from ksql_lake.errors import SchemaError
from ksql_lake.export.extraction import Extraction
from ksql_lake.export.plan import ExportPlan
from ksql_lake.feeds.model import Feed
from ksql_lake.ksqldb import KsqlClient, SourceDescription
from ksql_lake.ksqldb.copied import carried_offsets
from ksql_lake.lake import FeedLake
from ksql_lake.lake.evolution import widened
from ksql_lake.lake.meaning import Origin
from ksql_lake.schema import KsqlType, Schema, parse_schema

_MAKING = ("CSAS_", "CTAS_")
"""How the ids of queries begin that a source was made with; others only add to it."""


def checked_origin(extraction: Extraction, lake: FeedLake) -> Origin | None:
    """Give what the server tells of an export's source, once its rows mean what those in the lake do.

    Raises:
        CorruptLakeError: The log does not name what the lake holds.
        MeaningChangeError: The rows would mean something else than those that the lake holds.
    """
    source = extraction.question.source
    if source is None:
        return None
    origin = _origin(extraction.plan, source, extraction.client, lake.state().columns)
    lake.check(origin)
    return origin


def _origin(plan: ExportPlan, source: SourceDescription, client: KsqlClient, held: Schema | None) -> Origin:
    info = client.server_info()
    making = [query.id for query in source.write_queries if query.id.startswith(_MAKING)]
    return Origin(
        topic=source.topic,
        kafka_cluster=info.kafka_cluster_id or "",
        service=info.service_id or "",
        made_by=making[0] if len(making) == 1 else "",
        copied=carried_offsets(source) or () if source.kind == "stream" else (),
        retyped=frozenset(_retyped(plan.feed, source, held)),
        accepted=plan.new_topic,
    )


def _retyped(feed: Feed, source: SourceDescription, held: Schema | None) -> Iterator[str]:
    """Find the columns whose type cannot be read as one with that of the lake's column of their old name."""
    known = {column.name: column.type for column in held or ()}
    for column in source.columns:
        old = known.get(column.name)
        if column.name in feed.rename and old is not None and _differs(old, column.type):
            yield column.name


def _differs(old: KsqlType, declared: str) -> bool:
    try:
        (column,) = parse_schema(f"`X` {declared}")
    except SchemaError:
        # DESCRIBE does not tell all of a MAP; what kind of type it is it does.
        return declared.partition("<")[0] != old.text.partition("<")[0]
    return widened(old, column.type) is None
