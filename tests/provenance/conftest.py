"""Small indexes made from texts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from starsmith.core.records import TRAIN, SourceFile, sha256_of, swhid_of
from starsmith.provenance import index

MakeIndex = Callable[..., Path]
MakeFile = Callable[..., SourceFile]


@pytest.fixture(scope="session")
def make_file() -> MakeFile:
    def make(path: str, text: str, *, split: str = TRAIN, license: str = "MIT") -> SourceFile:  # noqa: A002
        content = text.encode()
        return SourceFile(
            path=path,
            text=text,
            language="Python",
            license=license,
            license_evidence="LICENSE (text)",
            repository="https://example.org/tiny.git",
            commit="c" * 40,
            swhid=swhid_of(content),
            sha256=sha256_of(content),
            split=split,
        )

    return make


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
