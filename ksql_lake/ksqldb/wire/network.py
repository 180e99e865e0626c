"""Turn exceptions of requests, urllib3, the socket and TLS into our errors."""

# The messages never repeat those texts, which may hold proxy credentials.

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator

import httptools
import requests
import urllib3

from ksql_lake.errors import (
    IncompleteResponseError,
    KsqlLakeError,
    ProtocolError,
    ServerUnavailableError,
    SettingsError,
    UnauthorizedError,
)


class EndlessHeadError(http.client.HTTPException):
    """An answer's head is longer than the limit."""


NETWORK_ERRORS = (
    OSError,  # sockets, TLS and, by inheritance, everything of requests
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    httptools.HttpParserError,
    UnicodeError,  # a host name that cannot be encoded
)
"""The errors of requests and bodies; none of them leaves this package."""

_START_IT = "Is ksqlDB running there? Start it, or set KSQLDB_URL to its address."
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
_CLIENT_CERTIFICATE = ("CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA", "HANDSHAKE_FAILURE")


def request_failure(
    error: Exception, *, url: str, connect_timeout: float, read_timeout: float
) -> KsqlLakeError:
    """Turn an error before an answer began into one of ours.

    Args:
        error: One of `NETWORK_ERRORS`.
        url: The server, for the text.
        connect_timeout: How long connecting was allowed to take, in seconds.
        read_timeout: How long the server was allowed to stay silent, in seconds.
    """
    causes = list(_causes(error))
    for found in (_proxy(causes), _bad_address(causes), _tls(causes)):
        if found is not None:
            return found.at(server=url)
    # The order matters: urllib3 also calls every failed connection a connect time-out.
    if _first(causes, socket.gaierror):
        text, hint = "the host name cannot be resolved", "Correct the host in KSQLDB_URL."
    elif _first(causes, ConnectionRefusedError):
        text, hint = "cannot connect: connection refused", _START_IT
    elif _first(causes, ConnectionError, http.client.RemoteDisconnected):
        text = f"the connection was closed without an answer: {_reason(causes)}"
        hint = "Is the server restarting, or does it expect https? Look at its log."
    elif _first(causes, http.client.BadStatusLine):
        return ProtocolError(
            "the answer there is not HTTP",
            hint="If the server uses TLS, KSQLDB_URL must begin with https://.",
            server=url,
        )
    elif _first(causes, EndlessHeadError):
        return ProtocolError(
            "the head of the answer does not end",
            hint="Is KSQLDB_URL the address of a ksqlDB server? No server sends a head of half a megabyte.",
            server=url,
        )
    elif _first(causes, requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        text = f"connected, but no answer within {read_timeout:g} s"
        hint = "If the server needs longer to begin, raise KSQLDB_READ_TIMEOUT."
    elif _first(causes, TimeoutError):
        text, hint = f"no connection within {connect_timeout:g} s", _START_IT
    else:
        text, hint = f"cannot be reached: {_reason(causes)}", _START_IT
    return ServerUnavailableError(text, hint=hint, server=url)


def body_failure(error: Exception, *, url: str, read_timeout: float) -> KsqlLakeError:
    """Turn an error in the middle of a body into one of ours.

    Args:
        error: One of `NETWORK_ERRORS`.
        url: The server, for the text.
        read_timeout: How long the server was allowed to stay silent, in seconds.
    """
    causes = list(_causes(error))
    again = "Nothing was kept; the export can be run again."
    if _first(causes, TimeoutError, urllib3.exceptions.ReadTimeoutError):
        return ServerUnavailableError(
            f"the server fell silent for {read_timeout:g} s in the middle of its answer",
            hint=f"{again} If its scans take longer between rows, raise KSQLDB_READ_TIMEOUT.",
            server=url,
        )
    if _first(causes, urllib3.exceptions.DecodeError):
        text = "the answer's compression is damaged"
    elif _first(causes, httptools.HttpParserError, urllib3.exceptions.InvalidChunkLength):
        text = "the answer's HTTP framing is damaged"
    elif _first(causes, ConnectionError, ssl.SSLError):
        text = f"the connection broke in the middle of the answer: {_reason(causes)}"
    else:
        text = "the answer was cut off: the connection ended before the answer did"
    return IncompleteResponseError(text, hint=again, server=url)


def _bad_address(causes: list[BaseException]) -> KsqlLakeError | None:
    bad = (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        urllib3.exceptions.LocationValueError,
        UnicodeError,
    )
    if _first(causes, *bad) is None:
        return None
    return SettingsError(
        "this address, or that of a proxy, cannot be used",
        hint="Set KSQLDB_URL to http://host:port or https://host:port, and check HTTP_PROXY and HTTPS_PROXY.",
    )


def _proxy(causes: list[BaseException]) -> KsqlLakeError | None:
    if _first(causes, requests.exceptions.ProxyError, urllib3.exceptions.ProxyError) is None:
        return None
    return ServerUnavailableError(
        f"the proxy on the way there failed: {_reason(causes)}",
        hint="Check HTTP_PROXY and HTTPS_PROXY, or name the server's host in NO_PROXY.",
    )


def _tls(causes: list[BaseException]) -> KsqlLakeError | None:
    distrust = _first(causes, ssl.SSLCertVerificationError)
    if isinstance(distrust, ssl.SSLCertVerificationError):
        return SettingsError(
            f"its TLS certificate cannot be trusted: {distrust.verify_message.rstrip('.')}",
            hint="Set KSQLDB_CA_FILE to the PEM file of the authority that signed it, "
            "and use the host name of the certificate.",
        )
    broken = _first(causes, ssl.SSLError)
    if not isinstance(broken, ssl.SSLError):
        return None
    reason = _tls_reason(broken)
    if any(word in reason for word in _NOT_TLS):
        return SettingsError(
            "the server does not speak TLS on this port", hint="KSQLDB_URL should begin with http://."
        )
    if any(word in reason for word in _CLIENT_CERTIFICATE):
        return UnauthorizedError(
            "the server wants a client certificate that it trusts",
            hint="Set KSQLDB_CERT_FILE and KSQLDB_KEY_FILE to one that it accepts.",
        )
    return ServerUnavailableError(
        f"TLS failed: {_reason([broken])}",
        hint="If the server does not use TLS, KSQLDB_URL should begin with http://.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that it wraps; the libraries use `args`, `reason` and chaining alike."""
    queue, seen = [error], set[int]()
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]
        queue += [other for other in inner if isinstance(other, BaseException)]


def _first(causes: list[BaseException], *kinds: type[BaseException]) -> BaseException | None:
    return next((cause for cause in causes if isinstance(cause, kinds)), None)


def _reason(causes: list[BaseException]) -> str:
    """Return the innermost cause in few words."""
    for cause in reversed(causes):
        if isinstance(cause, http.client.RemoteDisconnected):
            return "the server hung up"
        if isinstance(cause, ssl.SSLError):
            return _tls_reason(cause).replace("_", " ").lower() or "TLS failed"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[0].lower() + cause.strerror[1:]
        if isinstance(cause, OSError) and str(cause).startswith("Tunnel connection failed"):
            return str(cause)[0].lower() + str(cause)[1:]
    return type(causes[-1]).__name__


def _tls_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason; errors that Python itself raises have none."""
    return getattr(error, "reason", None) or ""
