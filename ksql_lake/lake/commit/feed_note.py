"""Small files beside a feed's manifests that only inform people, e.g. about failed exports."""

from __future__ import annotations

import logging
import uuid
from typing import TypeVar

import msgspec

from ksql_lake.errors import KsqlLakeError
from ksql_lake.lake.layout import FeedLayout
from ksql_lake.lake.storage.boundary import Storage

Note = TypeVar("Note", bound=msgspec.Struct)

_log = logging.getLogger(__name__)


def read_note(storage: Storage, key: str, kind: type[Note]) -> Note:
    """Return a note; an empty one, with a warning in the log, when the file is not one of ours."""
    try:
        data = storage.read(key)
        return kind() if data is None else msgspec.json.decode(data, type=kind)
    except (KsqlLakeError, OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = error.message.removeprefix("cannot be read: ") if isinstance(error, KsqlLakeError) else error
        _log.warning("%s cannot be read: %s", storage.uri(key), why)
        return kind()


def write_note(storage: Storage, layout: FeedLayout, key: str, note: msgspec.Struct) -> None:
    """Replace a note as a whole.

    Raises:
        KsqlLakeError: It cannot be written.
    """
    # Number 0 is below every commit: if the process dies in between, the next commit clears the folder.
    folder = layout.attempt(0, uuid.uuid4().hex[:8])
    storage.begin(folder)
    try:
        text = msgspec.json.format(msgspec.json.encode(note))
        storage.replace(key, text, temporary=f"{folder}/note.tmp")
    finally:
        storage.remove_folder(folder)
