"""Our runner: chunks of token ids in, logits out. Greedy choice is counted, as the other engines do it too.

A step asks for the logits of all its tokens, as verifying drafts does, where the peers compute those of the last.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from work import LIKELIEST, Engine, Work, file_bytes, main

from starsmith.inference.loading import open_runner
from starsmith.inference.runner import BLOCK_TOKENS, Chunk


class Ours:
    """Implements `work.Engine`."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(work.threads)
        self._runner = open_runner(Path(work.model), kv_tokens=work.positions, device=work.device)
        self.weights_bytes = file_bytes(work.model)
        self.about = f"torch {torch.__version__}"

    def likeliest(self, ids: Sequence[int]) -> list[tuple[int, float]]:
        """See `Engine`."""
        logits_V = self._forward(ids, 0, 1)[0]
        values, found = logits_V.log_softmax(-1).topk(LIKELIEST)
        return list(zip(found.tolist(), values.tolist(), strict=True))

    def prefill(self, ids: Sequence[int]) -> float:
        """See `Engine`."""
        began = time.perf_counter()
        self._next(ids, 0)
        return time.perf_counter() - began

    def decode(self, ids: Sequence[int], count: int) -> float:
        """See `Engine`."""
        token = self._next(ids, 0)
        began = time.perf_counter()
        for past in range(len(ids), len(ids) + count):
            token = self._next([token], past)
        return (time.perf_counter() - began) / count

    def step(self, ids: Sequence[int], new: Sequence[int]) -> float | None:
        """See `Engine`."""
        self._next(ids, 0)
        began = time.perf_counter()
        self._forward(new, len(ids), len(new)).argmax(-1).tolist()
        return time.perf_counter() - began

    def _next(self, ids: Sequence[int], past: int) -> int:
        return int(self._forward(ids, past, 1)[-1].argmax())

    def _forward(self, ids: Sequence[int], past: int, logits: int) -> torch.Tensor:
        """(logits, V) logits."""
        blocks = range(-(-(past + len(ids)) // BLOCK_TOKENS))
        (found,) = self._runner.forward([Chunk(ids, past, blocks, logits)])
        return found


def open_engine(work: Work) -> Engine:
    """Load the checkpoint."""
    return Ours(work)


if __name__ == "__main__":
    main(open_engine)
