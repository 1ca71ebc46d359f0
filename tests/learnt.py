"""A small model that has learnt a text by heart, so that its likeliest tokens are no accident of rounding.

Outside software is held to such a model: with random weights the second token is as likely as the first.
"""

from pathlib import Path

import torch
from torch.nn import functional

from starsmith.model import checkpoint
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer

TEXT = "def area(width, height):\n    return 2025 * width + height\n"
LEARNT = 12  # tokens of it that are the prompt; the rest is to be written
CONTEXT = 256


def write_model(tokenizer_directory: Path, out: Path, *, steps: int) -> Path:
    """A checkpoint that writes TEXT, with the vocabulary of the directory."""
    torch.manual_seed(1)
    tokenizer = Tokenizer.load(tokenizer_directory)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
    )
    network = Transformer(config)
    learn(network, torch.tensor([tokenizer.encode(TEXT)]), steps=steps)
    checkpoint.save(network.eval(), tokenizer_directory / "tokenizer.json", out)
    return out


def learn(network: Transformer, row: torch.Tensor, *, steps: int) -> None:
    """(1, T) tokens by heart."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(steps):
        functional.cross_entropy(network(row[:, :-1])[0], row[0, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
