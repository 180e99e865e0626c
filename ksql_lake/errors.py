"""Every error that ksql-lake raises on purpose, in one tree.

    KsqlLakeError
    ├── ConfigError ................ fix    settings or arguments that cannot work
    │   ├── SettingsError .......... fix    the environment
    │   ├── FeedError .............. fix    a feed file; lists all of its problems
    │   └── UnknownFeedError ....... fix    a name that no feed has
    ├── KsqlError .................. stop   the server or the connection to it
    │   ├── ServerUnavailableError . retry  refused, reset, timed out, 503
    │   ├── ServerBusyError ........ retry  429 and limits that show only in the text
    │   ├── IncompleteResponseError  retry  the answer ended before it was complete
    │   ├── QueryFailedError ....... retry  an error inside an answer that had begun
    │   ├── StatementError ......... fix    the server refused the statement
    │   ├── UnsendableError ........ fix    a row holds a value for which the server has no text
    │   ├── NotQueryableError ...... fix    the source cannot be read by a pull query
    │   ├── PropertyRefusedError ... fix    the server refuses a property that a query needs
    │   ├── QueryStalledError ...... fix    heartbeats, but no row and no end
    │   ├── NotHereError ........... retry  this node does not hold the partition; another one may
    │   ├── NotBuiltError .......... fix    the query behind a table has not consumed its source
    │   ├── EvidenceError .......... fix    the reading is not proven complete
    │   ├── SpoolFullError ......... fix    an answer needs more disk space than it may use
    │   ├── TopicRecreatedError .... fix    the topic was recreated since it was last read
    │   ├── UnauthorizedError ...... fix    401 and 403
    │   └── ProtocolError .......... stop   bytes that no ksqlDB server sends
    ├── SchemaError ................ stop   a type text that ksqlDB does not produce
    ├── DecodeError ................ stop   one value of one row does not fit its type
    └── LakeError .................. stop   the lake's files or storage
        ├── StoreError ............. stop   an unexpected answer of the object store
        │   ├── StoreUnavailableError retry unreachable, too slow, or asking to slow down
        │   └── StoreRefusedError .. fix    credentials or permissions
        ├── WriteError ............. fix    disk full, read-only, permission, failed fsync
        ├── ConflictError .......... retry  another writer committed first
        ├── SchemaChangeError ...... fix    the source's columns no longer fit the lake's
        ├── MeaningChangeError ..... fix    the feed's rows would mean something else than the lake's
        ├── SourceRecreatedError ... fix    the source was recreated, and its rows came back as new ones
        ├── SnapshotRefusedError ... fix    a table snapshot that is suspiciously small
        ├── VersionError ........... fix    a table version that is not the open one
        └── CorruptLakeError ....... fix    files and manifests disagree; see `ksql-lake doctor`

The type tells a caller what to do: `recovery` is RETRY (the same call may succeed later), FIX (a person must
change something first) or STOP (neither helps; it is a defect or foreign data). This module imports no other
module of the package, so every module may import it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, Self


class Recovery(StrEnum):
    """What a caller can do about an error."""

    RETRY = "retry"
    FIX = "fix"
    STOP = "stop"


_LONGEST = 4000
"""The most characters of a message: a server may answer with a page, or with ten thousand names."""
# Characters that a terminal obeys instead of showing: control characters, and marks of the writing direction.
_UNPRINTABLE = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


MASK = "***"
"""Replaces a secret in every text of ours."""
_SHORTEST_SECRET = 6
"""The least characters of a secret that is searched for: shorter ones would match ordinary words."""
_secrets: set[str] = set()


def keep_secret(*texts: str) -> None:
    """Hide these texts in every error of this process from now on.

    A server or a proxy may repeat what it was sent, and its words become part of our errors.
    """
    _secrets.update(text for text in texts if len(text) >= _SHORTEST_SECRET)


def without_secrets(text: str, *more: str) -> str:
    """Return a text with a mask for every secret of `keep_secret`, and for those in `more`.

    Call this before a text is cut, or a part of a secret would stay.
    """
    for secret in (*_secrets, *more):
        text = text.replace(secret, MASK)
    return text


def printable(text: str) -> str:
    """Return a text for any terminal, log and file: without secrets, cut to the limit, printable."""
    text = without_secrets(text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text):,} characters)"
    return re.sub(_UNPRINTABLE, lambda match: ascii(match.group())[1:-1], text)


class KsqlLakeError(Exception):
    """The root of the tree: a sentence, where it happened, and what to do next.

    Args:
        message: What happened, one sentence.
        hint: What to do next; may be empty.
        **where: Location by name (`feed`, `partition`, `path`, `row`, `column`, ...), shown in this order,
            outermost first.
    """

    recovery: ClassVar[Recovery] = Recovery.STOP

    def __init__(self, message: str, *, hint: str = "", **where: object) -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.hint = printable(hint)
        self.where: dict[str, object] = {name: value for name, value in where.items() if value is not None}

    def at(self, **where: object) -> Self:
        """Add an outer location in front and return this error; names that are already set stay."""
        outer = {name: value for name, value in where.items() if value is not None}
        self.where = {**outer, **self.where}
        return self

    @property
    def location(self) -> str:
        """The location as one short text, e.g. `feed transactions, partition 2025-01-15`."""
        return printable(", ".join(f"{name} {value}" for name, value in self.where.items()))

    def __str__(self) -> str:
        text = f"{self.location}: {self.message}" if self.where else self.message
        return f"{text}\n{self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        # By default the class is called with the message only, so the rest is lost between processes.
        return (_rebuild, (type(self), self.__dict__))


def _rebuild(kind: type[KsqlLakeError], state: dict[str, object]) -> KsqlLakeError:
    error = kind.__new__(kind, state.get("message", ""))
    error.__dict__.update(state)
    return error


class ConfigError(KsqlLakeError):
    """Settings or arguments that cannot work as given."""

    recovery = Recovery.FIX


class SettingsError(ConfigError):
    """The environment holds a value that cannot be used."""


class FeedError(ConfigError):
    """A feed file is wrong; `problems` lists everything found in it, each as `key: what`.

    Args:
        message: The summary sentence.
        problems: One line per problem.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = (), hint: str = "", **where: object) -> None:
        super().__init__(message, hint=hint, **where)
        self.problems = tuple(map(printable, problems))

    def __str__(self) -> str:
        head, *rest = super().__str__().split("\n")
        return "\n".join([head, *(f"  {problem}" for problem in self.problems), *rest])


class UnknownFeedError(ConfigError):
    """No feed has this name."""


class KsqlError(KsqlLakeError):
    """The server, or the connection to it, failed."""


class ServerUnavailableError(KsqlError):
    """The server could not be reached, closed the connection, was silent too long, or answered 503."""

    recovery = Recovery.RETRY


class ServerBusyError(KsqlError):
    """The server refused for now: 429, or a limit that shows only in the text."""

    recovery = Recovery.RETRY


class IncompleteResponseError(KsqlError):
    """The response ended without its proof of completeness, so none of its rows may land."""

    recovery = Recovery.RETRY


class QueryFailedError(KsqlError):
    """The server reported an error after the response had begun."""

    recovery = Recovery.RETRY


class StatementError(KsqlError):
    """The server understood the request and refused the statement."""

    recovery = Recovery.FIX


class UnsendableError(KsqlError):
    """The server cannot write a value of a row, and every retry fails at the same row."""

    recovery = Recovery.FIX


class NotQueryableError(KsqlError):
    """The source exists, but no pull query can read it."""

    recovery = Recovery.FIX


class PropertyRefusedError(KsqlError):
    """The server refuses a property that a query carries.

    Args:
        message: What was refused.
        names: The properties as the server names them.
        session_ms: The length of a consumer's session that the broker does not allow; a shorter one may work.
    """

    recovery = Recovery.FIX

    def __init__(
        self,
        message: str,
        *,
        names: Sequence[str] = (),
        session_ms: int | None = None,
        hint: str = "",
        **where: object,
    ) -> None:
        super().__init__(message, hint=hint, **where)
        self.names = tuple(names)
        self.session_ms = session_ms


class QueryStalledError(KsqlError):
    """A query sends heartbeats, but neither rows nor its end."""

    recovery = Recovery.FIX


class NotHereError(KsqlError):
    """The node does not hold the requested partition."""

    recovery = Recovery.RETRY


class NotBuiltError(KsqlError):
    """The query behind a table has not consumed its source, so a pull query would miss rows."""

    recovery = Recovery.FIX


class EvidenceError(KsqlError):
    """The evidence that a reading is complete is weaker than the feed demands."""

    recovery = Recovery.FIX


class SpoolFullError(KsqlError):
    """An answer outgrew the disk space in which it may wait for its reader."""

    recovery = Recovery.FIX


class TopicRecreatedError(KsqlError):
    """The source's topic is not the one to which the lake's marks belong."""

    recovery = Recovery.FIX


class UnauthorizedError(KsqlError):
    """The server did not accept the credentials, or they do not allow this."""

    recovery = Recovery.FIX


class ProtocolError(KsqlError):
    """The bytes are not what a ksqlDB server sends."""


class SchemaError(KsqlLakeError):
    """A schema text outside ksqlDB's grammar."""


class DecodeError(KsqlLakeError):
    """A row's values do not fit the response's schema; names row number, column and value."""


class LakeError(KsqlLakeError):
    """An error of the lake's files or storage."""


class StoreError(LakeError):
    """The object store, or the connection to it, failed."""


class StoreUnavailableError(StoreError):
    """The object store could not be reached, was too slow, or asked to slow down."""

    recovery = Recovery.RETRY


class StoreRefusedError(StoreError):
    """The object store did not accept the credentials, or they do not allow this."""

    recovery = Recovery.FIX


class WriteError(LakeError):
    """A file could not be written, synced or renamed; every visible file is whole."""

    recovery = Recovery.FIX


class ConflictError(LakeError):
    """Another run committed first, or this run's staging was cleared; plan again against the new state."""

    recovery = Recovery.RETRY


class SchemaChangeError(LakeError):
    """The source's columns changed in a way the feed's `on_schema_change` does not allow."""

    recovery = Recovery.FIX


class MeaningChangeError(LakeError):
    """A feed's source, server, days, identity or names are not those of the rows that the lake holds."""

    recovery = Recovery.FIX


class SourceRecreatedError(LakeError):
    """The source was recreated, and its rows of days that were read before came back as new ones."""

    recovery = Recovery.FIX


class SnapshotRefusedError(LakeError):
    """A table snapshot is suspiciously smaller than the version before it."""

    recovery = Recovery.FIX


class VersionError(LakeError):
    """A table version other than the open one was requested."""

    recovery = Recovery.FIX


class CorruptLakeError(LakeError):
    """Files and manifests disagree."""

    recovery = Recovery.FIX
