"""Changes of what all nodes of a service share: statements and rows, one entry after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ksql_lake.devserver.faults import Fault, FaultBoard
from ksql_lake.devserver.ksql_errors import bad_request
from ksql_lake.devserver.service.commands import Commands
from ksql_lake.devserver.service.descriptions import Entity
from ksql_lake.devserver.sql.parsing import parse_statements
from ksql_lake.devserver.sql.statements import Statement
from ksql_lake.devserver.store import transactions
from ksql_lake.devserver.store.data_folder import load_folder
from ksql_lake.devserver.store.intake import append_json_lines
from ksql_lake.devserver.store.sample import load_sample
from ksql_lake.devserver.store.sources import Catalog
from ksql_lake.devserver.store.topic import LogChange, change_log

Entry = dict[str, Any]
"""One change: `kind`, `at` (the clock's milliseconds) and what the kind needs."""


@dataclass(eq=False)
class Ledger:
    """Applies changes: at once, or through `submit`, which puts them into one order for all nodes."""

    commands: Commands
    catalog: Catalog
    faults: FaultBoard
    submit: Callable[[Entry], Any] | None = None

    def statement(self, statement: Statement, host: str) -> Entity | None:
        """Run a statement that changes something.

        Args:
            statement: The statement.
            host: How the client addresses this node.

        Raises:
            RefusedError: It cannot be run.
        """
        text = statement.text if statement.text.endswith(";") else statement.text + ";"
        entity: Entity | None = self._change({"kind": "statement", "text": text, "host": host})
        return entity

    def rows(self, name: str, body: bytes, transaction: str | None = None) -> int:
        """Append JSON lines to a source; returns how many.

        Args:
            name: The source.
            body: The lines.
            transaction: The transaction of the rows, open until it is ended.

        Raises:
            RefusedError: They do not fit; then none is added.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise bad_request(f"the rows are not UTF-8: {error}") from None
        return int(self._change({"kind": "rows", "source": name, "lines": text, "transaction": transaction}))

    def end_transaction(self, name: str, transaction: str, partitions: list[int], *, commit: bool) -> None:
        """Commit or abort a transaction.

        Args:
            name: The source.
            transaction: Its name.
            partitions: Where it began beside those of its rows: they get nothing but a marker.
            commit: Whether its rows count.

        Raises:
            RefusedError: There is no open transaction, and no partition was named.
        """
        entry = {"kind": "end", "source": name, "transaction": transaction, "partitions": partitions}
        self._change({**entry, "commit": commit})

    def change_log(self, name: str, change: LogChange) -> None:
        """Change a source's log.

        Raises:
            RefusedError: There is no such log, or the change is not possible.
        """
        plain = msgspec.to_builtins(change, str_keys=True)
        self._change({"kind": "log", "source": name, "change": plain})

    def hold(self, faults: tuple[Fault, ...]) -> None:
        """Replace the switches that delay persistent queries."""
        self._change({"kind": "hold", "faults": msgspec.to_builtins(faults)})

    def _change(self, entry: Entry) -> Any:
        entry = {**entry, "at": int(time.time() * 1000)}
        return self.apply(entry) if self.submit is None else self.submit(entry)

    def apply(self, entry: Entry) -> Any:
        """Apply one entry to this node.

        Raises:
            RefusedError: It cannot be applied; nothing has changed.
            ConfigError: A file of the data folder cannot be used.
        """
        with self.catalog.clock_at(entry["at"]):
            match entry:
                case {"kind": "statement", "text": text, "host": host}:
                    return [self.commands.execute(statement, host) for statement in parse_statements(text)][-1]
                case {"kind": "rows", "source": name, "lines": lines, "transaction": transaction}:
                    return self._append(name, lines, transaction)
                case {"kind": "end", "source": name, "transaction": transaction}:
                    return self._end(name, transaction, entry["partitions"], commit=entry["commit"])
                case {"kind": "log", "source": name, "change": change}:
                    typed = msgspec.convert(change, LogChange, str_keys=True, strict=False)
                    return change_log(name, typed, self.catalog)
                case {"kind": "sample", "rows": rows, "days": days}:
                    return load_sample(self.catalog, rows=rows, days=days)
                case {"kind": "folder", "path": path}:
                    return load_folder(Path(path), self.catalog)
                case {"kind": "hold", "faults": faults}:
                    self.faults.hold(msgspec.convert(faults, tuple[Fault, ...]))
                    return self.catalog.catch_up()
        raise bad_request(f"a server of this release does not know the entry {entry['kind']!r}")

    def _append(self, name: str, lines: str, transaction: str | None) -> int:
        source = self.catalog.describe(name)
        if transaction is None:
            return append_json_lines(name, lines.encode(), self.catalog)
        with transactions.appending(source, transaction, self.catalog.database):
            return append_json_lines(name, lines.encode(), self.catalog)

    def _end(self, name: str, transaction: str, partitions: list[int], *, commit: bool) -> None:
        source = self.catalog.describe(name)
        if partitions:
            transactions.open_one(source, transaction).partitions.update(partitions)
        if not transactions.end(source, transaction, commit=commit):
            raise bad_request(f"{name} has no open transaction {transaction!r}")
        self.catalog.follow(source)
