"""`ksql-lake feeds add | discover`, with and without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import requests

from ksql_lake_tests.cli.conftest import Cli, Orders, Project, Server


def written(project: Project, name: str) -> dict[str, object]:
    """The object in a feed file."""
    content: dict[str, object] = json.loads((project.root / "feeds" / "active" / f"{name}.json").read_text())
    return content


def test_the_server_says_what_a_source_is(cli: Cli, project: Project, server: Server) -> None:
    """With a server, the source is enough for a table and a first day for a stream; the rest is looked up."""
    assert server.url

    table = cli("feeds", "add", "--source", "MERCHANTS")
    stream = cli("feeds", "add", "--source", "LOGIN_EVENTS", "--start-date", "2025-01-06", "--name", "logins")

    assert (table.code, table.out) == (0, "written: feeds/active/merchants.json\n")
    assert table.err == "next: see what an export would read: ksql-lake plan --table merchants\n"
    assert written(project, "merchants")["kind"] == "table"
    assert (stream.code, stream.out) == (0, "written: feeds/active/logins.json\n")
    assert written(project, "logins") == {
        "name": "logins",
        "kind": "stream",
        "source": "LOGIN_EVENTS",
        "enabled": True,
        "start_date": "2025-01-06",
        "timezone": "UTC",
        "schedule": None,
    }
    assert cli("feeds", "validate").code == 0


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("--source MERCHANT", 2, "the server has no stream or table 'MERCHANT'\nDid you mean 'MERCHANTS'?"),
        ("--source merchants", 2, "the server has no stream or table 'merchants'\nDid you mean 'MERCHANTS'?"),
        ("--source ZZZ", 2, "'ZZZ'\nList its sources: ksql-lake feeds discover"),
        ("--source MERCHANTS --kind stream --start-date 2025-01-01", 2, "MERCHANTS is a table on the server"),
        ("--source LOGIN_EVENTS", 2, 'start_date: is missing; the first day to export, e.g. "2025-01-31"'),
        ("--source LOGIN_EVENTS --start-date 6.1.25", 2, 'start_date: must be a day written "YYYY-MM-DD"'),
        ("--source LOGIN_EVENTS --start-date 2025-01-06 --column USERID", 2, "Did you mean 'USER_ID'?"),
        (
            "--source LOGIN_EVENTS --start-date 2025-01-06 --event-time IP",
            2,
            "event_time 'IP' is STRING; it must be BIGINT (epoch ms) or TIMESTAMP",
        ),
        ("--source PLAIN --extraction pull", 1, 'Set "extraction": "push" in the feed file, or create a'),
        ("--source MERCHANTS --deleted", 2, '`deleted` needs "extraction": "push"'),
    ],
)
def test_what_does_not_fit_the_server_is_not_written(
    cli: Cli, project: Project, server: Server, line: str, code: int, text: str
) -> None:
    """A source, kind or column that the server does not have is an error, and no file is written."""
    assert server.url

    said = cli("feeds", "add", *line.split())

    assert (code, "") == (said.code, said.out)
    assert text in said.err
    assert list((project.root / "feeds" / "active").iterdir()) == []


def test_without_the_server_the_feed_is_written_unchecked(cli: Cli, project: Project) -> None:
    """An unreachable server is a warning; with `--offline` it is not even asked."""
    unreached = cli("feeds", "add", "--source", "TOTALS", "--kind", "table")
    offline = cli(
        "feeds", "add", "--source", "ORDERS", "--kind", "stream", "--start-date", "2025-01-01", "--offline"
    )
    kindless = cli("feeds", "add", "--source", "X", "--offline")

    assert unreached.code == 0
    assert unreached.err.startswith("warning: http://127.0.0.1:9 does not answer; TOTALS was not checked\n")
    assert offline.code == 0
    assert "warning" not in offline.err
    assert (
        kindless.code,
        kindless.err.partition("Help")[0],
    ) == (2, "error: without the server --kind is needed: stream or table\n")
    assert sorted(path.name for path in (project.root / "feeds" / "active").iterdir()) == [
        "orders.json",
        "totals.json",
    ]


def test_every_option_arrives_in_the_file(cli: Cli, project: Project) -> None:
    """What is given on the line stands in the file under its key, in stable order."""
    said = cli(
        "feeds", "add", "--offline", "--kind", "stream", "--source", "ORDERS", "--start-date", "2025-01-01",
        "--description", "Orders as they come", "--timezone", "Europe/Berlin", "--event-time", "TS",
        "--column", "ID", "--column", "TS", "--rename", "ID=order_id", "--identity", "key",
        "--identity-column", "ID", "--lookback-days", "2", "--compression", "zstd:3", "--on-schema-change",
        "freeze", "--schedule", "5 * * * *", "--owner", "team:payments", "--tag", "domain=payments",
        "--disabled",
    )  # fmt: skip

    assert said.code == 0, said.err
    assert said.err == ""
    assert list(written(project, "orders").items()) == [
        ("name", "orders"),
        ("kind", "stream"),
        ("source", "ORDERS"),
        ("description", "Orders as they come"),
        ("enabled", False),
        ("start_date", "2025-01-01"),
        ("timezone", "Europe/Berlin"),
        ("event_time", "TS"),
        ("columns", ["ID", "TS"]),
        ("rename", {"ID": "order_id"}),
        ("identity", {"by": "key", "columns": ["ID"]}),
        ("lookback_days", 2),
        ("compression", "zstd:3"),
        ("on_schema_change", "freeze"),
        ("schedule", "5 * * * *"),
        ("owners", ["team:payments"]),
        ("tags", {"domain": "payments"}),
    ]


def test_numbers_given_as_zero_arrive_too(cli: Cli, project: Project) -> None:
    """0 is a value, not an absent option."""
    line = "feeds add --offline --kind table --source T --min-ratio-to-previous 0 --retention 1"
    said = cli(*line.split())

    assert said.code == 0, said.err
    assert written(project, "t")["min_ratio_to_previous"] == 0.0
    line = "feeds add --offline --kind stream --source S --start-date 2025-01-01 --lookback-days 0"
    assert cli(*line.split()).code == 0
    assert written(project, "s")["lookback_days"] == 0


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--kind table --source T --rename A", "error: --rename 'A' must be written --rename NAME=VALUE"),
        (
            "--kind tabel --source T",
            "error: invalid value for '--kind': 'tabel' is not one of 'stream', 'table'.",
        ),
        ("--kind table --source T --lookback-days 1", "lookback_days: is a key of stream feeds only"),
        ("--kind table --source T --name Bad", "name: must start with a lower-case letter"),
        ("--kind table", "error: --source is needed"),
    ],
)
def test_a_wrong_option_is_told(cli: Cli, line: str, text: str) -> None:
    """Options are held to the same rules as feed files, in the same words."""
    said = cli("feeds", "add", "--offline", *line.split())

    assert (said.code, said.out) == (2, "")
    assert text in said.err


def test_dry_run_prints_the_file_and_writes_nothing(cli: Cli, project: Project) -> None:
    """What would be written can be seen first."""
    said = cli("feeds", "add", "--offline", "--kind", "table", "--source", "T", "--dry-run")

    assert json.loads(said.out)["name"] == "t"
    assert list((project.root / "feeds" / "active").iterdir()) == []


def test_a_taken_name_is_refused(cli: Cli, project: Project) -> None:
    """Nothing is ever overwritten; an archived feed says how to bring it back."""
    project.feed({"name": "t", "kind": "table", "source": "T"}, folder="archived")

    said = cli("feeds", "add", "--offline", "--kind", "table", "--source", "T")

    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "error: file feeds/archived/t.json: there is already a feed file named 't'\n"
        "It is archived; bring it back with: ksql-lake feeds restore t\n"
    )


def test_discover_lists_what_no_feed_exports(cli: Cli, project: Project, server: Server) -> None:
    """Sources of active, archived and mistyped feeds are left out; those that cannot be exported say why."""
    assert server.url
    project.feed({"name": "m", "kind": "table", "source": "MERCHANTS"})
    project.feed({"name": "fx", "kind": "table", "source": "FX_RATES"}, folder="archived")
    project.feed("{", file="login_events.json")
    project.feed({"name": "totals", "kind": "table", "source": "USER_TRANSACTION_SUMMARY", "shedule": "hourly"})

    said = cli("feeds", "discover")
    as_json = json.loads(cli("feeds", "discover", "--json").out)

    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[0] == ["SOURCE", "KIND", "PROPOSED", "FEED", "EXTRACTION"]
    assert ["LOGIN_EVENTS", "stream", "login_events_2", "pull"] in lines
    assert ["PLAIN", "table", "plain", "push"] in lines
    assert not {"MERCHANTS", "FX_RATES", "USER_TRANSACTION_SUMMARY"} & {line[0] for line in lines}
    assert "note: PLAIN is read by push query: PLAIN is a plain CREATE TABLE" in said.err
    assert {source["name"]: source["extraction"] for source in as_json}["PLAIN"] == "push"


def test_discover_writes_disabled_feeds(cli: Cli, project: Project, server: Server) -> None:
    """`--write` proposes a file for each source and enables none; afterwards nothing is left."""
    assert server.url

    dateless = cli("feeds", "discover", "--write")
    said = cli("feeds", "discover", "--write", "--start-date", "2025-01-06")
    again = cli("feeds", "discover")

    assert dateless.code == 2
    assert "--write needs --start-date" in dateless.err
    assert said.code == 0
    assert "note: 9 feed files written, disabled; review them, then: ksql-lake feeds enable NAME\n" in said.err
    assert written(project, "login_events")["enabled"] is False
    assert cli("feeds", "validate").code == 0
    assert written(project, "plain")["extraction"] == "push"
    assert again.out == ""
    assert "every source of the server has a feed" in again.err


def test_discover_of_an_unreachable_server_is_one_paragraph(project: Project) -> None:
    """Without a server there is nothing to discover: the error is one line and its hint."""
    said = project.process("feeds", "discover", KSQLDB_ATTEMPTS="1")

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: server http://127.0.0.1:9: cannot connect: connection refused")
    assert "Traceback" not in said.err


def test_discover_renames_and_tells_apart(cli: Cli, project: Project, server: Server) -> None:
    """Columns that cannot keep their name get another; sources that differ in case only get two feeds."""
    made = "WITH (KAFKA_TOPIC='{}', VALUE_FORMAT='JSON', PARTITIONS=1);"
    talk = requests.Session()
    for name, columns in (("Odd", "`year` INT, x INT, `x` INT, `rowtime` BIGINT"), ("ODD", "ID INT")):
        text = f"CREATE STREAM `{name}` ({columns}) {made.format(name)}"
        talk.post(f"{server.url}/ksql", json={"ksql": text}, timeout=30).raise_for_status()
    try:
        said = cli("feeds", "discover", "--write", "--enabled", "--start-date", "2025-01-06")
        feeds = {written(project, name)["source"]: name for name in ("odd", "odd_2")}
        wanted = written(project, feeds["Odd"])
        added = cli("feeds", "add", "--source", "Odd", "--start-date", "2025-01-06", "--dry-run")
        checked = cli("feeds", "validate", "--server")
    finally:
        for name in ("Odd", "ODD"):
            talk.post(f"{server.url}/ksql", json={"ksql": f"DROP STREAM `{name}`;"}, timeout=30)

    assert said.code == 0, said.err
    assert set(feeds) == {"Odd", "ODD"}
    assert wanted["rename"] == {"year": "year_", "x": "x_", "rowtime": "rowtime_"}
    assert checked.code == 0, checked.out
    assert '"name": "odd' in added.out


def test_a_windowed_stream_is_discovered_and_validated_with_its_bounds(
    cli: Cli, project: Project, server: Server
) -> None:
    """WINDOWSTART and WINDOWEND may be named as columns and renamed there, and of no other stream."""
    talk = requests.Session()
    plain = "(U STRING KEY, N BIGINT) WITH (KAFKA_TOPIC='{}', VALUE_FORMAT='JSON', PARTITIONS=1{});"
    window = ", WINDOW_TYPE='TUMBLING', WINDOW_SIZE='1 HOURS'"
    for name, kind in (("HOURLY", window), ("UNCUT", "")):
        text = f"CREATE STREAM {name} {plain.format(name, kind)}"
        talk.post(f"{server.url}/ksql", json={"ksql": text}, timeout=30).raise_for_status()
    try:
        said = cli("feeds", "discover", "--write", "--enabled", "--start-date", "2025-01-06")
        found = {name: written(project, name) for name in ("hourly", "uncut")}
        accepted = cli("feeds", "validate", "--server")
        for name, wanted in found.items():
            project.feed(
                {**wanted, "columns": ["U", "WINDOWEND"], "rename": {"WINDOWSTART": "OPENED"}},
                file=f"{name}.json",
            )
        checked = cli("feeds", "validate", "--server")
    finally:
        for name in ("HOURLY", "UNCUT"):
            talk.post(f"{server.url}/ksql", json={"ksql": f"DROP STREAM {name};"}, timeout=30)

    assert (said.code, accepted.code) == (0, 0), said.err + accepted.out
    assert "rename" not in found["hourly"]
    assert checked.code != 0
    assert "hourly" not in checked.out
    assert "`columns` names the column 'WINDOWEND', which UNCUT does not have" in checked.out


def test_a_second_feed_reads_all_days_with_an_added_column(cli: Cli, project: Project, server: Server) -> None:
    """The commands of docs/feeds.md for ALTER ... ADD COLUMN run as they stand and double nothing."""
    page = Path(__file__).parents[2].joinpath("docs", "feeds.md").read_text()
    section = page[page.index("ALTER STREAM ORDERS ADD COLUMN") :]
    lines = section[section.index("```sh") : section.index("```\n\n")].splitlines()[1:]
    talk = requests.Session()

    def ask(text: str) -> None:
        talk.post(f"{server.url}/ksql", json={"ksql": text}, timeout=30).raise_for_status()

    def append(**row: object) -> None:
        rows = f"{server.url}/devserver/sources/ORDERS/rows"
        talk.post(rows, data=json.dumps({"ROWTIME": 1_736_121_600_000, **row}), timeout=30).raise_for_status()

    def notes(name: str) -> list[tuple[int, str | None]]:
        found = (project.root / "data_lake" / "streams" / name).rglob("*.parquet")
        tables = [pq.ParquetFile(path).read(["ID", "NOTE"]) for path in sorted(found)]
        return sorted((row["ID"], row["NOTE"]) for table in tables for row in table.to_pylist())

    ask("CREATE STREAM ORDERS (ID INT) WITH (KAFKA_TOPIC='orders', VALUE_FORMAT='JSON', PARTITIONS=1);")
    try:
        append(ID=1)
        cli("feeds", "add", "--source", "ORDERS", "--start-date", "2025-01-06")
        cli("export", "--stream", "orders")
        ask(section[: section.index("`")])
        append(ID=2, NOTE="new")
        again = cli("export", "--stream", "orders", "--date", "2025-01-06", "--json")
        said = {line: cli(*line.split()[1:]) for line in lines}
    finally:
        ask("DROP STREAM ORDERS;")

    assert json.loads(again.out)["exports"][0]["new"] == 1
    assert {line: one.err for line, one in said.items() if one.code != 0} == {}
    assert "equal" in said["ksql-lake certify orders 2025-01-06"].out
    assert project.rows("orders") == project.rows("orders_2") == 2
    assert notes("orders_2") == [(1, None), (2, "new")]


def derived(orders: Orders, name: str, select: str, *, tail: str = "", head: str = "") -> str:
    """Make a stream of the orders on the server, and give its name."""
    made = f"{orders.source}_{name}"
    orders.run(f"CREATE STREAM {made}{head} AS SELECT {select} FROM {orders.source}{tail} EMIT CHANGES;")
    return made


WITH_OFFSETS = "*, ROWPARTITION AS P, ROWOFFSET AS O"
REKEYED = {
    "head": " WITH (KEY_FORMAT='JSON')",
    "tail": " PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET)",
}


def test_a_derived_stream_with_offsets_is_proposed_as_continued(cli: Cli, orders: Orders) -> None:
    """`add` and `discover` read its query, name the columns, and say what is needed, and where it held."""
    made = derived(orders, "MADE", WITH_OFFSETS, **REKEYED)

    listed = json.loads(cli("feeds", "discover", "--json").out)
    said = cli("feeds", "add", "--source", made, "--start-date", "2025-01-06", "--name", "made")

    (found,) = [source for source in listed if source["name"] == made]
    assert (found["extraction"], found["positions"], found["columns"]) == (
        "continue",
        {"partition": "P", "offset": "O"},
        ["ID", "NOTE", "P", "O"],
    )
    assert said.code == 0, said.err
    assert (
        f"note: {made} is read on from where the last export ended: it carries the offsets of {orders.source}. "
        "That needs ksql.query.push.v2.registry.installed=true on the server; by ksqlDB's source it works from "
        "0.24 on, measured on 8.0.7 only\n"
    ) in said.err
    file = written(orders.project, "made")
    assert (file["extraction"], file["positions"]) == ("continue", {"partition": "P", "offset": "O"})
    assert file["columns"] == ["ID", "NOTE", "P", "O"]
    assert cli("feeds", "validate").code == 0


def test_a_derived_stream_that_cannot_be_continued_keeps_its_offsets(cli: Cli, orders: Orders) -> None:
    """Without a key it is read by pull, its rows known by the source's offsets; the reason is said."""
    made = derived(orders, "BARE", WITH_OFFSETS)

    said = cli("feeds", "add", "--source", made, "--start-date", "2025-01-06", "--name", "bare")

    assert said.code == 0, said.err
    assert (
        f"note: {made} is read by pull query: it carries the offsets of {orders.source}, but cannot be "
        f"continued: {made} has no KEY column, and a query that is continued sends no rows with a NULL key\n"
    ) in said.err
    file = written(orders.project, "bare")
    assert "extraction" not in file
    assert file["positions"] == {"partition": "P", "offset": "O"}


def test_whoever_says_how_a_stream_is_read_is_obeyed(cli: Cli, orders: Orders) -> None:
    """An extraction or identity that is given stays; `continue` alone gets the columns from the server."""
    made = derived(orders, "TOLD", WITH_OFFSETS, **REKEYED)
    add = ("feeds", "add", "--source", made, "--start-date", "2025-01-06")

    pulled = cli(*add, "--name", "pulled", "--extraction", "pull", "--dry-run")
    rowed = cli(*add, "--name", "rowed", "--identity", "row", "--dry-run")
    told = cli(*add, "--name", "told", "--extraction", "continue", "--column", "ID", "--dry-run")

    assert (pulled.code, rowed.code, told.code) == (0, 0, 0)
    assert "positions" not in pulled.out + rowed.out
    assert json.loads(told.out)["positions"] == {"partition": "P", "offset": "O"}
    assert json.loads(told.out)["columns"] == ["ID"]


def test_a_dagster_that_exports_nothing_is_told(
    cli: Cli, project: Project, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who adds a feed beside a Dagster in which nothing runs by the clock reads which sensors to switch on."""
    assert server.url
    (project.root / "home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(project.root / "home"))

    added = cli("feeds", "add", "--source", "MERCHANTS")

    assert (added.code, added.out) == (0, "written: feeds/active/merchants.json\n")
    said = " ".join(added.err.split())
    assert "Dagster: No export starts by the clock: switch on streams_due and tables_due" in said
