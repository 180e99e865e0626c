"""Decode response rows into Arrow exactly; every error names row and column."""

from ksql_lake.decode.answer import AnswerDecoder
from ksql_lake.decode.decoder import RowDecoder

__all__ = ["AnswerDecoder", "RowDecoder"]
