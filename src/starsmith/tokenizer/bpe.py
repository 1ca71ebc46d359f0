"""Text to token ids and back, with StarCoder2's control tokens at ids 0-37 and no way for text to become one.

The vocabulary file is a Hugging Face `tokenizer.json`: byte-level BPE, every digit alone, the GPT-2 pre-tokenizer,
no normaliser, no BOS (BigCode's training script and llama.cpp's STARCODER pre-type agree on this).
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend
from tokenizers.pre_tokenizers import ByteLevel

from starsmith.core.errors import ArtifactError

# StarCoder2's special tokens; the position is the id.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<fim_prefix>",
    "<fim_middle>",
    "<fim_suffix>",
    "<fim_pad>",
    "<repo_name>",
    "<file_sep>",
    "<issue_start>",
    "<issue_comment>",
    "<issue_closed>",
    "<jupyter_start>",
    "<jupyter_text>",
    "<jupyter_code>",
    "<jupyter_output>",
    "<jupyter_script>",
    "<empty_output>",
    "<code_to_intermediate>",
    "<intermediate_to_code>",
    "<pr>",
    "<pr_status>",
    "<pr_is_merged>",
    "<pr_base>",
    "<pr_file>",
    "<pr_base_code>",
    "<pr_diff>",
    "<pr_diff_hunk>",
    "<pr_comment>",
    "<pr_event_id>",
    "<pr_review>",
    "<pr_review_state>",
    "<pr_review_comment>",
    "<pr_in_reply_to_review_id>",
    "<pr_in_reply_to_comment_id>",
    "<pr_diff_hunk_comment_line>",
    "<NAME>",
    "<EMAIL>",
    "<KEY>",
    "<PASSWORD>",
)
END_OF_TEXT, FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX, FIM_PAD, REPO_NAME, FILE_SEP = range(7)
FILE_NAME = "tokenizer.json"


class Tokenizer:
    """A loaded vocabulary. Encoding is for untrusted text: `<file_sep>` in a file is nine characters, not a command."""

    def __init__(self, backend: Backend) -> None:
        self._plain = backend
        self._plain.encode_special_tokens = True  # the library's name for: treat special tokens as ordinary text
        self._with_specials = Backend.from_str(backend.to_str())
        self.vocab_size: int = backend.get_vocab_size()

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read `tokenizer.json`, or the one in a directory, and check StarCoder2's special tokens."""
        file = path / FILE_NAME if path.is_dir() else path
        if not file.is_file():
            raise ArtifactError(f"{file} does not exist", hint="train one: starsmith tokenizer train CORPUS --out DIR")
        try:
            backend = Backend.from_file(str(file))
        except Exception as error:  # noqa: BLE001 the library raises bare Exception for a bad file
            raise ArtifactError(f"{file} is not a tokenizer file: {error}", hint="restore it, or train again") from None
        for token_id, token in enumerate(SPECIAL_TOKENS):
            if backend.id_to_token(token_id) != token:
                raise ArtifactError(
                    f"{file} has {backend.id_to_token(token_id)!r} at id {token_id}, not {token!r}",
                    hint="Starsmith needs StarCoder2's special tokens at ids 0-37",
                )
        return cls(backend)

    def encode(self, text: str) -> list[int]:
        """Ids of text as data: no id below 38 can come out."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts, on all cores."""
        return [encoding.ids for encoding in self._plain.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_marked(self, text: str, controls: Sequence[int]) -> list[int]:
        """`encode`, but the control tokens at the character offsets `controls` get their ids; no others do."""
        pieces, control_ids = split_at_controls(text, controls)
        ids = self.encode(pieces[0])
        for control_id, piece in zip(control_ids, pieces[1:], strict=True):
            ids += [control_id, *self.encode(piece)]
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a prompt that its author wrote with special tokens in it, as `<fim_prefix>` by many editors."""
        ids: list[int] = self._with_specials.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; control tokens vanish, bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes that ids stand for; control tokens stand for none."""
        return b"".join(map(self._token_bytes.__getitem__, ids))

    @cached_property
    def sizes_bytes(self) -> NDArray[np.int64]:
        """(vocab_size,) bytes that each id stands for; none for a control token."""
        return np.array([len(content) for content in self._token_bytes], np.int64)

    @cached_property
    def _token_bytes(self) -> list[bytes]:
        byte_of = _byte_of_character()
        special = len(SPECIAL_TOKENS)
        tokens = (self._plain.id_to_token(token_id) or "" for token_id in range(special, self.vocab_size))
        return [b""] * special + [bytes(byte_of[character] for character in token) for token in tokens]


def split_at_controls(text: str, controls: Sequence[int]) -> tuple[list[str], list[int]]:
    """The pieces of `text` around the control tokens at the character offsets `controls`, and those tokens' ids."""
    pieces, ids, done = [], [], 0
    for offset in controls:
        end = text.find(">", offset) + 1
        token = text[offset:end]
        if token not in SPECIAL_TOKENS:
            raise ArtifactError(
                f"a text has {token[:40]!r} at character {offset}, where its record says that a control token stands",
                hint="rebuild the corpus: starsmith corpus build",
            )
        pieces.append(text[done:offset])
        ids.append(SPECIAL_TOKENS.index(token))
        done = end
    return [*pieces, text[done:]], ids


def _byte_of_character() -> dict[str, int]:
    """The inverse of GPT-2's map from bytes to printable characters."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    shifted = [byte for byte in range(256) if byte not in printable]
    pairs = {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(shifted)}
    assert set(pairs) == set(ByteLevel.alphabet())
    return pairs
