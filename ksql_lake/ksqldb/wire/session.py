"""One HTTP session per client: credentials, TLS, proxies, bounded heads."""

# Credentials go out with the first request, and only to the configured server: redirects are not followed and
# `~/.netrc` is not read. The standard library does not limit interim answers or slow heads; here they are
# errors.

from __future__ import annotations

import base64
import http.client
import io
import logging
import socket
import ssl
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from ksql_lake.errors import SettingsError, keep_secret
from ksql_lake.ksqldb.wire.network import EndlessHeadError
from ksql_lake.settings import Settings

_HTTP = b"HTTP/"
MOST = 512 * 1024
"""The most bytes of a head, interim answers included."""

_log = logging.getLogger(__name__)
_CONNECTIONS = 32
"""Idle connections kept for reuse; further threads open more connections."""

_warned: set[str] = set()
"""Addresses for which the warning was logged."""


class _Head:
    """Reads an answer's head; the bytes after it belong to the body.

    Args:
        wire: The connection's reader.
        patience: Seconds from the first byte to the end of the head; None is no limit.
    """

    def __init__(self, wire: io.BufferedReader, patience: float | None) -> None:
        self._wire = wire
        self._left = MOST
        self._patience = patience
        self._began: float | None = None
        self._within = False

    def readline(self, limit: int = -1) -> bytes:
        """Return a line, or the bytes before the end or the limit.

        Raises:
            RemoteDisconnected: The connection ended within the head, which http.client takes for the head's
                end.
        """
        line = bytearray()
        while not line.endswith(b"\n") and (limit < 0 or len(line) < limit):
            waiting = self._wire.peek(1)
            if not waiting:
                if self._within or (line and _HTTP.startswith(line[: len(_HTTP)])):
                    raise http.client.RemoteDisconnected("the connection ended within the head of the answer")
                break
            size = waiting.find(b"\n") + 1 or len(waiting)
            line += self._wire.read(size if limit < 0 else min(size, limit - len(line)))
            self._check()
        self._left -= len(line)
        self._within = True
        return bytes(line)

    def close(self) -> None:
        """Close the reader underneath."""
        self._wire.close()

    def _check(self) -> None:
        if self._left < 0:
            raise EndlessHeadError
        now = time.monotonic()
        self._began = self._began or now
        if self._patience is not None and now - self._began > self._patience:
            raise TimeoutError("the head does not end")


class _Response(http.client.HTTPResponse):
    """The standard library's response with a limit for its head."""

    def __init__(self, sock: socket.socket, *args: Any, **keywords: Any) -> None:
        super().__init__(sock, *args, **keywords)
        self._patience = sock.gettimeout()

    def begin(self) -> None:
        """Read the head."""
        wire = self.fp
        self.fp = _Head(wire, self._patience)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            # An answer without a body has closed it already.
            if self.fp is not None:
                self.fp = wire


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Response


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class BoundedAdapter(HTTPAdapter):
    """The adapter of requests over connections with a limit for the head."""

    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **keywords)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **keywords: Any) -> urllib3.ProxyManager:
        """Make the pools of connections through a proxy."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **keywords)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class Authorization(AuthBase):
    """Puts the credentials on a request; its `repr` shows none of them.

    It is set even without credentials, because requests then does not read `~/.netrc`.
    """

    def __init__(self, header: str | None) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the `Authorization` header, if there are credentials."""
        if self._header is not None:
            request.headers["Authorization"] = self._header
        return request

    def __repr__(self) -> str:
        return "Authorization(***)" if self._header else "Authorization(None)"


def open_session(settings: Settings) -> requests.Session:
    """Make a session; opens no connection.

    Raises:
        SettingsError: A certificate or key file cannot be used, or a credential holds characters no header can.
    """
    _check_tls_files(settings)
    _check_plain(settings)
    session = requests.Session()
    # As with curl, HTTP(S)_PROXY, NO_PROXY and REQUESTS_CA_BUNDLE count, because a company's proxy may be the
    # only way out. A server on this machine is never behind a proxy.
    session.trust_env = not _is_this_machine(settings.ksqldb_url)
    session.auth = Authorization(_authorization(settings))
    # Rows go from the socket to the parser uncompressed; an answer that a proxy compresses anyway is read too.
    session.headers.update({"User-Agent": user_agent(), "Accept-Encoding": "identity"})
    if settings.ksqldb_cert_file:
        key = settings.ksqldb_key_file or settings.ksqldb_cert_file
        session.cert = (str(settings.ksqldb_cert_file), str(key))
    adapter = BoundedAdapter(pool_connections=_CONNECTIONS, pool_maxsize=_CONNECTIONS, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


@cache
def user_agent() -> str:
    """Return the User-Agent header."""
    try:
        return f"ksql-lake/{version('ksql-lake')}"
    except PackageNotFoundError:
        return "ksql-lake"


def _authorization(settings: Settings) -> str | None:
    if settings.ksqldb_token:
        token = settings.ksqldb_token.get_secret_value().strip()
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise SettingsError(
                "KSQLDB_TOKEN holds characters that no HTTP header can carry", hint="Copy it again."
            )
        keep_secret(token)
        return f"Bearer {token}"
    if settings.ksqldb_user is not None and settings.ksqldb_password is not None:
        pair = f"{settings.ksqldb_user}:{settings.ksqldb_password.get_secret_value()}"
        packed = base64.b64encode(pair.encode()).decode("ascii")
        keep_secret(packed, settings.ksqldb_user, settings.ksqldb_password.get_secret_value())
        return f"Basic {packed}"
    return None


def _check_plain(settings: Settings) -> None:
    """Warn once per process if credentials go over the network in the clear, or raise if that is forbidden."""
    plain = settings.ksqldb_url.lower().startswith("http://")
    signed = settings.ksqldb_token is not None or settings.ksqldb_user is not None
    if not signed or not plain or _is_this_machine(settings.ksqldb_url):
        return
    if settings.require_tls:
        raise SettingsError(
            f"credentials would go to {settings.ksqldb_url} in the clear, and KSQL_LAKE_REQUIRE_TLS forbids "
            "that",
            hint="Use https:// in KSQLDB_URL.",
        )
    if settings.ksqldb_url not in _warned:
        _warned.add(settings.ksqldb_url)
        _log.warning(
            "credentials go to %s in the clear, and any machine on the way can read them: use https://, or set "
            "KSQL_LAKE_REQUIRE_TLS=1 to make this an error",
            settings.ksqldb_url,
        )


def _check_tls_files(settings: Settings) -> None:
    """Load the TLS files once, so that the error names the wrong one before any handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.ksqldb_ca_file:
        try:
            context.load_verify_locations(settings.ksqldb_ca_file)
        except OSError as error:
            raise SettingsError(
                f"KSQLDB_CA_FILE: no certificates can be read from {settings.ksqldb_ca_file}",
                hint="It must be readable and hold PEM certificates.",
            ) from error
    if settings.ksqldb_cert_file:
        try:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(settings.ksqldb_cert_file, settings.ksqldb_key_file, password="")
        except OSError as error:
            raise SettingsError(
                f"KSQLDB_CERT_FILE, KSQLDB_KEY_FILE: no client certificate with its key can be read from "
                f"{settings.ksqldb_cert_file} and {settings.ksqldb_key_file or 'the same file'}",
                hint="Both must be readable PEM, belong together, and the key must not be encrypted.",
            ) from error


def _is_this_machine(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
