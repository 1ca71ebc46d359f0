"""The Service: all that the routes need to answer, and how a job becomes text that may leave."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal

from starsmith.core.errors import ConfigError, InputError
from starsmith.inference.backends.balancer import Health
from starsmith.inference.completion import Completer, CompletionChunk, CompletionRequest, FinishReason
from starsmith.inference.engine import Engine, GeneratedToken
from starsmith.inference.text_engine import TextChunk, TextEngine, Usage
from starsmith.provenance.attribution import Attributor
from starsmith.provenance.completion_log import CompletionLog
from starsmith.provenance.streaming import MOST_TOKENS
from starsmith.serving import record
from starsmith.serving.attribution import (
    BLOCKING,
    Attribution,
    Policy,
    Rules,
    Watch,
)
from starsmith.serving.cards import ModelCard
from starsmith.serving.clients import ANYONE, ONE_CLIENT, Client, digest_of
from starsmith.serving.errors import ApiError
from starsmith.serving.logprobs import Written, written_in
from starsmith.serving.sessions import StickyContexts
from starsmith.serving.taints import Taints
from starsmith.serving.worker import Cancelled, Worker
from starsmith.tokenizer.bpe import Tokenizer

Reason = FinishReason | Literal["content_filter", "error"]


def nothing() -> None:
    """Of an engine that holds nothing."""


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
    tokens: tuple[Written, ...]
    finish_reason: Reason | None = None
    attribution: Attribution | None = None
    usage: Usage | None = None  # in the last, unless a backend did not count


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job that is done."""

    job: Job
    text: str
    tokens: tuple[Written, ...]  # all that the model wrote, the one that ended it included, if it is told
    finish_reason: Reason
    attribution: Attribution | None  # None: nobody looked
    usage: Usage | None = None  # None: a backend did not count
    scored_prompt: tuple[GeneratedToken, ...] = ()  # with log-probabilities, if the job is scored


@dataclass(frozen=True, kw_only=True)
class Service:
    """The model, its index, the queue before it, and what clients reported."""

    card: ModelCard
    completer: TextEngine
    engine: Engine | None = None  # our own, and its tokenizer; None: a backend, of which only text is known
    tokenizer: Tokenizer | None = None
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
    upstreams: Callable[[], Sequence[Health]] = tuple  # how the servers do that answer for this one
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

    @property
    def context_tokens(self) -> int | None:
        """Prompt and completion together; None where a backend does not tell."""
        return self.card.context_tokens if self.engine is None else self.engine.context_tokens

    @property
    def counts(self) -> dict[str, int]:
        """Completions so far, and those of them that cost no call of the model, of our own engine."""
        return dict(self.completer.counts) if isinstance(self.completer, Completer) else {}

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
                usage=last.usage,
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
        tokens: list[Written] = []
        sent = count = 0
        with closing(self._chunks(job, cancelled)) as chunks:  # which stops the model
            for chunk in chunks:
                held.append(chunk.text)
                tokens += written_in(chunk)
                count += len(chunk.tokens)
                watch.feed(chunk.text, final=chunk.finish_reason is not None)
                text = "".join(held)
                reason: Reason | None = chunk.finish_reason
                if watch.blocked_by is not None:
                    text, reason = text[: max(watch.released - sent, 0)], "content_filter"
                elif reason is None and watch.released < sent + len(text):
                    continue
                sent += len(text)
                attribution = watch.result(length=sent, shown=len(job.echo)) if reason else None
                usage = usage_of(chunk, count) if reason else None
                yield Piece(job, text, tuple(tokens), reason, attribution, usage)
                if reason == "content_filter":
                    return
                held, tokens = [], []

    def _chunks(self, job: Job, cancelled: Cancelled) -> Generator[CompletionChunk, None, None]:
        """The completion as it comes. A backend refuses other things than our engine does, so that has its own code."""
        chunks = self.completer.stream(job.request, cancelled)
        assert isinstance(chunks, Generator)
        with closing(chunks):
            try:
                yield from chunks
            except InputError as error:
                if self.engine is not None:
                    raise
                raise ApiError(400, error.message, code="refused_by_backend") from None

    def _watch(self, job: Job, asker: Asker) -> Watch:
        attributor = None if asker.policy == "off" else self.attributor
        return Watch(attributor, job.before, blocks=self.rules.blocks(asker.policy))

    def _record(self, job: Job, asker: Asker, text: str, last: Piece) -> None:
        if self.log is not None:
            about = record.line_of(self, asker, job, text, last)
            record.write(self.log, about)

    def _score(self, job: Job) -> tuple[GeneratedToken, ...]:
        ids = [token for token in job.request.prefix if isinstance(token, int)]
        if not job.scored or not ids or self.engine is None:
            return ()
        return tuple(GeneratedToken(*pair) for pair in zip(ids, [None, *self.engine.score(ids)], strict=True))


def usage_of(chunk: CompletionChunk, written: int) -> Usage | None:
    """The count of a completion that ends with `chunk`, `written` tokens in all; None where a backend does not tell."""
    if isinstance(chunk, TextChunk):
        return chunk.usage
    return Usage(prompt_tokens=chunk.prompt_tokens, completion_tokens=written, cached_tokens=chunk.cached_tokens)


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
