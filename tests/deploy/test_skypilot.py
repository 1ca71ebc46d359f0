"""The SkyPilot files: through SkyPilot's own parser, and what a node would start."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

VERSION = "0.14.1"
HOME = Path(__file__).resolve().parents[2] / ".bench" / f"skypilot-{VERSION}"
PYTHON = HOME / "bin" / "python"
INSTALL = f"python -m venv .bench/{HOME.name} && .bench/{HOME.name}/bin/pip install skypilot=={VERSION}"
PARSE = """
import json, sys
import sky, yaml
from sky.volumes.volume import Volume

task = sky.Task.from_yaml(sys.argv[1])
resources = [next(iter(task.resources))]
volume = Volume.from_yaml_config(yaml.safe_load(open(sys.argv[2])))
print(json.dumps({
    "nodes": task.num_nodes,
    "accelerators": resources[0].accelerators,
    "volumes": task.volumes,
    "volume": volume.to_yaml_config(),
    "recovery": resources[0].job_recovery,
}))
"""


@pytest.fixture
def folder(deploy: Path) -> Path:
    return deploy / "skypilot"


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason=f"SKIPPED: no SkyPilot (460 MB, minutes): {INSTALL}")
def test_skypilot_reads_a_task_of_256_gpus_on_one_volume(folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}

    done = subprocess.run(
        [PYTHON, "-c", PARSE, folder / "pretrain.yaml", folder / "volume.yaml"],
        cwd=folder.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["nodes"] * found["accelerators"]["H100"] == 256
    assert found["volumes"] == {"/data": found["volume"]["name"]}
    assert found["volume"]["config"]["access_mode"] == "ReadWriteMany"
    assert found["recovery"]["strategy"] == "FAILOVER"


def test_a_node_starts_torchrun_and_looks_for_the_first_one(
    folder: Path, stand_ins: Callable[..., dict[str, str]], launched: Callable[[], tuple[int, int, list[str]]]
) -> None:
    task = yaml.safe_load((folder / "pretrain.yaml").read_text())
    addresses = "\n".join(f"10.0.0.{number}" for number in range(1, 33))
    environment = stand_ins({}) | {
        "SKYPILOT_NODE_IPS": addresses,
        "SKYPILOT_NUM_NODES": str(task["num_nodes"]),
        "SKYPILOT_NUM_GPUS_PER_NODE": "8",
        "SKYPILOT_NODE_RANK": "3",
    }

    subprocess.run(["bash", "-c", task["run"]], env=environment, check=True)

    nodes, processes, rest = launched()
    assert nodes * processes == 256
    assert rest[0] == "10.0.0.1:29500"
    mounted = next(iter(task["volumes"]))
    assert all(word.startswith(f"{mounted}/") for word in rest[1:] if "/" in word)
