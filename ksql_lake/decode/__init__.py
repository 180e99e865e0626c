"""Decode response rows into Arrow, with every type exact and every error naming row and column."""

from ksql_lake.decode.answer import AnswerDecoder
from ksql_lake.decode.decoder import RowDecoder

__all__ = ["AnswerDecoder", "RowDecoder"]
