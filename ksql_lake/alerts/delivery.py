"""Deliver alerts to the log, and to the webhook and the mail server that the settings name.

One failed channel does not keep the others from delivering.
"""

# A password needs an encrypted connection. A webhook follows no redirect: a POST that becomes a GET would
# count as delivered.

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial
from smtplib import (
    SMTP,
    SMTP_SSL,
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
)
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from ksql_lake.alerts.message import Alert, hide_secrets
from ksql_lake.settings import Settings

_PORTS = {"smtp": 25, "smtps": 465}

SECONDS = 8.0
"""Seconds that a channel may be silent; all channels with their second attempts take less than a
minute, which is Dagster's limit for a sensor."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MailServer:
    """A mail server: `smtp://host:port` or `smtps://host:port`, with user and password or without."""

    url: str
    user: str | None = None
    password: str = ""

    @property
    def name(self) -> str:
        """The server's name in messages."""
        return f"the mail server {urlsplit(self.url).hostname}"


def mail_alert(
    alert: Alert, server: MailServer, *, sender: str, recipients: Sequence[str], seconds: float
) -> None:
    """Send an alert to the mail server; return only if it was accepted for every recipient.

    Raises:
        ConnectionError: It was not accepted, and a retry may succeed; the text says why, without the password.
        OSError: It was not accepted, or not for all recipients.
    """
    try:
        with _connected(server, seconds) as connection:
            refused = connection.send_message(_message(alert, sender, recipients))
    except SMTPRecipientsRefused as error:
        refused = error.recipients
    except SMTPAuthenticationError as error:
        raise OSError(f"{server.name} does not accept the credentials ({error.smtp_code})") from None
    except SMTPResponseException as error:
        passing = error.smtp_code < 500
        raise (ConnectionError if passing else OSError)(
            f"{server.name} refused the mail ({error.smtp_code})"
        ) from None
    except SMTPException as error:
        raise ConnectionError(f"{server.name} did not take the mail: {type(error).__name__}") from None
    except TimeoutError:
        raise ConnectionError(f"{server.name} did not answer within {seconds:g} s") from None
    except ssl.SSLError as error:
        raise OSError(f"{server.name} cannot be trusted: {error.reason}") from None
    except PermissionError:
        raise OSError(
            f"{server.name} offers no encryption, so the password was not sent; use smtps://"
        ) from None
    except OSError as error:
        raise ConnectionError(
            f"{server.name} cannot be reached: {error.strerror or type(error).__name__}"
        ) from None
    if refused:
        raise OSError(f"{server.name} refused {', '.join(sorted(refused))}")


@contextmanager
def _connected(server: MailServer, seconds: float) -> Iterator[SMTP]:
    """Connect and log in; close the connection at the end of the block, with QUIT if possible."""
    parts = urlsplit(server.url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    trusted, encrypted = ssl.create_default_context(), parts.scheme == "smtps"
    with (
        SMTP_SSL(host, port, timeout=seconds, context=trusted)
        if encrypted
        else SMTP(host, port, timeout=seconds)
    ) as connection:
        connection.ehlo()
        if not encrypted and connection.has_extn("starttls"):
            connection.starttls(context=trusted)
            encrypted = True
        if server.user is not None:
            if not encrypted:
                raise PermissionError
            connection.login(server.user, server.password)
        yield connection


def _message(alert: Alert, sender: str, recipients: Sequence[str]) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = alert.title
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid("ksql-lake")
    # RFC 3834: keeps out-of-office notices from answering.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(alert.full_text)
    return message


class _SystemTrust(HTTPAdapter):
    """Trusts this machine's certificate authorities, and those of requests."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=ssl.create_default_context(), **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=ssl.create_default_context(), **options)


def post_alert(alert: Alert, url: str, *, seconds: float) -> None:
    """Post an alert; return only if it was accepted.

    Raises:
        ConnectionError: It was not accepted, and a retry may succeed; the text says why, without the address.
        OSError: It was not accepted.
    """
    body = {"text": alert.full_text, "kind": alert.kind, "title": alert.title, "facts": dict(alert.facts)}
    where = f"the webhook at {urlsplit(url).hostname}"
    with requests.Session() as session:
        session.mount("https://", _SystemTrust())
        session.headers["User-Agent"] = "ksql-lake"
        session.auth = _as_it_is  # keeps requests from adding a password of ~/.netrc
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
    """Return the reason in the words of the innermost error: outer ones repeat the address."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    kinds = {type(each).__name__ for each in chain}
    first = chain[-1]
    if kinds & {"NewConnectionError", "NameResolutionError", "SSLError", "ProxyError"}:
        return f"cannot be reached: {getattr(first, 'strerror', None) or type(first).__name__}"
    return f"broke off: {type(first).__name__}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of an alert on a channel (`log`, `webhook`, `e-mail`); without a problem it succeeded."""

    channel: str
    problem: str = ""


def channels(settings: Settings) -> list[str]:
    """Return the channels of the settings."""
    return ["log", *_senders(settings)]


def send_alert(alert: Alert, settings: Settings, *, pause: float = 1.0) -> list[Delivery]:
    """Send an alert on every channel, and return the result of each.

    Args:
        alert: The alert.
        settings: The settings, which name the channels.
        pause: Seconds before the one retry of a channel that failed.
    """
    safe = alert.without_secrets(settings)
    _log.error("%s", safe.full_text)
    deliveries = [Delivery("log")]
    for channel, send in _senders(settings).items():
        try:
            _send_twice(send, safe, pause)
        except (OSError, ValueError) as error:
            problem = hide_secrets(" ".join(str(error).split()), settings)
            _log.error("an alert was not delivered by %s: %s", channel, problem)
            deliveries.append(Delivery(channel, problem))
        else:
            deliveries.append(Delivery(channel))
    return deliveries


def _send_twice(send: Callable[[Alert], None], alert: Alert, pause: float) -> None:
    """Send an alert, and once more after a connection failed."""
    try:
        send(alert)
    except ConnectionError:
        time.sleep(pause)
    else:
        return
    send(alert)


def _senders(settings: Settings) -> dict[str, Callable[[Alert], None]]:
    found: dict[str, Callable[[Alert], None]] = {}
    if settings.alert_webhook is not None:
        found["webhook"] = partial(post_alert, url=settings.alert_webhook.get_secret_value(), seconds=SECONDS)
    if recipients := settings.alert_recipients:
        password = settings.smtp_password
        server = MailServer(
            settings.smtp_url, settings.smtp_user, password.get_secret_value() if password else ""
        )
        found["e-mail"] = partial(
            mail_alert,
            server=server,
            sender=settings.alert_sender or recipients[0],
            recipients=recipients,
            seconds=SECONDS,
        )
    return found
