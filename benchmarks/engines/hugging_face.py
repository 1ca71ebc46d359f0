"""transformers as it comes: `generate` of Starcoder2ForCausalLM in bfloat16, on the CPU or the GPU."""

import time
from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.generation.streamers import BaseStreamer
from work import LIKELIEST, Engine, Work, file_bytes, main


class HuggingFace:
    """Implements `work.Engine`."""

    def __init__(self, work: Work) -> None:
        torch.set_num_threads(work.threads)
        self._device = torch.device(work.device)
        model = AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.bfloat16)
        self._model = model.to(self._device).eval()
        self.weights_bytes = file_bytes(work.model)
        self.about = f"torch {torch.__version__}"

    def likeliest(self, ids: Sequence[int]) -> list[tuple[int, float]]:
        """See `Engine`."""
        with torch.inference_mode():
            logits_V = self._model(self._tensor(ids), logits_to_keep=1).logits[0, -1]
        values, found = logits_V.float().log_softmax(-1).topk(LIKELIEST)
        return list(zip(found.tolist(), values.tolist(), strict=True))

    def prefill(self, ids: Sequence[int]) -> float:
        """See `Engine`."""
        return self._forward(ids, DynamicCache(config=self._model.config))

    def decode(self, ids: Sequence[int], count: int) -> float:
        """See `Engine`."""
        clock = _Clock()
        with torch.inference_mode():
            out = self._model.generate(
                self._tensor(ids), max_new_tokens=count + 1, min_new_tokens=count + 1, do_sample=False, streamer=clock
            )
        assert out.shape[1] == len(ids) + count + 1, f"not the same work: {out.shape}"
        return (clock.times[-1] - clock.times[-1 - count]) / count

    def step(self, ids: Sequence[int], new: Sequence[int]) -> float | None:
        """See `Engine`."""
        cache = DynamicCache(config=self._model.config)
        self._forward(ids, cache)
        return self._forward(new, cache)

    def _forward(self, ids: Sequence[int], cache: DynamicCache) -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            logits = self._model(self._tensor(ids), past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            int(logits[0, -1].argmax())
        return time.perf_counter() - began

    def _tensor(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(ids)], device=self._device)


class _Clock(BaseStreamer):
    """When each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: torch.Tensor) -> None:
        """What `generate` calls with the prompt, and with each token."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is left to do."""


def open_engine(work: Work) -> Engine:
    """Load the checkpoint."""
    return HuggingFace(work)


if __name__ == "__main__":
    main(open_engine)
