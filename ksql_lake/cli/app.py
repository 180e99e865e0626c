"""The tree of commands. Nothing is imported here but click; each command's module loads when it is called."""

from __future__ import annotations

import click

from ksql_lake.cli.lazy import Lazy, LazyGroup

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_HELP = """Export ksqlDB streams and tables into a plain Parquet lake, exactly once.

\b
Examples:
  ksql-lake demo                         see everything, no server needed
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

Exit codes: 0 done, 1 at least one feed failed, 2 usage or configuration, 130 interrupted.
"""

_FEEDS_HELP = """The feed files: what to export, how and when.

\b
Examples:
  ksql-lake feeds list
  ksql-lake feeds add --source ORDERS --start-date 2025-01-01
  ksql-lake feeds validate && echo all fine
  ksql-lake feeds archive orders         out of the way; its data stays
"""

feeds = LazyGroup(
    name="feeds",
    help=_FEEDS_HELP,
    context_settings=_CONTEXT,
    lazy={
        "list": Lazy("ksql_lake.cli.feed_listing:list_feeds", "All feeds and the state they are in."),
        "show": Lazy("ksql_lake.cli.feed_listing:show", "One feed with every key, defaults included."),
        "validate": Lazy("ksql_lake.cli.feed_validating:validate", "All problems of all feed files."),
        "add": Lazy("ksql_lake.cli.feed_adding:add", "Write a new feed file."),
        "discover": Lazy("ksql_lake.cli.feed_adding:discover", "Sources of the server that no feed exports."),
        "enable": Lazy("ksql_lake.cli.feed_changing:enable", "Let exports, schedules and Dagster take a feed."),
        "disable": Lazy("ksql_lake.cli.feed_changing:disable", "Leave a feed out; file and data stay."),
        "archive": Lazy("ksql_lake.cli.feed_changing:archive", "Disable a feed and put its file away."),
        "restore": Lazy("ksql_lake.cli.feed_changing:restore", "Bring an archived feed back, enabled."),
        "accept": Lazy("ksql_lake.cli.feed_changing:accept", "Make a proposed feed an active one."),
        "prepare": Lazy("ksql_lake.cli.feed_preparing:prepare", "A stream that carries Kafka's offsets."),
        "schema": Lazy("ksql_lake.cli.feed_listing:schema", "The JSON Schema of a feed file, for editors."),
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
        "devserver": Lazy("ksql_lake.devserver.__main__:main", "The embedded ksqlDB stand-in alone."),
        "feeds": Lazy("ksql_lake.cli.app:feeds", "Add, list, check and archive feed files."),
        "plan": Lazy("ksql_lake.cli.planning:plan", "What an export would read; sends nothing."),
        "export": Lazy("ksql_lake.cli.exporting:export", "Read feeds and land them in the lake."),
        "certify": Lazy("ksql_lake.cli.certifying:certify", "Compare a day in the lake with its source."),
        "compact": Lazy("ksql_lake.cli.compacting:compact", "Merge the small files of closed days."),
        "retention": Lazy("ksql_lake.cli.retaining:retention", "Remove old table versions."),
        "sql": Lazy("ksql_lake.cli.sql:sql", "Ask the lake: one view per feed; table, CSV, JSON, Parquet."),
        "head": Lazy("ksql_lake.cli.glancing:head", "A feed's first rows."),
        "describe": Lazy("ksql_lake.cli.glancing:describe", "What the lake holds of a feed."),
        "schema": Lazy("ksql_lake.cli.glancing:schema", "A feed's columns; DDL for DuckDB, Spark, Trino."),
        "profile": Lazy("ksql_lake.cli.glancing:profile", "Each column of a feed by its values."),
        "catalog": Lazy("ksql_lake.cli.cataloguing:catalog", "A DuckDB file of the lake's views, for BI."),
        "diff": Lazy("ksql_lake.cli.diffing:diff", "What changed between two versions of a table."),
        "register": Lazy("ksql_lake.cli.registering:register", "Delta or Iceberg over the same files."),
        "doctor": Lazy("ksql_lake.cli.doctoring:doctor", "Check the lake against its own files; repair it."),
        "alerts": Lazy("ksql_lake.cli.alerting:alerts", "Where alerts go; sends one as a test."),
        "report": Lazy(
            "ksql_lake.cli.reporting:report", "How every feed is: table, HTML, JSON, CSV, Prometheus."
        ),
    },
)
click.version_option(package_name="ksql-lake", message="%(package)s %(version)s")(app)
click.option(
    "--debug", is_flag=True, help="Show the traceback of an unexpected error (works behind any command)."
)(app)
