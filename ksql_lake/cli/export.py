"""`ksql-lake export`: export feeds, several at once; a failing feed does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from ksql_lake.cli.entry import (
    ALONE,
    DEBUG,
    FAILED,
    INTERRUPTED,
    USAGE,
    complain,
    complain_unexpected,
    unexpected_text,
)
from ksql_lake.cli.plan import Planned, left_out_entries, plan_all, reads, tell_left_out
from ksql_lake.cli.pool import FeedOutcome, export_all
from ksql_lake.cli.selection import asked, select, selection_options
from ksql_lake.cli.terminal.journal import watch
from ksql_lake.cli.terminal.loudness import quiet
from ksql_lake.cli.terminal.output import never_failing, note, notes_from_log, print_json, print_table, waiting
from ksql_lake.errors import ConfigError, KsqlLakeError
from ksql_lake.export import ExportResult
from ksql_lake.feeds import FeedStore
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.pandas_gate import keep_pandas_out
from ksql_lake.quantities import count_text, size_text
from ksql_lake.settings import Settings, load_settings

_HELP = """Read feeds and land them in the lake, exactly once.

Without dates it reads every day of a stream that is not closed (the first time from start_date). Dates select
days of streams; each export of a table writes its next version. Rows that the lake holds are not written again.

\b
Examples:
  ksql-lake export --all
  ksql-lake export --stream orders --table totals
  ksql-lake export --stream orders --date 2025-01-31
  ksql-lake export --all --json | jq .failed

After each export the feed's checks are evaluated; the rows stay in the lake whatever the checks find.

Exit codes: 0 done, 1 at least one feed failed (the others have landed) or a check of severity error or block
failed, 2 usage or configuration, 130 interrupted.
"""


@click.command(help=_HELP)
@selection_options
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Feeds exported at once; many simultaneous scans slow ksqlDB down.",
)
@click.option(
    "--new-topic",
    is_flag=True,
    help="The topic of these streams was recreated: forget offsets, compare rows by value once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def export(context: click.Context, /, *, workers: int, new_topic: bool, as_json: bool, **options: Any) -> None:
    """Export feeds."""
    if (context.obj or {}).get(ALONE):
        keep_pandas_out()
    wanted = asked(options)
    if new_topic and (wanted.everything or wanted.tables):
        raise click.UsageError("--new-topic needs streams by name: --stream NAME --new-topic")
    settings = load_settings()
    watch(log_format=settings.log_format, otel_endpoint=settings.otel_endpoint)
    selection = select(FeedStore(settings.feeds_root).load(), wanted)
    planned = plan_all(selection, wanted, settings, new_topic=new_topic)
    outcomes: list[FeedOutcome] = []
    if planned:
        with KsqlClient(settings) as client:
            if (refusal := _probe(client, planned, settings)) is not None:
                if as_json:
                    lost = [FeedOutcome(one.feed, error=refusal) for one in planned]
                    print_json(_document(lost) | {"left_out": left_out_entries(selection.broken)})
                context.exit(USAGE if isinstance(refusal, ConfigError) else FAILED)
            with notes_from_log():
                outcomes = export_all(planned, client, settings, workers=workers)
    else:
        note(f"nothing to export: no enabled feed in {settings.feeds_root}/active")
    if as_json:
        print_json(_document(outcomes) | {"left_out": left_out_entries(selection.broken)})
    elif outcomes and not quiet():
        print_table(_HEADERS, [_row(outcome) for outcome in outcomes], right=_HEADERS[2:], flexible=("Feed",))
    tell_left_out(selection.broken)
    _print_failures(outcomes, debug=bool((context.obj or {}).get(DEBUG)))
    _print_failed_checks(outcomes)
    _record(outcomes, settings)
    if any(outcome.interrupted for outcome in outcomes):
        context.exit(INTERRUPTED)
    context.exit(FAILED if selection.broken or any(outcome.failed for outcome in outcomes) else 0)


def _probe(client: KsqlClient, planned: Sequence[Planned], settings: Settings) -> KsqlLakeError | None:
    """Ask the server for its version once, so that what prevents every export is reported only once."""
    try:
        with waiting(f"asking {client.url}"):
            client.server_info()
    except KsqlLakeError as error:
        lake = Lake(settings.lake_root)
        if lake.begun:  # a failure is not noted in a lake that does not exist
            for one in planned:
                lake.feed(one.feed).record_failure(error)
        complain(". ".join(line.removesuffix(".") for line in str(error).splitlines()))
        return error
    return None


_HEADERS = ["Feed", "Partitions", "Read", "New", "Already\nthere", "Late", "Size", "Seconds"]


def _row(outcome: FeedOutcome) -> list[str]:
    result = outcome.result
    if result is None:
        return [outcome.feed.name, "interrupted" if outcome.interrupted else "failed", *["-"] * 6]
    if result.commit is None:
        return [outcome.feed.name, "nothing", *["-"] * 6]
    counts = (result.read, result.new, result.already_there, result.late)
    size = size_text(sum(part.bytes for part in result.partitions))
    return [
        outcome.feed.name,
        _partitions(result),
        *(f"{count:,}" for count in counts),
        size,
        f"{result.seconds:.1f}",
    ]


def _partitions(result: ExportResult) -> str:
    if result.plan.days is None:
        return ", ".join(part.partition for part in result.partitions)
    if len(result.plan.days) == 1:
        return reads(result.plan)
    filled = sum(part.read > 0 for part in result.partitions)
    return f"{filled} of {len(result.plan.days)} days"


def _document(outcomes: Sequence[FeedOutcome]) -> dict[str, object]:
    return {
        "exports": [
            outcome.result.as_dict() | {"checks": [check.as_dict() for check in outcome.checks]}
            for outcome in outcomes
            if outcome.result
        ],
        "failed_checks": [
            {"feed": outcome.feed.name, **check.as_dict()}
            for outcome in outcomes
            for check in outcome.checks
            if check.failed
        ],
        "failed": [
            {
                "feed": outcome.feed.name,
                "type": type(outcome.error).__name__ if outcome.error else "Interrupted",
                "error": str(outcome.error) if outcome.error else "interrupted",
            }
            for outcome in outcomes
            if outcome.result is None
        ],
    }


def _print_failures(outcomes: Sequence[FeedOutcome], *, debug: bool) -> None:
    by_reason: dict[str, list[FeedOutcome]] = {}
    for outcome in outcomes:
        name, error = outcome.feed.name, outcome.error
        if isinstance(error, KsqlLakeError):
            by_reason.setdefault(f"{error.message}\n{error.hint}", []).append(outcome)
        elif error is not None and debug:
            complain_unexpected(error, debug=True)
        elif error is not None:
            complain(f"feed {name}: {unexpected_text(error)}")
        elif outcome.result and outcome.result.commit is None:
            note(f"{name}: nothing to read: {outcome.result.plan.reason}")
        elif outcome.result and outcome.result.fell_back:
            note(f"{name}: read by pull query instead of from its marks: {outcome.result.fell_back}")
        elif outcome.result and outcome.result.dropped:
            rows = count_text(outcome.result.dropped, "row")
            note(f"{name}: {rows} dropped: a later row of the same reading has the same key")
    for text, alike in by_reason.items():
        # A reason that several feeds share is printed once, without the places, which differ.
        names = ", ".join(outcome.feed.name for outcome in alike)
        complain(str(alike[0].error) if len(alike) == 1 else f"feeds {names}: {text.strip()}")
    if any(outcome.interrupted for outcome in outcomes):
        complain(
            "interrupted; what the table shows as landed is complete; run the same command again for the rest"
        )


def _print_failed_checks(outcomes: Sequence[FeedOutcome]) -> None:
    for outcome in outcomes:
        for check in outcome.checks:
            if not check.failed:
                continue
            text = f"{outcome.feed.name}: check {check.outcome.name} ({check.severity}): {check.outcome.says}"
            (complain if check.grave else note)(text)
        if outcome.unjudged is not None:
            complain(f"{outcome.feed.name}: the rows landed, but the checks failed: {outcome.unjudged}")


def _record(outcomes: Sequence[FeedOutcome], settings: Settings) -> None:
    """Record exports from the shell in the Dagster instance; a failure here does not fail the export."""
    results = [outcome.result for outcome in outcomes if outcome.result and outcome.result.commit]
    if not results or settings.dagster_home is None:
        return
    with never_failing("the exports landed"):
        # Dagster takes seconds to import, and most shells have no DAGSTER_HOME.
        from ksql_lake.orchestration.recording import record  # noqa: PLC0415

        checks = {outcome.feed.name: outcome.checks for outcome in outcomes}
        record(results, settings=settings, checks=checks)
