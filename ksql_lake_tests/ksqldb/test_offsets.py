"""Promises about how far the queries behind a table have read: recorded answers, and nodes put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksql_lake.errors import ProtocolError
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.offsets import (
    LogOffsets,
    ReportedQuery,
    TaskOffsets,
    describe_extended,
    merged,
    read_extended,
    read_persistent_queries,
    topic_ends,
)
from ksql_lake_tests.fakes.recorded import recording
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.fakes.table_node import TOPOLOGY, TableNode, query
from ksql_lake_tests.ksqldb.conftest import generic

REPARTITION = "_confluent-ksql-lab_query_CTAS_RP_A_23-Aggregate-GroupBy-repartition"
QUERIES = "SHOW QUERIES EXTENDED with a repartition and a source table"
ONE_NODE = "two nodes: SHOW QUERIES EXTENDED;"


def recorded_query(name: str, query_id: str) -> ReportedQuery:
    """A query of a recorded answer."""
    return read_persistent_queries(recording(name).json)[query_id]


def test_a_table_over_one_stream_shows_its_sources_offsets() -> None:
    """Recorded: per partition where the log starts and ends, and how far the query came."""
    found = read_extended(recording("DESCRIBE EXTENDED of a CTAS over one stream").json)
    assert found.source.name == "TOTALS"
    assert [written.id for written in found.source.write_queries] == ["CTAS_TOTALS_1"]
    assert found.topics == {
        "orders": {0: LogOffsets(0, 340, 340), 1: LogOffsets(0, 380, 380), 2: LogOffsets(0, 280, 280)}
    }


def test_a_repartition_topic_is_among_the_topics() -> None:
    """Recorded: an aggregate by another column reads an internal topic of its own too."""
    found = read_extended(recording("DESCRIBE EXTENDED of a CTAS with a repartition topic").json).topics
    assert found == {
        "rp_s": {0: LogOffsets(0, 17, 17), 1: LogOffsets(0, 13, 13)},
        REPARTITION: {0: LogOffsets(0, 12, 12), 1: LogOffsets(0, 18, 18)},
    }


def test_of_a_source_table_no_offsets_are_known() -> None:
    """Recorded: Kafka reports none for it, which means not known, and its query is among the readers."""
    found = read_extended(recording("DESCRIBE EXTENDED of a source table").json)
    assert found.topics == {}
    assert [reader.id for reader in found.source.read_queries] == ["CST_RP_T_25"]


def test_a_table_that_is_being_built_misses_records() -> None:
    """Recorded on 0.24.0 in the middle: three partitions, two of them behind."""
    found = read_extended(recording("0.24.0 describe_extended").json).topics["he0240_ev"]
    assert {number: part.end - part.consumed for number, part in found.items()} == {0: 1300, 1: 0, 2: 1326}


def test_tasks_report_exclusive_ends() -> None:
    """Recorded: the newest record's offset is one less than the end that has been committed."""
    found = recorded_query(QUERIES, "CST_RP_T_25")
    assert found.tasks == (TaskOffsets("0_0", "rp_t", 0, 17, 17), TaskOffsets("0_1", "rp_t", 1, 13, 13))
    assert found.running
    assert found.hosts == {"127.0.0.1:8088": "RUNNING"}
    assert not any(task.unknown for task in found.tasks)


def test_the_state_of_an_aggregate_by_another_column_has_the_repartition_topics_partitions() -> None:
    """Recorded: tasks 0_x read the source and hold nothing; a pull query reads the state of tasks 1_x."""
    found = recorded_query(QUERIES, "CTAS_RP_A_23")
    assert {task.task for task in found.tasks} == {"0_0", "0_1", "1_0", "1_1"}
    assert found.store_partitions("RP_A", {}) == (0, 1)
    only = [task for task in found.tasks if task.task != "0_1"]
    assert _with(found, only).store_partitions("RP_A", {}) == (0, 1)
    missing = [task for task in found.tasks if task.task != "1_1"]
    three = {REPARTITION: {number: LogOffsets(0, 0, 0) for number in range(2)}}
    assert _with(found, missing).store_partitions("RP_A", three) == ()


def test_a_source_table_has_the_state_of_its_only_part() -> None:
    """Recorded: it writes no sink, so the part with a state is the one."""
    assert recorded_query(QUERIES, "CST_RP_T_25").store_partitions("rp_t", {}) == (0, 1)


def _with(found: ReportedQuery, tasks: list[TaskOffsets]) -> ReportedQuery:
    return ReportedQuery(
        found.id,
        found.hosts,
        found.state,
        found.errors,
        found.sinks,
        found.sink_topics,
        found.topology,
        tuple(tasks),
    )


def test_each_node_knows_its_own_tasks_and_together_they_know_all() -> None:
    """Recorded at one of two nodes: four of eight partitions. The other's answer is constructed from it."""
    here = recorded_query(ONE_NODE, "CTAS_CL_T_1")
    assert sorted(task.partition for task in here.tasks if not task.unknown) == [1, 3, 5, 7]
    other = _with(
        here,
        [
            TaskOffsets(task.task, task.topic, task.partition, 15_000, 15_000)
            if task.unknown
            else TaskOffsets(task.task, task.topic, task.partition, -1, -1)
            for task in here.tasks
        ],
    )
    both = merged([here, other])
    assert sorted(task.partition for task in both.tasks) == list(range(8))
    assert not any(task.unknown for task in both.tasks)
    assert both.store_partitions("CL_T", {}) == tuple(range(8))
    assert {*merged([other, here]).tasks} == {*both.tasks}
    assert both.hosts == {"127.0.0.1:8601": "RUNNING", "127.0.0.1:8602": "RUNNING"}


def test_with_lag_reporting_off_a_node_that_fetched_nothing_new_knows_nothing() -> None:
    """Recorded: after a restart every partition is unknown although all have records; that means no more."""
    found = recorded_query("two nodes: SHOW QUERIES EXTENDED; (lag reporting off)", "CTAS_CL_T_1")
    assert all(task.unknown for task in found.tasks)
    assert found.store_partitions("CL_T", {}) == tuple(range(8))


@pytest.mark.parametrize("state", ["UNRESPONSIVE", "ERROR", "REBALANCING"])
def test_a_query_runs_only_if_it_runs_everywhere(state: str) -> None:
    """Whichever node says that another one does not run it, and whatever the query's own state is."""
    hosts = {"a:1": "RUNNING", "b:1": "RUNNING"}
    well, ill = (
        read_persistent_queries([{"@type": "x", "queryDescriptions": [query(hosts=one)]}])["CTAS_T_1"]
        for one in (hosts, {**hosts, "b:1": state})
    )
    assert well.running
    assert not merged([well, ill]).running
    assert not merged([ill, well]).running
    failed = query(state="ERROR", hosts=hosts, errors=["too large"])
    found = read_persistent_queries([{"@type": "x", "queryDescriptions": [failed]}])["CTAS_T_1"]
    assert (found.running, found.errors) == (False, ("too large",))


places = st.tuples(st.integers(0, 3), st.integers(-1, 50), st.integers(-1, 50))


@given(st.lists(st.lists(places, max_size=6, unique_by=lambda place: place[0]), min_size=1, max_size=4))
def test_put_together_nothing_is_further_than_the_slowest_node_says(
    nodes: list[list[tuple[int, int, int]]],
) -> None:
    """Of a partition that several nodes know the furthest end and the earliest commit count, in any order."""
    answers = [
        _with(
            recorded_query(QUERIES, "CST_RP_T_25"),
            [TaskOffsets(f"0_{number}", "t", number, end, committed) for number, end, committed in tasks],
        )
        for tasks in nodes
    ]
    found = {task.partition: task for task in merged(answers).tasks}
    assert {task.partition for one in answers for task in one.tasks} == set(found)
    for number, task in found.items():
        known = [told for one in answers for told in one.tasks if told.partition == number and not told.unknown]
        assert task.unknown is not bool(known)
        if known:
            assert task.end == max(told.end for told in known)
            assert task.committed == min(told.committed for told in known)
    assert {*merged(answers[::-1]).tasks} == {*found.values()}


def test_several_queries_into_one_source_count_by_the_slowest() -> None:
    """A source that two queries write is behind as long as one of them is."""
    entities = recording("DESCRIBE EXTENDED of a CTAS over one stream").json
    source = entities[0]["sourceDescription"]
    (group,) = source["queryOffsetSummaries"]
    slower = [{**part, "consumerOffset": 7} for part in group["topicSummaries"][0]["offsets"]]
    second = {"groupId": "other", "topicSummaries": [{"kafkaTopic": "orders", "offsets": slower}]}
    both = [{**entities[0], "sourceDescription": {**source, "queryOffsetSummaries": [group, second]}}]
    assert [part.consumed for part in read_extended(both).topics["orders"].values()] == [7, 7, 7]


def test_where_a_topic_ends_is_asked_of_whoever_reads_it(server: ScriptedServer, client: KsqlClient) -> None:
    """A reader that reads something else is passed over; without any the end is not known."""
    node = TableNode(server)
    assert topic_ends(client, "src", ["T"]) == {0: LogOffsets(0, 5, 5)}
    assert topic_ends(client, "elsewhere", ["T"]) == {}
    assert topic_ends(client, "src", []) == {}
    assert node.statements() == ["DESCRIBE `T` EXTENDED;"] * 2


def test_a_reader_that_is_gone_is_passed_over(server: ScriptedServer, client: KsqlClient) -> None:
    """A sink that was dropped a moment ago does not keep the others from being asked."""
    described = recording("DESCRIBE EXTENDED of a CTAS over one stream").script()
    server.script("/ksql", answer(generic(40001, "Could not find STREAM/TABLE 'X'"), 400), described)
    assert set(topic_ends(client, "orders", ["X", "TOTALS"])) == {0, 1, 2}


def test_an_answer_of_another_shape_is_refused(server: ScriptedServer, client: KsqlClient) -> None:
    """Evidence is never guessed from an answer that is not understood."""
    server.script(
        "/ksql", answer(b'[{"@type":"sourceDescription","sourceDescription":{"queryOffsetSummaries":7}}]')
    )
    with pytest.raises(ProtocolError, match="queryOffsetSummaries"):
        describe_extended(client, "T")
    with pytest.raises(ProtocolError):
        read_persistent_queries([{"@type": "queries"}])
    assert "Sub-topology: 0" in TOPOLOGY
