"""A training run: it learns, it can be killed, it goes back from a spike, and it says what it did."""

import errno
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from starsmith.core import artifact
from starsmith.core.config import build
from starsmith.core.errors import ArtifactError, ConfigError, StarsmithError
from starsmith.evaluation.watch import Watch
from starsmith.model import checkpoint
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.training import loop, pretrain
from starsmith.training.config import PretrainConfig
from starsmith.training.data import pack
from starsmith.training.optimizer import OptimizerConfig
from starsmith.training.parallel import Ranks
from starsmith.training.spikes import DivergedError, Spike, SpikeConfig, SpikeDetector
from starsmith.training.states import saved_states

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "model": {"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 1},
    "data": {"context_tokens": 64, "repository_rate": 0.0},
    "optimizer": {"learning_rate": 1e-2},
    "batch_tokens": 512,
    "micro_batch_tokens": 256,
    "steps": 30,
}


def tiny(**changes: Any) -> PretrainConfig:
    values = {**TINY, **changes}
    for name in ("model", "data", "optimizer"):
        values[name] = {**TINY[name], **changes.get(name, {})}
    return build(PretrainConfig, {key: value for key, value in values.items() if value is not None}, where="test")


@pytest.fixture(scope="module")
def inputs(tokens_directory: Path, tokenizer_directory: Path) -> dict[str, Path]:
    return {"tokens": tokens_directory, "tokenizer": tokenizer_directory}


def metrics(model: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (model / "run" / "metrics.jsonl").read_text().splitlines()]


def steps_of(model: Path) -> list[int]:
    return [line["step"] for line in metrics(model) if "event" not in line]


@pytest.fixture(scope="module")
def trained(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    watch = Watch(inputs["tokens"], Tokenizer.load(inputs["tokenizer"]), context_tokens=64, holes=2)
    pretrain.run(tiny(), **inputs, out=out, watch=watch)
    return out


def test_the_loss_falls_in_training_and_on_held_out_files(trained: Path) -> None:
    lines = metrics(trained)
    watched = [line["held_out_bits_per_byte"] for line in lines if "held_out_bits_per_byte" in line]

    assert steps_of(trained) == list(range(1, 31))
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert watched[-1] < 0.8 * watched[0]
    assert "held_out_exact_match" in lines[-1]


def test_each_step_says_what_it_lost_where(trained: Path) -> None:
    for line in metrics(trained):
        for group in (line["by_kind"], line["by_language"]):
            nats, tokens = (sum(share[part] for share in group.values()) for part in (0, 1))
            assert nats / tokens == pytest.approx(line["loss"], rel=1e-5)
        assert set(line["by_kind"]) <= {"left-to-right", "psm", "spm"}
        assert line["gradient_norm"] > 0
        assert line["epoch"] >= 0


def test_the_account_says_what_was_trained(trained: Path) -> None:
    manifest = artifact.read(trained, kind="model")

    assert manifest.counts["steps"] == 30
    assert manifest.counts["tokens"] == metrics(trained)[-1]["tokens"]
    assert {parent.role for parent in manifest.parents} == {"tokens", "tokenizer"}
    assert artifact.verify(trained) == []
    assert not (trained / "run" / "states").exists()


def test_the_same_settings_give_the_same_weights(trained: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    pretrain.run(tiny(), **inputs, out=tmp_path / "again")

    assert artifact.read(tmp_path / "again").id == artifact.read(trained).id


def test_another_seed_gives_other_weights(trained: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    pretrain.run(tiny(seed=5), **inputs, out=tmp_path / "other")

    assert artifact.read(tmp_path / "other").id != artifact.read(trained).id


def test_a_minute_box_becomes_a_number_of_steps_and_is_kept_to(inputs: dict[str, Path], tmp_path: Path) -> None:
    started = time.monotonic()

    pretrain.run(tiny(steps=None, minutes=0.03), **inputs, out=tmp_path / "model")

    manifest = artifact.read(tmp_path / "model")
    assert manifest.config["steps"] == manifest.counts["steps"] > 3
    assert manifest.config["minutes"] is None
    assert time.monotonic() - started < 60


def test_measuring_the_speed_changes_nothing(trained: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    partial = tmp_path / "timed.partial" / "run"
    pretrain.run(tiny(steps=None, minutes=0.01), **inputs, out=tmp_path / "first")
    steps = artifact.read(tmp_path / "first").counts["steps"]

    pretrain.run(tiny(steps=steps), **inputs, out=tmp_path / "given")

    weights = [checkpoint.load(tmp_path / name).state_dict() for name in ("first", "given")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not partial.exists()


def test_tokens_become_steps(inputs: dict[str, Path], tmp_path: Path) -> None:
    pretrain.run(tiny(steps=None, tokens=512 * 3), **inputs, out=tmp_path / "model")

    assert artifact.read(tmp_path / "model").counts["steps"] == 3


def test_killed_again_and_again_a_run_ends_with_the_weights_of_one_that_was_not(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny(steps=60, save_minutes=0.001, model={"dropout": 0.1}, optimizer={"averaging": 0.9})
    pretrain.run(config, **inputs, out=tmp_path / "whole")
    out, kills, moments = tmp_path / "killed", 0, random.Random(0)
    while not out.exists():
        child = os.fork()  # not a new process: torch takes seconds to import
        if child == 0:
            pretrain.run(config, **inputs, out=out)
            os._exit(0)
        time.sleep(moments.uniform(0.05, 0.4))
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
        if kills >= 20:
            pretrain.run(config, **inputs, out=out)

    assert kills >= 20
    assert artifact.read(out).id == artifact.read(tmp_path / "whole").id
    assert steps_of(out) == list(range(1, 61))
    assert not list(tmp_path.glob("*.partial"))


class Stopped(Exception):  # noqa: N818 it stands for a kill
    pass


def stop_after(step: int) -> Any:
    """A watch that stops the run; it is asked at every tenth of the steps."""

    def watch(_: object) -> dict[str, float]:
        nonlocal step
        step -= 1
        if step == 0:
            raise Stopped
        return {}

    return watch


def interrupted(config: PretrainConfig, inputs: dict[str, Path], out: Path) -> list[Path]:
    """Stop a run in the middle; the states that it leaves."""
    with pytest.raises(Stopped):
        pretrain.run(config, **inputs, out=out, watch=stop_after(5))
    return saved_states(out.with_name(out.name + ".partial") / "run" / "states")


def test_a_truncated_state_is_told_and_the_one_before_it_taken(
    trained: Path, inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = interrupted(tiny(save_minutes=1e-6), inputs, tmp_path / "model")
    largest = max(newer.iterdir(), key=lambda file: file.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)

    pretrain.run(tiny(save_minutes=1e-6), **inputs, out=tmp_path / "model")

    told = capsys.readouterr().err
    assert f"{newer.name} is not used: {largest.name}" in told
    assert f"taking up the run at step {int(older.name[5:])} of 30" in told
    assert artifact.verify(tmp_path / "model") == []
    weights = [checkpoint.load(path).state_dict() for path in (trained, tmp_path / "model")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_disk_full_at_the_very_end_leaves_the_states_to_go_on_from(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(artifact, "_write_manifest", full)
        with pytest.raises(StarsmithError, match="no space left"):
            pretrain.run(tiny(save_minutes=1e-6), **inputs, out=tmp_path / "model")

    pretrain.run(tiny(save_minutes=1e-6), **inputs, out=tmp_path / "model")

    assert "taking up the run at step" in capsys.readouterr().err
    assert not (tmp_path / "model" / "run" / "states").exists()


def test_a_plan_is_whole_or_absent(inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that stops while the number of its steps is written finds it another time."""
    write_text = Path.write_text

    def stopped(path: Path, text: str, *arguments: Any, **options: Any) -> int:
        if not path.name.startswith("plan"):
            return write_text(path, text, *arguments, **options)
        write_text(path, text[:5])
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", stopped)
        with pytest.raises(Stopped):
            pretrain.run(tiny(steps=None, minutes=0.01), **inputs, out=tmp_path / "model")

    pretrain.run(tiny(steps=None, minutes=0.01), **inputs, out=tmp_path / "model")

    assert artifact.read(tmp_path / "model").counts["steps"] > 0


def test_a_shard_that_changed_under_a_run_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    shutil.copytree(inputs["tokens"], tokens, copy_function=shutil.copyfile)
    changed = {**inputs, "tokens": tokens}
    assert interrupted(tiny(save_minutes=1e-6), changed, tmp_path / "model")
    shard = tokens / "shards" / "00000.bin"
    content = np.fromfile(shard, np.uint16)
    content[100] ^= 1
    content.tofile(shard)

    with pytest.raises(ArtifactError, match=r"shards/00000\.bin"):
        pretrain.run(tiny(save_minutes=1e-6), **changed, out=tmp_path / "model")


def test_a_run_with_other_settings_does_not_take_up_the_old_one(inputs: dict[str, Path], tmp_path: Path) -> None:
    interrupted(tiny(), inputs, tmp_path / "model")  # before its first state was saved

    pretrain.run(tiny(steps=2), **inputs, out=tmp_path / "model")

    assert artifact.read(tmp_path / "model").counts["steps"] == 2


def test_saved_states_are_not_thrown_away_because_a_setting_changed(inputs: dict[str, Path], tmp_path: Path) -> None:
    states = interrupted(tiny(save_minutes=1e-6), inputs, tmp_path / "model")

    with pytest.raises(ArtifactError, match="holds an interrupted work that other settings"):
        pretrain.run(tiny(save_minutes=1e-5), **inputs, out=tmp_path / "model")

    assert all(state.is_dir() for state in states)


@pytest.mark.parametrize("action", ["skip", "rewind"])
def test_a_spike_is_stepped_over(
    action: str, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of one block of rows is judged as a spike, whenever it is read."""
    bad_block = 20
    read: list[int] = []
    see, gradients = SpikeDetector.see, loop.gradients

    def noting(state: Any, work: Any, batches: Any, block: int) -> Any:
        read.append(block)
        return gradients(state, work, batches, block)

    def judged(self: SpikeDetector, step: int, loss: float, gradient_norm: float) -> Spike | None:
        if read[-1] != bad_block:
            return see(self, step, loss, gradient_norm)
        return Spike(step, "loss", loss, loss / 2, 9.0, True)

    monkeypatch.setattr(loop, "gradients", noting)
    monkeypatch.setattr(SpikeDetector, "see", judged)
    config = tiny(spikes={"action": action}, save_minutes=1e-6)

    pretrain.run(config, **inputs, out=tmp_path / "model")

    events = [line for line in metrics(tmp_path / "model") if "event" in line]
    assert steps_of(tmp_path / "model") == list(range(1, 31))
    if action == "skip":
        assert read == list(range(30))
        assert [event["event"] for event in events] == ["skip"]
    else:
        back = read.index(bad_block) + 1
        assert [event["event"] for event in events] == ["rewind"]
        assert read[:back] == list(range(21))
        assert bad_block not in read[back:]
        assert read[-1] >= 30  # as many steps, over later rows


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_documents(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = loop.batch_losses
    counted = iter(range(100))

    def broken(*arguments: Any, **options: Any) -> Any:
        found = losses(*arguments, **options)
        return found._replace(nats=found.nats * float("nan")) if next(counted) == 9 else found

    monkeypatch.setattr(loop, "batch_losses", broken)

    with pytest.raises(DivergedError, match=r"step 5: the loss is nan") as caught:
        pretrain.run(tiny(), **inputs, out=tmp_path / "model")

    told = json.loads((tmp_path / "model.partial" / "run" / "bad_batch.json").read_text())
    named = [document["path"] for row in told["rows"] for part in row["sequences"] for document in part["documents"]]
    assert told["step"] == 5
    assert named
    assert any(path in caught.value.message for path in named)
    assert "bad_batch.json" in caught.value.hint


def test_a_model_is_trained_on_with_a_longer_context_and_another_theta(
    trained: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny(model={"rope_theta": 1e6}, data={"context_tokens": 128}, steps=5)

    pretrain.run(config, **inputs, base=trained, out=tmp_path / "long")

    found = checkpoint.load_config(tmp_path / "long")
    assert (found.max_position_embeddings, found.rope_theta, found.hidden_size) == (128, 1e6, 32)
    assert {parent.role for parent in artifact.read(tmp_path / "long").parents} == {"tokens", "tokenizer", "base"}
    assert metrics(tmp_path / "long")[0]["loss"] < 0.9 * metrics(trained)[0]["loss"]


def test_a_base_of_another_shape_is_refused(trained: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hidden_size 32, layers 2, .* asks for hidden_size 48"):
        pretrain.run(tiny(model={"hidden_size": 48}), **inputs, base=trained, out=tmp_path / "model")


def test_a_vocabulary_that_is_not_the_one_of_the_shards_is_refused(
    inputs: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    from starsmith.tokenizer import train

    train.run(train.TokenizerConfig(vocab_size=300), corpus=corpus, out=tmp_path / "other")

    with pytest.raises(ConfigError, match="was made with tokenizer"):
        pretrain.run(tiny(), tokens=inputs["tokens"], tokenizer=tmp_path / "other", out=tmp_path / "model")


def test_the_average_of_the_weights_is_what_is_written(trained: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    pretrain.run(tiny(optimizer={"averaging": 0.5}), **inputs, out=tmp_path / "averaged")

    plain, averaged = (checkpoint.load(path).state_dict() for path in (trained, tmp_path / "averaged"))
    moved = max(float((plain[name] - averaged[name]).abs().max()) for name in plain)
    assert 0 < moved < 0.1


def test_checkpointed_activations_give_the_same_weights(trained: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    pretrain.run(tiny(activation_checkpointing=True, steps=5), **inputs, out=tmp_path / "less")
    pretrain.run(tiny(steps=5), **inputs, out=tmp_path / "plain")

    plain, less = (checkpoint.load(tmp_path / name).state_dict() for name in ("plain", "less"))
    assert all(torch.allclose(plain[name], less[name], atol=1e-6) for name in plain)


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")

    with pytest.raises(ConfigError, match="there is none: no-such-compiler"):
        pretrain._compile(Transformer(tiny().model.model(vocab_size=64, context_tokens=64)))


def test_a_fault_that_only_the_first_rank_sees_stops_all() -> None:
    class Other(Ranks):
        def from_first(self, value: Any) -> Any:
            return told or value

    def broken() -> None:
        raise ArtifactError("shards/00000.bin was changed")

    told: Any = None
    with pytest.raises(ArtifactError, match=r"00000\.bin was changed"):
        pretrain._on_first(Ranks(), broken)
    told = (None, ArtifactError("shards/00000.bin was changed"))
    with pytest.raises(ArtifactError, match=r"00000\.bin was changed"):
        pretrain._on_first(Other(1, 2), broken)


class Part(Ranks):
    """A rank among others that are not there."""

    def sum(self, *values: float) -> tuple[float, ...]:
        return values


def test_a_row_has_its_dropout_whatever_rank_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    batch = pack([list(range(20, 30))])
    model = Transformer(tiny(model={"dropout": 0.1}).model.model(vocab_size=64, context_tokens=64))
    state = loop.TrainingState(model, (), SpikeDetector(SpikeConfig()))

    def seeds_of(ranks: Ranks) -> list[int]:
        seeds.clear()
        work: Any = SimpleNamespace(
            ranks=ranks, rows_per_step=4, seed=1, precision="float32", optimizer=OptimizerConfig()
        )
        loop.gradients(state, work, [batch] * (4 // ranks.size), 3)
        return list(seeds)

    alone, first, second = seeds_of(Ranks()), seeds_of(Part(0, 2)), seeds_of(Part(1, 2))

    assert len(set(alone)) == 4
    assert (alone[0::2], alone[1::2]) == (first, second)


def test_what_is_done_between_steps_is_no_time_of_training(inputs: dict[str, Path], tmp_path: Path) -> None:
    def watch(_: object) -> dict[str, float]:
        time.sleep(0.5)
        return {}

    started = time.monotonic()
    pretrain.run(tiny(steps=10), **inputs, out=tmp_path / "model", watch=watch)

    assert metrics(tmp_path / "model")[-1]["seconds"] < time.monotonic() - started - 5
