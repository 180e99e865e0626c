"""Starting and ending S3 servers, and what a test needs to reach them.

Each is a child process on 127.0.0.1 that ends with its parent, and has one bucket.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ksql_lake_tests.fakes.ports import free_ports

KEY, SECRET = "test-access-key", "test-secret-that-is-nowhere"
"""Also what no log, error or file may ever hold."""
BUCKET = "lake"
_PARENT_DEATH_SIGNAL = 1
_PATIENCE = 60.0
_PORTS = ("master", "volume", "filer", "s3")


_STARTS = 5
"""How often SeaweedFS is started before it counts as failed: another process may take a free port first."""
_TAKEN = "address already in use"


class PortTakenError(AssertionError):
    """A server did not start because another process had taken one of its ports."""


@dataclass(frozen=True)
class Store:
    """A running S3 server with a bucket.

    Attributes:
        name: `moto` or `seaweedfs`.
        url: Its address.
        pid: Its process.
    """

    name: str
    url: str
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What a user would set to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
        }

    def fresh(self) -> str:
        """Return the address of an unused lake."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}"

    def at(self, url: str) -> Store:
        """Return the same store by another address, a proxy's."""
        return replace(self, url=url)


@contextmanager
def moto() -> Iterator[Store]:
    """Run moto while the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ksql_lake_tests.stores.moto_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listening on" in line, "moto did not start"
        yield _with_bucket(Store("moto", line.rsplit(" ", 1)[1].strip(), process.pid))
    finally:
        _end(process)


@contextmanager
def seaweedfs(folder: Path) -> Iterator[Store]:
    """Run SeaweedFS (master, volume server, filer and S3 gateway in one process) while the block lasts."""
    process, url = _running(folder)
    try:
        yield _with_bucket(Store("seaweedfs", url, process.pid))
    finally:
        _end(process)


def _running(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start SeaweedFS, on other ports if another process takes one, until it answers."""
    for left in reversed(range(_STARTS)):
        process, url = _started(folder)
        try:
            _wait_for(url, process, folder / "log")
        except AssertionError as error:
            _end(process)
            if not left or not isinstance(error, PortTakenError):
                raise
        else:
            break
    return process, url


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start SeaweedFS on free ports; return its process and the address of its S3 gateway."""
    names = [*_PORTS, *(f"{name}.grpc" for name in _PORTS)]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": actions,
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [str(Path(sysconfig.get_path("scripts"), "weed")), "-logtostderr=true", "server"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-filer", "-s3"]
    for name, port in ports.items():
        part, _, grpc = name.partition(".")
        command.append(f"-{part}.port{'.grpc' if grpc else ''}={port}")
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder}/s3.json"]
    command += ["-s3.autoCreateBucket=false", f"-s3.localSocket={folder}/s3.sock"]
    command += [f"-filer.localSocket={folder}/filer.sock", "-master.telemetry=false"]
    command += ["-volume.max=0", "-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - it makes one system call
        )
    return process, f"http://127.0.0.1:{ports['s3']}"


@contextmanager
def place_for(name: str, folder: Path | None = None) -> Iterator[str]:
    """Yield the root of an unused lake on a disk or in a server that runs while the block lasts.

    Args:
        name: `disk`, `moto` or `seaweedfs`.
        folder: Where on the disk; None takes a temporary folder.
    """
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ksql-lake-place-")))
        if name == "disk":
            yield str(folder or temporary / "lake")
            return
        store = stack.enter_context(moto() if name == "moto" else seaweedfs(temporary))
        os.environ.update(store.environment)  # noqa: TID251 - for the processes that are forked
        yield store.fresh()


def _with_bucket(store: Store) -> Store:
    # Only tests that start a server pay for its import.
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=store.url,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket=BUCKET)
    return store


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    last = time.monotonic() + _PATIENCE
    while time.monotonic() < last and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5)  # noqa: S310 - http on loopback
        except urllib.error.HTTPError:
            return  # it is there, and refuses who does not sign
        except OSError:
            time.sleep(0.05)
        else:
            return
    said = log.read_text(errors="replace")[-2000:]
    raise (PortTakenError if _TAKEN in said else AssertionError)(f"SeaweedFS did not start: {said}")


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.communicate()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
