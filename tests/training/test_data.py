"""Documents become batches without losing a token or an end marker."""

import itertools
from collections import Counter
from pathlib import Path

import pytest

from starsmith.core.errors import ConfigError
from starsmith.tokenizer.bpe import (
    END_OF_TEXT,
    FIM_MIDDLE,
    FIM_PREFIX,
    FIM_SUFFIX,
    SPECIAL_TOKENS,
    Tokenizer,
)
from starsmith.tokenizer.tokens import TokenStore
from starsmith.training.data import IGNORED, Batch, DataConfig, batches, held_out_batch


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


@pytest.fixture(scope="session")
def store(tokens_directory: Path) -> TokenStore:
    return TokenStore(tokens_directory, vocab_size=400)


def settings(**changes: float) -> DataConfig:
    values = {"context_tokens": 64, "batch_tokens": 256, "fim_rate": 0.5, "spm_rate": 0.5, "seed": 1, **changes}
    return DataConfig(**values)  # type: ignore[arg-type]


def sequences(found: list[Batch]) -> list[list[int]]:
    split: list[list[int]] = []
    for batch in found:
        ends = list(itertools.accumulate(batch.lengths))
        split += [batch.ids[end - length : end].tolist() for end, length in zip(ends, batch.lengths, strict=True)]
    return split


def take(store: TokenStore, tokenizer: Tokenizer, config: DataConfig, count: int) -> list[Batch]:
    return list(itertools.islice(batches(store, tokenizer, config), count))


def test_an_epoch_without_infills_holds_every_token_once(store: TokenStore, tokenizer: Tokenizer) -> None:
    epoch_tokens = int(store.lengths.sum()) + len(store)
    found = take(store, tokenizer, settings(fim_rate=0), epoch_tokens // 256 - 1)

    counted = Counter(token for sequence in sequences(found) for token in sequence if token != END_OF_TEXT)

    everything = Counter(token for number in range(len(store)) for token in store.ids(number))
    assert not counted - everything


def test_every_middle_ends_with_its_end_marker(store: TokenStore, tokenizer: Tokenizer) -> None:
    found = sequences(take(store, tokenizer, settings(fim_rate=1), 200))

    assert len(found) > 500
    for sequence in found:
        assert sequence[0] == FIM_PREFIX
        assert sequence[-1] == END_OF_TEXT
        assert sequence.count(FIM_MIDDLE) == sequence.count(FIM_SUFFIX) == sequence.count(END_OF_TEXT) == 1
        assert len(sequence) <= 64


def test_half_of_the_infills_are_suffix_first(store: TokenStore, tokenizer: Tokenizer) -> None:
    found = sequences(take(store, tokenizer, settings(fim_rate=1), 300))

    suffix_first = sum(sequence[1] == FIM_SUFFIX for sequence in found) / len(found)

    # A psm infill with an empty prefix looks the same, so the share lies a little above one half.
    assert 0.45 < suffix_first < 0.6


def test_half_of_the_files_are_infills_and_a_file_is_one_or_the_other(store: TokenStore, tokenizer: Tokenizer) -> None:
    found = sequences(take(store, tokenizer, settings(), 600))

    share = sum(sequence[0] == FIM_PREFIX for sequence in found) / len(found)

    assert 0.4 < share < 0.6


def test_an_infill_is_a_stretch_of_one_file(store: TokenStore, tokenizer: Tokenizer) -> None:
    texts = [tokenizer.decode_bytes(store.ids(number)) for number in range(len(store))]

    for sequence in sequences(take(store, tokenizer, settings(fim_rate=1, spm_rate=0), 40)):
        suffix, middle = sequence.index(FIM_SUFFIX), sequence.index(FIM_MIDDLE)
        whole = sequence[1:suffix] + sequence[middle + 1 : -1] + sequence[suffix + 1 : middle]
        assert any(tokenizer.decode_bytes(whole) in text for text in texts)


def test_the_target_is_the_next_token_of_the_same_sequence(store: TokenStore, tokenizer: Tokenizer) -> None:
    batch = take(store, tokenizer, settings(), 1)[0]

    ends = {(end - 1) for end in itertools.accumulate(batch.lengths)}
    for position, target in enumerate(batch.targets.tolist()):
        assert target == (IGNORED if position in ends else batch.ids[position + 1])


def test_batches_depend_on_the_seed_alone(store: TokenStore, tokenizer: Tokenizer) -> None:
    once, again = (take(store, tokenizer, settings(), 30) for _ in range(2))
    other = take(store, tokenizer, settings(seed=2), 30)

    assert [batch.ids.tolist() for batch in once] == [batch.ids.tolist() for batch in again]
    assert [batch.ids.tolist() for batch in once] != [batch.ids.tolist() for batch in other]


def test_control_tokens_in_a_file_stay_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("x = '<|endoftext|><fim_prefix>'")

    assert min(ids) >= len(SPECIAL_TOKENS)


def test_the_held_out_batch_knows_its_bytes(tokens_directory: Path) -> None:
    watch = TokenStore(tokens_directory, vocab_size=400, split="held_out")

    batch, size_bytes = held_out_batch(watch, context_tokens=10_000, max_tokens=100_000)

    expected = sum(size * (length - 1) / length for size, length in zip(watch.sizes_bytes, watch.lengths, strict=True))
    assert len(batch.lengths) == len(watch)
    assert size_bytes == pytest.approx(expected, abs=1)


def test_a_context_too_short_for_an_infill_is_refused() -> None:
    with pytest.raises(ConfigError, match="context_tokens=4"):
        settings(context_tokens=4)
