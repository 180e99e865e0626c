"""A column of base64 texts to bytes, all values at once.

It refuses by ValueError what is not canonical (another alphabet, missing padding, stray bits at the end), and
does not name the value: the exact reader does.
"""

from __future__ import annotations

import binascii

import numpy as np
import pyarrow as pa

_PAD = ord("=")


def binaries(texts: pa.StringArray) -> pa.BinaryArray:
    """Decode a column of base64 texts; NULL stays NULL.

    Raises:
        ValueError: A value is not base64 written the one canonical way.
    """
    valid, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4).astype(np.int64)
    begin, size = int(bounds[0]), int(bounds[-1] - bounds[0])
    bounds -= begin
    if (bounds & 3).any():
        raise ValueError("base64 without its padding")
    text = np.frombuffer(data, np.uint8, size, begin) if size else np.empty(0, np.uint8)
    padding = text == _PAD
    # At the end of each value stand no mark, one or two; the value before an empty one is looked at twice.
    last = padding.take(bounds[1:] - 1, mode="clip") & (np.diff(bounds) > 0) if size else padding[:0]
    two = last & padding.take(bounds[1:] - 2, mode="clip") if size else last
    shorter = last.astype(np.int64) + two if size else np.zeros(len(texts), np.int64)
    if np.count_nonzero(padding) != shorter.sum():
        raise ValueError("a padding that is not at the end")
    plain = text.tobytes().replace(b"=", b"A")
    decoded = np.frombuffer(binascii.a2b_base64(plain, strict_mode=True), np.uint8)
    if binascii.b2a_base64(decoded.tobytes(), newline=False) != plain:
        raise ValueError("not canonical base64")
    ends = bounds // 4 * 3
    if shorter.any():
        dropped = np.concatenate([ends[1:][last] - 1, ends[1:][two] - 2])
        if decoded[dropped].any():
            raise ValueError("stray bits at the end")
        kept = np.ones(len(decoded), np.bool_)
        kept[dropped] = False
        decoded = decoded[kept]
        ends[1:] -= np.cumsum(shorter)
    if texts.offset and valid is not None:
        valid = pa.array(texts.is_valid()).buffers()[1]
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(texts), [valid, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(decoded)]
    )
