"""Stage: a checkpoint and the held-out files of a corpus become figures, with a plain n-gram model beside them.

Task "held-out": bits per byte left to right, and single-line infilling by exact match and by syntax. Every completion
is stored, so that a figure can be traced to what was written; nothing random is left, so a second run is the same.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from starsmith.core import artifact
from starsmith.core.console import progress
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import HELD_OUT, TRAIN, SourceFile, read_files
from starsmith.evaluation.bits_per_byte import BitsPerByte, measure, measure_engine
from starsmith.evaluation.infilling import Filled, Hole, by_hash, choose_holes, fill, fill_with_ngram
from starsmith.evaluation.ngram import ORDER, NGram
from starsmith.evaluation.statistics import wilson
from starsmith.inference.completion import Completer
from starsmith.inference.engine import Engine
from starsmith.inference.local import load_engine
from starsmith.tokenizer.bpe import Tokenizer

TASKS = ("held-out",)
RESULTS, SAMPLES = "results.json", "samples.jsonl"
MOST_BASELINE_BYTES = 50_000_000  # of training text that the n-gram model counts


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured on held-out files."""

    held_out_bytes: int = 300_000  # text scored for bits per byte, by whole files in the order of their hashes
    infills: int = 100  # holes, spread over the files

    def __post_init__(self) -> None:
        if self.held_out_bytes < 1 or self.infills < 0:
            raise ConfigError(
                f"held_out_bytes={self.held_out_bytes}, infills={self.infills}: must not be negative",
                hint="the defaults are 300000 and 100",
            )


def run(config: EvaluationConfig, *, model: Path, corpus: Path, out: Path) -> None:
    """Measure `model` on the held-out files of `corpus`; writes results.json and samples.jsonl."""
    files = list(read_files(corpus, split=HELD_OUT))
    if not files:
        raise InputError(f"{corpus} has no held-out file", hint="build it with a higher --set corpus.held_out=0.05")
    completer = Completer(load_engine(model, inline=True), Tokenizer.load(model))
    rooms = ("core", "evaluation", "inference", "model", "tokenizer")
    parents = {"model": model, "corpus": corpus}
    with artifact.create(out, kind="evaluation", config=config, rooms=rooms, parents=parents) as draft:
        baseline = _baseline(corpus, completer.tokenizer)
        chosen = first_bytes(by_hash(files), config.held_out_bytes)
        bits = _bits(completer.engine, baseline, completer.tokenizer, chosen)
        holes = choose_holes(files, config.infills)
        with progress("evaluation: filling holes", total=len(holes), unit="holes") as advance:
            filled = list(fill(completer, holes, advance))
        by_ngram = list(fill_with_ngram(baseline, completer.tokenizer, holes))
        results = {
            "task": "held-out",
            "bits_per_byte": bits,
            "infilling": {**figures_of(filled), "baseline": figures_of(by_ngram), "per_layout": per_layout(filled)},
            "baseline": f"interpolated Kneser-Ney {ORDER}-gram over the model's own tokens, trained on the same files",
        }
        (draft.path / RESULTS).write_text(json.dumps(results, indent=2) + "\n")
        with (draft.path / SAMPLES).open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(_row(number, one)) + "\n" for number, one in enumerate(filled))
        draft.counts.update(held_out_files=len(chosen), scored_bytes=bits["bytes"], holes=len(holes))
        draft.counts.update(exact=sum(one.exact for one in filled))


def _baseline(corpus: Path, tokenizer: Tokenizer) -> NGram:
    """An n-gram model of the training files (the first 50 MB of them)."""
    texts: list[str] = []
    size = 0
    for file in read_files(corpus, split=TRAIN):
        size += len(file.text)
        if size > MOST_BASELINE_BYTES:
            break
        texts.append(file.text)
    with progress("evaluation: counting n-grams", total=len(texts), unit="files") as advance:
        documents = tokenizer.encode_batch(texts)
        advance(len(texts))
    return NGram(documents, vocab_size=tokenizer.vocab_size)


def first_bytes(files: Sequence[SourceFile], limit: int) -> list[SourceFile]:
    """The first files that fill `limit` bytes, and at least one."""
    chosen: list[SourceFile] = []
    size = 0
    for file in files:
        size += len(file.text.encode())
        if chosen and size > limit:
            break
        chosen.append(file)
    return chosen


def _bits(engine: Engine, baseline: NGram, tokenizer: Tokenizer, files: Sequence[SourceFile]) -> dict[str, Any]:
    documents = [ids for file in files if len(ids := tokenizer.encode(file.text)) > 1]
    scored = measure_engine(engine, tokenizer, documents, "evaluation")
    plain = measure(lambda ids: np.log(baseline.probabilities(ids))[1:].tolist(), tokenizer, documents)
    return {
        "model": _rounded(scored),
        "baseline": _rounded(plain),
        "files": scored.files,
        "bytes": scored.size_bytes,
    }


def _rounded(found: BitsPerByte) -> float:
    return round(found.value, 4)


def figures_of(filled: Sequence[Filled]) -> dict[str, Any]:
    """How many infills are right, and how many still parse, as `results.json` has them."""
    exact = sum(one.exact for one in filled)
    checked = [one.valid for one in filled if one.valid is not None]
    return {
        "holes": len(filled),
        "exact": exact,
        "exact_95": [round(bound, 4) for bound in wilson(exact, len(filled))],
        "similarity": round(sum(one.similarity for one in filled) / max(len(filled), 1), 4),
        "ended_by_model": sum(one.finish_reason == "stop" for one in filled),
        "syntax_checked": len(checked),
        "syntax_valid": sum(checked),
    }


def per_layout(filled: Sequence[Filled]) -> dict[str, Any]:
    """The same by the order in which prefix and suffix were given."""
    return {layout: figures_of([one for one in filled if one.layout == layout]) for layout in ("psm", "spm")}


def _row(number: int, one: Filled) -> dict[str, Any]:
    hole: Hole = one.hole
    return {
        "task_id": f"held-out/{number}",
        "path": hole.file.path,
        "line": hole.line,
        "swhid": hole.file.swhid,
        "layout": one.layout,
        "before": hole.prefix[-200:],
        "truth": hole.truth,
        "completion": one.completion,
        "finish_reason": one.finish_reason,
        "exact": one.exact,
        "syntax_valid": one.valid,
    }
