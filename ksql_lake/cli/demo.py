"""`ksql-lake demo`: everything once, on the embedded server, through Dagster, into this project's own lake.

Streams are exported as one range run, tables as their next version, by `dagster` processes as a person would
start them. It refuses to mix the sample's rows into a lake that was filled from another server.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

import click

from ksql_lake.cli.dagster_process import DagsterProject, Task, stop, what_failed
from ksql_lake.cli.terminal.output import note, print_table
from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import ConfigError
from ksql_lake.export.topology import read_topology, save_topology
from ksql_lake.feeds import Feed, FeedStore, streams_of, tables_of
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.orchestration.recording import create_databases, export_seconds
from ksql_lake.quantities import count_text, size_text
from ksql_lake.settings import load_settings

DAYS = ("2025-01-06", "2025-01-19")
"""First and last day of the sample."""

SERVER_VERSION = "0.29.0-demo"
"""What the demo's server calls itself, so that every commit it fed can be told from those of a real server."""

PROCESSES = 2

_HELP = """Export everything of the embedded server through Dagster, and show what landed.

Starts the embedded ksqlDB stand-in with its sample on a free port, exports every enabled feed into the
project's lake by running Dagster, and prints what landed. Run it again: streams add nothing, tables get their
next version.

\b
Examples:
  ksql-lake demo
  ksql-lake demo --ui       Dagster's UI on that data, with the server running, until Ctrl-C
"""


@click.command(help=_HELP)
@click.option("--ui", is_flag=True, help="Open Dagster's UI on what is there instead of exporting.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(0, 65535), help="Port of the UI.")
def demo(*, ui: bool, port: int) -> int:
    """Run the demo and give the exit code."""
    settings = load_settings()
    folder = Path.cwd()
    files = FeedStore(settings.feeds_root).load()
    feeds, broken = files.enabled, [file for file in files.quarantined if not file.archived]
    for file in broken:
        note(str(file.error), label="broken")
    if not feeds:
        raise ConfigError(f"no feed in {settings.feeds_root} is enabled", hint="ksql-lake feeds list")
    lake = Lake(settings.lake_root)
    _refuse_foreign(lake, feeds)
    signal.signal(signal.SIGTERM, _interrupt)
    with DevServer.start(sample=True, arguments=["--server-version", SERVER_VERSION]) as server:
        project = DagsterProject(folder, server.url, lake.root, settings.feeds_root.resolve())
        project.prepare()
        note(f"the embedded ksqlDB server answers at {server.url}", label="server")
        with KsqlClient(load_settings(ksqldb_url=server.url)) as client:
            save_topology(read_topology(client), lake)
        if ui:
            return _show(project, port)
        return 0 if _export(project, lake, feeds) and not broken else 1


def _export(project: DagsterProject, lake: Lake, feeds: Sequence[Feed]) -> bool:
    began = time.monotonic()
    create_databases(project.home)
    logs = project.home / "demo"
    logs.mkdir(exist_ok=True)
    success = True
    for done in project.run(_tasks(feeds), at_once=PROCESSES, logs=logs):
        told = f"{done.task.what} ({done.seconds:.1f} s)"
        if done.success:
            note(told, label="done")
        else:
            success = False
            note(f"{told}: {what_failed(done.log)}\nThe whole log: {done.log}", label="failed")
    _print_landed(project, lake, feeds)
    click.echo(f"\n{time.monotonic() - began:.1f} s. The lake is in {lake.root}")
    click.echo(f"See it in Dagster's UI:  {_ui_command(project.folder)}")
    return success


def _tasks(feeds: Sequence[Feed]) -> list[Task]:
    """Streams first: they take longest. One run per time zone, because a run has one partitioning."""
    by_zone: dict[str, list[str]] = {}
    for feed in streams_of(feeds):
        by_zone.setdefault(feed.timezone, []).append(feed.name)
    module, (first, last) = ("-m", "ksql_lake.definitions"), DAYS
    range_run = ("asset", "materialize", *module, "--partition-range", f"{first}...{last}", "--select")
    tasks = [
        Task(
            f"streams-{number}",
            f"{count_text(len(names), 'stream')}, {first} to {last}, one run",
            (*range_run, ",".join(names)),
        )
        for number, names in enumerate(by_zone.values(), start=1)
    ]
    return tasks + [
        Task(f"table-{name}", f"{name}, next version", ("job", "execute", *module, "-j", f"table_{name}"))
        for name in (feed.name for feed in tables_of(feeds))
    ]


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
                hint="Let the demo use another folder: KSQL_LAKE_ROOT=demo_lake ksql-lake demo",
            )


def _show(project: DagsterProject, port: int) -> int:
    port = _free_port(port)
    process = project.start(
        ["dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
        variables={"KSQL_LAKE_DAGSTER_URL": f"http://127.0.0.1:{port}"},
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
    return "make ui" if (folder / "Makefile").is_file() else "ksql-lake demo --ui"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
