"""An alert as one HTTP POST of JSON: `text` is what Slack, Mattermost, Google Chat show, the rest for programs.

Follows no redirect: a POST that becomes a GET on its way would count as delivered. The address is a secret and
in no text of ours; its host is.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from ksql_lake.alerts.message import Alert


class _SystemTrust(HTTPAdapter):
    """Trusts the authorities that this machine trusts, beside those that come with requests."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=ssl.create_default_context(), **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=ssl.create_default_context(), **options)


def post_alert(alert: Alert, url: str, *, seconds: float) -> None:
    """Post an alert and see it accepted.

    Raises:
        ConnectionError: It was not, and may be a little later; the text says why, without the address.
        OSError: It was not accepted.
    """
    body = {"text": alert.full_text, "kind": alert.kind, "title": alert.title, "facts": dict(alert.facts)}
    where = f"the webhook at {urlsplit(url).hostname}"
    with requests.Session() as session:
        session.mount("https://", _SystemTrust())
        session.headers["User-Agent"] = "ksql-lake"
        session.auth = _as_it_is  # no password of a ~/.netrc goes along
        try:
            with session.post(url, json=body, timeout=seconds, allow_redirects=False, stream=True) as answer:
                status = answer.status_code
        except requests.Timeout:
            raise ConnectionError(f"{where} did not answer within {seconds:g} s") from None
        except requests.RequestException as error:
            raise ConnectionError(f"{where} {_what_happened(error)}") from None
    if status == 429 or status >= 500:
        raise ConnectionError(f"{where} answered {status}")
    if not 200 <= status < 300:
        raise OSError(f"{where} answered {status}")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _what_happened(error: BaseException) -> str:
    """Say what broke, in the words of the innermost error: the outer ones repeat the address."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    kinds = {type(each).__name__ for each in chain}
    first = chain[-1]
    if kinds & {"NewConnectionError", "NameResolutionError", "SSLError", "ProxyError"}:
        return f"cannot be reached: {getattr(first, 'strerror', None) or type(first).__name__}"
    return f"broke off: {type(first).__name__}"
