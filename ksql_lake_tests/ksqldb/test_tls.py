"""Promises about TLS: the server's certificate, ours, and what is said when either is not liked."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from ksql_lake.errors import IncompleteResponseError, ServerUnavailableError, SettingsError, UnauthorizedError
from ksql_lake.ksqldb import QueryKind
from ksql_lake.ksqldb.wire import session
from ksql_lake.ksqldb.wire.transport import FastDoor
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer, chunked
from ksql_lake_tests.ksqldb.conftest import DONE, HEADER, ROW, MakeClient, info


class Authority:
    """A certificate authority with its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))

    def server(self, *, host: str = "localhost", clients: bool = False) -> ssl.SSLContext:
        """A server's side; `clients` demands a certificate of ours."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(host).configure_cert(context)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
            # In TLS 1.3 the refusal only comes with the first answer, and may get lost in a reset.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    def client_files(self) -> dict[str, Path]:
        """A client certificate and its key as settings."""
        files = {"ksqldb_cert_file": self.folder / "client.pem", "ksqldb_key_file": self.folder / "client.key"}
        issued = self.ca.issue_cert("ada@example.org")
        issued.cert_chain_pems[0].write_to_path(str(files["ksqldb_cert_file"]))
        issued.private_key_pem.write_to_path(str(files["ksqldb_key_file"]))
        return files


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One authority for all tests; making keys takes time."""
    return Authority(tmp_path_factory.mktemp("tls"))


def test_a_server_of_the_given_authority_is_trusted_and_read_fast(
    authority: Authority, make_client: MakeClient
) -> None:
    """KSQLDB_CA_FILE is all it takes; rows come through the fast door, and a cut is still a cut."""
    with ScriptedServer(authority.server()) as server:
        server.script("/query", chunked(HEADER, *[ROW] * 2000, DONE), chunked(HEADER, ROW, end=False))
        client = make_client(server.url, ksqldb_ca_file=authority.ca_file)
        with client.query("SELECT 1", kind=QueryKind.PULL_STREAM) as response:
            assert type(response._body._door) is FastDoor
            assert sum(block.count for block in response) == 2000
        with (
            client.query("SELECT 1", kind=QueryKind.PULL_STREAM) as response,
            pytest.raises(IncompleteResponseError, match="the answer was cut off"),
        ):
            list(response)


def test_an_unknown_authority_is_named_with_the_setting_that_helps(
    authority: Authority, make_client: MakeClient
) -> None:
    """A certificate of an unknown authority is an error of settings, and is not retried."""
    with ScriptedServer(authority.server()) as server:
        with pytest.raises(SettingsError) as caught:
            make_client(server.url, attempts=3).server_info()
        assert f"server {server.url}: its TLS certificate cannot be trusted: " in str(caught.value)
        assert "Set KSQLDB_CA_FILE" in caught.value.hint
        assert server.requests == []


def test_a_certificate_for_another_host_is_not_trusted(authority: Authority, make_client: MakeClient) -> None:
    """The host name is checked."""
    with ScriptedServer(authority.server(host="elsewhere.example.org")) as server:
        client = make_client(server.url, ksqldb_ca_file=authority.ca_file, attempts=1)
        with pytest.raises(SettingsError, match="certificate is not valid for 'localhost'"):
            client.server_info()


def test_the_environments_bundle_does_not_replace_the_given_authority(
    authority: Authority, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """KSQLDB_CA_FILE wins over REQUESTS_CA_BUNDLE, with and without a server on this machine."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with ScriptedServer(authority.server()) as server:
        server.script("/info", answer(info()))
        client = make_client(server.url, ksqldb_ca_file=authority.ca_file)
        client._session.trust_env = True
        assert client.server_info().status == "RUNNING"


def test_mutual_tls_sends_our_certificate(authority: Authority, make_client: MakeClient) -> None:
    """With certificate and key the server lets us in; without, the error names the settings."""
    with ScriptedServer(authority.server(clients=True)) as server:
        server.script("/info", answer(info()))
        trusted = {"ksqldb_ca_file": authority.ca_file}
        assert make_client(server.url, **trusted, **authority.client_files()).server_info().status == "RUNNING"
        with pytest.raises(UnauthorizedError) as caught:
            make_client(server.url, **trusted, attempts=1).server_info()
        assert "the server wants a client certificate that it trusts" in str(caught.value)
        assert "KSQLDB_CERT_FILE and KSQLDB_KEY_FILE" in caught.value.hint


def test_https_towards_a_plain_server_and_http_towards_tls_are_told(
    authority: Authority, server: ScriptedServer, make_client: MakeClient
) -> None:
    """The wrong scheme in KSQLDB_URL is recognised in both directions."""
    server.script("/info", answer(info()))
    with pytest.raises(SettingsError, match="the server does not speak TLS on this port") as caught:
        make_client(f"https://127.0.0.1:{server.port}", attempts=1).server_info()
    assert "http://" in caught.value.hint
    with ScriptedServer(authority.server()) as secure, pytest.raises(ServerUnavailableError) as caught_other:
        make_client(f"http://127.0.0.1:{secure.port}", attempts=1).server_info()
    assert "https" in caught_other.value.hint


def test_files_that_cannot_be_used_are_named_before_anything_is_sent(
    make_client: MakeClient, tmp_path: Path
) -> None:
    """A wrong file is a sentence about its setting, at construction."""
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    with pytest.raises(SettingsError, match="KSQLDB_CA_FILE: no certificates can be read from"):
        make_client("https://127.0.0.1:1", ksqldb_ca_file=junk)
    with pytest.raises(SettingsError, match="KSQLDB_CERT_FILE, KSQLDB_KEY_FILE: no client certificate"):
        make_client("https://127.0.0.1:1", ksqldb_cert_file=junk)


def test_an_encrypted_key_is_refused_instead_of_asking_on_the_terminal(
    authority: Authority, make_client: MakeClient, tmp_path: Path
) -> None:
    """Under a scheduler no person can type a password."""
    key = trustme.CA().private_key_pem.bytes()
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    locked = tmp_path / "locked.key"
    locked.write_bytes(
        load_pem_private_key(key, None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
    )
    files = {**authority.client_files(), "ksqldb_key_file": locked}
    with pytest.raises(SettingsError, match="the key must not be encrypted"):
        make_client("https://127.0.0.1:1", **files)


def test_credentials_in_the_clear_are_warned_of_once(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over http:// to another machine: a warning once per address, an error where TLS is demanded."""
    monkeypatch.setattr(session, "_warned", set())
    signed: dict[str, Any] = {"ksqldb_user": "ada", "ksqldb_password": "very secret"}
    for _ in range(2):
        make_client("http://10.1.2.3:8088", **signed)
    make_client("https://10.1.2.3:8088", **signed, require_tls=True)
    make_client("http://127.0.0.1:8088", **signed, require_tls=True)
    make_client("http://10.1.2.4:8088", require_tls=True)

    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("credentials go to http://10.1.2.3:8088 in the clear")
    with pytest.raises(SettingsError) as caught:
        make_client("http://10.1.2.3:8088", **signed, require_tls=True)
    assert str(caught.value) == (
        "credentials would go to http://10.1.2.3:8088 in the clear, and KSQL_LAKE_REQUIRE_TLS forbids that\n"
        "Use https:// in KSQLDB_URL."
    )
