"""A build that was interrupted goes on where it stopped, and gives the same corpus."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builds import benchmarks_of, build, config, module, modules, rows_of
from starsmith.core import artifact
from starsmith.corpus import trees
from starsmith.corpus.build import run
from starsmith.corpus.sources import open_source, open_sources
from worlds import Write

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, write: Write) -> Path:
    return write(tmp_path / "project", modules())


class PowerError(Exception):
    """As if the machine had gone down."""


@dataclass(frozen=True)
class LoggedUnit:
    """A unit that leaves a line in a file each time it is read, and stops the build when it is told to."""

    unit: trees.Unit
    log: Path
    trap: Path  # while this file exists, reading stops the build

    @property
    def label(self) -> str:
        return self.unit.label

    @property
    def size_bytes(self) -> int:
        return self.unit.size_bytes

    @property
    def fingerprint(self) -> str:
        return self.unit.fingerprint

    @property
    def largest_bytes(self) -> int:
        return self.unit.largest_bytes

    def files(self) -> Any:
        if self.trap.exists():
            raise PowerError
        with self.log.open("a") as lines:
            lines.write(f"{self.label}\n")
        yield from self.unit.files()


@dataclass(frozen=True)
class LoggedSource:
    """A source whose units are logged; the one numbered `stop` stops the build while its trap exists."""

    source: Any
    folder: Path
    stop: int

    root = property(lambda self: self.source.root)
    repository = property(lambda self: self.source.repository)
    commit = property(lambda self: self.source.commit)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def trap(self) -> Path:
        return self.folder / "trap"

    def units(self, *, largest_bytes: int) -> list[Any]:
        units = self.source.units(largest_bytes=largest_bytes)
        return [
            LoggedUnit(unit, self.log, self.trap if number == self.stop else self.folder / "never")
            for number, unit in enumerate(units)
        ]


@pytest.fixture
def logged(project: Path, monkeypatch: pytest.MonkeyPatch) -> LoggedSource:
    cut = trees.plan_units
    monkeypatch.setattr("starsmith.corpus.sources.plan_units", lambda *args, **more: cut(*args, **more, unit_bytes=900))
    return LoggedSource(open_source(project), project.parent, stop=6)


def interrupt(source: LoggedSource, out: Path, **settings: Any) -> list[str]:
    """Build until the trap, which may reach us in an error of the engine; returns what was read."""
    source.trap.touch()
    with pytest.raises(Exception):  # noqa: B017, PT011 the engine's own type
        run(config(**settings), sources=[source], out=out)
    source.trap.unlink()
    _wait_until_all_have_ended(source, out)
    read = source.log.read_text().splitlines()
    source.log.unlink()
    return read


def _wait_until_all_have_ended(source: LoggedSource, out: Path) -> None:
    """Other threads of this process end what they began, which a process that dies does not."""
    done = out.with_name(f"{out.name}.partial") / "run" / "staging" / "read"
    for _ in range(200):
        if len(list(done.glob("*.json"))) >= len(source.log.read_text().splitlines()):
            return
        time.sleep(0.05)


def test_the_same_command_goes_on_where_it_was_interrupted(tmp_path: Path, logged: LoggedSource) -> None:
    run(config(), sources=[logged], out=tmp_path / "whole")
    every = logged.log.read_text().splitlines()
    logged.log.unlink()

    first = interrupt(logged, tmp_path / "corpus")
    run(config(), sources=[logged], out=tmp_path / "corpus")

    second = logged.log.read_text().splitlines()
    assert 0 < len(first) < len(every)
    assert sorted(first + second) == sorted(every)  # nothing is read twice
    assert artifact.read(tmp_path / "corpus").id == artifact.read(tmp_path / "whole").id
    assert not (tmp_path / "corpus.partial").exists()
    assert not list((tmp_path / "corpus").rglob("staging"))


def test_other_settings_begin_anew(tmp_path: Path, logged: LoggedSource) -> None:
    run(config(held_out=0.0), sources=[logged], out=tmp_path / "whole")
    every = logged.log.read_text().splitlines()
    logged.log.unlink()

    interrupt(logged, tmp_path / "corpus")
    run(config(held_out=0.0), sources=[logged], out=tmp_path / "corpus")

    assert sorted(logged.log.read_text().splitlines()) == sorted(every)
    assert artifact.read(tmp_path / "corpus").id == artifact.read(tmp_path / "whole").id


def test_only_what_changed_since_is_read_again(tmp_path: Path, project: Path, logged: LoggedSource) -> None:
    first = interrupt(logged, tmp_path / "corpus")
    (project / "pkg" / "m0.py").write_text(module(500))

    run(config(), sources=[logged], out=tmp_path / "corpus")

    again = set(first) & set(logged.log.read_text().splitlines())
    assert len(again) == 1
    assert "step_500_" in rows_of(tmp_path / "corpus")["pkg/m0.py"]["text"]


def stop_before_the_end(patch: pytest.MonkeyPatch, out: Path, *places: Path, staging: Path) -> None:
    """Build until all shards are finished."""

    def fail(corpus: Path) -> None:
        raise PowerError

    patch.setattr("starsmith.corpus.build.write_tree", fail)
    with pytest.raises(PowerError):
        run(config(), sources=open_sources(places), out=out, staging=str(staging))
    patch.undo()


def test_a_file_that_was_renamed_since_has_its_new_name(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, staging = tmp_path / "corpus", tmp_path / "work"
    stop_before_the_end(monkeypatch, out, project, staging=staging)
    (project / "pkg" / "m0.py").rename(project / "pkg" / "renamed.py")

    run(config(), sources=open_sources([project]), out=out, staging=str(staging))

    assert "pkg/renamed.py" in rows_of(out)
    assert "pkg/m0.py" not in rows_of(out)


def test_benchmarks_that_come_later_are_kept_out_all_the_same(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, staging = tmp_path / "corpus", tmp_path / "work"
    text = (project / "pkg" / "m3.py").read_text()
    stop_before_the_end(monkeypatch, out, project, staging=staging)

    found = benchmarks_of(tmp_path / "benchmarks", text)
    run(config(), sources=open_sources([project]), out=out, staging=str(staging), benchmarks=found)

    assert "pkg/m3.py" not in rows_of(out)
    assert artifact.read(out).counts["dropped_contaminated"] == 1


def test_what_else_lies_in_the_staging_place_stays(tmp_path: Path, project: Path) -> None:
    mine = tmp_path / "work" / "thesis.tex"
    mine.parent.mkdir()
    mine.write_text("mine")

    run(config(), sources=open_sources([project]), out=tmp_path / "corpus", staging=str(mine.parent))

    assert [path.name for path in mine.parent.iterdir()] == ["thesis.tex"]


KILLED = """
import os, signal, sys
from pathlib import Path
from starsmith.corpus import build, trees, work

cut = trees.plan_units
import starsmith.corpus.sources as sources
sources.plan_units = lambda *args, **more: cut(*args, **more, unit_bytes=900)
folder, out, log = map(Path, sys.argv[1:4])
read = work._read_unit

def logged(task):
    with log.open("a") as lines:
        lines.write(task.unit.label + chr(10))
    if len(log.read_text().splitlines()) == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return read(task)

work._read_unit = logged
build.run(build.CorpusConfig(), sources=sources.open_sources([folder]), out=out)
"""


def test_a_killed_build_goes_on_and_gives_the_same_corpus(tmp_path: Path, project: Path) -> None:
    def command(stop: int) -> subprocess.CompletedProcess[str]:
        arguments = [str(project), str(tmp_path / "corpus"), str(tmp_path / "log"), str(stop)]
        return subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)

    killed = command(stop=8)
    again = command(stop=0)

    assert killed.returncode == -signal.SIGKILL
    assert again.returncode == 0, again.stderr
    read = (tmp_path / "log").read_text().splitlines()
    # Only what was being read when the process died is read again.
    assert 1 <= len(read) - len(set(read)) <= (os.cpu_count() or 1)
    assert len(set(read)) == 13
    assert artifact.read(tmp_path / "corpus").id == build(tmp_path / "whole", project).id
