"""Outside software that launch files are checked with, and stand-ins for the programs of a cluster."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".bench"
Launch = tuple[int, int, list[str]]  # nodes, processes on each, the command's own arguments


@pytest.fixture(scope="session")
def deploy() -> Path:
    """The folder of the launch files."""
    return ROOT / "deploy"


@pytest.fixture(scope="session")
def packages() -> Callable[[str], Path]:
    """A folder with a package from PyPI and what it needs, installed once, whoever asks first; or a skip."""

    def folder(package: str) -> Path:
        HOME.mkdir(exist_ok=True)
        home = HOME / package.replace("==", "-")
        with (HOME / f"{package.partition('==')[0]}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
            if not home.is_dir():
                _install(package, home)
        return home

    return folder


def _install(package: str, home: Path) -> None:
    partial = home.with_name(home.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "0", "--target", partial, package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"SKIPPED: pip could not install {package}: {done.stderr.strip()[-300:]}")
    partial.rename(home)


@pytest.fixture
def stand_ins(tmp_path: Path) -> Callable[[dict[str, str]], dict[str, str]]:
    """Write shell scripts under the names of programs; gives the environment in which they are found first."""

    def write(scripts: dict[str, str]) -> dict[str, str]:
        folder = tmp_path / "bin"
        folder.mkdir()
        recorder, record = tmp_path / "record.py", str(tmp_path / "torchrun.json")
        recorder.write_text(f"import json, sys\nwith open({record!r}, 'w') as file: json.dump(sys.argv[1:], file)\n")
        for name, script in {"torchrun": f'exec {sys.executable} {recorder} "$@"', **scripts}.items():
            (folder / name).write_text(f"#!/bin/bash\n{script}\n")
            (folder / name).chmod(0o755)
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}

    return write


@pytest.fixture
def launched(tmp_path: Path) -> Callable[[], Launch]:
    """What the stand-in for torchrun was called with."""
    return lambda: launch_of(json.loads((tmp_path / "torchrun.json").read_text()))


@pytest.fixture(scope="session")
def read_launch() -> Callable[[Sequence[str]], Launch]:
    """Torchrun's own parser, and that of `starsmith pretrain`."""
    return launch_of


def launch_of(arguments: Sequence[str]) -> Launch:
    from torch.distributed.run import parse_args

    from starsmith.cli.pretrain import pretrain

    found = parse_args(list(arguments))
    assert found.no_python
    assert found.training_script == "starsmith"
    command, *rest = found.training_script_args
    assert command == "pretrain"
    context = pretrain.make_context("pretrain", list(rest))
    assert context.params["tokens"] is not None
    assert context.params["recipe"] is not None
    assert found.max_restarts > 0
    assert found.rdzv_backend == "c10d"
    assert found.rdzv_endpoint.rpartition(":")[2] == "29500"
    assert found.rdzv_endpoint.rpartition(":")[0]
    return int(found.nnodes), int(found.nproc_per_node), [found.rdzv_endpoint, *rest]
