"""A person at a terminal, who types the snippets of a page one after another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from ksql_lake_tests.fakes.ports import free_port
from ksql_lake_tests.site.snippets import Snippet, commands

SERVERS = ("http://localhost:8088", "https://ksqldb.example.com:8088")
"""The addresses that pages name where a reader has a server."""


class Shell:
    """A shell in a folder; the folder and the environment that one snippet leaves are the next one's.

    Args:
        folder: Where it begins.
        server: Address of the server that stands for the reader's own.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.server = server
        self.python = ""
        self.environment = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - the environment of a process that is started
            if not name.startswith(("KSQL", "DAGSTER"))
        }
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}:{self.environment['PATH']}",
            "KSQLDB_URL": server,
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    def type(self, snippet: Snippet) -> None:
        """Do with a snippet what a reader does with it; fails where it fails, or prints something else."""
        code = snippet.code
        for address in SERVERS:
            code = code.replace(address, self.server)
        if snippet.mark == "file":
            (self.folder / snippet.what).write_text(code, encoding="utf-8")
        elif snippet.mark == "serves":
            self._serve(snippet, code)
        elif snippet.language == "console":
            for command in commands(snippet):
                printed = self.run(command.text, str(snippet))
                assert command.missing(printed) == [], (str(snippet), command.text, printed)
        elif snippet.language == "sh":
            self.run(code, str(snippet))
        elif snippet.language == "sql":
            self._start(["ksql-lake", "sql", code], str(snippet))
        else:
            # Names of the blocks above are those of this one too.
            self.python += code
            self._start([sys.executable, "-c", self.python], str(snippet))

    def run(self, line: str, place: str) -> str:
        """Run lines of a shell; returns what they printed, on standard output and error."""
        left = self.folder / ".left"
        script = f"set -eu\n{line}\npwd > '{left}'\nenv -0 >> '{left}'\n"
        printed = self._start(["bash", "-c", script], place)
        folder, _, variables = left.read_text(encoding="utf-8").partition("\n")
        left.unlink()
        self.folder = Path(folder)
        self.environment = dict(pair.split("=", 1) for pair in variables.split("\0") if "=" in pair)
        return printed

    def _start(self, words: list[str], place: str) -> str:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{place}: {done.stdout[-4000:]}"
        return done.stdout

    @contextmanager
    def running(self, line: str, address: str) -> Iterator[None]:
        """Let a line of a shell run from when its address answers until the end of the block."""
        process = subprocess.Popen(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, start_new_session=True
        )
        try:
            while not answers(address):
                assert process.poll() is None, f"{line}: ended with {process.returncode}"
                time.sleep(0.2)
            yield
        finally:
            # Not Ctrl-C: a process that was started in the background ignores that.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()

    def _serve(self, snippet: Snippet, code: str) -> None:
        port = str(free_port())
        with self.running(code.replace("3000", port), snippet.what.replace("3000", port)):
            pass


def answers(address: str) -> bool:
    """Whether a server answers with status 200."""
    try:
        with urlopen(address, timeout=30) as answer:  # noqa: S310 - an address of this machine
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
