"""The devserver as a whole, over HTTP, as a client sees it."""

from __future__ import annotations

import requests

from ksql_lake.devserver.process import DevServer

V1 = {"Accept": "application/vnd.ksql.v1+json"}


def test_a_stream_pull_of_the_sample_is_complete() -> None:
    """A stream pull ends with the final message that proves it complete."""
    with DevServer.start(sample=True, arguments=["--sample-rows", "500"]) as server:
        answer = requests.post(
            f"{server.url}/query",
            json={"ksql": "SELECT TRANSACTION_ID FROM TRANSACTION_STREAM;"},
            headers=V1,
            timeout=30,
        )

    assert answer.status_code == 200
    assert len(answer.text.splitlines()) == 502
    assert answer.text.endswith('\n{"finalMessage":"Query Completed"}]')
