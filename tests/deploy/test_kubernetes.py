"""The Kubernetes file: against the schemas of Kubernetes, and its parts against one another."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def manifest(deploy: Path) -> Path:
    return deploy / "kubernetes" / "pretrain.yaml"


@pytest.fixture
def parts(manifest: Path) -> dict[str, Any]:
    return {part["kind"]: part for part in yaml.safe_load_all(manifest.read_text())}


@pytest.fixture
def validate(packages: Callable[[str], Path]) -> Callable[..., tuple[int, str]]:
    """The schemas of Kubernetes, strictly: a key that they do not know is an error."""
    environment = {**os.environ, "PYTHONPATH": str(packages("kubernetes-validate==1.37.0"))}

    def run(*arguments: str | Path) -> tuple[int, str]:
        command = [sys.executable, "-m", "kubernetes_validate", "--strict", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_it_follows_the_schemas_of_kubernetes(
    manifest: Path, validate: Callable[..., tuple[int, str]], version: str
) -> None:
    status, output = validate("-k", version, manifest)

    assert status == 0, output
    assert output.count("passed") == 2


@pytest.mark.slow
def test_a_key_with_a_slip_would_be_found(
    manifest: Path, validate: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(manifest.read_text().replace("completionMode:", "completionsMode:"))

    status, output = validate(wrong)

    assert status != 0
    assert "completionsMode" in output


def test_every_pod_runs_one_torchrun_and_finds_the_first_one(
    parts: dict[str, Any], read_launch: Callable[[Sequence[str]], tuple[int, int, list[str]]]
) -> None:
    job, service = parts["Job"], parts["Service"]
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]

    nodes, processes, rest = read_launch(container["args"])

    assert container["command"] == ["torchrun"]
    assert job["spec"]["completionMode"] == "Indexed"  # gives pods the host names JOB-0, JOB-1 ...
    assert nodes == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert processes == container["resources"]["limits"]["nvidia.com/gpu"]
    assert nodes * processes == 256
    assert rest[0] == f"{job['metadata']['name']}-0.{pod['subdomain']}:{service['spec']['ports'][0]['port']}"


def test_the_service_names_the_pods_of_the_job(parts: dict[str, Any]) -> None:
    job, service = parts["Job"], parts["Service"]
    labels = job["spec"]["template"]["metadata"]["labels"]

    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_all_that_is_mounted_is_there_and_all_paths_lie_on_the_shared_volume(parts: dict[str, Any]) -> None:
    pod = parts["Job"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    paths = [argument.rpartition("=")[2] for argument in container["args"] if "/" in argument]

    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert len(paths) == 3
    assert all(path.startswith(mounts["data"] + "/") for path in paths)
