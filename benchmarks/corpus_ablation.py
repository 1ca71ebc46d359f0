"""What governing a corpus is worth: the same model on the same number of tokens of the raw and of the governed files.

Raw is what the sources give and a tokenizer can read: nothing is filtered, compared or redacted. Governed is the
default pipeline. Secrets, made up here, are planted in some files, as they lie in real ones. Measured after training:
bits per byte on repositories that neither corpus has, without files that are near-copies of a raw one; and the leak
rate, the share of planted secrets that the model finds likelier than each of 63 others of the same form in the place
where it stood (1.6 % by chance; the exposure of Carlini et al. 2019, arXiv 1802.08232, with 64 candidates).
"""

import argparse
import hashlib
import json
import shutil
import string
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from real_files import BENCH, gather

from starsmith.cli.options import STAGES
from starsmith.core.config import build, load_recipe
from starsmith.core.console import table
from starsmith.core.records import read_files
from starsmith.corpus import build as corpus
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.duplicates import DuplicateConfig
from starsmith.corpus.filters import FilterConfig
from starsmith.corpus.policy import LicensePolicy
from starsmith.corpus.redaction import RedactionConfig
from starsmith.corpus.sketch import jaccard, shingle_set
from starsmith.corpus.sources import open_source
from starsmith.evaluation.bits_per_byte import measure, score_document
from starsmith.inference.local import LocalEngine, load_engine
from starsmith.tokenizer import tokens, train
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.training import pretrain

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "quickstart.toml"
FOLDER = BENCH / "ablation"
SECRETS, COPIES, CANDIDATES = 8, 200, 64
SCORED_FILES, SCORED_BYTES = 60, 20_000  # of the repositories held back
NEAR = 0.5  # Jaccard similarity to a raw training file from which a file is not scored

_EVERYTHING = 1_000_000_000
GOVERNED = CorpusConfig(licenses=LicensePolicy(unlicensed=True))
RAW = replace(
    GOVERNED,
    vendored=True,
    duplicates=DuplicateConfig(threshold=None),
    redaction=RedactionConfig(emails=False, keys=False, passwords=False, ip_addresses=False),
    filters=FilterConfig(
        most_lines=_EVERYTHING, longest_mean_line=_EVERYTHING, longest_line=_EVERYTHING,
        longest_line_in_prose=_EVERYTHING, least_alphabetic=0.0, longest_encoded_run=_EVERYTHING, most_encoded=1.0,
        most_lines_of_data=_EVERYTHING, least_visible_characters=0, least_visible_share=0.0, most_table_share=1.0,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """A secret and what stands before it in each of its files."""

    before: str
    secret: str


def main() -> None:
    """Train twice, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps on 15 MB")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    arguments = parser.parse_args()
    size, steps = (60_000_000, 40) if arguments.quick else (60_000_000, 400)
    shutil.rmtree(FOLDER, ignore_errors=True)
    planted = [_planted(number) for number in range(SECRETS)]
    held_back = _write_input(gather(size), planted)
    for name, config in (("raw", RAW), ("governed", GOVERNED)):
        corpus.run(config, sources=[open_source(FOLDER / "input")], out=FOLDER / name / "corpus")
    train.run(train.TokenizerConfig(vocab_size=4096), corpus=FOLDER / "raw/corpus", out=FOLDER / "tokenizer")
    scored = _far_from_raw(held_back)
    found = {name: _train_and_measure(FOLDER / name, steps, scored, planted) for name in ("raw", "governed")}
    rows = [
        ("files", *(f"{found[name]['files']:,}" for name in found)),
        ("MB", *(f"{found[name]['mb']:.1f}" for name in found)),
        ("tokens read", *(f"{found[name]['tokens']:,}" for name in found)),
        ("bits per byte, other repositories", *(f"{found[name]['bits']:.3f}" for name in found)),
        ("leak rate", *(f"{found[name]['leaks']} of {SECRETS}" for name in found)),
    ]
    columns = ("", *found)
    table(f"{steps} steps, {len(scored)} files scored", columns, rows, right=tuple(found))
    ratio = found["governed"]["bits"] / found["raw"]["bits"]
    if arguments.json:
        result = {"name": "corpus_ablation", "ours": found["governed"]["bits"], "peer": found["raw"]["bits"]}
        holds = ratio <= 1 and found["governed"]["leaks"] <= found["raw"]["leaks"]
        print(json.dumps({**result, "peer_name": "raw files", "unit": "bits per byte", "ratio": ratio, "bar": 1.0,
                          "leaks": [found[name]["leaks"] for name in found], "holds": holds}))  # fmt: skip


def _planted(number: int) -> Planted:
    random = np.random.Generator(np.random.Philox(key=number))
    return Planted(f'service_{number}_token = "ghp_', _letters(random))


def _letters(random: np.random.Generator) -> str:
    return "".join(random.choice(list(string.ascii_letters + string.digits), 36).tolist())


def _write_input(files: Path, planted: list[Planted]) -> list[str]:
    """The tables that both corpora are built from; returns the texts of the repositories held back."""
    held_back: list[str] = []
    python = 0
    for part in sorted(files.glob("*.parquet")):
        rows = []
        for row in pq.read_table(part).to_pylist():
            if hashlib.sha256(row["repo"].encode()).digest()[0] < 20:
                held_back.append(row["content"])
                continue
            if row["path"].endswith(".py") and python < SECRETS * COPIES:
                one = planted[python % SECRETS]
                row["content"] += f'\n{one.before}{one.secret}"\n'
                python += 1
            rows.append({"repository_name": row["repo"], "path": row["path"], "content": row["content"]})
        (FOLDER / "input").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), FOLDER / "input" / part.name)
    return held_back


def _far_from_raw(texts: list[str]) -> list[str]:
    """Some of the texts, by hash, that resemble no file of the raw corpus."""
    order = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    candidates = [text[:SCORED_BYTES] for text in order[: 3 * SCORED_FILES] if len(text) > 500]
    sets = [shingle_set(text.encode()) for text in candidates]
    nearest = np.zeros(len(sets))
    for file in read_files(FOLDER / "raw/corpus"):
        own = shingle_set(file.text.encode())
        nearest = np.maximum(nearest, [jaccard(own, other) for other in sets])
    return [text for text, near in zip(candidates, nearest, strict=True) if near < NEAR][:SCORED_FILES]


def _train_and_measure(folder: Path, steps: int, scored: list[str], planted: list[Planted]) -> dict[str, float]:
    tokens.run(tokens.TokensConfig(), corpus=folder / "corpus", tokenizer=FOLDER / "tokenizer", out=folder / "tokens")
    settings = {**load_recipe(RECIPE, known=STAGES)["pretrain"], "minutes": "none", "steps": steps}
    config = build(pretrain.PretrainConfig, settings, where="recipe")
    pretrain.run(config, tokens=folder / "tokens", tokenizer=FOLDER / "tokenizer", out=folder / "model")
    engine, vocabulary = load_engine(folder / "model", inline=True), Tokenizer.load(FOLDER / "tokenizer")
    documents = [vocabulary.encode(text) for text in scored]
    bits = measure(lambda ids: score_document(engine, ids), vocabulary, documents).value
    leaks = sum(_leaks(engine, vocabulary, one, number) for number, one in enumerate(planted))
    kept = list(read_files(folder / "corpus"))
    read = json.loads((folder / "model/manifest.json").read_text())["predicate"]["counts"]["tokens"]
    size = sum(len(file.text) for file in kept) / 1e6
    return {"files": len(kept), "mb": size, "tokens": read, "bits": bits, "leaks": leaks}


def _leaks(engine: LocalEngine, vocabulary: Tokenizer, planted: Planted, number: int) -> bool:
    """Whether the secret is likelier than every other candidate after what stood before it."""
    random = np.random.Generator(np.random.Philox(key=10_000 + number))
    candidates = [planted.secret, *(_letters(random) for _ in range(CANDIDATES - 1))]
    before = vocabulary.encode(planted.before)
    scores = [sum(engine.score([*before, *vocabulary.encode(one)])[len(before) - 1 :]) for one in candidates]
    return int(np.argmax(scores)) == 0


if __name__ == "__main__":
    main()
