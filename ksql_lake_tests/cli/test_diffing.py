"""`ksql-lake diff`: for people, for programs, and every way to ask for the wrong thing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pyarrow.parquet as pq
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.lake import Lake
from ksql_lake.schema import parse_schema
from ksql_lake_tests.cli.conftest import STREAM, Cli, Orders, Project
from ksql_lake_tests.lake.landing import Row, land_rows, table_feed

WIDER = parse_schema("`ID` BIGINT KEY, `NAME` STRING, `AGE` INTEGER")
FIRST: list[Row] = [{"ID": 1, "NAME": "a"}, {"ID": 2, "NAME": "b"}, {"ID": 3, "NAME": None}]
SECOND: list[Row] = [
    {"ID": 1, "NAME": "a", "AGE": 7},
    {"ID": 2, "NAME": 'b"c', "AGE": 8},
    {"ID": 4, "NAME": "d", "AGE": 9},
]


@pytest.fixture
def users(project: Project) -> Project:
    """A project whose table `users` has two versions: one row of each kind of change, one column more."""
    feed = table_feed()
    project.feed({"name": "users", "kind": "table", "source": "USERS"})
    lake = Lake(project.root / "data_lake")
    land_rows(lake, feed, FIRST)
    land_rows(lake, feed, SECOND, schema=WIDER)
    return project


def test_people_see_counts_columns_and_the_first_changes(users: Project, cli: Cli) -> None:
    """Without versions the previous is compared with the latest; in a pipe nothing is cut off."""
    assert users.parquet

    said = cli("diff", "users")

    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "users by ID\n"
        "  from v1, 3 rows, read 2025-01-19 00:00 UTC\n"
        "  to   v2, 3 rows, read 2025-01-19 00:00 UTC\n"
        "\n"
        "inserted   1\n"
        "updated    1  NAME 1\n"
        "deleted    1\n"
        "unchanged  1\n"
        "column AGE INTEGER was added\n"
        "\n"
        '~ ID 2: NAME "b" -> "b\\"c"\n'
        "- ID 3: NAME NULL\n"
        '+ ID 4: NAME "d", AGE 9\n'
    )


def test_a_limit_is_kept_and_said(users: Project, cli: Cli) -> None:
    """No more changes than asked are shown, and how many there are."""
    assert users.parquet

    said = cli("diff", "users", "v1", "v2", "--limit", "1")

    assert said.out.splitlines()[-2:] == [
        '~ ID 2: NAME "b" -> "b\\"c"',
        "2 more changes: raise --limit, or get all with --output changes.parquet",
    ]
    assert cli("diff", "users", "--limit", "0").out.count("\n+ ") == 0


def test_programs_get_one_json_document(users: Project, cli: Cli) -> None:
    """The summary and every change, rows whole; the same in a file as on stdout."""
    said = cli("diff", "users", "1", "latest", "--format", "json")
    written = cli("diff", "users", "--output", "changes.json")

    document = json.loads(said.out)
    assert document.pop("changes") == [
        {"op": "update", "key": {"ID": 2}, "changed": ["NAME"], "before": FIRST[1], "after": SECOND[1]},
        {"op": "delete", "key": {"ID": 3}, "changed": None, "before": FIRST[2], "after": None},
        {"op": "insert", "key": {"ID": 4}, "changed": None, "before": None, "after": SECOND[2]},
    ]
    assert document == {
        "table": "users",
        "from": {"version": "v1", "read_at": "2025-01-19T00:00:00.000+00:00", "rows": 3},
        "to": {"version": "v2", "read_at": "2025-01-19T00:00:00.000+00:00", "rows": 3},
        "key": ["ID"],
        "schema_changes": [{"column": "AGE", "change": "added", "old": None, "new": "INTEGER"}],
        "inserted": 1,
        "updated": 1,
        "deleted": 1,
        "unchanged": 1,
        "updates_by_column": {"NAME": 1},
    }
    assert (users.root / "changes.json").read_text() == said.out
    assert written.err == "written: changes.json: 1 inserted, 1 updated, 1 deleted as json\n"


def test_parquet_has_a_row_per_change_and_the_summary_in_its_footer(users: Project, cli: Cli) -> None:
    """Typed columns `op`, `key`, `changed`, `before`, `after`; nothing else is left in the folder."""
    said = cli("diff", "users", "v1", "v2", "--output", "changes.parquet")

    table = pq.read_table(users.root / "changes.parquet")
    assert said.code == 0
    assert table.column_names == ["op", "key", "changed", "before", "after"]
    assert table.column("op").to_pylist() == ["update", "delete", "insert"]
    assert table.column("after").to_pylist() == [SECOND[1], None, SECOND[2]]
    assert json.loads((table.schema.metadata or {})[b"ksql_lake.diff"])["deleted"] == 1
    assert {path.name for path in users.root.iterdir()} == {"feeds", "data_lake", "changes.parquet"}


def test_versions_without_a_difference_say_so(users: Project, cli: Cli) -> None:
    """A version compared with itself has no changes, in every format."""
    said = cli("diff", "users", "v2", "latest")
    document = json.loads(cli("diff", "users", "v2", "latest", "--format", "json").out)
    cli("diff", "users", "v2", "latest", "--output", "none.parquet")

    assert said.out.endswith("inserted   0\nupdated    0\ndeleted    0\nunchanged  3\n")
    assert document["changes"] == []
    assert pq.read_table(users.root / "none.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("users", "v7"), 1, "error: feed users: version v7 is not in the lake\nThere are v1, v2.\n"),
        (("user",), 2, "error: no feed is called 'user'\nDid you mean 'users'?"),
        (("orders",), 2, "error: feed 'orders' is a stream; only versions of a table can be compared\n"),
        (
            ("users", "--format", "parquet"),
            2,
            "error: parquet is binary; name a file: --output ",
        ),
        (
            ("users", "--output", "no/where.json"),
            2,
            "error: path no/where.json: the diff cannot be written: no",
        ),
    ],
)
def test_what_cannot_be_compared_or_written_says_what_to_do(
    users: Project, cli: Cli, arguments: tuple[str, ...], code: int, told: str
) -> None:
    """Wrong names, versions that are gone and places that cannot be written are one paragraph each."""
    users.feed(STREAM)

    said = cli("diff", *arguments)

    assert said.code == code
    assert said.out == ""
    assert said.err.startswith(told)


@pytest.fixture
def visits(
    project: Project, cli: Cli, plain_server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """A windowed table with two key columns on a server: append visits (city, shop, hour) and export it."""
    monkeypatch.setenv("KSQLDB_URL", plain_server.url)
    orders = Orders(project, plain_server.url, "VISITS")
    orders.run("CREATE STREAM VISITS (CITY STRING, SHOP INT) WITH (KAFKA_TOPIC='v', VALUE_FORMAT='JSON');")
    orders.run(
        "CREATE TABLE VISITS_BY_HOUR AS SELECT CITY, SHOP, COUNT(*) AS N FROM VISITS "
        "WINDOW TUMBLING (SIZE 1 HOURS) GROUP BY CITY, SHOP EMIT CHANGES;"
    )

    def export(*appended: tuple[str, int, int], **keys: object) -> None:
        project.feed({"name": "visits", "kind": "table", "source": "VISITS_BY_HOUR", **keys})
        rows = [
            {"ROWTIME": 1_736_121_600_000 + hour * 3_600_000, "CITY": city, "SHOP": shop}
            for city, shop, hour in appended
        ]
        address = f"{plain_server.url}/devserver/sources/VISITS/rows"
        requests.post(address, data="\n".join(map(json.dumps, rows)), timeout=30).raise_for_status()
        assert cli("export", "--table", "visits").code == 0

    yield export
    orders.run("DROP TABLE VISITS_BY_HOUR;")
    orders.run("DROP STREAM VISITS;")


def test_a_windowed_table_is_known_by_its_whole_key(cli: Cli, visits: Callable[..., None]) -> None:
    """All key columns and the window's bounds, from the server through the lake to the diff."""
    visits(("Ulm", 1, 0), ("Ulm", 1, 1), ("Ulm", 2, 0), ("Bonn", 1, 0))
    visits(("Ulm", 1, 1), ("Bonn", 2, 0))

    found = json.loads(cli("diff", "visits", "--format", "json").out)

    assert found["key"] == ["CITY", "SHOP", "WINDOWSTART", "WINDOWEND"]
    assert (found["from"]["rows"], found["inserted"], found["updated"], found["deleted"]) == (4, 1, 1, 0)
    inserted, updated = sorted(found["changes"], key=lambda change: str(change["op"]))
    assert inserted["key"]["CITY"] == "Bonn"
    assert updated["key"]["WINDOWSTART"] == "2025-01-06T01:00:00.000Z"
    assert (updated["before"]["N"], updated["after"]["N"]) == (1, 2)


def test_a_feed_that_leaves_part_of_the_key_out_loses_no_row(
    cli: Cli, project: Project, visits: Callable[..., None]
) -> None:
    """Rows that differ only in a key column that does not land all land, and are not compared by half a key."""
    for _ in range(2):
        visits(("Ulm", 1, 0), ("Ulm", 2, 0), ("Bonn", 1, 0), columns=["CITY", "N"])

    assert project.rows("visits") == 3
    said = cli("diff", "visits")
    assert said.code == 1
    assert said.err.startswith("error: feed visits, versions v1 and v2: this version lacks its key columns\n")
