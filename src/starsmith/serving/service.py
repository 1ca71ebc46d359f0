"""A model directory becomes a Service: all that the routes need to answer, opened once."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError
from starsmith.core.records import TRAIN
from starsmith.inference.completion import Completer, Completion, CompletionChunk, CompletionRequest
from starsmith.inference.engine import Engine, GeneratedToken
from starsmith.model.checkpoint import load_config
from starsmith.provenance.attribution import Attributor
from starsmith.serving.sources import sources_json
from starsmith.serving.worker import Cancelled, Worker
from starsmith.tokenizer.bpe import Tokenizer

# Editors choose a template and stop words by the model's name; for this one they are wrong: "t." ends `list.append`.
FORBIDDEN_IN_ID = "starcoder2"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the server says about its model."""

    id: str  # the name in every protocol
    parameters: int
    artefact: str | None = None  # id in the manifest; None for a checkpoint that Starsmith did not make
    created: int = 0  # Unix time of the weights
    device: str = "cpu"
    licenses: dict[str, int] | None = None  # SPDX expression -> files of the training corpus, most first


@dataclass(frozen=True)
class Job:
    """One choice of an answer: what to generate, and the text before it, for attribution and for echo."""

    index: int
    request: CompletionRequest
    before: str = ""  # code before the cursor, as text
    echo: str = ""  # what the client wants in front of the completion
    scored: bool = False  # the prompt's own log-probabilities are wanted, too


@dataclass(frozen=True)
class Finished:
    """A job that is done."""

    job: Job
    completion: Completion
    sources: list[dict[str, Any]] | None  # None: the server has no index
    prompt_tokens: tuple[GeneratedToken, ...] = ()  # with their log-probabilities, if the job is scored


@dataclass(frozen=True)
class Piece:
    """A part of a job's text, in order; the last one has a finish reason and the sources."""

    job: Job
    chunk: CompletionChunk
    sources: list[dict[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class Service:
    """The model, its index, the queue before it, and what clients reported."""

    card: ModelCard
    engine: Engine
    tokenizer: Tokenizer
    completer: Completer
    attributor: Attributor | None = None
    token: str | None = None  # what `Authorization: Bearer` must carry; None lets everybody in
    worker: Worker = field(default_factory=Worker)
    events: Counter[str] = field(default_factory=Counter)  # view, select, dismiss; in memory only

    def complete(self, jobs: list[Job], cancelled: Cancelled) -> Iterator[Finished]:
        """Each job in one piece. Blocking: for a worker thread."""
        for job in jobs:
            completion = self.completer.complete(job.request, cancelled)
            if cancelled():
                return
            yield Finished(job, completion, self._sources(job, completion.text), self._score(job))

    def stream(self, jobs: list[Job], cancelled: Cancelled) -> Iterator[Piece]:
        """Each job as it is written. Blocking: for a worker thread."""
        for job in jobs:
            text = ""
            for chunk in self.completer.stream(job.request, cancelled):
                text += chunk.text
                yield Piece(job, chunk, self._sources(job, text) if chunk.finish_reason else None)
            if cancelled():
                return

    def _score(self, job: Job) -> tuple[GeneratedToken, ...]:
        ids = [token for token in job.request.prefix if isinstance(token, int)]
        if not job.scored or not ids:
            return ()
        return tuple(GeneratedToken(*pair) for pair in zip(ids, [None, *self.engine.score(ids)], strict=True))

    def _sources(self, job: Job, text: str) -> list[dict[str, Any]] | None:
        if self.attributor is None:
            return None
        return sources_json(self.attributor, job.before, text, shown=len(job.echo))


def open_service(model: Path, *, index: Path | None, model_id: str | None, token: str | None = None) -> Service:
    """Load a model directory, and the index if there is one."""
    import torch

    from starsmith.inference.local import load_engine

    name = check_model_id(model_id) if model_id else default_model_id(model)
    engine = load_engine(model)
    tokenizer = Tokenizer.load(model)
    return Service(
        card=replace(read_card(model, name), device="cuda" if torch.cuda.is_available() else "cpu"),
        engine=engine,
        tokenizer=tokenizer,
        completer=Completer(engine, tokenizer),
        attributor=Attributor.open(index) if index else None,
        token=token,
    )


def default_model_id(model: Path) -> str:
    """`runs/demo/model` is starsmith-demo, `runs/big` is starsmith-big."""
    path = model.resolve()
    name = path.parent.name if path.name == "model" else path.name
    name = name.lower().replace(FORBIDDEN_IN_ID, "").strip("-_. ") or "model"
    return name if name.startswith("starsmith") else f"starsmith-{name}"


def check_model_id(model_id: str) -> str:
    """The given id, unless editors would treat it wrongly."""
    if FORBIDDEN_IN_ID in model_id.lower():
        raise ConfigError(
            f"--model-id {model_id!r} contains {FORBIDDEN_IN_ID!r}: editors then cut completions at 't.'",
            hint="choose another name, for example --model-id starsmith-3b",
        )
    return model_id


def read_card(model: Path, model_id: str) -> ModelCard:
    """What can be known about a model directory without loading it."""
    try:
        artefact = artifact.read(model, kind="model").id
        licenses = count_licenses(artifact.ancestor_directory(model, "corpus"))
    except ArtifactError:
        artefact, licenses = None, None
    weights = next(iter(sorted(model.glob("*.safetensors"))), model)
    return ModelCard(
        id=model_id,
        artefact=artefact,
        created=int(weights.stat().st_mtime),
        parameters=load_config(model).parameters,
        licenses=licenses,
    )


def find_index(model: Path) -> Path | None:
    """An index beside the model that was made from the corpus the model was trained on."""
    try:
        corpus = artifact.read(artifact.ancestor_directory(model, "corpus")).id
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
