"""Promises about when a table counts as built: never before its query has consumed what was there."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksql_lake.errors import NotBuiltError, Recovery
from ksql_lake.export.table.building import Building, Built
from ksql_lake.ksqldb.offsets import LogOffsets, ReportedQuery, TaskOffsets, read_persistent_queries
from ksql_lake_tests.fakes.table_node import Tasks, query
from ksql_lake_tests.quick import examples

Parts = list[tuple[int, int, int]]
INTERNAL = "_confluent-ksql-default_query_CTAS_T_1-step{}-repartition"


def building(*, stuck: float = 60.0) -> Building:
    """With short times."""
    return Building(rest=2.0, start=10.0, stuck=stuck)


def offsets(**topics: Parts) -> dict[str, dict[int, LogOffsets]]:
    """Per topic and partition where the log starts and ends, and how far it was consumed."""
    return {
        topic: {number: LogOffsets(*part) for number, part in enumerate(parts)}
        for topic, parts in topics.items()
    }


def running(tasks: Tasks = (), **more: object) -> ReportedQuery:
    """The query behind the table."""
    found = query(tasks, **more)  # type: ignore[arg-type]
    return read_persistent_queries([{"@type": "x", "queryDescriptions": [found]}])["CTAS_T_1"]


def look(
    judge: Building, topics: dict[str, dict[int, LogOffsets]], clock: float = 0.0, *, tasks: Tasks = ()
) -> Built | None:
    """One look at a running query on one node; without tasks those that go with the topics."""
    shown = tasks or [
        ("0_0", topic, number, part.end - 1, part.consumed)
        for topic, parts in topics.items()
        for number, part in parts.items()
    ]
    return judge.look([running(shown)], topics, every_host=True, clock=clock)


@dataclass
class World:
    """A query that carries records from a source through internal topics into a table, and commits."""

    partitions: int
    steps: int
    logs: list[list[list[int]]] = field(default_factory=list)
    consumed: list[list[int]] = field(default_factory=list)
    committed: list[list[int] | None] = field(default_factory=list)
    table: set[int] = field(default_factory=set)
    made: int = 0

    def __post_init__(self) -> None:
        self.logs = [[[] for _ in range(self.partitions)] for _ in range(self.steps)]
        self.consumed = [[0] * self.partitions for _ in range(self.steps)]
        self.committed = [None] * self.steps

    def produce(self, partition: int) -> None:
        """A new record in the source."""
        self.logs[0][partition % self.partitions].append(self.made)
        self.made += 1

    def process(self, step: int, partition: int, count: int) -> None:
        """Some records go one step further."""
        step, partition = step % self.steps, partition % self.partitions
        log = self.logs[step][partition]
        for record in log[self.consumed[step][partition] :][:count]:
            self.consumed[step][partition] += 1
            if step + 1 < self.steps:
                self.logs[step + 1][(record * 7 + step) % self.partitions].append(record)
            else:
                self.table.add(record)

    def commit(self, step: int) -> None:
        """One step's offsets are committed."""
        self.committed[step % self.steps] = list(self.consumed[step % self.steps])

    def topics(self) -> dict[str, dict[int, LogOffsets]]:
        """What Kafka reports: nothing of a topic without a commit."""
        return {
            self.name(step): {
                number: LogOffsets(0, len(log), done)
                for number, (log, done) in enumerate(zip(logs, at, strict=True))
            }
            for step, (logs, at) in enumerate(zip(self.logs, self.committed, strict=True))
            if at is not None
        }

    def tasks(self) -> Tasks:
        """What the tasks report: all that they have fetched they have committed."""
        return [
            (f"{step}_{number}", self.name(step), number, done - 1, done or -1)
            for step, at in enumerate(self.consumed)
            for number, done in enumerate(at)
        ]

    def name(self, step: int) -> str:
        """The topic of a step."""
        return INTERNAL.format(step) if step else "src"


moves = st.one_of(
    st.tuples(st.just("produce"), st.integers(0, 3), st.just(0), st.just(0)),
    st.tuples(st.just("process"), st.integers(0, 2), st.integers(0, 3), st.integers(1, 4)),
    st.tuples(st.just("commit"), st.integers(0, 2), st.just(0), st.just(0)),
    st.tuples(st.just("look"), st.just(0), st.just(0), st.just(0)),
)


@pytest.mark.slow
@settings(max_examples=examples(400), deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 12), st.lists(moves, min_size=5, max_size=60))
def test_a_table_is_never_proven_before_everything_arrived_in_it(
    partitions: int, steps: int, before: int, then: list[tuple[str, int, int, int]]
) -> None:
    """Through any number of internal topics, with commits at any time, while records keep coming.

    Tasks report the most flattering thing they can here: they have read all that they have fetched.
    """
    world = World(partitions, steps)
    for number in range(before):
        world.produce(number)
    judge = building(stuck=1e9)
    wanted: set[int] | None = None
    clock = 0.0
    for kind, first, second, third in then:
        if kind == "produce":
            world.produce(first)
        elif kind == "process":
            world.process(first, second, third)
        elif kind == "commit":
            world.commit(first)
        else:
            wanted = set(range(world.made)) if wanted is None else wanted
            clock += 1
            found = judge.look([running(world.tasks())], world.topics(), every_host=True, clock=clock)
            if found is not None:
                if found.level == "proven":
                    assert wanted <= world.table
                    assert judge.waiting_for == ""
                return
            assert judge.waiting_for


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 12))
def test_a_table_is_proven_in_the_end(partitions: int, steps: int, before: int) -> None:
    """Once a query has consumed everything, a few looks are enough, and more records do not put it off."""
    world = World(partitions, steps)
    for number in range(before):
        world.produce(number)
    judge, found, looks = building(), None, 0
    while found is None:
        for step in range(steps):
            for partition in range(partitions):
                world.process(step, partition, 100)
            world.commit(step)
        looks += 1
        found = judge.look([running(world.tasks())], world.topics(), every_host=True, clock=looks)
        world.produce(looks)
        assert looks < 10
    assert found.level == "proven"


def test_a_table_that_is_behind_says_by_how_much_and_where() -> None:
    """The line for people counts what is missing and names the partition that misses most."""
    judge = building()
    assert look(judge, offsets(src=[(0, 100, 90), (0, 5_000, 1_000), (0, 7, 7)])) is None
    assert judge.missing == 4_010
    assert judge.waiting_for == "4,010 records of src (partition 1 of src was read to offset 1,000 of 5,000)"
    found = look(judge, offsets(src=[(0, 100, 100), (0, 9_000, 5_000), (0, 7, 7)]), 1)
    assert found == Built("proven", "src was consumed to its end (5,107 offsets)")
    assert judge.missing == 0


@pytest.mark.parametrize("part", [(0, 0, 0), (0, 0, -1), (70, 70, -1), (70, 70, 12), (70, 70, 70)])
def test_an_empty_partition_needs_no_commit(part: tuple[int, int, int]) -> None:
    """Never written, or all of it deleted: there is nothing to consume, whatever the group has committed."""
    found = look(building(), offsets(src=[part, (0, 3, 3)]))
    assert found is not None
    assert found.level == "proven"


def test_an_empty_table_is_proven_too() -> None:
    """A source without records is consumed to its end."""
    found = look(building(), offsets(src=[(0, 0, 0)]), tasks=[("0_0", "src", 0, -1, -1)])
    assert found is not None
    assert found.level == "proven"


def test_a_consumed_source_is_no_built_table_while_its_repartition_topic_lags() -> None:
    """What the source's last records became must be consumed too, with ends taken after the source's."""
    judge = building()
    internal = INTERNAL.format(1)
    assert look(judge, offsets(src=[(0, 9, 9)], **{internal: [(0, 4, 4)]})) is None
    assert judge.waiting_for == "the query's internal topics"
    assert look(judge, offsets(src=[(0, 9, 9)], **{internal: [(0, 9, 4)]}), 1) is None
    assert judge.missing == 5
    assert internal in judge.waiting_for
    found = look(judge, offsets(src=[(0, 9, 9)], **{internal: [(0, 12, 9)]}), 2)
    assert found == Built("proven", "src was consumed to its end (9 offsets)")


def test_a_topic_that_is_gone_from_the_answer_is_waited_for() -> None:
    """What is not reported any more has not been consumed for that."""
    judge = building()
    assert look(judge, offsets(src=[(0, 9, 3)])) is None
    assert look(judge, offsets(other=[(0, 1, 1)]), 1) is None
    assert judge.waiting_for == "offsets of src, which are not reported for the moment"
    found = look(judge, offsets(other=[(0, 1, 1)], src=[(0, 9, 9)]), 2)
    assert found is not None
    assert found.level == "proven"


def test_a_topic_that_commits_later_than_others_is_judged_all_the_same() -> None:
    """A join reads two topics; one of them may have its first commit when the other has been consumed."""
    judge = building()
    tasks = [("0_0", "left", 0, 8, 9), ("0_0", "right", 0, 99, 50)]
    assert look(judge, offsets(left=[(0, 9, 9)]), 0, tasks=tasks) is None
    assert look(judge, offsets(left=[(0, 9, 9)], right=[(0, 5_000, 60)]), 1, tasks=tasks) is None
    assert judge.missing == 4_940
    found = look(judge, offsets(left=[(0, 9, 9)], right=[(0, 5_000, 5_000)]), 2, tasks=tasks)
    assert found == Built("proven", "left and right were consumed to their ends (5,009 offsets)")


def test_a_dead_task_names_its_partition_and_offset() -> None:
    """State RUNNING, and an offset that does not move: an error that says where, and where to look."""
    judge = building()
    stuck = offsets(src=[(0, 50, 50), (0, 173, 123)])
    assert look(judge, stuck, 0) is None
    assert look(judge, stuck, 59) is None
    with pytest.raises(NotBuiltError) as caught:
        look(judge, stuck, 60)
    assert str(caught.value) == (
        "the query behind the table has stopped at offset 123 of partition 1 of src, "
        "which ends at 173, for 60 s\n"
        "A task of the query is dead or stuck although its state is RUNNING; a record that is too large does "
        "that. The server's log says why. Nothing was kept; export again when it moves."
    )
    assert caught.value.recovery is Recovery.FIX


def test_a_slow_task_is_not_dead() -> None:
    """As long as it moves it is waited for, however slow it is."""
    judge = building()
    for clock in range(0, 600, 50):
        assert look(judge, offsets(src=[(0, 1000, clock)]), clock) is None


def test_a_dead_task_is_noticed_by_tasks_alone_too() -> None:
    """Where Kafka's offsets are not reported, a task that has committed nothing of what it fetched is stuck."""
    judge = building()
    tasks = [("0_0", "src", 0, 122, 123), ("0_1", "src", 1, 82, -1)]
    assert look(judge, {}, 0, tasks=tasks) is None
    with pytest.raises(NotBuiltError, match="at offset 0 of partition 1 of src, which ends at 83, for 61 s"):
        look(judge, {}, 61, tasks=tasks)


def test_tasks_alone_check_and_prove_nothing() -> None:
    """At their ends for some time they are believed, as "checked": their ends are what they have fetched."""
    judge = building()
    rested = [("0_0", "src", 0, 9, 10)]
    assert look(judge, {}, 0, tasks=rested) is None
    assert judge.waiting_for == "the tasks of the query to rest"
    assert look(judge, {}, 1, tasks=rested) is None
    found = look(judge, {}, 2, tasks=rested)
    assert found is not None
    assert found.level == "checked"
    assert "10 offsets" in found.text


def test_a_task_that_is_at_its_end_now_and_then_is_not_at_rest() -> None:
    """Between two fetches a task far behind is at its end for a moment: only unbroken rest counts."""
    judge = building()
    at_end, behind = [("0_0", "src", 0, 9, 10)], [("0_0", "src", 0, 499, 10)]
    for clock in range(0, 40, 2):
        assert look(judge, {}, clock, tasks=at_end) is None
        assert look(judge, {}, clock + 1, tasks=behind) is None
        assert judge.missing == 490


def test_a_partition_that_no_task_has_fetched_gets_time() -> None:
    """A task that has just started shows of a full partition what it shows of an empty one."""
    judge = building()
    unknown = [("0_0", "src", 0, -1, -1)]
    for clock in range(10):
        assert look(judge, {}, clock, tasks=unknown) is None
    assert look(judge, {}, 10, tasks=[("0_0", "src", 0, 49_999, 500)]) is None  # it was full
    assert judge.missing == 49_500
    fresh = building()
    assert [look(fresh, {}, clock, tasks=unknown) is None for clock in (0, 9, 10)] == [True, True, False]


def test_partitions_of_nodes_that_cannot_be_asked_are_not_taken_for_empty() -> None:
    """A node reports its own tasks alone, so unknown means empty only if every node was asked."""
    judge = building()
    tasks = [("0_0", "src", 0, 9, 10), ("0_1", "src", 1, -1, -1)]
    for clock in range(0, 100, 10):
        assert judge.look([running(tasks)], {}, every_host=False, clock=clock) is None
    assert judge.waiting_for == "1 partition of nodes that cannot be asked one by one"


def test_a_topic_without_a_commit_is_judged_by_its_tasks() -> None:
    """Kafka's offsets prove one topic; the other one is only checked, and so is the table."""
    judge = building()
    tasks = [("0_0", "src", 0, 8, 9), ("1_0", "rest", 0, 4, 5)]
    topics = offsets(src=[(0, 9, 9)])
    assert look(judge, topics, 0, tasks=tasks) is None
    found = look(judge, topics, 2, tasks=tasks)
    assert found is not None
    assert found.level == "checked"
    assert found.text.startswith("src was consumed to its end (9 offsets); its tasks had read all")


def test_after_a_restart_no_task_is_no_table() -> None:
    """For some seconds a restarted server reports no tasks, while Kafka's offsets look as before."""
    judge = building()
    empty = [running()]
    assert judge.look(empty, offsets(src=[(0, 9, 9)]), every_host=True, clock=0) is None
    assert judge.waiting_for == "the tasks of the query, of which none is reported"
    assert look(judge, offsets(src=[(0, 9, 9)]), 1) is not None


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"hosts": {"a:1": "RUNNING", "b:1": "UNRESPONSIVE"}}, "RUNNING (a:1: RUNNING, b:1: UNRESPONSIVE)"),
        (
            {"state": "ERROR", "errors": ["no topic"]},
            "ERROR (127.0.0.1:8088: RUNNING; its last error: no topic)",
        ),
        ({"hosts": {"a:1": "REBALANCING"}}, "a:1: REBALANCING"),
    ],
)
def test_a_query_that_does_not_run_everywhere_is_waited_for(more: dict[str, object], text: str) -> None:
    """Whatever its offsets say, and the reason is shown."""
    judge = building()
    ill = running([("0_0", "src", 0, 8, 9)], **more)
    assert judge.look([ill], offsets(src=[(0, 9, 9)]), every_host=True, clock=0) is None
    assert text in judge.waiting_for
    tasks = TaskOffsets("0_0", "src", 0, 9, 9)
    assert ill.tasks == (tasks,)
