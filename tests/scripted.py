"""A completion server around an engine that plays back a text: real sockets and protocols, no model."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import uvicorn
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from starsmith.inference.completion import Completer
from starsmith.inference.engine import GeneratedToken, GenerationRequest, SamplingParams, never
from starsmith.serving.app import create_app
from starsmith.serving.cards import ModelCard
from starsmith.serving.service import Service
from starsmith.serving.worker import Worker
from starsmith.tokenizer.bpe import END_OF_TEXT, SPECIAL_TOKENS, Tokenizer

MODEL = "starsmith-tiny"
ENDLESS = "ab" * 5_000
FIB = "return fib(n - 1) + fib(n - 2)"


@cache
def tiny_tokenizer() -> Tokenizer:
    """StarCoder2's special tokens, the 256 bytes and a few merges."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(["def return self import class print value"] * 3, trainer)
    return Tokenizer(backend)


class ScriptedEngine:
    """Answers every prompt with the same text and an end marker, and keeps count."""

    def __init__(self, answer: str = FIB, *, delay_s: float = 0.0, context_tokens: int = 512) -> None:
        self.context_tokens = context_tokens
        self.vocab_size = tiny_tokenizer().vocab_size
        self.prompts: list[list[int]] = []
        self.params: list[SamplingParams] = []
        self.sessions: list[str | None] = []
        self.decoded = 0
        self._script = [*tiny_tokenizer().encode(answer), END_OF_TEXT]
        self._delay_s = delay_s

    def generate(self, request: GenerationRequest, cancelled: Callable[[], bool] = never) -> Iterator[GeneratedToken]:
        from starsmith.core.errors import InputError

        prompt, params = request.prompt, request.params
        room = self.context_tokens - len(prompt)
        if room < 1:
            raise InputError(f"the prompt has {len(prompt)} tokens, the context {self.context_tokens}")
        self.prompts.append(list(prompt))
        self.params.append(params)
        self.sessions.append(request.session)
        for token in self._script[: min(params.max_tokens, room)]:
            if cancelled():
                return
            time.sleep(self._delay_s)
            self.decoded += 1
            top = ((token, -0.5), (END_OF_TEXT, -2.0))[: params.top_logprobs or 0]
            yield GeneratedToken(token, None if params.top_logprobs is None else -0.5, top)
            if token in params.stop_tokens:
                return

    def score(self, ids: Sequence[int]) -> list[float]:
        return [-1.0] * (len(ids) - 1)


def make_service(engine: ScriptedEngine | None = None, **fields: Any) -> Service:
    """A service around a scripted engine."""
    engine = engine or ScriptedEngine()
    tokenizer = tiny_tokenizer()
    return Service(
        card=ModelCard(id=MODEL, parameters=1_234_567, licenses={"MIT": 3, "": 1}),
        engine=engine,
        tokenizer=tokenizer,
        completer=Completer(engine, tokenizer),
        **{"worker": Worker(), **fields},
    )


@contextmanager
def running(service: Service, *, hosts: frozenset[str] | None = None) -> Iterator[str]:
    """Serve on a free port of this machine; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            create_app(service, hosts=hosts), log_level="warning", ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def wait_for(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Return once the condition holds; fail if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
