"""Reading by push query what no pull query can read: from the first row on, until the query has caught up."""

from ksql_lake.export.push.push_query import listen
from ksql_lake.export.push.push_reading import PositionsUntoldError, PushReading

__all__ = ["PositionsUntoldError", "PushReading", "listen"]
