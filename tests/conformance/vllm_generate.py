"""Greedy tokens by vLLM, in its own environment. A script of test_vllm.py.

vllm_generate.py MODEL TOKENS < prompts.json > tokens.json      lists of lists of ids
"""

import json
import sys
from pathlib import Path

from vllm import LLM, SamplingParams


def main(model: str, tokens: int, prompts_file: Path, out: Path) -> None:
    prompts = [{"prompt_token_ids": ids} for ids in json.loads(prompts_file.read_text())]
    engine = LLM(model=model, dtype="float32", enforce_eager=True, max_model_len=128, gpu_memory_utilization=0.1)
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    answers = engine.generate(prompts, params, use_tqdm=False)
    out.write_text(json.dumps([list(answer.outputs[0].token_ids) for answer in answers]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
