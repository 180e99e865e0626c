"""Reading only what is new of a derived stream that carries its source's offsets: from continuation tokens."""

from ksql_lake.export.continuing.conditions import Condition, FallBackError, check_conditions
from ksql_lake.export.continuing.opening import AnyContinued, continued
from ksql_lake.export.continuing.reading import ContinuedReading

__all__ = ["AnyContinued", "Condition", "ContinuedReading", "FallBackError", "check_conditions", "continued"]
