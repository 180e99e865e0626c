"""deploy/nginx/dagster.conf in a real nginx before a real web server: every rule, and the UI through it."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import dagster as dg
import pytest
import trustme
from playwright.sync_api import WebSocket, expect

from ksql_lake_tests.fakes.ports import free_port
from ksql_lake_tests.orchestration.browser import chromium_page, shoot
from ksql_lake_tests.orchestration.dev_server import (
    PATIENCE,
    REPOSITORY,
    DagsterDev,
    dagster_dev,
    dagster_webserver,
)
from ksql_lake_tests.orchestration.project import DAYS, Project

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
NAME = "dagster.example.com"
USER = ("ann", "not a secret")
AUTHORIZED = {"Authorization": "Basic YW5uOm5vdCBhIHNlY3JldA=="}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "graphql-ws",
}
ASKS = b'{"query": "{version}"}'


@dataclass(frozen=True)
class Proxy:
    """A running nginx."""

    port: int
    origin: str

    def ask(
        self, line: str, *, body: bytes = b"", host: str = NAME, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Send one request as it is given, over TLS; gives the status and everything that was answered."""
        told = {"Host": host, "Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.sendall(f"{line} HTTP/1.1\r\n{lines}\r\n".encode() + body)
            answer = HTTPResponse(connection)
            answer.begin()
            return answer.status, f"{answer.headers}{answer.read().decode(errors='replace')}"

    def graphql(self, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Ask GraphQL for the version with the right password and these headers."""
        told = {"Content-Type": "application/json", "Connection": "close", **AUTHORIZED, **(headers or {})}
        return self.ask("POST /graphql", body=ASKS, headers=told)


@contextmanager
def nginx(folder: Path, upstream: DagsterDev) -> Iterator[Proxy]:
    """Run the example with ports, certificate and password file of this test in place of its own."""
    if NGINX is None:
        pytest.skip("there is no nginx")
    port = free_port()
    folder.mkdir()
    certificate = trustme.CA().issue_cert(NAME)
    certificate.private_key_pem.write_to_path(folder / "dagster.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "dagster.crt")
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", USER[1]], capture_output=True, text=True, check=True
    ).stdout
    (folder / "dagster.htpasswd").write_text(f"{USER[0]}:{hashed}")
    example = (REPOSITORY / "deploy" / "nginx" / "dagster.conf").read_text()
    for theirs, ours in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        f'"https://{NAME}"': f'"https://{NAME}:{port}"',
        "/etc/nginx/": f"{folder}/",
        "127.0.0.1:3000": upstream.url.removeprefix("http://"),
    }.items():
        assert theirs in example
        example = example.replace(theirs, ours)
    (folder / "dagster.conf").write_text(example)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        # Started by root its workers would be a user who may not read a test's folder.
        ("user root;\n" if os.geteuid() == 0 else "")
        + f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        + f"http {{\naccess_log off;\n{temporary}include {folder}/dagster.conf;\n}}\n"
    )
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    proxy = Proxy(port, f"https://{NAME}:{port}")
    try:
        _wait_for(port, process)
        yield proxy
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nginx ended")


def test_the_example_lets_in_whom_it_should(project: Project, tmp_path: Path) -> None:
    """Password, name, method and page of origin are each checked; the UI works behind it, with live logs."""
    with dagster_dev(project) as dagster, nginx(tmp_path / "nginx", dagster) as proxy:
        # The password, wherever one asks; and never handed on.
        for line in ("GET /", "GET /runs", "GET /server_info"):
            assert proxy.ask(line)[0] == 401
            assert proxy.ask(line, headers=AUTHORIZED)[0] == 200
        assert proxy.ask("POST /graphql", body=ASKS)[0] == 401
        assert proxy.ask("GET /", headers={"Authorization": "Basic YW5uOndyb25n"})[0] == 401
        framed = proxy.ask("GET /", headers=AUTHORIZED)[1]
        assert "X-Frame-Options: DENY" in framed

        # POST from the UI's own page, or from a program; from no other page.
        for told in ({}, {"Origin": proxy.origin}):
            status, answer = proxy.graphql(told)
            assert status == 200
            assert '"version"' in answer
        for origin in ("https://evil.example", "null", proxy.origin + ".evil.example", f"http://{NAME}"):
            assert proxy.graphql({"Origin": origin})[0] == 403

        # GET runs no query, however it is spelled; nor does any other path or method take something in.
        for path in ("/graphql?query={version}", "/%67raphql?query={version}", "//graphql?query={version}"):
            status, answer = proxy.ask(f"GET {path}", headers=AUTHORIZED)
            assert status == 405
            assert "version" not in answer
        assert proxy.ask("POST /report_asset_materialization/payments", headers=AUTHORIZED)[0] == 405
        assert proxy.ask("DELETE /", headers=AUTHORIZED)[0] == 405

        # Websockets: from the UI's own page only.
        assert proxy.ask("GET /graphql", headers={**UPGRADE, **AUTHORIZED, "Origin": proxy.origin})[0] == 101
        foreign = {**UPGRADE, **AUTHORIZED, "Origin": "https://evil.example"}
        assert proxy.ask("GET /graphql", headers=foreign)[0] == 403
        assert proxy.ask("GET /graphql", headers={**UPGRADE, "Origin": proxy.origin})[0] == 401

        # Another name that leads here gets nothing, even with the password.
        for host in ("127.0.0.1", "evil.example"):
            assert proxy.ask("GET /", host=host, headers=AUTHORIZED)[0] == 421

        _use_the_ui(proxy, dagster)


def _use_the_ui(proxy: Proxy, dagster: DagsterDev) -> None:
    """Materialise a version through nginx, and see the run's log come over the websocket."""
    with chromium_page(user=USER, host=NAME) as page:
        opened: list[WebSocket] = []
        received: list[str | bytes] = []

        def keep(frame: str | bytes) -> None:
            received.append(frame)

        def listen(socket: WebSocket) -> None:
            opened.append(socket)
            socket.on("framereceived", keep)

        page.on("websocket", listen)
        page.goto(f"{proxy.origin}/assets/totals?view=partitions")
        expect(page.get_by_text("v1", exact=True).first).to_be_visible()
        page.get_by_role("button", name="Materialize").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Missing", exact=True).click()
        dialog.get_by_role("button", name="Launch 1 run").click()
        (run,) = dagster.until(lambda: [run for run in dagster.runs() if run["status"] == "SUCCESS"])
        assert dagster.materialised("totals") == ["v1"]

        page.goto(f"{proxy.origin}/runs/{run['runId']}")
        expect(page.get_by_text("RUN_SUCCESS").first).to_be_visible()
        shoot(page, "behind-nginx")
        assert {each.url for each in opened} == {f"wss://{NAME}:{proxy.port}/graphql"}
        assert [frame for frame in received if "RunSuccessEvent" in str(frame)]


def test_read_only_refuses_to_change_anything(project: Project) -> None:
    """`dagster-webserver --read-only` shows everything and launches nothing."""
    launch = (
        'mutation {launchPartitionBackfill(backfillParams: {assetSelection: [{path: ["payments"]}], '
        'partitionNames: ["2025-01-07"]}) {__typename ... on UnauthorizedError {message}}}'
    )
    terminate = 'mutation {terminateRun(runId: "nothing") {__typename ... on UnauthorizedError {message}}}'
    with dg.DagsterInstance.from_config(str(project.folder / "home")) as instance:
        assert project.materialize(instance, "payments", partition=DAYS[0]).success
    with dagster_webserver(project, "--read-only") as dagster:
        assert dagster.materialised("payments") == [DAYS[0]]
        before = len(dagster.runs())
        for mutation in (launch, terminate):
            (told,) = dagster.ask(mutation).values()
            assert told["__typename"] == "UnauthorizedError"
        assert len(dagster.runs()) == before

        with chromium_page() as page:
            page.goto(f"{dagster.url}/assets/payments?view=overview")
            expect(page.get_by_text("FROM read_parquet(").first).to_be_visible()
            expect(page.get_by_role("button", name="Materialize").first).to_be_disabled()
            shoot(page, "read-only")
