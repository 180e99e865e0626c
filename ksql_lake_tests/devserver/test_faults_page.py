"""The page about testing a consumer: its example runs, its table names every switch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from ksql_lake.devserver.faults import LagFault, QueryFault, RequestFault, TokenFault
from ksql_lake.devserver.process import DevServer
from ksql_lake.errors import ConfigError
from ksql_lake_tests.devserver.conversation import Client

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")


def test_the_example_runs() -> None:
    """The test on the page passes unchanged."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert outcome.returncode == 0, outcome.stderr


KINDS = [name for group in (RequestFault, QueryFault, TokenFault, LagFault) for name in get_args(group)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_switch_is_documented(kind: str) -> None:
    """Each kind of fault stands in the page's table."""
    table = PAGE[PAGE.index("## Switches") :]

    assert f"`{kind}`" in table


def test_rows_and_switches_from_python() -> None:
    """Rows, transactions and switches need nothing but the server's object; what is refused is an error."""
    with DevServer.start(arguments=["--fault", "slow:rows_per_second=1"]) as server:
        client = Client(server.url)
        client.ksql("CREATE STREAM S (ID BIGINT) WITH (KAFKA_TOPIC='s', PARTITIONS=1, VALUE_FORMAT='JSON');")
        assert server.append("S", {"ID": 1}, {"ID": 2}) == 2
        assert server.append("S", {"ID": 3}, transaction="t") == 1
        server.end_transaction("S", "t", commit=False)
        server.set_faults()
        assert client.rows("SELECT ID FROM S;") == [[1], [2], [3]]
        committed = {"ksql.streams.consumer.isolation.level": "read_committed"}
        assert client.rows("SELECT ID FROM S;", **committed) == [[1], [2]]
        server.set_faults({"kind": "busy"})
        assert client.query("SELECT ID FROM S;").status_code == 429
        with pytest.raises(ConfigError, match="has no column 'NOPE'"):
            server.append("S", {"NOPE": 1})
        with pytest.raises(ConfigError, match="Not a list of faults"):
            server.set_faults({"kind": "nothing"})
    with pytest.raises(ConfigError, match="does not answer"):
        server.append("S", {"ID": 4})
