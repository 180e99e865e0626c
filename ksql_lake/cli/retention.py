"""`ksql-lake retention`: list old table versions and remove them, one commit per table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from ksql_lake.cli.completion import feed_names
from ksql_lake.cli.entry import FAILED, complain
from ksql_lake.cli.plan import left_out_entries, tell_left_out
from ksql_lake.cli.selection import of_kind
from ksql_lake.cli.terminal.output import (
    never_failing,
    note,
    notes_from_log,
    print_json,
    print_line,
    print_table,
)
from ksql_lake.errors import KsqlLakeError
from ksql_lake.feeds import FeedStore, TableFeed
from ksql_lake.followers import update_followers
from ksql_lake.lake import Lake, RetentionPlan
from ksql_lake.lake.layout import version_number
from ksql_lake.quantities import count_text, size_text
from ksql_lake.settings import Settings, load_settings

_HELP = """Remove the versions of tables beyond their feed's `retention`.

It shows the plan, then applies it; an export of the table does the same at its end. Without TABLE it covers
every enabled table feed. A reader that has a removed file open can read it to the end; opening it later fails.

\b
Examples:
  ksql-lake retention --dry-run
  ksql-lake retention totals
"""


@dataclass(slots=True)
class _Case:
    """One table: its plan and the outcome."""

    feed: TableFeed
    plan: RetentionPlan | None = None
    removed: RetentionPlan | None = None
    error: KsqlLakeError | None = None

    def as_dict(self) -> dict[str, object]:
        """The plan and outcome as JSON-ready data."""
        shown = self.removed or self.plan
        return {
            "feed": self.feed.name,
            "retention": self.feed.retention,
            "keep": shown.keep if shown else (),
            "remove": shown.remove if shown else (),
            "files": shown.files if shown else (),
            "bytes": shown.bytes if shown else 0,
            "removed": bool(self.removed and self.removed.remove),
            "error": str(self.error) if self.error else None,
        }


@click.command(help=_HELP)
@click.argument("tables", shell_complete=feed_names("table"), nargs=-1, metavar="[TABLE]...")
@click.option("--dry-run", is_flag=True, help="Show the plan, remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def retention(context: click.Context, /, *, tables: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Plan and apply retention."""
    settings = load_settings()
    feeds = FeedStore(settings.feeds_root).load()
    broken = () if tables else tuple(file for file in feeds.quarantined if not file.archived)
    lake = Lake(settings.lake_root)
    cases = [_planned(feed, lake) for feed in of_kind(feeds, TableFeed, tables)]
    if not cases:
        note(f"no table feed is enabled in {settings.feeds_root}/active")
    elif not as_json:
        print_table(_HEADERS, [_row(case) for case in cases], right=_HEADERS[3:], flexible=("Table", "Goes"))
    if not dry_run:
        with notes_from_log():
            for case in cases:
                _apply(case, lake, as_json=as_json)
        _keep_keys([case.feed for case in cases if case.error is None], settings)
    if as_json:
        entries = [case.as_dict() for case in cases]
        print_json({"dry_run": dry_run, "tables": entries, "left_out": left_out_entries(broken)})
    for case in cases:
        if case.error is not None:
            complain(str(case.error))
    tell_left_out(broken)
    context.exit(FAILED if broken or any(case.error for case in cases) else 0)


def _planned(feed: TableFeed, lake: Lake) -> _Case:
    try:
        return _Case(feed, plan=lake.feed(feed).plan_retention())
    except KsqlLakeError as error:
        return _Case(feed, error=error.at(feed=feed.name))


def _apply(case: _Case, lake: Lake, *, as_json: bool) -> None:
    if case.plan is None or not case.plan.remove:
        return
    feed_lake = lake.feed(case.feed)
    try:
        with feed_lake.exclusive():
            case.removed = feed_lake.apply_retention()
        update_followers(lake, case.feed)
    except KsqlLakeError as error:
        case.error = error.at(feed=case.feed.name)
        return
    if not as_json:
        removed, size = case.removed, size_text(case.removed.bytes)
        versions = version_ranges(removed.remove) or "nothing, another process removed them"
        files = count_text(len(removed.files), "file")
        print_line((case.feed.name, "bold"), f": removed {versions}: {files}, {size}")


def _keep_keys(feeds: Sequence[TableFeed], settings: Settings) -> None:
    """Make Dagster's versions of each table those that the lake holds."""
    if not feeds or settings.dagster_home is None:
        return
    with never_failing("retention was applied"):
        # Dagster takes seconds to import, and most shells have no DAGSTER_HOME.
        from ksql_lake.orchestration.recording import keep_all_versions  # noqa: PLC0415

        keep_all_versions(feeds, settings=settings)


_HEADERS = ["Table", "Stays", "Goes", "Versions", "Files", "Size"]


def _row(case: _Case) -> list[str]:
    plan = case.plan
    if plan is None:
        return [case.feed.name, "failed", *["-"] * 4]
    return [
        case.feed.name,
        version_ranges(plan.keep) or "-",
        version_ranges(plan.remove) or "-",
        f"{len(plan.remove):,}",
        f"{len(plan.files):,}",
        size_text(plan.bytes),
    ]


def version_ranges(keys: Sequence[str]) -> str:
    """Return ordered version keys as short ranges: `v1-v3, v5`; empty for no keys."""
    runs: list[list[int]] = []
    for number in map(version_number, keys):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"v{run[0]}" if len(run) == 1 else f"v{run[0]}-v{run[-1]}" for run in runs)
