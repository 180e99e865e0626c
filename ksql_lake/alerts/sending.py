"""Sending an alert over every channel that the settings name; one that fails never keeps the others from it.

The log always gets it. What a channel failed with comes back as a text and goes to the log too: whoever sends
decides where else it must be seen. Nothing is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from ksql_lake.alerts.mail import MailServer, mail_alert
from ksql_lake.alerts.message import Alert, hide_secrets
from ksql_lake.alerts.webhook import post_alert
from ksql_lake.settings import Settings

SECONDS = 8.0
"""How long a channel may be silent; all of them with their second attempts fit into a minute, which is how long
Dagster lets a sensor take."""

_ATTEMPTS = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an alert on a channel (`log`, `webhook`, `e-mail`); without a problem it was delivered."""

    channel: str
    problem: str = ""


def channels(settings: Settings) -> list[str]:
    """Give the channels an alert goes to."""
    return ["log", *_senders(settings)]


def send_alert(alert: Alert, settings: Settings, *, pause: float = 1.0) -> list[Delivery]:
    """Send an alert everywhere, and tell what became of it on each channel.

    Args:
        alert: What happened.
        settings: Name the channels.
        pause: Seconds before a channel that failed is tried once more.
    """
    safe = alert.without_secrets(settings)
    _log.error("%s", safe.full_text)
    again = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_fixed(pause),
        retry=retry_if_exception_type(ConnectionError),
        reraise=True,
    )
    deliveries = [Delivery("log")]
    for channel, send in _senders(settings).items():
        try:
            again(send, safe)
        except (OSError, ValueError) as error:
            problem = hide_secrets(" ".join(str(error).split()), settings)
            _log.error("an alert was not delivered by %s: %s", channel, problem)
            deliveries.append(Delivery(channel, problem))
        else:
            deliveries.append(Delivery(channel))
    return deliveries


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
