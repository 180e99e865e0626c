"""The tree of commands: each one's module is imported when it is called, so help and typos answer at once."""

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
  ksql-lake init shop                    a project for a server of your own
  ksql-lake ping                         does the server answer, and what can be exported from it?
  ksql-lake feeds discover               what the server has and no feed exports
  ksql-lake feeds add --source ORDERS --start-date 2025-01-01
  ksql-lake plan --all                   what an export would read
  ksql-lake export --all                 every enabled feed, what is due
  ksql-lake export --stream orders --from 2025-01-01 --to 2025-01-31
  ksql-lake sql "SHOW TABLES"            the lake in SQL, one view per feed
  ksql-lake doctor                       is the lake what its own files say?

\b
Environment (default):
  KSQLDB_URL       the server (http://localhost:8088)
  KSQLDB_USER, KSQLDB_PASSWORD, KSQLDB_TOKEN, KSQLDB_CA_FILE, ...
  KSQL_LAKE_ROOT   the lake's folder (data_lake), or s3://bucket/prefix
  KSQL_LAKE_FEEDS  the folder of feed files (feeds)
  DAGSTER_HOME     when set, exports are told to this Dagster instance

Exit codes: 0 done, 1 at least one feed or check failed, 2 usage or configuration, 130 interrupted.
"""

_FEEDS_HELP = """The feed files: what to export, how and when.

\b
Examples:
  ksql-lake feeds list
  ksql-lake feeds add --source ORDERS --start-date 2025-01-01
  ksql-lake feeds validate && echo all fine
  ksql-lake feeds archive orders         out of the way; its data stays
"""


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives (`module:attribute`) and its line in the group's help."""

    target: str
    help: str


class LazyGroup(click.Group):
    """A group that knows its commands by name and help line, and imports one when it is called.

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
        """Import and give a command."""
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
        "list": Lazy("ksql_lake.cli.feeds.manage:list_feeds", "All feeds and the state they are in."),
        "show": Lazy("ksql_lake.cli.feeds.manage:show", "One feed with every key, defaults included."),
        "validate": Lazy("ksql_lake.cli.feeds.validate:validate", "All problems of all feed files."),
        "add": Lazy("ksql_lake.cli.feeds.add:add", "Write a new feed file."),
        "discover": Lazy("ksql_lake.cli.feeds.add:discover", "Sources of the server that no feed exports."),
        "enable": Lazy("ksql_lake.cli.feeds.manage:enable", "Let exports, schedules and Dagster take a feed."),
        "disable": Lazy("ksql_lake.cli.feeds.manage:disable", "Leave a feed out; file and data stay."),
        "archive": Lazy("ksql_lake.cli.feeds.manage:archive", "Disable a feed and put its file away."),
        "restore": Lazy("ksql_lake.cli.feeds.manage:restore", "Bring an archived feed back, enabled."),
        "accept": Lazy("ksql_lake.cli.feeds.manage:accept", "Make a proposed feed an active one."),
        "prepare": Lazy("ksql_lake.cli.feeds.prepare:prepare", "A stream that carries Kafka's offsets."),
        "schema": Lazy("ksql_lake.cli.feeds.manage:schema", "The JSON Schema of a feed file, for editors."),
    },
)


class _Root(LazyGroup):
    """The root also holds the group `feeds`, which is light enough to be there at once."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return feeds if cmd_name == "feeds" else super().get_command(ctx, cmd_name)


app = _Root(
    name="ksql-lake",
    help=_HELP,
    context_settings=_CONTEXT,
    lazy={
        "demo": Lazy("ksql_lake.cli.demo:demo", "Everything once, on the embedded server and sample feeds."),
        "init": Lazy("ksql_lake.cli.init:init", "A project folder for a server of your own."),
        "ping": Lazy("ksql_lake.cli.ping:ping", "Does the server answer, and what can be exported from it?"),
        "devserver": Lazy("ksql_lake.devserver.__main__:main", "The embedded ksqlDB stand-in alone."),
        "feeds": Lazy("ksql_lake.cli.app:feeds", "Add, list, check and archive feed files."),
        "plan": Lazy("ksql_lake.cli.plan:plan", "What an export would read; sends nothing."),
        "export": Lazy("ksql_lake.cli.export:export", "Read feeds and land them in the lake."),
        "certify": Lazy("ksql_lake.cli.certify:certify", "Compare a day in the lake with its source."),
        "compact": Lazy("ksql_lake.cli.compact:compact", "Merge the small files of closed days."),
        "retention": Lazy("ksql_lake.cli.retention:retention", "Remove old table versions."),
        "sql": Lazy("ksql_lake.cli.sql:sql", "Ask the lake: one view per feed; table, CSV, JSON, Parquet."),
        "head": Lazy("ksql_lake.cli.glance:head", "A feed's first rows."),
        "describe": Lazy("ksql_lake.cli.glance:describe", "What the lake holds of a feed."),
        "schema": Lazy("ksql_lake.cli.glance:schema", "A feed's columns; DDL for DuckDB, Spark, Trino."),
        "profile": Lazy("ksql_lake.cli.glance:profile", "Each column of a feed by its values."),
        "catalog": Lazy("ksql_lake.cli.catalog:catalog", "A DuckDB file of the lake's views, for BI."),
        "diff": Lazy("ksql_lake.cli.diff:diff", "What changed between two versions of a table."),
        "register": Lazy("ksql_lake.cli.register:register", "Delta or Iceberg over the same files."),
        "doctor": Lazy("ksql_lake.cli.doctor:doctor", "Check the lake against its own files; repair it."),
        "alerts": Lazy("ksql_lake.cli.alerts:alerts", "Where alerts go; sends one as a test."),
        "completion": Lazy("ksql_lake.cli.completion:completion", "Let a shell complete commands and names."),
        "report": Lazy("ksql_lake.cli.report:report", "How every feed is: table, HTML, JSON, CSV, Prometheus."),
    },
)
click.version_option(package_name="ksql-lake", message="%(package)s %(version)s")(app)
click.option(
    "-v", "--verbose", is_flag=True, expose_value=False, help="Say each step (works behind any command)."
)(app)
click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, help="Say only what is wrong (works behind any command)."
)(app)
click.option(
    "--debug", is_flag=True, help="Show the traceback of an unexpected error (works behind any command)."
)(app)
