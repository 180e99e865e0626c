"""Response rows to Arrow: every type exact, the bad row and column named.

The doors are `RowDecoder` and, where columns travel in parts, `AnswerDecoder`. Inside: `forms` says which
columns do, `assembly` puts them together; `exact` holds the rules and makes every error, `columns` (with
`wire`) and `placed` (with `structure` and `nested`) do the same faster or step aside, `literals` and `times`
know single values. It refuses to know where rows come from or where batches go.
"""

from ksql_lake.decode.answer import AnswerDecoder
from ksql_lake.decode.decoder import RowDecoder

__all__ = ["AnswerDecoder", "RowDecoder"]
