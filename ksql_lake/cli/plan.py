"""`ksql-lake plan`: show what an export would read, and with `--server` what it costs the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ksql_lake import export, ksqldb
from ksql_lake.cli.selection import Asked, Selection, asked, days_for, select, selection_options
from ksql_lake.cli.terminal.output import note, print_json, print_table, waiting
from ksql_lake.errors import ConfigError, KsqlLakeError
from ksql_lake.export.advice import advice
from ksql_lake.export.export_plan import ExportPlan, plan_from
from ksql_lake.feeds import Feed, FeedStore, QuarantinedFile
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.commit.state import FeedState
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.opening import open_storage
from ksql_lake.settings import Settings, load_settings

if TYPE_CHECKING:
    from ksql_lake.export.cost import Cost
    from ksql_lake.ksqldb import KsqlClient


@dataclass(frozen=True, slots=True)
class Planned:
    """A feed with its plan, or with the error that prevented the plan."""

    feed: Feed
    plan: ExportPlan | None = None
    error: Exception | None = None
    refused: tuple[str, ...] = ()
    """What the server refused at the last reading of the feed, and the consequence."""
    advice: tuple[str, ...] = ()
    """Advice that makes its exports cheaper."""
    cost: Cost | None = None
    """What the export will cost; None where nobody asked."""
    state: FeedState | None = None
    """What the feed's lake held when it was planned."""


_HELP = """Show what `export` with the same options would read; without --server it sends nothing.

With --server it asks the server how many records the export makes it scan, with a few statements per feed and
no query. The number comes from Kafka's offsets, so a query on the server must read the topic. The expected time
is that of the last export that was read in the same way.

\b
Examples:
  ksql-lake plan --all
  ksql-lake plan --all --server
  ksql-lake plan --stream orders --from 2025-01-01 --to 2025-01-31
"""


@click.command(help=_HELP)
@selection_options
@click.option("--server", is_flag=True, help="Ask the server what the export costs it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plan(context: click.Context, /, *, server: bool, as_json: bool, **options: Any) -> None:
    """Show what an export would read."""
    wanted = asked(options)
    settings = load_settings()
    selection = select(FeedStore(settings.feeds_root).load(), wanted)
    planned = plan_all(selection, wanted, settings)
    if server:
        with ksqldb.KsqlClient(settings) as client, waiting(f"asking {client.url}"):
            planned = [_explained(one, client) for one in planned]
    else:
        planned = [_explained(one, None) for one in planned]
    if as_json:
        print_json({"plans": [_entry(one) for one in planned], "left_out": left_out_entries(selection.broken)})
    elif planned:
        costs = ["Scans", "Takes"] if server else []
        rows = [[*_row(one), *(_cost_row(one) if server else [])] for one in planned]
        print_table(["Feed", "Kind", "Reads", "Why", *costs], rows, flexible=("Feed", "Why"), right=costs)
    if not planned:
        note(f"nothing to export: no enabled feed in {settings.feeds_root}/active")
    for one in planned:
        _note_cost(one)
    for refused in dict.fromkeys(text for one in planned for text in one.refused):
        note(f"the server refused at the last reading: {refused}")
    for text in (text for one in planned for text in one.advice):
        note(text)
    tell_left_out(selection.broken)
    context.exit(1 if selection.broken or any(one.error for one in planned) else 0)


def plan_all(
    selection: Selection, wanted: Asked, settings: Settings, *, new_topic: bool = False
) -> list[Planned]:
    """Plan every selected feed; a feed whose lake cannot be read is an entry with its error.

    Raises:
        ConfigError: The days are in the future, or all before a named feed's `start_date`.
    """
    return [_plan_one(feed, wanted, settings.lake_root, new_topic=new_topic) for feed in selection.feeds]


def _plan_one(feed: Feed, wanted: Asked, root: str, *, new_topic: bool) -> Planned:
    storage = open_storage(root)
    try:
        state = CommitLog(storage, FeedLayout(feed.kind, feed.name)).load()
        found = plan_from(feed, state, days=days_for(feed, wanted), new_topic=new_topic)
    except ConfigError:
        raise
    except KsqlLakeError as error:
        return Planned(feed, error=error.at(feed=feed.name))
    except Exception as error:  # noqa: BLE001 - reported with the feed's name; the other feeds continue
        return Planned(feed, error=error)
    if not found.partitions and wanted.dated and not wanted.everything:
        raise ConfigError(
            found.reason,
            hint="Correct the date, or set an earlier start_date in the feed file.",
            feed=feed.name,
        )
    return Planned(feed, plan=found, state=state)


def _explained(one: Planned, client: KsqlClient | None) -> Planned:
    """Add what was refused the last time, advice, and with a client what the export will cost.

    Raises:
        KsqlLakeError: The server cannot be asked.
    """
    if one.plan is None or one.state is None:
        return one
    state = one.state
    read = state.last_read
    refused = tuple(read.evidence.caveats) if read is not None and read.evidence is not None else ()
    said = tuple(advice(one.feed, state, one.plan.partitions, now=datetime.now(UTC)))
    if client is None:
        return replace(one, refused=refused, advice=said)
    cost = export.estimate(one.plan, state, client)
    # The server's figure takes the place of the one that the lake alone allows.
    kept = tuple(text for text in said if not cost.advice or cost.advice not in text)
    return replace(one, refused=refused, advice=kept, cost=cost)


def left_out_entries(broken: Sequence[QuarantinedFile]) -> list[dict[str, object]]:
    """Return the left-out files for JSON."""
    return [{"path": file.path, "feed": file.name, "problems": file.error.problems} for file in broken]


def tell_left_out(broken: Sequence[QuarantinedFile]) -> None:
    """Print on stderr which files were left out and why."""
    for file in broken:
        note(str(file.error), label="left out")


def reads(found: ExportPlan) -> str:
    """Return what a plan reads, in a few words: its days, its version, or nothing."""
    if found.days is not None:
        return str(found.days)
    return f"v{found.version}" if found.version is not None else "nothing"


def _row(one: Planned) -> list[str]:
    if one.plan is None:
        return [one.feed.name, one.feed.kind, "failed", _reason(one.error)]
    return [one.feed.name, one.feed.kind, reads(one.plan), one.plan.reason]


def _cost_row(one: Planned) -> list[str]:
    cost = one.cost
    if cost is None:
        return ["-", "-"]
    scanned = "-" if cost.scanned is None else f"{cost.scanned:,}"
    return [scanned, "-" if cost.seconds is None else f"{cost.seconds:,.1f} s"]


def _note_cost(one: Planned) -> None:
    cost = one.cost
    if cost is None:
        return
    if cost.scanned is None:
        note(f"{one.feed.name}: the number of scanned records is unknown: {cost.basis}")
    if cost.advice:
        received = "" if cost.received is None else f", and the last export received {cost.received:,}"
        note(f"{one.feed.name}: each export scans {cost.scanned:,} records{received}. {cost.advice}")


def _reason(error: Exception | None) -> str:
    return error.message if isinstance(error, KsqlLakeError) else f"unexpected {type(error).__name__}: {error}"


def _entry(one: Planned) -> dict[str, object]:
    entry: dict[str, object] = {"feed": one.feed.name, "kind": one.feed.kind, "source": one.feed.source}
    if one.plan is None:
        return entry | {"error": str(one.error)}
    days = one.plan.days
    return entry | {
        "first_day": days.first if days else None,
        "last_day": days.last if days else None,
        "version": one.plan.version,
        "reason": one.plan.reason,
        "refused_by_the_server": list(one.refused),
        "advice": list(one.advice),
        **({"cost": asdict(one.cost)} if one.cost is not None else {}),
    }
