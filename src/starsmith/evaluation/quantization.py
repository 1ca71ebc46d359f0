"""What rounding a model's weights costs and gains: bits per byte and infills beside size and speed, both models alike.

The loss is measured on held-out files of the corpus the model was trained on, the infills pair by pair. Speeds are
medians of a few runs on this machine, one model after the other: a sign, where `benchmarks/engine.py` is the figure.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsmith.core.console import progress
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import HELD_OUT, SourceFile, read_files
from starsmith.evaluation.bits_per_byte import measure_engine
from starsmith.evaluation.comparison import compare
from starsmith.evaluation.infilling import Hole, by_hash, choose_holes, fill
from starsmith.evaluation.run import first_bytes
from starsmith.inference.completion import Completer
from starsmith.inference.engine import GenerationRequest, SamplingParams
from starsmith.inference.local import LocalEngine, load_engine
from starsmith.tokenizer.bpe import Tokenizer

SPEED_TOKENS, SPEED_WRITTEN, SPEED_ROUNDS = 512, 32, 3


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """On how much the loss is measured."""

    held_out_bytes: int = 300_000  # text scored, by whole files in the order of their hashes
    infills: int = 200  # holes, spread over the files

    def __post_init__(self) -> None:
        if self.held_out_bytes < 1 or self.infills < 1:
            raise ConfigError(
                f"held_out_bytes={self.held_out_bytes}, infills={self.infills}: must be at least 1",
                hint="the defaults are 300000 and 200",
            )


@dataclass(frozen=True)
class Measured:
    """One model."""

    bits_per_byte: float
    exact: dict[str, tuple[int, int]]  # hole -> 1, and 1 if it was filled exactly
    size_bytes: int  # of the weights' files
    prefill_tokens_per_s: float
    decode_ms: float  # a token


def cost_of(plain: Path, rounded: Path, *, corpus: Path, config: LossConfig) -> dict[str, Any]:
    """Both models on the held-out files of `corpus`; for a report and for JSON."""
    files = list(read_files(corpus, split=HELD_OUT))
    if not files:
        raise InputError(f"{corpus} has no held-out file", hint="build it with a higher --set corpus.held_out=0.05")
    chosen, holes = first_bytes(by_hash(files), config.held_out_bytes), choose_holes(files, config.infills)
    before, after = (_measure(path, chosen, holes) for path in (plain, rounded))
    paired = compare(before.exact, after.exact)
    return {
        "bits_per_byte": _pair(before.bits_per_byte, after.bits_per_byte, 4),
        "exact_share": {
            **_pair(paired.first, paired.second, 4),
            "difference_95": [round(paired.low, 4), round(paired.high, 4)],
            "lost": len(paired.lost),
            "gained": len(paired.gained),
            "holes": paired.problems,
        },
        "size_bytes": _pair(before.size_bytes, after.size_bytes, 0),
        "prefill_tokens_per_s": _pair(before.prefill_tokens_per_s, after.prefill_tokens_per_s, 1),
        "decode_ms": _pair(before.decode_ms, after.decode_ms, 3),
    }


def _pair(before: float, after: float, digits: int) -> dict[str, float]:
    ratio = round(after / before, 4) if before else 0.0
    return {"before": round(before, digits), "after": round(after, digits), "ratio": ratio}


def _measure(path: Path, files: Sequence[SourceFile], holes: Sequence[Hole]) -> Measured:
    tokenizer = Tokenizer.load(path)
    with load_engine(path, inline=True) as engine:
        documents = [ids for file in files if len(ids := tokenizer.encode(file.text)) > 1]
        bits = measure_engine(engine, tokenizer, documents, path.name)
        with progress(f"{path.name}: filling holes", total=len(holes), unit="holes") as advance:
            filled = list(fill(Completer(engine, tokenizer), holes, advance))
        prefill, decode = _speeds(engine, [token for ids in documents for token in ids])
    return Measured(
        bits_per_byte=bits.value,
        exact={str(number): (1, int(one.exact)) for number, one in enumerate(filled)},
        size_bytes=sum(file.stat().st_size for file in path.glob("*.safetensors")),
        prefill_tokens_per_s=prefill,
        decode_ms=decode,
    )


def _speeds(engine: LocalEngine, ids: Sequence[int]) -> tuple[float, float]:
    """Prompt tokens a second, and milliseconds a written token."""
    length = min(SPEED_TOKENS, engine.context_tokens // 2, len(ids) // (SPEED_ROUNDS + 1))
    if length < 1:
        raise InputError("the held-out files are too short to measure a speed on", hint="hold more files out")
    prefills, decodes = [], []
    for number in range(SPEED_ROUNDS):
        prompt = ids[number * length : (number + 1) * length]
        params = SamplingParams(max_tokens=min(SPEED_WRITTEN, engine.context_tokens - length))
        began = time.perf_counter()
        times = [time.perf_counter() for _ in engine.generate(GenerationRequest(prompt=prompt, params=params))]
        prefills.append(times[0] - began)
        decodes.append((times[-1] - times[0]) / max(len(times) - 1, 1))
    return length / statistics.median(prefills), 1000 * statistics.median(decodes)
