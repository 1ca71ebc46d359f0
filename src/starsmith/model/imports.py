"""A StarCoder2 checkpoint from elsewhere becomes a model artefact, to be served, measured and trained further.

Its files are checked and written anew: safetensors, both configuration files from one source, the vocabulary. The
manifest names it as imported, with its licence, its revision and the digests of the files that were read; its card and
licence texts come along, because some licences bind what is made of a model.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, CheckpointError, InputError
from starsmith.model import checkpoint
from starsmith.model.checkpoint import Weights

CARD = "README.md"
_TERMS = re.compile(r"(?:LICEN[CS]E|NOTICE|COPYING|USE[_-]?(?:RESTRICTIONS|POLICY)|ATTACHMENT)[\w.-]*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a model from elsewhere is called there."""

    name: str
    license: str = ""  # as its provider names it; "" leaves it to its card and licence files
    revision: str = ""  # commit or version


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """One setting: where the model comes from. Papers about the model read the same table."""

    imported: Origin

    def __post_init__(self) -> None:
        if not self.imported.name:
            raise InputError("the imported model has no name", hint="for example --name bigcode/starcoder2-3b")


def run(
    config: ImportConfig, *, source: Path, tokenizer_file: Path, vocab_size: int, end_of_text: int, out: Path
) -> None:
    """Read the Hugging Face directory `source` and write a model artefact with the same weights in the same type.

    vocab_size, end_of_text  of the vocabulary in `tokenizer_file`
    """
    _check_foreign(source)
    weights = Weights(source)
    if vocab_size != weights.config.vocab_size:
        raise CheckpointError(
            f"{tokenizer_file} has {vocab_size} tokens, {source} {weights.config.vocab_size} embeddings",
            hint="give the model's own vocabulary: --tokenizer DIR",
        )
    # The published 7B names a token in generation_config.json that it does not have.
    architecture = replace(weights.config, bos_token_id=end_of_text, eos_token_id=end_of_text)
    with artifact.create(out, kind="model", config=config, rooms=("core", "model")) as draft:
        checkpoint.copy(weights, draft.path, dtype=weights.dtype)
        checkpoint.write_companions(architecture, tokenizer_file, draft.path, dtype=weights.dtype)
        for paper in _papers(source):
            shutil.copyfile(paper, draft.path / paper.name)
        read = [source / checkpoint.CONFIG, *weights.files, tokenizer_file]
        draft.settings["imported"] = {**asdict(config.imported), "files": {file.name: _sha256(file) for file in read}}
        draft.counts["parameters"] = architecture.parameters


def _check_foreign(source: Path) -> None:
    """An artefact of ours would lose its history."""
    if not (source / artifact.MANIFEST).is_file():
        return
    try:
        kind = artifact.read(source).kind
    except ArtifactError:  # somebody else's manifest.json
        return
    raise InputError(f"{source} is a {kind} artefact already", hint="use it as it is, or copy its directory")


def _papers(source: Path) -> Iterator[Path]:
    for file in sorted(source.iterdir()):
        if file.is_file() and (file.name == CARD or _TERMS.fullmatch(file.name)):
            yield file


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
