"""The fill-in-the-middle format: the one place that knows it, for training and for serving.

A text is cut into prefix P, middle M and suffix S, and the middle is moved to the end, where a left-to-right model
can write it (Bavarian et al. 2022, arXiv 2207.14255). StarCoder2 has two orders, half the training data each:

PSM  <fim_prefix> P <fim_suffix> S <fim_middle> M <|endoftext|>
SPM  <fim_prefix> <fim_suffix> S <fim_middle> P M <|endoftext|>      ("variant 2" of the paper's appendix)

Control tokens are put in by id, never through text, and every middle is followed by its end marker: without it a
model does not learn to stop.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from starsmith.tokenizer.bpe import END_OF_TEXT, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, SPECIAL_TOKENS, Tokenizer

Layout = Literal["psm", "spm"]

MARKERS = 4  # control tokens that one infilling example adds, the end marker included
SEAM_TOKENS = 6  # re-encoded on either side of a cut
LONGEST_CHARACTER = 4  # bytes of UTF-8, hence at most so many tokens
STOP_TOKENS = frozenset(range(len(SPECIAL_TOKENS)))  # a completion ends at any control token


@dataclass(frozen=True)
class Cut:
    """A document as three lists of token ids whose bytes, joined, are the document."""

    prefix: list[int]
    middle: list[int]
    suffix: list[int]


def prompt(prefix: Sequence[int], suffix: Sequence[int], layout: Layout) -> list[int]:
    """The ids after which the model writes the middle."""
    if layout == "spm":
        return [FIM_PREFIX, FIM_SUFFIX, *suffix, FIM_MIDDLE, *prefix]
    return [FIM_PREFIX, *prefix, FIM_SUFFIX, *suffix, FIM_MIDDLE]


def example(cut: Cut, layout: Layout) -> list[int]:
    """One training document: the prompt, the middle and its end marker."""
    return [*prompt(cut.prefix, cut.suffix, layout), *cut.middle, END_OF_TEXT]


def infill_prompt(
    tokenizer: Tokenizer, prefix: str, suffix: str, *, budget_tokens: int, layout: Layout = "psm"
) -> list[int]:
    """A serving prompt of at most `budget_tokens` ids around the cursor.

    What does not fit is left out at the outer ends: the start of the prefix and the end of the suffix, which keeps
    up to a quarter of the room (all that the prefix does not use, if that is more).
    """
    room = max(budget_tokens - (MARKERS - 1), 0)
    before, after = tokenizer.encode(prefix), tokenizer.encode(suffix)
    suffix_room = min(len(after), max(room // 4, room - len(before)))
    prefix_room = room - suffix_room
    return prompt(before[max(len(before) - prefix_room, 0) :], after[:suffix_room], layout)


def cut_at_characters(tokenizer: Tokenizer, ids: Sequence[int], random: np.random.Generator) -> Cut:
    """Cut a tokenized document at two uniformly chosen places that are character, not token, borders.

    An editor's cursor stands inside tokens as often as between them, so training has to cut there too. Only the
    tokens around each cut are decoded and encoded again; the rest of the document keeps its ids.
    """
    first, second = sorted(random.integers(0, len(ids) + 1, 2).tolist())
    shares: list[float] = random.random(2).tolist()
    if second - first <= 2 * SEAM_TOKENS + 2 * LONGEST_CHARACTER:
        low, high = _stretch(tokenizer, ids, first, second)
        prefix_end, middle, suffix_start = _recode(tokenizer, ids, (low, first, second, high), shares)
        return Cut([*ids[:low], *prefix_end], middle, [*suffix_start, *ids[high:]])
    low, high = _stretch(tokenizer, ids, first, first)
    prefix_end, middle_start = _recode(tokenizer, ids, (low, first, high), shares[:1])
    last_low, last_high = _stretch(tokenizer, ids, second, second)
    middle_end, suffix_start = _recode(tokenizer, ids, (last_low, second, last_high), shares[1:])
    middle = [*middle_start, *ids[high:last_low], *middle_end]
    return Cut([*ids[:low], *prefix_end], middle, [*suffix_start, *ids[last_high:]])


def _stretch(tokenizer: Tokenizer, ids: Sequence[int], first: int, last: int) -> tuple[int, int]:
    """The tokens from `first` to `last` with SEAM_TOKENS on either side, and more where that is inside a character."""
    low, high = max(first - SEAM_TOKENS, 0), min(last + SEAM_TOKENS, len(ids))
    while low > 0 and _continues(tokenizer.decode_bytes(ids[low : low + 1])):
        low -= 1
    while high < len(ids) and _continues(tokenizer.decode_bytes(ids[high : high + 1])):
        high += 1
    return low, high


def _recode(
    tokenizer: Tokenizer, ids: Sequence[int], borders: Sequence[int], shares: Sequence[float]
) -> list[list[int]]:
    """Cut ids[borders[0]:borders[-1]] inside the token at each inner border and encode the parts anew.

    shares  for each inner border, the share of that token's bytes (below 1) that goes to the part before it
    """
    pieces = [list(ids[start:end]) for start, end in itertools.pairwise(borders)]
    if any(token_id in STOP_TOKENS for piece in pieces for token_id in piece):
        return pieces  # a control token has no bytes: it would be lost
    text = tokenizer.decode_bytes(ids[borders[0] : borders[-1]])
    cuts = [0]
    for border, share in zip(borders[1:-1], shares, strict=True):
        cut = len(tokenizer.decode_bytes(ids[borders[0] : border]))
        cut += int(share * len(tokenizer.decode_bytes(ids[border : min(border + 1, borders[-1])])))
        while cut > cuts[-1] and _continues(text[cut : cut + 1]):
            cut -= 1
        cuts.append(max(cut, cuts[-1]))
    try:
        return [
            tokenizer.encode(text[start:end].decode("utf-8")) for start, end in itertools.pairwise([*cuts, len(text)])
        ]
    except UnicodeDecodeError:  # the document itself begins or ends inside a character
        return pieces


def _continues(content: bytes) -> bool:
    """True when the first byte does not begin a UTF-8 character."""
    return bool(content) and content[0] & 0xC0 == 0x80
