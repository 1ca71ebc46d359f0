import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from fastapi.testclient import TestClient

from starsmith.core import artifact
from starsmith.core.errors import CheckpointError, ConfigError, InputError
from starsmith.inference.completion import Completer
from starsmith.inference.engine import never
from starsmith.inference.loading import Weights
from starsmith.inference.local import LocalEngine
from starsmith.inference.trimming import Manners
from starsmith.provenance import index
from starsmith.provenance.attribution import Attributor
from starsmith.serving.app import create_app
from starsmith.serving.attribution import Policy, Watch
from starsmith.serving.cards import check_model_id, default_model_id, find_index, read_card
from starsmith.serving.clients import Client
from starsmith.serving.opening import Loading, open_service
from starsmith.serving.prompt import editor_request
from starsmith.serving.service import Job, Service
from starsmith.serving.starter import starter_directory
from starsmith.tokenizer.train import TokenizerConfig
from worlds import function_text

pytestmark = pytest.mark.slow  # starts services with models


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/demo/model", "starsmith-demo"),
        ("runs/Big", "starsmith-big"),
        ("models/starcoder2-3b", "starsmith-3b"),
        ("models/StarCoder2", "starsmith-model"),
        ("starsmith-1", "starsmith-1"),
    ],
)
def test_a_model_is_named_after_its_directory_and_never_starcoder2(path: str, name: str) -> None:
    assert default_model_id(Path(path)) == name


def test_a_name_that_makes_editors_cut_completions_is_refused() -> None:
    with pytest.raises(ConfigError, match="StarCoder2-x"):
        check_model_id("StarCoder2-x")

    assert check_model_id("my-model") == "my-model"


def test_the_index_beside_a_model_is_found_if_it_is_of_the_same_corpus(
    model_directory: Path, index_directory: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "model"
    shutil.copytree(model_directory, elsewhere)

    assert find_index(model_directory) == index_directory
    assert find_index(elsewhere) is None
    assert find_index(tmp_path) is None


def test_the_card_says_what_the_manifests_say(model_directory: Path) -> None:
    card = read_card(model_directory, "m")

    assert card.licenses == {"MIT": 40}  # the four held-out files were not trained on
    assert card.artefact is not None
    assert card.parameters > 10_000
    assert card.created > 0


def test_a_checkpoint_without_manifest_has_a_card_without_lineage(model_directory: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(model_directory, plain)
    (plain / "manifest.json").unlink()

    card = read_card(plain, "m")

    assert (card.artefact, card.licenses) == (None, None)


def test_a_model_far_from_what_it_was_made_from_is_still_the_artefact_that_it_is(
    model_directory: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "package" / "starter"
    shutil.copytree(model_directory, alone)
    _forget_places(alone)

    card = read_card(alone, "m")

    assert (card.artefact, card.licenses) == (artifact.read(model_directory).id, None)
    assert find_index(alone) is None


def _forget_places(model: Path) -> None:
    """As on another machine: where the parents were is not known."""
    shutil.rmtree(model / "run", ignore_errors=True)


def test_a_model_without_parents_has_no_index(model_directory: Path, tmp_path: Path) -> None:
    with artifact.create(tmp_path / "model", kind="model", config=TokenizerConfig(), rooms=("core",)) as draft:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            shutil.copy(model_directory / name, draft.path / name)

    card = read_card(tmp_path / "model", "m")

    assert find_index(tmp_path / "model") is None
    assert (card.artefact, card.licenses) == (artifact.read(tmp_path / "model").id, None)


def test_the_starter_model_is_in_the_package(model_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no starter model") as caught:
        starter_directory(tmp_path)
    shutil.copytree(model_directory, tmp_path / "data" / "starter")

    assert ".gguf" in caught.value.hint
    assert starter_directory(tmp_path) == tmp_path / "data" / "starter"


def test_an_opened_service_completes_and_names_sources(
    model_directory: Path, index_directory: Path, corpus: Path
) -> None:
    service = open_service(model_directory, index=index_directory)
    prefix = "def eta_1(value):\n    "

    (finished,) = service.complete([Job(0, editor_request(prefix, "\n", max_tokens=8), before=prefix)], never)

    assert service.card.id == "starsmith-tiny"
    assert 0 < len(finished.tokens) <= 8
    assert finished.attribution is not None
    assert service.index_id == artifact.read(index_directory).id


def test_what_is_no_model_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        open_service(tmp_path)


def test_a_copied_line_of_the_corpus_is_attributed_to_its_file(index_directory: Path) -> None:
    watch = Watch(Attributor.open(index_directory), "def eta_1(value):\n")
    copied = "    eta_0 = eta(1 + 0)\n    zeta_2 = "

    watch.feed(copied, final=True)
    found = watch.result(length=len(copied))

    assert found is not None
    paths = {source.path for finding in found.findings for source in finding.match.sources}
    assert paths
    assert all(path.startswith("pkg/module_") for path in paths)


@pytest.mark.parametrize("policy", ["annotate", "block"])
def test_a_policy_without_an_index_is_refused(model_directory: Path, policy: Policy) -> None:
    with pytest.raises(ConfigError, match=f"'{policy}' needs an index"):
        open_service(model_directory, policy=policy)
    without = open_service(model_directory)
    with pytest.raises(ConfigError, match=f"'{policy}' needs an index"):
        without.guarded(token=None, clients={"0": Client(name="a", policy=policy)}, log=None, log_text=False)


def test_an_index_that_finds_copies_too_late_to_block_them_is_refused(
    model_directory: Path, corpus: Path, tmp_path: Path
) -> None:
    index.run(index.IndexConfig(ngram_tokens=40, window=30), corpus=corpus, out=tmp_path / "index")

    with pytest.raises(ConfigError, match="69 code tokens"):
        open_service(model_directory, index=tmp_path / "index", policy="block-nonpermissive")

    assert open_service(model_directory, index=tmp_path / "index").rules.policy == "annotate"


def test_an_index_all_of_whose_licences_are_permissive_is_known_to_be(
    model_directory: Path, index_directory: Path
) -> None:
    def open_with(permissive: bool) -> Service:
        return open_service(model_directory, index=index_directory, permissive=lambda _: permissive)

    assert open_with(True).rules.all_permissive
    assert not open_with(False).rules.all_permissive


@pytest.mark.slow
def test_each_request_is_told_how_much_of_its_own_prompt_was_known(model_directory: Path) -> None:
    known, new = function_text(3)[:300], function_text(4)[:300]

    def ask(prompt: str, **more: Any) -> Any:
        return client.post("/v1/completions", json={"prompt": prompt, "temperature": 0, "max_tokens": 30, **more})

    with TestClient(create_app(open_service(model_directory))) as client, ThreadPoolExecutor(2) as pool:
        first = ask(known).json()["usage"]
        together = [pool.submit(ask, prompt) for prompt in (known, new)]
        again, other = (answer.result().json()["usage"] for answer in together)
        streamed = ask(known, stream=True, stream_options={"include_usage": True}).text

    def cached(usage: Any) -> int:
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached(first) == 0
    assert cached(again) == first["prompt_tokens"] - 1
    assert cached(other) < other["prompt_tokens"] / 4  # what both begin with, at most
    last = json.loads(streamed.split("\n\n")[-3].removeprefix("data: "))
    assert cached(last["usage"]) == first["prompt_tokens"] - 1


def test_room_for_keys_and_values_is_as_large_as_told(model_directory: Path) -> None:
    with closing(open_service(model_directory, loading=Loading(kv_tokens=64))) as service:
        assert isinstance(service.engine, LocalEngine)
        assert service.engine.stats.blocks == 4
        answer = TestClient(create_app(service)).post("/v1/completions", json={"prompt": "x " * 100})

    assert answer.status_code == 400
    assert "4" in answer.json()["error"]["message"]


def test_weights_are_computed_in_the_form_that_was_told(model_directory: Path) -> None:
    def logprob(weights: Weights) -> float:
        with closing(open_service(model_directory, loading=Loading(weights=weights))) as service:
            body = {"prompt": "x = ", "max_tokens": 1, "temperature": 0, "logprobs": 0}
            answer = TestClient(create_app(service)).post("/v1/completions", json=body).json()
        return float(answer["choices"][0]["logprobs"]["token_logprobs"][0])

    exact, rounded = logprob("float32"), logprob("bfloat16")

    assert logprob("auto") == exact != rounded
    assert rounded == pytest.approx(exact, abs=0.1)


@pytest.mark.slow
def test_a_key_has_three_tokens_read_at_the_median(model_directory: Path) -> None:
    text = function_text(3)
    before, typed = text[:200], text[200:320]
    read: list[int] = []

    with closing(open_service(model_directory)) as service:
        assert isinstance(service.engine, LocalEngine)
        for count in range(len(typed)):
            request = editor_request(before + typed[:count], text[320:], max_tokens=0)
            earlier = service.engine.stats.read_tokens
            list(service.complete([Job(0, request)], never))
            read.append(service.engine.stats.read_tokens - earlier)

    assert read[0] > 100
    assert 0 < median(read[1:]) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_guessing_ahead_changes_no_text(model_directory: Path, temperature: float) -> None:
    request = replace(editor_request(function_text(3)[:300], "\n"), stop=(), manners=Manners())
    asked = [replace(request, params=replace(request.params, temperature=temperature, seed=seed)) for seed in range(20)]

    with closing(open_service(model_directory)) as service:
        assert isinstance(service.engine, LocalEngine)
        plain = [Completer(service.engine, service.tokenizer).complete(one) for one in asked]
        guesses = [token.id for token in max((one.tokens for one in plain), key=len)]  # at times right, at others not
        guessing = Completer(service.engine, service.tokenizer, drafting=True, lookup=lambda _, limit: guesses[:limit])
        guessed = [guessing.complete(one) for one in asked]

        assert service.engine.stats.proposed_guesses > 0
    assert guessed == plain
    assert len(guesses) > 4


def test_a_folder_to_guess_from_that_is_not_there_is_named(model_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no folder"):
        open_service(model_directory, loading=Loading(repositories=[tmp_path / "nowhere"]))


def test_a_folder_of_code_is_guessed_from(model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(function_text(3))

    with closing(open_service(model_directory, loading=Loading(repositories=[tmp_path]))) as service:
        request = editor_request("x = ", "\n", max_tokens=4)
        (finished,) = service.complete([Job(0, request)], never)

    assert finished.tokens
