"""Tiny worlds that several test folders build on."""

import gc
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from starsmith.core import artifact
from starsmith.core.records import HELD_OUT, SourceFile, write_files
from starsmith.tokenizer.train import TokenizerConfig
from worlds import Commit, Files, MakeCorpus, Write, function_text, source_file

# The same examples on every run, and no failure because a busy machine took long over one.
settings.register_profile("starsmith", deadline=None, derandomize=True)
settings.load_profile("starsmith")

# What is imported stays: looking through it for garbage took a third of the time until the first test.
gc.disable()

WHOLLY_SLOW = "\npytestmark = pytest.mark.slow\n"


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among what was imported, now or at the end."""
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a module of slow tests unread where only quick ones are asked for: its imports alone take seconds."""
    if config.getoption("markexpr") != "not slow" or collection_path.suffix != ".py":
        return None
    return WHOLLY_SLOW in collection_path.read_text(encoding="utf-8") or None


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


@pytest.fixture(scope="session")
def write() -> Write:
    """A function that writes files into a folder and returns the folder."""

    def write_files(folder: Path, files: Files) -> Path:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return write_files


@pytest.fixture(scope="session")
def commit(write: Write) -> Commit:
    """A function that commits files into the (new) git repository at a path and returns the commit's id."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(folder: Path, *arguments: str) -> str:
        settings = ("user.name=Somebody", "user.email=somebody@example.org", "init.defaultBranch=main")
        command = ["git", "-C", str(folder), *(part for setting in settings for part in ("-c", setting)), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def commit_files(folder: Path, files: Files) -> str:
        write(folder, files)
        if not (folder / ".git").exists():
            git(folder, "init", "--quiet")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", "work")
        return git(folder, "rev-parse", "HEAD")

    return commit_files
