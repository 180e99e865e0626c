"""Reading continuation tokens in a test: a push query's rows in the batches that its tokens make of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from ksql_lake_tests.devserver.conversation import PATIENCE, V1, Client

SELECT = "SELECT ROWTIME, K, ID, P, O FROM D EMIT CHANGES;"
PROPERTIES = {
    "ksql.query.push.v2.enabled": True,
    "ksql.query.push.v2.continuation.tokens.enabled": True,
    "auto.offset.reset": "latest",
}
STATEMENTS = """
CREATE STREAM S (K STRING KEY, ID BIGINT) WITH (KAFKA_TOPIC='s', PARTITIONS=2, VALUE_FORMAT='JSON');
CREATE STREAM D AS SELECT K, ID, ROWPARTITION AS P, ROWOFFSET AS O FROM S;
"""


@dataclass
class Batch:
    """What came up to one token.

    Attributes:
        rows: `columns` of each row.
        start: Offsets before it, by partition; [] where no token ends it.
        end: Offsets behind it.
    """

    rows: list[list[Any]] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """Column ID of its rows, in order of size."""
        return sorted(row[2] for row in self.rows)

    @property
    def span(self) -> int:
        """How many offsets its token says that it has."""
        return sum(self.end) - sum(self.start)


def token(offsets: Sequence[int]) -> str:
    """A token that goes on at these offsets."""
    text = json.dumps({"e": {"o": list(offsets)}, "v": 0}, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()


@dataclass
class Reader:
    """A push query that is being read.

    Attributes:
        query_id: As the header says.
        error: The error message in the body, once it came.
    """

    lines: Iterator[str]
    query_id: str = ""
    error: str = ""
    rows: list[list[Any]] = field(default_factory=list)

    def batches(self, count: int) -> list[Batch]:
        """The next batches; fewer if the answer ends."""
        found: list[Batch] = []
        batch = Batch()
        while len(found) < count and (line := next(self.lines, None)) is not None:
            item = json.loads(line)
            if "row" in item:
                batch.rows.append(item["row"]["columns"])
            elif "errorMessage" in item:
                self.error = item["errorMessage"]["message"]
            elif "continuationToken" in item:
                told = json.loads(base64.b64decode(item["continuationToken"]["continuationToken"]))
                batch.start, batch.end = told["s"]["o"], told["e"]["o"]
                found.append(batch)
                batch = Batch()
        return [*found, batch] if len(found) < count and batch.rows else found


def _lines(answer: requests.Response) -> Iterator[str]:
    held = ""
    for part in answer.iter_content(chunk_size=None):
        *whole, held = (held + part.decode()).split("\n")
        yield from filter(None, (line.removeprefix("[").rstrip(",").removesuffix("]") for line in whole))


@contextmanager
def reading(
    client: Client,
    offsets: Sequence[int] | None,
    *,
    sql: str = SELECT,
    properties: Mapping[str, object] | None = None,
    timeout: float = PATIENCE,
) -> Iterator[Reader]:
    """Begin to read at these offsets of the source's own log; None begins at its end.

    Args:
        client: Whom to ask.
        offsets: By partition.
        sql: What to ask.
        properties: More of the request's.
        timeout: Seconds of silence after which reading fails.
    """
    body: dict[str, object] = {"ksql": sql, "streamsProperties": {**PROPERTIES, **(properties or {})}}
    if offsets is not None:
        body["requestProperties"] = {"request.ksql.query.push.continuation.token": token(offsets)}
    headers = {"Accept": V1}
    with requests.post(
        f"{client.url}/query", json=body, headers=headers, stream=True, timeout=timeout
    ) as answer:
        assert answer.status_code == 200, answer.text
        lines = _lines(answer)
        reader = Reader(lines)
        header = json.loads(next(lines))
        reader.query_id = header["header"]["queryId"]
        yield reader


def read(client: Client, offsets: Sequence[int] | None, count: int, **more: Any) -> list[Batch]:
    """The first batches from these offsets on; see `reading`."""
    with reading(client, offsets, **more) as reader:
        return reader.batches(count)


def kind_of(client: Client, offsets: Sequence[int] | None = None, **more: Any) -> str:
    """How the id of the query begins; see `reading`."""
    with reading(client, offsets, **more) as reader:
        return reader.query_id.partition("_")[0]
