"""What a server says about its model before anything is loaded: its name, size, licences, and the index beside it."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starsmith.core import ancestry, artifact
from starsmith.core.errors import ArtifactError, ConfigError
from starsmith.core.records import TRAIN
from starsmith.model.checkpoint import load_config

# Editors choose a template and stop words by the model's name; for this one they are wrong: "t." ends `list.append`.
FORBIDDEN_IN_ID = "starcoder2"
OURS = "starsmith"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the server says about its model."""

    id: str  # the name in every protocol
    parameters: int | None = None  # None: a backend does not tell
    artefact: str | None = None  # id in the manifest; None for a checkpoint that Starsmith did not make
    created: int = 0  # Unix time of the weights; 0 where they are elsewhere
    device: str = "cpu"
    backend: str | None = None  # who computes, where that is not our own engine
    context_tokens: int | None = None  # of a backend that tells; of our own engine it is the engine's
    licenses: dict[str, int] | None = None  # SPDX expression -> files of the training corpus, most first


def default_model_id(model: Path) -> str:
    """`runs/demo/model` is starsmith-demo, `runs/big` is starsmith-big."""
    path = model.resolve()
    name = path.parent.name if path.name == "model" else path.name
    return _as_ours(name.lower())


def check_model_id(model_id: str) -> str:
    """The given id, unless editors would treat it wrongly."""
    if FORBIDDEN_IN_ID in model_id.lower():
        raise ConfigError(
            f"--model-id {model_id!r} contains {FORBIDDEN_IN_ID!r}: editors then cut completions at 't.'",
            hint="choose another name, for example --model-id starsmith-3b",
        )
    return model_id


def foreign_model_id(name: str) -> str:
    """The id of somebody else's model. It keeps its name, by which editors know what it was trained on."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower().rsplit("/", 1)[-1]).strip("-_.")
    return slug if slug and FORBIDDEN_IN_ID not in slug else _as_ours(slug)


def server_model_id(url: str) -> str:
    """The id of a model of which only the server is known: http://gpu1:8000/v1 is starsmith-gpu1."""
    return _as_ours(urlsplit(url).hostname or "")


def read_card(model: Path, model_id: str) -> ModelCard:
    """What can be known about a model directory without loading it."""
    weights = next(iter(sorted(model.glob("*.safetensors"))), model)
    return ModelCard(
        id=model_id,
        artefact=_artefact_of(model),
        created=int(weights.stat().st_mtime),
        parameters=load_config(model).parameters,
        licenses=_licenses_of(model),
    )


def find_index(model: Path) -> Path | None:
    """An index beside the model that was made from the corpus the model was trained on."""
    try:
        corpus = artifact.read(ancestry.ancestor_directory(model, "corpus")).id
    except ArtifactError:
        return None
    for sibling in sorted(model.resolve().parent.iterdir()):
        try:
            found = artifact.read(sibling, kind="index")
        except ArtifactError:
            continue
        if corpus in {parent.id for parent in found.parents}:
            return sibling
    return None


def count_licenses(corpus: Path) -> dict[str, int]:
    """Training files of a corpus by licence, most first."""
    import pyarrow.parquet as pq

    counts: Counter[str] = Counter()
    for shard in sorted((corpus / "shards").glob("*.parquet")):
        table = pq.read_table(shard, columns=["license"], filters=[("split", "=", TRAIN)])
        counts.update(table["license"].to_pylist())
    return dict(counts.most_common())


def _artefact_of(model: Path) -> str | None:
    try:
        return artifact.read(model, kind="model").id
    except ArtifactError:
        return None


def _licenses_of(model: Path) -> dict[str, int] | None:
    """None where the corpus is not there, as of a model that came from elsewhere."""
    try:
        return count_licenses(ancestry.ancestor_directory(model, "corpus"))
    except ArtifactError:
        return None


def _as_ours(name: str) -> str:
    name = name.replace(FORBIDDEN_IN_ID, "").strip("-_. ") or "model"
    return name if name.startswith(OURS) else f"{OURS}-{name}"
