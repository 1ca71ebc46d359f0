import shutil
from pathlib import Path

import pytest

from scripted import FIB, PhraseAttributor
from starsmith.core.errors import CheckpointError, ConfigError
from starsmith.inference.engine import never
from starsmith.provenance.attribution import Attributor
from starsmith.serving.prompt import editor_request
from starsmith.serving.service import Job, check_model_id, default_model_id, find_index, open_service, read_card
from starsmith.serving.sources import sources_json


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
    assert 0 < finished.completion.completion_tokens <= 8
    assert isinstance(finished.sources, list)


def test_what_is_no_model_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        open_service(tmp_path, index=None, model_id=None)


def test_a_copied_line_of_the_corpus_is_attributed_to_its_file(index_directory: Path) -> None:
    before = "def eta_1(value):\n"
    copied = "    eta_0 = eta(1 + 0)\n    zeta_2 = "

    matches = sources_json(Attributor.open(index_directory), before, copied)

    paths = {source["path"] for match in matches for source in match["sources"]}
    assert paths
    assert all(path.startswith("pkg/module_") for path in paths)


def test_offsets_of_sources_count_from_the_first_character_the_client_gets() -> None:
    attributor = PhraseAttributor(phrase="= return")

    (plain,) = sources_json(attributor, "x = ", FIB)  # type: ignore[arg-type]
    (echoed,) = sources_json(attributor, "x = ", FIB, shown=4)  # type: ignore[arg-type]

    assert (plain["start"], plain["end"]) == (0, len("return"))
    assert (echoed["start"], echoed["end"]) == (2, len("x = return"))


def test_a_long_prefix_is_looked_at_only_near_the_cursor() -> None:
    (match,) = sources_json(PhraseAttributor("return"), "y" * 100_000, FIB)  # type: ignore[arg-type]

    assert (match["start"], match["end"]) == (0, len("return"))
