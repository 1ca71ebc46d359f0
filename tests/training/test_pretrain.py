"""A training run: it learns, it can be killed, and it says what it did."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from starsmith.core import artifact
from starsmith.core.config import build
from starsmith.core.errors import ConfigError
from starsmith.training import pretrain
from starsmith.training.pretrain import PretrainConfig

pytestmark = pytest.mark.slow

TINY = {
    "hidden_size": 32,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "context_tokens": 64,
    "batch_tokens": 512,
    "micro_batch_tokens": 256,
    "learning_rate": 1e-2,
    "steps": 30,
}


def tiny(**changes: object) -> PretrainConfig:
    return build(PretrainConfig, {**TINY, **changes}, where="test")


def metrics(model: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (model / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tokens_directory: Path, tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    pretrain.run(tiny(), tokens=tokens_directory, tokenizer=tokenizer_directory, out=out)
    return out


def test_the_loss_falls_in_training_and_on_held_out_files(trained: Path) -> None:
    lines = metrics(trained)
    watched = [line["held_out_bits_per_byte"] for line in lines if "held_out_bits_per_byte" in line]

    assert [line["step"] for line in lines] == list(range(1, 31))
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert watched[-1] < 0.8 * watched[0]


def test_the_account_says_what_was_trained(trained: Path) -> None:
    manifest = artifact.read(trained, kind="model")

    assert manifest.counts["steps"] == 30
    assert manifest.counts["tokens"] == metrics(trained)[-1]["tokens"]
    assert {parent.role for parent in manifest.parents} == {"tokens", "tokenizer"}
    assert artifact.verify(trained) == []


def test_the_same_settings_give_the_same_weights(
    trained: Path, tokens_directory: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    pretrain.run(tiny(), tokens=tokens_directory, tokenizer=tokenizer_directory, out=tmp_path / "again")

    assert artifact.read(tmp_path / "again").id == artifact.read(trained).id


def test_another_seed_gives_other_weights(
    trained: Path, tokens_directory: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    pretrain.run(tiny(seed=5), tokens=tokens_directory, tokenizer=tokenizer_directory, out=tmp_path / "other")

    assert artifact.read(tmp_path / "other").id != artifact.read(trained).id


def test_a_minute_box_becomes_a_number_of_steps_and_is_kept_to(
    tokens_directory: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    started = time.monotonic()

    config = build(PretrainConfig, {**{k: v for k, v in TINY.items() if k != "steps"}, "minutes": 0.03}, where="test")
    pretrain.run(config, tokens=tokens_directory, tokenizer=tokenizer_directory, out=tmp_path / "model")

    manifest = artifact.read(tmp_path / "model")
    assert manifest.config["steps"] == manifest.counts["steps"] > 3
    assert manifest.config["minutes"] is None
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_a_killed_run_is_taken_up_and_ends_with_the_same_weights(
    tokens_directory: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    config = {**TINY, "steps": 120}
    pretrain.run(tiny(steps=120), tokens=tokens_directory, tokenizer=tokenizer_directory, out=tmp_path / "whole")
    script = (
        "import json, sys, pathlib\n"
        "from starsmith.core.config import build\n"
        "from starsmith.training import pretrain\n"
        "pretrain.SAVE_EVERY_S = 0.2\n"
        f"config = build(pretrain.PretrainConfig, json.loads({json.dumps(json.dumps(config))}), where='test')\n"
        "tokens, tokenizer, out = map(pathlib.Path, sys.argv[1:])\n"
        "pretrain.run(config, tokens=tokens, tokenizer=tokenizer, out=out)\n"
    )
    out = tmp_path / "killed"
    command = [sys.executable, "-c", script, str(tokens_directory), str(tokenizer_directory), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    state = tmp_path / "killed.partial" / "run" / "state.pt"
    while not state.exists() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed_at = torch.load(state, weights_only=True)["step"]

    resumed = subprocess.run(command, capture_output=True, text=True, check=True)

    assert 0 < killed_at < 120
    assert "taking up the run at step" in resumed.stderr
    assert artifact.read(out).id == artifact.read(tmp_path / "whole").id
    assert [line["step"] for line in metrics(out)] == list(range(1, 121))
    assert not list(tmp_path.glob("*.partial"))


def test_a_run_with_other_settings_does_not_take_up_the_old_one(
    tokens_directory: Path, tokenizer_directory: Path, tmp_path: Path
) -> None:
    partial = tmp_path / "model.partial" / "run"
    partial.mkdir(parents=True)
    (partial / "started.json").write_text('{"kind": "model", "code": {}}')
    (partial / "state.pt").write_bytes(b"not a state")

    pretrain.run(tiny(steps=2), tokens=tokens_directory, tokenizer=tokenizer_directory, out=tmp_path / "model")

    assert artifact.read(tmp_path / "model").counts["steps"] == 2


def test_steps_and_minutes_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="steps=30 and minutes=3"):
        tiny(minutes=3)


def test_the_number_of_settings_stays_small() -> None:
    from dataclasses import fields

    assert len(fields(PretrainConfig)) <= 15
