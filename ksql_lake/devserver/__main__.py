"""`python -m ksql_lake.devserver`: the stand-in alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from ksql_lake.devserver.faults import parse_fault
from ksql_lake.devserver.options import Options
from ksql_lake.devserver.phases import parse_phases
from ksql_lake.devserver.release import CURRENT
from ksql_lake.errors import KsqlLakeError
from ksql_lake.pandas_gate import keep_pandas_out


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    if text == "now":
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither `now` nor a moment like 2026-03-05T13:07Z") from None


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8088, type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of NAME.sql and data files.",
)
@click.option("--sample", is_flag=True, help="Serve the payments sample (8 sources, from 2025-01-06 on).")
@click.option("--sample-rows", default=100_000, type=click.IntRange(1), help="Rows of its largest stream.")
@click.option("--sample-days", default=14, type=click.IntRange(1, 366), help="Days the rows spread over.")
@click.option(
    "--sample-at",
    callback=_moment,
    metavar="MOMENT",
    help="The sample with this moment in the last of its days, and no rows after it; `now` or ISO 8601.",
)
@click.option(
    "--sample-live", is_flag=True, help="Add rows to the sample while the server runs, late ones too."
)
@click.option("--server-version", default=CURRENT, help="Release to imitate, e.g. 0.24.0 or 7.1.0.")
@click.option(
    "--fault", "faults", multiple=True, help="A fault, e.g. cut_row:after_rows=100,times=1; repeatable."
)
@click.option("--user", help="Require basic auth: NAME:PASSWORD.")
@click.option("--token", help="Require this bearer token.")
@click.option(
    "--tls-cert", type=click.Path(exists=True, path_type=Path), help="Serve https with this certificate."
)
@click.option("--tls-key", type=click.Path(exists=True, path_type=Path), help="Its key.")
@click.option(
    "--tls-client-ca", type=click.Path(exists=True, path_type=Path), help="Demand client certificates."
)
@click.option(
    "--row-chunks/--large-chunks",
    default=True,
    help="A stream's rows in the real writers' HTTP chunks (one row each), or in large ones.",
)
@click.option("--ready-file", type=click.Path(path_type=Path), help="File for the URL once the server answers.")
@click.option("--until-stdin-closes", is_flag=True, help="Stop when standard input ends: no orphan is left.")
@click.option("--memory-limit", help="DuckDB's memory limit, e.g. 2GB.")
@click.option(
    "--nodes", default=1, type=click.IntRange(1, 9), help="Processes that serve one service, a port each."
)
@click.option(
    "--session-seconds",
    type=click.FloatRange(0.2),
    show_default="3 for nodes, 45 for queries",
    help="Silence after which a node loses its partitions, or the query of a stream its place.",
)
@click.option(
    "--lag-reporting", is_flag=True, help="Nodes know each other's state and lag; /clusterStatus answers."
)
@click.option(
    "--phase",
    "phases",
    multiple=True,
    help="How long a phase lasts: starting, locating, restoring, stopping; e.g. restoring=2.5; repeatable.",
)
@click.option(
    "--setting",
    "settings",
    multiple=True,
    help="A setting of the server, e.g. ksql.query.push.v2.registry.installed=true; repeatable.",
)
@click.option(
    "--token-seconds",
    default=5.0,
    type=click.FloatRange(0.01),
    help="Seconds without a row after which a query with continuation tokens sends one.",
)
@click.option("--node", type=int, hidden=True)
@click.option("--broker", hidden=True)
def main(faults: tuple[str, ...], user: str | None, phases: tuple[str, ...], **options: object) -> None:
    """Run the embedded ksqlDB stand-in until Ctrl-C or SIGTERM."""
    try:
        pair = None
        if user is not None:
            name, _, password = user.partition(":")
            pair = (name, password)
        switched = tuple(parse_fault(text) for text in faults)
        chosen = Options(faults=switched, user=pair, phases=parse_phases(phases), **options)  # type: ignore[arg-type]
        if chosen.nodes > 1 and (chosen.sample_at or chosen.sample_live):
            raise click.UsageError("--sample-at and --sample-live are for one node; leave out --nodes")
        if chosen.nodes > 1:
            from ksql_lake.devserver.cluster.processes import serve_cluster  # noqa: PLC0415 - keeps --help fast

            serve_cluster(chosen)
        else:
            # It takes longer to import than everything else.
            keep_pandas_out()
            from ksql_lake.devserver.service.server import serve  # noqa: PLC0415 - keeps --help fast

            serve(chosen)
    except KsqlLakeError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main(prog_name="python -m ksql_lake.devserver")
