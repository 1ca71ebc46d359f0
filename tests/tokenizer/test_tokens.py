"""Token shards and their index back to files."""

from pathlib import Path

import numpy as np
import pytest

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError
from starsmith.core.records import HELD_OUT, TRAIN, read_files
from starsmith.tokenizer import tokens
from starsmith.tokenizer.bpe import Tokenizer


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


def test_a_truncated_shard_is_named(tokens_directory: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(tokens_directory, tmp_path / "tokens"))
    shard = copy / "shards" / "00000.bin"
    shard.write_bytes(shard.read_bytes()[:-1])

    with pytest.raises(ArtifactError, match=r"00000\.bin has \d+ bytes"):
        tokens.TokenStore(copy, vocab_size=400, split=HELD_OUT)
