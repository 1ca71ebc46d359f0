"""Small indexes made from texts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from starsmith.core.records import SourceFile
from starsmith.provenance import index
from worlds import source_file

MakeIndex = Callable[..., Path]
MakeFile = Callable[..., SourceFile]


@pytest.fixture(scope="session")
def make_file() -> MakeFile:
    """`worlds.source_file`, for tests that take it as a fixture."""
    return source_file


@pytest.fixture(scope="session")
def make_index(
    tmp_path_factory: pytest.TempPathFactory, make_corpus: Callable[..., Path], make_file: MakeFile
) -> MakeIndex:
    """A function that turns texts, files 0.py, 1.py, ..., into an index; keywords are settings."""

    def make(texts: Sequence[str], **settings: int) -> Path:
        directory = tmp_path_factory.mktemp("world")
        files = [make_file(f"{number}.py", text) for number, text in enumerate(texts)]
        make_corpus(directory / "corpus", files)
        index.run(index.IndexConfig(**settings), corpus=directory / "corpus", out=directory / "index")
        return directory / "index"

    return make
