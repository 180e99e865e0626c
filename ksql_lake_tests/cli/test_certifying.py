"""`ksql-lake certify`: a day in the lake against the server that it came from."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest

from ksql_lake_tests.cli.conftest import Cli, Orders, Project
from ksql_lake_tests.cli.test_output import on_a_terminal, without_styles

DAYS = ("--from", "2025-01-06", "--to", "2025-01-07")


@pytest.mark.usefixtures("orders")
def test_an_exported_day_is_equal(cli: Cli) -> None:
    """Right after its export a day equals its source, and all three checksums agree."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0

    said = cli("certify", "orders", "2025-01-06")

    assert (said.code, said.err) == (0, "")
    headline, _, header, *rows = said.out.splitlines()
    assert headline == "orders 2025-01-06: equal (source read again: proven)"
    assert header.split() == ["SIDE", "ROWS", "CHECKSUM"]
    assert [row.split()[:-2] for row in rows] == [["source", "now"], ["lake"], ["lake", "as", "exported"]]
    assert {row.split()[-2] for row in rows} == {"24"}
    assert len({row.split()[-1] for row in rows}) == 1


def test_a_row_that_came_late_names_its_hour(cli: Cli, orders: Orders) -> None:
    """A row that reached the server after the export is missing in exactly its hour, until the next export."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    orders.append(29, note="late")

    said = cli("certify", "orders", "2025-01-07")

    assert said.code == 1
    assert said.out.splitlines()[:3] == [
        "orders 2025-01-07: different in 1 hour (source read again: proven)",
        "  2025-01-07 05:00 UTC: 1 row is missing in the lake",
        "",
    ]
    command = "ksql-lake export --stream orders --date 2025-01-07"
    assert said.err == f"next: an export of the day adds the missing rows: {command}\n"
    assert cli("certify", "orders", "2025-01-06").code == 0
    assert cli(*command.split()[1:]).code == 0
    assert cli("certify", "orders", "2025-01-07").code == 0


def test_what_certify_finds_is_a_result_of_the_check_certificate(cli: Cli, orders: Orders) -> None:
    """The report shows it, as after the job `certify`, until an export of the day brings what was missing."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    orders.append(29, note="late")
    before = cli("report", "--offline", "--fail-on", "failing")

    assert cli("certify", "orders", "2025-01-07").code == 1

    found = cli("report", "--offline", "--fail-on", "failing")
    assert (before.code, found.code) == (0, 1)
    (checks,) = orders.project.root.glob("data_lake/metadata/streams/orders/checks.json")
    certificate = json.loads(checks.read_text())["checks"]["certificate"]
    assert "1 row is missing in the lake" in certificate["failed"]["2025-01-07"]["says"]
    assert cli("export", "--stream", "orders", "--date", "2025-01-07").code == 0
    assert cli("report", "--offline", "--fail-on", "failing").code == 0


def test_what_was_not_compared_is_named(cli: Cli, orders: Orders) -> None:
    """A column that came after the day was exported is named beside "equal", in text and JSON."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    orders.run(f"ALTER STREAM {orders.source} ADD COLUMN PRICE DOUBLE;")

    said = cli("certify", "orders", "2025-01-06")
    document = json.loads(cli("certify", "orders", "2025-01-06", "--json").out)

    headline, unseen, *_ = said.out.splitlines()
    assert (said.code, headline) == (0, "orders 2025-01-06: equal (source read again: proven)")
    assert unseen.startswith("  not compared, because one side lacks them or has another type")
    assert unseen.endswith(": PRICE")
    assert (document["columns"], document["unseen"]) == (["ROWTIME", "ID", "NOTE"], ["PRICE"])


def test_a_row_lost_from_the_lake_names_its_hour(cli: Cli, orders: Orders) -> None:
    """A row taken out of the lake's file is missed in its hour, and in what the export certified."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    path = orders.file("2025-01-06")
    table = pq.read_table(path, partitioning=None)
    kept = [number for number, row in enumerate(table["ID"].to_pylist()) if row != 7]
    pq.write_table(table.take(kept), path)

    said = cli("certify", "orders", "2025-01-06")

    assert said.code == 1
    assert "  2025-01-06 07:00 UTC: 1 row is missing in the lake\n" in said.out
    assert "warning: the lake does not hold what the export certified; see: ksql-lake doctor\n" in said.err
    assert cli("doctor").code == 1


def test_rows_that_kafka_deleted_are_told_as_such(cli: Cli, orders: Orders) -> None:
    """Rows that only the lake still has are a difference, but not one that an export could repair."""
    orders.append(3, note="again")
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    orders.run(f"DROP STREAM {orders.source};")
    orders.run(
        f"CREATE STREAM {orders.source} (ID BIGINT, NOTE STRING) "
        "WITH (KAFKA_TOPIC='again', VALUE_FORMAT='JSON', PARTITIONS=1);"
    )
    orders.append(*range(24))

    said = cli("certify", "orders", "2025-01-06")

    assert said.code == 1
    assert (
        "  2025-01-06 03:00 UTC: 1 row is in the lake only (deleted by Kafka since, or changed)\n" in said.out
    )
    assert said.err == ""


def test_a_script_reads_the_comparison_as_json(cli: Cli, orders: Orders) -> None:
    """`--json` gives one document with both sides, the certificate and every hour that differs."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    orders.append(5, 6, note="late")

    said = cli("certify", "orders", "2025-01-06", "--json")

    assert (said.code, said.err) == (1, "")
    document = json.loads(said.out)
    assert (document["feed"], document["day"], document["equal"]) == ("orders", "2025-01-06", False)
    assert (document["source_rows"], document["lake_rows"], document["certified_rows"]) == (26, 24, 24)
    assert document["lake_checksum"] == document["certified_checksum"] != document["source_checksum"]
    assert document["differences"] == [
        {"hour": "2025-01-06T05:00:00+00:00", "source_rows": 2, "lake_rows": 1},
        {"hour": "2025-01-06T06:00:00+00:00", "source_rows": 2, "lake_rows": 1},
    ]


@pytest.mark.usefixtures("orders")
def test_offsets_are_shown_per_kafka_partition(cli: Cli) -> None:
    """A feed that knows offsets shows first and last of each Kafka partition, gaps and duplicates."""
    assert cli("feeds", "prepare", "orders", "--apply", "--write").code == 0
    assert cli("export", "--stream", "orders", *DAYS).code == 0

    said = cli("certify", "orders", "2025-01-07")
    document = json.loads(cli("certify", "orders", "2025-01-07", "--json").out)

    assert said.code == 0
    header = "KAFKA PARTITION  FIRST  LAST  ROWS  GAPS  DUPLICATES"
    lines = said.out.splitlines()
    shown = [[int(word) for word in line.split()] for line in lines[lines.index(header) + 1 :]]
    assert shown == [list(part.values()) for part in document["offsets"]]
    assert [part["kafka_partition"] for part in document["offsets"]] == [0, 1]
    assert sum(part["rows"] for part in document["offsets"]) == 24
    assert {part["duplicates"] for part in document["offsets"]} == {0}


def test_a_day_can_be_certified_by_push(cli: Cli, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--by push` reads the day with Kafka's offsets, and says what showed that it was read to its end."""
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    orders.run(f"CREATE STREAM {orders.source}_READ AS SELECT ID FROM {orders.source} EMIT CHANGES;")
    monkeypatch.setenv("KSQLDB_QUIET_SECONDS", "0.5")

    said = cli("certify", "orders", "2025-01-06", "--by", "push")

    assert said.code == 0
    headline, proof, *_ = said.out.splitlines()
    assert headline == "orders 2025-01-06: equal (source read again: proven)"
    assert proof.startswith("  proven: every partition of ")
    assert "was read to where Kafka's log ended when the query began" in proof


@pytest.mark.parametrize("columns", ["80", "200"])
def test_on_a_terminal_everything_fits(cli: Cli, orders: Orders, columns: str) -> None:
    """At 80 columns both tables are whole, no line is wider, and no checksum is cut off."""
    assert cli("feeds", "prepare", "orders", "--apply", "--write").code == 0
    assert cli("export", "--stream", "orders", *DAYS).code == 0
    document = json.loads(cli("certify", "orders", "2025-01-06", "--json").out)

    said = without_styles(
        on_a_terminal(orders.project, "certify", "orders", "2025-01-06", COLUMNS=columns, KSQLDB_URL=orders.url)
    )

    assert max(map(len, said.splitlines())) <= 80
    for side in ("source", "lake", "certified"):
        assert document[f"{side}_checksum"] in said
    assert "Duplicates" in said


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["orders", "6.1.2025"], 2, "'6.1.2025' is not a day written YYYY-MM-DD, e.g. 2025-01-31"),
        (["order", "2025-01-06"], 2, "there is no feed named 'order'\nDid you mean 'orders'?"),
        (["totals", "2025-01-06"], 2, "feed totals: the lake does not hold version 2025-01-06 of this table\n"),
        (["totals", "v1", "--by", "push"], 2, "feed totals: a table is certified by its changes, which only a"),
        (
            ["orders", "2025-01-05"],
            2,
            "feed orders: 2025-01-05 is before start_date 2025-01-06, so it was never",
        ),
        (["orders", f"{datetime.now(UTC):%Y-%m-%d}"], 2, "has not ended yet in UTC\n"),
        (["orders"], 2, "missing argument 'DATE|VERSION'"),
    ],
)
def test_what_cannot_be_certified_is_refused(
    cli: Cli, orders: Orders, arguments: list[str], code: int, text: str
) -> None:
    """Wrong names, kinds and days are one paragraph, before anything is read."""
    orders.project.feed({"name": "totals", "kind": "table", "source": "TOTALS"})

    said = cli("certify", *arguments)

    assert (said.code, said.out) == (code, "")
    assert text in said.err


@pytest.mark.usefixtures("orders")
def test_an_unreachable_server_is_one_paragraph(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer nothing is said about the day; exit code 1."""
    monkeypatch.setenv("KSQLDB_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("KSQLDB_ATTEMPTS", "1")

    said = cli("certify", "orders", "2025-01-06")

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(
        "error: feed orders, partition 2025-01-06, server http://127.0.0.1:9: cannot connect"
    )


def test_a_day_that_was_never_exported_has_no_certificate(cli: Cli, orders: Orders) -> None:
    """Certifying changes nothing: no lake is made, and the missing certificate is said."""
    said = cli("certify", "orders", "2025-01-06", "--json")
    text = cli("certify", "orders", "2025-01-06")

    assert json.loads(said.out)["certified_rows"] is None
    assert text.out.startswith("orders 2025-01-06: different in 24 hours (source read again: proven)\n")
    assert "note: no export has read this day after its end, so it has no certificate\n" in text.err
    assert not (orders.project.root / "data_lake").exists()


def test_the_comparison_of_a_version_says_that_it_is_not_recorded(cli: Cli, sample: Project) -> None:
    """A version is compared and the result printed; the command says that the lake keeps none of it."""
    assert cli("export", "--table", "merchants").code == 0
    kept = sample.root / "data_lake" / "metadata"
    before = {path: path.read_bytes() for path in kept.rglob("*.json")}

    said = cli("certify", "merchants", "v1")
    as_json = cli("certify", "merchants", "v1", "--json")

    assert said.code == 0
    assert said.out.startswith("merchants v1: equal\n")
    assert said.err == "note: this comparison of a version is not recorded; the report does not show it\n"
    assert (as_json.code, as_json.err) == (0, "")
    assert {path: path.read_bytes() for path in kept.rglob("*.json")} == before
