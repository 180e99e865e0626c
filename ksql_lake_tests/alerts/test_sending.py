"""Alerts on their way: a real loopback webhook, a real loopback mail server, and secrets that stay secret."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import pytest
import trustme

from ksql_lake.alerts import Alert, Delivery, channels, send_alert
from ksql_lake.alerts.delivery import post_alert
from ksql_lake.errors import SettingsError
from ksql_lake.settings import load_settings
from ksql_lake_tests.fakes.mail_server import MailServer
from ksql_lake_tests.fakes.scripted_server import RESET, SILENCE, Script, ScriptedServer, answer, head

PATH = "/services/T0/s3cret-path"
PASSWORD = "correct horse"  # noqa: S105 - made up
ALERT = Alert(
    "run_failure", "ksql-lake: streams failed", f"the password is {PASSWORD}\nover", {"job": "streams"}
)


def _send(**settings: object) -> dict[str, str]:
    found = send_alert(ALERT, load_settings(**settings), pause=0.0)
    return {delivery.channel: delivery.problem for delivery in found}


def _mail_settings(server: MailServer, **more: object) -> dict[str, object]:
    return {"smtp_url": server.url, "alert_email": "ops@example.com, night@example.com", **more}


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A mail server's side of TLS, by an authority that this process trusts."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    return context


def test_without_settings_an_alert_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log always gets the whole text, as an error of our logger."""
    with caplog.at_level(logging.ERROR, "ksql_lake"):
        delivered = _send()

    assert delivered == {"log": ""}
    assert channels(load_settings()) == ["log"]
    (record,) = caplog.records
    assert record.name == "ksql_lake.alerts.delivery"
    assert record.getMessage().startswith("ksql-lake: streams failed\nthe password is")


def test_a_webhook_gets_the_text_and_the_facts() -> None:
    """One POST of JSON, with the key that chat programs show and the facts for everything else."""
    with ScriptedServer() as server:
        server.script(PATH, answer(b"ok"))
        delivered = _send(alert_webhook=server.url + PATH)

        (request,) = server.requests
    assert delivered == {"log": "", "webhook": ""}
    assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
    assert request.json["text"].startswith("ksql-lake: streams failed\n")
    assert request.json["facts"] == {"job": "streams"}
    assert request.json["kind"] == "run_failure"


def test_what_may_pass_is_tried_once_more() -> None:
    """A busy webhook gets the alert a second time; one that knows no such address does not."""
    with ScriptedServer() as server:
        server.script(PATH, answer(b"", 503), answer(b""))
        delivered = _send(alert_webhook=server.url + PATH)
        unknown = _send(alert_webhook=f"{server.url}/gone")

        assert delivered == {"log": "", "webhook": ""}
        assert len(server.asked(PATH)) == 2
        assert unknown["webhook"] == "the webhook at 127.0.0.1 answered 404"
        assert len(server.asked("/gone")) == 1


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (Script([head(302, Location="/elsewhere", Content_Length="0")]), "answered 302"),
        (Script([RESET]), "broke off: ConnectionResetError"),
        (Script([b"nonsense\r\n\r\n"]), "broke off: BadStatusLine"),
    ],
)
def test_what_is_no_acceptance_is_a_problem(script: Script, said: str) -> None:
    """A redirect, a reset and a server without HTTP are reported; nothing is raised, nothing is followed."""
    with ScriptedServer() as server:
        server.script(PATH, script)

        assert _send(alert_webhook=server.url + PATH)["webhook"] == f"the webhook at 127.0.0.1 {said}"
        assert server.asked("/elsewhere") == []


def test_a_webhook_is_trusted_as_this_machine_trusts(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An authority that the machine trusts is enough, and is needed; no password of ~/.netrc goes along."""
    (tmp_path / ".netrc").write_text("machine localhost login me password hers\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with ScriptedServer(tls) as server:
        server.script(PATH, answer(b""))
        trusted = _send(alert_webhook=server.url + PATH)
        monkeypatch.delenv("SSL_CERT_FILE")
        unknown = _send(alert_webhook=server.url + PATH)

        (request,) = server.requests
    assert trusted["webhook"] == ""
    assert "authorization" not in request.headers
    assert "at localhost cannot be reached: [SSL: CERTIFICATE_VERIFY_FAILED]" in unknown["webhook"]


def test_a_silent_webhook_is_given_up() -> None:
    """A webhook that never answers is a problem; the message says how many seconds it had."""
    with ScriptedServer() as server:
        server.script(PATH, Script([SILENCE]))
        with pytest.raises(ConnectionError, match=r"the webhook at 127\.0\.0\.1 did not answer within 0\.2 s"):
            post_alert(ALERT, server.url + PATH, seconds=0.2)


def test_one_dead_channel_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    """The mail arrives although the webhook is away, and the log says what failed without its address."""
    with MailServer() as mail:
        found = _send(**_mail_settings(mail, alert_webhook=f"http://127.0.0.1:9{PATH}"))

    assert found == {
        "log": "",
        "webhook": "the webhook at 127.0.0.1 cannot be reached: Connection refused",
        "e-mail": "",
    }
    assert len(mail.mails) == 1
    assert "an alert was not delivered by webhook: the webhook at 127.0.0.1 cannot" in caplog.text
    assert PATH not in caplog.text


def test_a_mail_says_it_all_to_everybody() -> None:
    """Subject, text, recipients and the mark of what no machine should answer."""
    with MailServer() as server:
        assert _send(**_mail_settings(server)) == {"log": "", "e-mail": ""}

    (mail,) = server.mails
    assert mail["Subject"] == "ksql-lake: streams failed"
    assert (mail["From"], mail["To"]) == ("ops@example.com", "ops@example.com, night@example.com")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines()[0] == "ksql-lake: streams failed"
    assert len([line for line in server.heard if "rcpt to" in line.lower()]) == 2


@pytest.mark.parametrize("at_once", [False, True])
def test_the_password_travels_encrypted(tls: ssl.SSLContext, *, at_once: bool) -> None:
    """By STARTTLS or from the first byte; the server accepts it and the mail."""
    with MailServer(tls, at_once=at_once, credentials=("lake", PASSWORD)) as server:
        delivered = _send(**_mail_settings(server, smtp_user="lake", smtp_password=PASSWORD))

    assert delivered == {"log": "", "e-mail": ""}
    assert any(line.startswith("AUTH") for line in server.heard)
    assert not any(line.startswith("open: AUTH") for line in server.heard)
    # Nor does the text that came with the alert hold it.
    assert "the password is ***" in server.mails[0].get_content()


def test_no_password_goes_over_an_open_line() -> None:
    """A server without encryption is not given it, and the problem says what to do."""
    with MailServer(credentials=("lake", PASSWORD)) as server:
        delivered = _send(**_mail_settings(server, smtp_user="lake", smtp_password=PASSWORD))

    assert delivered["e-mail"] == (
        "the mail server localhost offers no encryption, so the password was not sent; use smtps://"
    )
    assert not any("AUTH" in line for line in server.heard)


def test_an_unknown_authority_is_not_trusted(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of an unknown authority ends the connection before a password is sent."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with MailServer(tls, credentials=("lake", PASSWORD)) as server:
        delivered = _send(**_mail_settings(server, smtp_user="lake", smtp_password=PASSWORD))

    assert delivered["e-mail"] == "the mail server localhost cannot be trusted: CERTIFICATE_VERIFY_FAILED"


def test_refusals_of_a_mail_server_are_told(tls: ssl.SSLContext) -> None:
    """Wrong credentials, an unknown recipient and a mail that is not taken each have their sentence."""
    with MailServer(tls, credentials=("lake", "another")) as server:
        credentials = _send(**_mail_settings(server, smtp_user="lake", smtp_password=PASSWORD))
    with MailServer(refused={"night@example.com": 550}) as server:
        recipient = _send(**_mail_settings(server))
        arrived = len(server.mails)
    with MailServer(refused={"night@example.com": 550, "ops@example.com": 550}) as server:
        nobody = _send(**_mail_settings(server))
    with MailServer(answers=["554 no"]) as server:
        refused = _send(**_mail_settings(server))
    with MailServer(answers=["451 later"]) as server:
        second = _send(**_mail_settings(server))

    assert credentials["e-mail"] == "the mail server localhost does not accept the credentials (535)"
    assert recipient["e-mail"] == "the mail server localhost refused night@example.com"
    assert arrived == 1
    assert nobody["e-mail"] == "the mail server localhost refused night@example.com, ops@example.com"
    assert refused["e-mail"] == "the mail server localhost refused the mail (554)"
    assert second["e-mail"] == ""


def test_a_mail_server_that_is_away_is_named() -> None:
    """Nothing is raised where nothing listens."""
    settings = {"smtp_url": "smtp://127.0.0.1:9", "alert_email": "ops@example.com"}

    assert _send(**settings)["e-mail"] == "the mail server 127.0.0.1 cannot be reached: Connection refused"


def test_secrets_are_in_no_channel(caplog: pytest.LogCaptureFixture) -> None:
    """Every secret of the settings is hidden, in the log, in the request and in what comes back."""
    with ScriptedServer() as server:
        server.script(PATH, answer(b"ok"))
        url = server.url + PATH
        settings = load_settings(alert_webhook=url, ksqldb_token="t0ken-of-mine")  # noqa: S106
        alert = Alert("test", f"see {url}", "Bearer t0ken-of-mine was refused", {"error": "t0ken-of-mine"})
        send_alert(alert, settings)

        told = server.requests[0].body.decode() + caplog.text + repr(settings)
    assert "t0ken-of-mine" not in told
    assert url not in told
    assert "Bearer *** was refused" in told


def test_a_title_is_one_line() -> None:
    """A line break in a title cannot become a header of the mail."""
    with MailServer() as server:
        settings = load_settings(**_mail_settings(server))
        found = send_alert(Alert("test", "all\r\nBcc: evil@example.com"), settings)

    assert found == [Delivery("log"), Delivery("e-mail")]
    assert server.mails[0]["Subject"] == "all Bcc: evil@example.com"
    assert server.mails[0]["Bcc"] is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KSQL_LAKE_ALERT_WEBHOOK", "hooks.example.com/s3cret", "must be an address that begins with http://"),
        ("KSQL_LAKE_ALERT_WEBHOOK", "http://h:port/s3cret", "must be an address that begins with http://"),
        ("KSQL_LAKE_ALERT_EMAIL", "ops@example.com, ops", "'ops' is no e-mail address"),
        ("KSQL_LAKE_SMTP_URL", "mail.example.com", "must be smtp://host:port or smtps://host:port"),
        ("KSQL_LAKE_SMTP_URL", "smtp://me:s3cret@mail.example.com", "must not hold credentials"),
        ("KSQL_LAKE_DAGSTER_URL", "http://me:s3cret@dagster.example.com", "must not hold credentials"),
        ("KSQL_LAKE_SMTP_USER", "me", "KSQL_LAKE_SMTP_USER and KSQL_LAKE_SMTP_PASSWORD go together"),
    ],
)
def test_settings_that_cannot_work_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """The variable and the rule, never the secret."""
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as told:
        load_settings()

    assert said in str(told.value)
    assert "s3cret" not in str(told.value)
