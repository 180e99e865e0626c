"""A process of a soak, its messages read as they come."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds a child may take to begin or to end; only a broken soak gets there."""


class Child:
    """One task in a process of its own.

    Args:
        task: Name of the task.
        arguments: Server, lake and day.
        log: Where its standard error goes.
    """

    def __init__(self, task: str, arguments: list[str], log: Path) -> None:
        self.task = task
        self.ready = threading.Event()
        self.messages: deque[dict[str, Any]] = deque()
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ksql_lake_tests.soak.tasks", task, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Wait until it begins."""
        if not self.ready.wait(PATIENCE):
            raise TimeoutError(f"{self.task} does not begin")

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._finish()
        return True

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()
        self._finish()

    def stop(self) -> int:
        """Close its input, wait, and give its exit code."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if not self.wait(PATIENCE):
            self.kill()
        return int(self._process.returncode)

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def _finish(self) -> None:
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            try:
                message = json.loads(line)
            except ValueError:
                continue  # cut by a kill
            if message.get("what") == "ready":
                self.ready.set()
            self.messages.append(message)
        self.ready.set()
