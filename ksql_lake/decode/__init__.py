"""Response rows to Arrow: every type exact, the bad row and column named.

The door is `RowDecoder`. Inside: `exact` holds the rules and makes every error, `columns` (with `wire`) and
`flat` (with `structure` and `proof`) do the same faster or step aside, `literals` and `times` know single
values. It refuses to know where rows come from or where batches go.
"""

from ksql_lake.decode.decoder import RowDecoder

__all__ = ["RowDecoder"]
