"""The same pipeline on a real Ray cluster of two workers: the same bytes, also when one worker is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builds import module, near_copy
from starsmith.core import artifact
from starsmith.corpus import build
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.sources import open_sources
from worlds import MIT, Write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
SCRIPT = Path(__file__).with_name("cluster_build.py")
FILES = 24


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """Modules with copies and near-copies far from one another."""
    files = {f"a/m{number:02d}.py": module(number) for number in range(FILES)}
    files |= {f"z/copy{number}.py": module(number) for number in range(3)}
    files |= {f"z/near{number}.py": near_copy(number) for number in range(3, 6)}
    return write(tmp_path_factory.mktemp("cluster") / "project", {"LICENSE": MIT, **files})


@pytest.fixture(scope="module")
def expected(project: Path) -> artifact.Manifest:
    """What one machine makes of it."""
    build.run(CorpusConfig(), sources=open_sources([project]), out=project.parent / "local")
    return artifact.read(project.parent / "local")


def on_cluster(project: Path, name: str, kill_after: int) -> tuple[artifact.Manifest, list[str], str]:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'starsmith[ray]'")
    out, log = project.parent / name, project.parent / f"{name}.log"
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, SCRIPT, project, out, log, 1500, kill_after]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=environment, timeout=400
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return artifact.read(out), log.read_text().splitlines(), done.stdout


def test_two_workers_give_the_same_corpus_as_one_machine_also_when_one_is_killed(
    project: Path, expected: artifact.Manifest
) -> None:
    found, log, said = on_cluster(project, "killed", 4)

    assert "worker killed" in said
    assert len({line.split()[0] for line in log}) >= 2  # both worked
    assert sum(line.endswith("read_unit") for line in log) >= FILES // 3
    assert found.id == expected.id
    assert found.counts == expected.counts
    assert found.counts["dropped_near_duplicate"] == found.counts["dropped_duplicate"] == 3
