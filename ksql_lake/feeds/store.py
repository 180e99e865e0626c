"""Read and change the folder of feed files: `active/`, `archived/` and `proposed/`, one JSON file per feed."""

# A file that cannot be used is quarantined with its problems and does not affect the others. The data of an
# archived feed stays.

from __future__ import annotations

import ast
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from ksql_lake.errors import ConfigError, FeedError, UnknownFeedError
from ksql_lake.feeds.atomic_files import check_free, create_file, move_file, replace_file
from ksql_lake.feeds.collection import FeedFile, Feeds, QuarantinedFile
from ksql_lake.feeds.document import parse_document
from ksql_lake.feeds.model import FEED_ADAPTER, Feed
from ksql_lake.feeds.validation import MODELS, PARTS, glean, parse_feed

KEY_ORDER = (
    "$schema",
    "name",
    "kind",
    "source",
    "description",
    "enabled",
    "extraction",
    "isolation",
    "evidence",
    "on_bad_text",
    "start_date",
    "timezone",
    "event_time",
    "event_time_unit",
    "columns",
    "descriptions",
    "rename",
    "identity",
    "positions",
    "lookback_days",
    "topic_retention_hours",
    "retention",
    "min_ratio_to_previous",
    "max_shrinkage",
    "deleted",
    "compression",
    "on_schema_change",
    "schedule",
    "automation",
    "checks",
    "sample_rows",
    "owners",
    "tags",
)
"""The order in which ksql-lake writes a feed file's keys."""

SCHEMA_FILE = "feed.schema.json"
"""The JSON Schema for editors, beside `active/`; if it exists, new feed files refer to it."""

_FOLDERS = ("active", "archived")
_ALWAYS_WRITTEN = ("name", "kind", "source", "enabled", "start_date", "timezone", "retention", "schedule")


def feed_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a feed file."""
    schema = FEED_ADAPTER.json_schema()
    for model in (*MODELS.values(), *PARTS.values()):
        keys = schema["$defs"][model.__name__]["properties"]
        for key, text in _key_texts(model).items():
            keys[key] = dict(sorted({**keys[key], "description": text}.items()))
    for name in ("StreamFeed", "TableFeed"):
        address = {"type": "string", "description": "Where an editor finds this schema."}
        schema["$defs"][name]["properties"]["$schema"] = address
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ksql-lake feed", **schema}


def _key_texts(model: type) -> dict[str, str]:
    """Return the texts below a model's fields, inherited ones first.

    pydantic reads them too, but whenever the models are imported, which takes half of the import's time.
    """
    found: dict[str, str] = {}
    for home in reversed([one for one in model.__mro__ if one.__module__ == model.__module__]):
        (definition,) = ast.parse(inspect.getsource(home)).body
        for field, text in pairwise(getattr(definition, "body", ())):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(text.value))
    return found


class FeedStore:
    """Reads and changes the feed files under one folder.

    Args:
        root: The folder with `active/` and `archived/`; `add` creates them when they are missing.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def contents(self) -> dict[Path, bytes | OSError]:
        """Return the bytes of every feed file, active ones first, or the error of reading it.

        Raises:
            ConfigError: A folder cannot be read.
        """
        return {path: _content(path) for path in self.paths()}

    def marks(self) -> str:
        """Return a text that changes when a feed file changes; reads no file.

        Raises:
            ConfigError: A folder cannot be read.
        """
        found = []
        for path in self.paths():
            with suppress(FileNotFoundError):
                stat = path.stat()
                found.append(f"{path} {stat.st_mtime_ns} {stat.st_size} {stat.st_ino}")
        return "\n".join(found)

    def load(self, contents: Mapping[Path, bytes | OSError] | None = None) -> Feeds:
        """Read every feed file; files that cannot be used are quarantined.

        Args:
            contents: The result of `contents`; None reads the files now.

        Raises:
            ConfigError: The folder itself does not exist or cannot be read.
        """
        if not self.root.is_dir():
            raise ConfigError(
                f"there is no feeds folder at {self.root}",
                hint="Run from the project's folder, set KSQL_LAKE_FEEDS, or add a feed: ksql-lake feeds add",
            )
        if contents is None:
            contents = self.contents()
        files: list[FeedFile] = []
        quarantined: list[QuarantinedFile] = []
        for folder in _FOLDERS:
            paths = [path for path in contents if path.parent.name == folder]
            names = frozenset(path.name for path in paths)
            for path in paths:
                found = self._read(path, contents[path], archived=folder == "archived", beside=names)
                active_twin = self.root / "active" / path.name
                if isinstance(found, FeedFile) and found.archived and active_twin in contents:
                    found = _twin(found, active_twin)
                (files if isinstance(found, FeedFile) else quarantined).append(found)  # type: ignore[arg-type]
        return Feeds(tuple(files), tuple(quarantined))

    def paths(self) -> list[Path]:
        """Return the path of every feed file, active ones first.

        Raises:
            ConfigError: A folder cannot be read.
        """
        return [path for folder in _FOLDERS for path in self._paths(folder)]

    def get(self, name: str) -> Feed:
        """Return an active feed by name; see `Feeds.get`."""
        return self.load().get(name)

    def validate(self, paths: Iterable[str | Path] = ()) -> tuple[QuarantinedFile, ...]:
        """Return every problem of every file.

        Args:
            paths: Files, or folders of files, inside the store or not; none means the whole store.
        """
        wanted = [Path(path) for path in paths]
        if not wanted:
            return self.load().quarantined
        known = {
            broken.path.resolve(): broken for broken in (self.load().quarantined if self.root.is_dir() else ())
        }
        files = [file for path in wanted for file in (_feed_paths(path) if path.is_dir() else [path])]
        checked = (
            known.get(path.resolve()) or self._read(path, _content(path), archived=False) for path in files
        )
        return tuple(found for found in checked if isinstance(found, QuarantinedFile))

    def add(self, feed: Feed) -> Path:
        """Write a new feed file into `active/` and return its path.

        Raises:
            FeedError: The name is taken by an active, archived or quarantined file, or the folder cannot be
                written.
        """
        self._check_free_name(feed.name)
        path = self.root / "active" / f"{feed.name}.json"
        create_file(path, self.text(feed).encode())
        return path

    def text(self, feed: Feed) -> str:
        """Return the text of the file that `add` writes: fixed key order, without most defaults."""
        stated = feed.model_dump(mode="json", exclude_defaults=True)
        full = feed.model_dump(mode="json")
        document: dict[str, Any] = {key: full[key] for key in _ALWAYS_WRITTEN if key in full} | stated
        if (self.root / SCHEMA_FILE).exists():
            document["$schema"] = f"../{SCHEMA_FILE}"
        ordered = {key: document[key] for key in KEY_ORDER if key in document}
        return json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"

    def write_schema(self) -> Path:
        """Write or replace the JSON Schema for editors beside `active/` and return its path.

        Raises:
            FeedError: It cannot be written.
        """
        path = self.root / SCHEMA_FILE
        write = replace_file if path.exists() else create_file
        write(path, (json.dumps(feed_json_schema(), indent=2) + "\n").encode())
        return path

    def propose(self, feed: Feed) -> Path:
        """Write a feed file into `proposed/`, where no export reads it, and return its path.

        Raises:
            FeedError: A file of that name exists, or the folder cannot be written.
        """
        path = self._proposal(feed.name)
        create_file(path, self.text(feed).encode())
        return path

    def accept(self, name: str) -> Path:
        """Move a proposed feed file to `active/` and return its new path.

        Raises:
            UnknownFeedError: No proposed feed has this name.
            FeedError: The file cannot be used or moved, or the name is taken.
        """
        path = self._proposal(name)
        if not path.is_file():
            known = ", ".join(found.stem for found in self._paths("proposed")) or "nothing is"
            raise UnknownFeedError(
                f"no feed {name!r} is proposed", hint=f"Proposed: {known}.", folder=path.parent
            )
        found = self._read(path, _content(path), archived=False)
        if isinstance(found, QuarantinedFile):
            raise found.error
        self._check_free_name(name)
        return move_file(path, self.root / "active" / path.name)

    def _proposal(self, name: str) -> Path:
        return self.root / "proposed" / f"{name}.json"

    def enable(self, name: str) -> Path:
        """Set `enabled` to true, keep the rest of the file, and return its path.

        Raises:
            UnknownFeedError: No active feed has this name.
            FeedError: Its file is quarantined, or cannot be written.
        """
        return self._switch(name, enabled=True)

    def disable(self, name: str) -> Path:
        """Set `enabled` to false; see `enable`."""
        return self._switch(name, enabled=False)

    def archive(self, name: str) -> Path:
        """Disable a feed, move its file to `archived/` and return the new path; the data in the lake stays.

        Raises:
            UnknownFeedError: No active feed has this name.
            FeedError: Its file is quarantined or cannot be moved, or a file of that name is archived already.
        """
        target = self.root / "archived" / f"{name}.json"
        self.load().get(name)
        check_free(target)
        return move_file(self._switch(name, enabled=False), target)

    def restore(self, name: str) -> Path:
        """Move an archived feed's file back to `active/`, enable it and return the new path.

        Raises:
            UnknownFeedError: No archived feed has this name.
            FeedError: Its file is quarantined or cannot be moved.
        """
        file = self.load().file(name)
        if not file.archived:
            raise UnknownFeedError(f"feed {name!r} is not archived", hint=f"It is active: {file.path}")
        move_file(file.path, self.root / "active" / file.path.name)
        return self._switch(name, enabled=True)

    def change(self, name: str, keys: Mapping[str, object]) -> Path:
        """Set keys of an active feed's file, keep the rest of it, and return its path.

        Raises:
            UnknownFeedError: No active feed has this name.
            FeedError: Its file is quarantined, would be quarantined with these keys, or cannot be written.
        """
        feeds = self.load()
        feeds.get(name)
        path = feeds.file(name).path
        document = parse_document(path.read_bytes())
        for key, value in keys.items():
            document = document.with_key(key, value, after=KEY_ORDER[: KEY_ORDER.index(key)])
        try:
            parse_feed(document.data, file_name=path.name)
        except FeedError as error:
            raise error.at(file=path) from None
        replace_file(path, document.data)
        return path

    def _check_free_name(self, name: str) -> None:
        for folder in _FOLDERS:
            for path in self._paths(folder):
                if path.stem.casefold() == name.casefold():
                    hint = f"It is archived; bring it back with: ksql-lake feeds restore {name}"
                    raise FeedError(
                        f"there is already a feed file named {name!r}",
                        hint=hint if folder == "archived" else "Choose another name, or edit that file.",
                        file=path,
                    )

    def _switch(self, name: str, *, enabled: bool) -> Path:
        feeds = self.load()
        if feeds.get(name).enabled != enabled:
            return self.change(name, {"enabled": enabled})
        return feeds.file(name).path

    def _paths(self, folder: str) -> list[Path]:
        path = self.root / folder
        try:
            return _feed_paths(path) if path.is_dir() else []
        except OSError as error:
            raise ConfigError(f"the folder cannot be read: {_reason(error)}", path=path) from error

    def _read(
        self, path: Path, data: bytes | OSError, *, archived: bool, beside: frozenset[str] | None = None
    ) -> FeedFile | QuarantinedFile:
        """Parse a feed file; `beside` are the names of all files in its folder, if known."""
        if beside is None:
            beside = frozenset(other.name for other in path.parent.glob("*.json"))
        gleaned: Mapping[str, str] = {}
        try:
            if isinstance(data, OSError):
                raise data
            gleaned = glean(data)
            return FeedFile(path, parse_feed(data, file_name=path.name, others=beside - {path.name}), archived)
        except OSError as error:
            reason = FeedError("this feed file cannot be read", problems=[_reason(error)])
        except FeedError as error:
            reason = error
        return QuarantinedFile(path, path.stem, reason.at(file=path), archived, gleaned)


def _feed_paths(folder: Path) -> list[Path]:
    """Return the feed files of a folder; hidden files (editors' and our temporary ones) are none."""
    names = (name for name in os.listdir(folder) if name.lower().endswith(".json"))  # noqa: PTH208 - names only
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def _content(path: Path) -> bytes | OSError:
    try:
        return path.read_bytes()
    except OSError as error:
        return error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _twin(found: FeedFile, active: Path) -> QuarantinedFile:
    error = FeedError(
        "1 problem found",
        problems=[f"name: {active} is active under the same name; delete or rename one of the two files"],
        file=found.path,
    )
    return QuarantinedFile(found.path, found.path.stem, error, found.archived)
