"""The index stage and the files it writes."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError, InputError
from starsmith.core.hashing import code_tokens, shingles
from starsmith.core.records import HELD_OUT, read_files
from starsmith.provenance import index
from starsmith.provenance.attribution import Attributor
from starsmith.provenance.fingerprints import ARRAYS, FingerprintTable, Grams

CONFIG = index.IndexConfig(ngram_tokens=6, window=4)
FILES = tuple(f"{name}.bin" for name in ARRAYS)


@pytest.fixture(scope="module")
def index_directory(corpus: Path) -> Path:
    out = corpus.parent / "index_of_six"
    index.run(CONFIG, corpus=corpus, out=out)
    return out


@pytest.fixture(scope="module")
def full_directory(corpus: Path) -> Path:
    """An index in which no array is empty."""
    out = corpus.parent / "index_with_common"
    index.run(index.IndexConfig(ngram_tokens=6, window=4, max_places=1), corpus=corpus, out=out)
    assert all((out / name).stat().st_size > 64 for name in FILES)
    return out


def test_training_files_are_indexed_and_held_out_files_are_not(corpus: Path, index_directory: Path) -> None:
    table = FingerprintTable(index_directory)

    training = list(read_files(corpus, split="train"))
    assert bytes(table.text) == "".join(file.text for file in training).encode()
    assert [row["swhid"] for row in table.documents.to_pylist()] == [file.swhid for file in training]
    assert not {file.path for file in read_files(corpus, split=HELD_OUT)} & set(table.documents["path"].to_pylist())


def test_the_account_adds_up(corpus: Path, index_directory: Path) -> None:
    manifest = artifact.read(index_directory, kind="index")
    table = FingerprintTable(index_directory)

    assert manifest.counts == {
        "documents": len(table.documents),
        "bytes": len(table.text),
        "fingerprints": len(table.remainders),
        "common": len(table.common),
    }
    assert [parent.role for parent in manifest.parents] == ["corpus"]
    assert manifest.parents[0].id == artifact.read(corpus).id


def stored(table: FingerprintTable) -> Iterator[tuple[int, int, int]]:
    """(prefix and remainder, their bits, place) of every entry."""
    bits = (len(table.directory) - 1).bit_length() - 1
    places = table.places().tolist()
    for bucket in range(len(table.directory) - 1):
        for entry in range(int(table.directory[bucket]), int(table.directory[bucket + 1])):
            yield (bucket << 32) | int(table.remainders[entry]), bits + 32, places[entry]


def test_entries_ascend_and_each_is_the_hash_of_the_text_at_its_place(index_directory: Path) -> None:
    table = FingerprintTable(index_directory)
    entries = list(stored(table))

    assert entries == sorted(entries)
    for fingerprint, bits, place in entries[::50]:
        _, end = table.bounds(table.document_at(place))
        assert int(shingles(code_tokens(table.text[place:end].tobytes()).hashes, 6)[0]) >> (64 - bits) == fingerprint


def test_every_stretch_of_the_guaranteed_length_holds_a_stored_fingerprint(index_directory: Path) -> None:
    table = FingerprintTable(index_directory)
    places = set(table.places().tolist())

    for document in range(len(table.documents)):
        start, end = table.bounds(document)
        starts = (code_tokens(table.text[start:end].tobytes()).starts + start).tolist()
        for first in range(len(starts) - table.grams.guarantee + 1):
            assert places & set(starts[first : first + table.grams.window])


def test_the_same_corpus_gives_the_same_index(corpus: Path, index_directory: Path, tmp_path: Path) -> None:
    index.run(CONFIG, corpus=corpus, out=tmp_path / "again")

    assert artifact.read(tmp_path / "again").id == artifact.read(index_directory).id


def test_a_corpus_without_training_files_is_refused_and_leaves_nothing(
    tmp_path: Path, make_corpus: Callable[..., Path], make_file: Callable[..., object]
) -> None:
    corpus = make_corpus(tmp_path / "corpus", [make_file("a.py", "x = 1\n", split=HELD_OUT)])

    with pytest.raises(InputError, match="has no training file"):
        index.run(CONFIG, corpus=corpus, out=tmp_path / "index")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


def test_documents_too_short_for_a_fingerprint_are_stored_without_one(make_index: Callable[..., Path]) -> None:
    table = FingerprintTable(make_index(["", "x = 1\n", ""], ngram_tokens=6, window=4))

    assert len(table.remainders) == 0
    assert len(table.documents) == 3
    assert bytes(table.text) == b"x = 1\n"


def test_settings_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="window=0"):
        index.IndexConfig(window=0)


def test_the_guarantee_is_window_plus_k_minus_one() -> None:
    assert index.IndexConfig().grams.guarantee == 40
    assert Grams(k=6, window=4).guarantee == 9


@pytest.mark.parametrize("name", [*FILES, "documents.parquet", "manifest.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_changed_byte_is_found_at_open_and_the_file_is_named(
    name: str, share: float, full_directory: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(full_directory, tmp_path / "index"))
    content = bytearray((copy / name).read_bytes())
    content[int(share * len(content))] ^= 1
    (copy / name).write_bytes(content)

    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        Attributor.open(copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 10, 63, 64, -1])
def test_a_truncated_array_is_named_even_without_its_digest(
    name: str, kept: int, full_directory: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(full_directory, tmp_path / "index"))
    (copy / name).write_bytes((copy / name).read_bytes()[:kept])

    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        FingerprintTable(copy)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"X", "does not begin with the header"),
        (8, b"X", "header that is not one of"),
        (24, b"\1", "format version 1"),
        (28, b"\0", "header that is not one of"),  # k
        (28, b"\7", "belongs to another index"),
        (36, b"\3", "header that is not one of"),  # bytes of an item
        (40, b"\0", "its header says"),  # items
    ],
)
def test_a_header_of_something_else_is_refused(
    offset: int, value: bytes, message: str, index_directory: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(index_directory, tmp_path / "index"))
    content = bytearray((copy / "positions.bin").read_bytes())
    content[offset : offset + 1] = value
    (copy / "positions.bin").write_bytes(content)

    with pytest.raises(ArtifactError, match=rf"positions\.bin.*{message}"):
        FingerprintTable(copy)


def test_a_corpus_is_no_index(corpus: Path) -> None:
    with pytest.raises(ArtifactError, match="is of kind corpus, wanted: index"):
        Attributor.open(corpus)


def reseal(directory: Path, array: str, change: Callable[[bytearray], None]) -> None:
    content = bytearray((directory / f"{array}.bin").read_bytes())
    change(content)
    (directory / f"{array}.bin").write_bytes(content)


def test_a_directory_that_does_not_ascend_is_refused(full_directory: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(full_directory, tmp_path / "index"))
    reseal(copy, "directory", lambda content: content.__setitem__(slice(64 + 400, 64 + 404), b"\xff\xff\xff\x7f"))

    with pytest.raises(ArtifactError, match=r"directory\.bin"):
        FingerprintTable(copy)


def test_places_beyond_the_text_are_passed_over(corpus: Path, full_directory: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(full_directory, tmp_path / "index"))
    reseal(copy, "positions", lambda content: content.__setitem__(slice(64, None), b"\xff" * (len(content) - 64)))
    text = next(iter(read_files(corpus, split="train"))).text

    assert Attributor(FingerprintTable(copy), max_places=1).attribute(text) == []
    assert Attributor(FingerprintTable(full_directory), max_places=1).attribute(text) != []
