"""Answers of real ksqlDB servers, as they were recorded."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def recorded(file: str, name: str) -> tuple[str, list[bytes]]:
    """Return the schema text and the rows of one recorded answer.

    Args:
        file: Name of the recording's file, without `.jsonl`.
        name: Name of the exchange.
    """
    lines = (_FOLDER / f"{file}.jsonl").read_text("utf-8").splitlines()
    exchange: dict[str, Any] = next(found for found in map(json.loads, lines) if found["name"] == name)
    header, *rows = base64.b64decode(exchange["response"]["body_base64"]).split(b"\n")
    schema: str = json.loads(header.removeprefix(b"[").removesuffix(b","))["header"]["schema"]
    return schema, [row.removesuffix(b",").removesuffix(b"]") for row in rows if row.startswith(b'{"row":')]
