"""Training a vocabulary."""

from pathlib import Path

import pytest

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError
from starsmith.tokenizer import train
from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer


def test_control_tokens_stand_at_starcoder2s_ids(tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)

    assert [tokenizer.encode_prompt(token) for token in SPECIAL_TOKENS] == [[token_id] for token_id in range(38)]


def test_every_byte_has_a_token(tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    by_bytes = {tokenizer.decode_bytes([token_id]) for token_id in range(38, tokenizer.vocab_size)}

    assert all(bytes([byte]) in by_bytes for byte in range(256))


def test_every_digit_is_a_token_of_its_own(tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)

    assert len(tokenizer.encode("20252026")) == 8


def test_the_same_corpus_gives_the_same_vocabulary(corpus: Path, tokenizer_directory: Path, tmp_path: Path) -> None:
    train.run(train.TokenizerConfig(vocab_size=400), corpus=corpus, out=tmp_path / "again")

    assert artifact.read(tmp_path / "again").id == artifact.read(tokenizer_directory).id


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size=100"):
        train.TokenizerConfig(vocab_size=100)


def test_a_vocabulary_without_the_control_tokens_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    Backend(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))

    with pytest.raises(ArtifactError, match="'a' at id 0"):
        Tokenizer.load(tmp_path)


def test_a_damaged_vocabulary_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model"')

    with pytest.raises(ArtifactError, match=r"tokenizer\.json is not a tokenizer file"):
        Tokenizer.load(tmp_path)
