"""Start a devserver as a child process and stop it with its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Self

from ksql_lake.devserver import door
from ksql_lake.errors import ConfigError

STOP_SECONDS = 10
CLUSTER_STOP_SECONDS = 60

_EXTRA = "ksql-lake[devserver]"
_PACKAGES = ("h2", "sqlglot", "starlette", "uvicorn")


def _need_packages() -> None:
    lacking = [name for name in _PACKAGES if find_spec(name) is None]
    if lacking:
        raise ConfigError(
            f"the embedded server needs packages that are not installed: {', '.join(lacking)}",
            hint=f"Install them: pip install '{_EXTRA}' (or run once: uvx --from '{_EXTRA}' ksql-lake demo)",
        )


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
            ConfigError: Packages are missing, or the server did not start; the message has its output.
        """
        _need_packages()
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
            raise ConfigError(f"the devserver did not start: {said or line or 'it wrote nothing'}")
        return cls(process, line.rsplit(" ", 1)[1].strip(), log)

    @property
    def log(self) -> str:
        """What the server wrote to its standard error so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def terminate(self) -> None:
        """Send SIGTERM without waiting: the server shuts down as its `stopping` phase says."""
        self._process.terminate()

    def pause(self) -> None:
        """Send SIGSTOP: connections stay, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL, which ends it as a crash would."""
        self._process.kill()
        self._process.wait()

    def append(self, source: str, *rows: Mapping[str, Any], transaction: str | None = None) -> int:
        """Append rows to a source; returns how many. See `door.append`."""
        return door.append(self.url, source, rows, transaction=transaction)

    def end_transaction(self, source: str, transaction: str, *, commit: bool) -> None:
        """Commit or abort a transaction. See `door.end_transaction`."""
        door.end_transaction(self.url, source, transaction, commit=commit)

    def change_log(self, source: str, **change: Any) -> None:
        """Change a source's log: `trim={0: 5}`, `gap={0: 1}`, `repeat={0: 3}`, `partitions=4`."""
        door.change_log(self.url, source, change)

    def set_faults(self, *faults: Mapping[str, Any]) -> None:
        """Replace all switches; without arguments all are off."""
        door.set_faults(self.url, faults)

    def tell(self, line: str) -> str:
        """Send a line to its standard input; returns the line it answers with."""
        if self._process.stdin is None or self._process.stdout is None:
            return ""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def stop(self, patience: float = STOP_SECONDS) -> int:
        """Ask it to stop and wait, then kill it; returns its exit code. May be called again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patience)
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


class DevCluster:
    """Several nodes of one service, each its own process; use `DevCluster.start`.

    Attributes:
        urls: The URL of each node, the first node's first.
    """

    def __init__(self, parent: DevServer) -> None:
        self._parent = parent
        self.urls = parent.url.split(",")

    @classmethod
    def start(
        cls,
        nodes: int = 2,
        *,
        sample: bool = False,
        data: Path | None = None,
        port: int = 0,
        arguments: Sequence[str] = (),
    ) -> Self:
        """Start a cluster and wait until its nodes have agreed on the partitions each holds.

        Args:
            nodes: How many.
            sample: Serve the payments sample.
            data: Folder of `NAME.sql` and data files.
            port: The first node's; the others follow. 0 takes free ones.
            arguments: More of what `python -m ksql_lake.devserver --help` lists.

        Raises:
            ConfigError: It did not start; the message has its output.
        """
        more = ["--nodes", str(nodes), *arguments]
        return cls(DevServer.start(sample=sample, data=data, port=port, arguments=more))

    @property
    def log(self) -> str:
        """What all its processes wrote to their standard error so far."""
        return self._parent.log

    def append(self, source: str, *rows: Mapping[str, Any], transaction: str | None = None) -> int:
        """Append rows to a source; returns how many. See `door.append`."""
        return door.append(self.urls[0], source, rows, transaction=transaction)

    def end_transaction(self, source: str, transaction: str, *, commit: bool) -> None:
        """Commit or abort a transaction. See `door.end_transaction`."""
        door.end_transaction(self.urls[0], source, transaction, commit=commit)

    def change_log(self, source: str, **change: Any) -> None:
        """Change a source's log: `trim={0: 5}`, `gap={0: 1}`, `repeat={0: 3}`, `partitions=4`."""
        door.change_log(self.urls[0], source, change)

    def set_faults(self, *faults: Mapping[str, Any], node: int | None = None) -> None:
        """Replace all switches of one node, or of all; nodes that do not run are an error."""
        for url in self.urls if node is None else [self.urls[node - 1]]:
            door.set_faults(url, faults)

    def start_node(self, number: int) -> None:
        """Start a node that was stopped or killed; returns when it listens, which is before it is ready."""
        self._act("start", number)

    def stop_node(self, number: int) -> None:
        """Send SIGTERM to a node: it shuts down as its `stopping` phase says."""
        self._act("stop", number)

    def kill_node(self, number: int) -> None:
        """Send SIGKILL to a node and wait for its end."""
        self._act("kill", number)

    def pause_node(self, number: int) -> None:
        """Send SIGSTOP to a node."""
        self._act("pause", number)

    def resume_node(self, number: int) -> None:
        """Send SIGCONT to a node."""
        self._act("resume", number)

    def _act(self, action: str, number: int) -> None:
        said = self._parent.tell(f"{action} {number}")
        if said != "ok":
            raise ConfigError(f"{action} {number}: {said or 'the cluster is gone'}")

    def stop(self) -> int:
        """Stop every node and wait; returns the parent's exit code. May be called again."""
        return self._parent.stop(CLUSTER_STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._parent.__exit__(*exception)
