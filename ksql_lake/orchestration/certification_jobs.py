"""Jobs that read closed days from the server again and compare them with the lake, one per time zone."""

# They are not part of an export: each costs the server as much as one. A run that finds rows missing fails.

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg
from pydantic import Field

from ksql_lake.errors import LakeError
from ksql_lake.export.certification import Certification, certify
from ksql_lake.export.judging import certified_text, note_certification
from ksql_lake.feeds import Feed, StreamFeed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import FeedLake
from ksql_lake.orchestration.asset_checks import day_evaluations, summary
from ksql_lake.orchestration.internals import of_newest
from ksql_lake.orchestration.jobs import one_op_job, run_tags
from ksql_lake.orchestration.run_failures import each_feed
from ksql_lake.orchestration.schedules import zone_name
from ksql_lake.orchestration.scope import Scope


class CertifyConfig(dg.Config):
    """The streams to compare."""

    feeds: list[str] = Field([], description="Names of the streams; empty means all of this time zone.")


def certify_jobs(
    streams: Sequence[StreamFeed],
    days: dict[str, dg.DailyPartitionsDefinition],
    feeds: Sequence[Feed],
    scope: Scope,
) -> list[dg.JobDefinition]:
    """Return the job `certify` of UTC, and one like `certify_Europe_Berlin` per other time zone.

    Args:
        streams: The enabled streams.
        days: Time zone -> its days.
        feeds: All enabled feeds; jobs cannot have the names of their assets.
        scope: The scope of the names.
    """
    taken = scope.taken(feeds)
    return [
        _job(
            scope.free_name(zone_name("certify", zone), taken),
            [feed for feed in streams if feed.timezone == zone],
            partitions,
            scope,
        )
        for zone, partitions in days.items()
    ]


def _job(
    name: str, streams: list[StreamFeed], days: dg.DailyPartitionsDefinition, scope: Scope
) -> dg.JobDefinition:
    @dg.op(
        name=f"_{name}_day",
        description="Reads a day from the server and compares it.",
        pool=scope.pool,
        required_resource_keys={scope.server_key},
    )
    def compare(context: dg.OpExecutionContext, config: CertifyConfig) -> None:
        client: KsqlClient = getattr(context.resources, scope.server_key)
        day = date.fromisoformat(context.partition_key)
        unknown = sorted(set(config.feeds) - {feed.name for feed in streams})
        if unknown:
            known = ", ".join(feed.name for feed in streams)
            raise dg.Failure(f"there is no stream named {', '.join(unknown)} in this job; it has {known}")

        def compare_feed(feed: StreamFeed) -> str:
            found = certify(feed, day, client, scope.lake)
            for each in _evaluations(scope.key(feed), found, scope.lake.feed(feed)):
                if scope.wants_check("certificate"):
                    context.instance.report_runless_asset_event(of_newest(each, context.instance))
            if not found.whole:
                raise LakeError(
                    certified_text(found), hint=_HINT.format(feed=feed.name, day=day), partition=day
                )
            return f"{feed.name}, {day}: {certified_text(found)}"

        wanted = [feed for feed in streams if feed.name in config.feeds or not config.feeds]
        each_feed([feed for feed in wanted if feed.start_date <= day], compare_feed, context.log)

    return one_op_job(
        name,
        "Reads a closed day of every stream (or of some: `feeds`) from the server again and compares it with "
        "the lake, hour by hour.",
        compare,
        tags=run_tags("certify"),
        partitions=days,
    )


_HINT = "An export of the day adds the missing rows: ksql-lake export --stream {feed} --date {day}"


def _evaluations(key: dg.AssetKey, found: Certification, lake: FeedLake) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the result of the day, and after it the one of all days; the lake notes it too."""
    day = str(found.day)
    facts: dict[str, Any] = {
        "source_rows": found.source_rows,
        "lake_rows": found.lake_rows,
        "source_checksum": found.source_checksum,
        "lake_checksum": found.lake_checksum,
        "clock": found.clock,
    }
    for check in note_certification(found, lake):
        for each in (*day_evaluations(check, key, {day}), summary(check, day, key)):
            yield each.with_metadata({**each.metadata, **facts})
