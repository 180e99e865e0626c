"""The four ways a response is written: v1 rows (two writers), delimited lines, one JSON array.

Pure text: what stands before, between and behind rows. How the rows themselves read is in `wire`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ksql_lake.devserver.plan import QueryKind
from ksql_lake.schema import Schema

Writer = Literal["v1", "legacy", "delimited", "json_array"]

V1 = "application/vnd.ksql.v1+json"
DELIMITED = "application/vnd.ksqlapi.delimited.v1"
JSON = "application/json"


def compact(value: object) -> str:
    """JSON without white space, non-ASCII characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Framing:
    """Everything around the values of a response.

    Attributes:
        head: Text before the first row.
        before_row: Text before a row's first value.
        after_row: Text behind a row's last value.
        after_tombstone: The same for a deleted table key; None where the form cannot say it.
        end: Text of a clean end without final message.
        final_end: Text behind a final message; None where the form has none.
        keepalive: Text sent in each idle second of a push query.
    """

    content_type: str
    head: str
    before_row: str
    after_row: str
    after_tombstone: str | None
    end: str
    final_end: str | None
    error_before: str
    error_after: str
    keepalive: str = ""

    def final(self, message: str) -> str:
        """The end with a final message, or the plain one where the form has none."""
        if self.final_end is None:
            return self.end
        return compact({"finalMessage": message}) + self.final_end

    def error(self, error: Mapping[str, object]) -> str:
        """The end after a failure."""
        return self.error_before + compact(error) + self.error_after


def framing(
    writer: Writer, kind: QueryKind, query_id: str, schema: Schema, *, schema_text: str | None = None
) -> Framing:
    """How one response is framed.

    Args:
        writer: The form.
        kind: What is answered.
        query_id: The query's id.
        schema: Its columns.
        schema_text: Text of the v1 header, where it differs from the columns' own.
    """
    if writer in ("delimited", "json_array"):
        return _query_stream(writer, query_id, schema)
    header = "[" + compact({"header": {"queryId": query_id, "schema": schema_text or schema.text}})
    legacy = writer == "legacy"
    content_type = JSON if legacy else V1
    if kind == "pull_table":
        return Framing(
            content_type=content_type,
            head=header,
            before_row=',\n{"row":{"columns":[',
            after_row="]}}",
            after_tombstone=None,
            end="]",
            final_end=None,
            error_before=',\n{"errorMessage":',
            error_after="}]\n" if legacy else "}]",
        )
    return Framing(
        content_type=content_type,
        head=header + ",\n",
        before_row='{"row":{"columns":[',
        after_row="]}},\n",
        after_tombstone='],"tombstone":true}},\n',
        end="]\n" if legacy else "]",
        final_end="]\n" if legacy else "]",
        error_before='\n{"errorMessage":' if legacy else '{"errorMessage":',
        error_after="},\n" if legacy else "},\n]",
        keepalive="\n" if legacy and kind == "push" else "",
    )


def _query_stream(writer: Writer, query_id: str, schema: Schema) -> Framing:
    columns = list(schema)
    head = compact(
        {
            "queryId": query_id,
            "columnNames": [column.name for column in columns],
            "columnTypes": [column.type.text for column in columns],
        }
    )
    if writer == "delimited":
        return Framing(DELIMITED, head + "\n", "[", "]\n", None, "", None, "", "\n")
    return Framing(JSON, "[" + head, ",[", "]", None, "]", None, ",", "]")
