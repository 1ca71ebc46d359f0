"""Stage: a corpus becomes a byte-level BPE vocabulary with StarCoder2's control tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from starsmith.core import artifact
from starsmith.core.console import Advance, progress
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import TRAIN, read_files
from starsmith.tokenizer.bpe import FILE_NAME, SPECIAL_TOKENS, split_at_controls

SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256  # every control token and every byte


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Byte-level BPE training."""

    vocab_size: int = 49_152  # control tokens and bytes included; StarCoder2's
    min_frequency: int = 2  # a pair seen less often is not merged

    def __post_init__(self) -> None:
        if self.vocab_size < SMALLEST_VOCABULARY:
            raise ConfigError(
                f"vocab_size={self.vocab_size}: the control tokens and the 256 bytes alone need {SMALLEST_VOCABULARY}",
                hint="the quickstart recipe uses 4096",
            )


def run(config: TokenizerConfig, *, corpus: Path, out: Path) -> None:
    """Train on the training files of `corpus` and write `tokenizer.json`."""
    training_files = artifact.read(corpus, kind="corpus").counts.get("kept", 0)
    with artifact.create(
        out, kind="tokenizer", config=config, rooms=("core", "tokenizer"), parents={"corpus": corpus}
    ) as draft:
        backend = _untrained()
        with progress("tokenizer: reading files", total=training_files, unit="files") as advance:
            backend.train_from_iterator(_texts(corpus, draft, advance), trainer=_trainer(config))
        if not draft.counts["files"]:
            raise InputError(f"{corpus} has no training file", hint="lower corpus.held_out, or add sources")
        draft.count("vocabulary", backend.get_vocab_size())
        backend.save(str(draft.path / FILE_NAME))


def _texts(corpus: Path, draft: artifact.Draft, advance: Advance) -> Iterator[str]:
    for file in read_files(corpus, split=TRAIN):
        draft.count("files")
        draft.count("characters", len(file.text))
        yield from split_at_controls(file.text, file.controls)[0] if file.controls else [file.text]
        advance()


def _untrained() -> Backend:
    backend = Backend(models.BPE())
    # Digits first, each alone; then GPT-2's pattern. No normaliser: code must come back byte for byte.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def _trainer(config: TokenizerConfig) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        # StarCoder2's own vocabulary was trained without this and has no token for 14 bytes, so it loses text.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
