"""Every error ksql-lake raises on purpose, in one tree.

    KsqlLakeError
    ├── ConfigError ................ fix    settings or arguments that cannot work
    │   ├── SettingsError .......... fix    the environment
    │   ├── FeedError .............. fix    a feed file; lists all of its problems
    │   └── UnknownFeedError ....... fix    a name that no feed has
    ├── KsqlError .................. stop   the server's side of the conversation
    │   ├── ServerUnavailableError . retry  refused, reset, timed out, 503
    │   ├── ServerBusyError ........ retry  429 and the limits that only speak in text
    │   ├── IncompleteResponseError  retry  the answer ended before it was complete
    │   ├── QueryFailedError ....... retry  an error inside an answer that had begun
    │   ├── StatementError ......... fix    the server refused the statement
    │   ├── UnsendableError ........ fix    a row holds a value for which the server has no text
    │   ├── NotQueryableError ...... fix    the source cannot be read by a pull query
    │   ├── PropertyRefusedError ... fix    the server refuses a property that a query needs
    │   ├── QueryStalledError ...... fix    heartbeats, but no row and no end
    │   ├── NotHereError ........... retry  this node does not hold the partition; another one may
    │   ├── NotBuiltError .......... fix    the query behind a table has not consumed its source
    │   ├── EvidenceError .......... fix    what was read cannot be shown to be whole
    │   ├── SpoolFullError ......... fix    an answer outgrew the room it may wait in
    │   ├── TopicRecreatedError .... fix    the topic is another one than was read before
    │   ├── UnauthorizedError ...... fix    401 and 403
    │   └── ProtocolError .......... stop   not what a ksqlDB server says
    ├── SchemaError ................ stop   a type text that ksqlDB does not produce
    ├── DecodeError ................ stop   one value of one row does not fit its type
    └── LakeError .................. stop   the lake's side
        ├── StoreError ............. stop   the object store said something that is not understood
        │   ├── StoreUnavailableError retry unreachable, too slow, or asking to slow down
        │   └── StoreRefusedError .. fix    credentials or permissions
        ├── WriteError ............. fix    disk full, read-only, permission, failed fsync
        ├── ConflictError .......... retry  another writer committed first
        ├── SchemaChangeError ...... fix    the source's columns no longer fit the lake's
        ├── MeaningChangeError ..... fix    the feed's rows would mean something else than those that are held
        ├── SourceRecreatedError ... fix    the source was made anew, and its rows came back as new ones
        ├── SnapshotRefusedError ... fix    a table snapshot that is suspiciously small
        ├── VersionError ........... fix    a table version that is not the open one
        └── CorruptLakeError ....... fix    files and manifests disagree; doctor tells more

The type answers the caller's only question: `recovery` is RETRY (the same call may succeed later),
FIX (someone must change something first) or STOP (neither helps; it is a defect or foreign data).
This module refuses to import anything: every other room may import it.
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
"""Characters of a message: a server may answer with a page, or with ten thousand names."""
# What a terminal would obey instead of showing: control characters, and marks that turn the writing direction.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


MASK = "***"
"""What stands where a secret was, in every text of ours."""
_SHORTEST_SECRET = 6
"""Characters of a secret that is looked for in texts: a shorter one would be found in words."""
_secrets: set[str] = set()


def keep_secret(*texts: str) -> None:
    """Keep these texts out of everything an error of this process says from now on, whoever said them first.

    A server or a proxy may repeat what it was sent; its words become part of our errors.
    """
    _secrets.update(text for text in texts if len(text) >= _SHORTEST_SECRET)


def without_secrets(text: str, *more: str) -> str:
    """Return a text with the mask in place of every kept secret, and of `more` of them.

    Hide them before a text is cut, or a part of one would stay.
    """
    for secret in (*_secrets, *more):
        text = text.replace(secret, MASK)
    return text


def printable(text: str) -> str:
    """Return a text that any terminal, log and file can hold: without secrets, bounded, printable."""
    text = without_secrets(text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text):,} characters)"
    return _UNPRINTABLE.sub(lambda match: ascii(match.group())[1:-1], text)


class KsqlLakeError(Exception):
    """The root of the tree: a sentence, where it happened, and what to do next.

    Args:
        message: What happened, one sentence.
        hint: What to do next; may be empty.
        **where: Location by name (`feed`, `partition`, `path`, `row`, `column`, ...), rendered in the order
            given, outermost first.
    """

    recovery: ClassVar[Recovery] = Recovery.STOP

    def __init__(self, message: str, *, hint: str = "", **where: object) -> None:
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.hint = printable(hint)
        self.where: dict[str, object] = {name: value for name, value in where.items() if value is not None}

    def at(self, **where: object) -> Self:
        """Return this error with an outer location put in front; what an inner room already said stays."""
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
        # The default would call the class with the message alone and lose the rest between processes.
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
    """The server, or the way to it, did something other than answer."""


class ServerUnavailableError(KsqlError):
    """The server could not be reached, went away, kept silent too long, or said 503."""

    recovery = Recovery.RETRY


class ServerBusyError(KsqlError):
    """The server refused for now: 429, or one of the limits that only speak in their text."""

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
    """The server gave up at a row of which it cannot write one of the values, and will at every try."""

    recovery = Recovery.FIX


class NotQueryableError(KsqlError):
    """The source exists, but no pull query can read it."""

    recovery = Recovery.FIX


class PropertyRefusedError(KsqlError):
    """The server refuses a property that a query carries.

    Args:
        message: What was refused.
        names: The properties as the server names them.
        session_ms: The length of a consumer's session that the broker does not allow; a shorter one may do.
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
    """The node that was asked does not hold the partition that was asked for."""

    recovery = Recovery.RETRY


class NotBuiltError(KsqlError):
    """The query behind a table has not consumed its source, so a pull query would miss rows."""

    recovery = Recovery.FIX


class EvidenceError(KsqlError):
    """The rows that were read cannot be shown to be all of them, as far as the feed demands it."""

    recovery = Recovery.FIX


class SpoolFullError(KsqlError):
    """An answer outgrew the disk space in which it may wait for its reader."""

    recovery = Recovery.FIX


class TopicRecreatedError(KsqlError):
    """The source's topic is not the one whose offsets the lake knows."""

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
    """Something about the lake's own files."""


class StoreError(LakeError):
    """The object store, or the way to it, did not do what was asked."""


class StoreUnavailableError(StoreError):
    """The object store could not be reached, was too slow, or asked to slow down."""

    recovery = Recovery.RETRY


class StoreRefusedError(StoreError):
    """The object store did not accept the credentials, or they do not allow this."""

    recovery = Recovery.FIX


class WriteError(LakeError):
    """A file could not be written, synced or renamed; nothing is half visible."""

    recovery = Recovery.FIX


class ConflictError(LakeError):
    """Another writer committed first, or this writer's staging was cleared; plan again against the winner."""

    recovery = Recovery.RETRY


class SchemaChangeError(LakeError):
    """The source's columns changed in a way the feed's `on_schema_change` does not allow."""

    recovery = Recovery.FIX


class MeaningChangeError(LakeError):
    """A feed's source, server, days, identity or names are not those of the rows that the lake holds."""

    recovery = Recovery.FIX


class SourceRecreatedError(LakeError):
    """The source was made anew, and rows of days that were read before came back as new ones."""

    recovery = Recovery.FIX


class SnapshotRefusedError(LakeError):
    """A table snapshot is suspiciously smaller than the version before it."""

    recovery = Recovery.FIX


class VersionError(LakeError):
    """A table version other than the open one was asked for."""

    recovery = Recovery.FIX


class CorruptLakeError(LakeError):
    """Files and manifests disagree."""

    recovery = Recovery.FIX
