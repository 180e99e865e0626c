"""Secrets stay secret: exports that succeed and fail in many ways, and then everything written is searched."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import requests

from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import SettingsError
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer
from ksql_lake_tests.orchestration.project import Project, materialized, write_source_files

USER, PASSWORD = "ada-s3cr3t-user", 'pass"wörd s3cr3t\\'
TOKEN = "eyJhbGciOi.s3cr3t-token.abc"  # noqa: S105
WEBHOOK = "https://hooks.example.invalid/services/T000/s3cr3t-webhook"
BROKER = "redis://:s3cr3t-broker@127.0.0.1:9/0"
PROXY = "http://someone:s3cr3t-proxy@127.0.0.1:9"
PACKED = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = [
    *(text.encode() for text in (USER, PASSWORD, TOKEN, PACKED, "s3cr3t")),
    # As JSON, repr and URLs would have them.
    json.dumps(PASSWORD)[1:-1].encode(),
    b"s3cr3t\\",
]
BASIC = {"KSQLDB_USER": USER, "KSQLDB_PASSWORD": PASSWORD}
BEARER = {"KSQLDB_TOKEN": TOKEN}
OTHERS = {
    "KSQL_LAKE_ALERT_WEBHOOK": WEBHOOK,
    "KSQL_LAKE_CELERY_BROKER": BROKER,
    "HTTP_PROXY": PROXY,
    "HTTPS_PROXY": PROXY,
}


OPEN = requests.Session()
OPEN.trust_env = False  # the proxy of these tests is one that is not there


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """A server with two streams and tables."""
    folder = tmp_path_factory.mktemp("sources")
    write_source_files(folder)
    with DevServer.start(data=folder) as running:
        yield running


def leaks(data: bytes) -> list[bytes]:
    """The secrets that stand in it, each with a little of what is around."""
    return [data[max(0, at - 60) : at + 60] for secret in SECRETS if (at := data.find(secret)) >= 0]


def searched(folder: Path) -> dict[str, list[bytes]]:
    """The files below a folder that hold a secret."""
    found = {str(path): leaks(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    assert len(found) > 20
    return {path: what for path, what in found.items() if what}


def said(environment: dict[str, str], *arguments: str) -> bytes:
    """All that a command says, to either side."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ksql-lake")), *arguments],
        env={**os.environ, **environment},  # noqa: TID251
        capture_output=True,
        check=False,
        timeout=300,
    )
    return done.stdout + done.stderr


def echo(status: int, credentials: dict[str, str]) -> ScriptedServer:
    """A server that repeats what it was sent, as proxies in debug mode do."""
    server = ScriptedServer()
    sent = f"Bearer {TOKEN}" if "KSQLDB_TOKEN" in credentials else f"Basic {PACKED} ({USER}, {PASSWORD})"
    # So long that the credentials are cut where the words are.
    words = f"you sent {'x' * 60} Authorization: {sent}"
    page = answer(f"<html>{words}</html>".encode(), status, content_type="text/html")
    refusal = answer(json.dumps({"error_code": 40001, "message": words}).encode(), status)
    server.script("/info", page)
    server.script("/ksql", refusal)
    server.script("/query", refusal)
    return server


def test_no_secret_is_written_anywhere(
    server: DevServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Commands and Dagster runs, good and failing, with every secret set: no file, output or event has one."""
    project = Project(tmp_path)
    project.write_feeds()
    caplog.set_level(logging.DEBUG)
    outputs: list[bytes] = []
    environment = {**project.environment(server.url), **OTHERS, **BASIC}
    outputs.append(said(environment, "export", "--all", "--json"))
    assert b"payments" in outputs[-1]
    fault = [{"kind": "cut_row", "after_rows": 1}]
    OPEN.put(f"{server.url}/devserver/faults", json=fault, timeout=20).raise_for_status()
    outputs.append(said(environment, "--debug", "export", "--stream", "payments", "--date", "2025-01-06"))
    assert b"cut off" in outputs[-1]
    OPEN.delete(f"{server.url}/devserver/faults", timeout=20).raise_for_status()
    addresses = ("http://127.0.0.1:9", f"http://{USER}:{PASSWORD}@x")
    outputs += [said({**environment, "KSQLDB_URL": address}, "export", "--all") for address in addresses]
    for status, credentials in ((400, BASIC), (401, BASIC), (401, BEARER)):
        with echo(status, credentials) as repeating:
            told = {**project.environment(repeating.url), **OTHERS, **credentials}
            outputs.append(said(told, "export", "--all"))
            assert b"***" in outputs[-1]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**project.environment(server.url), **OTHERS, **BASIC}.items():
            patch.setenv(name, value)
        outputs += _in_dagster(project, server)
    outputs.append(caplog.text.encode())

    assert [leak for output in outputs for leak in leaks(output)] == []
    assert searched(tmp_path) == {}


def _in_dagster(project: Project, server: DevServer) -> list[bytes]:
    """A run that succeeds and one that fails, kept in the instance's own files; what was printed of them."""
    with dg.DagsterInstance.get() as instance:
        good = project.materialize(instance, "payments", partition="2025-01-06")
        assert good.success
        assert materialized(good, "payments")
        fault = [{"kind": "error", "message": f"refused {PASSWORD} and {PACKED}"}]
        OPEN.put(f"{server.url}/devserver/faults", json=fault, timeout=20).raise_for_status()
        bad = project.materialize(instance, "payments", partition="2025-01-07")
        OPEN.delete(f"{server.url}/devserver/faults", timeout=20).raise_for_status()
        assert not bad.success
        records = [entry for result in (good, bad) for entry in instance.all_logs(result.run_id)]
        assert len(records) > 20
        return [str(entry).encode() for entry in records]


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `repr` nor an error about the environment says what a secret is."""
    for name, value in {**BASIC, **OTHERS}.items():
        monkeypatch.setenv(name, value)
    assert leaks(repr(load_settings()).replace(USER, "").encode()) == []
    monkeypatch.setenv("KSQLDB_URL", f"http://{USER}:{PASSWORD}@host")
    monkeypatch.setenv("KSQL_LAKE_ALERT_WEBHOOK", "s3cr3t-without-a-scheme")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert leaks(str(caught.value).encode()) == []
