"""What the rows of an early release mean, which recorded it nowhere but in the footers of its data files.

One footer is read, of the newest file; the next export records what it learns, and no footer is read again.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from ksql_lake.errors import LakeError
from ksql_lake.lake.footer import footer_facts
from ksql_lake.lake.log import CommitLog
from ksql_lake.lake.meaning import Meaning
from ksql_lake.lake.state import FeedState


def early_meaning(log: CommitLog, state: FeedState) -> Meaning | None:
    """Give what is known of the meaning of rows that were committed without it; None when there are none."""
    files = list(state.files())
    if not files:
        return None
    source = state.last_read.source if state.last_read else ""
    try:
        with log.storage.open(log.layout.data(files[-1].path)) as data, pq.ParquetFile(data) as parquet:
            facts = footer_facts(parquet)
    except (LakeError, OSError, pa.ArrowException):
        facts = {}  # lost or damaged: comparing its rows, and doctor, tell that
    if state.kind == "table":
        return Meaning(source=source)
    return Meaning(
        source=source,
        timezone=facts.get("timezone", ""),
        event_time=facts.get("event_time", ""),
        event_unit=facts.get("event_time_unit", "ms") if facts else "",
    )
