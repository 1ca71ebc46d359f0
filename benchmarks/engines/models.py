"""Checkpoints of StarCoder2's architecture with random weights, rounded ones and GGUF files, made once.

Speed does not depend on what the numbers are; whether two engines did the same work is seen from their logits, so the
embedding is scaled to make these spread. The vocabulary has StarCoder2's size and is trained on the running Python's
library, but for a few packages that are left to be typed. All is kept under `.bench/models`.

python benchmarks/engines/models.py 160m 1b 3b      make them beforehand: 31 GB of disk, some minutes
"""

import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from starsmith.core.console import note
from starsmith.model import checkpoint, gguf, quantized
from starsmith.model.config import PRESETS, ModelConfig
from starsmith.model.quantization import KINDS, Kind
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import SPECIAL_TOKENS

MODELS = Path(__file__).resolve().parents[2] / ".bench" / "models"
LIBRARY = Path(sysconfig.get_path("stdlib"))
LEFT_OUT = ("asyncio", "concurrent", "email", "html", "http", "json", "logging", "urllib", "xmlrpc", "zoneinfo")
_INSTALLED = ("site-packages", "dist-packages")


def _shape(hidden: int, layers: int, heads: int) -> ModelConfig:
    return ModelConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=4096,
        initializer_range=hidden**-0.5,
    )


SHAPES = {
    "mini": _shape(256, 2, 4),  # for trying the plumbing
    "160m": _shape(768, 20, 12),
    "1b": _shape(1792, 28, 14),
    "3b": replace(PRESETS["starcoder2-3b"], initializer_range=3072**-0.5),
}


def checkpoint_of(shape: str) -> Path:
    """The directory of the bfloat16 checkpoint."""
    out = MODELS / shape
    if not out.exists():
        note(f"making random weights of {shape}")
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        checkpoint.save(_random_model(SHAPES[shape]), vocabulary(), partial)
        partial.rename(out)
    return out


def gguf_of(shape: str, kind: str) -> Path:
    """The GGUF file with numbers of a kind."""
    out = MODELS / f"{shape}-{kind}.gguf"
    if not out.exists():
        note(f"writing {out.name}")
        gguf.write(checkpoint_of(shape), out, kind=kind, label=gguf.Label(name=shape))
    return out


def quantized_of(shape: str, kind: Kind) -> Path:
    """The directory of the checkpoint with rounded weights."""
    out = MODELS / f"{shape}-{kind}"
    if not out.exists():
        note(f"rounding {out.name}")
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        quantized.save(quantized.quantize(checkpoint_of(shape), kind), kind, vocabulary(), partial)
        partial.rename(out)
    return out


def vocabulary() -> Path:
    """The tokenizer.json that all shapes share."""
    out = MODELS / "vocabulary" / "tokenizer.json"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        note("training a vocabulary")
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=ModelConfig().vocab_size,
            min_frequency=1,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(_modules(), trainer=trainer)
        assert backend.get_vocab_size() == ModelConfig().vocab_size
        backend.save(str(out))
    return out


def _modules() -> Iterator[str]:
    for file in sorted(LIBRARY.rglob("*.py")):
        if file.relative_to(LIBRARY).parts[0] not in (*LEFT_OUT, *_INSTALLED):
            yield file.read_text(encoding="utf-8", errors="replace")


def _random_model(config: ModelConfig) -> Transformer:
    """Made in bfloat16 from the start: the largest would not fit into memory twice."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        torch.manual_seed(0)
        return Transformer(config)
    finally:
        torch.set_default_dtype(default)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for number_kind in ("q8_0", "q4_0", "bf16"):
            gguf_of(name, number_kind)
        for rounding in KINDS:
            quantized_of(name, rounding)
