"""Build, check and remove a feed's index in a table format. An index is derived from the manifests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, cast

import msgspec

from ksql_lake.errors import ConfigError, SchemaChangeError
from ksql_lake.lake import FeedState
from ksql_lake.lake.commit.log import CommitLog
from ksql_lake.lake.doctor import Finding, Problem
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage
from ksql_lake.lake.storage.local_storage import LocalStorage
from ksql_lake.lake.storage.locking import exclusive
from ksql_lake.register.contents import BuiltIndex, Contents, contents
from ksql_lake.register.damage import LINK, damage, digests, hint_damage, leads_astray
from ksql_lake.schema import Schema, parse_schema

Format = Literal["delta", "iceberg"]
FORMATS: tuple[Format, ...] = ("delta", "iceberg")
_PACKAGES = {"deltalake", "pyiceberg", "sqlalchemy"}
"""Packages that only the extras of the formats install."""


class Builder(Protocol):
    """The module that writes a format."""

    def build(self, storage: Any, folder: str, wanted: Contents, held: Schema | None) -> BuiltIndex:
        """Write the index in a folder with the wanted contents; `held` are its columns, None if new."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """The record of the commit from which an index was built.

    Attributes:
        format: `delta` or `iceberg`.
        commit: The feed's commit.
        digest: Digest of columns and files; see `Contents.digest`.
        columns: The columns, as ksqlDB schema text.
        head: As in `BuiltIndex`.
        root: The lake's address then, for formats that name files by full path; else empty.
        files: The SHA-256 of each of `BuiltIndex.files`; empty in records of older releases.
    """

    format: Format
    commit: int
    digest: str
    columns: str
    head: str
    root: str
    files: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Index:
    """An index, and the changes just made to it.

    Attributes:
        feed: Name of the feed.
        kind: `stream` or `table`.
        format: `delta` or `iceberg`.
        location: The path or address for readers of the format.
        files: How many Parquet files it has; None when there is nothing to index yet.
        records: How many rows they have.
        built: The changes; None when it was up to date.
    """

    feed: str
    kind: str
    format: Format
    location: str
    files: int | None
    records: int
    built: BuiltIndex | None

    def as_dict(self) -> dict[str, object]:
        """Return the index as data for JSON."""
        return {
            "feed": self.feed,
            "kind": self.kind,
            "format": self.format,
            "location": self.location,
            "files": self.files,
            "records": self.records,
            "changed": self.built is not None,
            "added": self.built.added if self.built else 0,
            "removed": self.built.removed if self.built else 0,
            "left_out": list(self.built.left_out) if self.built else [],
        }


def register(storage: Storage, layout: FeedLayout, form: Format) -> Index:
    """Build a feed's index, or bring it up to date.

    Raises:
        ConfigError: The format cannot index a lake in an object store, or its library is not installed.
        SchemaChangeError: The columns of a table's versions cannot be unified.
        WriteError: The disk is full or not writable.
    """
    _check_possible(storage, form)
    with exclusive(storage, layout):
        return _bring_up_to_date(storage, layout, form)


def _bring_up_to_date(storage: Storage, layout: FeedLayout, form: Format) -> Index:
    state = CommitLog(storage, layout).recover()
    wanted, location = contents(layout, state), storage.uri(layout.index(form))
    if wanted is None:
        return Index(layout.name, layout.kind, form, location, None, 0, None)
    built, note = None, read_note(storage, layout, form)
    broken = note is None or _broken(storage, layout, note)
    if note is None or broken or _behind(storage, layout, note, wanted):
        held = None if note is None or broken else parse_schema(note.columns)
        built = _builder(form).build(storage, layout.index(form), wanted, held)
        _write_note(storage, layout, form, wanted, built)
    return Index(layout.name, layout.kind, form, location, len(wanted.files), wanted.records, built)


def unregister(storage: Storage, layout: FeedLayout, form: Format) -> bool:
    """Remove a feed's index, but none of its data files; False when there was none."""
    with exclusive(storage, layout):
        known = read_note(storage, layout, form) is not None
        if known:
            storage.remove_folder(layout.index(form))
            storage.remove(layout.index_note(form))
        return known


def registered(storage: Storage, layout: FeedLayout) -> tuple[Format, ...]:
    """Return the formats in which a feed has an index."""
    return tuple(form for form in FORMATS if read_note(storage, layout, form) is not None)


def stale(storage: Storage, layout: FeedLayout, state: FeedState) -> Iterator[Finding]:
    """Yield a finding for each index of a feed that is damaged or differs from the committed state."""
    for form in FORMATS:
        note = read_note(storage, layout, form)
        if note is None:
            continue
        try:
            wanted = contents(layout, state)
            detail = wanted and (_broken(storage, layout, note) or _behind(storage, layout, note, wanted))
        except SchemaChangeError as error:
            detail = error.message
        if detail:
            yield Finding(Problem.INDEX_STALE, layout.index(form), detail, note.commit)


def refresh(storage: Storage, layout: FeedLayout) -> Iterator[Finding]:
    """Bring a feed's stale indexes up to date, and yield each finding when it is repaired.

    An index that fails does not stop the other one; its error is raised at the end.

    Raises:
        ConfigError: The format cannot index a lake in an object store, or its library is not installed.
        SchemaChangeError: The columns of a table's versions cannot be unified.
        WriteError: The disk is full or not writable.
    """
    failure: Exception | None = None
    for finding in stale(storage, layout, CommitLog(storage, layout).load()):
        form = next(form for form in FORMATS if layout.index(form) == finding.key)
        try:
            _check_possible(storage, form)
            _bring_up_to_date(storage, layout, form)
        except Exception as error:  # noqa: BLE001 - raised below, after the other format's index
            failure = failure or error
        else:
            yield finding
    if failure is not None:
        raise failure


def read_note(storage: Storage, layout: FeedLayout, form: Format) -> Note | None:
    """Return the record of an index; None without an index, and one without a digest if it cannot be read."""
    data = storage.read(layout.index_note(form))
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Note)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Note(format=form, commit=0, digest="", columns="", head="", root="")


def _behind(storage: Storage, layout: FeedLayout, note: Note, wanted: Contents) -> str:
    """Return how a whole index differs from what it should be; empty when it does not."""
    if note.digest != wanted.digest:
        return f"it has the files of commit {note.commit}, the lake is at {wanted.sequence}"
    return hint_damage(storage, layout.index("iceberg"), note.head) if note.format == "iceberg" else ""


def _broken(storage: Storage, layout: FeedLayout, note: Note) -> str:
    """Return why an index must be rebuilt; empty when it can be updated."""
    if not note.digest:
        return "the record of its commit cannot be read"
    if not note.files:
        return "the record of its commit names no files: an older ksql-lake wrote it"
    if note.root and note.root != storage.uri(""):
        return f"the lake was at {note.root} when it was built"
    if note.format == "delta" and leads_astray(storage, layout):
        return f"its link {LINK} does not lead to {layout.dataset}"
    return damage(storage, layout.index(note.format), note.files)


def _write_note(
    storage: Storage, layout: FeedLayout, form: Format, wanted: Contents, built: BuiltIndex
) -> None:
    note = Note(
        format=form,
        commit=wanted.sequence,
        digest=wanted.digest,
        columns=wanted.schema.text,
        head=built.head,
        root=storage.uri("") if form == "iceberg" else "",
        files=digests(storage, layout.index(form), built.files),
    )
    scratch = f"{layout.metadata}/index"
    storage.begin(scratch)
    storage.replace(
        layout.index_note(form), msgspec.json.format(msgspec.json.encode(note)), temporary=f"{scratch}/note.tmp"
    )
    storage.remove_folder(scratch)


def _builder(form: Format) -> Builder:
    try:
        return cast("Builder", import_module(f"ksql_lake.register.{form}"))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        raise ConfigError(
            f"an index for {form} needs the Python package {package}, which is not installed",
            hint=f"pip install 'ksql-lake[{form}]'",
        ) from None


def _check_possible(storage: Storage, form: Format) -> None:
    if form == "delta" and not isinstance(storage, LocalStorage):
        raise ConfigError(
            "a Delta index can only be built for a lake in a folder: its readers open only files "
            "below the table's own folder, and an object store has no links",
            hint="Use --format iceberg, or read the lake as Parquet.",
            path=storage.uri(""),
        )
