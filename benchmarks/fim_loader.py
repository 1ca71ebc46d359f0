"""The data path from token shards to packed rows, in tokens a second of one core, against BigCode's way of infilling.

Ours: everything that stands between the shards and the model. Read, cut at characters, lines and syntax nodes, encode
the seams anew, put together, pack: `training.data.Rows` as `starsmith pretrain` reads it.

BigCode's: the transform of its public training code (Megatron-LM fork, gpt_dataset.py), written anew here: the window
is turned back into text, the text is cut at two characters, and the three parts are encoded again. Timed alone, on
half of the documents as its rate of 0.5 has it, without reading and packing, which is in its favour.

The same documents, context and rate for both: source files of the running Python's library, cut at line ends into
documents of about a thousand tokens. CPU time of all threads counts. Vocabularies: one of 4,096 entries trained here,
and StarCoder2's 49,152 where its tokenizer.json is given or lies in ../shared.
"""

import argparse
import json
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from real_files import ROOT

from starsmith.core import artifact
from starsmith.core.console import note, table
from starsmith.core.records import SourceFile, sha256_of, swhid_of, write_files
from starsmith.tokenizer import cuts, fim, tokens, train
from starsmith.tokenizer.bpe import FILE_NAME, Tokenizer
from starsmith.training.data import DataConfig, Rows

REAL = ROOT.parent / "shared" / "data" / "starcoder2-tokenizer" / FILE_NAME
BAR = 1e6  # tokens a second of one core
CONTEXT_TOKENS, ROW_TOKENS = 4096, 16_384
DOCUMENT_CHARACTERS = 3_600  # about a thousand tokens
MIXES = {
    "default mix": dict(cuts.DEFAULT_CUTS),
    "characters": {cuts.CHARACTER: 1.0},
    "lines": {cuts.LINE: 1.0},
    "nodes": {cuts.NODE: 1.0},
}


@dataclass(frozen=True)
class Outcome:
    """What was measured for one vocabulary."""

    vocabulary: int
    name: str
    rate: float  # tokens a CPU-second
    tokens: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 MB of files, not 10, and one round, not three")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--tokenizer", type=Path, default=REAL, help="StarCoder2's tokenizer.json")
    arguments = parser.parse_args()
    megabytes, rounds = (2, 1) if arguments.quick else (10, 3)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        corpus = make_corpus(place / "corpus", megabytes)
        vocabularies = [make_vocabulary(place / "small", corpus)]
        if arguments.tokenizer.is_file():
            vocabularies.append(copied_vocabulary(place / "real", arguments.tokenizer))
        else:
            note(f"SKIPPED: no StarCoder2 vocabulary at {arguments.tokenizer}")
        outcomes = [outcome for vocabulary in vocabularies for outcome in measure(place, corpus, vocabulary, rounds)]
    show(outcomes)
    if arguments.json:
        print(json.dumps(results(outcomes)))


def documents(megabytes: int) -> Iterator[SourceFile]:
    """Files of the library as documents of about a thousand tokens."""
    left = megabytes * 1_000_000
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in file.parts or left <= 0:
            continue
        lines = file.read_bytes().decode("utf-8", "replace").splitlines(keepends=True)
        text, number = "", 0
        for line in [*lines, ""]:
            text += line
            if text and (len(text) >= DOCUMENT_CHARACTERS or not line):
                yield source_file(f"{number}/{file.name}", text)
                left -= len(text)
                text, number = "", number + 1


def source_file(path: str, text: str) -> SourceFile:
    """A record with what the stages ask for."""
    content = text.encode()
    return SourceFile(
        path=path,
        text=text,
        language="Python",
        license="PSF-2.0",
        license_evidence="the running Python's library",
        repository="python",
        commit="",
        swhid=swhid_of(content),
        sha256=sha256_of(content),
    )


def make_corpus(out: Path, megabytes: int) -> Path:
    """A corpus artefact of the documents."""
    with artifact.create(out, kind="corpus", config=train.TokenizerConfig(), rooms=("core",)) as draft:
        files = list(documents(megabytes))
        write_files(files, draft.path / "shards")
        draft.count("kept", len(files))
    return out


def make_vocabulary(out: Path, corpus: Path) -> Path:
    """4,096 entries trained on the corpus."""
    train.run(train.TokenizerConfig(vocab_size=4096), corpus=corpus, out=out)
    return out


def copied_vocabulary(out: Path, file: Path) -> Path:
    """A tokenizer artefact of a vocabulary file."""
    with artifact.create(out, kind="tokenizer", config=train.TokenizerConfig(), rooms=("core",)) as draft:
        (draft.path / FILE_NAME).write_bytes(file.read_bytes())
    return out


def measure(place: Path, corpus: Path, vocabulary: Path, rounds: int) -> list[Outcome]:
    """Ours with each mix of cuts, and BigCode's, in turn."""
    tokenizer = Tokenizer.load(vocabulary)
    out = place / f"tokens-{vocabulary.name}"
    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=vocabulary, out=out)
    store = tokens.TokenStore(out, vocab_size=tokenizer.vocab_size)
    ways: dict[str, Callable[[], int]] = {name: ours(store, tokenizer, mix) for name, mix in MIXES.items()}
    ways["BigCode's"] = lambda: bigcode(store, tokenizer)
    times: dict[str, list[float]] = {name: [] for name in ways}
    counted: dict[str, int] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            counted[name] = way()
            times[name].append(time.process_time() - started)
    sizes = list(counted.values())
    assert max(sizes) < 1.05 * min(sizes), f"not the same work: {counted}"
    return [
        Outcome(tokenizer.vocab_size, name, counted[name] / statistics.median(times[name]), counted[name])
        for name in ways
    ]


def ours(store: tokens.TokenStore, tokenizer: Tokenizer, mix: dict[str, float]) -> Callable[[], int]:
    """A function that reads an epoch; the plan is made anew each time, as it is part of the work."""
    config = DataConfig(context_tokens=CONTEXT_TOKENS, cuts=mix, repository_rate=0.0)
    Rows(store, tokenizer, config, seed=1, row_tokens=ROW_TOKENS)[0]  # compiles the kernels, loads the grammars

    def read() -> int:
        rows = Rows(store, tokenizer, config, seed=0, row_tokens=ROW_TOKENS)
        return sum(len(rows[number].ids) for number in range(rows.rows_in(0)))

    return read


def bigcode(store: tokens.TokenStore, tokenizer: Tokenizer) -> int:
    """Half of the documents: to text, cut at two characters, three parts to tokens; returns tokens of all documents."""
    random = np.random.RandomState(0)
    size = 0
    for number in range(len(store)):
        ids = store.ids(number)
        if random.binomial(1, 0.5):
            text = tokenizer.decode(ids)
            first, second = sorted(random.randint(0, len(text) + 1, 2))
            parts = [tokenizer.encode(part) for part in (text[:first], text[first:second], text[second:])]
            ids = fim.example(fim.Cut(*parts), "spm" if random.binomial(1, 0.5) else "psm").tolist()
        size += len(ids)
    return size


def show(outcomes: list[Outcome]) -> None:
    """One row a way."""
    peers = {outcome.vocabulary: outcome.rate for outcome in outcomes if outcome.name == "BigCode's"}
    rows = [
        (
            f"{outcome.vocabulary:,}",
            outcome.name,
            f"{outcome.tokens:,}",
            f"{outcome.rate / 1e6:.2f}",
            f"{outcome.rate / peers[outcome.vocabulary]:.1f}x",
        )
        for outcome in outcomes
    ]
    columns = ("vocabulary", "way", "tokens", "M tokens / CPU-s", "to BigCode's")
    table(f"Shards to rows, context {CONTEXT_TOKENS:,}", columns, rows, right=("vocabulary", *columns[2:]))


def results(outcomes: list[Outcome]) -> list[dict[str, object]]:
    """The default mix, for each vocabulary, against the bar and against BigCode's way."""
    found: list[dict[str, object]] = []
    for outcome in outcomes:
        if outcome.name != "default mix":
            continue
        peer = next(o.rate for o in outcomes if o.vocabulary == outcome.vocabulary and o.name == "BigCode's")
        name, unit = f"fim_loader_{outcome.vocabulary}", "tokens per CPU-second"
        for other, peer_name in ((BAR, "bar"), (peer, "BigCode's way, transform alone")):
            found.append(
                {"name": name, "ours": outcome.rate, "peer": other, "peer_name": peer_name, "unit": unit,
                 "ratio": outcome.rate / other, "bar": 1.0, "holds": outcome.rate >= other}
            )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
