"""`ksql-lake alerts`: show where alerts go, and send a test."""

from __future__ import annotations

import click

from ksql_lake.alerts import Alert, channels, send_alert
from ksql_lake.cli.entry import DONE, FAILED
from ksql_lake.cli.terminal.output import print_json, print_table
from ksql_lake.settings import Settings, load_settings

_HELP = """Show where the alerts of Dagster's sensors go; with --test, send a test there.

Alerts report failed runs, failed checks and days that Kafka will delete soon. They always go to the log.
KSQL_LAKE_ALERT_WEBHOOK names an address to post JSON to (Slack, Mattermost and Google Chat show its `text`);
KSQL_LAKE_ALERT_EMAIL names addresses that get an e-mail through KSQL_LAKE_SMTP_URL.

\b
Examples:
  ksql-lake alerts
  KSQL_LAKE_ALERT_EMAIL=ops@example.com ksql-lake alerts --test

Exit codes: 0 done, 1 a channel did not accept the test, 2 usage or configuration.
"""


@click.command(help=_HELP)
@click.option("--test", is_flag=True, help="Send an alert that says it is a test.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def alerts(context: click.Context, /, *, test: bool, as_json: bool) -> None:
    """Show where alerts go."""
    settings = load_settings()
    rows = [[channel, _where(channel, settings)] for channel in channels(settings)]
    problems = _test(settings) if test else {}
    outcomes = {channel: problems.get(channel) or "sent" for channel, _ in rows} if test else {}
    if as_json:
        listed = [{"channel": channel, "where": where} for channel, where in rows]
        print_json([entry | ({"outcome": outcomes[entry["channel"]]} if test else {}) for entry in listed])
    else:
        table = [[*row, *([outcomes[row[0]]] if test else [])] for row in rows]
        print_table(["Channel", "Where", *(["Test"] if test else [])], table, flexible=("Where", "Test"))
    context.exit(FAILED if any(problems.values()) else DONE)


def _test(settings: Settings) -> dict[str, str]:
    alert = Alert("test", "ksql-lake: a test", "Sent by: ksql-lake alerts --test")
    return {delivery.channel: delivery.problem for delivery in send_alert(alert, settings)}


def _where(channel: str, settings: Settings) -> str:
    if channel == "webhook":
        return "the address in KSQL_LAKE_ALERT_WEBHOOK"
    if channel == "e-mail":
        return f"{', '.join(settings.alert_recipients)} through {settings.smtp_url}"
    return "ksql_lake.alerts, level ERROR"
