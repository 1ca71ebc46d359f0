"""Bits per byte after the same tokens: Muon with AdamW against AdamW alone, on the standard library.

Peer: AdamW for all parameters, as in the StarCoder2 paper, at the best of three learning rates. Work: the quickstart
model on the same batches for the same number of steps; the figure is the held-out bits per byte of the last step.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from starsmith.cli.options import STAGES
from starsmith.core import artifact
from starsmith.core.config import build, load_recipe
from starsmith.core.console import table
from starsmith.corpus import build as corpus
from starsmith.corpus.sources import standard_library
from starsmith.tokenizer import tokens, train
from starsmith.training import pretrain

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "quickstart.toml"
BAR = 0.95  # of the peer's bits per byte


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps, one learning rate for AdamW")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    arguments = parser.parse_args()
    steps, rates = (60, (3e-3,)) if arguments.quick else (300, (1e-3, 3e-3, 1e-2))

    with tempfile.TemporaryDirectory() as folder:
        world = _world(Path(folder))
        table_ = load_recipe(RECIPE, known=STAGES)["pretrain"]
        ours = replace(build(pretrain.PretrainConfig, {**table_, "minutes": "none", "steps": steps}, where="recipe"))
        found = {"Muon and AdamW": _bits(ours, world, "ours")}
        for rate in rates:
            alone = replace(ours, matrix_learning_rate=None, learning_rate=rate)
            found[f"AdamW alone, {rate:g}"] = _bits(alone, world, f"adamw-{rate}")
    mine = found["Muon and AdamW"]
    peer = min(value for name, value in found.items() if name != "Muon and AdamW")
    rows = [(name, f"{value:.3f}") for name, value in found.items()] + [
        ("ratio to the best peer", f"{mine / peer:.3f}")
    ]
    table(f"Held-out bits per byte after {steps} steps", ("optimizer", "bits per byte"), rows, right=("bits per byte",))
    if arguments.json:
        result = {
            "name": "optimizer_loss",
            "ours": mine,
            "peer": peer,
            "peer_name": "AdamW alone",
            "unit": "bits per byte",
        }
        print(json.dumps({**result, "ratio": mine / peer, "bar": BAR, "holds": mine / peer <= BAR}))


def _world(root: Path) -> Path:
    """Corpus, vocabulary and tokens that all runs share."""
    corpus.run(corpus.CorpusConfig(), sources=[standard_library()], out=root / "corpus")
    train.run(train.TokenizerConfig(vocab_size=4096), corpus=root / "corpus", out=root / "tokenizer")
    tokens.run(tokens.TokensConfig(), corpus=root / "corpus", tokenizer=root / "tokenizer", out=root / "tokens")
    return root


def _bits(config: pretrain.PretrainConfig, world: Path, name: str) -> float:
    pretrain.run(config, tokens=world / "tokens", tokenizer=world / "tokenizer", out=world / name)
    last = (world / name / artifact.RUN / pretrain.METRICS).read_text().splitlines()[-1]
    return float(json.loads(last)["held_out_bits_per_byte"])


if __name__ == "__main__":
    main()
