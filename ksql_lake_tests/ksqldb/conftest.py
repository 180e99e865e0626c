"""A scripted server and clients towards it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from ksql_lake.ksqldb import KsqlClient
from ksql_lake.settings import Settings
from ksql_lake_tests.fakes.scripted_server import SILENCE, Script, ScriptedServer, answer

SECRET = "hush-ü"  # noqa: S105 - it must not show anywhere
HEADER = b'[{"header":{"queryId":"transient_S_1","schema":"`A` BIGINT"}},\n'
ROW = b'{"row":{"columns":[1]}},\n'
DONE = b'{"finalMessage":"Query Completed"}]'
BOOM = b'{"errorMessage":{"@type":"generic_error","error_code":50000,"message":"RuntimeException: boom"}},\n]'


def info(version: str = "0.29.0") -> bytes:
    """The answer of GET /info."""
    inner = f'"version":"{version}","kafkaClusterId":"k1","ksqlServiceId":"default_","serverStatus":"RUNNING"'
    return f'{{"KsqlServerInfo":{{{inner}}}}}'.encode()


OLD = "7.1.1"
"""A release before the older writer could be asked for: a query is ended by its name there."""
SAFE = {
    "ksql.endpoint.migrate.query": False,
    "ksql.streams.consumer.session.timeout.ms": 1_500_000,
    "ksql.streams.consumer.max.poll.interval.ms": 2_147_483_647,
    "ksql.streams.consumer.isolation.level": "read_committed",
}
"""The properties that every query of a stream carries from release 0.24 on."""


def generic(code: int, message: str) -> bytes:
    """An error body of ksqlDB."""
    return json.dumps({"@type": "generic_error", "error_code": code, "message": message}).encode()


def idle_limit(script: Script) -> float:
    """Short where a test waits for silence to be noticed, generous everywhere else."""
    return 0.5 if SILENCE in script.steps else 10.0


class MakeClient(Protocol):
    """Makes clients whose pauses between attempts are noted instead of waited."""

    waits: list[float]

    def __call__(self, url: str, **settings: object) -> KsqlClient:
        """A client for the address; other settings as in `Settings`."""
        ...


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted server that says what it is, and has no other script."""
    with ScriptedServer() as running:
        running.script("/info", answer(info()))
        yield running


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Clients that are closed when the test is over."""
    with ExitStack() as clients:

        class Maker:
            def __init__(self) -> None:
                self.waits: list[float] = []

            def __call__(self, url: str, **settings: object) -> KsqlClient:
                quick = {"connect_timeout": 5.0, "read_timeout": 10.0, **settings}
                client = KsqlClient(Settings(ksqldb_url=url, **quick), sleep=self.waits.append)
                return clients.enter_context(client)

        yield Maker()


@pytest.fixture
def client(server: ScriptedServer, make_client: MakeClient) -> KsqlClient:
    """A client of the scripted server."""
    return make_client(server.url)
