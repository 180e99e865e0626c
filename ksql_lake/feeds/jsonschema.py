"""The JSON Schema of a feed file, for editors: completion, hover texts, red lines while typing.

It says what one key may hold; rules between keys and files are told by `ksql-lake feeds validate`.
"""

from __future__ import annotations

from typing import Any

from ksql_lake.feeds.model import FEED_ADAPTER


def feed_json_schema() -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of a feed file."""
    schema = FEED_ADAPTER.json_schema()
    for name in ("StreamFeed", "TableFeed"):
        address = {"type": "string", "description": "Where an editor finds this schema."}
        schema["$defs"][name]["properties"]["$schema"] = address
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ksql-lake feed", **schema}
