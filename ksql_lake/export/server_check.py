"""What a server lets us do, found by asking it: address, rights, nodes, properties, evidence, continuing.

It sends what exports send, on a small scale: the version, lists, descriptions, and at most one pull query of
one row of a stream and of a table. Nothing is changed on the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from ksql_lake.errors import KsqlError, PropertyRefusedError, StatementError, UnauthorizedError
from ksql_lake.export.continuing.preconditions import MEASURED, SETTING
from ksql_lake.ksqldb import KsqlClient, QueryKind, SourceDescription, describe, list_sources, quote_identifier
from ksql_lake.ksqldb.nodes import Nodes
from ksql_lake.ksqldb.offsets import ReportedQuery, persistent_queries
from ksql_lake.ksqldb.properties import LEGACY_WRITER
from ksql_lake.ksqldb.reach import reach
from ksql_lake.ksqldb.version import ServerInfo
from ksql_lake.quantities import count_text

State = Literal["works", "limited", "fails"]
_ON_THIS_MACHINE = ("http://localhost", "http://127.", "http://[::1]")


@dataclass(frozen=True, slots=True)
class Probe:
    """One finding about the server.

    Attributes:
        name: What, in a word or two.
        state: `works`; `limited`: exports run but something is unavailable; `fails`: exports cannot run.
        text: What was found.
        fix: What would help; empty where nothing is needed.
    """

    name: str
    state: State
    text: str
    fix: str = ""


@dataclass(slots=True)
class _Known:
    """What is known so far."""

    client: KsqlClient
    info: ServerInfo
    sources: list[SourceDescription] = field(default_factory=list)
    queries: Mapping[str, ReportedQuery] | None = None

    @property
    def hosts(self) -> set[str]:
        """The nodes as they advertise themselves; empty where the server does not report them."""
        return {host for query in (self.queries or {}).values() for host in query.hosts}


def examine(client: KsqlClient) -> Iterator[Probe]:
    """Ask a server what it lets us do; yield each finding as it is made, up to one that ends the check.

    Args:
        client: Its client; one attempt is enough, since a person waits for the answer.
    """
    try:
        info = client.server_info()
    except KsqlError as error:
        yield Probe("server", "fails", error.message, error.hint)
        return
    known = _Known(client, info)
    yield _address(client)
    yield _version(info)
    try:
        summaries = list_sources(client)
        known.sources = [describe(client, source.name) for source in summaries]
    except KsqlError as error:
        yield Probe("rights", "fails", f"sources cannot be listed and described: {error.message}", error.hint)
        return
    yield _rights(known)
    yield _sources(known)
    yield from _queries(known)
    yield _properties(client)
    yield from _nodes(known)
    yield _evidence(known)
    yield _continuing(known)


def _address(client: KsqlClient) -> Probe:
    settings = client.settings
    who = "no credentials are sent"
    if settings.ksqldb_token is not None:
        who = "a bearer token is sent"
    elif settings.ksqldb_user is not None:
        who = f"the user {settings.ksqldb_user} is sent"
    if client.url.startswith("https://"):
        mutual = ", and we show one of our own" if settings.ksqldb_cert_file else ""
        return Probe("server", "works", f"{client.url} answers; its certificate is accepted{mutual}; {who}")
    text = f"{client.url} answers, without TLS; {who}"
    if who.startswith("no") or client.url.startswith(_ON_THIS_MACHINE):
        return Probe("server", "works", text)
    fix = "Use an https:// address: anyone on the network path can read the credentials."
    return Probe("server", "limited", text, fix)


def _version(info: ServerInfo) -> Probe:
    version = info.version
    text = f"{version.text}, service {info.service_id or 'unknown'}"
    if version.release is None:
        return Probe("version", "limited", f"{text}; it reports no release, so the strictest rules apply")
    if not version.pulls_streams:
        return Probe(
            "version",
            "limited",
            f"{text}; pull queries on streams came with ksqlDB 0.23 (Confluent Platform 7.1)",
            'Streams need "extraction": "push", which `ksql-lake feeds add` writes by itself.',
        )
    return Probe("version", "works", text)


def _rights(known: _Known) -> Probe:
    try:
        known.queries = persistent_queries(known.client)
    except (StatementError, UnauthorizedError) as error:
        return Probe(
            "rights",
            "limited",
            f"sources can be listed, queries cannot: {error.message}",
            "Ask for the right to SHOW QUERIES: without it tables are exported, but unchecked.",
        )
    except KsqlError as error:
        return Probe("rights", "fails", f"queries cannot be listed: {error.message}", error.hint)
    return Probe("rights", "works", "sources and queries can be listed and described")


def _sources(known: _Known) -> Probe:
    if not known.sources:
        text = "the server has no stream and no table, so there is nothing to export yet"
        return Probe("sources", "limited", text)
    streams = [source for source in known.sources if source.kind == "stream"]
    pushed = [source for source in known.sources if reach(source, known.info.version).extraction == "push"]
    text = f"{count_text(len(streams), 'stream')} and {count_text(len(known.sources) - len(streams), 'table')}"
    if not pushed:
        return Probe("sources", "works", f"{text}; pull queries can read all of them")
    names = ", ".join(source.name for source in pushed[:5]) + (", ..." if len(pushed) > 5 else "")
    return Probe(
        "sources",
        "works",
        f"{text}; {len(pushed)} can be read by push query only ({names})",
        "`ksql-lake feeds add` and `feeds discover` write that into their feed files.",
    )


def _queries(known: _Known) -> Iterator[Probe]:
    """Read a row of one stream and of one table, with every property of an export."""
    if not known.info.version.limits_pulls:
        text = "not tried: before 0.24 a pull query has no LIMIT, and would read everything"
        yield Probe("pull queries", "limited", text)
        return
    for kind, query_kind in (("stream", QueryKind.PULL_STREAM), ("table", QueryKind.PULL_TABLE)):
        readable = (
            source
            for source in known.sources
            if source.kind == kind and reach(source, known.info.version).extraction == "pull"
        )
        source = next(readable, None)
        if source is None:
            continue
        try:
            sql = f"SELECT * FROM {quote_identifier(source.name)} LIMIT 1;"
            with known.client.query(sql, kind=query_kind) as answer:
                rows = sum(block.count for block in answer)
        except PropertyRefusedError as error:
            yield Probe(f"{kind}s", "limited", error.message, error.hint)
            continue
        except KsqlError as error:
            yield Probe(f"{kind}s", "fails", f"{source.name} cannot be read: {error.message}", error.hint)
            continue
        said = "a row of" if rows else "the answer for"
        yield Probe(f"{kind}s", "works", f"{said} {source.name} came whole")


def _properties(client: KsqlClient) -> Probe:
    refused = client.properties.refused
    if not refused:
        return Probe("properties", "works", "the server takes every property that our queries carried")
    return Probe(
        "properties",
        "limited",
        "refused: " + "; ".join(refused),
        "Let its administrator allow them (ksql.properties.overrides.denylist); see docs/completeness.md.",
    )


def _nodes(known: _Known) -> Iterator[Probe]:
    hosts = known.hosts
    if not hosts:
        if known.queries is not None:
            text = "not reported: the server runs no query yet, or is too old to say where its queries run"
            yield Probe("nodes", "works", text)
        return
    with Nodes(known.client) as nodes:
        problems = nodes.problems(hosts)
    reached = [address for address, problem in problems.items() if not problem]
    for address, problem in problems.items():
        if problem:
            fix = "Name the addresses that can be reached from here in KSQLDB_NODES, commas between them."
            yield Probe("nodes", "limited", f"{address}: {problem}", fix)
    if len(problems) < len(hosts):
        text = f"KSQLDB_NODES names {len(problems)} of the {len(hosts)} nodes ({', '.join(sorted(hosts))})"
        yield Probe("nodes", "limited", text, "Name all of them.")
    elif len(reached) == len(problems):
        yield Probe(
            "nodes", "works", f"{count_text(len(reached), 'node')}, reached from here: {', '.join(reached)}"
        )


def _evidence(known: _Known) -> Probe:
    """Return how far a table's rows can be believed, and why."""
    if known.queries is None:
        return Probe("tables' evidence", "limited", "unchecked: the queries behind tables cannot be listed")
    hosts = known.hosts
    with Nodes(known.client) as nodes:
        reached = nodes.reach(hosts) if len(hosts) > 1 else None
    if reached is not None and reached.reason:
        return Probe(
            "tables' evidence",
            "limited",
            f"checked: several nodes, and {reached.reason}; tables are read twice and compared",
            "Name every node in KSQLDB_NODES, so that each can be asked by itself.",
        )
    version = known.info.version
    if version.release is not None and not version.has_two_writers:
        text = "checked: before 0.24 no writer of the server reports its errors; tables are read twice"
        return Probe("tables' evidence", "limited", text, "Use a newer server.")
    if any(name.startswith(LEGACY_WRITER) for name in known.client.properties.refused):
        text = "checked: the server's writer may end a failed answer like a whole one; tables are read twice"
        return Probe("tables' evidence", "limited", text, f"Let the server take {LEGACY_WRITER}.")
    text = "proven for tables that a query makes; checked for SOURCE tables, which are read twice"
    return Probe("tables' evidence", "works", text)


def _continuing(known: _Known) -> Probe:
    name = "only new rows"
    version = known.info.version
    if version.release is not None and not version.has_two_writers:
        return Probe(
            name, "limited", f"not possible with {version.text}; it came with 0.24", "Use a newer server."
        )
    setting = _setting(known.client)
    if setting == "true":
        text = f"possible ({SETTING}=true; measured on {MEASURED} only)"
        return Probe(name, "works", text, "`ksql-lake feeds prepare NAME --continue` says what a stream needs.")
    what = f"{SETTING} is {setting}" if setting else f"the server does not show {SETTING}"
    return Probe(
        name,
        "limited",
        f"each export of a stream reads its topic from the start: {what}",
        f"For large topics start the server with {SETTING}=true; see docs/large-topics.md.",
    )


def _setting(client: KsqlClient) -> str:
    """The value of the setting that continuing needs; empty where the server does not show it."""
    with suppress(KsqlError):
        for entity in client.execute("SHOW PROPERTIES;"):
            for item in entity.get("properties") or []:
                if isinstance(item, dict) and str(item.get("name", "")).endswith(SETTING):
                    return str(item.get("value")).lower()
    return ""
