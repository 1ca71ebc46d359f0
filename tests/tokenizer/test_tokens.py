"""Token shards and their index back to files."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.records import HELD_OUT, TRAIN, read_files
from starsmith.tokenizer import tokens
from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from worlds import MakeCorpus, source_file


def test_every_token_range_decodes_to_its_file(corpus: Path, tokenizer_directory: Path, tokens_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    store = tokens.TokenStore(tokens_directory, vocab_size=tokenizer.vocab_size, split=TRAIN)

    texts = {
        row["swhid"]: tokenizer.decode(store.ids(number)) for number, row in enumerate(store.documents.to_pylist())
    }

    assert texts == {file.swhid: file.text for file in read_files(corpus, split=TRAIN)}


def test_documents_are_spread_over_shards_but_never_divided(
    corpus: Path, tokenizer_directory: Path, tokens_directory: Path, tmp_path: Path
) -> None:
    tokens.run(
        tokens.TokensConfig(shard_tokens=500), corpus=corpus, tokenizer=tokenizer_directory, out=tmp_path / "many"
    )

    one = tokens.TokenStore(tokens_directory, vocab_size=400)
    many = tokens.TokenStore(tmp_path / "many", vocab_size=400)
    assert len(list((tmp_path / "many" / "shards").glob("*.bin"))) > 3
    assert [many.ids(number) for number in range(len(many))] == [one.ids(number) for number in range(len(one))]


def test_the_account_adds_up(corpus: Path, tokens_directory: Path) -> None:
    counts = artifact.read(tokens_directory).counts

    assert counts["train_documents"] == 40
    assert counts["held_out_documents"] == 4
    assert counts["train_bytes"] == sum(len(file.text.encode()) for file in read_files(corpus, split=TRAIN))
    size = sum(file.stat().st_size for file in (tokens_directory / "shards").glob("*.bin"))
    assert size == 2 * (counts["train_tokens"] + counts["held_out_tokens"])


def test_a_vocabulary_above_65536_takes_four_bytes() -> None:
    assert tokens.token_dtype(2**16) == np.dtype("<u2")
    assert tokens.token_dtype(2**16 + 1) == np.dtype("<u4")


def copied(tokens_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens_directory, tmp_path / "copy"))


@pytest.mark.parametrize("size", [0, -1, -2])
def test_a_shard_of_another_size_is_named(tokens_directory: Path, tmp_path: Path, size: int) -> None:
    copy = copied(tokens_directory, tmp_path)
    shard = copy / "shards" / "00000.bin"
    shard.write_bytes(shard.read_bytes()[:size])

    with pytest.raises(ArtifactError, match=r"00000\.bin has [\d,]+ bytes, the index says") as caught:
        tokens.TokenStore(copy, vocab_size=400, split=HELD_OUT)

    assert "starsmith tokens" in caught.value.hint


def test_a_shard_that_is_gone_is_named(tokens_directory: Path, tmp_path: Path) -> None:
    copy = copied(tokens_directory, tmp_path)
    (copy / "shards" / "00000.bin").unlink()

    with pytest.raises(ArtifactError, match=r"00000\.bin, which the manifest lists, does not exist"):
        tokens.TokenStore(copy, vocab_size=400)


def test_a_changed_shard_of_the_same_size_is_found_by_the_check(tokens_directory: Path, tmp_path: Path) -> None:
    copy = copied(tokens_directory, tmp_path)
    shard = copy / "shards" / "00000.bin"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    store = tokens.TokenStore(copy, vocab_size=400)

    with pytest.raises(ArtifactError, match=r"00000\.bin was changed"):
        store.check()


def test_a_whole_artefact_passes_the_check(tokens_directory: Path) -> None:
    tokens.TokenStore(tokens_directory, vocab_size=400).check()


def test_tokens_of_a_larger_vocabulary_are_refused(tokens_directory: Path) -> None:
    store = tokens.TokenStore(tokens_directory, vocab_size=300)

    with pytest.raises(ArtifactError, match=r"00000\.bin has token \d+, the vocabulary ends at 299"):
        store.check()


def test_tokens_of_a_wider_type_are_refused(tokens_directory: Path) -> None:
    with pytest.raises(ArtifactError, match="tokens of 4 bytes"):
        tokens.TokenStore(tokens_directory, vocab_size=70_000)


def test_an_index_of_an_earlier_version_is_refused(tokens_directory: Path, tmp_path: Path) -> None:
    copy = copied(tokens_directory, tmp_path)
    index = copy / tokens.DOCUMENTS
    pq.write_table(pq.read_table(index).drop_columns(["structured"]), index)

    with pytest.raises(ArtifactError, match="has no column structured: an earlier version made it"):
        tokens.TokenStore(copy, vocab_size=400)


def test_a_corpus_without_text_is_refused(tmp_path: Path, make_corpus: MakeCorpus, tokenizer_directory: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", [source_file("empty.py", "")])

    with pytest.raises(InputError, match="has no text to encode"):
        tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tokenizer_directory, out=tmp_path / "tokens")

    assert not (tmp_path / "tokens").exists()


def test_the_index_knows_languages_paths_and_which_documents_are_files(
    tmp_path: Path, make_corpus: MakeCorpus, tokenizer_directory: Path
) -> None:
    files = [
        replace(source_file("a.py", "import b\nowner = '<EMAIL>'\n"), controls=(18,)),
        source_file("b.py", "x = 1\n"),
        replace(source_file("c.ipynb", "<jupyter_start>x\n"), controls=(0,), language="Jupyter Notebook"),
    ]
    corpus = make_corpus(tmp_path / "corpus", files)

    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tokenizer_directory, out=tmp_path / "tokens")

    vocabulary = Tokenizer.load(tokenizer_directory)
    rows = tokens.TokenStore(tmp_path / "tokens", vocab_size=400).documents.to_pylist()
    assert [row["language"] for row in rows] == ["Python", "Python", "Jupyter Notebook"]
    assert [row["structured"] for row in rows] == [False, False, True]
    assert [row["path_tokens"] for row in rows] == [len(vocabulary.encode(file.path + "\n")) for file in files]
    assert [row["import_rank"] for row in rows] == [1, 0, 2]


def test_only_the_control_tokens_of_the_corpus_get_their_ids(
    tmp_path: Path, make_corpus: MakeCorpus, tokenizer_directory: Path
) -> None:
    plain = source_file("plain.py", "end = '<|endoftext|>'  # and <EMAIL>, <fim_middle>, <file_sep>\n")
    marked = source_file("marked.py", "<jupyter_start><jupyter_code>owner = '<EMAIL>'  # not <EMAIL>\n")
    marked = replace(marked, controls=(0, 15, 38))
    corpus = make_corpus(tmp_path / "corpus", [plain, marked, replace(plain, path="held.py", split=HELD_OUT)])

    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tokenizer_directory, out=tmp_path / "tokens")

    vocabulary = Tokenizer.load(tokenizer_directory)
    store = tokens.TokenStore(tmp_path / "tokens", vocab_size=vocabulary.vocab_size)
    ids = {row["path"]: store.ids(number) for number, row in enumerate(store.documents.to_pylist())}
    controls = {
        path: [SPECIAL_TOKENS[number] for number in found if number < len(SPECIAL_TOKENS)]
        for path, found in ids.items()
    }
    assert controls == {"plain.py": [], "marked.py": ["<jupyter_start>", "<jupyter_code>", "<EMAIL>"]}
    assert vocabulary.decode(ids["plain.py"]) == plain.text
    assert vocabulary.decode(ids["marked.py"]) == "owner = ''  # not <EMAIL>\n"


def test_a_record_whose_control_tokens_do_not_stand_there_is_refused(
    tmp_path: Path, make_corpus: MakeCorpus, tokenizer_directory: Path
) -> None:
    file = replace(source_file("a.py", "owner = '<EMAIL>'\n"), controls=(8,))
    corpus = make_corpus(tmp_path / "corpus", [file])

    with pytest.raises(ArtifactError, match="at character 8, where its record says"):
        tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=tokenizer_directory, out=tmp_path / "tokens")

    assert not (tmp_path / "tokens").exists()
