"""Read a table whole: wait until it is built, then read node by node, or twice."""

# A table's pull query ends in the same way whether it brought all rows or not; see docs/completeness.md.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from ksql_lake.errors import (
    IncompleteResponseError,
    NotBuiltError,
    NotHereError,
    NotQueryableError,
    ServerUnavailableError,
    StatementError,
    UnauthorizedError,
)
from ksql_lake.export.table.building import Building, Built, internal_topics
from ksql_lake.export.table.parts import Parts
from ksql_lake.export.table.twice import KeyedRows
from ksql_lake.ksqldb import KsqlClient, QueryKind, QueryResponse
from ksql_lake.ksqldb.inventory import derives
from ksql_lake.ksqldb.nodes import Nodes, ReachedNodes
from ksql_lake.ksqldb.offsets import (
    ExtendedDescription,
    ReportedQuery,
    describe_extended,
    merged,
    persistent_queries,
)
from ksql_lake.lake.commit.manifest import Evidence, EvidenceLevel
from ksql_lake.quantities import count_text

LOOK_SECONDS = 1.0
"""Seconds between two looks at a table that is not built."""
TASK_REST = 2.0
"""Seconds for which tasks have to be at their ends."""
TASK_START = 10.0
"""Seconds in which a task that has just started fetches its first records, if there are any."""
RESTORE_SECONDS = 15.0
"""Seconds for which a starting node may answer pull queries of the newer writer with no rows, as complete."""
ORPHAN_SECONDS = 70.0
"""Seconds after which a table has no query; a node that shuts down reports none for half a minute."""

Note = Callable[[str], None]
Hashes = Callable[[QueryResponse], KeyedRows]
"""Reads an answer to its end and returns its rows as hashes."""


@dataclass(frozen=True, slots=True)
class TableLook:
    """What the server reports of a table and its queries.

    Attributes:
        described: The table.
        queries: The queries behind it, merged from the nodes; None where we may not list queries.
        reached: The nodes.
    """

    described: ExtendedDescription
    queries: tuple[ReportedQuery, ...] | None
    reached: ReachedNodes

    @property
    def hosts(self) -> dict[str, str]:
        """Node -> state of the queries on it."""
        found: dict[str, str] = {}
        for query in self.queries or ():
            for host, state in query.hosts.items():
                if found.get(host, "RUNNING") == "RUNNING":
                    found[host] = state
        return found

    @property
    def made(self) -> tuple[str, str, list[str]]:
        """What the table is: its statement, its topic, and the ids of its queries."""
        source = self.described.source
        return source.statement, source.topic, sorted(query.id for query in self.queries or ())

    @property
    def running(self) -> bool:
        """Whether all queries run on all nodes."""
        return all(query.running for query in self.queries or ())


@dataclass(slots=True)
class TableAnswer:
    """A table's rows, and what shows that they are all of them.

    Attributes:
        response: The rows; read them to the end before you call `evidence`.
        rows: The hashes of the rows that were passed to `take`; None where nothing is compared.
        nodes: How many nodes hold the table; 0 where that is not known.
    """

    response: QueryResponse | Parts
    rows: KeyedRows | None
    _finish: Callable[[], Evidence] = field(repr=False)
    nodes: int = 0

    def take(self, batch: pa.RecordBatch) -> None:
        """Note rows that were read."""
        if self.rows is not None:
            self.rows.add(batch)

    def evidence(self) -> Evidence:
        """Look at the nodes again, and return what shows that all rows came.

        Raises:
            NotHereError: Nodes came, went or changed their state meanwhile; the table has to be read again.
            IncompleteResponseError: Two answers differ by more than what changed meanwhile.
        """
        return self._finish()


@dataclass(frozen=True, slots=True)
class TableQuery:
    """What to read.

    Attributes:
        client: The service's address.
        table: The table's name, exact case.
        statement: The pull query.
        key: The columns that distinguish one row from another, as they are called in the lake.
        hashes: Reads an answer to its end for comparison.
        note: Called with a line for people while the export waits.
    """

    client: KsqlClient
    table: str
    statement: str
    key: tuple[str, ...]
    hashes: Hashes
    note: Note


@contextmanager
def read_table(query: TableQuery) -> Iterator[TableAnswer]:
    """Read a whole table; leaving early closes all connections.

    Raises:
        NotBuiltError: The query behind the table does not reach the end of its source.
        NotHereError: No node answers for a partition; begin again.
        KsqlError: The server refused, broke off or could not be reached.
    """
    with ExitStack() as stack:
        nodes = stack.enter_context(Nodes(query.client))
        look, built = _built(query, nodes)
        try:
            answer = _opened(query, nodes, look, built, stack)
        except NotQueryableError as error:
            if not derives(look.described.source.statement):
                raise
            # A node that shuts down reports of each table for half a minute that it has no query.
            raise NotHereError(error.message, hint="Is the server shutting down? It is asked again.") from error
        yield answer


def _opened(
    query: TableQuery, nodes: Nodes, look: TableLook, built: Built | None, stack: ExitStack
) -> TableAnswer:
    client = query.client
    if built is None:
        response = stack.enter_context(client.query(query.statement, kind=QueryKind.PULL_TABLE))
        return TableAnswer(response, None, lambda: _evidence(client, "unchecked", _UNLISTED))
    if len(look.hosts) == 1 and not client.settings.node_urls:
        response = stack.enter_context(client.query(query.statement, kind=QueryKind.PULL_TABLE))
        if response.sent.legacy:
            return TableAnswer(
                response,
                None,
                lambda: _single_evidence(query, nodes, look, built),
                nodes=1,
            )
        response.close()
    elif look.reached.clients and (partitions := _partitions(look)):
        parts = Parts(query.statement, look.reached.clients, partitions)
        stack.callback(parts.close)
        parts.open()
        if parts.legacy:
            return TableAnswer(
                parts, None, lambda: _parts_evidence(query, nodes, look, built, parts), nodes=len(look.hosts)
            )
        parts.close()
    return _twice(query, nodes, look, built, stack)


_UNLISTED = (
    "this user may not list the server's queries, so it is not known whether the table was built, nor how many "
    "nodes hold it"
)


def _partitions(look: TableLook) -> tuple[int, ...]:
    queries, described = look.queries or (), look.described
    if len(queries) != 1:
        return ()
    return queries[0].store_partitions(described.source.topic, described.topics)


def _single_evidence(query: TableQuery, nodes: Nodes, look: TableLook, built: Built) -> Evidence:
    _unmoved(query, nodes, look)
    text = f"one node answered, and says when it fails; {built.text}"
    return _evidence(query.client, built.level, text)


def _parts_evidence(query: TableQuery, nodes: Nodes, look: TableLook, built: Built, parts: Parts) -> Evidence:
    after = _unmoved(query, nodes, look)
    if _partitions(after) != tuple(sorted(parts.answered)):
        raise NotHereError(
            f"{query.table} was read in {count_text(len(parts.answered), 'partition')}, but its nodes report "
            f"{len(_partitions(after))} now",
            hint="Nothing was kept; it is read again.",
        )
    level = built.level
    text = (
        f"each of the {count_text(len(parts.answered), 'partition')} was answered by the one of "
        f"{count_text(len(look.reached.clients), 'node')} that holds it; {built.text}"
    )
    if doubt := _standby_reads(look.reached.clients.values()):
        level = "checked"
        text += f"; {doubt}, so a node may answer that lags behind"
    return _evidence(query.client, level, text)


def _twice(query: TableQuery, nodes: Nodes, look: TableLook, built: Built, stack: ExitStack) -> TableAnswer:
    """Read the table for comparison, wait for the nodes, and open it again for the rows that land."""
    client = query.client
    with client.query(query.statement, kind=QueryKind.PULL_TABLE) as first:
        before = query.hashes(first)
    _unmoved(query, nodes, look)
    version = client.known_version()
    if len(look.hosts) != 1 or version is None or version.has_two_writers:
        _settle(query, client.settings.settle_time if len(look.hosts) != 1 else RESTORE_SECONDS)
        _unmoved(query, nodes, look)
    response = stack.enter_context(client.query(query.statement, kind=QueryKind.PULL_TABLE))
    rows = KeyedRows(query.key)

    def finish() -> Evidence:
        after = _unmoved(query, nodes, look)
        differing, allowed = before.differing(rows), _consumed(look, after)
        if differing > allowed:
            raise IncompleteResponseError(
                f"two readings of the table differ in {count_text(differing, 'key')}, but its query consumed "
                f"{count_text(allowed, 'record')} in between",
                hint="Rows got lost between two nodes, or the table changes faster than it can "
                "be compared. Name all nodes in KSQLDB_NODES so that each can be asked by itself, or set "
                '"extraction": "push" in the feed file.',
            )
        why = look.reached.reason or _why_twice(look)
        text = (
            f"two readings agree but for {count_text(differing, 'key')} changed in between, and the nodes were "
            f"the same before and after; {why}; {built.text}"
        )
        return _evidence(client, "checked", text)

    return TableAnswer(response, rows, finish, nodes=len(look.hosts))


def _why_twice(look: TableLook) -> str:
    if not look.hosts:
        return "the server does not report its nodes"
    if len(look.hosts) > 1 and not _partitions(look):
        return "the partitions of the table's state are not known"
    return "the answers came without the writer that reports its errors"


def _consumed(look: TableLook, after: TableLook) -> int:
    """Return how many records were consumed between two looks; internal topics repeat those of the source."""
    now, then = after.described.topics, look.described.topics
    topics = internal_topics(now, after.queries or ()) or now.keys()
    seen = (max(part.consumed, 0) for topic in topics for part in now[topic].values())
    return sum(seen) - sum(max(part.consumed, 0) for topic in topics for part in then.get(topic, {}).values())


def _settle(query: TableQuery, seconds: float) -> None:
    """Wait until a node reports that it shuts down (half a minute) or starts (seconds)."""
    left = min(seconds, query.client.settings.settle_time)
    while left > 0:
        query.note(f"{query.table}: waiting {left:.0f} s before the table is read a second time")
        query.client.sleep(min(left, LOOK_SECONDS))
        left -= LOOK_SECONDS


def _evidence(client: KsqlClient, level: EvidenceLevel, text: str) -> Evidence:
    return Evidence(level=level, text=text, isolation="unknown", caveats=list(client.properties.refused))


def _unmoved(query: TableQuery, nodes: Nodes, before: TableLook) -> TableLook:
    """Look again: table and nodes have to be the same, and all nodes running.

    Raises:
        NotHereError: They are not.
    """
    after = _look(query.client, query.table, nodes)
    if after.hosts.keys() != before.hosts.keys() or not after.running:
        states = ", ".join(f"{host}: {state}" for host, state in sorted(after.hosts.items()))
        raise NotHereError(
            f"the nodes of {query.table} changed while it was read: {states or 'none is reported'}",
            hint="Nothing was kept; it is read again once all nodes run.",
        )
    if after.made != before.made:
        what = f"{query.table} was made again while it was read"
        raise NotHereError(what, hint="Nothing was kept; it is read again once it is built.")
    return after


def _built(query: TableQuery, nodes: Nodes) -> tuple[TableLook, Built | None]:
    """Wait until the table is built; None for a table whose progress the server does not report."""
    settings = query.client.settings
    building = Building(
        rest=TASK_REST,
        start=TASK_START,
        stuck=settings.read_timeout,
    )
    waited = orphaned = 0.0
    while True:
        look = _look(query.client, query.table, nodes)
        if look.queries is None:
            return look, None
        if look.queries:
            orphaned = 0.0
            every_host = bool(look.reached.clients)
            found = building.look(look.queries, look.described.topics, every_host=every_host, clock=waited)
            if found is not None:
                return look, found
            if building.at_once:
                continue
        else:
            orphaned += LOOK_SECONDS
            building.waiting_for = f"a query that writes {query.table}"
            if orphaned > ORPHAN_SECONDS:
                raise NotBuiltError(
                    f"no query writes {query.table} any more",
                    hint="Its query was terminated, or its server is shutting down. If it was, the table "
                    "does not change any more: create it again, or archive the feed.",
                )
        if waited >= settings.table_wait and look.queries:
            raise _too_late(query.table, building, waited)
        query.note(f"{query.table}: waiting for {building.waiting_for}")
        query.client.sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS


def _too_late(table: str, building: Building, waited: float) -> NotBuiltError:
    behind = f"{building.missing:,} records behind its source" if building.missing else "not built"
    return NotBuiltError(
        f"{table} is {behind} after {waited:.0f} s: still waiting for {building.waiting_for}",
        hint="A pull query would miss what is not there yet, so nothing was read. Export again later, raise "
        'KSQLDB_TABLE_WAIT, or set "extraction": "push" in the feed file.',
    )


def _look(client: KsqlClient, table: str, nodes: Nodes) -> TableLook:
    described = describe_extended(client, table)
    source = described.source
    ids = [query.id for query in source.write_queries]
    ids += [query.id for query in source.read_queries if query.id.startswith(f"CST_{table}_")]
    try:
        known = persistent_queries(client)
    except (StatementError, UnauthorizedError):
        return TableLook(described, None, ReachedNodes({}, "queries cannot be listed"))
    # A query that is missing here may be about to start: then the table is not built.
    found = [known[name] for name in ids] if known.keys() >= set(ids) else []
    hosts = {host for query in found for host in query.hosts}
    reached = nodes.reach(hosts) if hosts else ReachedNodes({}, "the server does not report its nodes")
    answers = [known]
    for node in reached.clients.values():
        if node is not client:
            try:
                answers.append(persistent_queries(node))
            except (ServerUnavailableError, StatementError, UnauthorizedError) as error:
                reached = ReachedNodes({}, f"the node {node.url} cannot be asked from here: {error.message}")
                break
    queries = tuple(merged(answer[query.id] for answer in answers if query.id in answer) for query in found)
    return TableLook(described, queries, reached)


def _standby_reads(clients: Iterable[KsqlClient]) -> str:
    """Return why a pull query may be answered by a node that follows another one; empty if it is not."""
    try:
        found = [_follows(client) for client in clients]
    except (StatementError, UnauthorizedError):
        return "this user may not list the server's properties, and standby reads may be on"
    return "standby reads are on" if any(found) else ""


def _follows(client: KsqlClient) -> bool:
    return any(
        str(item.get("name", "")).endswith("ksql.query.pull.enable.standby.reads")
        and str(item.get("value")).lower() == "true"
        for entity in client.execute("SHOW PROPERTIES;")
        for item in entity.get("properties") or []
        if isinstance(item, dict)
    )
