"""A loopback SMTP server that takes every mail it is offered, unless a test says otherwise.

Real sockets on 127.0.0.1 and a thread per connection. It knows as much of RFC 5321 as a client needs to hand in
a mail: EHLO, STARTTLS, AUTH PLAIN, MAIL, RCPT, DATA, QUIT.
"""

from __future__ import annotations

import base64
import email
import email.policy
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self


@dataclass
class MailServer:
    """The server; a context manager.

    Args:
        tls: The server's side of TLS; None offers no encryption.
        at_once: Whether TLS begins with the connection, as for smtps; else by STARTTLS.
        credentials: User and password that are accepted; None offers no AUTH.
        refused: Recipients that are refused, and the codes for them.
        answers: Replies to DATA's end, taken in turn before it says 250.
    """

    tls: ssl.SSLContext | None = None
    at_once: bool = False
    credentials: tuple[str, str] | None = None
    refused: dict[str, int] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Conversation)
        self._server.mail = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Where it is; certificates are issued for the name."""
        scheme = "smtps" if self.at_once else "smtp"
        return f"{scheme}://localhost:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    mail: MailServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle is a test's business, not ours."""


class _Conversation(socketserver.StreamRequestHandler):
    timeout = 30

    def setup(self) -> None:
        mail = self._mail
        if mail.tls is not None and mail.at_once:
            self.request = mail.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    @property
    def _mail(self) -> MailServer:
        assert isinstance(self.server, _Server)
        return self.server.mail

    def finish(self) -> None:
        self.wfile.close()
        self.rfile.close()
        self.connection.close()

    def handle(self) -> None:
        mail, encrypted = self._mail, self._mail.at_once
        self._say("220 loopback")
        while line := self.rfile.readline():
            text = line.decode().rstrip("\r\n")
            word = text.split(" ", 1)[0].upper()
            # What is said over an open line is what anybody on the way can read.
            mail.heard.append(text if encrypted else f"open: {text}")
            if word == "EHLO":
                self._greet(encrypted=encrypted)
            elif word == "STARTTLS" and mail.tls is not None:
                self._say("220 go on")
                self.connection = self.request = mail.tls.wrap_socket(self.connection, server_side=True)
                self.rfile.close()
                self.wfile.close()
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
                encrypted = True
            elif word == "AUTH":
                self._say("235 welcome" if self._known(text) else "535 who are you")
            elif word == "RCPT":
                address = text.partition("<")[2].rstrip(">")
                self._say(f"{mail.refused.get(address, 250)} {address}")
            elif word == "DATA":
                self._take()
            else:
                self._say("221 bye" if word == "QUIT" else "250 ok")
            if word == "QUIT":
                return

    def _greet(self, *, encrypted: bool) -> None:
        offers = ["loopback"]
        offers += ["STARTTLS"] if self._mail.tls is not None and not encrypted else []
        offers += ["AUTH PLAIN"] if self._mail.credentials is not None else []
        for number, offer in enumerate(offers, start=1):
            self._say(f"250{'-' if number < len(offers) else ' '}{offer}")

    def _known(self, text: str) -> bool:
        _, user, password = base64.b64decode(text.rsplit(" ", 1)[1]).decode().split("\0")
        return (user, password) == self._mail.credentials

    def _take(self) -> None:
        self._say("354 go on")
        data = b""
        while not data.endswith(b"\r\n.\r\n"):
            data += self.rfile.readline()
        answer = self._mail.answers.pop(0) if self._mail.answers else "250 taken"
        if answer.startswith("250"):
            self._mail.mails.append(email.message_from_bytes(data[:-5], policy=email.policy.default))
        self._say(answer)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
        self.wfile.flush()
