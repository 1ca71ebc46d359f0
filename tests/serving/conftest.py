"""A model directory with random weights, made from the tiny corpus, and an index of that corpus beside it."""

from pathlib import Path

import pytest

from indexed import numbers_index
from starsmith.core import artifact
from starsmith.tokenizer.train import TokenizerConfig


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "tiny"


@pytest.fixture(scope="session")
def model_directory(run_directory: Path, tokenizer_directory: Path, tokens_directory: Path) -> Path:
    import torch

    from starsmith.model import checkpoint
    from starsmith.model.config import ModelConfig
    from starsmith.model.transformer import Transformer

    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
    )
    parents = {"tokens": tokens_directory, "tokenizer": tokenizer_directory}
    out = run_directory / "model"
    run_directory.mkdir()
    with artifact.create(out, kind="model", config=TokenizerConfig(), rooms=("core",), parents=parents) as draft:
        checkpoint.save(Transformer(config), tokenizer_directory / "tokenizer.json", draft.path)
    return out


@pytest.fixture(scope="session")
def index_directory(model_directory: Path, corpus: Path) -> Path:
    from starsmith.provenance import index

    out = model_directory.parent / "index"
    index.run(index.IndexConfig(ngram_tokens=4, window=2), corpus=corpus, out=out)
    return out


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of `indexed.RECURSIVE` and `indexed.LONG`."""
    return numbers_index(tmp_path_factory.mktemp("numbers"))
