"""`starsmith export --format gguf | safetensors`: a model's weights in another format, with its card and its terms."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starsmith.provenance.papers.about import About
    from starsmith.provenance.papers.model_facts import ModelFacts

# format -> types of numbers, the first of which is the default
DTYPES = {"gguf": ("f16", "bf16", "f32", "q8_0", "q4_0"), "safetensors": ("bf16", "f16", "f32")}
_TORCH = {"f32": "F32", "f16": "F16", "bf16": "BF16"}


def export(
    directory: Path, form: str, dtype: str | None, out: Path, *, about: "About", use_restrictions: Path | None
) -> tuple[str, ...]:
    """Write the weights of a model artefact into the new directory `out`.

    returns  the marks that say that a source was withdrawn, which the card repeats
    """
    from starsmith.core.errors import InputError
    from starsmith.provenance.papers import huggingface
    from starsmith.provenance.papers.facts import open_artifact
    from starsmith.provenance.papers.model_facts import read_model

    _check_place(directory, out)
    dtype = dtype or DTYPES[form][0]
    if dtype not in DTYPES[form]:
        raise InputError(f"{form} is not written as {dtype} here", hint=f"--dtype {' | '.join(DTYPES[form])}")
    opened = open_artifact(directory)
    if opened.manifest.kind != "model":
        raise InputError(f"{directory} is of kind {opened.manifest.kind}; {form} is of a model", hint="give a model")
    with _whole(out) as place:
        model = read_model(opened, about, use_restrictions=use_restrictions)
        huggingface.write_model(_without_weights(model, form), about, place)
        if form == "gguf":
            _write_gguf(model, dtype, about, place)
        else:
            _write_safetensors(directory, dtype, place)
    return model.taints


def _write_gguf(model: "ModelFacts", dtype: str, about: "About", place: Path) -> None:
    from starsmith.model import gguf

    label = gguf.Label(
        name=about.release.name or model.artefact.name,
        license=model.licence,
        description=f"starsmith model {model.artefact.manifest.id}",
    )
    gguf.write(model.artefact.directory, place / f"model-{dtype}.gguf", kind=dtype, label=label)


def _write_safetensors(directory: Path, dtype: str, place: Path) -> None:
    from starsmith.model import checkpoint

    weights = checkpoint.Weights(directory)
    kind = checkpoint.DTYPES[_TORCH[dtype]]
    checkpoint.copy(weights, place, dtype=kind)
    checkpoint.write_companions(weights.config, None, place, dtype=kind)  # the vocabulary's files are there


def _without_weights(model: "ModelFacts", form: str) -> "ModelFacts":
    """The same model, without the files that another format replaces."""
    from starsmith.model.checkpoint import COMPANIONS

    def stays(name: str) -> bool:
        return not name.endswith((".safetensors", ".safetensors.index.json")) and not (
            form == "gguf" and name in COMPANIONS
        )

    manifest = model.artefact.manifest
    files = {name: digest for name, digest in manifest.files.items() if stays(name)}
    return replace(model, artefact=replace(model.artefact, manifest=replace(manifest, files=files)))


def _check_place(directory: Path, out: Path) -> None:
    from starsmith.core.errors import InputError

    if out.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{out} lies in the artefact, which would then not hold any more", hint="give another --out")
    if out.is_symlink() or out.exists():
        raise InputError(f"{out} exists", hint="give a new --out, or move it away")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A directory that gets the name `out` when everything is in it; nothing stays of an export that fails."""
    from starsmith.core.errors import InputError

    partial = out.with_name(out.name + ".partial")
    try:
        partial.mkdir(parents=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError):
        raise InputError(f"{partial} cannot be made", hint="move what is there away, or give another --out") from None
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
