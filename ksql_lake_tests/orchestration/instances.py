"""Dagster instances with real storage, and everything that they say of assets."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
import yaml

from ksql_lake_tests.fakes.ports import free_port

_KINDS = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)


@contextmanager
def sqlite_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster as it is without configuration: a database per run, and an index."""
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@contextmanager
def postgres_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster on a PostgreSQL server of its own; skips where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    # PostgreSQL refuses to run as root, and pytest's folder is closed to anybody else.
    other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if not os.getuid() else []
    with tempfile.TemporaryDirectory(prefix="ksql_lake_postgres_") as made:
        folder, port = Path(made) / "data", free_port()
        folder.mkdir(mode=0o700)
        Path(made).chmod(0o755)
        if other:
            shutil.chown(folder, "postgres", "postgres")
        initdb = [*other, str(programs[-1]), "-D", str(folder), "-U", "dagster", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/")
        server = subprocess.Popen(
            [
                *other,
                str(programs[-1].with_name("postgres")),
                "-D",
                str(folder),
                *f"-F -p {port} -h 127.0.0.1".split(),
                "-k",
                "",
            ],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"postgresql://dagster@127.0.0.1:{port}/postgres"
            _until_it_answers(url, server)
            home.mkdir(exist_ok=True)
            stored = {"storage": {"postgres": {"postgres_url": url}}, "telemetry": {"enabled": False}}
            (home / "dagster.yaml").write_text(yaml.safe_dump(stored))
            with dg.DagsterInstance.from_config(str(home)) as instance:
                yield instance
        finally:
            server.terminate()
            server.wait()


def _until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    while True:
        assert server.poll() is None
        try:
            psycopg2.connect(url).close()
        except psycopg2.OperationalError:
            time.sleep(0.1)
        else:
            return


def picture(instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey]) -> dict[str, Any]:
    """Everything that an instance says of how assets are, and nothing of how they came to be so."""
    told: dict[str, Any] = {}
    store = instance.event_log_storage
    for key in instance.all_asset_keys():
        told[f"{key} partitions"] = instance.get_materialized_partitions(key)
        (record,) = instance.get_asset_records([key])
        told[f"{key} last"] = record.asset_entry.last_materialization_record
        told[f"{key} observed"] = record.asset_entry.last_observation_record
        for kind in _KINDS:
            newest = store.get_latest_storage_id_by_partition(key, kind)
            wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=list(newest.values()))
            fetch = instance.fetch_materializations if kind is _KINDS[0] else instance.fetch_observations
            told[f"{key} {kind}"] = newest
            told[f"{key} {kind} events"] = list(fetch(wanted, limit=5000).records) if newest else []
    told["checks"] = store.get_asset_check_summary_records(checks)
    for check in checks:
        told[f"{check} by partition"] = sorted(
            store.get_asset_check_partition_info([check]), key=lambda info: str(info.partition_key)
        )
    told["versions"] = instance.get_dynamic_partitions("totals_versions")
    return told
