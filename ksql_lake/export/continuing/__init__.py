"""Reading only the new rows of a derived stream that carries its source's offsets, from continuation tokens."""

from ksql_lake.export.continuing.continued_reading import ContinuedReading
from ksql_lake.export.continuing.preconditions import Condition, FallBackError, check_conditions
from ksql_lake.export.continuing.resumption import continued

__all__ = ["Condition", "ContinuedReading", "FallBackError", "check_conditions", "continued"]
