"""CREATE statements as a client reads them, against texts of running servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ksql_lake.devserver.sql.parsing import parse_statements
from ksql_lake.devserver.sql.statements import Create
from ksql_lake.devserver.store.sources import Catalog

_FILE = Path(__file__).parent.parent / "data" / "ksqldb-statement-texts.jsonl"
CASES = [(case["typed"], case["told"]) for case in map(json.loads, _FILE.read_text("utf-8").splitlines())]
ORD = CASES[0][0]


def shown(catalog: Catalog, text: str) -> str:
    """The statement of the source that a statement makes."""
    (statement,) = parse_statements(text)
    assert isinstance(statement, Create)
    catalog.create(statement)
    return catalog.sources[statement.name].statement


@pytest.mark.parametrize(("typed", "told"), CASES)
def test_statements_are_told_as_ksqldb_rewrites_them(typed: str, told: str) -> None:
    """No AS, columns qualified and one a line, types and properties spelled out."""
    catalog = Catalog()
    if typed != ORD:
        shown(catalog, ORD)

    assert shown(catalog, typed) == told
    assert all(query.statement == told for query in catalog.queries.values())


def test_older_releases_do_not_tell_of_the_topic() -> None:
    """Before 0.29 neither clean-up policy nor retention stands in the text."""
    catalog = Catalog(topic_settings=False)
    shown(catalog, "CREATE STREAM E (V BIGINT) WITH (KAFKA_TOPIC='e', VALUE_FORMAT='JSON');")

    assert catalog.sources["E"].statement == (
        "CREATE STREAM E (V BIGINT) WITH (KAFKA_TOPIC='e', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON');"
    )
    assert shown(catalog, "CREATE STREAM D AS SELECT V FROM E;") == (
        "CREATE STREAM D WITH (KAFKA_TOPIC='D', PARTITIONS=4, REPLICAS=1) AS "
        "SELECT\n  E.V V\nFROM E E\nEMIT CHANGES;"
    )
