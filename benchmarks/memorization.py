"""Does the audit find what a model remembers? A model is trained on real code with planted secrets, and asked.

Truth is known for the secrets: each stands in a known number of files, or in none. Exposure must rise with that number
and be what chance gives where there is none. For real code, files that were trained on are asked beside files that
were held out. There is no peer to install: the claim is the audit's own, and chance is what it is measured against.
"""

import argparse
import hashlib
import json
import shutil
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from starsmith.cli.audit import print_exposure, print_memorization
from starsmith.cli.options import STAGES
from starsmith.core.config import build, load_recipe
from starsmith.core.console import note
from starsmith.corpus import build as corpus
from starsmith.corpus.policy import LicensePolicy
from starsmith.corpus.sources import open_source
from starsmith.evaluation import canaries, exposure, memorization
from starsmith.tokenizer import tokens, train
from starsmith.training import pretrain

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "quickstart.toml"
COPIES = (0, 1, 4, 16, 64)
SMALLEST, LARGEST = 4_000, 20_000  # bytes of a file of the standard library
BAR = 0.6  # rank correlation of copies and exposure
CHANCE = 0.01  # p-value above which exposure without a copy is no more than chance


def main() -> None:
    """Train once, ask twice, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps and secrets")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    arguments = parser.parse_args()
    size, each, steps = (150_000, 4, 250) if arguments.quick else (300_000, 6, 500)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _world(root, size, each, steps)
        started = time.monotonic()
        exposed = _exposure(root)
        remembered = _memorization(root)
        note(f"  both audits: {time.monotonic() - started:.0f} s")
    print_memorization(remembered)
    print_exposure(exposed)
    if arguments.json:
        print(json.dumps(_lines(exposed, remembered)))


def _world(root: Path, size: int, each: int, steps: int) -> None:
    """Real code and canaries, governed, and a model that has read them several times."""
    canaries.run(canaries.CanaryConfig(copies=COPIES, each=each), out=root / "canaries")
    _copy_library(root / "library", size)
    sources = [open_source(root / "library"), open_source(root / "canaries" / canaries.FILES)]
    governed = corpus.CorpusConfig(held_out=0.15, licenses=LicensePolicy(unlicensed=True))
    corpus.run(governed, sources=sources, out=root / "corpus")
    train.run(train.TokenizerConfig(vocab_size=1024), corpus=root / "corpus", out=root / "tokenizer")
    tokens.run(tokens.TokensConfig(), corpus=root / "corpus", tokenizer=root / "tokenizer", out=root / "tokens")
    settings = {**load_recipe(RECIPE, known=STAGES)["pretrain"], "minutes": "none", "steps": steps}
    settings |= {"context_tokens": 320, "layers": 3}
    config = build(pretrain.PretrainConfig, settings, where="recipe")
    pretrain.run(config, tokens=root / "tokens", tokenizer=root / "tokenizer", out=root / "model")


def _copy_library(out: Path, size: int) -> None:
    """Files of the running Python's standard library, by the hash of their names."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [file for file in library.rglob("*.py") if SMALLEST <= file.stat().st_size <= LARGEST]
    files = [file for file in files if not {"site-packages", "test", "tests"} & set(file.parts)]
    files.sort(key=lambda file: hashlib.sha256(file.relative_to(library).as_posix().encode()).digest())
    out.mkdir()
    taken = 0
    for file in files:
        if taken >= size:
            break
        taken += file.stat().st_size
        shutil.copy(file, out / "_".join(file.relative_to(library).parts))


def _exposure(root: Path) -> dict[str, Any]:
    places = {name: root / name for name in ("model", "canaries", "corpus")}
    exposure.run(exposure.ExposureConfig(), **places, out=root / "exposure")
    found: dict[str, Any] = json.loads((root / "exposure" / exposure.RESULTS).read_text())
    return found


def _memorization(root: Path) -> dict[str, Any]:
    config = memorization.MemorizationConfig(suffix_tokens=20)
    memorization.run(config, model=root / "model", corpus=root / "corpus", out=root / "memorization")
    found: dict[str, Any] = json.loads((root / "memorization" / memorization.RESULTS).read_text())
    return found


def _lines(exposed: dict[str, Any], remembered: dict[str, Any]) -> list[dict[str, Any]]:
    """One claim a line."""
    found = exposed["forms"]["number"]
    never, most = found["by_copies"][0], found["by_copies"][-1]
    random = remembered["contexts"]["prefix 128"]["random"]
    medians = [random[side]["median_log_prob"] for side in ("corpus", "control")]
    claims = [
        ("exposure_follows_copies", found["rank_correlation"], 0.0, "no relation", "rank correlation", BAR),
        ("exposure_of_64_copies", most["exposure"], never["exposure"], "no copy", "bits", never["exposure"] + 3),
        ("never_planted_is_chance", never["p_value"], CHANCE, "chance", "p", CHANCE),
        ("training_likelier_than_control", medians[0], medians[1], "held-out files", "median log-prob", medians[1]),
    ]
    return [
        {"name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit,
         "ratio": ours / peer if peer else None, "bar": bar, "holds": ours > bar}
        for name, ours, peer, peer_name, unit, bar in claims
    ]  # fmt: skip


if __name__ == "__main__":
    main()
