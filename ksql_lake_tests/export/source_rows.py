"""Values on their way into the embedded server, from the numbers that a lake holds of them.

Times are integers: milliseconds of the day, epoch days, epoch milliseconds. A MAP is a list of pairs.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from ksql_lake.schema import Array, Decimal, KsqlType, Map, Primitive, Struct
from ksql_lake_tests.decode.writing import java_double

DAY = 86_400_000


def door_value(kind: KsqlType, value: Any) -> Any:
    """Return a value as the server's door for rows takes it in JSON."""
    if value is None:
        return None
    match kind:
        case Array(element):
            return [door_value(element, item) for item in value]
        case Map(_, item):
            return {str(key): door_value(item, entry) for key, entry in value}
        case Struct(fields):
            return {name: door_value(inner, value[name]) for name, inner in fields}
        case Decimal():
            return format(value, "f")
        case Primitive.DOUBLE:
            return value if math.isfinite(value) else java_double(value)
        case Primitive.BYTES:
            return base64.b64encode(value).decode()
        case Primitive.TIME:
            return (
                f"{value // 3_600_000:02}:{value // 60_000 % 60:02}:{value // 1000 % 60:02}.{value % 1000:03}"
            )
        case Primitive.DATE:
            return _date(value)
        case Primitive.TIMESTAMP:
            days, rest = divmod(value, DAY)
            return f"{_date(days)} {_time(rest)}"
        case _:
            return value


def _time(milli: int) -> str:
    seconds = milli // 1000
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milli % 1000:03}"


def _date(days: int) -> str:
    year, month, day = str(np.datetime64(days, "D")).rsplit("-", 2)
    if int(year) > 0:
        return f"{int(year):04}-{month}-{day}"
    return f"{1 - int(year):04}-{month}-{day} (BC)"
