"""Promises on recorded table pulls: what lands of them, and as how sure, with what the server said beside them.

The table pulls are recorded bytes. The evidence beside them is recorded where a recording has it; where
real-server facts only describe it, it is constructed, and the test says so.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ksql_lake.errors import KsqlLakeError, NotBuiltError, NotQueryableError
from ksql_lake.export import export_feed
from ksql_lake.feeds.model import FEED_ADAPTER, Feed
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.schema import parse_schema
from ksql_lake.settings import Settings
from ksql_lake_tests.fakes.recorded import Recording, recording, recordings
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.fakes.table_node import Offsets, TableNode
from ksql_lake_tests.ksqldb.conftest import info

TABLES = [one for one in recordings() if one.expect in ("needs evidence", "false complete")]
BARE_TIMES = ("values: time_key_table", "B pull types_t")
"""Their questions name TIME and TIMESTAMP columns bare, which exports wrap: such answers are only read, in
`ksqldb/test_recordings.py`."""
RIGHT = [one for one in TABLES if one.expect == "needs evidence" and one.name not in BARE_TIMES]


def table_of(one: Recording, server: ScriptedServer) -> tuple[TableNode, Feed]:
    """A node that describes the recorded table as its answer's header does, and a feed of these columns."""
    header = json.loads(one.body.split(b"\n")[0].strip(b"[],"))["header"]["schema"]
    columns = parse_schema(header)
    bounds = ("WINDOWSTART", "WINDOWEND")
    node = TableNode(
        server,
        fields=[(column.name, "STRING", column.key) for column in columns if column.name not in bounds],
        window="TUMBLING" if bounds[0] in columns.names else None,
        pull=lambda _: one.script(),
    )
    if not any(key for _, _, key in node.fields):
        node.fields = [*node.fields, ("OTHER_KEY", "STRING", True)]
    feed = FEED_ADAPTER.validate_python(
        {"kind": "table", "name": "t", "source": "T", "columns": list(columns.names)}
    )
    return node, feed


@contextmanager
def served(one: Recording, **settings: Any) -> Iterator[tuple[TableNode, Feed, KsqlClient]]:
    """The recorded table on a server of its release, and a client that asks for the recorded writer."""
    with ScriptedServer() as server:
        server.script("/info", answer(info(one.server)))
        node, feed = table_of(one, server)
        found = Settings(ksqldb_url=server.url, attempts=1, **settings)
        with KsqlClient(found, sleep=lambda _: None, properties=one.writer()) as client:
            yield node, feed, client


def landed(client: KsqlClient, feed: Feed, root: Path) -> tuple[int, Evidence]:
    """Export; how many rows were read, and the evidence that the commit keeps."""
    lake = Lake(root)
    result = export_feed(feed, client, lake)
    evidence = lake.feed(feed).state().last_read.evidence  # type: ignore[union-attr]
    assert evidence is not None
    return result.read, evidence


def offsets_in(name: str) -> Offsets:
    """Kafka's offsets in a recorded DESCRIBE EXTENDED."""
    (group,) = recording(name).json[0]["sourceDescription"]["queryOffsetSummaries"]
    return {
        topic["kafkaTopic"]: [
            (part["logStartOffset"], part["logEndOffset"], part["consumerOffset"]) for part in topic["offsets"]
        ]
        for topic in group["topicSummaries"]
    }


def queries_in(name: str) -> list[dict[str, Any]]:
    """The queries of a recorded SHOW QUERIES EXTENDED."""
    found: list[dict[str, Any]] = recording(name).json[0]["queryDescriptions"]
    return found


def tell(node: TableNode, query: str, queries: str, described: str | None) -> None:
    """Let a node report recorded evidence: the queries, and Kafka's offsets of the table's own query."""
    node.queries = deque([queries_in(queries)])
    node.offsets = deque([offsets_in(described) if described else {}])
    node.writers, node.readers = ((query,), ()) if query.startswith("CTAS") else ((), (f"{query}",))
    if node.readers:
        # The id of a source table's query holds the table's name; the fake's table is called T.
        node.readers = ("CST_T_1",)
        node.queries[0] = [{**one, "id": "CST_T_1"} for one in queries_in(queries) if one["id"] == query]


SAFE_QUERIES = "SHOW QUERIES EXTENDED with a repartition and a source table"


@pytest.mark.parametrize("one", RIGHT, ids=lambda one: one.name)
def test_a_right_answer_lands_unchecked_where_queries_may_not_be_listed(one: Recording, tmp_path: Path) -> None:
    """An answer that ended without an error, and nothing else, is accepted as unchecked."""
    with served(one) as (node, feed, client):
        node.queries = deque([None])
        rows, evidence = landed(client, feed, tmp_path)
    assert (rows, evidence.level) == (len(one.rows), "unchecked")
    assert "may not list the server's queries" in evidence.text


@pytest.mark.parametrize("one", RIGHT, ids=lambda one: one.name)
def test_a_right_answer_lands_proven_with_the_evidence_recorded(one: Recording, tmp_path: Path) -> None:
    """One node, offsets consumed to their ends, and the older writer prove it; the newer one does not."""
    with served(one) as (node, feed, client):
        tell(node, "CTAS_TOTALS_1", SAFE_QUERIES, "DESCRIBE EXTENDED of a CTAS over one stream")
        rows, evidence = landed(client, feed, tmp_path)
    assert rows == len(one.rows)
    assert evidence.level == ("proven" if one.legacy else "checked"), evidence.text
    assert "orders was consumed to its end (1,000 offsets)" in evidence.text
    assert bool(evidence.caveats) is not one.legacy
    if not one.legacy:
        assert evidence.text.startswith("two readings agree")


def test_a_table_with_a_repartition_topic_is_proven_by_both_topics(tmp_path: Path) -> None:
    """Recorded: the source's topic and the internal one have been consumed, so the aggregate is whole."""
    with served(recording("safe: table pull of an aggregate by another column")) as (node, feed, client):
        tell(node, "CTAS_RP_A_23", SAFE_QUERIES, "DESCRIBE EXTENDED of a CTAS with a repartition topic")
        rows, evidence = landed(client, feed, tmp_path)
        looks = sum(sql.endswith("EXTENDED;") and sql.startswith("DESCRIBE") for sql in node.statements())
    assert (rows, evidence.level) == (5, "proven")
    assert "rp_s was consumed to its end (30 offsets)" in evidence.text
    assert looks >= 3  # the source, then the internal topic with ends of its own, then the nodes once more


def test_a_source_table_is_checked_because_only_its_tasks_tell_of_it(tmp_path: Path) -> None:
    """Recorded: no offsets of Kafka for CREATE SOURCE TABLE; its tasks rest at the newest they have fetched."""
    with served(recording("safe: pull of a source table")) as (node, feed, client):
        node.statement = "CREATE SOURCE TABLE T (K STRING PRIMARY KEY, V BIGINT) WITH (...);"
        tell(node, "CST_RP_T_25", SAFE_QUERIES, None)
        rows, evidence = landed(client, feed, tmp_path)
    assert (rows, evidence.level) == (30, "checked")
    assert "its tasks had read all that they had fetched (30 offsets)" in evidence.text


BUILT = ("7.5.1", "7.9.8")
BUILDING = ("0.24.0", "7.1.1", "7.2.2", "7.3.5")


@pytest.mark.parametrize("release", [*BUILT, *BUILDING, "7.0.1"])
def test_what_older_releases_said_of_their_tables_is_judged_as_it_was(release: str, tmp_path: Path) -> None:
    """Recorded on every release: two had consumed everything; the others were behind, and nothing lands."""
    name = "table_pull_empty" if release == "7.0.1" else "table_pull"
    one = recording(f"{release} {name}")
    query = f"CTAS_HE{release.replace('.', '')}_TOT_61"
    with served(one, table_wait=3) as (node, feed, client):
        tell(node, query, f"{release} show_queries_extended", f"{release} describe_extended")
        if release in BUILT:
            rows, evidence = landed(client, feed, tmp_path)
            assert (rows, evidence.level) == (50, "checked")  # recorded with the newer writer
            return
        offsets = offsets_in(f"{release} describe_extended")
        missing = sum(end - consumed for parts in offsets.values() for _, end, consumed in parts)
        with pytest.raises(NotBuiltError) as caught:
            landed(client, feed, tmp_path)
    assert f"T is {missing:,} records behind its source after 3 s" in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))


def test_tasks_alone_would_have_believed_a_table_that_was_being_built(tmp_path: Path) -> None:
    """Recorded on 0.24.0: a task rests at record 300 of 1,300. By tasks that is no proof: "checked" at best."""
    one = recording("0.24.0 table_pull")
    with served(one, table_wait=20) as (node, feed, client):
        tell(node, "CTAS_HE0240_TUM_63", "0.24.0 show_queries_extended", None)
        with pytest.raises(NotBuiltError, match=r"271 records .* read to offset 1,829 of 2,100\)"):
            landed(client, feed, tmp_path)
        # Constructed: partition 2 gets to its end too, partition 0 has fetched 300 of 1,300 still.
        (found,) = [item for item in node.queries[0] or [] if item["id"] == "CTAS_HE0240_TUM_63"]
        for task in found["tasksMetadata"]:
            for part in task["topicOffsets"]:
                part["committedOffset"] = part["endOffset"] + 1
        _, evidence = landed(client, feed, tmp_path)
    assert evidence.level == "checked"
    assert "its tasks had read all that they had fetched (4,000 offsets)" in evidence.text


SESSIONS = [one for one in TABLES if one.expect == "false complete" and "session" in one.name]


@pytest.mark.parametrize("one", SESSIONS, ids=lambda one: one.name)
def test_an_empty_answer_of_session_windows_is_not_believed(one: Recording, tmp_path: Path) -> None:
    """DESCRIBE says that the windows are sessions; such a table is not asked at all, and nothing lands."""
    with served(one) as (node, feed, client):
        node.window = "SESSION"
        with pytest.raises(NotQueryableError, match="SESSION windows"):
            landed(client, feed, tmp_path)
        assert client.server_info().version.text == one.server
        assert not node.server.asked("/query")
    assert not list(tmp_path.rglob("*.parquet"))


def _one_node_dead(node: TableNode) -> None:
    """Constructed from the facts: SHOW QUERIES then says RUNNING of one node and UNRESPONSIVE of the other."""
    (found,) = [one for one in queries_in(SAFE_QUERIES) if one["id"] == "CTAS_TOTALS_1"]
    hosts = {"127.0.0.1:8301": "RUNNING", "127.0.0.1:8302": "UNRESPONSIVE"}
    tell(node, "CTAS_TOTALS_1", SAFE_QUERIES, "DESCRIBE EXTENDED of a CTAS over one stream")
    node.queries = deque([[{**found, "ksqlHostQueryStatus": hosts}]])


def _just_restarted(node: TableNode) -> None:
    """Constructed from the facts: after a restart no task is reported for some seconds."""
    tell(node, "CTAS_TOTALS_1", SAFE_QUERIES, "DESCRIBE EXTENDED of a CTAS over one stream")
    node.queries = deque([[{**one, "tasksMetadata": []} for one in queries_in(SAFE_QUERIES)]])


def _source_deleted(node: TableNode) -> None:
    """Constructed: the source's topic is gone, so the query is in the state ERROR."""
    tell(node, "CTAS_TOTALS_1", SAFE_QUERIES, None)
    broken = {
        "state": "ERROR",
        "queryErrors": [{"errorMessage": "orders: missing source topics", "timestamp": 1}],
    }
    node.queries = deque([[{**one, **broken} for one in queries_in(SAFE_QUERIES)]])


def _task_dead(node: TableNode) -> None:
    """Constructed from the facts: a stuck task shows the newest record it has fetched, and no commit."""
    tell(node, "CST_RP_T_25", SAFE_QUERIES, None)
    (found,) = node.queries[0] or []
    dead = {"topicPartitionEntity": {"topic": "rp_t", "partition": 1}, "endOffset": 82, "committedOffset": -1}
    well = {"topicPartitionEntity": {"topic": "rp_t", "partition": 0}, "endOffset": 122, "committedOffset": 123}
    found["tasksMetadata"] = [
        {"taskId": "0_0", "topicOffsets": [well]},
        {"taskId": "0_1", "topicOffsets": [dead]},
    ]


@pytest.mark.parametrize(
    ("name", "evidence", "text"),
    [
        (
            "F table pull over two nodes, one node dead: default writer, 8 of 12 rows, no error",
            _one_node_dead,
            "127.0.0.1:8302: UNRESPONSIVE",
        ),
        (
            "G table pull while the server restarts: default writer, status 200, 0 of 4 rows, no error (3)",
            _just_restarted,
            "the tasks of the query, of which none is reported",
        ),
        ("values: ctas_error_state_pull", _source_deleted, "orders: missing source topics"),
        (
            "values: source_table_stuck",
            _task_dead,
            "has stopped at offset 0 of partition 1 of rp_t, which ends at 83",
        ),
    ],
)
def test_a_false_answer_is_not_believed(name: str, evidence: Any, text: str, tmp_path: Path) -> None:
    """What looks whole and is not lands in no lake: what the server says beside it shows that it cannot be."""
    one = recording(name)
    assert one.expect == "false complete"
    with served(one, table_wait=20, read_timeout=10) as (node, feed, client):
        evidence(node)
        with pytest.raises(NotBuiltError) as caught:
            landed(client, feed, tmp_path)
        assert not node.server.asked("/query")
    assert text in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))


def test_every_false_answer_has_its_test() -> None:
    """No recorded answer that is wrong is left out above."""
    marks = test_a_false_answer_is_not_believed.pytestmark[0].args[1]
    covered = {one.name for one in SESSIONS} | {name for name, _, _ in marks}
    assert {one.name for one in TABLES if one.expect == "false complete"} == covered


def test_a_feed_may_demand_a_proof(tmp_path: Path) -> None:
    """With "evidence": "proven" an answer that is only checked is refused, with the ways out."""
    with served(recording("7.5.1 table_pull")) as (node, feed, client):
        tell(node, "CTAS_TOTALS_1", SAFE_QUERIES, "DESCRIBE EXTENDED of a CTAS over one stream")
        strict = feed.model_copy(update={"evidence": "proven"})
        with pytest.raises(KsqlLakeError, match="the rows are checked, not proven") as caught:
            landed(client, strict, tmp_path)
    assert "KSQLDB_NODES" in caught.value.hint
    assert '"extraction": "push"' in caught.value.hint
    assert not list(tmp_path.rglob("*.parquet"))
