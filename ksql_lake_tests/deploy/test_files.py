"""The files of deploy/ are what the programs that read them accept."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from ksql_lake.settings import Settings
from ksql_lake_tests.deploy.fleet import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
PROGRAMS = Path(sys.executable).parent


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _said(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def _hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    return _said(PROGRAMS / "hadolint", dockerfile)


def test_the_dockerfile_has_no_finding(tmp_path: Path) -> None:
    """The linter of Dockerfiles is content with ours, and finds the root user in one that never leaves it."""
    assert _hadolint(REPOSITORY / "Dockerfile").stdout == ""

    (tmp_path / "Dockerfile").write_text("FROM python\nUSER root\n")
    assert "DL3002" in _hadolint(tmp_path / "Dockerfile").stdout


def test_the_image_is_not_root_and_holds_what_it_starts() -> None:
    """The image runs as a numbered user, installs pinned files alone, and they are what its extras need."""
    text = (REPOSITORY / "Dockerfile").read_text()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pinned = re.findall(r"^([\w.-]+)", (REPOSITORY / "requirements.image.lock").read_text(), re.MULTILINE)
    extras = ("celery", "devserver", "kubernetes", "object-store", "telemetry")
    needed = [
        *project["dependencies"],
        *(each for extra in extras for each in project["optional-dependencies"][extra]),
    ]

    assert "USER 10001\n" in text
    assert "pip install --no-cache-dir --require-hashes --requirement requirements.image.lock" in text
    assert {re.match(r"[\w.-]+", each)[0].lower() for each in needed} <= set(pinned)  # type: ignore[index]
    for copied in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*) \S+$", text, re.MULTILINE):
        for name in shlex.split(copied):
            assert (REPOSITORY / name).exists(), name
            assert f"!{name}" in (REPOSITORY / ".dockerignore").read_text().splitlines()


def test_the_lock_of_the_demo_holds_what_the_demo_needs_and_no_test_tool() -> None:
    """It pins, with hashes, all that ksql-lake and its devserver need, at the versions that are tested."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    text = (REPOSITORY / "requirements.runtime.lock").read_text()
    tested = (REPOSITORY / "requirements.lock").read_text()
    needed = [*project["dependencies"], *project["optional-dependencies"]["devserver"]]
    pinned = dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==([^ ;]+)", text, re.MULTILINE))

    assert {re.match(r"[\w.-]+", each)[0].lower() for each in needed} <= set(pinned)  # type: ignore[index]
    assert pinned.items() >= {("hatchling", pinned["hatchling"])}
    assert {"pytest", "mypy", "ruff", "pyspark", "playwright"}.isdisjoint(pinned)
    both = dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==([^ ;]+)", tested, re.MULTILINE))
    assert {name: both[name] for name in pinned if name in both} == {
        name: version for name, version in pinned.items() if name in both
    }
    assert text.count("--hash=") >= len(pinned)
    assert "://" not in text


def test_the_compose_file_follows_its_schema(tmp_path: Path) -> None:
    """Compose's own schema accepts our file, and refuses it with a key that does not exist."""
    schema = (PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    compose = DEPLOY / "compose" / "compose.yaml"
    (tmp_path / "compose.yaml").write_text(compose.read_text().replace("healthcheck:", "health_check:", 1))

    assert _said(*schema, compose).returncode == 0
    assert _said(*schema, tmp_path / "compose.yaml").returncode == 1


def test_what_compose_mounts_and_waits_for_exists() -> None:
    """Each file that a service mounts is in the project, each service that another waits for is a service."""
    compose = _yaml(DEPLOY / "compose" / "compose.yaml")
    services = compose["services"]

    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / "compose" / source).exists(), source
        assert set(service.get("depends_on", ())) <= set(services)


def test_compose_publishes_only_on_this_host_and_holds_no_password() -> None:
    """No port is open to the network, and every password comes from the environment."""
    compose = (DEPLOY / "compose" / "compose.yaml").read_text()
    ports = [
        port
        for service in _yaml(DEPLOY / "compose" / "compose.yaml")["services"].values()
        for port in service.get("ports", ())
    ]

    assert ports == ["127.0.0.1:3000:3000"]
    assert "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?" in compose
    assert re.findall(r"^[A-Z_]+=(.+)$", (DEPLOY / "compose" / "env.example").read_text(), re.MULTILINE) == []


def test_our_variables_in_deployments_are_ones_that_are_read() -> None:
    """Each KSQL variable that a deployment sets is one the settings know, or one of the instance files."""
    known = {str(field.validation_alias.choices[0]) for field in Settings.model_fields.values()}  # type: ignore[union-attr]
    known |= {"KSQL_LAKE_DAGSTER_POSTGRES"}

    for path in (*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.sh"), DEPLOY / "compose" / "env.example"):
        for name in re.findall(r"\bKSQL(?:DB|_LAKE)_[A-Z_]+\b", path.read_text()):
            assert name in known, f"{path.name}: {name}"


def test_kubernetes_accepts_the_resources() -> None:
    """Each resource is valid against the schemas of Kubernetes, strictly; a misspelt key is not."""
    resources = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "resources.yaml").read_text()))
    version = kubernetes_validate.latest_version()

    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)
    resources[-1]["spec"]["accessMode"] = ["ReadWriteMany"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resources[-1], version, strict=True)


def test_the_pods_of_the_helm_values_are_valid_and_unprivileged() -> None:
    """The run pods and the code server's pod, put together from the values, are valid and run as no root."""
    values = _yaml(DEPLOY / "kubernetes" / "values.yaml")
    run = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    server = values["dagster-user-deployments"]["deployments"][0]
    # As dagster-k8s itself reads the run pods' configuration: unknown keys are errors there.
    UserDefinedDagsterK8sConfig.from_dict({_snake(key): value for key, value in run.items()})  # type: ignore[no-untyped-call]
    containers = {
        "run": (run["containerConfig"], run["podSpecConfig"]),
        "server": (
            {key: server[key] for key in ("env", "resources", "securityContext")},
            {"securityContext": server["podSecurityContext"]},
        ),
    }

    for name, (container, pod) in containers.items():
        spec = {
            **pod,
            "restartPolicy": "Never",
            "containers": [{"name": name, "image": "ksql-lake", **container}],
        }
        job = {"template": {"spec": spec}, **(run["jobSpecConfig"] if name == "run" else {})}
        kubernetes_validate.validate(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job},
            kubernetes_validate.latest_version(),
            strict=True,
        )
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_secrets_of_the_helm_values_are_the_ones_in_the_resources() -> None:
    """Every secret that the values name is made by the resources file."""
    values = _yaml(DEPLOY / "kubernetes" / "values.yaml")
    resources = yaml.safe_load_all((DEPLOY / "kubernetes" / "resources.yaml").read_text())
    made = {each["metadata"]["name"] for each in resources if each["kind"] == "Secret"}
    (server,) = values["dagster-user-deployments"]["deployments"]

    assert {each["name"] for each in server["envSecrets"]} | {values["global"]["postgresqlSecretName"]} == made


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_bash(path: Path) -> None:
    """Each script parses, stops at its first error, and may be executed."""
    assert _said("bash", "-n", path).stderr == ""
    assert "set -euo pipefail" in path.read_text()
    assert path.stat().st_mode & 0o100


def _snake(key: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower()
