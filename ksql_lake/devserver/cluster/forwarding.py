"""Rows of a table that another node holds: asked of it over HTTP, row by row.

A body of the other node that ends cleanly counts as its whole part, as on the real server, even when the other
node was stopped in the middle of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from urllib.parse import urlsplit

import httptools
import msgspec

from ksql_lake.devserver.door import Reply

PATH = "/devserver/cluster/rows"
READ_BYTES = 1 << 16


class ForwardingError(Exception):
    """The other node did not answer, or its answer broke off."""


async def forwarded(
    url: str, statement: str, partitions: frozenset[int], *, patience: float
) -> AsyncGenerator[list[str], None]:
    """The texts of the values of each row, without the brackets around them, in blocks.

    Args:
        url: The other node.
        statement: The pull.
        partitions: Which it is to read.
        patience: Seconds of silence after which it is given up.

    Raises:
        ForwardingError: It refused, was silent, or its body broke off.
    """
    body = msgspec.json.encode({"statement": statement, "partitions": sorted(partitions)})
    try:
        async with asyncio.timeout(patience):
            reader, writer = await _post(url, PATH, body)
    except (OSError, TimeoutError) as error:
        raise ForwardingError(str(error) or "no answer") from None
    answer = Reply()
    parser = httptools.HttpResponseParser(answer)
    try:
        while not answer.complete:
            async with asyncio.timeout(patience):
                data = await reader.read(READ_BYTES)
            if not data:
                raise ForwardingError("its answer broke off")
            parser.feed_data(data)
            if parser.get_status_code() != 200:
                raise ForwardingError(f"it answered with status {parser.get_status_code()}")
            whole, newline, rest = bytes(answer.body).rpartition(b"\n")
            if newline:
                answer.body = bytearray(rest)
                yield whole.decode().split("\n")
    except (OSError, TimeoutError, httptools.HttpParserError) as error:
        raise ForwardingError(str(error) or "it fell silent") from None
    finally:
        writer.close()


async def asked(url: str, path: str, *, patience: float) -> bytes | None:
    """The body of a GET of another node; None when it does not answer in time."""
    with suppress(OSError, TimeoutError, httptools.HttpParserError):
        async with asyncio.timeout(patience):
            reader, writer = await _post(url, path, b"")
            answer = Reply()
            parser = httptools.HttpResponseParser(answer)
            try:
                while not answer.complete and (data := await reader.read(READ_BYTES)):
                    parser.feed_data(data)
            finally:
                writer.close()
            return bytes(answer.body) if answer.complete else None
    return None


async def _post(url: str, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer
