"""`ksql-lake feeds prepare`: a stream with offsets on the server, and a feed that uses them."""

from __future__ import annotations

import json
from collections import Counter

import duckdb
import msgspec
import pytest

from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.cli.conftest import Cli, Orders, Project
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer

DAYS = ("--from", "2025-01-06", "--to", "2025-01-07")


def statement(source: str) -> str:
    """The statement that makes the derived stream."""
    return (
        f"CREATE STREAM `{source}_LAKE` AS SELECT *, ROWPARTITION AS `RP`, ROWOFFSET AS `RO` "
        f"FROM `{source}` EMIT CHANGES;"
    )


def rekeyed(source: str) -> str:
    """The statement that makes the derived stream of a feed that is continued."""
    return (
        f"CREATE STREAM `{source}_LAKE` WITH (KEY_FORMAT = 'JSON') AS SELECT *, ROWPARTITION AS `RP`, "
        f"ROWOFFSET AS `RO` FROM `{source}` PARTITION BY STRUCT(P := ROWPARTITION, O := ROWOFFSET) "
        "EMIT CHANGES;"
    )


def written(orders: Orders) -> str:
    """The feed file's text."""
    return (orders.project.root / "feeds/active/orders.json").read_text()


def ids(project: Project) -> Counter[int]:
    """How often an independent reader finds each row."""
    pattern = f"{project.root}/data_lake/streams/orders/**/*.parquet"
    return Counter(row[0] for row in duckdb.read_parquet(pattern).project("ID").fetchall())


def test_the_statement_is_printed_and_nothing_is_done(cli: Cli, orders: Orders) -> None:
    """Stdout holds what ksqlDB's own shell can run, stderr what to change in the feed file."""
    before = written(orders)

    said = cli("feeds", "prepare", "orders")

    assert said.code == 0
    assert said.out == f"SET 'auto.offset.reset' = 'earliest';\n{statement(orders.source)}\n"
    assert said.err == (
        "next: then put this into feeds/active/orders.json, or use --write:\n"
        f'  "source": "{orders.source}_LAKE"\n'
        '  "identity": {"by": "offset", "columns": ["RP", "RO"]}\n'
    )
    assert written(orders) == before
    assert f"{orders.source}_LAKE" not in json.dumps(orders.run("LIST STREAMS;"))


def test_apply_makes_the_stream_and_write_changes_the_feed(cli: Cli, orders: Orders) -> None:
    """After both, an export lands every row with its offset, once."""
    made = cli("feeds", "prepare", "orders", "--apply")
    changed = cli("feeds", "prepare", "orders", "--write")
    again = cli("feeds", "prepare", "orders", "--apply", "--write")

    assert (made.code, made.out) == (0, f"created: {orders.source}_LAKE\n")
    assert "export when it has caught up\n" in made.err
    assert (changed.code, changed.out) == (0, "written: feeds/active/orders.json\n")
    assert "exists already" in changed.err
    assert (again.code, again.out) == (0, "")
    assert again.err == "note: orders has identity `offset` already, by the columns RP, RO\n"
    assert json.loads(written(orders)) == {
        "name": "orders",
        "kind": "stream",
        "source": f"{orders.source}_LAKE",
        "start_date": "2025-01-06",
        "identity": {"by": "offset", "columns": ["RP", "RO"]},
    }
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    assert ids(orders.project) == Counter(range(48))
    assert cli("certify", "orders", "2025-01-06").code == 0
    made_by = orders.run(f"DESCRIBE `{orders.source}_LAKE`;")
    assert " AS `RP`" not in json.dumps(made_by), "the server gives the statement back in its own words"


def test_rows_from_before_are_neither_doubled_nor_lost(cli: Cli, orders: Orders) -> None:
    """A feed that changes to offsets keeps what it has; a late row and an identical twin still land."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    assert cli("feeds", "prepare", "orders", "--apply", "--write").code == 0
    orders.append(5)
    orders.append(7, note="late")

    said = cli("export", "--stream", "orders", *DAYS, "--json")
    again = cli("export", "--stream", "orders", *DAYS, "--json")

    (first,), (second,) = (json.loads(one.out)["exports"] for one in (said, again))
    assert (first["read"], first["new"]) == (50, 2)
    assert (second["read"], second["new"]) == (50, 0)
    assert ids(orders.project) == Counter([*range(48), 5, 7])
    assert cli("certify", "orders", "2025-01-06").code == 0


def test_columns_of_the_source_and_of_the_feed_keep_their_names(cli: Cli, orders: Orders) -> None:
    """Where RP or RO is taken, others are chosen; a feed with a list of columns gets both offsets."""
    source = f"{orders.source}_RP"
    orders.run(
        f"CREATE STREAM {source} (ID BIGINT, rp BIGINT) "
        f"WITH (KAFKA_TOPIC='{source}', VALUE_FORMAT='JSON', PARTITIONS=1);"
    )
    orders.project.feed(
        {
            "name": "odd",
            "kind": "stream",
            "source": source,
            "start_date": "2025-01-06",
            "columns": ["ID"],
            "rename": {"ID": "RO_2"},
        }
    )

    said = cli("feeds", "prepare", "odd", "--apply", "--write")

    assert said.code == 0, said.err
    file = json.loads((orders.project.root / "feeds/active/odd.json").read_text())
    assert file["identity"] == {"by": "offset", "columns": ["RP_3", "RO_3"]}
    assert cli("export", "--stream", "odd").code == 0


def test_the_feed_file_is_not_changed_without_the_stream(cli: Cli, orders: Orders) -> None:
    """`--write` alone prints the statement and refuses to point the feed at nothing."""
    before = written(orders)

    said = cli("feeds", "prepare", "orders", "--write")

    assert said.code == 2
    assert said.out.endswith(f"{statement(orders.source)}\n")
    assert said.err.startswith(f"error: feed orders: the stream {orders.source}_LAKE does not exist yet")
    assert written(orders) == before


@pytest.mark.parametrize(
    ("selected", "reason"),
    [
        ("ID, NOTE", "it lacks its offsets"),
        ("ID, ROWPARTITION AS RP, ROWOFFSET AS RO", "it lacks NOTE"),
    ],
)
def test_another_stream_of_that_name_is_left_alone(
    cli: Cli, orders: Orders, selected: str, reason: str
) -> None:
    """A stream that merely has the name is neither used nor replaced; what it lacks is said."""
    name = orders.source
    orders.run(f"CREATE STREAM {name}_LAKE AS SELECT {selected} FROM {name} EMIT CHANGES;")
    before = written(orders)

    said = cli("feeds", "prepare", "orders", "--apply", "--write")

    assert (said.code, said.out) == (2, "")
    assert f"the server has a {name}_LAKE already, but as a copy of {name} {reason}\n" in said.err
    assert said.err.endswith(f"{statement(name)}\n")
    assert written(orders) == before


def test_a_source_that_carries_offsets_needs_no_other_stream(cli: Cli, orders: Orders) -> None:
    """A feed on a derived stream of one's own only needs the names of its columns."""
    mine = f"{orders.source}_MINE"
    selected = "*, ROWPARTITION AS P, ROWOFFSET AS O"
    orders.run(f"CREATE STREAM {mine} AS SELECT {selected} FROM {orders.source} EMIT CHANGES;")
    orders.project.feed({"name": "orders", "kind": "stream", "source": mine, "start_date": "2025-01-06"})

    said = cli("feeds", "prepare", "orders", "--write")

    assert said.code == 0, said.err
    file = json.loads(written(orders))
    assert (file["source"], file["identity"]) == (mine, {"by": "offset", "columns": ["P", "O"]})


def test_a_frozen_feed_is_warned(cli: Cli, orders: Orders) -> None:
    """Where the lake's columns may not change, the two new ones would be refused; that is said at once."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    frozen = json.loads(written(orders)) | {"on_schema_change": "freeze"}
    orders.project.feed(frozen)

    said = cli("feeds", "prepare", "orders", "--apply", "--write")

    assert said.code == 0
    assert (
        "warning: on_schema_change is freeze, so the next export would refuse the two new columns" in said.err
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("totals", "feed totals: a table has no offsets: each of its versions is the whole table\n"),
        ("order", "there is no feed named 'order'\nDid you mean 'orders'?"),
        ("lost", "the server has no stream or table 'LOST'\n"),
        ("mixed", "is a table on the server, but the feed says stream\n"),
    ],
)
def test_what_cannot_be_prepared_is_refused(cli: Cli, orders: Orders, name: str, text: str) -> None:
    """Tables, unknown feeds and unknown sources are one paragraph, and nothing is printed to run."""
    table = f"{orders.source}_TOTALS"
    orders.run(f"CREATE TABLE {table} AS SELECT NOTE, COUNT(*) AS N FROM {orders.source} GROUP BY NOTE;")
    orders.project.feed({"name": "totals", "kind": "table", "source": table})
    for feed, source in (("lost", "LOST"), ("mixed", table)):
        orders.project.feed({"name": feed, "kind": "stream", "source": source, "start_date": "2025-01-06"})

    said = cli("feeds", "prepare", name)

    assert (said.code, said.out) == (2, "")
    assert text in said.err


def test_a_server_without_offsets_is_told(cli: Cli, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before ksqlDB 0.23 there is nothing to copy; the answer says since when there is."""
    project.feed({"name": "orders", "kind": "stream", "source": "O", "start_date": "2025-01-06"})
    with DevServer.start(arguments=["--server-version", "0.22.0"]) as server:
        monkeypatch.setenv("KSQLDB_URL", server.url)
        made = "CREATE STREAM O (ID BIGINT) WITH (KAFKA_TOPIC='o', VALUE_FORMAT='JSON', PARTITIONS=1);"
        Orders(project, server.url, "O").run(made)

        said = cli("feeds", "prepare", "orders", "--apply")

    assert (said.code, said.out) == (2, "")
    assert "this server has release 0.22.0, which lacks ROWPARTITION and ROWOFFSET\n" in said.err
    assert "They need ksqlDB 0.23" in said.err


def _entity(**content: object) -> bytes:
    return msgspec.json.encode([content])


def test_the_stream_begins_with_the_first_row(
    cli: Cli, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement is sent once, with the property without which only new rows would be in the stream."""
    project.feed({"name": "orders", "kind": "stream", "source": "ORDERS", "start_date": "2025-01-06"})
    stream = {"type": "STREAM", "name": "ORDERS", "topic": "o", "keyFormat": "KAFKA", "valueFormat": "JSON"}
    column = {"name": "ID", "schema": {"type": "BIGINT", "fields": None, "memberSchema": None}}
    source = {"name": "ORDERS", "type": "STREAM", "fields": [column], "topic": "o", "partitions": 1}
    listed = [_entity(streams=[stream]), _entity(tables=[])]
    entities = [*listed, _entity(sourceDescription=source), *listed, _entity(commandStatus={})]
    with ScriptedServer() as server:
        monkeypatch.setenv("KSQLDB_URL", server.url)
        server.script("/info", answer(b'{"KsqlServerInfo":{"version":"0.29.0"}}'))
        server.script("/ksql", *map(answer, entities))

        said = cli("feeds", "prepare", "orders", "--apply")

        sent = [request.json for request in server.asked("/ksql")]
    assert (said.code, said.out) == (0, "created: ORDERS_LAKE\n"), said.err
    assert len(sent) == len(entities)
    assert sent[-1]["ksql"] == statement("ORDERS")
    assert sent[-1]["streamsProperties"] == {"auto.offset.reset": "earliest"}


def test_validate_names_derived_streams_without_offsets(cli: Cli, orders: Orders) -> None:
    """A stream that a query writes may hold rows twice; with the source's offsets nothing needs to be said."""
    assert cli("feeds", "prepare", "orders", "--apply").code == 0
    plain = cli("feeds", "validate", "--server")
    orders.project.feed(
        {"name": "orders", "kind": "stream", "source": f"{orders.source}_LAKE", "start_date": "2025-01-06"}
    )
    hinted = cli("feeds", "validate", "--server")
    assert cli("feeds", "prepare", "orders", "--write").code == 0
    offsets = cli("feeds", "validate", "--server")

    assert (plain.code, hinted.code, offsets.code) == (0, 0, 0)
    assert f"orders: {orders.source}_LAKE is written by the query CSAS_" in hinted.err
    assert "writes rows twice when its server is killed" in hinted.err
    assert "twice" not in plain.err + offsets.err


def test_the_statement_for_continuing_makes_a_key_of_its_own(cli: Cli, orders: Orders) -> None:
    """Stdout is runnable; stderr says what the server needs, where it was measured, and the feed's new keys."""
    before = written(orders)

    said = cli("feeds", "prepare", "orders", "--continue")

    assert said.code == 0
    assert said.out == f"SET 'auto.offset.reset' = 'earliest';\n{rekeyed(orders.source)}\n"
    assert said.err == (
        f"note: continuing needs ksql.query.push.v2.registry.installed=true on {orders.url}; by ksqlDB's "
        "source it works from 0.24 on, measured on 8.0.7 only. Test it: ksql-lake feeds validate --server\n"
        "next: then put this into feeds/active/orders.json, or use --write:\n"
        f'  "source": "{orders.source}_LAKE"\n'
        '  "columns": ["ID", "NOTE"]\n'
        '  "extraction": "continue"\n'
        '  "positions": {"partition": "RP", "offset": "RO"}\n'
    )
    assert written(orders) == before


def test_a_continued_feed_is_written_and_known_again(cli: Cli, orders: Orders) -> None:
    """`--apply --write` leaves a file of `extraction: continue`; the made key is no column of it."""
    said = cli("feeds", "prepare", "orders", "--continue", "--apply", "--write")
    again = cli("feeds", "prepare", "orders", "--continue", "--apply", "--write")

    assert (said.code, said.out) == (
        0,
        f"created: {orders.source}_LAKE\nwritten: feeds/active/orders.json\n",
    ), said.err
    assert json.loads(written(orders)) == {
        "name": "orders",
        "kind": "stream",
        "source": f"{orders.source}_LAKE",
        "extraction": "continue",
        "start_date": "2025-01-06",
        "columns": ["ID", "NOTE"],
        "positions": {"partition": "RP", "offset": "RO"},
    }
    assert (again.code, again.out) == (0, "")
    assert again.err == "note: orders is continued already, by the columns RP, RO\n"


def test_a_feed_known_by_offset_can_be_continued_where_its_keys_allow(cli: Cli, orders: Orders) -> None:
    """A stream made before, without a key, is refused with the reason; nothing is written."""
    assert cli("feeds", "prepare", "orders", "--apply", "--write").code == 0
    before = written(orders)

    said = cli("feeds", "prepare", "orders", "--continue", "--write")

    assert (said.code, said.out) == (2, "")
    assert (
        f"{orders.source}_LAKE carries the offsets of {orders.source}, but cannot be continued: "
        f"{orders.source}_LAKE has no KEY column, and a query that is continued sends no rows with a NULL key\n"
    ) in said.err
    assert written(orders) == before


def test_a_kept_key_is_taken_on_the_users_word(cli: Cli, orders: Orders) -> None:
    """`--keep-key` makes the plain copy, and only with it is such a copy taken; the identity is replaced."""
    source = f"{orders.source}_KEYED"
    orders.run(
        f"CREATE STREAM {source} (K STRING KEY, ID BIGINT) "
        f"WITH (KAFKA_TOPIC='{source}', VALUE_FORMAT='JSON', PARTITIONS=1);"
    )
    feed = {"name": "keyed", "kind": "stream", "source": source, "start_date": "2025-01-06"}
    orders.project.feed(feed | {"identity": {"by": "key", "columns": ["ID"]}})

    keyless = cli("feeds", "prepare", "orders", "--continue", "--keep-key")
    printed = cli("feeds", "prepare", "keyed", "--continue", "--keep-key", "--apply")
    refused = cli("feeds", "prepare", "keyed", "--continue", "--write")
    said = cli("feeds", "prepare", "keyed", "--continue", "--keep-key", "--write")

    assert (keyless.code, keyless.out) == (2, "")
    assert f"{orders.source} has no KEY column, so every key of its copy would be NULL" in keyless.err
    assert (printed.code, printed.out) == (0, f"created: {source}_LAKE\n")
    assert (refused.code, refused.out) == (2, "")
    assert f"{source}_LAKE keeps its source's key K, and a query that is continued sends no rows" in refused.err
    assert "If no record has a NULL key, say --keep-key." in refused.err
    assert said.code == 0, said.err
    file = json.loads((orders.project.root / "feeds/active/keyed.json").read_text())
    assert (file["extraction"], file["positions"]) == ("continue", {"partition": "RP", "offset": "RO"})
    assert file["identity"] == {"by": "offset", "columns": ["RP", "RO"]}
    assert "columns" not in file


def test_keep_key_alone_is_a_mistake(cli: Cli, orders: Orders) -> None:
    """Without `--continue` the key always stays, which is said."""
    assert orders.source

    said = cli("feeds", "prepare", "orders", "--keep-key")

    assert (said.code, said.out) == (2, "")
    assert "--keep-key needs --continue: without it the source's key always stays" in said.err


def test_a_source_whose_copy_is_exported_has_a_feed(cli: Cli, orders: Orders) -> None:
    """After `prepare --write` neither `discover` nor the report says that nobody exports the source."""
    assert cli("feeds", "prepare", "orders", "--apply").code == 0
    before = {source["name"] for source in json.loads(cli("feeds", "discover", "--json").out)}
    assert cli("feeds", "prepare", "orders", "--write").code == 0

    after = {source["name"] for source in json.loads(cli("feeds", "discover", "--json").out)}
    report = json.loads(cli("report", "--format", "json").out)

    names = {orders.source, f"{orders.source}_LAKE"}
    assert before & names == {f"{orders.source}_LAKE"}
    assert after & names == set()
    assert names.isdisjoint(source["name"] for source in report["server"]["sources_without_feed"])
