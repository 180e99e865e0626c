"""The tree of commands; a command's module is imported when it is called, so help and typos answer at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_HELP = """Export ksqlDB streams and tables into a plain Parquet lake, exactly once.

\b
Examples:
  ksql-lake demo                         see everything, no server needed
  ksql-lake init shop                    make a project for your server
  ksql-lake ping                         check the server and what can be exported from it
  ksql-lake feeds discover               list sources that no feed exports
  ksql-lake feeds add --source ORDERS --start-date 2025-01-01
  ksql-lake plan --all                   show what an export would read
  ksql-lake export --all                 export every enabled feed
  ksql-lake export --stream orders --from 2025-01-01 --to 2025-01-31
  ksql-lake sql "SHOW TABLES"            query the lake, one view per feed
  ksql-lake doctor                       verify the lake against its manifests

\b
Environment (default):
  KSQLDB_URL       the server (http://localhost:8088)
  KSQLDB_USER, KSQLDB_PASSWORD, KSQLDB_TOKEN, KSQLDB_CA_FILE, ...
  KSQL_LAKE_ROOT   the lake's folder (data_lake), or s3://bucket/prefix
  KSQL_LAKE_FEEDS  the folder of feed files (feeds)
  DAGSTER_HOME     when set, exports are recorded in this Dagster instance

Exit codes: 0 done, 1 at least one feed or check failed, 2 usage or configuration, 130 interrupted.
"""

_FEEDS_HELP = """The feed files: what to export, how and when.

\b
Examples:
  ksql-lake feeds list
  ksql-lake feeds add --source ORDERS --start-date 2025-01-01
  ksql-lake feeds validate && echo all fine
  ksql-lake feeds archive orders         stop its exports; its data stays
"""


@dataclass(frozen=True, slots=True)
class Lazy:
    """The place of a command (`module:attribute`) and its line in the group's help."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group that lists its commands by name and help line, and imports one when it is called.

    Args:
        lazy: The commands, in the order of the help.
        **attrs: What `click.Group` takes.
    """

    def __init__(self, *, lazy: Mapping[str, Lazy], **attrs: Any) -> None:
        stubs = {name: click.Command(name, short_help=entry.help) for name, entry in lazy.items()}
        super().__init__(commands=stubs, **attrs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order they were listed, not sorted."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command and return it."""
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without importing the commands."""
        found = [name for name in self.commands if name.startswith(incomplete)]
        helps = {name: entry.help for name, entry in self.lazy.items()}
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=helps.get(name)) for name in found]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.lazy.items()])


feeds = LazyGroup(
    name="feeds",
    help=_FEEDS_HELP,
    context_settings=_CONTEXT,
    lazy={
        "list": Lazy("ksql_lake.cli.feeds.manage:list_feeds", "List all feeds and their state."),
        "show": Lazy("ksql_lake.cli.feeds.manage:show", "Show a feed with every key, defaults included."),
        "validate": Lazy("ksql_lake.cli.feeds.validate:validate", "Show all problems of all feed files."),
        "add": Lazy("ksql_lake.cli.feeds.add:add", "Write a new feed file."),
        "discover": Lazy("ksql_lake.cli.feeds.add:discover", "List sources that no feed exports."),
        "enable": Lazy("ksql_lake.cli.feeds.manage:enable", "Let exports, schedules and Dagster use a feed."),
        "disable": Lazy("ksql_lake.cli.feeds.manage:disable", "Leave a feed out; file and data stay."),
        "archive": Lazy("ksql_lake.cli.feeds.manage:archive", "Disable a feed and move its file to archived/."),
        "restore": Lazy("ksql_lake.cli.feeds.manage:restore", "Move an archived feed back and enable it."),
        "accept": Lazy("ksql_lake.cli.feeds.manage:accept", "Move a proposed feed to active/."),
        "prepare": Lazy("ksql_lake.cli.feeds.prepare:prepare", "Make a stream with Kafka's offsets."),
        "schema": Lazy("ksql_lake.cli.feeds.manage:schema", "Print the JSON Schema of feed files."),
    },
)


class _Root(LazyGroup):
    """The root group, which also holds the group `feeds`; that one needs no lazy import."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return feeds if cmd_name == "feeds" else super().get_command(ctx, cmd_name)


app = _Root(
    name="ksql-lake",
    help=_HELP,
    context_settings=_CONTEXT,
    lazy={
        "demo": Lazy("ksql_lake.cli.demo:demo", "Export the sample feeds from the embedded server."),
        "init": Lazy("ksql_lake.cli.init:init", "Make a project folder for your server."),
        "ping": Lazy("ksql_lake.cli.ping:ping", "Check the server and what can be exported from it."),
        "devserver": Lazy("ksql_lake.devserver.__main__:main", "Run the embedded ksqlDB stand-in alone."),
        "feeds": Lazy("ksql_lake.cli.app:feeds", "Add, list, check and archive feed files."),
        "plan": Lazy("ksql_lake.cli.plan:plan", "Show what an export would read; sends nothing."),
        "export": Lazy("ksql_lake.cli.export:export", "Read feeds and land them in the lake."),
        "certify": Lazy("ksql_lake.cli.certify:certify", "Compare a day in the lake with its source."),
        "compact": Lazy("ksql_lake.cli.compact:compact", "Merge the small files of closed days."),
        "retention": Lazy("ksql_lake.cli.retention:retention", "Remove old table versions."),
        "sql": Lazy("ksql_lake.cli.sql:sql", "Query the lake in SQL, one view per feed."),
        "head": Lazy("ksql_lake.cli.glance:head", "Show a feed's first rows."),
        "describe": Lazy("ksql_lake.cli.glance:describe", "Show what the lake holds of a feed."),
        "schema": Lazy("ksql_lake.cli.glance:schema", "Show a feed's columns, or DDL for another engine."),
        "profile": Lazy("ksql_lake.cli.glance:profile", "Summarise each column of a feed by its values."),
        "catalog": Lazy("ksql_lake.cli.catalog:catalog", "Write a DuckDB file with the lake's views, for BI."),
        "diff": Lazy("ksql_lake.cli.diff:diff", "Compare two versions of a table."),
        "register": Lazy("ksql_lake.cli.register:register", "Index the lake as Delta Lake or Iceberg."),
        "doctor": Lazy("ksql_lake.cli.doctor:doctor", "Verify the lake against its manifests; repair it."),
        "alerts": Lazy("ksql_lake.cli.alerts:alerts", "Show where alerts go; send a test."),
        "completion": Lazy("ksql_lake.cli.completion:completion", "Print a shell's completion script."),
        "report": Lazy("ksql_lake.cli.report:report", "Report every feed's state: table, HTML, JSON, metrics."),
    },
)
click.version_option(package_name="ksql-lake", message="%(package)s %(version)s")(app)
click.option(
    "-v", "--verbose", is_flag=True, expose_value=False, help="Report each step (works after any command)."
)(app)
click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, help="Report only problems (works after any command)."
)(app)
click.option(
    "--debug", is_flag=True, help="Show the traceback of an unexpected error (works after any command)."
)(app)
