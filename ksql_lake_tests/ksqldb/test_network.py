"""Promises about network failures that a loopback server cannot stage."""

from __future__ import annotations

import http.client
import socket
import ssl

import pytest
import requests
import urllib3

from ksql_lake.errors import IncompleteResponseError, ServerUnavailableError
from ksql_lake.ksqldb.wire.network import body_failure, request_failure

URL = "http://ksqldb.example:8088"


def raised_from(outer: Exception, inner: Exception) -> Exception:
    """An exception as `raise outer from inner` leaves it."""
    outer.__cause__ = inner
    return outer


def wrapped(reason: Exception) -> requests.ConnectionError:
    """As requests wraps what urllib3 gave up on."""
    pool = urllib3.HTTPConnectionPool("ksqldb.example", 8088)
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/info?secret=hush", reason))


CONNECTION = urllib3.connection.HTTPConnection("ksqldb.example", 8088)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            wrapped(
                raised_from(
                    urllib3.exceptions.NameResolutionError(
                        "ksqldb.example", CONNECTION, socket.gaierror(-2, "no")
                    ),
                    socket.gaierror(-2, "no"),
                )
            ),
            "the host name cannot be resolved",
        ),
        (
            requests.ConnectTimeout(
                wrapped(raised_from(urllib3.exceptions.ConnectTimeoutError(), TimeoutError()))
            ),
            "no connection within 3 s",
        ),
        (
            wrapped(
                raised_from(
                    urllib3.exceptions.NewConnectionError(CONNECTION, "hush"), OSError(113, "No route to host")
                )
            ),
            "cannot be reached: no route to host",
        ),
        (
            requests.ConnectionError(
                urllib3.exceptions.ProtocolError("hush", BrokenPipeError(32, "Broken pipe"))
            ),
            "the connection was closed without an answer: broken pipe",
        ),
        (requests.exceptions.RequestException("hush"), "cannot be reached: RequestException"),
        (http.client.LineTooLong("hush"), "cannot be reached: LineTooLong"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_that_fails_is_said_in_our_words(error: Exception, line: str) -> None:
    """Each cause has its sentence, and no library's text, which may hold secrets, is repeated."""
    ours = request_failure(error, url=URL, connect_timeout=3.0, read_timeout=5.0)
    assert type(ours) is ServerUnavailableError
    assert str(ours).split("\n")[0] == f"server {URL}: {line}"
    assert ours.hint
    assert "hush" not in str(ours)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "in the middle of the answer: connection reset by peer",
        ),
        (
            ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] hush"),
            "the connection broke in the middle",
        ),
        (ValueError("read of closed file"), "the answer was cut off"),
    ],
)
def test_a_body_that_breaks_is_incomplete(error: Exception, line: str) -> None:
    """What breaks inside an answer leaves it incomplete, to be asked for again."""
    ours = body_failure(error, url=URL, read_timeout=5.0)
    assert type(ours) is IncompleteResponseError
    assert line in str(ours)
    assert "hush" not in str(ours)
