"""The embedded engine: a model in this process that answers any number of requests at a time, step by step.

A thread steps while there are requests and sleeps while there are none. Who asked waits at a queue of his own, so one
who reads slowly holds up nobody, and one who walks away is noticed before the next step.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from secrets import randbits
from types import TracebackType
from typing import Self

from starsmith.core.errors import EngineError, InputError, StarsmithError
from starsmith.inference.decoding import Decoder, EngineStats, engine_error
from starsmith.inference.engine import GeneratedToken, GenerationRequest, never
from starsmith.inference.jobs import Generation, Outcome, Request, Scoring
from starsmith.inference.loading import DEFAULT_CONTEXTS, Weights, open_runner
from starsmith.inference.runner import Runner, TorchRunner
from starsmith.inference.scheduler import DEFAULT_LIMITS, Limits
from starsmith.model.kv_cache import BlockPool, blocks_for
from starsmith.model.transformer import Transformer


class LocalEngine:
    """Implements `inference.engine.Engine` with a runner in this process.

    inline  no thread: a request is answered in the thread that asks, one after the other and always in the same steps.
            Ranks that share a model need that: each must do what the others do.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        context_tokens: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        inline: bool = False,
    ) -> None:
        self.context_tokens = context_tokens or runner.context_tokens
        self.vocab_size = runner.vocab_size
        self._runner = runner
        self._decoder = Decoder(runner, limits)
        self._steps: _Inline | _Thread = _Inline(self._decoder) if inline else _Thread(self._decoder)
        weakref.finalize(self, self._steps.close)  # the thread knows the decoder only, so this can be collected

    def generate(self, request: GenerationRequest, cancelled: Callable[[], bool] = never) -> Iterator[GeneratedToken]:
        """See `Engine.generate`. The request counts as made when the first token is asked for."""
        prompt = list(request.prompt)
        if not prompt:
            raise InputError("the prompt has no token", hint="give some text, or the end-of-text token")
        if len(prompt) >= self.context_tokens:
            raise InputError(
                f"the prompt has {len(prompt)} tokens, the context {self.context_tokens}, which leaves no room",
                hint="shorten the prompt",
            )
        self._check_ids(prompt)
        end = min(len(prompt) + request.params.max_tokens, self.context_tokens)
        self._decoder.check(max(end - 1, len(prompt)))  # the last token that is written is never read
        outcomes: SimpleQueue[Outcome] = SimpleQueue()
        seed = request.params.seed
        return self._tokens(
            Generation(
                ids=prompt,
                session=request.session,
                put=outcomes.put,
                cancelled=cancelled,
                params=request.params,
                seed=randbits(64) if seed is None else seed,
                end=end,
                vocab_size=self.vocab_size,
                drafter=request.drafter,
            ),
            outcomes,
        )

    def score(self, ids: Sequence[int]) -> list[float]:
        """See `Engine.score`."""
        if len(ids) > self.context_tokens:
            raise InputError(f"{len(ids)} ids exceed the context of {self.context_tokens}", hint="score shorter pieces")
        if len(ids) < 2:
            return []
        self._check_ids(ids)
        self._decoder.check(len(ids) - 1)
        outcomes: SimpleQueue[Outcome] = SimpleQueue()
        scoring = Scoring(ids=list(ids[:-1]), targets=list(ids[1:]), put=outcomes.put)
        for _ in self._tokens(scoring, outcomes):
            pass
        return scoring.scores

    @property
    def last_reused_tokens(self) -> int:
        """How much of the prompt of the request that ended last was not computed again."""
        return self._decoder.stats.last_reused_tokens

    @property
    def stats(self) -> EngineStats:
        """What was done since the start, and what is held now."""
        return self._decoder.snapshot()

    def close(self) -> None:
        """End what runs, with an error for who waits for it, and the threads."""
        self._steps.close()
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _check_ids(self, ids: Sequence[int]) -> None:
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            place, token = next((at, one) for at, one in enumerate(ids) if not 0 <= one < self.vocab_size)
            raise InputError(
                f"token {place} is {token}, the model knows ids from 0 to {self.vocab_size - 1}",
                hint="use the tokenizer of this model",
            )

    def _tokens(self, request: Request, outcomes: "SimpleQueue[Outcome]") -> Iterator[GeneratedToken]:
        self._steps.submit(request)
        try:
            while (outcome := self._steps.wait(outcomes)) is not None:
                if isinstance(outcome, StarsmithError):
                    raise outcome
                for token in outcome:
                    if request.cancelled():  # the thread may be ahead by a few tokens
                        return
                    yield token
        finally:
            request.abandoned = True


class _Inline:
    """Steps are made while somebody waits, in his thread."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._closed = False

    def submit(self, request: Request) -> None:
        if self._closed:
            raise _closed()
        self._decoder.submit(request)

    def wait(self, outcomes: "SimpleQueue[Outcome]") -> Outcome:
        while outcomes.empty():
            _step(self._decoder)
        return outcomes.get()

    def close(self) -> None:
        self._closed = True
        self._decoder.reset(_closed())


class _Thread:
    """Steps are made in a thread, which begins with the first request."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._wake = threading.Condition()
        self._arrived: deque[Request] = deque()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, request: Request) -> None:
        with self._wake:
            if self._closed:
                raise _closed()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
                self._thread.start()
            self._arrived.append(request)
            self._wake.notify()

    def wait(self, outcomes: "SimpleQueue[Outcome]") -> Outcome:
        return outcomes.get()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while self._take_in():
            _step(self._decoder)  # which raises nothing: the thread lives as long as the engine
        self._decoder.reset(_closed())

    def _take_in(self) -> bool:
        """Hand over what has arrived, or sleep until something does; whether to go on."""
        with self._wake:
            while not self._arrived and not self._closed and self._decoder.idle:
                self._wake.wait()
            arrived = list(self._arrived)
            self._arrived.clear()
        for request in arrived:
            self._decoder.submit(request)
        return not self._closed


def _step(decoder: Decoder) -> None:
    """Whatever breaks, nobody waits forever, and who comes next is answered."""
    try:
        decoder.step()
    except Exception as error:  # noqa: BLE001
        decoder.reset(engine_error(error))


def _closed() -> EngineError:
    return EngineError("the engine is closed", hint="start another")


def engine_for(
    model: Transformer,
    *,
    context_tokens: int | None = None,
    kv_blocks: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    inline: bool = False,
) -> LocalEngine:
    """An engine for a model where it is, by PyTorch alone; None: its own context, and blocks for two such."""
    context = context_tokens or model.config.max_position_embeddings
    weight = next(model.parameters())
    blocks = kv_blocks or DEFAULT_CONTEXTS * blocks_for(context)
    pool = BlockPool(model.config, blocks=blocks, dtype=weight.dtype, device=weight.device)
    return LocalEngine(TorchRunner(model, pool), context_tokens=context, limits=limits, inline=inline)


def load_engine(
    path: Path,
    weights: Weights = "auto",
    *,
    kv_tokens: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    inline: bool = False,
) -> LocalEngine:
    """An engine for a checkpoint directory, on a GPU where there is one; see `open_runner`."""
    return LocalEngine(open_runner(path, weights, kv_tokens=kv_tokens), limits=limits, inline=inline)
