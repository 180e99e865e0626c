"""Reading by push query what no pull query can read: from the first row on, until the query has caught up."""

from ksql_lake.export.push.opening import listen
from ksql_lake.export.push.reading import PositionsUntoldError, PushReading

__all__ = ["PositionsUntoldError", "PushReading", "listen"]
