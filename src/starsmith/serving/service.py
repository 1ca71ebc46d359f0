"""A model directory becomes a Service: all that the routes need to answer, opened once."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError, InputError
from starsmith.core.records import TRAIN
from starsmith.inference.completion import Completer, CompletionRequest, FinishReason
from starsmith.inference.drafting import Deferred, RepositoryDrafts
from starsmith.inference.engine import Engine, GeneratedToken
from starsmith.model.checkpoint import load_config
from starsmith.provenance.attribution import Attributor
from starsmith.provenance.completion_log import CompletionLog
from starsmith.provenance.fingerprints import DOCUMENTS
from starsmith.provenance.streaming import MOST_TOKENS
from starsmith.serving import record
from starsmith.serving.attribution import (
    BLOCKING,
    Attribution,
    Permissive,
    Policy,
    Rules,
    Watch,
    none_permissive,
)
from starsmith.serving.clients import ANYONE, ONE_CLIENT, Client, digest_of
from starsmith.serving.sessions import StickyContexts
from starsmith.serving.taints import Taints
from starsmith.serving.worker import Cancelled, Worker
from starsmith.tokenizer.bpe import Tokenizer

Reason = FinishReason | Literal["content_filter", "error"]

# Editors choose a template and stop words by the model's name; for this one they are wrong: "t." ends `list.append`.
FORBIDDEN_IN_ID = "starcoder2"

PARALLEL = 16  # requests that the engine has at once, in batches; more of them wait


def nothing() -> None:
    """Of an engine that holds nothing."""


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
    prompt: str = ""  # what the client sent before the cursor, as text, for the log ...
    suffix: str | None = None  # ... and what after it


@dataclass(frozen=True, kw_only=True)
class Asker:
    """For whom an answer is written."""

    client: str = ANYONE
    policy: Policy = "off"
    answer: str = ""  # id of the answer


@dataclass(frozen=True)
class Piece:
    """A part of a job's text, in order; the last one has a finish reason and the attribution."""

    job: Job
    text: str
    tokens: tuple[GeneratedToken, ...]
    finish_reason: Reason | None = None
    attribution: Attribution | None = None
    prompt_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job that is done."""

    job: Job
    text: str
    tokens: tuple[GeneratedToken, ...]  # all that the model wrote, the one that ended it included
    finish_reason: Reason
    prompt_tokens: int
    attribution: Attribution | None  # None: nobody looked
    scored_prompt: tuple[GeneratedToken, ...] = ()  # with log-probabilities, if the job is scored


@dataclass(frozen=True, kw_only=True)
class Service:
    """The model, its index, the queue before it, and what clients reported."""

    card: ModelCard
    engine: Engine
    tokenizer: Tokenizer
    completer: Completer
    attributor: Attributor | None = None
    index_id: str | None = None
    rules: Rules = field(default_factory=Rules)
    token: str | None = None  # what `Authorization: Bearer` must carry; with no clients either, everybody is let in
    clients: Mapping[str, Client] = field(default_factory=dict)  # sha256 of a token -> who sends it
    log: CompletionLog | None = None
    log_text: bool = False  # whether the log has the texts, and not only their digests
    taints: Taints = field(default_factory=Taints)
    worker: Worker = field(default_factory=Worker)
    events: Counter[str] = field(default_factory=Counter)  # view, select, dismiss; in memory only
    contexts: StickyContexts = field(default_factory=StickyContexts)
    close_engine: Callable[[], None] = nothing

    def guarded(
        self, *, token: str | None, clients: Mapping[str, Client], log: CompletionLog | None, log_text: bool
    ) -> "Service":
        """The same service for those who have one of these tokens, and with a log."""
        check_policies([client.policy for client in clients.values() if client.policy], self.attributor)
        return replace(self, token=token, clients=clients, log=log, log_text=log_text)

    @property
    def locked(self) -> bool:
        """True when a token is asked for."""
        return self.token is not None or bool(self.clients)

    def client_of(self, token: str) -> Client | None:
        """Who sends this token ("" for none), if anybody may."""
        if not self.locked:
            return Client(name=ANYONE)
        if not token.strip():
            return None
        digest = digest_of(token)
        if digest in self.clients:  # also where it is the server's own token, which has no policy
            return self.clients[digest]
        return Client(name=ONE_CLIENT) if self.token is not None and digest == digest_of(self.token) else None

    def policy_of(self, client: Client | None) -> Policy:
        """What attribution does for a client."""
        if self.attributor is None:
            return "off"
        return self.rules.policy if client is None or client.policy is None else client.policy

    def asker(self, client: Client | None = None, answer: str = "") -> Asker:
        """What to know about who asks; None is anybody."""
        return Asker(client=client.name if client else ANYONE, policy=self.policy_of(client), answer=answer)

    def close(self) -> None:
        """End what runs, and let go of the model and the log."""
        self.worker.close()
        self.close_engine()
        if self.log is not None:
            self.log.close()

    def complete(self, jobs: list[Job], cancelled: Cancelled, asker: Asker | None = None) -> Iterator[Finished]:
        """Each job in one piece. Blocking: for a worker thread."""
        asker = asker or self.asker()
        for job in jobs:
            pieces = list(self._pieces(job, self._watch(job, asker), cancelled))
            if cancelled():
                return
            text, last = "".join(piece.text for piece in pieces), pieces[-1]
            assert last.finish_reason is not None
            self._record(job, asker, text, last)
            yield Finished(
                job=job,
                text=text,
                tokens=tuple(token for piece in pieces for token in piece.tokens),
                finish_reason=last.finish_reason,
                prompt_tokens=last.prompt_tokens,
                attribution=last.attribution,
                scored_prompt=self._score(job),
            )

    def stream(self, jobs: list[Job], cancelled: Cancelled, asker: Asker | None = None) -> Iterator[Piece]:
        """Each job as it is written. Blocking: for a worker thread."""
        asker = asker or self.asker()
        for job in jobs:
            yield from self._stream(job, cancelled, asker)
            if cancelled():
                return

    def _stream(self, job: Job, cancelled: Cancelled, asker: Asker) -> Iterator[Piece]:
        """The pieces of one job. What has left of it is logged, however it ends."""
        watch, text, logged = self._watch(job, asker), "", False
        try:
            for piece in self._pieces(job, watch, cancelled):
                if piece.finish_reason is not None:
                    logged = True
                    self._record(job, asker, text + piece.text, piece)
                text += piece.text
                yield piece
        finally:
            if text and not logged:
                reason: Reason = "cancelled" if cancelled() else "error"
                self._record(job, asker, text, Piece(job, "", (), reason, watch.result(length=len(text))))

    def _pieces(self, job: Job, watch: Watch, cancelled: Cancelled) -> Iterator[Piece]:
        """The text as it may leave: what is held back follows with a later piece, or never."""
        held: list[str] = []
        tokens: list[GeneratedToken] = []
        sent = 0
        chunks = self.completer.stream(job.request, cancelled)
        assert isinstance(chunks, Generator)
        with closing(chunks):  # which stops the model
            for chunk in chunks:
                held.append(chunk.text)
                tokens += chunk.tokens
                watch.feed(chunk.text, final=chunk.finish_reason is not None)
                text = "".join(held)
                reason: Reason | None = chunk.finish_reason
                if watch.blocked_by is not None:
                    text, reason = text[: max(watch.released - sent, 0)], "content_filter"
                elif reason is None and watch.released < sent + len(text):
                    continue
                sent += len(text)
                attribution = watch.result(length=sent, shown=len(job.echo)) if reason else None
                yield Piece(job, text, tuple(tokens), reason, attribution, chunk.prompt_tokens)
                if reason == "content_filter":
                    return
                held, tokens = [], []

    def _watch(self, job: Job, asker: Asker) -> Watch:
        attributor = None if asker.policy == "off" else self.attributor
        return Watch(attributor, job.before, blocks=self.rules.blocks(asker.policy))

    def _record(self, job: Job, asker: Asker, text: str, last: Piece) -> None:
        if self.log is not None:
            about = record.line_of(self, asker, job, text, last)
            record.write(self.log, about)

    def _score(self, job: Job) -> tuple[GeneratedToken, ...]:
        ids = [token for token in job.request.prefix if isinstance(token, int)]
        if not job.scored or not ids:
            return ()
        return tuple(GeneratedToken(*pair) for pair in zip(ids, [None, *self.engine.score(ids)], strict=True))


def open_service(
    model: Path,
    *,
    index: Path | None,
    model_id: str | None,
    policy: Policy | None = None,
    permissive: Permissive = none_permissive,
    repositories: Sequence[Path] = (),
) -> Service:
    """Load a model directory, and the index if there is one. Who may ask, and the log, are `Service.guarded`'s.

    policy      of attribution, for clients that have none of their own; None: annotate if there is an index
    permissive  whether an SPDX expression is, for the policy block-nonpermissive
    repositories  folders of code to guess ahead from
    """
    import torch

    from starsmith.inference.local import load_engine

    name = check_model_id(model_id) if model_id else default_model_id(model)
    attributor, rules = open_index(index, policy or "annotate", permissive)
    check_policies([policy] if policy else [], attributor)
    check_folders(repositories)
    engine = load_engine(model)
    tokenizer = Tokenizer.load(model)
    lookup = Deferred(lambda: RepositoryDrafts.read(tokenizer, repositories)) if repositories else None
    return Service(
        card=replace(read_card(model, name), device="cuda" if torch.cuda.is_available() else "cpu"),
        engine=engine,
        tokenizer=tokenizer,
        completer=Completer(engine, tokenizer, drafting=True, lookup=lookup),
        attributor=attributor,
        index_id=artifact.read(index).id if index else None,
        rules=rules,
        taints=Taints.of(model, *([index] if index else [])),
        worker=Worker(parallel=PARALLEL),
        close_engine=engine.close,
    )


def open_index(index: Path | None, policy: Policy, permissive: Permissive) -> tuple[Attributor | None, Rules]:
    """The opened index, if there is one, and what to do with what it finds."""
    if index is None:
        return None, Rules(policy="off")
    attributor = Attributor.open(index)
    everything = all(permissive(license_) for license_ in licenses_of(index))
    return attributor, Rules(policy=policy, permissive=permissive, all_permissive=everything)


def check_policies(policies: Sequence[Policy], attributor: Attributor | None) -> None:
    """Refuse a policy that could not be kept."""
    needs_index = [policy for policy in policies if policy != "off"]
    if attributor is None and needs_index:
        raise ConfigError(f"attribution {needs_index[0]!r} needs an index", hint="give one with --index DIR")
    blocking = [policy for policy in policies if policy in BLOCKING]
    if attributor is not None and blocking and attributor.guaranteed_tokens >= MOST_TOKENS:
        raise ConfigError(
            f"this index finds every copy of {attributor.guaranteed_tokens} code tokens, "
            f"so attribution {blocking[0]!r} cannot stop one after {MOST_TOKENS}",
            hint="make an index with smaller index.ngram_tokens and index.window: the defaults do",
        )


def check_folders(folders: Sequence[Path]) -> None:
    """Refuse a folder of code that is none."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder", hint="give the folder of a repository with --repository")


def licenses_of(index: Path) -> set[str]:
    """Every licence of the documents in an index."""
    import pyarrow.parquet as pq

    return set(pq.read_table(index / DOCUMENTS, columns=["license"])["license"].unique().to_pylist())


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
