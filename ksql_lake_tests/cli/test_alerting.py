"""`ksql-lake alerts`: where alerts go, without the secrets, and a test that says whether it arrived."""

from __future__ import annotations

import json

import pytest

from ksql_lake_tests.cli.conftest import Cli
from ksql_lake_tests.fakes.mail_server import MailServer
from ksql_lake_tests.fakes.scripted_server import ScriptedServer, answer


def test_channels_are_listed_without_their_secrets(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The webhook's address is nowhere; who gets mail is."""
    monkeypatch.setenv("KSQL_LAKE_ALERT_WEBHOOK", "https://hooks.example.com/s3cret")
    monkeypatch.setenv("KSQL_LAKE_ALERT_EMAIL", "ops@example.com")

    said = cli("alerts")

    assert said.code == 0
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines] == ["CHANNEL", "log", "webhook", "e-mail"]
    assert lines[3].endswith("ops@example.com through smtp://localhost:25")
    assert "s3cret" not in said.out + said.err


def test_a_test_reaches_every_channel(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent arrives, and the exit code says so."""
    with ScriptedServer() as web, MailServer() as mail:
        web.script("/hook", answer(b"ok"))
        monkeypatch.setenv("KSQL_LAKE_ALERT_WEBHOOK", f"{web.url}/hook")
        monkeypatch.setenv("KSQL_LAKE_ALERT_EMAIL", "ops@example.com")
        monkeypatch.setenv("KSQL_LAKE_SMTP_URL", mail.url)
        said = cli("alerts", "--test", "--json")

    assert said.code == 0
    assert [(entry["channel"], entry["outcome"]) for entry in json.loads(said.out)] == [
        ("log", "sent"),
        ("webhook", "sent"),
        ("e-mail", "sent"),
    ]
    assert web.requests[0].json["title"] == mail.mails[0]["Subject"] == "ksql-lake: a test"


def test_a_channel_that_is_away_fails_the_test(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason stands beside the channel, and the exit code is 1."""
    monkeypatch.setenv("KSQL_LAKE_ALERT_WEBHOOK", "http://127.0.0.1:9/s3cret")

    said = cli("alerts", "--test")

    assert said.code == 1
    assert "the webhook at 127.0.0.1 cannot be reached: Connection refused" in said.out
    assert "s3cret" not in said.out + said.err
