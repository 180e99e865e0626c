"""The page about large topics: every command on it is typed, in its order, and prints what it is said to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from ksql_lake.devserver.door import append
from ksql_lake.devserver.process import DevServer
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.settings import load_settings
from ksql_lake_tests.cli.conftest import Cli, Project
from ksql_lake_tests.cli.pages import DOCS, commands
from ksql_lake_tests.cli.test_continuing import WILLING

PAGE = "large-topics.md"
MIDNIGHT = 1_736_121_600_000
"""2025-01-06 in UTC."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[DevServer]:
    """A server whose administrator set what the page asks for, with the page's stream and 48 hours of it."""
    with DevServer.start(arguments=WILLING) as running:
        monkeypatch.setenv("KSQLDB_URL", running.url)
        monkeypatch.setenv("KSQLDB_QUIET_SECONDS", "0.5")
        with KsqlClient(load_settings()) as client:
            client.execute(
                "CREATE STREAM ORDERS (ID BIGINT, NOTE STRING) "
                "WITH (KAFKA_TOPIC='orders', VALUE_FORMAT='JSON', PARTITIONS=2);"
            )
        come(running, *range(48))
        yield running


def come(server: DevServer, *hours: int, first: int = 0) -> None:
    """Let an order come in each of these hours since the page's first day."""
    rows = [
        {"ROWTIME": MIDNIGHT + hour * 3_600_000, "ID": first + number, "NOTE": f"order of hour {hour}"}
        for number, hour in enumerate(hours)
    ]
    append(server.url, "ORDERS", rows)


def test_every_command_of_the_page_works(cli: Cli, project: Project, server: DevServer) -> None:
    """Typed one after another they succeed, and each line that the page shows is printed."""
    headings = Counter[str]()
    for typed in commands(PAGE):
        if typed.heading.startswith("4.") and not headings[typed.heading]:
            come(server, 48, 49, 3, first=48)
        headings[typed.heading] += 1

        said = cli(*typed.arguments)

        assert said.code == 0, (typed.arguments, said)
        assert typed.missing(said.out + said.err) == [], (typed.arguments, said)
    assert len(headings) >= 7
    assert project.rows("orders") == project.rows("orders_by_pull") == 51


def test_the_page_names_what_the_server_needs() -> None:
    """Both settings stand on the page, and so does every way of advice, in its order."""
    text = (DOCS / PAGE).read_text(encoding="utf-8")

    for setting in ("ksql.query.push.v2.registry.installed=true", "ksql.query.push.v2.new.latest.delay.ms=0"):
        assert f"`{setting}`" in text
    table = text[text.index("## What helps") : text.index("## What the server needs")]
    places = [
        table.index(words) for words in ("**continue**", "RETENTION_MS", "fewer columns", "fewer exports")
    ]
    assert places == sorted(places)


@pytest.mark.usefixtures("server")
def test_the_statement_of_the_second_advice_runs() -> None:
    """The derived stream that keeps less can be made as the page has it."""
    (statement,) = re.findall(r"`(CREATE STREAM ORDERS_3D [^`]*;)`", (DOCS / PAGE).read_text(encoding="utf-8"))

    with KsqlClient(load_settings()) as client:
        (made,) = client.execute(statement)

    assert made["commandStatus"]["status"] == "SUCCESS"
