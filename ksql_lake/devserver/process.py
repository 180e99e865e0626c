"""A devserver as a child process, for tests, the demo and users' CI.

    with DevServer.start(sample=True) as server:
        requests.get(server.url + "/info")

Starting waits until the server answers; leaving the block stops it by its process id, and if the parent itself
is killed the server ends too. This module imports nothing heavy, so a test run pays for the server only where
one is started.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from ksql_lake.errors import ConfigError

STOP_SECONDS = 10


class DevServer:
    """One running server process; use `DevServer.start`.

    Attributes:
        url: `http://127.0.0.1:PORT`.
        pid: Its process id.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, log: IO[bytes]) -> None:
        self._process = process
        self._log = log
        self.url = url
        self.pid = process.pid

    @classmethod
    def start(
        cls,
        *,
        sample: bool = False,
        data: Path | None = None,
        port: int = 0,
        arguments: Sequence[str] = (),
    ) -> Self:
        """Start a server and wait until it answers.

        Args:
            sample: Serve the payments sample.
            data: Folder of `NAME.sql` and data files.
            port: 0 takes a free one.
            arguments: More of what `python -m ksql_lake.devserver --help` lists.

        Raises:
            ConfigError: It did not come up; the text is what it said.
        """
        command = [sys.executable, "-m", "ksql_lake.devserver", "--port", str(port), "--until-stdin-closes"]
        command += arguments
        if sample:
            command.append("--sample")
        if data is not None:
            command += ["--data", str(data)]
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        line = process.stdout.readline() if process.stdout else ""
        if " listening on " not in line:
            process.kill()
            process.communicate()
            log.seek(0)
            said = log.read().decode(errors="replace").strip()
            log.close()
            raise ConfigError(f"the devserver did not start: {said or line or 'it said nothing'}")
        return cls(process, line.rsplit(" ", 1)[1].strip(), log)

    @property
    def log(self) -> str:
        """What the server wrote to its standard error so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to stop and wait; returns its exit code. May be called again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return self._process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        self._log.close()
