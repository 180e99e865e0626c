"""A process that has everything imported and forks a child for every task: hundreds of clean processes, cheap.

A child may be killed, change its user, mount what only it sees, or break its own system calls; nothing of that
reaches the next one. The answer is what the task returns as JSON, or how its process ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SINGLE_THREADED = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
"""Without these, importing Arrow and NumPy starts threads, and a process with threads must not be forked."""

_PATIENCE = 120
"""Seconds after which a task is ended; only a broken one gets there."""

_POSIX_FAULTS = "fiu/fiu_posix_preload.so"
_LIBRARIES = ("/usr/lib", "/usr/local/lib", "/usr/lib64")


def posix_faults() -> Path | None:
    """Return the library that makes system calls fail on demand (libfiu's preload), if it is installed."""
    found = (Path(folder, _POSIX_FAULTS) for folder in _LIBRARIES)
    return next((path for path in found if path.exists()), None)


class Nursery:
    """The process; a context manager, one task at a time."""

    def __enter__(self) -> Self:
        environment = {**os.environ, **SINGLE_THREADED}  # noqa: TID251 - handed on, not read
        if posix_faults() is not None:
            environment["LD_PRELOAD"] = str(posix_faults())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ksql_lake_tests.lake.crashing.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def do(self, task: str, **arguments: Any) -> Any:
        """Do a task in a process of its own and give its answer.

        Raises:
            RuntimeError: It failed; the text is its traceback, or the signal that ended it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([task, arguments]) + "\n")
        self._process.stdin.flush()
        answer, failure = json.loads(self._process.stdout.readline())
        if failure:
            raise RuntimeError(failure)
        return answer


def serve(tasks: dict[str, Callable[..., Any]]) -> None:
    """Do the tasks that stand on standard input, a line each, until it ends."""
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
        raise RuntimeError("the nursery has threads; it must not fork")
    for line in sys.stdin:
        task, arguments = json.loads(line)
        with tempfile.TemporaryFile("w+") as answer:
            pid = os.fork()
            if pid == 0:
                _child(answer.fileno(), tasks[task], arguments)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            answer.seek(0)
            sys.stdout.write((answer.read() or json.dumps([None, f"it ended with {status}"])) + "\n")
            sys.stdout.flush()


def _child(answer: int, task: Callable[..., Any], arguments: dict[str, Any]) -> None:
    signal.alarm(_PATIENCE)
    try:
        text = json.dumps([task(**arguments), ""])
    except BaseException:  # noqa: BLE001 - whatever it is, the caller gets it
        text = json.dumps([None, traceback.format_exc()])
    os.write(answer, text.encode())
    # Neither the parent's buffers nor its exit handlers are the child's business.
    os._exit(0)


if __name__ == "__main__":
    from ksql_lake_tests.lake.crashing.tasks import TASKS

    serve(TASKS)
