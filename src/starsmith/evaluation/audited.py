"""The model of an audit and the corpora beside it: loaded, and found to belong together."""

from pathlib import Path

import torch

from starsmith.core import ancestry, artifact
from starsmith.core.console import note
from starsmith.core.errors import ArtifactError, InputError
from starsmith.model import checkpoint
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer


def check_lineage(model: Path, corpus: Path, control: Path | None) -> None:
    """Refuse a corpus that the model was not trained on, and a control that it was trained on."""
    trained_on, is_whole = _corpora_above(model)
    if artifact.read(corpus).id not in trained_on:
        if is_whole:
            raise InputError(
                f"{model} was not trained on {corpus}", hint="give the corpus it was trained on, or leave --corpus out"
            )
        note(f"audit: the chain above {model} is not all there, so nothing shows whether it was trained on {corpus}")
    if control is not None and artifact.read(control).id in trained_on:
        raise InputError(
            f"{model} was trained on the control {control}", hint="leave --control out: its held-out files are used"
        )


def load_network(model: Path, tokenizer: Tokenizer) -> Transformer:
    """The weights, on a GPU where there is one; a vocabulary that they do not cover is refused."""
    network = checkpoint.load(model, device="cuda" if torch.cuda.is_available() else "cpu")
    if tokenizer.vocab_size > network.config.vocab_size:
        raise InputError(
            f"the tokenizer of {model} has {tokenizer.vocab_size:,} entries, the model {network.config.vocab_size:,}",
            hint="put back the tokenizer.json that the model was trained with",
        )
    return network


def _corpora_above(path: Path) -> tuple[set[str], bool]:
    """Ids of the corpora in the chain above an artefact, and whether all of the chain was found."""
    found: set[str] = set()
    is_whole = True
    for parent in artifact.read(path).parents:
        if parent.role == "corpus":
            found.add(parent.id)
            continue
        try:
            above, whole = _corpora_above(ancestry.parent_directory(path, parent.role))
        except ArtifactError:
            above, whole = set(), False
        found |= above
        is_whole &= whole
    return found, is_whole
