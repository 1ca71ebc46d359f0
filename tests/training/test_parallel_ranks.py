"""Several processes train the model that one process trains."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ranked import Job, finish, launch, launch_with_torchrun, result, start_all

pytestmark = pytest.mark.slow

Results = dict[str, dict[str, Any]]

ONE: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "Muon": {"with_muon": True},
    "AdamW, single": {"dtype": "float32"},
    "Muon, single": {"with_muon": True, "dtype": "float32"},
}
TWO: dict[str, dict[str, Any]] = {
    "AdamW, single": {"dtype": "float32"},
    "Muon, single": {"with_muon": True, "dtype": "float32"},
    "Muon, tensor": {"with_muon": True, "tensor": 2},
    "Muon, replicas": {"with_muon": True, "replicas": 2},
    "Muon, rounds": {"with_muon": True, "round_elements": 3000},
    "Muon, checkpointed": {"with_muon": True, "checkpoint_layers": True},
    "Muon, watched": {"with_muon": True, "watched": True},
    "AdamW, half": {"dtype": "float32", "compute": "bfloat16"},
}
THREE: dict[str, dict[str, Any]] = {"AdamW": {}, "Muon": {"with_muon": True}}
FOUR: dict[str, dict[str, Any]] = {
    "Muon, shards and tensor": {"with_muon": True, "tensor": 2},
    "Muon, replicas and shards": {"with_muon": True, "replicas": 2},
}


def run_all(settings: dict[str, dict[str, Any]], ranks: int, folder: Path) -> Results:
    jobs = [Job(out=str(folder / name), **values) for name, values in settings.items()]
    return dict(zip(settings, start_all(jobs, ranks), strict=True))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_all(ONE, 1, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_all(TWO, 2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_all(THREE, 3, tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_all(FOUR, 4, tmp_path_factory.mktemp("four"))


def assert_equal(found: dict[str, Any], wanted: dict[str, Any], tolerance: float) -> None:
    assert found["losses"] == pytest.approx(wanted["losses"], rel=tolerance)
    assert found["norms"] == pytest.approx(wanted["norms"], rel=10 * tolerance)
    assert set(found["weights"]) == set(wanted["weights"])
    for name, value in found["weights"].items():
        torch.testing.assert_close(value, wanted["weights"][name], rtol=100 * tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("name", ["AdamW, single", "Muon, single"])
def test_two_ranks_train_as_one_process_in_single_precision(name: str, one: Results, two: Results) -> None:
    assert_equal(two[name], one[name], 1e-6)


@pytest.mark.parametrize("name", [name for name in TWO if name.startswith("Muon") and "single" not in name])
def test_two_ranks_of_any_kind_train_as_one_process(name: str, one: Results, two: Results) -> None:
    assert_equal(two[name], one["Muon"], 1e-11)


def test_layers_in_half_precision_keep_masters_in_full(one: Results, two: Results) -> None:
    found, plain = two["AdamW, half"], one["AdamW, single"]

    assert {value.dtype for value in found["weights"].values()} == {torch.float32}
    assert found["losses"] == pytest.approx(plain["losses"], rel=0.02)
    assert found["losses"] != pytest.approx(plain["losses"], rel=1e-6)


@pytest.mark.parametrize("name", list(THREE))
def test_parts_of_unequal_size_train_as_one_process(name: str, one: Results, three: Results) -> None:
    assert_equal(three[name], one[name], 1e-11)


@pytest.mark.parametrize("name", list(FOUR))
def test_kinds_of_ranks_together_train_as_one_process(name: str, one: Results, four: Results) -> None:
    assert_equal(four[name], one["Muon"], 1e-11)


def test_each_rank_receives_its_own_matrices_and_not_all(three: Results) -> None:
    weights, steps = three["Muon"]["weights"], len(three["Muon"]["losses"])
    matrices = sum(value.numel() for name, value in weights.items() if value.ndim == 2 and ".layers." in name)

    received = [of_muon / steps for _, of_muon in three["Muon"]["received"]]

    # A third of the matrices is each rank's own, and two thirds of these come from others; the answers likewise.
    assert sum(received) == pytest.approx(2 * matrices * 2 / 3, rel=0.05)
    assert max(received) < 0.8 * matrices * 2 / 3  # what each would receive if all gathered all


def test_ranks_that_disagree_all_stop_and_say_in_what(tmp_path: Path) -> None:
    ended = finish(launch([Job(out=str(tmp_path), odd_rank=1)], 2))

    assert [code for code, _ in ended] == [1, 1]
    for _, output in ended:
        assert "error: the ranks disagree on settings: rank 1 has other, rank 0 has same" in output
        assert "hint: start every node with the same command" in output


def test_a_killed_rank_is_started_again_and_the_run_ends_as_if_nothing_had_been(one: Results, tmp_path: Path) -> None:
    job = Job(out=str(tmp_path), with_muon=True, states=str(tmp_path / "states"), save_every=1, kill_at=2)

    code, output = launch_with_torchrun(job, ranks=2, restarts=1).finish()

    assert code == 0, output
    assert (tmp_path / "died").exists()
    assert_equal(result(job), one["Muon"], 1e-11)
