"""`ksql-lake init`: make a project folder without feeds; it overwrites nothing."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from ksql_lake.cli.project_folder import HOME, make_project
from ksql_lake.cli.terminal.output import note, print_json
from ksql_lake.errors import ConfigError

_HELP = """Make a project: a folder for feed files, and the files that Dagster needs to run them.

Writes feeds/active, feeds/archived, workspace.yaml, .dagster_home/dagster.yaml, .gitignore and .env.example
into FOLDER (default: the current folder). Existing files stay as they are. It writes no feeds.

\b
Examples:
  ksql-lake init shop
  cd shop
  export KSQLDB_URL=https://ksqldb.example.com:8088
  ksql-lake ping
"""


@click.command(help=_HELP)
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(*, folder: Path, as_json: bool) -> None:
    """Make a project folder."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file", hint="Name a folder: ksql-lake init FOLDER")
    files = list(make_project(folder))
    if as_json:
        print_json(
            {
                "folder": str(folder.resolve()),
                "written": [file.path for file in files if file.new],
                "kept": [file.path for file in files if not file.new],
            }
        )
        return
    for file in files:
        click.echo(f"{'written' if file.new else 'kept   '}  {folder / file.path}")
    sys.stdout.flush()
    note(_next_steps(folder), label="next")


def _next_steps(folder: Path) -> str:
    here = folder.resolve() == Path.cwd()
    steps = [] if here else [f"cd {shlex.quote(str(folder))}"]
    steps += [
        "export KSQLDB_URL=http://HOST:8088",
        "ksql-lake ping          # what works",
        "ksql-lake feeds add     # asks which source",
        "ksql-lake export --all  # into data_lake",
        f'export DAGSTER_HOME="$PWD/{HOME}"',
        "dagster dev             # the same, and a UI",
    ]
    return "\n".join(["", *(f"  {step}" for step in steps)])
