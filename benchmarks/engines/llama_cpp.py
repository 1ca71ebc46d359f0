"""llama.cpp as xllamacpp ships it: its own server in this process, and the times that the server itself reports.

The clock of `prompt_ms` runs from taking the prompt up to the first token, that of `predicted_ms` from the first token
to the last, so HTTP is in neither. A step computes logits of its last token alone, less than verifying drafts needs.
"""

import json
import urllib.request
from collections.abc import Sequence
from typing import Any

import xllamacpp
from work import LIKELIEST, Engine, Work, file_bytes, main

GREEDY = {"temperature": 0, "samplers": ["top_k"], "top_k": 1, "ignore_eos": True}


class LlamaCpp:
    """Implements `work.Engine`."""

    def __init__(self, work: Work) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = work.model
        params.n_ctx, params.n_parallel, params.port = 2 * work.positions, 1, 0
        params.warmup, params.offline, params.verbosity = False, True, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = work.threads
        self._server = xllamacpp.Server(params)
        self.weights_bytes = file_bytes(work.model)
        self.about = xllamacpp.get_system_info().strip()

    def likeliest(self, ids: Sequence[int]) -> list[tuple[int, float]]:
        """See `Engine`."""
        answer = self._ask(ids, n_predict=1, n_probs=LIKELIEST, cache_prompt=False, temperature=-1, samplers=[])
        top = answer["completion_probabilities"][0]["top_logprobs"]
        return [(entry["id"], entry["logprob"]) for entry in top]

    def prefill(self, ids: Sequence[int]) -> float:
        """See `Engine`."""
        timings = self._ask(ids, n_predict=1, cache_prompt=False)["timings"]
        assert timings["prompt_n"] == len(ids), f"not the same work: {timings}"
        return float(timings["prompt_ms"]) / 1e3

    def decode(self, ids: Sequence[int], count: int) -> float:
        """See `Engine`."""
        timings = self._ask(ids, n_predict=count + 1, cache_prompt=True)["timings"]
        assert timings["predicted_n"] == count + 1, f"not the same work: {timings}"
        return float(timings["predicted_ms"]) / 1e3 / count  # the first one's time is the prompt's

    def step(self, ids: Sequence[int], new: Sequence[int]) -> float | None:
        """See `Engine`."""
        self._ask(ids, n_predict=1, cache_prompt=True)
        timings = self._ask([*ids, *new], n_predict=1, cache_prompt=True)["timings"]
        assert timings["prompt_n"] == len(new), f"not the same work: {timings}"
        return float(timings["prompt_ms"]) / 1e3

    def _ask(self, ids: Sequence[int], **options: Any) -> dict[str, Any]:
        body = json.dumps({"prompt": list(ids), **GREEDY, **options}).encode()
        url = f"{self._server.listening_address}/completion"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 our own server
        with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
        return answer


def open_engine(work: Work) -> Engine:
    """Load the GGUF file."""
    return LlamaCpp(work)


if __name__ == "__main__":
    main(open_engine)
