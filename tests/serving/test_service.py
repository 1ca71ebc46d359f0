import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from starsmith.core import artifact
from starsmith.core.errors import CheckpointError, ConfigError, InputError
from starsmith.inference.completion import Completer
from starsmith.inference.engine import never
from starsmith.inference.local import LocalEngine
from starsmith.inference.trimming import Manners
from starsmith.provenance import index
from starsmith.provenance.attribution import Attributor
from starsmith.serving.attribution import Policy, Watch
from starsmith.serving.clients import Client
from starsmith.serving.prompt import editor_request
from starsmith.serving.service import (
    Job,
    Service,
    check_model_id,
    default_model_id,
    find_index,
    open_service,
    read_card,
)
from worlds import function_text


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


def test_an_opened_service_completes_and_names_sources(
    model_directory: Path, index_directory: Path, corpus: Path
) -> None:
    service = open_service(model_directory, index=index_directory, model_id=None)
    prefix = "def eta_1(value):\n    "

    (finished,) = service.complete([Job(0, editor_request(prefix, "\n", max_tokens=8), before=prefix)], never)

    assert service.card.id == "starsmith-tiny"
    assert 0 < len(finished.tokens) <= 8
    assert finished.attribution is not None
    assert service.index_id == artifact.read(index_directory).id


def test_what_is_no_model_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        open_service(tmp_path, index=None, model_id=None)


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
        open_service(model_directory, index=None, model_id=None, policy=policy)
    without = open_service(model_directory, index=None, model_id=None)
    with pytest.raises(ConfigError, match=f"'{policy}' needs an index"):
        without.guarded(token=None, clients={"0": Client(name="a", policy=policy)}, log=None, log_text=False)


def test_an_index_that_finds_copies_too_late_to_block_them_is_refused(
    model_directory: Path, corpus: Path, tmp_path: Path
) -> None:
    index.run(index.IndexConfig(ngram_tokens=40, window=30), corpus=corpus, out=tmp_path / "index")

    with pytest.raises(ConfigError, match="69 code tokens"):
        open_service(model_directory, index=tmp_path / "index", model_id=None, policy="block-nonpermissive")

    assert open_service(model_directory, index=tmp_path / "index", model_id=None).rules.policy == "annotate"


def test_an_index_all_of_whose_licences_are_permissive_is_known_to_be(
    model_directory: Path, index_directory: Path
) -> None:
    def open_with(permissive: bool) -> Service:
        return open_service(model_directory, index=index_directory, model_id=None, permissive=lambda _: permissive)

    assert open_with(True).rules.all_permissive
    assert not open_with(False).rules.all_permissive


@pytest.mark.slow
def test_a_key_has_three_tokens_read_at_the_median(model_directory: Path) -> None:
    text = function_text(3)
    before, typed = text[:200], text[200:320]
    read: list[int] = []

    with closing(open_service(model_directory, index=None, model_id=None)) as service:
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

    with closing(open_service(model_directory, index=None, model_id=None)) as service:
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
        open_service(model_directory, index=None, model_id=None, repositories=[tmp_path / "nowhere"])


def test_a_folder_of_code_is_guessed_from(model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(function_text(3))

    with closing(open_service(model_directory, index=None, model_id=None, repositories=[tmp_path])) as service:
        request = editor_request("x = ", "\n", max_tokens=4)
        (finished,) = service.complete([Job(0, request)], never)

    assert finished.tokens
