"""Use restrictions travel with what derives from a model that has them, and with nothing else."""

import shutil
from pathlib import Path

import pytest

from releases import RAIL, make_model, make_run, write_about
from starsmith.core.errors import ArtifactError, ConfigError, InputError
from starsmith.provenance.papers import about, bases
from starsmith.provenance.papers.about import About
from starsmith.provenance.papers.export import export
from starsmith.provenance.papers.facts import open_artifact

pytestmark = pytest.mark.slow

CARD = "---\nlicense: bigexample-openrail-m\n---\n# Base\n"
FORBIDDEN = "(a) to do what this test forbids."
FORMATS = ("model-card", "spdx", "cyclonedx", "huggingface")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("bases") / "run")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> About:
    text = '[provider]\nname = "X"\n[release]\nurl = "https://example.org/x"\ndate = 2026-03-01\nbuilt = 2026-02-20\n'
    text += '[sources]\nurl = "https://example.org/c"\ndate = 2026-03-01\nbuilt = 2026-02-20\n'
    return about.load(write_about(tmp_path_factory.mktemp("about"), text))


def derive(folder: Path, files: dict[str, str]) -> Path:
    """A model made from an imported base with these files."""
    base = make_model(folder / "base", imported={"name": "bigexample/base-3b"}, files=files)
    return make_model(folder / "tuned", parents={"base": base})


def written(place: Path) -> str:
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    return "\n".join(file.read_text() for file in files if file.is_file() and file.suffix != ".safetensors")


@pytest.mark.parametrize("form", FORMATS)
def test_a_derivative_carries_the_restrictions_and_names_the_base(form: str, said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": CARD, "LICENSE": RAIL})

    export(model, form, tmp_path / "paper", about=said)

    text = written(tmp_path / "paper")
    assert FORBIDDEN in text
    assert "bigexample/base-3b" in text
    assert "bigexample-openrail-m" in text


def test_the_directory_to_upload_has_the_whole_licence_and_attachment_a(said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": CARD, "LICENSE": RAIL})

    export(model, "huggingface", tmp_path / "upload", about=said)

    assert (tmp_path / "upload" / "LICENSE").read_text() == RAIL
    restrictions = (tmp_path / "upload" / "USE_RESTRICTIONS.md").read_text()
    assert FORBIDDEN in restrictions
    assert "4. Distribution" not in restrictions
    card = (tmp_path / "upload" / "README.md").read_text()
    assert "base_model: bigexample/base-3b" in card
    assert "license_link: LICENSE" in card


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_trained_from_scratch_carries_none(form: str, run: Path, said: About, tmp_path: Path) -> None:
    export(run / "model", form, tmp_path / "paper", about=said)

    text = written(tmp_path / "paper").lower()
    assert "use restrictions" not in text
    assert "base_model" not in text
    assert "openrail" not in text


def test_a_derivative_of_a_derivative_carries_them_too(said: About, tmp_path: Path) -> None:
    tuned = derive(tmp_path, {"README.md": CARD, "LICENSE": RAIL})
    again = make_model(tmp_path / "again", parents={"base": tuned})

    export(again, "model-card", tmp_path / "card.md", about=said)

    assert FORBIDDEN in (tmp_path / "card.md").read_text()


def test_a_base_that_was_trained_from_scratch_binds_nobody(run: Path, said: About, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    tuned = make_model(tmp_path / "run" / "tuned", parents={"base": tmp_path / "run" / "model"})

    export(tuned, "model-card", tmp_path / "card.md", about=said)

    assert "base_model: model" in (tmp_path / "card.md").read_text()
    assert "Use restrictions" not in (tmp_path / "card.md").read_text()


def test_restrictions_whose_text_is_nowhere_stop_the_export(said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": CARD})

    with pytest.raises(InputError, match="their text was not found") as refused:
        export(model, "model-card", tmp_path / "card.md", about=said)

    assert "--use-restrictions FILE" in refused.value.hint


def test_their_text_may_be_given(said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": CARD})
    (tmp_path / "terms.txt").write_text(RAIL)

    export(model, "huggingface", tmp_path / "upload", about=said, use_restrictions=tmp_path / "terms.txt")

    assert (tmp_path / "upload" / "LICENSE").read_text() == RAIL


def test_a_licence_of_the_derivatives_own_does_not_hide_that_of_its_base(said: About, tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", imported={"name": "b"}, files={"README.md": CARD})
    model = make_model(tmp_path / "tuned", parents={"base": base}, files={"LICENSE": "mine"})
    (tmp_path / "terms.txt").write_text(RAIL)

    export(model, "huggingface", tmp_path / "upload", about=said, use_restrictions=tmp_path / "terms.txt")

    assert (tmp_path / "upload" / "LICENSE").read_text() == "mine"
    assert (tmp_path / "upload" / "BASE_LICENSE").read_text() == RAIL


def test_a_base_that_is_only_named_is_known_by_the_settings(said: About, tmp_path: Path) -> None:
    base = {"name": "bigexample/base-3b", "license": "bigexample-openrail-m", "revision": "abc123"}
    model = make_model(tmp_path / "tuned", base=base, files={"LICENSE": RAIL})

    found = bases.find_bases(open_artifact(model), said)

    assert [(one.name, one.licence, one.revision) for one in found] == [tuple(base.values())]
    assert FORBIDDEN in bases.restrictions_of(found, None).text  # type: ignore[union-attr]


def test_another_licence_cannot_free_a_derivative(tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": CARD, "LICENSE": RAIL})
    mine = about.load(write_about(tmp_path, '[release]\nlicense = "Apache-2.0"\n'))

    with pytest.raises(ConfigError, match="use restrictions bind every derivative"):
        export(model, "model-card", tmp_path / "card.md", about=mine)


def test_a_base_under_no_known_licence_is_not_passed_on_in_silence(said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {})

    with pytest.raises(InputError, match=r"nothing says under which licence bigexample/base-3b is") as refused:
        export(model, "model-card", tmp_path / "card.md", about=said)

    assert "[base] license" in refused.value.hint


def test_the_provider_can_say_the_licence_of_a_base_that_is_silent(tmp_path: Path) -> None:
    model = derive(tmp_path, {})
    mine = about.load(write_about(tmp_path, '[base]\nlicense = "apache-2.0"\n'))

    export(model, "model-card", tmp_path / "card.md", about=mine)

    assert "license: apache-2.0" in (tmp_path / "card.md").read_text()


def test_the_notices_of_a_permissive_base_travel_too(said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": "---\nlicense: apache-2.0\n---\n", "NOTICE": "made by somebody"})

    export(model, "huggingface", tmp_path / "upload", about=said)

    assert (tmp_path / "upload" / "NOTICE").read_text() == "made by somebody"


def test_a_base_that_is_gone_stops_the_export(said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": CARD, "LICENSE": RAIL})
    shutil.rmtree(tmp_path / "base")

    with pytest.raises(ArtifactError, match="nobody knows whether its licence restricts"):
        export(model, "model-card", tmp_path / "card.md", about=said)


def test_a_base_is_a_model(run: Path, said: About, tmp_path: Path) -> None:
    model = make_model(tmp_path / "tuned", parents={"base": run / "corpus"})

    with pytest.raises(ArtifactError, match="it is of kind corpus, wanted: model"):
        export(model, "model-card", tmp_path / "card.md", about=said)


def test_an_imported_model_is_passed_on_with_its_own_restrictions(said: About, tmp_path: Path) -> None:
    base = make_model(
        tmp_path / "base", imported={"name": "bigexample/base-3b"}, files={"README.md": CARD, "LICENSE": RAIL}
    )

    export(base, "huggingface", tmp_path / "upload", about=said)

    assert FORBIDDEN in (tmp_path / "upload" / "USE_RESTRICTIONS.md").read_text()
    assert (tmp_path / "upload" / "ORIGINAL_README.md").read_text() == CARD
    assert "base_model" not in (tmp_path / "upload" / "README.md").read_text()


def test_no_file_of_an_imported_model_is_lost(said: About, tmp_path: Path) -> None:
    files = {"README.md": CARD, "ORIGINAL_README.md": "of another", "LICENSE.txt": RAIL, "USE_RESTRICTIONS.md": "mine"}
    base = make_model(tmp_path / "base", imported={"name": "bigexample/base-3b"}, files=files)

    export(base, "huggingface", tmp_path / "upload", about=said)

    texts = {file.name: file.read_text() for file in (tmp_path / "upload").iterdir() if file.suffix in (".md", ".txt")}
    assert set(files.values()) <= set(texts.values())
    assert texts["USE_RESTRICTIONS.md"] == "mine"
    assert FORBIDDEN in texts["BASE_USE_RESTRICTIONS.md"]
    assert "license_link: LICENSE.txt" in texts["README.md"]


def test_the_link_to_the_licence_leads_to_that_of_the_base(said: About, tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", files={"README.md": CARD, "LICENSE": RAIL})
    model = make_model(tmp_path / "tuned", parents={"base": base}, files={"LICENSE": "Apache License 2.0\n"})

    export(model, "huggingface", tmp_path / "upload", about=said)

    assert (tmp_path / "upload" / "BASE_LICENSE").read_text() == RAIL
    assert "license_link: BASE_LICENSE" in (tmp_path / "upload" / "README.md").read_text()


@pytest.mark.parametrize("form", [*FORMATS, "eu-summary"])
def test_a_withdrawn_source_of_a_base_is_told(form: str, said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": CARD, "LICENSE": RAIL})
    (tmp_path / "base" / "tainted.json").write_text('{"requests": [{"id": "request-77"}]}')

    taints = export(model, form, tmp_path / "paper", about=said)

    assert taints == ("base bigexample/base-3b: tainted.json names request request-77",)
    assert "request-77" in written(tmp_path / "paper")


def test_restrictions_are_not_given_to_a_model_that_has_none(run: Path, said: About, tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text(RAIL)

    with pytest.raises(InputError, match="no base of this model"):
        export(run / "model", "model-card", tmp_path / "card.md", about=said, use_restrictions=tmp_path / "terms.txt")


@pytest.mark.parametrize(
    "heading", ["Attachment A", "ATTACHMENT A - USE RESTRICTIONS", "## Attachment A: Use-Restrictions"]
)
def test_attachment_a_is_found_by_its_heading_and_not_by_a_paragraph_about_it(
    heading: str, said: About, tmp_path: Path
) -> None:
    before = "OpenRAIL-M\n\nGive them the terms of\nAttachment A of this licence, all of them.\n\n"
    inside = f"{heading}\n\n(a) one\nAttachment A binds everybody.\n(b) two\n"
    text = f"{before}{inside}\nAttachment B\nhow to apply\n"
    model = derive(tmp_path, {"README.md": CARD, "LICENSE": text})

    restrictions = bases.restrictions_of(bases.find_bases(open_artifact(model), said), None)

    assert restrictions is not None
    assert restrictions.text == inside
    assert restrictions.terms == {"LICENSE": text}


@pytest.mark.parametrize("line", ["\n", " \n", "-", "Attachment A " * 4, "open rail "])
def test_a_licence_of_great_length_is_read_at_once(line: str, said: About, tmp_path: Path) -> None:
    text = line * ((1 << 20) // len(line)) + "\nOpenRAIL\nAttachment A\n(a) one\n"
    model = derive(tmp_path, {"README.md": f"---\nlicense: openrail{' ' * 100_000}x\n---\n", "LICENSE": text})

    restrictions = bases.restrictions_of(bases.find_bases(open_artifact(model), said), None)

    assert restrictions is not None
    assert restrictions.text == "Attachment A\n(a) one\n"


def test_a_licence_without_such_a_heading_travels_whole(said: About, tmp_path: Path) -> None:
    model = derive(tmp_path, {"README.md": CARD, "LICENSE": "An OpenRAIL licence.\nDo no harm.\n"})

    restrictions = bases.restrictions_of(bases.find_bases(open_artifact(model), said), None)

    assert restrictions is not None
    assert restrictions.text == "An OpenRAIL licence.\nDo no harm.\n"


@pytest.mark.parametrize(
    ("licence", "restricted"),
    [
        ("bigcode-openrail-m", True),
        ("openrail", True),
        ("openrail++", True),
        ("bigscience-bloom-rail-1.0", True),
        ("creativeml-openrail-m", True),
        ("BigCodeOpenRAIL-M", True),
        ("apache-2.0", False),
        ("mit", False),
        ("trail-license", False),
        ("railway", False),
    ],
)
def test_a_licence_is_of_the_rail_family_by_its_name(licence: str, restricted: bool) -> None:
    assert bases.Base("x", licence=licence).is_restricted == restricted
