"""The demo's own folder: a project with copies of the sample feeds, dated from the moment it was begun.

The moment is kept, so that a demo that is run again goes on with the same rows. It refuses a folder that holds
anything else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ksql_lake.cli.project_folder import make_project, sample_feeds
from ksql_lake.errors import ConfigError

MOMENT_FILE = "demo.json"
SAMPLE_DAYS = 14
STREAM_SCHEDULE = "*/5 * * * *"
"""Nobody who looks at the demo waits for an hour."""
FAILING_FEED, FAILING_COLUMN = "login_events", "DEVICE"
"""What fails a check on purpose: some sign-ins of the sample have no device."""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The folder of a demo.

    Attributes:
        path: Where.
        begun: When it was begun (UTC); in the last of the sample's first two weeks.
        live: Whether the sample goes on from there; without it, it ends there.
    """

    path: Path
    begun: datetime
    live: bool

    @property
    def server_arguments(self) -> list[str]:
        """What the embedded server is started with."""
        return ["--sample-at", self.begun.isoformat(), *(["--sample-live"] if self.live else [])]

    def closed_days(self, now: datetime) -> tuple[str, str]:
        """Return the first and the last day of the sample that are over at a moment."""
        yesterday = now.date() - timedelta(days=1)
        last = yesterday if self.live else min(yesterday, self.begun.date())
        return _first_day(self.begun), last.isoformat()


def open_demo(path: Path, at: datetime | None, *, now: datetime) -> DemoFolder:
    """Return the demo of a folder; where there is none yet, make it.

    Args:
        path: The folder.
        at: When the sample ends; None lets it go on from now.
        now: The present.

    Raises:
        ConfigError: The folder holds something else, or a demo of another moment.
    """
    kept = path / MOMENT_FILE
    if kept.is_file():
        found = _read(kept)
        if at is not None and (found.live or found.begun != at):
            raise ConfigError(
                f"{path} holds a demo of another moment, {found.begun.isoformat()}",
                hint="Name another folder: ksql-lake demo FOLDER",
            )
    else:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"{path} exists already and is not a folder of the demo",
                hint="Name another folder, which the demo then makes: ksql-lake demo FOLDER",
            )
        found = DemoFolder(path, at or now.replace(microsecond=0), live=at is None)
        _write(found)
    return found


def _read(file: Path) -> DemoFolder:
    try:
        said = json.loads(file.read_text("utf-8"))
        return DemoFolder(file.parent, datetime.fromisoformat(said["begun"]), live=bool(said["live"]))
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{file} is not what the demo wrote", hint="Name another folder: ksql-lake demo FOLDER"
        ) from None


def _write(demo: DemoFolder) -> None:
    try:
        for _ in make_project(demo.path):
            pass
        for name, text in sample_feeds().items():
            (demo.path / "feeds" / "active" / name).write_text(_dated(text, demo.begun), encoding="utf-8")
        # Last: a folder that has it is whole.
        said = {"begun": demo.begun.isoformat(), "live": demo.live}
        (demo.path / MOMENT_FILE).write_text(json.dumps(said) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the demo's folder cannot be written: {error.strerror}", path=error.filename or demo.path
        ) from None


def _dated(text: bytes, begun: datetime) -> str:
    """A sample feed's file as the demo has it: its days, its schedule, and a check that fails on purpose."""
    feed = json.loads(text)
    if feed["kind"] == "stream":
        feed |= {"start_date": _first_day(begun), "schedule": STREAM_SCHEDULE}
    if feed["name"] == FAILING_FEED:
        checks = feed["checks"]
        checks["not_null"] = [*checks["not_null"], FAILING_COLUMN]
        checks["severity"] = {"not_null": "warn"}
    return json.dumps(feed, indent=2, ensure_ascii=False) + "\n"


def _first_day(begun: datetime) -> str:
    return (begun.astimezone(UTC).date() - timedelta(days=SAMPLE_DAYS - 1)).isoformat()
