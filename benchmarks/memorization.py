"""Do the audits find what a model remembers? Two small models are trained where the truth is known, and asked.

One reads real code with planted secrets, each in a known number of files or in none: exposure must rise with that
number, and be what chance gives where there is none. The other reads a few real files again and again: it must give
them back more often than a control of real files that it never saw. There is no peer to install: the claims are the
audits' own, and chance and control are what they are measured against.
"""

import argparse
import hashlib
import json
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
GOVERNED = corpus.CorpusConfig(held_out=0.0, licenses=LicensePolicy(unlicensed=True))
COPIES = (0, 1, 4, 16, 64)
SMALLEST, LARGEST = 2_000, 6_000  # bytes of a file of the standard library
AROUND, BY_HEART, CONTROL = 100_000, 15_000, 80_000  # bytes of the library beside the secrets, learned, never seen
BAR = 0.6  # rank correlation of copies and exposure
CHANCE = 0.01  # p-value above which exposure without a copy is no more than chance


@dataclass(frozen=True)
class Work:
    """How much is done."""

    each: int  # secrets of each form and number of copies
    forms: tuple[str, ...]
    steps: int  # of the model that reads secrets
    steps_by_heart: int
    windows: int
    alternatives: int = 511


QUICK = Work(each=4, forms=("number",), steps=200, steps_by_heart=250, windows=200)
FULL = Work(each=4, forms=canaries.FORMS, steps=250, steps_by_heart=300, windows=500)


def main() -> None:
    """Train twice, ask twice, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps, secrets and windows")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    arguments = parser.parse_args()
    work = QUICK if arguments.quick else FULL

    with tempfile.TemporaryDirectory() as folder:
        exposed = _exposure(Path(folder), work)
        remembered = _memorization(Path(folder), work)
    print_exposure(exposed)
    print_memorization(remembered)
    if arguments.json:
        print(json.dumps(_lines(exposed, remembered)))


def _exposure(root: Path, work: Work) -> dict[str, Any]:
    planted, place = root / "canaries", root / "secrets"
    canaries.run(canaries.CanaryConfig(copies=COPIES, each=work.each, forms=work.forms), out=planted)
    library = _copy_library(root / "around", part=0, size=AROUND)
    _train(place, [library, planted / canaries.FILES], work.steps)
    started = time.monotonic()
    places = {"model": place / "model", "corpus": place / "corpus", "canaries": planted}
    exposure.run(exposure.ExposureConfig(alternatives=work.alternatives), **places, out=place / "audit")
    note(f"  audit of exposure: {time.monotonic() - started:.0f} s")
    found: dict[str, Any] = json.loads((place / "audit" / exposure.RESULTS).read_text())
    return found


def _memorization(root: Path, work: Work) -> dict[str, Any]:
    place = root / "by_heart"
    _train(place, [_copy_library(root / "learned", part=0, size=BY_HEART)], work.steps_by_heart)
    other = _copy_library(root / "other", part=1, size=CONTROL)
    corpus.run(GOVERNED, sources=[open_source(other)], out=place / "control")
    config = memorization.MemorizationConfig(
        prefix_tokens=(32, 64), suffix_tokens=30, random_windows=work.windows, stratum_windows=0
    )
    started = time.monotonic()
    places = {name: place / name for name in ("model", "corpus", "control")}
    memorization.run(config, **places, out=place / "audit")
    note(f"  audit of memorisation: {time.monotonic() - started:.0f} s")
    found: dict[str, Any] = json.loads((place / "audit" / memorization.RESULTS).read_text())
    return found


def _train(place: Path, folders: Sequence[Path], steps: int) -> None:
    """The stages from sources to a model, the quickstart's but for its size."""
    corpus.run(GOVERNED, sources=[open_source(folder) for folder in folders], out=place / "corpus")
    train.run(train.TokenizerConfig(vocab_size=1024), corpus=place / "corpus", out=place / "tokenizer")
    tokens.run(tokens.TokensConfig(), corpus=place / "corpus", tokenizer=place / "tokenizer", out=place / "tokens")
    settings = {**load_recipe(RECIPE, known=STAGES)["pretrain"], "minutes": "none", "steps": steps}
    settings |= {"batch_tokens": 1024, "micro_batch_tokens": 1024}
    settings["model"] |= {"layers": 3}
    settings["data"] |= {"context_tokens": 256}
    config = build(pretrain.PretrainConfig, settings, where="recipe")
    pretrain.run(config, tokens=place / "tokens", tokenizer=place / "tokenizer", out=place / "model")


def _copy_library(out: Path, *, part: int, size: int) -> Path:
    """Every other file of the running Python's standard library, by the hash of its name, until there are enough."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [file for file in library.rglob("*.py") if SMALLEST <= file.stat().st_size <= LARGEST]
    files = [file for file in files if not {"site-packages", "test", "tests"} & set(file.parts)]
    files.sort(key=lambda file: hashlib.sha256(file.relative_to(library).as_posix().encode()).digest())
    out.mkdir()
    taken = 0
    for file in files[part::2]:
        if taken >= size:
            break
        taken += file.stat().st_size
        shutil.copy(file, out / "_".join(file.relative_to(library).parts))
    return out


def _lines(exposed: dict[str, Any], remembered: dict[str, Any]) -> list[dict[str, Any]]:
    """One claim a line."""
    found = exposed["forms"]["number"]
    never, most = found["by_copies"][0], found["by_copies"][-1]
    random = remembered["contexts"]["prefix 64"]["random"]
    least = random["corpus_minus_control"]["extracted"]["difference_95"][0]
    claims = [
        ("exposure_follows_copies", found["rank_correlation"], 0.0, "no relation", "rank correlation", BAR),
        ("exposure_of_64_copies", most["exposure"], never["exposure"], "no copy", "bits", never["exposure"] + 3),
        ("never_planted_is_chance", never["p_value"], CHANCE, "chance", "p", CHANCE),
        ("files_by_heart_are_given_back", least, 0.0, "control", "share, lower bound of the difference", 0.0),
    ]
    return [
        {"name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit,
         "ratio": ours / peer if peer else None, "bar": bar, "holds": ours > bar}
        for name, ours, peer, peer_name, unit, bar in claims
    ]  # fmt: skip


if __name__ == "__main__":
    main()
