"""`ksql-lake demo`: export the sample feeds from the embedded server through Dagster."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click

from ksql_lake.cli.dagster_process import DagsterProject, Task, stop, what_failed
from ksql_lake.cli.demo_folder import FAILING_COLUMN, FAILING_FEED, DemoFolder, open_demo
from ksql_lake.cli.terminal.output import note, print_table
from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import ConfigError
from ksql_lake.export.topology import read_topology, save_topology
from ksql_lake.feeds import Feed, Feeds, FeedStore, streams_of, tables_of
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.orchestration.recording import create_databases, export_seconds
from ksql_lake.orchestration.schedules import stream_job, table_job
from ksql_lake.orchestration.ticks import DAYS_TAG, RANGE_TAGS
from ksql_lake.quantities import count_text, size_text
from ksql_lake.settings import load_settings

SERVER_VERSION = "0.29.0-demo"
"""The version that the demo's server reports; it distinguishes its commits from those of a real server."""

PROCESSES = 2

_SUPERSEDED = "ignore:Function `dev_command` is superseded"
"""Keeps Dagster's advice to use `dg dev` off the screen: that needs a package which the demo does not."""

_HELP = """Export everything of the embedded server through Dagster, and show what landed.

Makes the project FOLDER (default: demo) with eight sample feeds. Starts the embedded ksqlDB stand-in on a free
port, with two weeks of sample rows up to now; more rows arrive while it runs. Runs Dagster to export every feed
into FOLDER/data_lake, and prints what landed. When you run it again, streams add the new rows and tables get
their next version.

\b
Examples:
  ksql-lake demo
  ksql-lake demo --ui       Dagster's UI on that data, server and schedules running, until Ctrl-C
"""


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        found = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time such as 2026-03-05T13:07Z") from None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


@click.command(help=_HELP)
@click.argument("folder", default="demo", type=click.Path(path_type=Path))
@click.option("--ui", is_flag=True, help="Open Dagster's UI on the demo's data instead of exporting.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535), help="Port of the UI.")
@click.option(
    "--at",
    callback=_moment,
    metavar="MOMENT",
    help="End the sample at this time, with the same rows every time.",
)
def demo(*, folder: Path, ui: bool, port: int, at: datetime | None) -> int:
    """Run the demo and return the exit code."""
    opened = open_demo(folder, at, now=datetime.now(UTC))
    lake = Lake(str(folder.resolve() / "data_lake"))
    store = folder.resolve() / "feeds"
    files = FeedStore(store).load()
    if not files.enabled:
        raise ConfigError(f"no feed in {store} is enabled", hint="Name another folder: ksql-lake demo FOLDER")
    _refuse_foreign(lake, files.enabled)
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = ["--server-version", SERVER_VERSION, *opened.server_arguments]
    note("starting the embedded ksqlDB server with two weeks of sample rows", label="demo")
    with DevServer.start(arguments=arguments) as server:
        project = DagsterProject(folder.resolve(), server.url, lake.root, store)
        note(f"the embedded ksqlDB server answers at {server.url}", label="server")
        with KsqlClient(load_settings(ksqldb_url=server.url)) as client:
            save_topology(read_topology(client), lake)
        if ui:
            return _show(project, port)
        return _export_all(opened, project, lake, files)


def _export_all(opened: DemoFolder, project: DagsterProject, lake: Lake, files: Feeds) -> int:
    broken = [file for file in files.quarantined if not file.archived]
    for file in broken:
        note(str(file.error), label="broken")
    tasks = _tasks(files.enabled, opened.closed_days(datetime.now(UTC)), live=opened.live)
    success = _export(project, lake, files.enabled, tasks)
    _explain(opened, files.enabled)
    return 0 if success and not broken else 1


def _explain(opened: DemoFolder, feeds: Iterable[Feed]) -> None:
    """Print where everything is, what fails on purpose, and the next commands."""
    path = shlex.quote(str(opened.path))
    if any(feed.name == FAILING_FEED and FAILING_COLUMN in feed.checks.not_null for feed in feeds):
        click.echo(
            f"One check fails on purpose: some rows of {FAILING_FEED} have no {FAILING_COLUMN}.\n"
            "Its severity is warn, so it stops nothing; the report and Dagster show it."
        )
    click.echo(f"\nReport on every feed:  cd {path} && ksql-lake report --offline")
    click.echo(f"Open Dagster's UI:     {_ui_command(opened.path)}")


def _export(project: DagsterProject, lake: Lake, feeds: Sequence[Feed], tasks: Sequence[Task]) -> bool:
    began = time.monotonic()
    note(f"Dagster exports {count_text(len(feeds), 'feed')}", label="demo")
    create_databases(project.home)
    logs = project.home / "demo"
    logs.mkdir(exist_ok=True)
    success = True
    for done in project.run(tasks, at_once=PROCESSES, logs=logs):
        summary = f"{done.task.what} ({done.seconds:.1f} s)"
        if done.success:
            note(summary, label="done")
        else:
            success = False
            note(f"{summary}: {what_failed(done.log)}\nThe whole log: {done.log}", label="failed")
    _print_landed(project, lake, feeds)
    click.echo(f"\n{time.monotonic() - began:.1f} s. The lake is in {lake.root}")
    return success


def _tasks(feeds: Sequence[Feed], days: tuple[str, str], *, live: bool) -> list[Task]:
    """Return two tasks: one runs the streams, a run per time zone and range of days, the other the tables.

    The current day has no partition in Dagster, so a run without a partition exports it.
    """
    zones = sorted({feed.timezone for feed in streams_of(feeds)})
    tables = [feed.name for feed in tables_of(feeds)]
    streams = count_text(len(streams_of(feeds)), "stream")
    ranges = [{"job": stream_job(zone), "tags": dict(zip(RANGE_TAGS, days, strict=True))} for zone in zones]
    today = [{"job": stream_job(zone), "tags": {DAYS_TAG: "open"}} for zone in zones if live]
    what = f"{streams}, {days[0]} to {days[1]}" + (" and today so far" if live else "")
    series = [
        ("streams", what, ranges + today),
        (
            "tables",
            f"{count_text(len(tables), 'table')}, one version each",
            [{"job": table_job(name)} for name in tables],
        ),
    ]
    module = ("-m", "ksql_lake.orchestration.job_series")
    return [Task(name, what, (*module, json.dumps(runs))) for name, what, runs in series if runs]


def _print_landed(project: DagsterProject, lake: Lake, feeds: Iterable[Feed]) -> None:
    names = [feed.name for feed in feeds]
    seconds = export_seconds(names, home=project.home)
    rows = []
    for feed in feeds:
        state = lake.feed(feed).state()
        keys = state.partition_keys()
        span = f"{keys[0]} .. {keys[-1]}" if len(keys) > 1 else "".join(keys)
        took = f"{seconds[feed.name]:.2f}" if feed.name in seconds else ""
        rows.append([feed.name, f"{len(keys)}", span, f"{state.records:,}", size_text(state.bytes), took])
    print_table(
        ["feed", "partitions", "from .. to", "records", "size", "seconds"],
        rows,
        right=["partitions", "records", "size", "seconds"],
    )


def _refuse_foreign(lake: Lake, feeds: Iterable[Feed]) -> None:
    for feed in feeds:
        read = lake.feed(feed).state().last_read
        if read is not None and read.server_version != SERVER_VERSION:
            raise ConfigError(
                f"{lake.root} holds {feed.name} from a server {read.server_version}, not from the demo",
                hint="Name another folder: ksql-lake demo FOLDER",
            )


def _show(project: DagsterProject, port: int) -> int:
    port = _free_port(port)
    process = project.start(
        ["-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
        variables={
            "KSQL_LAKE_DAGSTER_URL": f"http://127.0.0.1:{port}",
            "KSQL_LAKE_SCHEDULES": "running",
            "PYTHONWARNINGS": _SUPERSEDED,
        },
    )
    try:
        _wait_for(port, process)
        click.echo(f"Dagster's UI: http://127.0.0.1:{port}   (Ctrl-C ends it and the server)")
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        stop(process)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.2)


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ui_command(folder: Path) -> str:
    if folder == Path("demo"):
        return "make ui" if Path("Makefile").is_file() else "ksql-lake demo --ui"
    return f"ksql-lake demo {shlex.quote(str(folder))} --ui"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
