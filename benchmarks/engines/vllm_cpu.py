"""vLLM for CPUs, run in its own environment, in bfloat16, without the prefix cache: it works in blocks of 128 tokens.

So it cannot be asked for a step of a few tokens behind a kept prompt.
"""

import time
from collections.abc import Sequence

from vllm import LLM, SamplingParams
from work import LIKELIEST, Engine, Work, file_bytes, main


class VllmCpu:
    """Implements `work.Engine`."""

    def __init__(self, work: Work) -> None:
        self._llm = LLM(
            model=work.model,
            dtype="bfloat16",
            enforce_eager=True,
            max_model_len=2 * work.positions,
            max_num_seqs=8,
            enable_prefix_caching=False,
            gpu_memory_utilization=0.1,
            skip_tokenizer_init=True,
        )
        self._asked = 0
        self.weights_bytes = file_bytes(work.model)
        self.about = "eager"

    def likeliest(self, ids: Sequence[int]) -> list[tuple[int, float]]:
        """See `Engine`."""
        params = SamplingParams(temperature=0, max_tokens=1, logprobs=LIKELIEST, detokenize=False)
        (answer,) = self._llm.generate([{"prompt_token_ids": list(ids)}], params, use_tqdm=False)
        found = answer.outputs[0].logprobs[0]
        return [(token, entry.logprob) for token, entry in found.items()]

    def prefill(self, ids: Sequence[int]) -> float:
        """See `Engine`."""
        began = time.perf_counter()
        times = self._times(ids, 1)
        return times[0] - began

    def decode(self, ids: Sequence[int], count: int) -> float:
        """See `Engine`."""
        times = self._times(ids, count + 1)
        assert len(times) == count + 1, f"not the same work: {len(times)} tokens"
        return (times[-1] - times[0]) / count

    def step(self, ids: Sequence[int], new: Sequence[int]) -> float | None:
        """See `Engine`."""
        del ids, new
        return None

    def _times(self, ids: Sequence[int], count: int) -> list[float]:
        """When each token came."""
        params = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
        engine = self._llm.llm_engine
        self._asked += 1
        engine.add_request(str(self._asked), {"prompt_token_ids": list(ids)}, params)
        times: list[float] = []
        while engine.has_unfinished_requests():
            for output in engine.step():
                written = len(output.outputs[0].token_ids)
                times += [time.perf_counter()] * (written - len(times))
        return times


def open_engine(work: Work) -> Engine:
    """Load the checkpoint."""
    return VllmCpu(work)


if __name__ == "__main__":
    main(open_engine)
