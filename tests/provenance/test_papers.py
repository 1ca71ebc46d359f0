"""What the papers say is what the manifests say, for whoever is told and whoever is not."""

import json
import shutil
from pathlib import Path

import pytest

from builds import benchmarks_of, module
from releases import (
    Settings,
    build_corpus,
    export,
    make_evaluation,
    make_model,
    make_run,
    text_of,
    write_about,
)
from starsmith.cli import export as command
from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError, InputError
from starsmith.provenance.papers import export as papers

pytestmark = pytest.mark.slow

CORPUS_FORMATS = ("dataset-card", "croissant", "spdx", "cyclonedx", "eu-summary", "huggingface")
AUDITS = ("memorization-audit", "exposure-audit")
MODEL_FORMATS = ("model-card", "spdx", "cyclonedx", "eu-summary", "huggingface")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("papers") / "run")


@pytest.fixture(scope="module")
def about(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_about(tmp_path_factory.mktemp("about"))


def test_the_command_knows_the_formats_that_there_are() -> None:
    assert command.PAPERS == papers.FORMATS


@pytest.mark.parametrize(
    ("kind", "form"), [("corpus", form) for form in CORPUS_FORMATS] + [("model", form) for form in MODEL_FORMATS]
)
def test_the_same_artefact_gives_the_same_bytes_wherever_it_lies(
    kind: str, form: str, run: Path, about: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "elsewhere" / "run")

    export(run / kind, form, tmp_path / "one" / "paper.md", "--about", about)
    export(tmp_path / "elsewhere" / "run" / kind, form, tmp_path / "two" / "paper.md", "--about", about)

    one, two = (contents(tmp_path / name / "paper.md") for name in ("one", "two"))
    assert one == two
    assert all(str(tmp_path).encode() not in content and str(run).encode() not in content for content in one.values())


def contents(place: Path) -> dict[str, bytes]:
    files = [file for file in sorted(place.rglob("*")) if file.is_file()] if place.is_dir() else [place]
    return {file.relative_to(place).as_posix(): file.read_bytes() for file in files}


def test_a_dataset_card_has_the_licences_counts_and_splits_of_the_manifest(run: Path, tmp_path: Path) -> None:
    counts = artifact.read(run / "corpus").counts

    export(run / "corpus", "dataset-card", tmp_path / "card.md")

    card = text_of(tmp_path / "card.md")
    assert "| MIT | 18 |" in card
    assert "| Apache-2.0 OR MIT | 6 |" in card
    assert f"| duplicate | {counts['dropped_duplicate']} |" in card
    assert f"| email | {counts['redacted_email']} |" in card
    assert f"| of these held out, never for training | {counts['held_out']}, " in card
    assert "| github.com/alpha | 18 |" in card
    assert "2025-01-01 to 2025-09-01" in card


def test_what_the_provider_did_not_say_is_not_given(run: Path, about: Path, tmp_path: Path) -> None:
    export(run / "corpus", "dataset-card", tmp_path / "without.md")
    export(run / "corpus", "dataset-card", tmp_path / "with.md", "--about", about)

    without, given = text_of(tmp_path / "without.md"), text_of(tmp_path / "with.md")
    assert "| provider | not given |" in without
    assert "| provider | Example Ltd |" in given
    assert "| intended | completing code |" in given
    assert "# example-code" in given


def test_a_model_card_has_the_figures_of_the_evaluation_beside_it_with_their_intervals(
    run: Path, tmp_path: Path
) -> None:
    export(run / "model", "model-card", tmp_path / "card.md")

    card = text_of(tmp_path / "card.md")
    assert "| lines filled in exactly | 0.25 | 0.1419 to 0.4019 | 0.1 | 40 held-out lines |" in card
    assert "| bits per byte, less is better | 1.5 | - | 1.75 | 2 held-out files, 4,321 bytes |" in card
    assert "| parameters | 1,234 |" in card
    assert "trained from scratch" in card


def test_an_evaluation_of_another_model_is_not_this_models(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "evaluation")
    made_of = {"tokens": tmp_path / "run" / "tokens"}
    other = make_model(tmp_path / "run" / "other", parents=made_of)
    make_evaluation(tmp_path / "run" / "evaluation", model=other, corpus=tmp_path / "run" / "corpus")

    export(tmp_path / "run" / "model", "model-card", tmp_path / "card.md")

    assert "No evaluation lies beside the model." in text_of(tmp_path / "card.md")


def test_results_of_a_task_that_is_not_known_are_named_and_not_guessed(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    make_evaluation(
        tmp_path / "run" / "more",
        model=tmp_path / "run" / "model",
        corpus=tmp_path / "run" / "corpus",
        results={"task": "juggling", "score": 0.99},
    )

    export(tmp_path / "run" / "model", "model-card", tmp_path / "card.md")

    card = text_of(tmp_path / "card.md")
    assert "Task juggling: evaluation" in card
    assert "0.99" not in card


@pytest.mark.parametrize("kind", AUDITS)
def test_an_audit_is_named(kind: str, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    parents = {"model": tmp_path / "run" / "model"}
    out = tmp_path / "run" / "audit"
    with artifact.create(out, kind=kind, config=Settings(), rooms=("core",), parents=parents) as draft:
        (draft.path / "audit.json").write_text("{}")

    export(tmp_path / "run" / "model", "model-card", tmp_path / "card.md")

    assert f"Task audit: {kind} `" in text_of(tmp_path / "card.md")


def test_a_model_whose_corpus_is_gone_gets_no_paper(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "corpus")

    with pytest.raises(ArtifactError, match=r"the corpus that .* was made from") as refused:
        export(tmp_path / "run" / "model", "model-card", tmp_path / "card.md")

    assert refused.value.hint.startswith("put it beside")


@pytest.mark.parametrize("form", MODEL_FORMATS)
def test_a_withdrawn_source_is_told_in_every_paper_of_what_was_made_of_it(
    form: str, run: Path, about: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "corpus" / "tainted.json").write_text('{"requests": [{"id": "request-77"}]}')

    result = export(tmp_path / "run" / "model", form, tmp_path / "paper", "--about", about)

    assert "request-77" in text_of(tmp_path / "paper")
    assert "warning: a source was withdrawn: corpus: tainted.json names request request-77" in result.stderr


def test_an_artefact_that_was_changed_gets_no_paper(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "model" / "model.safetensors").write_bytes(b"other weights")

    with pytest.raises(ArtifactError, match=r"model\.safetensors was changed") as refused:
        export(tmp_path / "run" / "model", "model-card", tmp_path / "card.md")

    assert refused.value.hint == f"starsmith verify {tmp_path / 'run' / 'model'}"
    assert not (tmp_path / "card.md").exists()


def test_a_corpus_that_was_changed_gives_its_model_no_paper(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with (tmp_path / "run" / "corpus" / "card.md").open("a") as card:
        card.write("and more\n")

    with pytest.raises(ArtifactError, match=r"card\.md was changed"):
        export(tmp_path / "run" / "model", "model-card", tmp_path / "card.md")


def test_opt_outs_and_benchmarks_are_told_where_there_were_any(run: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("gamma\n")
    settings = {"opt_outs": [str(tmp_path / "list.txt")], "opt_outs_as_of": "2026-02-01"}
    benchmarks = benchmarks_of(tmp_path / "benchmarks", module(5))
    corpus = build_corpus(tmp_path / "run" / "corpus", benchmarks=benchmarks, **settings)

    export(corpus, "dataset-card", tmp_path / "card.md")
    export(corpus, "eu-summary", tmp_path / "summary.json")
    export(run / "corpus", "dataset-card", tmp_path / "without.md")

    card, without = text_of(tmp_path / "card.md"), text_of(tmp_path / "without.md")
    assert "1 opt-out list of 2026-02-01 was applied; 6 files were left out for it." in card
    assert "texts of these benchmarks were left out: bench." in card
    assert "| contaminated | 1 |" in card
    assert "No opt-out list was applied." in without
    assert "was not cleaned of benchmark texts" in without
    assert "opt out" in steps_of(card)
    assert "opt out" not in steps_of(without)
    processing = json.loads((tmp_path / "summary.json").read_text())["data_processing"]
    assert processing["reservation_of_rights"]["files_left_out_by_opt_out"] == 6
    assert processing["other"]["benchmarks_removed"] == ["bench"]


def steps_of(card: str) -> str:
    return next(line for line in card.splitlines() if line.startswith("The steps, in order:"))


def test_the_uploaded_directory_has_no_held_out_row_under_train(run: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    export(run / "corpus", "huggingface", tmp_path / "upload")

    rows = {
        split: [
            row
            for file in sorted((tmp_path / "upload" / "data").glob(f"{split}-*"))
            for row in pq.read_table(file).to_pylist()
        ]
        for split in ("train", "held_out")
    }

    counts = artifact.read(run / "corpus").counts
    assert {row["split"] for row in rows["train"]} == {"train"}
    assert {row["split"] for row in rows["held_out"]} == {"held_out"}
    assert (len(rows["train"]), len(rows["held_out"])) == (counts["kept"] - counts["held_out"], counts["held_out"])


@pytest.mark.parametrize(
    ("kind", "form"),
    [("tokenizer", "model-card"), ("corpus", "model-card"), ("model", "croissant"), ("evaluation", "spdx")],
)
def test_a_paper_of_another_kind_of_artefact_is_refused(kind: str, form: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"is of kind {kind}; {form} is written about a"):
        export(run / kind, form, tmp_path / "paper")


def test_nothing_is_written_over_and_nothing_into_the_artefact(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("mine")

    with pytest.raises(InputError, match=r"mine\.md exists"):
        export(run / "corpus", "dataset-card", tmp_path / "mine.md")
    with pytest.raises(InputError, match="lies in the artefact"):
        export(run / "corpus", "dataset-card", run / "corpus" / "new.md")

    assert (tmp_path / "mine.md").read_text() == "mine"
    assert artifact.verify(run / "corpus") == []


@pytest.mark.parametrize("inside", ["file/card.md", "file/deep/card.md", "loop/card.md", f"{'a' * 300}.md"])
def test_a_place_where_nothing_can_be_written_is_told(inside: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(InputError, match="nothing can be written to"):
        export(run / "corpus", "dataset-card", tmp_path / inside)

    assert {place.name for place in tmp_path.iterdir()} == {"file", "loop"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
@pytest.mark.parametrize("out", ["/proc/new", "/proc/new/deep"])
def test_a_place_where_no_file_can_be_made_is_told(out: str, run: Path) -> None:
    with pytest.raises(InputError, match="nothing can be written in /proc"):
        export(run / "corpus", "dataset-card", Path(out))


def test_what_the_provider_says_is_not_cut_and_may_stand_on_several_lines(run: Path, tmp_path: Path) -> None:
    long = "word " * 200 + "end"
    text = f'[use]\nsummary = """\nOne line\nand another; {long}"""\n'
    about = write_about(tmp_path, f'{text}[measures]\nother = "{long}"\n[sources]\ncrawlers = "{long}"\n')

    for kind, form in (("corpus", "dataset-card"), ("model", "model-card"), ("model", "eu-summary")):
        export(run / kind, form, tmp_path / form, "--about", about)

    for form in ("dataset-card", "model-card"):
        assert f"\nOne line and another; {long}\n" in text_of(tmp_path / form)
    assert text_of(tmp_path / "eu-summary").count(long) == 2


def test_an_audit_did_not_test_on_the_held_out_files_of_the_corpus(run: Path, about: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "evaluation")
    parents = {"model": tmp_path / "run" / "model", "corpus": tmp_path / "run" / "corpus"}
    audit = tmp_path / "run" / "audit"
    with artifact.create(audit, kind=AUDITS[0], config=Settings(), rooms=("core",), parents=parents) as draft:
        (draft.path / "audit.json").write_text("{}")

    export(run / "model", "spdx", tmp_path / "evaluated", "--about", about)
    export(tmp_path / "run" / "model", "spdx", tmp_path / "audited", "--about", about)

    assert "testedOn" in text_of(tmp_path / "evaluated")
    assert "testedOn" not in text_of(tmp_path / "audited")


def test_a_paper_that_fails_leaves_nothing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        export(run / "model", "spdx", tmp_path / "new" / "bom.json")

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[provider]\nnam = 'x'\n", "no setting 'nam'", "did you mean 'name'?"),
        ("[providr]\nname = 'x'\n", "no setting 'providr'", "did you mean 'provider'?"),
        ("[release]\ndate = 'soon'\n", "no date", "write it as 2026-01-31"),
        ("[release]\nurl = 'somewhere'\n", "no URL", "for example"),
        ("[release]\nversion = 'first'\n", "no version", "write it as 1.0.0"),
        ("[release\n", "not valid TOML", "mend the line"),
    ],
)
def test_a_wrong_about_file_is_told_by_line_and_name(
    text: str, message: str, hint: str, run: Path, tmp_path: Path
) -> None:
    about = write_about(tmp_path, text)

    with pytest.raises(ConfigError, match=message) as refused:
        export(run / "corpus", "dataset-card", tmp_path / "card.md", "--about", about)

    assert hint in refused.value.hint


def test_an_about_file_that_is_not_there_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml does not exist"):
        export(run / "corpus", "dataset-card", tmp_path / "card.md", "--about", tmp_path / "none.toml")
