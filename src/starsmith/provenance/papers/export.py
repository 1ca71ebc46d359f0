"""An artefact becomes one paper: checked, read once, and written whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.errors import InputError
from starsmith.provenance.papers import croissant, cyclonedx, dataset_card, eu_summary, huggingface, model_card, spdx
from starsmith.provenance.papers.about import About
from starsmith.provenance.papers.facts import CorpusFacts, open_artifact, read_corpus
from starsmith.provenance.papers.huggingface import write_json, write_text
from starsmith.provenance.papers.model_facts import ModelFacts, read_model

Paper = Callable[[Path], None]  # writes the file or fills the directory at a place

FORMATS = ("dataset-card", "model-card", "croissant", "spdx", "cyclonedx", "eu-summary", "huggingface")
_ONLY = {"dataset-card": "corpus", "croissant": "corpus", "model-card": "model"}
_KINDS = ("corpus", "model")


def export(
    directory: Path, form: str, out: Path, *, about: About, use_restrictions: Path | None = None
) -> tuple[str, ...]:
    """Write the paper of this form about an artefact to the new file or directory `out`.

    use_restrictions  the licence of a base, where it does not lie in the base's own directory
    returns           the marks that say that a source was withdrawn, which the paper repeats
    """
    _check_place(directory, out)
    kind = artifact.read(directory).kind
    wanted = (_ONLY[form],) if form in _ONLY else _KINDS
    if kind not in wanted:
        raise InputError(
            f"{directory} is of kind {kind}; {form} is written about a {' or a '.join(wanted)}",
            hint=f"give the directory of a {' or a '.join(wanted)}",
        )
    if use_restrictions is not None and kind == "corpus":
        raise InputError("--use-restrictions is for a model, and this is a corpus", hint="leave it out")
    if form == "spdx":
        spdx.check(about, directory)  # before everything is read
    opened = open_artifact(directory)
    if kind == "corpus":
        corpus = read_corpus(opened)
        paper, taints = _of_corpus(corpus, form, about), corpus.artefact.taints
    else:
        model = read_model(opened, about, use_restrictions=use_restrictions)
        paper, taints = _of_model(model, form, about), model.taints
    with _whole(out, is_directory=form == "huggingface") as place:
        paper(place)
    return taints


def _of_corpus(corpus: CorpusFacts, form: str, about: About) -> Paper:
    shards = [file for file in corpus.artefact.files if file[0].endswith(".parquet")]
    includes = {"all": "shards/*.parquet"}
    papers: dict[str, Paper] = {
        "dataset-card": lambda out: write_text(out, dataset_card.write(corpus, about, data_files=includes)),
        "croissant": lambda out: write_json(
            out, croissant.write(corpus, about, files=shards, includes=includes["all"])
        ),
        "spdx": lambda out: write_json(out, spdx.write_corpus(corpus, about)),
        "cyclonedx": lambda out: write_json(out, cyclonedx.write_corpus(corpus, about)),
        "eu-summary": lambda out: _write_summary(out, eu_summary.of_corpus(corpus, about)),
        "huggingface": lambda out: huggingface.write_corpus(corpus, about, out),
    }
    return papers[form]


def _of_model(model: ModelFacts, form: str, about: About) -> Paper:
    papers: dict[str, Paper] = {
        "model-card": lambda out: write_text(out, model_card.write(model, about)),
        "spdx": lambda out: write_json(out, spdx.write_model(model, about)),
        "cyclonedx": lambda out: write_json(out, cyclonedx.write_model(model, about)),
        "eu-summary": lambda out: _write_summary(out, eu_summary.of_model(model, about)),
        "huggingface": lambda out: huggingface.write_model(model, about, out),
    }
    return papers[form]


def _write_summary(out: Path, summary: dict[str, Any]) -> None:
    """JSON where the file is called so, else a page."""
    if out.suffix == ".json":
        write_json(out, summary)
    else:
        write_text(out, eu_summary.to_markdown(summary))


def _check_place(directory: Path, out: Path) -> None:
    try:
        out.lstat()
    except FileNotFoundError:
        pass
    except PermissionError:
        raise
    except OSError as error:  # a folder of it is a file, its name is too long
        raise InputError(f"nothing can be written to {out}: {error.strerror}", hint="give another --out") from None
    else:
        raise InputError(f"{out} exists", hint="give a new --out, or move it away")
    if out.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{out} lies in the artefact, which would then not hold any more", hint="give another --out")


@contextmanager
def _whole(out: Path, *, is_directory: bool) -> Iterator[Path]:
    """A place beside `out` that gets its name when everything is written; nothing stays of a paper that fails."""
    parent_is_new = not out.parent.exists()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:32]}."))
    except FileNotFoundError:  # such as /proc, where nobody makes files
        raise InputError(f"nothing can be written in {out.parent}", hint="give another --out") from None
    try:
        place = folder / out.name
        if is_directory:
            place.mkdir()
        yield place
        place.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if parent_is_new:
            with suppress(OSError):  # not empty: the paper is in it
                out.parent.rmdir()
