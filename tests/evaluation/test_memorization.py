"""The memorisation audit: its windows, its arithmetic, and what it finds in a model that knows its files by heart."""

import itertools
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from starsmith.cli.audit import audit
from starsmith.core import artifact
from starsmith.core.config import build
from starsmith.core.errors import ArtifactError, ConfigError, InputError, StarsmithError
from starsmith.core.hashing import TOKEN
from starsmith.core.records import HELD_OUT, SourceFile
from starsmith.evaluation import canaries, exposure, memorization
from starsmith.evaluation.canaries import surround
from starsmith.evaluation.content_classes import header_end, is_data
from starsmith.evaluation.extraction import Score, Task, scheme_log_probs, score
from starsmith.evaluation.memorization import MemorizationConfig
from starsmith.evaluation.memorization_figures import Outcome, difference, newcombe, rates
from starsmith.evaluation.memorization_sampling import Pool, Shape, Window, bucket_of, draw, read_rows
from starsmith.evaluation.training_places import count_places
from starsmith.inference.engine import GenerationRequest, SamplingParams
from starsmith.inference.local import LocalEngine, engine_for
from starsmith.inference.sampling import distribution
from starsmith.model import checkpoint
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer import fim, tokens, train
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.training import pretrain
from worlds import MakeCorpus, function_text, source_file

pytestmark = pytest.mark.slow

PROMPT = [5, 9, 40, 3, 77, 12, 60, 8]
PLAIN = SamplingParams(temperature=1.0)


@pytest.fixture
def network() -> Transformer:
    torch.manual_seed(3)
    config = ModelConfig(
        vocab_size=97, hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return Transformer(config).eval()


def ignore(_: int) -> None:
    """Nobody watches."""


def scored(network: Transformer, tasks: Sequence[Task], **params: Any) -> list[Score]:
    return score(network, tasks, SamplingParams(**{"temperature": 1.0, **params}), ignore)


def written_by(engine: LocalEngine, prompt: Sequence[int], **params: Any) -> list[int]:
    return [one.id for one in engine.generate(GenerationRequest(prompt=prompt, params=SamplingParams(**params)))]


# ---- one pass instead of decoding


@settings(max_examples=15)
@given(st.lists(st.integers(0, 96), min_size=1, max_size=20), st.integers(1, 30))
def test_what_greedy_decoding_writes_is_read_off_one_pass(prompt: list[int], count: int) -> None:
    torch.manual_seed(3)
    network = Transformer(
        ModelConfig(
            vocab_size=97,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            initializer_range=0.5,
        )
    ).eval()
    written = written_by(engine_for(network, inline=True), prompt, max_tokens=count)
    wrong = [*written[:-1], (written[-1] + 1) % 97]

    same, other = scored(network, [Task(prompt, written), Task(prompt, wrong)])

    assert (same.extracted, same.right_tokens) == (True, count)
    assert (other.extracted, other.right_tokens) == (False, count - 1)


def test_a_batch_of_unlike_lengths_scores_as_each_alone_and_as_the_engine(network: Transformer) -> None:
    random = np.random.default_rng(0)
    tasks = [Task(random.integers(0, 97, size).tolist(), random.integers(0, 97, 7).tolist()) for size in (1, 30, 4, 9)]

    together = scored(network, tasks, top_k=5)

    engine = engine_for(network)
    for found, task in zip(together, tasks, strict=True):
        alone = scored(network, [task], top_k=5)[0]
        by_engine = sum(engine.score([*task.prompt, *task.truth])[len(task.prompt) - 1 :])
        assert found.log_prob == pytest.approx(by_engine, abs=1e-4)
        assert (found.extracted, found.right_tokens) == (alone.extracted, alone.right_tokens)
        assert found.scheme_log_prob == pytest.approx(alone.scheme_log_prob, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [None, 1, 7, 500])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_the_scheme_is_the_one_that_the_engine_samples_with(
    temperature: float, top_k: int | None, top_p: float
) -> None:
    logits = torch.randn(60, 40, generator=torch.Generator().manual_seed(1)) * 3
    truth = torch.arange(60) % 40
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)

    found = scheme_log_probs(logits, truth, params)

    wanted = torch.stack([distribution(row, params)[token] for row, token in zip(logits, truth, strict=True)])
    assert torch.allclose(found.exp(), wanted, atol=1e-6)


def test_the_chance_of_the_whole_truth_is_how_often_sampling_writes_it(network: Transformer) -> None:
    engine, trials = engine_for(network), 200
    params = {"temperature": 0.7, "top_k": 4}
    written = [tuple(written_by(engine, PROMPT, max_tokens=2, seed=seed, **params)) for seed in range(trials)]
    truth = max(set(written), key=written.count)

    chance = math.exp(scored(network, [Task(PROMPT, truth)], **params)[0].scheme_log_prob)

    error = math.sqrt(chance * (1 - chance) / trials)
    assert abs(written.count(truth) / trials - chance) < 4 * error
    assert 0.02 < chance < 0.98


def test_a_truth_that_the_scheme_never_samples_is_never_found(network: Transformer) -> None:
    least = int(network(torch.tensor([PROMPT]))[0, -1].argmin())

    found = scored(network, [Task(PROMPT, [least])], top_k=3)[0]

    assert found.scheme_log_prob == -math.inf
    assert found.samples_needed(0.1) == math.inf
    assert math.isfinite(found.log_prob)


@given(st.floats(1e-9, 0.999), st.floats(0.01, 0.99))
def test_the_samples_needed_are_the_fewest_that_reach_the_probability(chance: float, probability: float) -> None:
    needed = Score(0.0, math.log(chance), 0, extracted=False).samples_needed(probability)

    def reached(n: float) -> float:
        return -math.expm1(n * math.log1p(-chance))

    assert reached(needed) >= probability - 1e-6
    assert needed == 1 or reached(needed - 1) < probability + 1e-6


def test_a_prompt_that_does_not_fit_the_context_is_refused(network: Transformer) -> None:
    with pytest.raises(InputError, match="have 65 tokens, the model's context has 64"):
        scored(network, [Task([1] * 60, [2] * 5)])


def test_a_model_that_gives_no_numbers_is_told(network: Transformer) -> None:
    with torch.no_grad():
        network.lm_head.weight.fill_(math.nan)

    with pytest.raises(ArtifactError, match="are no numbers"):
        scored(network, [Task(PROMPT, [1, 2])])


# ---- figures


def test_the_interval_of_a_difference_is_newcombes_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10.
    assert newcombe((56, 48), (70, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe((9, 3), (10, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)


def test_an_empty_group_has_no_rate_which_is_not_a_rate_of_zero() -> None:
    some = rates([Outcome("a", Score(-5.0, -6.0, 0, extracted=False))], [10], [0.5])
    empty = rates([], [10], [0.5])

    assert some["extracted"]["share"] == 0.0
    assert (empty["windows"], empty["extracted"], empty["discoverable"]) == (0, None, None)
    assert difference(some, empty) is None


def test_a_share_counts_the_windows_that_few_enough_samples_find() -> None:
    chances = [1.0, 0.5, 0.01, 0.0]
    outcomes = [
        Outcome(str(chance), Score(-1.0, math.log(chance) if chance else -math.inf, 0, extracted=chance == 1))
        for chance in chances
    ]

    figures = rates(outcomes, [1, 10, 1000], [0.5])

    assert [cell["count"] for cell in figures["discoverable"]] == [2, 2, 3]
    assert (figures["extracted"]["count"], figures["windows"], figures["files"]) == (1, 4, 4)
    low, high = figures["extracted"]["share_95"]
    assert low < 0.25 < high


def test_every_number_of_copies_has_one_bucket() -> None:
    numbers = [1, 2, 4, 5, 16, 17, 10_000, 0, None]
    assert [bucket_of(number) for number in numbers] == ["1", "2-4", "2-4", "5-16", "5-16", "17+", "17+", None, None]


# ---- windows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Copyright 2026 Somebody\n# All rights reserved.\n\nimport os\n", "# All rights reserved.\n\n"),
        ("/* License:\n   MIT, and more\n */\nint main(void);\n", " */\n"),
        ("#!/bin/sh\n# SPDX-License-Identifier: MIT\necho\n", "Identifier: MIT\n"),
        ("// a plain remark\nlet x = 1;\n", ""),
        ('"""A module about licences."""\nimport os\n', ""),
        ("import os\n# Copyright 2026 Somebody\n", ""),
    ],
)
def test_a_header_is_the_comments_at_the_start_that_speak_of_a_licence(text: str, expected: str) -> None:
    assert text[: header_end(text)].endswith(expected)
    assert bool(header_end(text)) is bool(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("    0x1F, 0x2A, 17, -3.5e-7,\n    12, 9, 0b101, 88,\n", True),
        ("('Aacute', 'Á'), ('Abreve', 'Ă'), ('ac', '∾'),", True),
        ("    return self.values[0] + other.values[1]\n", False),
        ("x = 1", False),
        ("don't say what isn't so, and can't be, in a doc's words", False),
    ],
)
def test_data_is_a_stretch_of_literals(text: str, expected: bool) -> None:
    assert is_data(text) is expected


HEADER = "".join(f"# Copyright line {number} of a licence that goes on and on\n" for number in range(12))
TABLE = "TABLE = [\n" + "".join(f"    {n}, {n * 7}, {n * 31}, 'a{n}',\n" for n in range(60)) + "]\n"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, make_corpus: MakeCorpus) -> Path:
    """Files with a header, with a table, and with neither."""
    files = [source_file(f"code_{seed}.py", function_text(seed, 30)) for seed in range(6)]
    files += [source_file(f"head_{seed}.py", HEADER + function_text(seed, 30)) for seed in range(6, 9)]
    files += [source_file(f"data_{seed}.py", function_text(seed) + TABLE) for seed in range(9, 12)]
    return make_corpus(tmp_path_factory.mktemp("mixed") / "corpus", files)


def drawn_of(
    corpus: Path, tokenizer: Tokenizer, seed: int = 0, suffix: int = 10, **wanted: int
) -> dict[str, list[Window]]:
    rows = read_rows(corpus)
    shape = Shape(least_before=8, most_before=16, suffix=suffix, most_after=5)
    pool = Pool(corpus, rows, np.arange(len(rows.swhids)))
    found = draw(pool, tokenizer, shape, wanted=wanted, seed=(seed,))
    return {name: [found.windows[one] for one in places] for name, places in found.strata.items()}


def test_a_window_is_a_stretch_of_its_file_with_what_stands_around_it(mixed: Path, tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    texts = {row["swhid"]: row for shard in (mixed / "shards").iterdir() for row in pq.read_table(shard).to_pylist()}

    for window in drawn_of(mixed, tokenizer, random=60)["random"]:
        text = texts[window.swhid]["text"]
        ids = tokenizer.encode(text)
        assert ids[window.token : window.token + 10] == list(window.ids)
        assert ids[max(window.token - 16, 0) : window.token] == list(window.before)
        assert ids[window.token + 10 : window.token + 15] == list(window.after)
        assert text.encode()[window.start : window.end].decode() == window.text == tokenizer.decode(window.ids)
        assert window.line == text.encode()[: window.start].count(b"\n") + 1
        assert window.path == texts[window.swhid]["path"]


def test_windows_of_a_stratum_never_overlap_and_are_spread_over_the_files(
    mixed: Path, tokenizer_directory: Path
) -> None:
    windows = drawn_of(mixed, Tokenizer.load(tokenizer_directory), random=24)["random"]

    assert len(windows) == 24
    assert sorted({window.swhid: 0 for window in windows}) == sorted({window.swhid for window in windows[:12]})
    for one, other in itertools.combinations(windows, 2):
        assert one.swhid != other.swhid or abs(one.token - other.token) >= 10


def test_each_class_of_content_is_drawn_from_where_it_stands(mixed: Path, tokenizer_directory: Path) -> None:
    found = drawn_of(mixed, Tokenizer.load(tokenizer_directory), suffix=40, random=10, header=6, data=6)

    assert {window.path[:4] for window in found["header"]} == {"head"}
    assert all(window.text in HEADER for window in found["header"])
    assert {window.path[:4] for window in found["data"]} == {"data"}
    assert "header" not in {window.kind for window in found["data"]}


def test_windows_by_number_of_copies_come_from_rows_that_stand_for_so_many(
    mixed: Path, tokenizer_directory: Path
) -> None:
    rows = read_rows(mixed)
    sizes = np.array([1, 1, 3, 2, 5, 40, *[1] * 6])
    pool = Pool(mixed, replace(rows, cluster_sizes=sizes), np.arange(12))
    shape = Shape(least_before=8, most_before=16, suffix=10, most_after=5)

    found = draw(pool, Tokenizer.load(tokenizer_directory), shape, wanted={"2-4": 6, "5-16": 2, "17+": 0}, seed=(0,))

    by_stratum = {name: {found.windows[one].cluster_size for one in places} for name, places in found.strata.items()}
    assert by_stratum == {"2-4": {2, 3}, "5-16": {5}, "17+": set()}
    assert not rows.cluster_sizes.any()  # this corpus says nothing of duplicates, so the audit has no such group


def test_the_seed_alone_chooses_the_windows(mixed: Path, tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)

    first, again, other = (drawn_of(mixed, tokenizer, seed, random=9)["random"] for seed in (0, 0, 1))

    assert first == again
    assert {window.id for window in first} != {window.id for window in other}


def test_a_redacted_file_has_its_bytes_counted_with_the_control_tokens(
    tmp_path: Path, make_corpus: MakeCorpus, tokenizer_directory: Path
) -> None:
    text = "# by <EMAIL> and <EMAIL>\n" + function_text(1, 30)
    file = replace(source_file("a.py", text), controls=(5, 17))
    corpus = make_corpus(tmp_path / "corpus", [file])

    windows = drawn_of(corpus, Tokenizer.load(tokenizer_directory), random=20)["random"]

    assert windows
    assert all(text.encode()[window.start : window.end].decode() == window.text for window in windows)


def test_places_are_counted_as_a_plain_search_over_code_tokens_would(mixed: Path) -> None:
    texts = [function_text(seed, 30) for seed in range(5)]
    stretch = function_text(3, 30)[40:160]

    def plain(wanted: list[bytes]) -> int:
        every = [TOKEN.findall(text.encode()) for text in [*texts, *texts[:4]]]
        return sum(ids[at : at + len(wanted)] == wanted for ids in every for at in range(len(ids)))

    found = count_places(
        [*texts, *(text.replace(" = ", "=\n\n") for text in texts[:4])],
        [(stretch, (False, False)), (stretch + "?", (False, False)), ("a b c", (False, False))],
        lambda: None,
    )

    assert found == [plain(TOKEN.findall(stretch.encode())), 0, None]


def test_a_part_of_a_word_at_a_border_is_left_out_of_the_search() -> None:
    text = "alpha = beta + gamma * delta - epsilon / zeta % eta + theta"
    cut = text[2:-1]

    whole, parts = (count_places([text], [(cut, words)], lambda: None)[0] for words in ((False, False), (True, True)))

    assert (whole, parts) == (0, 1)


# ---- the stage


def configured(**values: Any) -> MemorizationConfig:
    small = {"prefix_tokens": [12, 24], "suffix_tokens": 40, "random_windows": 60, "stratum_windows": 10}
    return build(MemorizationConfig, {**small, **values}, where="test")


def made_up(count: int, *, first: int = 0, split: str = "train") -> list[SourceFile]:
    """Files of random names, which nobody can guess who has not seen them."""
    seeds = range(first, first + count)
    texts = [surround([f"x_{seed} = {seed}\n"], np.random.default_rng(seed)) for seed in seeds]
    return [source_file(f"f{seed}.py", text, split=split) for seed, text in zip(seeds, texts, strict=True)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, make_corpus: MakeCorpus) -> Path:
    """A model that has read ten files again and again, and never the ten that were held out."""
    root = tmp_path_factory.mktemp("world")
    files = [*made_up(10), *made_up(10, first=100, split=HELD_OUT)]
    corpus = make_corpus(root / "corpus", files)
    train.run(train.TokenizerConfig(vocab_size=420), corpus=corpus, out=root / "tokenizer")
    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=root / "tokenizer", out=root / "tokens")
    values = {"model": {"hidden_size": 64, "layers": 2, "heads": 2, "kv_heads": 1}, "batch_tokens": 1024,
              "data": {"context_tokens": 128, "cuts": {"character": 1}, "repository_rate": 0.0},
              "micro_batch_tokens": 1024, "optimizer": {"learning_rate": 1e-2}, "steps": 160}  # fmt: skip
    config = build(pretrain.PretrainConfig, values, where="test")
    pretrain.run(config, tokens=root / "tokens", tokenizer=root / "tokenizer", out=root / "model")
    memorization.run(configured(), model=root / "model", corpus=corpus, out=root / "audit")
    return root


def results_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / memorization.RESULTS).read_text())
    return found


def test_a_model_that_knows_its_files_by_heart_is_found_out(world: Path) -> None:
    for context, groups in results_of(world / "audit")["contexts"].items():
        found = groups["random"]
        assert found["corpus"]["median_log_prob"] > found["control"]["median_log_prob"] + 50, context
        if context != memorization.INFILL:
            assert found["corpus"]["extracted"]["share"] > 0.5, context
            assert found["control"]["extracted"]["share"] < 0.2, context
            assert found["corpus_minus_control"]["extracted"]["difference_95"][0] > 0.3, context


def test_every_window_is_stored_without_its_text_and_adds_up_to_the_figures(world: Path) -> None:
    results = results_of(world / "audit")
    rows = pq.read_table(world / "audit" / memorization.SAMPLES).to_pylist()

    assert all(row["text"] is None for row in rows)
    assert len(rows) == 3 * (results["corpus"]["windows"] + results["control"]["windows"])
    ids = set(results["sample_ids"]["corpus"]["random"])
    random = [row for row in rows if row["side"] == "corpus" and row["id"] in ids and row["context"] == "prefix 24"]
    figures = results["contexts"]["prefix 24"]["random"]["corpus"]
    assert sum(row["extracted"] for row in random) == figures["extracted"]["count"]
    assert len(random) == figures["windows"]
    assert all(row["extracted"] == (row["right_tokens"] == 40) for row in rows)


def test_the_stored_outcome_is_what_the_engine_writes(world: Path) -> None:
    engine, tokenizer = engine_for(checkpoint.load(world / "model")), Tokenizer.load(world / "model")
    texts = {file.swhid: file.text for file in [*made_up(10), *made_up(10, first=100)]}
    rows = pq.read_table(world / "audit" / memorization.SAMPLES).to_pylist()

    for row in [row for row in rows if row["context"] != "prefix 12"][::4]:
        ids, token = tokenizer.encode(texts[row["swhid"]]), row["token"]
        before, truth, after = (ids[max(token - 24, 0) : token], ids[token : token + 40], ids[token + 40 : token + 52])
        prompt = before if row["context"] == "prefix 24" else fim.prompt(before[-12:], after, "psm")
        written = written_by(engine, prompt, max_tokens=40)
        assert (written == truth) is row["extracted"]
        right = sum(itertools.accumulate((w == t for w, t in zip(written, truth, strict=True)), min))
        assert right == row["right_tokens"]


def test_the_same_audit_twice_is_the_same_artefact_and_text_is_kept_on_request(world: Path, tmp_path: Path) -> None:
    places = {"model": world / "model", "corpus": world / "corpus"}
    memorization.run(configured(), **places, out=tmp_path / "again")
    memorization.run(configured(keep_text=True), **places, out=tmp_path / "texts")

    assert artifact.read(tmp_path / "again").id == artifact.read(world / "audit").id
    assert {parent.role for parent in artifact.read(world / "audit").parents} == {"model", "corpus"}
    assert not artifact.verify(world / "audit")
    assert all(row["text"] for row in pq.read_table(tmp_path / "texts" / memorization.SAMPLES).to_pylist())


def test_an_audit_of_another_kind_is_not_written_over(world: Path, tmp_path: Path) -> None:
    canaries.run(canaries.CanaryConfig(), out=tmp_path / "canaries")
    made_of = {"model": world / "model", "canaries": tmp_path / "canaries", "corpus": world / "corpus"}

    with pytest.raises(InputError, match="is an artefact, but not a exposure-audit"):
        exposure.run(exposure.ExposureConfig(), **made_of, out=world / "audit")

    assert (world / "audit" / memorization.RESULTS).is_file()


def test_a_control_that_stands_in_the_training_files_is_left_out(
    world: Path, tmp_path: Path, make_corpus: MakeCorpus
) -> None:
    copies = [source_file(f.path, f.text + "\n# a copy with another end\n") for f in made_up(3)]
    control = make_corpus(tmp_path / "control", [*made_up(2), *copies, *made_up(5, first=200)])

    memorization.run(
        configured(), model=world / "model", corpus=world / "corpus", control=control, out=tmp_path / "out"
    )

    results = results_of(tmp_path / "out")
    assert results["control"]["files"] == 8  # the two exact copies are not read
    assert results["control"]["also_in_training"] > 0
    assert results["contexts"]["prefix 24"]["random"]["control"]["files"] >= 5
    assert results["contexts"]["prefix 24"]["random"]["control"]["extracted"]["share"] < 0.2


def test_the_command_says_none_of_an_empty_group_and_gives_the_stored_figures(world: Path, tmp_path: Path) -> None:
    overrides = [f"--set=memorization.{one}" for one in ("prefix_tokens=[12, 24]", "suffix_tokens=40", "infill=false")]
    words = ["memorization", str(world / "model"), *overrides, "--set=memorization.random_windows=20", "--out"]

    shown = CliRunner().invoke(audit, [*words, str(tmp_path / "shown")])
    as_json = CliRunner().invoke(audit, [*words, str(tmp_path / "json"), "--json"])

    assert (shown.exit_code, as_json.exit_code) == (0, 0)
    header = next(line for line in shown.stdout.splitlines() if "header" in line)
    assert header.count("none") == 2
    assert "%" not in header
    assert json.loads(as_json.stdout) == results_of(tmp_path / "shown") == results_of(tmp_path / "json")


def test_bad_input_is_named(world: Path, tmp_path: Path, make_corpus: MakeCorpus, tokenizer_directory: Path) -> None:
    places = {"model": world / "model", "corpus": world / "corpus"}
    without = make_corpus(tmp_path / "without", made_up(3, first=300))
    short = make_corpus(tmp_path / "short", [source_file(f"{name}.py", f"{name} = 1\n") for name in "ab"])
    cases: list[tuple[type[StarsmithError], str, MemorizationConfig, dict[str, Path]]] = [
        (ArtifactError, "is of kind tokenizer, wanted: model", configured(), {"model": tokenizer_directory}),
        (InputError, "was not trained on", configured(), {"corpus": without}),
        (InputError, "was trained on the control", configured(), {"control": world / "corpus"}),
        (InputError, "the model's context has 128 tokens", configured(suffix_tokens=110), {}),
        (InputError, "none of 2 control files has the 52 tokens", configured(), {"control": short}),
    ]
    for kind, message, config, changed in cases:
        with pytest.raises(kind, match=message):
            memorization.run(config, **{**places, **changed}, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_corpus_without_held_out_files_needs_a_control(
    world: Path, tmp_path: Path, make_corpus: MakeCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    model = shutil.copytree(world / "model", tmp_path / "elsewhere" / "model")  # away from what it was made from
    without = make_corpus(tmp_path / "without", made_up(3))

    with pytest.raises(InputError, match="has no held-out file"):
        memorization.run(configured(), model=model, corpus=without, out=tmp_path / "out")

    assert "nothing shows whether it was trained on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prefix_tokens": []}, "prefix_tokens"),
        ({"prefix_tokens": [8, 8]}, "different lengths"),
        ({"suffix_tokens": 0}, "suffix_tokens=0"),
        ({"random_windows": 0}, "random_windows=0"),
        ({"temperature": 0.0}, "greedy is reported anyway"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"probabilities": [1.0]}, "p between 0 and 1"),
        ({"probabilities": []}, "p between 0 and 1"),
        ({"samples": [0]}, "n from 1"),
        ({"seed": -1}, "seed=-1"),
        ({"prefix": 3}, "no setting 'prefix'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(**values)
