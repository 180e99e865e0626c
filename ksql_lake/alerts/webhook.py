"""An alert as one HTTP POST of JSON: `text` is what Slack, Mattermost, Google Chat show, the rest for programs.

Speaks through Python's standard library, because requests belongs to the conversation with ksqlDB. Follows no
redirect: a POST that becomes a GET on its way would count as delivered. The address is a secret and in no text
of ours; its host is.
"""

from __future__ import annotations

import json
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from ksql_lake.alerts.message import Alert

_HANDLERS = (ProxyHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor)


def post_alert(alert: Alert, url: str, *, seconds: float) -> None:
    """Post an alert and see it accepted.

    Raises:
        ConnectionError: It was not, and may be a little later; the text says why, without the address.
        OSError: It was not accepted.
    """
    body = {"text": alert.full_text, "kind": alert.kind, "title": alert.title, "facts": dict(alert.facts)}
    headers = {"Content-Type": "application/json", "User-Agent": "ksql-lake"}
    request = Request(url, data=json.dumps(body).encode(), headers=headers, method="POST")  # noqa: S310 - settings
    opener = OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    where = f"the webhook at {urlsplit(url).hostname}"
    try:
        with opener.open(request, timeout=seconds):
            return
    except HTTPError as error:
        with error:
            passing = error.code == 429 or error.code >= 500
            raise (ConnectionError if passing else OSError)(f"{where} answered {error.code}") from None
    except URLError as error:
        raise ConnectionError(f"{where} cannot be reached: {_reason(error.reason)}") from None
    except TimeoutError:
        raise ConnectionError(f"{where} did not answer within {seconds:g} s") from None
    except (OSError, HTTPException) as error:
        raise ConnectionError(f"{where} broke off: {type(error).__name__}") from None


def _reason(error: object) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
