"""Promises about reading a whole table: built first, read so that it is whole, then looked at again.

The nodes are scripted; the shapes of their answers are recorded ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ksql_lake.errors import IncompleteResponseError, KsqlLakeError, NotBuiltError, NotHereError
from ksql_lake.export import ExportResult, Progress, export_feed
from ksql_lake.feeds.model import FEED_ADAPTER
from ksql_lake.ksqldb import KsqlClient
from ksql_lake.ksqldb.properties import LEGACY_WRITER
from ksql_lake.lake import Lake
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.settings import Settings
from ksql_lake_tests.fakes.scripted_server import Request, Script, ScriptedServer, answer, chunked
from ksql_lake_tests.fakes.table_node import TableNode, Tasks, query
from ksql_lake_tests.ksqldb.conftest import generic, info

HEADER = b'[{"header":{"queryId":"query_1","schema":"`K` STRING KEY, `N` BIGINT"}},\n'
ELSEWHERE = generic(
    40001, "Unable to execute pull query. [Partition 0 failed to find valid host. Hosts scanned: []]"
)
TASKS: Tasks = [("0_0", "src", 0, 4, 5), ("0_1", "src", 1, 4, 5)]
BUILT = {"src": [(0, 5, 5), (0, 5, 5)]}


def table(*keys: str, value: int = 1) -> Script:
    """A whole answer."""
    rows = b",\n".join(b'{"row":{"columns":["%b",%d]}}' % (key.encode(), value) for key in keys)
    return chunked(HEADER, rows + b"]")


def by_partition(parts: dict[int, Script], *, whole: Script | None = None) -> Callable[[Request], Script]:
    """A node that holds some partitions."""

    def choose(request: Request) -> Script:
        asked = request.json.get("requestProperties", {}).get("request.ksql.query.pull.partition")
        if asked is None:
            return whole or answer(generic(50000, "asked for the whole"), 500)
        return parts.get(int(asked), answer(ELSEWHERE, 400))

    return choose


class Service:
    """Some nodes, a client of the first of them, and a lake.

    Attributes:
        nodes: The nodes; each reports all of them as hosts.
        lines: What was shown while something was waited for.
        waits: How long was waited, in seconds.
    """

    def __init__(self, nodes: Sequence[TableNode], root: Path, settings: dict[str, Any]) -> None:
        self.nodes = nodes
        self.lines: list[str] = []
        self.waits: list[float] = []
        self._lake = Lake(root)
        self._feed = FEED_ADAPTER.validate_python({"kind": "table", "name": "t", "source": "T"})
        url = nodes[0].server.url
        self.client = KsqlClient(
            Settings(ksqldb_url=url, **{"attempts": 1, **settings}), sleep=self.waits.append
        )

    def export(self, **keys: object) -> ExportResult:
        """Export the table."""

        def show(progress: Progress) -> None:
            if progress.note:
                self.lines.append(progress.note)

        feed = self._feed.model_copy(update=keys)
        return export_feed(feed, self.client, self._lake, on_progress=show)

    @property
    def evidence(self) -> Evidence:
        """What the last commit says."""
        read = self._lake.feed(self._feed).state().last_read
        assert read is not None
        assert read.evidence is not None
        return read.evidence

    def pulls(self) -> int:
        """How many pull queries were sent."""
        return sum(len(node.server.asked("/query")) for node in self.nodes)


@contextmanager
def service(root: Path, *answers: Callable[[Request], Script], **settings: Any) -> Iterator[Service]:
    """A service with one node per answer; every query runs on all of them, and everything is consumed."""
    with ScriptedServer() as first, ScriptedServer() as second:
        servers = [first, second][: len(answers)]
        hosts = {f"127.0.0.1:{server.port}": "RUNNING" for server in servers}
        nodes = []
        for server, pull in zip(servers, answers, strict=True):
            server.script("/info", answer(info("8.0.7")))
            found: deque[list[dict[str, Any]] | None] = deque([[query(TASKS, hosts=hosts)]])
            nodes.append(TableNode(server, pull=pull, queries=found, offsets=deque([BUILT])))
        running = Service(nodes, root, settings)
        with running.client:
            yield running


def test_the_look_at_an_internal_topic_follows_at_once(tmp_path: Path) -> None:
    """Its ends only have to be read after the source was seen consumed; no time has to pass between the two."""
    internal = "_confluent-ksql-default_query_CTAS_T_1-groupby-repartition"
    with service(tmp_path, lambda _: table("a", "b")) as one:
        one.nodes[0].offsets = deque([{**BUILT, internal: [(0, 7, 7)]}])
        assert one.export().read == 2
        assert one.evidence.level == "proven"
        looks = [sql for sql in one.nodes[0].statements() if sql.startswith("DESCRIBE") and "EXTENDED" in sql]
        assert (len(looks), one.waits) == (3, [])


def changed(service: Service, **more: Any) -> list[dict[str, Any]]:
    """What the nodes report of the query, changed."""
    hosts = {f"127.0.0.1:{node.server.port}": "RUNNING" for node in service.nodes}
    return [query(**{"tasks": TASKS, "hosts": hosts, **more})]


def test_one_node_with_everything_consumed_is_proven(tmp_path: Path) -> None:
    """One pull, by the writer that reports its errors, between two looks at the node."""
    with service(tmp_path, lambda _: table("a", "b")) as one:
        assert one.export().read == 2
        assert one.evidence == Evidence(
            level="proven",
            text="one node answered, and says when it fails; src was consumed to its end (10 offsets)",
            isolation="unknown",
        )
        assert one.pulls() == 1
        assert one.waits == []


def test_an_empty_table_may_be_proven(tmp_path: Path) -> None:
    """No rows, and the evidence that there are none: a version is committed, after a second look."""
    with service(tmp_path, lambda _: chunked(HEADER, b"]")) as one:
        assert one.export().read == 0
        assert one.evidence.level == "proven"


def test_a_table_is_waited_for_and_the_line_counts_down(tmp_path: Path) -> None:
    """Nothing is asked of it before its query has consumed what was there at the first look."""
    looks = [{"src": [(0, 140_000, at), (0, 5, 5)]} for at in (10, 70_000, 139_999, 140_000)]
    with service(tmp_path, lambda _: table("a")) as one:
        one.nodes[0].offsets = deque(looks)
        one.export()
        assert one.evidence.level == "proven"
    counted = [line.split(" of src")[0] for line in one.lines]
    assert counted == [
        "T: waiting for 139,990 records",
        "T: waiting for 70,000 records",
        "T: waiting for 1 record",
    ]
    assert one.waits == [1.0] * 3


def test_a_table_that_stays_behind_is_refused_with_the_number(tmp_path: Path) -> None:
    """After KSQLDB_TABLE_WAIT, without having asked for a row; the setting is named."""
    with service(tmp_path, lambda _: table("a"), table_wait=5) as one:
        one.nodes[0].offsets = deque([{"src": [(0, 140_000, at), (0, 5, 5)]} for at in range(10)])
        with pytest.raises(NotBuiltError) as caught:
            one.export()
        assert one.pulls() == 0
    assert "T is 139,995 records behind its source after 5 s: still waiting for" in str(caught.value)
    assert "KSQLDB_TABLE_WAIT" in caught.value.hint
    assert not list(tmp_path.rglob("*.parquet"))


def test_several_nodes_are_read_one_by_one_and_proven(tmp_path: Path) -> None:
    """Each partition comes from the node that holds it, and never through another one."""
    answers = by_partition({0: table("a", "b")}), by_partition({1: table("c")})
    with service(tmp_path, *answers) as two:
        assert two.export().read == 3
        assert two.evidence.level == "proven"
        assert two.evidence.text.startswith(
            "each of the 2 partitions was answered by the one of 2 nodes that holds it"
        )
    assert two.waits == []


@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"ksql.query.pull.enable.standby.reads": "true"}, "standby reads are on"),
        (None, "may not list the server's properties, and standby reads may be on"),
    ],
)
def test_standby_reads_are_no_proof(
    tmp_path: Path, node: int, properties: dict[str, str] | None, told: str
) -> None:
    """Where one node lets followers answer, or does not tell, the rows may be old ones."""
    answers = by_partition({0: table("a")}), by_partition({1: table("b")})
    with service(tmp_path, *answers) as two:
        two.nodes[node].properties = properties
        two.export()
        assert two.evidence.level == "checked"
        assert told in two.evidence.text


@pytest.mark.parametrize("how", ["query", "statement"])
def test_a_table_that_is_made_again_meanwhile_is_read_again(tmp_path: Path, how: str) -> None:
    """Its partitions would be of two tables: the second look finds another query or statement behind it."""
    with service(tmp_path, lambda _: table("a")) as one:
        node = one.nodes[0]

        def remade(_: Request) -> Script:
            if one.pulls() == 1 and how == "query":
                node.writers, node.queries = ("CTAS_T_9",), deque([changed(one, name="CTAS_T_9")])
            elif one.pulls() == 1:
                node.statement = "CREATE OR REPLACE TABLE T AS SELECT ... WHERE N > 1"
            return table("a")

        node.pull = remade
        one.export()
        assert one.evidence.level == "proven"
        assert one.pulls() == 2


def test_a_task_that_no_node_reports_is_missed(tmp_path: Path) -> None:
    """Kafka knows three partitions and the nodes report two tasks: the third is not taken for nothing.

    The table is read whole and twice instead, which proves nothing but loses no partition unnoticed.
    """
    answers = by_partition({0: table("a")}, whole=table("a", "b", "c")), by_partition({1: table("b")})
    with service(tmp_path, *answers) as two:
        two.nodes[0].offsets = deque([{"src": [(0, 5, 5)] * 3}])
        assert two.export().read == 3
        assert two.evidence.level == "checked"


def test_a_node_that_goes_while_the_table_is_read_means_reading_again_from_the_first_step(
    tmp_path: Path,
) -> None:
    """The second look finds the node gone; the next try waits until all run, and only then asks again."""
    with service(tmp_path, lambda _: table("a")) as one:
        gone = changed(one, hosts={f"127.0.0.1:{one.nodes[0].server.port}": "UNRESPONSIVE"})
        well = changed(one)
        one.nodes[0].queries = deque([well, gone, gone, well])
        one.export()
        assert one.evidence.level == "proven"
        assert one.pulls() == 2
    assert any("which is RUNNING" in line and "UNRESPONSIVE" in line for line in one.lines)


def test_partitions_that_move_do_not_use_up_the_tries(tmp_path: Path) -> None:
    """Where every node says "not here" it is tried again after a pause, each time from the first step."""
    asked: list[int] = []

    def moving(request: Request) -> Script:
        asked.append(1)
        return by_partition({0: table("a"), 1: table("b")} if len(asked) > 6 else {})(request)

    with service(tmp_path, moving, by_partition({})) as two:
        assert two.export().attempts == 1
        assert two.evidence.level == "proven"
        described = sum(sql.startswith("DESCRIBE") for sql in two.nodes[0].statements())
    assert two.waits.count(2.0) >= 2
    assert described >= 3 + two.waits.count(2.0)


def test_partitions_that_nobody_gets_back_are_an_error_in_the_end(tmp_path: Path) -> None:
    """The time is KSQLDB_TABLE_WAIT too; the error says what every node said."""
    with (
        service(tmp_path, by_partition({}), by_partition({}), table_wait=6) as two,
        pytest.raises(NotHereError, match="no node answers for partition 0 of the table"),
    ):
        two.export()
    assert two.waits == [2.0] * 3
    assert not list(tmp_path.rglob("*.parquet"))


FAR = "ksqldb-1.internal.invalid:8088"


def unreachable(two: Service) -> None:
    """The service advertises a second node under a name that leads nowhere from here."""
    hosts = {f"127.0.0.1:{two.nodes[0].server.port}": "RUNNING", FAR: "RUNNING"}
    two.nodes[0].queries = deque([[query(TASKS, hosts=hosts)]])


def test_nodes_that_cannot_be_reached_are_read_twice_and_checked(tmp_path: Path) -> None:
    """Two whole answers that agree, with a settling time between, and the same nodes before and after."""
    with service(tmp_path, lambda _: table("a", "b"), settle_time=45) as one:
        unreachable(one)
        assert one.export().read == 2
        assert one.evidence.level == "checked"
        assert f"the node http://{FAR} cannot be asked from here" in one.evidence.text
        assert "two readings agree but for 0 keys changed in between" in one.evidence.text
        assert one.pulls() == 2
    assert one.waits == [1.0] * 45
    assert one.lines[0] == "T: waiting 45 s before the table is read a second time"


def test_two_answers_that_differ_are_refused(tmp_path: Path) -> None:
    """What is lost between nodes is another row each time: the difference shows it, and nothing lands."""
    answers = deque([table("a", "b", "c"), table("a", "b")])
    with service(tmp_path, lambda _: answers.popleft(), settle_time=0) as one:
        unreachable(one)
        with pytest.raises(IncompleteResponseError) as caught:
            one.export()
    assert "two readings of the table differ in 1 key, but its query consumed 0 records in between" in str(
        caught.value
    )
    assert "KSQLDB_NODES" in caught.value.hint
    assert '"extraction": "push"' in caught.value.hint
    assert not list(tmp_path.rglob("*.parquet"))


def test_keys_that_changed_in_between_are_no_difference(tmp_path: Path) -> None:
    """As many keys may differ as records were consumed between the two looks."""
    answers = deque([table("a", "b"), table("a", "b", "c")])
    with service(tmp_path, lambda _: answers.popleft(), settle_time=0) as one:
        unreachable(one)
        later = {"src": [(0, 6, 6), (0, 5, 5)]}
        one.nodes[0].offsets = deque([BUILT, BUILT, later])
        assert one.export().read == 3
        assert "but for 1 key changed in between" in one.evidence.text


def test_a_record_counts_once_however_many_topics_it_went_through(tmp_path: Path) -> None:
    """The internal topic of a GROUP BY repeats the source's records: no more keys may differ for it."""
    internal = "_confluent-ksql-default_query_CTAS_T_1-groupby-repartition"
    answers = deque([table("a", "b"), table("a", "b", "c", "d")])
    with service(tmp_path, lambda _: answers.popleft(), settle_time=0) as one:
        unreachable(one)
        first, later = [{**BUILT, internal: [(0, n, n)]} for n in (7, 8)]
        one.nodes[0].offsets = deque([first, first, first, first, {**later, "src": [(0, 6, 6), (0, 5, 5)]}])
        with pytest.raises(
            IncompleteResponseError, match="differ in 2 keys, but its query consumed 1 record in"
        ):
            one.export()


def test_fewer_nodes_named_than_there_are_is_said(tmp_path: Path) -> None:
    """KSQLDB_NODES that leaves a node out is not used: the whole is read twice, and the reason is kept."""
    answers = by_partition({0: table("a")}, whole=table("a", "b")), by_partition({1: table("b")})
    with service(tmp_path, *answers, settle_time=0) as two:
        two.client.settings.__dict__["nodes"] = two.nodes[0].server.url
        assert two.export().read == 2
        assert two.evidence.level == "checked"
        assert "KSQLDB_NODES names 1 of the 2 nodes" in two.evidence.text


def test_a_server_without_the_older_writer_is_read_twice_even_alone(tmp_path: Path) -> None:
    """The property is refused: one node too is only checked, and what was refused is kept with it."""

    def newer(request: Request) -> Script:
        if LEGACY_WRITER in request.json["streamsProperties"]:
            refused = f"One or more properties overrides set locally are prohibited: [{LEGACY_WRITER}]"
            return answer(generic(40000, refused), 400)
        return table("a")

    with service(tmp_path, newer) as one:
        one.export()
        assert one.evidence.level == "checked"
        assert "the answers came without the writer that reports its errors" in one.evidence.text
        assert [LEGACY_WRITER in caveat for caveat in one.evidence.caveats] == [True]
        assert one.pulls() == 4  # refused, answered by the newer writer, and then twice


def test_who_may_not_list_queries_lands_unchecked(tmp_path: Path) -> None:
    """Nothing is known of the building then, and the version says so."""
    with service(tmp_path, lambda _: table("a")) as one:
        one.nodes[0].queries = deque([None])
        assert one.export().read == 1
        assert one.evidence.level == "unchecked"
        with pytest.raises(KsqlLakeError, match="the rows are unchecked, not proven"):
            one.export(evidence="proven")


@pytest.mark.slow
def test_a_derived_table_without_its_query_is_waited_for(tmp_path: Path) -> None:
    """A node that shuts down shows a table without a query for half a minute; then it is there again."""
    with service(tmp_path, lambda _: table("a"), table_wait=1) as one:
        node = one.nodes[0]
        node.writers = ()

        def back(_: float) -> None:
            one.waits.append(1.0)
            if len(one.waits) == 40:
                node.writers = ("CTAS_T_1",)

        one.client.sleep = back
        one.export()
        assert one.evidence.level == "proven"
    assert len(one.waits) == 40
    assert set(one.lines) == {"T: waiting for a query that writes T"}


@pytest.mark.slow
def test_a_derived_table_whose_query_stays_away_says_so_and_never_proposes_push(tmp_path: Path) -> None:
    """After more than a minute its query counts as terminated, or its server as going."""
    with service(tmp_path, lambda _: table("a")) as one:
        one.nodes[0].writers = ()
        with pytest.raises(NotBuiltError) as caught:
            one.export()
        assert one.pulls() == 0
    assert "no query writes T any more" in str(caught.value)
    assert "Its query was terminated, or its server is shutting down" in caught.value.hint
    assert "push" not in str(caught.value)
    assert sum(one.waits) >= 70


def test_a_derived_table_that_is_called_not_queryable_is_asked_again(tmp_path: Path) -> None:
    """Between the look and the pull the node began to shut down; that is no reason to give up the pull."""
    refusals = deque([answer(generic(40001, "The `T` table isn't queryable. To derive ..."), 400)] * 3)

    def going(_: Request) -> Script:
        return refusals.popleft() if refusals else table("a")

    with service(tmp_path, going) as one:
        one.export()
        assert one.evidence.level == "proven"
    assert one.waits == [2.0] * 3
