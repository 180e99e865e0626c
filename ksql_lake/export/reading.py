"""A running query as the landing code sees it, however it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ksql_lake.feeds.model import Feed
from ksql_lake.lake.commit.manifest import Evidence
from ksql_lake.lake.commit.marks import Pushed
from ksql_lake.schema import Schema

Flags = npt.NDArray[np.bool_]


class TableChanges(Protocol):
    """A table's changes from the first on: the last change of each key makes the snapshot."""

    @property
    def feed(self) -> Feed:
        """The table's feed."""
        ...

    @property
    def schema(self) -> Schema:
        """Columns of the snapshot."""
        ...

    @property
    def log_schema(self) -> Schema:
        """Columns of the changes: the snapshot's, and columns that are only read."""
        ...

    @property
    def key(self) -> list[str]:
        """The key columns, as they are called in `log_schema`."""
        ...

    def changes(self) -> Iterator[tuple[pa.RecordBatch, Flags]]:
        """Yield the changes in their order, and which of them delete their keys.

        Raises:
            KsqlError: The query broke off, failed, makes no progress, or ended without being asked to.
            DecodeError: A value does not fit its column.
        """
        ...


class Reading(Protocol):
    """One running query: iterate it for record batches in the lake's columns.

    Attributes:
        on_wait: Called repeatedly while nothing comes; may raise to end the reading.
    """

    on_wait: Callable[[], None]

    @property
    def schema(self) -> Schema:
        """Columns that land, in the lake's names."""
        ...

    @property
    def read_at(self) -> datetime:
        """When the query was sent (UTC)."""
        ...

    @property
    def statement(self) -> str:
        """The query as sent."""
        ...

    @property
    def query_id(self) -> str | None:
        """The query's name on the server."""
        ...

    @property
    def nodes(self) -> int:
        """How many nodes answer for the rows; 0 where that is not known."""
        ...

    @property
    def rows(self) -> int:
        """Rows received so far."""
        ...

    @property
    def bytes_read(self) -> int:
        """Response bytes so far."""
        ...

    @property
    def replaced_texts(self) -> int:
        """How many texts were changed to be valid Unicode."""
        ...

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the commit notes about the rows beside `pushed`, by its fields."""
        ...

    @property
    def pushed(self) -> Pushed | None:
        """How a push query was read, for the commit; None for a pull query.

        Raises:
            ProtocolError: The query has not caught up.
        """
        ...

    @property
    def log(self) -> TableChanges | None:
        """The changes from which the rows are made; None where rows land as they come."""
        ...

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows that land; ends normally only when all of them came.

        Raises:
            KsqlError: The query broke off, failed, or makes no progress.
            DecodeError: A value does not fit its column.
        """
        ...

    def evidence(self) -> Evidence:
        """Return what shows that all rows came; to be called after the last row.

        Raises:
            KsqlError: Something showed that rows are missing.
        """
        ...
