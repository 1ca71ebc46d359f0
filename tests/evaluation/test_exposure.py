"""Canaries: what is planted, what governance leaves of it, and that exposure tells how often it was read."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builds import build as build_corpus
from starsmith.core import artifact
from starsmith.core.config import build
from starsmith.core.errors import ArtifactError, ConfigError
from starsmith.core.records import read_files
from starsmith.evaluation import canaries, exposure
from starsmith.evaluation.canaries import Canary, CanaryConfig
from starsmith.evaluation.exposure import ExposureConfig
from starsmith.tokenizer import tokens, train
from starsmith.training import pretrain
from worlds import MakeCorpus, source_file

pytestmark = pytest.mark.slow

DIGITS = Canary("number-0", "number", "ticket_a = ", "12", "", "0123456789", 2, 1)


def plant(out: Path, **values: Any) -> Path:
    canaries.run(build(CanaryConfig, values, where="test"), out=out)
    return out


# ---- planting


def test_every_secret_stands_in_as_many_files_as_were_asked_for(tmp_path: Path) -> None:
    planted = canaries.read(plant(tmp_path / "out", copies=[0, 1, 5], each=3, forms=["number", "key"]))

    texts = [file.read_text() for file in (tmp_path / "out" / "files").iterdir()]
    assert len(planted) == 18
    assert len({canary.secret for canary in planted}) == len({canary.before for canary in planted}) == 18
    assert all(sum(canary.line in text for text in texts) == canary.copies for canary in planted)
    assert all(sum(canary.secret in text for text in texts) == canary.copies for canary in planted)
    for text in texts:
        compile(text, "unit.py", "exec")


def test_the_same_seed_plants_the_same_and_another_does_not(tmp_path: Path) -> None:
    ids = [artifact.read(plant(tmp_path / f"{n}", copies=[0, 2], seed=seed)).id for n, seed in enumerate((0, 0, 1))]

    assert ids[0] == ids[1] != ids[2]


def test_others_come_from_the_space_of_the_canary_and_are_never_its_secret() -> None:
    random = np.random.default_rng(0)

    every = canaries.draw_others(DIGITS, 99, random)
    some = canaries.draw_others(DIGITS, 40, random)

    assert sorted([*every, "12"]) == [f"{number:02d}" for number in range(100)]
    assert len(set(some)) == 40
    assert set(some) < set(every)


def test_governance_leaves_numbers_alone_and_takes_keys_out(tmp_path: Path) -> None:
    planted = plant(tmp_path / "canaries", copies=[0, 1, 12], each=2, forms=["number", "key"])

    build_corpus(tmp_path / "corpus", planted / "files", held_out=0.0)

    texts = [file.text for file in read_files(tmp_path / "corpus")]
    listed = canaries.read(planted)
    counts = exposure.count_lines(texts, [canary.before + canary.secret for canary in listed])
    left = {form: [n for c, n in zip(listed, counts, strict=True) if c.form == form] for form in ("number", "key")}
    assert left["number"] == [0, 0, 1, 1, 12, 12]
    assert left["key"] == [0] * 6
    assert len(texts) == len(list((planted / "files").iterdir()))


def test_canaries_that_were_changed_are_refused(tmp_path: Path) -> None:
    planted = plant(tmp_path / "canaries", copies=[1])
    listed = planted / canaries.CANARIES
    listed.write_text(listed.read_text().replace("ticket", "wicket"))

    with pytest.raises(ArtifactError, match="was changed"):
        canaries.read(planted)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"copies": []}, "copies"),
        ({"copies": [-1]}, "copies"),
        ({"copies": [10**9]}, "copies would be written"),
        ({"forms": ["word"]}, "no forms of a secret"),
        ({"digits": 1}, "digits=1"),
        ({"digits": 19}, "digits=19"),
        ({"copies": [0], "each": 10**6}, "1,000,000 canaries are wanted"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_canaries_that_make_no_sense_are_refused(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        plant(tmp_path / "out", **values)
    with pytest.raises(ConfigError, match="alternatives=0"):
        ExposureConfig(alternatives=0)
    with pytest.raises(ConfigError, match="seed=-1"):
        ExposureConfig(seed=-1)


# ---- arithmetic


def exposed(rank: int, ranked: int, copies: int, in_corpus: int) -> exposure.Exposed:
    canary = Canary(f"number-{rank}-{copies}", "number", "a = ", "1", "", "0123456789", 8, copies)
    return exposure.Exposed(canary, in_corpus, rank, ranked, extracted=rank == 1)


def test_exposure_is_the_bits_that_the_rank_gives_away() -> None:
    assert exposed(1, 1024, 4, 4).exposure == 10
    assert exposed(512, 1024, 4, 4).exposure == 1
    assert exposed(1024, 1024, 4, 4).exposure == 0


def test_chance_is_the_mean_over_all_ranks() -> None:
    assert exposure.chance(2) == pytest.approx(0.5)
    assert exposure.chance(4096) == pytest.approx(1 / math.log(2), abs=0.01)  # of an exponential distribution


def test_ranks_correlate_as_spearman_has_it() -> None:
    assert exposure.spearman([1, 2, 3, 4], [10, 20, 30, 400]) == pytest.approx(1)
    assert exposure.spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # Ties have their mean rank: 1.5 1.5 3 4 against 2 1 4 3, by hand 3.5 / sqrt(4.5 * 5).
    assert exposure.spearman([0, 0, 5, 9], [2, 1, 4, 3]) == pytest.approx(3.5 / math.sqrt(22.5))
    assert exposure.spearman([2, 2, 2], [1, 2, 3]) is None


def test_what_chance_alone_gives_is_not_called_memory() -> None:
    random = np.random.default_rng(5)
    found = [exposed(int(random.integers(1, 1025)), 1024, copies, copies) for copies in (0, 4, 16) for _ in range(8)]

    results = exposure.summary(found, seed=0)["forms"]["number"]

    assert all(group["p_value"] > 0.01 for group in results["by_copies"])
    assert results["p_value"] > 0.01


def test_a_rank_that_follows_the_copies_is_called_memory() -> None:
    found = [exposed(rank, 1024, copies, copies) for copies, rank in ((0, 600), (0, 300), (4, 60), (4, 90), (16, 1))]

    results = exposure.summary(found, seed=0)["forms"]["number"]

    assert results["rank_correlation"] > 0.9
    assert results["p_value"] < 0.05
    assert [group["first_of_all"] for group in results["by_copies"]] == [0, 0, 1]


# ---- ground truth


def test_exposure_rises_with_the_copies_that_a_model_read_and_is_chance_without(
    tmp_path: Path, make_corpus: MakeCorpus
) -> None:
    planted = plant(tmp_path / "canaries", copies=[0, 1, 4, 16], each=4, digits=6)
    files = [source_file(file.name, file.read_text()) for file in sorted((planted / "files").iterdir())]
    corpus = make_corpus(tmp_path / "corpus", files)
    train.run(train.TokenizerConfig(vocab_size=420), corpus=corpus, out=tmp_path / "tokenizer")
    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tmp_path / "tokenizer", out=tmp_path / "tokens")
    values = {"model": {"hidden_size": 64, "layers": 2, "heads": 2, "kv_heads": 1}, "batch_tokens": 1024,
              "data": {"context_tokens": 128, "fim_rate": 0.0, "repository_rate": 0.0},
              "micro_batch_tokens": 1024, "optimizer": {"learning_rate": 1e-2}, "steps": 60}  # fmt: skip
    config = build(pretrain.PretrainConfig, values, where="test")
    pretrain.run(config, tokens=tmp_path / "tokens", tokenizer=tmp_path / "tokenizer", out=tmp_path / "model")

    exposure.run(
        ExposureConfig(alternatives=255),
        model=tmp_path / "model",
        canaries=planted,
        corpus=corpus,
        out=tmp_path / "audit",
    )

    results = json.loads((tmp_path / "audit" / exposure.RESULTS).read_text())
    found = results["forms"]["number"]
    never, most = found["by_copies"][0], found["by_copies"][-1]
    assert [group["in_corpus"] for group in found["by_copies"]] == [0, 4, 16, 64]
    assert never["p_value"] > 0.01
    assert most["p_value"] < 0.001
    assert most["exposure"] > never["exposure"] + 3
    assert found["rank_correlation"] > 0.6
    assert found["p_value"] < 0.01
    listed = (planted / canaries.CANARIES).read_text()
    secrets = [row["secret"] for row in json.loads(listed)]
    stored = (tmp_path / "audit" / exposure.RESULTS).read_text()
    assert not [secret for secret in secrets if secret in stored]
