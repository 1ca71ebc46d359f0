"""Tiny worlds that several test folders build on."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from starsmith.core import artifact
from starsmith.core.records import HELD_OUT, SourceFile, write_files
from starsmith.tokenizer.train import TokenizerConfig
from worlds import MakeCorpus, function_text, source_file


@pytest.fixture(scope="session")
def make_corpus() -> MakeCorpus:
    """A function that writes a corpus artefact from (path, text, split) rows."""

    def make(out: Path, files: Sequence[SourceFile]) -> Path:
        with artifact.create(out, kind="corpus", config=TokenizerConfig(), rooms=("core",)) as draft:
            write_files(files, draft.path / "shards")
            draft.count("kept", len(files))
            draft.count("kept_bytes", sum(len(file.text.encode()) for file in files))
            draft.count("held_out", sum(file.split == HELD_OUT for file in files))
        return out

    return make


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, make_corpus: MakeCorpus) -> Path:
    """Forty training files and four held out."""
    files = [source_file(f"pkg/module_{seed}.py", function_text(seed)) for seed in range(40)]
    files += [source_file(f"pkg/held_{seed}.py", function_text(seed), split="held_out") for seed in range(40, 44)]
    return make_corpus(tmp_path_factory.mktemp("world") / "corpus", files)


@pytest.fixture(scope="session")
def tokenizer_directory(corpus: Path) -> Path:
    """A vocabulary of 400 entries trained on `corpus`."""
    from starsmith.tokenizer import train

    out = corpus.parent / "tokenizer"
    train.run(TokenizerConfig(vocab_size=400), corpus=corpus, out=out)
    return out


@pytest.fixture(scope="session")
def tokens_directory(corpus: Path, tokenizer_directory: Path) -> Path:
    """The token shards of `corpus`."""
    from starsmith.tokenizer import tokens

    out = corpus.parent / "tokens"
    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tokenizer_directory, out=out)
    return out
