"""A table read partition by partition, each from the one node that holds it, as one answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from ksql_lake.errors import KsqlError, NotHereError, NotQueryableError, ProtocolError, ServerUnavailableError
from ksql_lake.export.pipeline import side_by_side
from ksql_lake.ksqldb import Header, KsqlClient, QueryKind, QueryResponse, RowBlock
from ksql_lake.ksqldb.response import BLOCK

AHEAD = 3
"""How many partitions are asked for at once."""


class Parts:
    """The answers of a table's partitions, one after the other.

    Args:
        statement: The pull query of the whole table.
        nodes: Node -> its client.
        partitions: The partitions of the table's state.

    Attributes:
        answered: Partition -> the node that answered.
        block_bytes: How large blocks of rows should be.
    """

    def __init__(self, statement: str, nodes: Mapping[str, KsqlClient], partitions: Sequence[int]) -> None:
        self.answered: dict[int, str] = {}
        self.block_bytes = BLOCK
        self._statement = statement
        self._nodes = dict(nodes)
        self._partitions = list(partitions)
        self._responses: list[QueryResponse] = []
        self._open = ExitStack()
        self._closed = False

    def open(self) -> None:
        """Ask for the first partition, whose header is that of all.

        Raises:
            NotHereError: No node answers.
            KsqlError: A node refused, broke off or could not be reached.
        """
        self._ask(self._partitions[0])

    @property
    def header(self) -> Header:
        """Query id and schema text of the first part."""
        return self._responses[0].header

    @property
    def legacy(self) -> bool:
        """Whether the writer answers that reports when a node does not hold a partition."""
        return all(response.sent.legacy for response in self._responses)

    @property
    def bytes_read(self) -> int:
        """Bytes of all answers so far."""
        return sum(response.bytes_read for response in self._responses)

    def __iter__(self) -> Iterator[RowBlock]:
        """Yield the rows, partition by partition; ends only when every partition was answered completely.

        Raises:
            NotHereError: A partition was answered by no node.
            KsqlError: An answer broke off or reported an error.
        """
        first_row = 0
        yield from (first := self._responses[0])
        first_row += first.rows_read
        for response in side_by_side(self._partitions[1:], self._ask, threads=AHEAD):
            if response.header.schema_text != self.header.schema_text:
                raise ProtocolError(
                    f"two nodes describe the table differently: {self.header.schema_text} and "
                    f"{response.header.schema_text}",
                    hint="Was the table replaced meanwhile? Export again.",
                )
            response.block_bytes = self.block_bytes
            for block in response:
                yield RowBlock(block.data, block.count, first_row + block.first_row, block.breaks)
            first_row += response.rows_read

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self._open.close()

    def _ask(self, partition: int) -> QueryResponse:
        """Ask one node after another until the one answers that holds a partition."""
        refusals: list[str] = []
        for name in self._in_order(partition):
            client = self._nodes[name]
            response: QueryResponse | None = None
            try:
                response = client.query(
                    self._statement,
                    kind=QueryKind.PULL_TABLE,
                    request={_SKIP_FORWARDING: True, _PARTITION: str(partition)},
                )
                response.look_ahead()
            except (NotHereError, NotQueryableError, ServerUnavailableError) as error:
                refusals.append(f"{name}: {error.message}")
                if response is not None:
                    response.close()
                continue
            except KsqlError:
                if response is not None:
                    response.close()
                raise
            self._open.callback(response.close)
            if self._responses and response.sent.legacy != self._responses[0].sent.legacy:
                # The other writer answers for a partition that the node does not hold: no rows, complete.
                raise NotHereError(
                    f"the node {name} refuses the writer that reports what it does not hold",
                    hint="The table is read in another way.",
                )
            if self._closed:  # the answer is no longer needed
                response.close()
            self._responses.append(response)
            self.answered[partition] = name
            return response
        raise NotHereError(
            f"no node answers for partition {partition} of the table: {'; '.join(refusals)}",
            hint="A node is missing, restarting or moving its work; the table is read again.",
        )

    def _in_order(self, partition: int) -> list[str]:
        """Return the nodes, beginning at another node for each partition."""
        names = list(self._nodes)
        turn = partition % len(names)
        return names[turn:] + names[:turn]


_SKIP_FORWARDING = "request.ksql.query.pull.skip.forwarding"
_PARTITION = "request.ksql.query.pull.partition"
