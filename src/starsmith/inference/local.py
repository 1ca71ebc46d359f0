"""The embedded engine: a checkpoint in this process, one request at a time, its keys and values kept for the next.

A keystroke changes little of a prompt, so the longest prefix that a request shares with the one before is not
computed again. The outcome is the same as without.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from starsmith.core.errors import InputError
from starsmith.inference.engine import GeneratedToken, SamplingParams, never
from starsmith.inference.sampling import choose
from starsmith.model import checkpoint
from starsmith.model.kv_cache import KVCache
from starsmith.model.transformer import Transformer

PREFILL_TOKENS = 512  # read at once; between two such pieces a cancelled request is let go
LOCK_POLL_S = 0.02  # how often a waiting request looks whether it was cancelled


class LocalEngine:
    """Implements `inference.engine.Engine` with a model in this process."""

    def __init__(self, model: Transformer, *, context_tokens: int | None = None) -> None:
        self._model = model.eval()
        self._device = next(model.parameters()).device
        self.context_tokens = context_tokens or model.config.max_position_embeddings
        self.vocab_size = model.config.vocab_size
        self.last_reused_tokens = 0  # of the latest request: how much of its prompt was not computed again
        self._lock = threading.Lock()
        self._cached: list[int] = []  # the ids whose keys and values are in the cache
        dtype = next(model.parameters()).dtype
        self._cache = KVCache(model.config, capacity=self.context_tokens, dtype=dtype, device=self._device)

    def generate(
        self, prompt: Sequence[int], params: SamplingParams, cancelled: Callable[[], bool] = never
    ) -> Iterator[GeneratedToken]:
        """See `Engine.generate`."""
        self._check(prompt)
        generator = None
        if params.seed is not None:
            generator = torch.Generator(self._device).manual_seed(params.seed)
        room = min(params.max_tokens, self.context_tokens - len(prompt))
        with self._turn(cancelled) as mine:
            logits_V = self._prefill(prompt, cancelled) if mine else None
            for _ in range(room):
                if logits_V is None or cancelled():
                    return
                token = choose(logits_V, params, generator)
                yield token
                if token.id in params.stop_tokens or self._cache.length >= self.context_tokens:
                    return
                logits_V = self._read([token.id])

    def score(self, ids: Sequence[int]) -> list[float]:
        """See `Engine.score`."""
        if len(ids) > self.context_tokens:
            raise InputError(f"{len(ids)} ids exceed the context of {self.context_tokens}", hint="score shorter pieces")
        if len(ids) < 2:
            return []
        with torch.inference_mode():
            ids_T = torch.tensor(ids, device=self._device)
            logprobs_TV = self._model(ids_T[None])[0, :-1].float().log_softmax(-1)
            scores: list[float] = logprobs_TV.gather(1, ids_T[1:, None])[:, 0].tolist()
        return scores

    def _check(self, prompt: Sequence[int]) -> None:
        if not prompt:
            raise InputError("the prompt has no token", hint="give some text, or the end-of-text token")
        if len(prompt) >= self.context_tokens:
            raise InputError(
                f"the prompt has {len(prompt)} tokens, the context {self.context_tokens}, which leaves no room",
                hint="shorten the prompt",
            )

    @contextmanager
    def _turn(self, cancelled: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the model; yields False when the request was cancelled meanwhile."""
        while not self._lock.acquire(timeout=LOCK_POLL_S):
            if cancelled():
                yield False
                return
        try:
            yield True
        finally:
            self._lock.release()

    def _prefill(self, prompt: Sequence[int], cancelled: Callable[[], bool]) -> Tensor | None:
        """Read the prompt behind what the cache already has of it; (V,) logits of the next token, None if cancelled."""
        # At least one token is read anew: the logits of the last position are not kept.
        shared = min(_common_prefix(self._cached, prompt), len(prompt) - 1)
        self._cache.truncate(shared)
        del self._cached[shared:]
        self.last_reused_tokens = shared
        logits_V: Tensor | None = None
        for start in range(shared, len(prompt), PREFILL_TOKENS):
            if cancelled():
                return None
            logits_V = self._read(prompt[start : start + PREFILL_TOKENS])
        return logits_V

    def _read(self, ids: Sequence[int]) -> Tensor:
        """Add ids to the cache; (V,) logits of the token after them."""
        with torch.inference_mode():
            hidden = self._model.hidden(torch.tensor([list(ids)], device=self._device), cache=self._cache)
            logits_V: Tensor = self._model.lm_head(hidden[0, -1])
        self._cached.extend(ids)
        return logits_V


def load_engine(path: Path) -> LocalEngine:
    """An engine for a checkpoint directory, on a GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return LocalEngine(checkpoint.load(path, device=device))


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    shared = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        shared += 1
    return shared
