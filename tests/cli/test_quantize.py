"""`starsmith quantize`: a model artefact with rounded weights, and what that costs, on a tiny trained model."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from starsmith.cli.main import cli
from starsmith.core import artifact
from starsmith.core.config import build
from starsmith.core.errors import ArtifactError, CheckpointError, ConfigError
from starsmith.inference.engine import GenerationRequest, SamplingParams
from starsmith.inference.local import load_engine
from starsmith.training import pretrain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(
    corpus: Path, tokens_directory: Path, tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model that has learned the tiny corpus a little, wide enough for every way to round it."""
    root = tmp_path_factory.mktemp("quantized")
    for name, directory in (("corpus", corpus), ("tokens", tokens_directory), ("tokenizer", tokenizer_directory)):
        (root / name).symlink_to(directory)
    values = {"model": {"hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2}, "data": {"context_tokens": 128},
              "batch_tokens": 1024, "micro_batch_tokens": 1024, "optimizer": {"learning_rate": 1e-2},
              "steps": 40}  # fmt: skip
    config = build(pretrain.PretrainConfig, values, where="test")
    pretrain.run(config, tokens=tokens_directory, tokenizer=tokenizer_directory, out=root / "model")
    return root / "model"


def quantize(model: Path, *options: str) -> dict[str, object]:
    found = CliRunner().invoke(cli, ["quantize", str(model), "--json", *options], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    result: dict[str, object] = json.loads(found.stdout)
    return result


def greedy(path: Path, weights: str = "auto") -> list[int]:
    with load_engine(path, weights, inline=True) as engine:  # type: ignore[arg-type]
        request = GenerationRequest(prompt=[30, 40, 50, 60], params=SamplingParams(max_tokens=40))
        return [token.id for token in engine.generate(request)]


@pytest.mark.parametrize(("weights", "smaller"), [("w8a8", 0.4), ("int8", 0.4), ("int4", 0.35)])
def test_rounded_weights_are_kept_and_what_they_cost_is_told(
    model: Path, tmp_path: Path, weights: str, smaller: float
) -> None:
    out = tmp_path / "rounded"

    found = quantize(model, "--weights", weights, "--out", str(out), "--infills", "8")

    cost = found["cost"]
    assert isinstance(cost, dict)
    assert cost["size_bytes"]["ratio"] < smaller  # of float32
    assert 0.9 < cost["bits_per_byte"]["ratio"] < 1.2
    assert cost["exact_share"]["holes"] == 8
    assert [parent.role for parent in artifact.read(out, kind="model").parents] == ["base"]
    assert greedy(out) == greedy(model, weights)  # saved or rounded at the start, it is the same model


def test_the_same_model_gives_the_same_artefact(model: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        quantize(model, "--no-report", "--out", str(tmp_path / name))

    assert artifact.read(tmp_path / "one").id == artifact.read(tmp_path / "other").id


def test_a_rounded_model_is_not_rounded_again(model: Path, tmp_path: Path) -> None:
    quantize(model, "--no-report", "--out", str(tmp_path / "once"))

    with pytest.raises(CheckpointError, match="is quantised"):
        quantize(tmp_path / "once", "--no-report", "--out", str(tmp_path / "twice"))

    assert not (tmp_path / "twice").exists()


def test_a_rounded_model_cannot_be_read_as_another(model: Path, tmp_path: Path) -> None:
    quantize(model, "--no-report", "--out", str(tmp_path / "rounded"))

    with pytest.raises(ConfigError, match="quantised to w8a8"):
        load_engine(tmp_path / "rounded", "bfloat16")


def test_a_model_without_a_corpus_is_told_how_to_go_on(model: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    with artifact.create(
        alone, kind="model", config=build(pretrain.PretrainConfig, {"steps": 1}, where="test"), rooms=("core",)
    ):
        (tmp_path / "alone.partial" / "config.json").write_bytes((model / "config.json").read_bytes())

    with pytest.raises(ArtifactError) as refused:
        quantize(alone, "--out", str(tmp_path / "rounded"))

    assert "--no-report" in refused.value.hint


def test_what_is_no_model_is_said_before_a_corpus_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is no directory"):
        quantize(tmp_path / "nowhere", "--out", str(tmp_path / "rounded"))
