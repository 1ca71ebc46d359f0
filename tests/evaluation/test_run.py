"""The stage and the page, on a tiny trained model."""

import json
import re
from pathlib import Path

import pytest

from starsmith.core import artifact
from starsmith.core.config import build
from starsmith.core.errors import InputError
from starsmith.evaluation import report, run
from starsmith.evaluation.infilling import Hole
from starsmith.evaluation.samples import Sample, take_samples
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.provenance import index
from starsmith.training import pretrain
from worlds import MakeCorpus, function_text, source_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(
    corpus: Path, tokens_directory: Path, tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run directory with a model that has learned the tiny corpus a little."""
    root = tmp_path_factory.mktemp("run")
    for name, directory in (("corpus", corpus), ("tokens", tokens_directory), ("tokenizer", tokenizer_directory)):
        (root / name).symlink_to(directory)
    values = {"model": {"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 1}, "data": {"context_tokens": 128},
              "batch_tokens": 1024, "micro_batch_tokens": 1024, "optimizer": {"learning_rate": 1e-2},
              "steps": 40}  # fmt: skip
    config = build(pretrain.PretrainConfig, values, where="test")
    pretrain.run(config, tokens=tokens_directory, tokenizer=tokenizer_directory, out=root / "model")
    run.run(run.EvaluationConfig(infills=8), model=root / "model", corpus=corpus, out=root / "evaluation")
    index.run(index.IndexConfig(ngram_tokens=8, window=4), corpus=corpus, out=root / "index")
    return root


def samples_of(root: Path, count: int) -> list[Sample]:
    def ask(hole: Hole) -> CompletionRequest:
        return CompletionRequest(prefix=hole.prefix, suffix=hole.suffix, params=SamplingParams(max_tokens=16))

    return take_samples(**{name: root / name for name in ("model", "corpus", "index")}, count=count, ask=ask)


def test_the_results_hold_the_model_beside_the_baseline(world: Path) -> None:
    results = json.loads((world / "evaluation" / "results.json").read_text())

    assert 0 < results["bits_per_byte"]["model"] < 8
    assert 0 < results["bits_per_byte"]["baseline"] < 8
    assert results["infilling"]["holes"] == results["infilling"]["baseline"]["holes"] == 8
    assert {layout: found["holes"] for layout, found in results["infilling"]["per_layout"].items()} == {
        "psm": 4,
        "spm": 4,
    }


def test_every_completion_is_stored_and_adds_up_to_the_figures(world: Path) -> None:
    results = json.loads((world / "evaluation" / "results.json").read_text())
    rows = [json.loads(line) for line in (world / "evaluation" / "samples.jsonl").read_text().splitlines()]

    assert len(rows) == 8
    assert sum(row["exact"] for row in rows) == results["infilling"]["exact"]
    assert sum(bool(row["syntax_valid"]) for row in rows) == results["infilling"]["syntax_valid"]


def test_the_same_model_gives_the_same_artefact(world: Path, corpus: Path, tmp_path: Path) -> None:
    run.run(run.EvaluationConfig(infills=8), model=world / "model", corpus=corpus, out=tmp_path / "again")

    assert artifact.read(tmp_path / "again").id == artifact.read(world / "evaluation").id


def test_a_corpus_without_held_out_files_is_refused(world: Path, make_corpus: MakeCorpus, tmp_path: Path) -> None:
    everything = make_corpus(tmp_path / "corpus", [source_file("a.py", function_text(1))])

    with pytest.raises(InputError, match="has no held-out file"):
        run.run(run.EvaluationConfig(), model=world / "model", corpus=everything, out=tmp_path / "out")


def test_samples_are_the_same_places_whatever_the_model_writes(world: Path) -> None:
    samples = samples_of(world, 3)

    assert samples == samples_of(world, 3)
    assert all(sample.path.startswith("pkg/held_") for sample in samples)
    assert all(source.path.startswith("pkg/module_") for s in samples for m in s.matches for source in m.sources)


def test_the_page_shows_the_run_and_asks_for_nothing(world: Path, tmp_path: Path) -> None:
    samples = samples_of(world, 3)

    page = report.write(world, tmp_path / "report.html", samples=samples).read_text()

    results = json.loads((world / "evaluation" / "results.json").read_text())
    assert f"{results['bits_per_byte']['baseline']:.3f}</td>" in page
    assert page.count("<svg") >= 4  # loss and bars, each for a wide screen and for a narrow one
    assert all(sample.path in page for sample in samples)
    assert artifact.read(world / "model").id[:16] in page
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", page)
    assert "<script" not in page


def test_code_in_the_page_is_escaped(world: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    sample = replace(samples_of(world, 1)[0], completion="<script>alert(1)</script>")

    page = report.write(world, tmp_path / "report.html", samples=[sample]).read_text()

    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_directory_without_artefacts_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no artefact"):
        report.write(tmp_path, tmp_path / "report.html", samples=[])
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_only_begun_has_a_page_that_says_so(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").symlink_to(corpus)

    page = report.write(tmp_path, tmp_path / "report.html", samples=[]).read_text()

    assert page.count("not run") == 5
