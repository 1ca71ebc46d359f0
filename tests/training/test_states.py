"""Saved states: bit for bit, whole or not used, and two of them kept."""

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ranked import MODEL, Job, apart, make_model, make_optimizers, one_step, start
from starsmith.core.errors import ArtifactError, CheckpointError
from starsmith.model.transformer import Transformer
from starsmith.training.parallel import Ranks
from starsmith.training.states import DAMAGED, MANIFEST, PARTIAL, Contents, States, faults, saved_states

pytestmark = pytest.mark.slow

ALONE = Ranks()
SINGLE = Job(out="", dtype="float32")


def make_contents(**tensors: Tensor) -> Contents:
    model = make_model(SINGLE)
    return Contents(model, make_optimizers(model, ALONE, with_muon=True), tensors)


def steps(contents: Contents, numbers: Sequence[int]) -> list[tuple[float, float]]:
    assert isinstance(contents.model, Transformer)
    return [one_step(contents.model, contents.optimizers, ALONE, number) for number in numbers]


@pytest.fixture(scope="module")
def three_states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """States of steps 1, 2 and 3, all kept."""
    directory = tmp_path_factory.mktemp("saved") / "states"
    contents, states = make_contents(), States(directory, ALONE, keep=3)
    for step in range(3):
        steps(contents, [step])
        states.save(contents, step + 1, {"step": step + 1})
    states.close()
    return directory


@pytest.fixture
def saved(three_states: Path, tmp_path: Path) -> Path:
    """A copy of them to do harm to."""
    return Path(shutil.copytree(three_states, tmp_path / "states"))


def load(directory: Path, **settings: Any) -> int | None:
    states = States(directory, ALONE, **settings)
    found = states.load_latest(make_contents())
    states.close()
    return None if found is None else found.step


def test_a_run_goes_on_from_a_saved_state_bit_for_bit(tmp_path: Path) -> None:
    average = torch.zeros(3)
    contents, states = make_contents(average=average), States(tmp_path, ALONE)
    steps(contents, range(2))
    average += 2.5
    states.save(contents, 2, {"tokens": 64, "loss": 0.1 + 0.2})
    drawn = torch.rand(4)
    wanted = steps(contents, range(2, 4))
    states.close()

    again = make_contents(average=torch.zeros(3))
    found = States(tmp_path, ALONE).load_latest(again)

    assert found is not None
    assert (found.step, found.facts) == (2, {"tokens": 64, "loss": 0.1 + 0.2})
    assert torch.equal(again.tensors["average"], torch.full((3,), 2.5))
    assert torch.equal(torch.rand(4), drawn)
    assert steps(again, range(2, 4)) == wanted
    for one, other in zip(again.model.parameters(), contents.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_saved_is_the_state_at_that_moment(tmp_path: Path) -> None:
    contents, states = make_contents(), States(tmp_path, ALONE)
    wanted = {name: value.detach().clone() for name, value in contents.model.named_parameters()}
    states.save(contents, 0, {})
    with torch.no_grad():
        for parameter in contents.model.parameters():
            parameter.zero_()  # while the state may still be on its way
    states.close()

    again = make_contents()
    with torch.no_grad():
        for parameter in again.model.parameters():
            parameter.fill_(7)
    States(tmp_path, ALONE).load_latest(again)

    assert all(torch.equal(value, wanted[name]) for name, value in again.model.named_parameters())


def test_without_states_there_is_nothing_to_take_up(tmp_path: Path) -> None:
    assert load(tmp_path / "states") is None


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    contents, states = make_contents(), States(tmp_path, ALONE)
    for step in (1, 2, 10):
        states.save(contents, step, {})
    states.close()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000010"]
    assert all(faults(path) == [] for path in saved_states(tmp_path))


def test_a_state_that_was_not_finished_is_not_seen(saved: Path) -> None:
    (saved / "step-00000003").rename(saved / f"step-00000003{PARTIAL}")

    assert load(saved) == 2


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "facts.json", MANIFEST])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_a_damaged_state_is_named_and_the_one_before_is_used(
    name: str, harm: str, saved: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = saved / "step-00000003" / name
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(content if harm == "flipped" else content[:middle])

    assert load(saved) == 2
    said = capfd.readouterr().err
    assert f"step-00000003 is not used: {name}" in said
    assert (saved / f"step-00000003{DAMAGED}").is_dir()


def test_a_run_that_went_back_keeps_the_good_state_and_replaces_the_damaged_one(saved: Path) -> None:
    (saved / "step-00000003" / "facts.json").write_text("{}")
    contents, states = make_contents(), States(saved, ALONE, keep=2)

    assert states.load_latest(contents) is not None
    states.save(contents, 3, {})
    states.close()

    assert sorted(path.name for path in saved.iterdir()) == ["step-00000002", "step-00000003"]
    assert load(saved) == 3


def test_when_no_state_is_whole_the_run_stops(saved: Path) -> None:
    for path in saved_states(saved):
        (path / ".metadata").unlink()

    with pytest.raises(ArtifactError, match=r"none of the saved states in .* is whole: \.metadata") as stopped:
        load(saved)

    assert "to begin anew" in stopped.value.hint


def test_a_state_of_other_settings_is_refused(saved: Path) -> None:
    with pytest.raises(ArtifactError, match="saved by a run with other settings"):
        load(saved, settings="abc")


def test_a_state_of_another_shape_is_refused(saved: Path) -> None:
    model = torch.nn.ModuleDict({"model": torch.nn.ModuleDict({"embed_tokens": torch.nn.Embedding(7, 3)})})

    with pytest.raises(CheckpointError, match=rf"has shape \(7, 3\), .* has shape \({MODEL.vocab_size}, 48\)"):
        States(saved, ALONE).load_latest(Contents(model, ()))


def fill_and_save(directory: Path, fill: Callable[[], Callable[[], object]]) -> None:
    """Save step 1, make the disk full and save step 2, make room and save step 3; for a process of its own."""
    contents, states = make_contents(), States(directory, ALONE)
    steps(contents, [0])
    states.save(contents, 1, {})
    states.wait()
    make_room = fill()
    states.save(contents, 2, {})
    states.wait()
    steps(contents, [1])
    assert [path.name for path in directory.iterdir()] == ["step-00000001"]
    make_room()
    states.save(contents, 3, {})
    states.close()


def assert_goes_on(directory: Path, fill: Callable[[], Callable[[], object]], said: Path) -> None:
    code, output = apart(said, fill_and_save, directory, fill).finish()

    assert code == 0, output
    assert "warning: no space left to save the state of step 2" in output
    assert "the one in step-00000001 stays, and training goes on" in output
    assert sorted(path.name for path in directory.iterdir()) == ["step-00000001", "step-00000003"]
    assert load(directory) == 3


def forbid_large_files() -> Callable[[], object]:
    """No file of this process may have more than 100 kB; what is returned lifts the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))


def fill_disk(disk: Path) -> Callable[[], object]:
    """Leave room for 200 kB; what is returned removes the filler."""
    filler, space = disk / "filler", os.statvfs(disk)
    filler.write_bytes(bytes(space.f_bavail * space.f_frsize - 200_000))
    return filler.unlink


def test_files_that_cannot_grow_leave_the_last_good_state_and_the_training_goes_on(tmp_path: Path) -> None:
    assert_goes_on(tmp_path / "states", forbid_large_files, tmp_path / "said.txt")


def test_a_full_disk_leaves_the_last_good_state_and_the_training_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk (tmpfs)")
    try:
        assert_goes_on(disk / "states", partial(fill_disk, disk), tmp_path / "said.txt")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_state_is_taken_up_by_any_number_of_ranks(tmp_path: Path) -> None:
    states = str(tmp_path / "states")
    whole = start(Job(out=str(tmp_path / "whole"), with_muon=True, steps=6, dtype="float32"), 1)

    def part(ranks: int, until: int) -> dict[str, Any]:
        out = str(tmp_path / str(ranks))
        job = Job(out=out, with_muon=True, steps=until, dtype="float32", states=states, save_every=2)
        return start(job, ranks)

    part(2, 2)
    written_by_two = json.loads((tmp_path / "states" / "step-00000002" / MANIFEST).read_text())
    part(1, 4)
    found = part(3, 6)

    assert written_by_two["ranks"] == 2
    assert {"__0_0.distcp", "__1_0.distcp"} < set(written_by_two["files"])
    assert found["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    for name, value in found["weights"].items():
        torch.testing.assert_close(value, whole["weights"][name], rtol=1e-4, atol=1e-4)
