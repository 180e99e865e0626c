"""A feed that is continued, at the command line: what is checked before, what is read, what is not lost."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator

import duckdb
import pytest

from ksql_lake.devserver.door import append
from ksql_lake.devserver.process import DevServer
from ksql_lake_tests.cli.conftest import Cli, Orders

PUSH = "ksql.query.push.v2"
WILLING = [
    *("--setting", f"{PUSH}.registry.installed=true", "--setting", f"{PUSH}.new.latest.delay.ms=0"),
    *("--token-seconds", "0.2"),
]
"""How a server is started whose administrator is willing."""


@pytest.fixture(scope="module")
def willing_server() -> Iterator[DevServer]:
    """A server that heeds tokens."""
    with DevServer.start(arguments=WILLING) as running:
        yield running


@pytest.fixture
def willing(orders: Orders, willing_server: DevServer, monkeypatch: pytest.MonkeyPatch) -> Orders:
    """The project of `orders`, on a server that heeds tokens, with the same rows."""
    monkeypatch.setenv("KSQLDB_URL", willing_server.url)
    monkeypatch.setenv("KSQLDB_QUIET_SECONDS", "0.5")
    found = dataclasses.replace(orders, url=willing_server.url)
    found.run(
        f"CREATE STREAM {found.source} (ID BIGINT, NOTE STRING) "
        f"WITH (KAFKA_TOPIC='{found.source}', VALUE_FORMAT='JSON', PARTITIONS=2);"
    )
    found.append(*range(48))
    return found


def ids(orders: Orders, name: str = "orders") -> Counter[int]:
    """How often an independent reader finds each row."""
    pattern = f"{orders.project.root}/data_lake/streams/{name}/**/*.parquet"
    return Counter(row[0] for row in duckdb.read_parquet(pattern).project("ID").fetchall())


def exported(cli: Cli, name: str = "orders") -> dict[str, object]:
    """Export a stream, and give what `--json` says of it."""
    said = cli("export", "--stream", name, "--from", "2025-01-06", "--to", "2025-01-08", "--json")
    assert said.code == 0, said.err
    (one,) = json.loads(said.out)["exports"]
    return dict(one)


def test_every_condition_is_tried_and_explained(cli: Cli, willing: Orders) -> None:
    """Where a feed can be continued, `validate --server` says what it found of each condition."""
    assert cli("feeds", "prepare", "orders", "--continue", "--apply", "--write").code == 0

    said = cli("feeds", "validate", "--server")

    assert said.code == 0, said.out
    lines = [line.removeprefix("note: orders: ") for line in said.err.splitlines() if "note: orders: " in line]
    assert [line.partition(":")[0] for line in lines] == [
        "release", "positions", "one query", "key", "ends", "token",
    ]  # fmt: skip
    assert lines[0] == ("release: the server is 0.29.0; tokens came with 0.24, and were measured on 8.0.7 only")
    assert lines[1] == f"positions: RP and RO are the offsets of {willing.source}"
    assert lines[3:] == [
        "key: every row has a key made of its offsets",
        "ends: the source ends at 48 in 2 partitions",
        "token: the server heeds a token",
    ]


def test_a_server_that_was_not_set_up_is_found_and_read_as_before(cli: Cli, orders: Orders) -> None:
    """Without the registry `validate` names the setting; an export lands all by pull query, and says why."""
    assert cli("feeds", "prepare", "orders", "--continue", "--apply", "--write").code == 0

    said = cli("feeds", "validate", "--server")
    first = exported(cli)
    orders.append(48)
    second = exported(cli)
    planned = cli("plan", "--all")
    report = " ".join(cli("report").out.split())

    assert said.code == 2
    assert "orders.json: continue, token: the server ignored the token and began an ordinary query" in said.out
    assert "ksql.query.push.v2.registry.installed=true" in said.out
    assert "note: orders is read by pull query until this is corrected; see docs/large-topics.md\n" in said.err
    assert (first["new"], second["new"]) == (48, 1)
    assert "ksql.query.push.v2.registry.installed=true" in str(second["fell_back"])
    why = "the server ignored the token and began an ordinary query"
    assert (
        f"orders was read by pull query the last time, because it could not be continued: {why}" in planned.err
    )
    assert f"pull query: orders: read by pull query instead of on from its marks: {why}" in report
    assert ids(orders) == Counter(range(49))


def test_a_stream_without_a_key_is_not_continued(cli: Cli, willing: Orders) -> None:
    """A derived stream with only NULL keys would send nothing: a message says so, and a pull query reads it."""
    bare = f"{willing.source}_BARE"
    willing.run(
        f"CREATE STREAM {bare} AS SELECT *, ROWPARTITION AS P, ROWOFFSET AS O FROM {willing.source} "
        "EMIT CHANGES;"
    )
    feed: dict[str, object] = {"name": "orders", "kind": "stream", "source": bare, "start_date": "2025-01-06"}
    continued = {"extraction": "continue", "positions": {"partition": "P", "offset": "O"}}
    willing.project.feed(feed | continued)

    said = cli("feeds", "validate", "--server")
    one = exported(cli)

    assert said.code == 2
    assert f"continue, key: {bare} has no KEY column, and rows with a NULL key are not sent" in said.out
    assert (one["new"], "has no KEY column" in str(one["fell_back"])) == (48, True)


def test_a_row_with_a_null_key_is_not_lost(cli: Cli, willing: Orders) -> None:
    """Where a kept key is NULL after all, the row that is not sent lands by pull query, and that is said."""
    source = f"{willing.source}_KEYED"
    willing.run(
        f"CREATE STREAM {source} (K STRING KEY, ID BIGINT) "
        f"WITH (KAFKA_TOPIC='{source}', VALUE_FORMAT='JSON', PARTITIONS=2);"
    )
    noon = 1_736_164_800_000
    append(willing.url, source, [{"ROWTIME": noon, "K": f"k{number}", "ID": number} for number in range(5)])
    willing.project.feed({"name": "keyed", "kind": "stream", "source": source, "start_date": "2025-01-06"})
    assert cli("feeds", "prepare", "keyed", "--continue", "--keep-key", "--apply", "--write").code == 0
    told = cli("feeds", "validate", "--server")
    first = exported(cli, "keyed")
    append(willing.url, source, [{"ROWTIME": noon, "K": "k5", "ID": 5}])
    second = exported(cli, "keyed")
    append(willing.url, source, [{"ROWTIME": noon, "K": None, "ID": 6}, {"ROWTIME": noon, "K": "k7", "ID": 7}])
    third = exported(cli, "keyed")
    append(willing.url, source, [{"ROWTIME": noon, "K": "k8", "ID": 8}])
    fourth = exported(cli, "keyed")

    assert (
        "key: a row with NULL in K is not sent; where one is missed, the stream is read by pull query"
        in told.err
    )
    assert [one["new"] for one in (first, second, third, fourth)] == [5, 1, 2, 1]
    assert [bool(one["fell_back"]) for one in (first, second, third, fourth)] == [False, False, True, False]
    assert "a batch of 4 records came with 3 rows" in str(third["fell_back"])
    assert ids(willing, "keyed") == Counter(range(9))


def test_small_files_are_merged_between_exports_that_go_on(cli: Cli, willing: Orders) -> None:
    """A merge leaves the marks as they are: the next export reads only what is new, every row is there once."""
    assert cli("feeds", "prepare", "orders", "--continue", "--apply", "--write").code == 0
    for hour in range(48, 58):
        exported(cli)
        willing.append(hour, hour % 24)
    before = exported(cli)

    merged = json.loads(cli("compact", "orders", "--json").out)["days"]
    willing.append(60)
    after = exported(cli)

    assert [day["files_after"] for day in merged] == [1] * len(merged)
    assert max(day["files_before"] for day in merged) >= 8
    assert (before["fell_back"], after["fell_back"], after["new"]) == ("", "", 1)
    assert int(str(after["received"])) <= 4
    assert ids(willing) == Counter([*range(48), *range(48, 58), *(hour % 24 for hour in range(48, 58)), 60])
    assert cli("doctor").code == 0
