"""An alert as an e-mail, handed to one SMTP server.

`smtps://` is encrypted from the start, `smtp://` as soon as the server offers it. It refuses to send a password
over a connection that is not encrypted.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from smtplib import (
    SMTP,
    SMTP_SSL,
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
)
from urllib.parse import urlsplit

from ksql_lake.alerts.message import Alert

_PORTS = {"smtp": 25, "smtps": 465}


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in: `smtp://host:port` or `smtps://host:port`; a user has a password."""

    url: str
    user: str | None = None
    password: str = ""

    @property
    def name(self) -> str:
        """The server as a text calls it."""
        return f"the mail server {urlsplit(self.url).hostname}"


def mail_alert(
    alert: Alert, server: MailServer, *, sender: str, recipients: Sequence[str], seconds: float
) -> None:
    """Hand an alert to the mail server and see it accepted for every recipient.

    Raises:
        ConnectionError: It was not, and may be a little later; the text says why, without the password.
        OSError: It was not accepted, or not for all.
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
        raise OSError(f"{server.name} offers no encryption, so it got no password; use smtps://") from None
    except OSError as error:
        raise ConnectionError(
            f"{server.name} cannot be reached: {error.strerror or type(error).__name__}"
        ) from None
    if refused:
        raise OSError(f"{server.name} refused {', '.join(sorted(refused))}")


@contextmanager
def _connected(server: MailServer, seconds: float) -> Iterator[SMTP]:
    """Open and log in; the connection ends with the block, politely where that can be."""
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
    # RFC 3834: no out-of-office notice answers this.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(alert.full_text)
    return message
