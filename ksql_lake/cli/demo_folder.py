"""The demo's folder: a project with copies of the sample feeds, dated from the moment the demo was made.

The folder keeps that moment, so that a second run continues with the same rows. A folder with other contents is
an error.
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
"""Often enough to see an export while watching the demo."""
FAILING_FEED, FAILING_COLUMN = "login_events", "DEVICE"
"""The column whose check fails on purpose: some sign-ins of the sample have no device."""


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """The folder of a demo.

    Attributes:
        path: The folder.
        begun: When the demo was made (UTC); this day is the last of the sample's first two weeks.
        live: Whether rows keep arriving after `begun`.
    """

    path: Path
    begun: datetime
    live: bool

    @property
    def server_arguments(self) -> list[str]:
        """The arguments of the embedded server."""
        return ["--sample-at", self.begun.isoformat(), *(["--sample-live"] if self.live else [])]

    def closed_days(self, now: datetime) -> tuple[str, str]:
        """Return the first and the last day of the sample that have ended by `now`."""
        yesterday = now.date() - timedelta(days=1)
        last = yesterday if self.live else min(yesterday, self.begun.date())
        return _first_day(self.begun), last.isoformat()


def open_demo(path: Path, at: datetime | None, *, now: datetime) -> DemoFolder:
    """Return the demo of a folder; make it if there is none.

    Args:
        path: The folder.
        at: When the sample ends; None lets rows arrive from now on.
        now: The current time.

    Raises:
        ConfigError: The folder holds something else, or a demo that ends at another time.
    """
    kept = path / MOMENT_FILE
    if kept.is_file():
        found = _read(kept)
        if at is not None and (found.live or found.begun != at):
            raise ConfigError(
                f"{path} holds a demo that ends at another time, {found.begun.isoformat()}",
                hint="Name another folder: ksql-lake demo FOLDER",
            )
    else:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"{path} exists already and is not a folder of the demo",
                hint="Name another folder; the demo makes it: ksql-lake demo FOLDER",
            )
        found = DemoFolder(path, at or now.replace(microsecond=0), live=at is None)
        _write(found)
    return found


def _read(file: Path) -> DemoFolder:
    try:
        kept = json.loads(file.read_text("utf-8"))
        return DemoFolder(file.parent, datetime.fromisoformat(kept["begun"]), live=bool(kept["live"]))
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{file} was not written by the demo", hint="Name another folder: ksql-lake demo FOLDER"
        ) from None


def _write(demo: DemoFolder) -> None:
    try:
        for _ in make_project(demo.path):
            pass
        for name, text in sample_feeds().items():
            (demo.path / "feeds" / "active" / name).write_text(_dated(text, demo.begun), encoding="utf-8")
        # Last: a folder that has this file is complete.
        kept = {"begun": demo.begun.isoformat(), "live": demo.live}
        (demo.path / MOMENT_FILE).write_text(json.dumps(kept) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the demo's folder cannot be written: {error.strerror}", path=error.filename or demo.path
        ) from None


def _dated(text: bytes, begun: datetime) -> str:
    """Return a sample feed's file with the demo's days and schedule, and a check that fails on purpose."""
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
