"""The four ways to frame a response: v1 rows (two writers), delimited lines, one JSON array."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ksql_lake.devserver.sql.query_plan import QueryKind
from ksql_lake.schema import Schema

Writer = Literal["v1", "legacy", "delimited", "json_array"]
Parts = tuple[str, ...]
"""Text, each element one HTTP chunk."""

V1 = "application/vnd.ksql.v1+json"
DELIMITED = "application/vnd.ksqlapi.delimited.v1"
JSON = "application/json"

TABLE_CHUNK = 5200
"""Bytes after which the newer writer ends a chunk of a table pull, after a row."""
LEGACY_TABLE_CHUNK = 51_000
LONG_STRING = 250
"""Characters of a string from which on the older writer splits a stream's row over several chunks."""


def compact(value: object) -> str:
    """Return JSON without white space, non-ASCII characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Framing:
    """Everything around the values of a response, and how it is cut into chunks.

    Attributes:
        head: Text before the first row.
        before_row: Text before a row's first value.
        after_row: Text after a row's last value.
        after_tombstone: The same for a deleted table key; None where the form cannot express it.
        gap: Text after each row, as a separate chunk.
        end: A clean end without final message.
        final_before: Text before a final message, except that of a limit.
        final_end: Text after a final message; None where the form has none.
        error_head: Text before an error, outside its chunk.
        keepalive: Text sent in each second without a row.
        before_mark: Text before a continuation token.
        after_mark: Text after it.
        gathered: Bytes that rows are gathered up to before they are sent as a chunk; 0 sends each row as one.
        first_alone: Whether the first row leaves with the head, so that only the others are gathered.
        splits: Whether rows with long strings are split over several chunks.
        transfer_first: Whether `Transfer-Encoding` comes before `content-type`.
        closable: Whether `/close-query` knows the query.
    """

    content_type: str
    head: Parts
    before_row: str
    after_row: str
    after_tombstone: str | None
    end: Parts
    final_end: Parts | None
    error_before: str
    error_after: str
    error_end: Parts = ()
    error_head: Parts = ()
    gap: str = ""
    final_before: Parts = ()
    keepalive: str = ""
    before_mark: str = '{"continuationToken":{"continuationToken":"'
    after_mark: str = '"}},\n'
    gathered: int = 0
    first_alone: bool = False
    splits: bool = False
    transfer_first: bool = True
    closable: bool = True

    def final(self, message: str, *, limit: bool = False) -> Parts:
        """Return the end with a final message, or the plain end where the form has none."""
        if self.final_end is None:
            return self.end
        return (*(() if limit else self.final_before), compact({"finalMessage": message}), *self.final_end)

    def token(self, token: str) -> Parts:
        """Return a continuation token, between two rows."""
        return (self.before_mark + token + self.after_mark, self.gap)

    def error(self, error: Mapping[str, object]) -> Parts:
        """Return the end after a failure."""
        return (
            *self.error_head,
            self.error_before + compact(error) + self.error_after,
            *self.error_end,
        )


def framing(
    writer: Writer, kind: QueryKind, query_id: str, schema: Schema, *, schema_text: str | None = None
) -> Framing:
    """Return how one response is framed.

    Args:
        writer: The form.
        kind: The kind of query.
        query_id: The query's id.
        schema: Its columns.
        schema_text: Text of the v1 header, where it differs from the columns' own.
    """
    if writer in ("delimited", "json_array"):
        return _query_stream(writer, query_id, schema)
    header = "[" + compact({"header": {"queryId": query_id, "schema": schema_text or schema.text}})
    if kind == "pull_table":
        return _table(header, legacy=writer == "legacy")
    return _legacy_stream(header, kind) if writer == "legacy" else _stream(header)


def _table(header: str, *, legacy: bool) -> Framing:
    return Framing(
        content_type=JSON if legacy else V1,
        head=(header,),
        before_row=',\n{"row":{"columns":[',
        after_row="]}}",
        after_tombstone=None,
        end=("]",),
        final_end=None,
        error_before=',\n{"errorMessage":',
        error_after="}" if legacy else "}]",
        error_end=("]\n",) if legacy else (),
        gathered=LEGACY_TABLE_CHUNK if legacy else TABLE_CHUNK,
        first_alone=legacy,
        transfer_first=not legacy,
        closable=not legacy,
    )


def _stream(header: str) -> Framing:
    return Framing(
        content_type=V1,
        head=(header + ",\n",),
        before_row='{"row":{"columns":[',
        after_row="]}},\n",
        after_tombstone='],"tombstone":true}},\n',
        end=("]",),
        final_end=("]",),
        error_before='{"errorMessage":',
        error_after="},\n",
        error_end=("]",),
    )


def _legacy_stream(header: str, kind: QueryKind) -> Framing:
    # Its pull queries notice their end when they have waited for a row, and waiting writes a newline.
    waited = () if kind == "push" else ("\n",)
    return Framing(
        content_type=JSON,
        head=(header, ",\n"),
        before_row='{"row":{"columns":[',
        after_row="]}}",
        after_tombstone='],"tombstone":true}}',
        gap=",\n",
        end=(*waited, "]\n"),
        final_before=waited,
        final_end=("]\n",),
        error_head=waited,
        error_before='\n{"errorMessage":',
        error_after="}",
        error_end=(",\n",),
        keepalive="\n",
        after_mark='"}}',
        splits=True,
        transfer_first=False,
        closable=False,
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
    before = '{"continuationToken":"'
    if writer == "delimited":
        lines = Framing(DELIMITED, (head + "\n",), "[", "]\n", None, (), None, "", "\n")
        return replace(lines, before_mark=before, after_mark='"}\n')
    array = Framing(JSON, ("[" + head,), ",[", "]", None, ("]",), None, ",", "", ("]",))
    return replace(array, before_mark="," + before, after_mark='"}')
