"""Promises about the properties of queries: which go out, and what happens where a server refuses one."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ksql_lake.errors import KsqlError, PropertyRefusedError, QueryFailedError
from ksql_lake.export.evidence import isolation_of, pull_evidence, push_evidence
from ksql_lake.ksqldb import KsqlClient, QueryKind
from ksql_lake.ksqldb.properties import (
    ISOLATION,
    LEGACY_WRITER,
    POLL_INTERVAL,
    SESSION_STEPS,
    SESSION_TIMEOUT,
    TABLE_SCAN,
    QueryProperties,
)
from ksql_lake.ksqldb.version import parse_version
from ksql_lake_tests.fakes.recorded import recording
from ksql_lake_tests.fakes.scripted_server import Request, Script, ScriptedServer, answer, chunked
from ksql_lake_tests.ksqldb.conftest import DONE, HEADER, ROW, SAFE, MakeClient, generic, info

SQL = "SELECT `A` FROM `S`;"
WHOLE = chunked(HEADER, ROW, DONE)
PROHIBITED = (
    "One or more properties overrides set locally are prohibited by the KSQL server (use UNSET to reset their "
    "default value): [{}]"
)
UNKNOWN = "Not recognizable as ksql, streams, consumer, or producer property: '{}'"
COERCED = (
    "Failed to coerce type of value '{1}' for key '{0}'\nCaused by: Invalid value {1} for configuration {0}: "
    "Value must be at most 1"
)


def sent(request: Request) -> dict[str, Any]:
    """The streams properties of a request."""
    found: dict[str, Any] = request.json["streamsProperties"]
    return found


def refusing(*names: str, status: int = 400, code: int = 40000, text: str = PROHIBITED) -> Any:
    """A server that refuses one property of a query after the other, by name, and answers what is left."""

    def choose(request: Request) -> Script:
        for name in names:
            if name in sent(request):
                return answer(generic(code, text.format(name, sent(request)[name])), status)
        return WHOLE

    return choose


def ask(client: KsqlClient, kind: QueryKind = QueryKind.PULL_STREAM, **more: Any) -> Any:
    """One query, read to its end where it has one; what it carried."""
    with client.query(SQL, kind=kind, **more) as response:
        if kind is not QueryKind.PUSH:
            assert sum(block.count for block in response) == 1
        return response.sent


@pytest.mark.parametrize(
    ("release", "kind", "names"),
    [
        ("8.0.7", QueryKind.PULL_STREAM, set(SAFE)),
        ("0.24.0", QueryKind.PUSH, set(SAFE)),
        ("something", QueryKind.PUSH, set(SAFE)),
        ("8.0.7", QueryKind.PULL_TABLE, {LEGACY_WRITER}),
        ("7.1.1", QueryKind.PULL_STREAM, set(SAFE) - {LEGACY_WRITER}),
        ("7.1.1", QueryKind.PULL_TABLE, set()),
        ("7.0.1", QueryKind.PULL_TABLE, {TABLE_SCAN}),
        ("7.0.1", QueryKind.PUSH, set(SAFE) - {LEGACY_WRITER}),
    ],
)
def test_a_query_carries_what_its_kind_needs_and_its_release_knows(
    release: str, kind: QueryKind, names: set[str]
) -> None:
    """Never a property that a release does not know; streams never without session and isolation."""
    found = QueryProperties().wanted(kind, parse_version(release), committed=True)
    assert set(found) == names
    assert {name: SAFE[name] for name in names & set(SAFE)} == {name: found[name] for name in names & set(SAFE)}
    assert found.get(LEGACY_WRITER, False) is False  # a JSON boolean, not a text


def test_a_feed_may_ask_for_uncommitted_rows_too() -> None:
    """Then nothing is said about isolation, and the query's rows are called uncommitted."""
    found = QueryProperties().wanted(QueryKind.PUSH, parse_version("8.0.7"), committed=False)
    assert set(found) == set(SAFE) - {ISOLATION}


@pytest.mark.parametrize("name", [LEGACY_WRITER, SESSION_TIMEOUT, POLL_INTERVAL])
@pytest.mark.parametrize(
    "words",
    [
        {"status": 400, "code": 40000, "text": PROHIBITED},
        {"status": 500, "code": 50000, "text": UNKNOWN},
        {"status": 400, "code": 40000, "text": COERCED},
    ],
    ids=["prohibited", "unknown", "coerced"],
)
def test_a_refused_property_is_left_out_and_nothing_else(
    server: ScriptedServer,
    client: KsqlClient,
    caplog: pytest.LogCaptureFixture,
    name: str,
    words: dict[str, Any],
) -> None:
    """The query goes out again without exactly that one, later ones never have it, and the log says it once."""
    server.choose("/query", refusing(name, **words))
    with caplog.at_level(logging.WARNING):
        ask(client)
        ask(client)
    first, again, later = [sent(request) for request in server.asked("/query")]
    assert first == SAFE
    assert again == later == {key: value for key, value in SAFE.items() if key != name}
    assert [name in line for line in caplog.messages] == [True]
    assert caplog.messages[0].startswith(f"the server at {server.url} refuses {name}: ")
    assert [name in told for told in client.properties.refused] == [True]


def test_several_refused_properties_are_left_out_together_or_one_by_one(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """Whether a server names all at once or only the first."""
    server.choose("/query", refusing(SESSION_TIMEOUT, POLL_INTERVAL))
    ask(client)
    assert [len(sent(request)) for request in server.asked("/query")] == [4, 3, 2]
    names = f"{LEGACY_WRITER}, {POLL_INTERVAL}"
    with ScriptedServer() as other:
        other.script("/info", answer(info()))
        other.script("/query", answer(generic(40000, PROHIBITED.format(names)), 400), WHOLE)
        with KsqlClient(client.settings.model_copy(update={"ksqldb_url": other.url})) as asking:
            ask(asking)
        assert set(sent(other.asked("/query")[1])) == {SESSION_TIMEOUT, ISOLATION}


def test_the_prefix_may_be_missing_in_what_the_server_names(server: ScriptedServer, client: KsqlClient) -> None:
    """A server may name a property without the prefix that it was sent with."""
    text = PROHIBITED.format("session.timeout.ms")
    server.script("/query", answer(generic(40000, text), 400), WHOLE)
    ask(client)
    assert SESSION_TIMEOUT not in sent(server.asked("/query")[1])


def test_a_refused_isolation_is_an_error_unless_the_feed_takes_uncommitted_rows(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """Rows of aborted transactions never land because a server did not let us ask for others."""
    server.choose("/query", refusing(ISOLATION))
    for _ in range(2):
        with pytest.raises(PropertyRefusedError) as caught:
            ask(client)
        assert "committed records only" in str(caught.value)
        assert '"isolation": "uncommitted"' in caught.value.hint
    assert len(server.asked("/query")) == 1  # the second time it is known beforehand
    assert not ask(client, committed=False).committed


def test_required_properties_are_not_given_up(server: ScriptedServer, make_client: MakeClient) -> None:
    """With KSQLDB_REQUIRE_PROPERTIES=1 a refusal is the error, and nothing is sent again."""
    server.choose("/query", refusing(LEGACY_WRITER))
    client = make_client(server.url, require_properties=True)
    with pytest.raises(PropertyRefusedError) as caught:
        ask(client)
    assert str(caught.value).startswith(
        f"server {server.url}, statement {SQL}: the server refuses the property "
    )
    assert LEGACY_WRITER in str(caught.value)
    assert "KSQLDB_REQUIRE_PROPERTIES" in caught.value.hint
    assert len(server.asked("/query")) == 1


def test_a_property_that_is_not_ours_is_an_error_at_once(server: ScriptedServer, client: KsqlClient) -> None:
    """Nothing of ours is left out for another client's property, and nothing is asked without end."""
    server.choose("/query", refusing("my.own", status=500, code=50000, text=UNKNOWN))
    with pytest.raises(PropertyRefusedError, match=r"refuses the property my\.own"):
        ask(client, properties={"my.own": 1})
    assert client.properties.refused == ()
    # One of ours that a caller insists on is refused for good too.
    server.choose("/query", refusing(POLL_INTERVAL))
    with pytest.raises(PropertyRefusedError):
        ask(client, properties={POLL_INTERVAL: 5})
    assert len(server.asked("/query")) == 3


def test_what_one_thread_learned_fails_no_other(server: ScriptedServer, client: KsqlClient) -> None:
    """Queries that were all under way when the first refusal came are all asked again, and all succeed."""
    all_asked = threading.Barrier(8)
    refuse = refusing(LEGACY_WRITER)

    def choose(request: Request) -> Script:
        if LEGACY_WRITER in sent(request):
            all_asked.wait(30)
        script: Script = refuse(request)
        return script

    server.choose("/query", choose)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: ask(client), range(8)))
    assert [one.legacy for one in found] == [False] * 8
    assert len(server.asked("/query")) == 16


def session_limit(most: int) -> Any:
    """A broker that allows sessions up to some length; the failure is the recorded one."""
    failing = recording("session limit of the broker 60 s: session 1500000, legacy").script()

    def choose(request: Request) -> Script:
        return failing if sent(request).get(SESSION_TIMEOUT, 0) > most else WHOLE

    return choose


@pytest.mark.parametrize(("most", "tries"), [(300_000, 2), (60_000, 3), (10_000, 4)])
def test_a_session_that_the_broker_does_not_allow_is_shortened_step_by_step(
    server: ScriptedServer, client: KsqlClient, most: int, tries: int
) -> None:
    """The recorded failure comes inside the answer; each next try asks for less, the last for nothing."""
    server.choose("/query", session_limit(most))
    for _ in range(tries - 1):
        with pytest.raises(PropertyRefusedError) as caught:
            ask(client)
        assert client.learn(caught.value)
    found = ask(client)
    asked = [sent(request).get(SESSION_TIMEOUT) for request in server.asked("/query")]
    assert asked == [*SESSION_STEPS, None][:tries]
    assert found.session_ms == asked[-1]
    assert found.rows_may_repeat
    (told,) = client.properties.refused
    assert "rows may repeat" in told


def test_failures_of_one_length_are_one_step(server: ScriptedServer, client: KsqlClient) -> None:
    """Several queries that fail together do not shorten the session several times."""
    server.choose("/query", session_limit(300_000))
    errors = []
    for response in [client.query(SQL, kind=QueryKind.PULL_STREAM) for _ in range(3)]:
        with response, pytest.raises(PropertyRefusedError) as caught:
            list(response)
        errors.append(caught.value)
    assert [client.learn(error) for error in errors] == [True] * 3
    assert ask(client).session_ms == 300_000


def test_a_broker_that_allows_not_even_the_servers_own_session_is_a_failure(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """Then no property is to blame, and nothing is asked for ever."""
    server.script("/query", recording("session limit of the broker 60 s: session 1500000, legacy").script())
    for _ in SESSION_STEPS:
        with pytest.raises(PropertyRefusedError) as caught:
            ask(client)
        assert client.learn(caught.value)
    with pytest.raises(QueryFailedError, match="InvalidSessionTimeoutException"):
        ask(client)


def test_what_is_lost_without_a_property_is_said_of_the_rows(
    server: ScriptedServer, client: KsqlClient
) -> None:
    """Evidence falls with each property: without one of them a stream is not proven, and it says why."""
    version = parse_version("8.0.7")
    whole = pull_evidence(ask_sent(server, client), version, derived=False, refused=())
    assert (whole.level, whole.isolation, whole.caveats) == ("proven", "committed", [])
    for name, text in [
        (LEGACY_WRITER, "its writer ends an answer in the same way"),
        (POLL_INTERVAL, "rows may repeat"),
    ]:
        with KsqlClient(client.settings) as other:
            found = pull_evidence(
                ask_sent(server, other, name), version, derived=True, refused=other.properties.refused
            )
        assert (found.level, found.isolation) == ("checked", "unknown")
        assert text in found.text
        assert [name in told for told in found.caveats] == [True]
    old = pull_evidence(whole_sent(server, client), parse_version("0.24.0"), derived=False, refused=())
    assert old.level == "checked"
    assert "release 0.24.0 ends a pull query without saying that it is complete" in old.text


def ask_sent(server: ScriptedServer, client: KsqlClient, *refused: str) -> Any:
    """What a query carries where a server refuses some properties."""
    server.choose("/query", refusing(*refused))
    return ask(client)


def whole_sent(server: ScriptedServer, client: KsqlClient) -> Any:
    """What a query carries where nothing is refused."""
    return ask_sent(server, client)


@pytest.mark.parametrize(
    ("judged_by", "level"), [("offsets", "proven"), ("positions", "checked"), ("silence", "checked")]
)
def test_a_push_query_is_proven_by_offsets_alone(
    server: ScriptedServer, client: KsqlClient, judged_by: str, level: str
) -> None:
    """Silence and the server's own positions are no proof; uncommitted rows are called so."""
    server.choose("/query", refusing())
    found = ask(client, QueryKind.PUSH, committed=False)
    evidence = push_evidence(found, judged_by=judged_by, text="why", derived=False, refused=())
    assert (evidence.level, evidence.text, evidence.isolation) == (level, "why", "uncommitted")
    assert isolation_of(found, derived=True) == "unknown"


def test_a_refused_property_is_an_error_of_this_tree() -> None:
    """It says what was refused and where, and keeps the names through a process border."""
    error = PropertyRefusedError("no", names=("a.b",), session_ms=5)
    assert isinstance(error, KsqlError)
    rebuilt = error.__reduce__()
    assert isinstance(rebuilt, tuple)
    make, arguments = rebuilt
    again = make(*arguments)  # type: ignore[operator, misc]
    assert (again.names, again.session_ms, str(again)) == (("a.b",), 5, "no")
