"""The formats of infilling and of repository context: the one place that knows them, for training and for serving.

A text is cut into prefix P, middle M and suffix S, and the middle is moved to the end, where a left-to-right model
can write it (Bavarian et al. 2022, arXiv 2207.14255). StarCoder2 has two orders, half the training data each:

PSM  <fim_prefix> P <fim_suffix> S <fim_middle> M <|endoftext|>
SPM  <fim_prefix> <fim_suffix> S <fim_middle> P M <|endoftext|>      ("variant 2" of the paper's appendix)

A prompt may also be PSM whose middle has begun: P ends where the cursor's line has its first word, and what is typed
of the line (T) leads the middle. While a line is typed, only the end of such a prompt changes, and the line is one run
of tokens, not two:

anchored  <fim_prefix> P <fim_suffix> S <fim_middle> T M

The files of a repository are one document, with names or, as often, without (Lozhkov et al. 2024, arXiv 2402.19173):

     <repo_name> R <file_sep> path \\n code <file_sep> path \\n code ... <|endoftext|>
     <file_sep> code <file_sep> code ... <|endoftext|>

Within it a file may be an infill. Its path is then the beginning of P, and no cut ever falls into it; what ends the
middle is the <file_sep> of the next file, or the end of the text:

     ... <file_sep> <fim_prefix> path \\n P <fim_suffix> S <fim_middle> M <file_sep> ...

Control tokens are put in by id, never through text, and every middle is followed by its end marker: without it a
model does not learn to stop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from starsmith.tokenizer.bpe import (
    END_OF_TEXT,
    FILE_SEP,
    FIM_MIDDLE,
    FIM_PREFIX,
    FIM_SUFFIX,
    REPO_NAME,
    SPECIAL_TOKENS,
    Tokenizer,
)

Layout = Literal["psm", "spm"]  # of an example
PromptLayout = Literal["psm", "spm", "anchored"]
Ids = Sequence[int] | NDArray[Any]

MARKERS = 4  # control tokens that one infilling example adds, the end marker included
SEAM_TOKENS = 6  # re-encoded on either side of a cut
STOP_TOKENS = frozenset(range(len(SPECIAL_TOKENS)))  # a completion ends at any control token


@dataclass(frozen=True)
class Text:
    """A tokenized text with its bytes."""

    ids: NDArray[Any]  # (N,)
    content: bytes
    offsets: NDArray[np.int64]  # (N + 1,) byte at which each token begins, and the end

    @classmethod
    def of(cls, tokenizer: Tokenizer, ids: Ids) -> "Text":
        """Look up the bytes of `ids`."""
        ids = np.asarray(ids, np.int64)
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(tokenizer.sizes_bytes[ids], out=offsets[1:])
        return cls(ids, tokenizer.decode_bytes(ids.tolist()), offsets)


@dataclass(frozen=True)
class Cut:
    """A document as three runs of token ids whose bytes, joined, are the document."""

    prefix: Ids
    middle: Ids
    suffix: Ids


@dataclass(frozen=True)
class Around:
    """The tokens around a cursor. Of an anchored prompt the prefix has two runs, otherwise `typed` is empty."""

    prefix: Sequence[int]
    suffix: Sequence[int]
    typed: Sequence[int] = ()


@dataclass(frozen=True)
class Repository:
    """Where a file stands that is written in, and what else a model may want to know from there."""

    name: str | None  # None: neither it nor its files have names
    path: str  # of the file that is written in
    files: tuple[tuple[str, str], ...] = ()  # (path, text) of others, or of pieces of them, the most useful last


def prompt(
    prefix: Sequence[int], suffix: Sequence[int], layout: PromptLayout, *, typed: Sequence[int] = ()
) -> list[int]:
    """The ids after which the model writes the middle, or goes on with it behind what is `typed`."""
    if layout == "spm":
        return [FIM_PREFIX, FIM_SUFFIX, *suffix, FIM_MIDDLE, *prefix, *typed]
    return [FIM_PREFIX, *prefix, FIM_SUFFIX, *suffix, FIM_MIDDLE, *typed]


def split_prefix(prefix: str, layout: PromptLayout) -> tuple[str, str]:
    """What stands before the suffix in a prompt, and what is typed of the middle: nothing, unless it is anchored.

    The place is behind the indentation, where half of the `line` cuts of training begin, not before it.
    """
    if layout != "anchored":
        return prefix, ""
    line = prefix[prefix.rfind("\n") + 1 :]
    typed = line.lstrip()
    return prefix[: len(prefix) - len(typed)], typed


def arrange(cut: Cut, layout: Layout, *, path: Ids = ()) -> list[Ids]:
    """The runs of ids of an infill, to be joined, without the end marker that has to follow.

    path  of a file in a repository's document: it leads the prefix
    """
    if layout == "spm":
        return [(FIM_PREFIX, FIM_SUFFIX), cut.suffix, (FIM_MIDDLE,), path, cut.prefix, cut.middle]
    return [(FIM_PREFIX,), path, cut.prefix, (FIM_SUFFIX,), cut.suffix, (FIM_MIDDLE,), cut.middle]


def example(cut: Cut, layout: Layout) -> NDArray[np.int64]:
    """One training document: the prompt, the middle and its end marker."""
    return join([*arrange(cut, layout), (END_OF_TEXT,)])


def join(runs: Sequence[Ids]) -> NDArray[np.int64]:
    """One array of the runs of ids."""
    return np.concatenate([np.asarray(run, np.int64) for run in runs])


def infill_prompt(
    tokenizer: Tokenizer, prefix: str, suffix: str, *, budget_tokens: int, layout: Layout = "psm"
) -> list[int]:
    """A prompt of at most `budget_tokens` ids around the cursor; `inference.windows` has the one of an editor.

    What does not fit is left out at the outer ends: the start of the prefix and the end of the suffix, which keeps
    up to a quarter of the room (all that the prefix does not use, if that is more).
    """
    return prompt(*_around_cursor(tokenizer, prefix, suffix, budget_tokens - (MARKERS - 1)), layout)


def _around_cursor(tokenizer: Tokenizer, prefix: str, suffix: str, room: int) -> tuple[list[int], list[int]]:
    before, after = tokenizer.encode(prefix), tokenizer.encode(suffix)
    room = max(room, 0)
    suffix_room = min(len(after), max(room // 4, room - len(before)))
    prefix_room = room - suffix_room
    return before[max(len(before) - prefix_room, 0) :], after[:suffix_room]


def repository_prompt(
    tokenizer: Tokenizer,
    name: str,
    files: Sequence[tuple[str, str]],
    *,
    cursor: tuple[str, str, str],
    budget_tokens: int,
    layout: Layout = "psm",
) -> list[int]:
    """A serving prompt of at most `budget_tokens` ids: other files of the repository, then the file with the cursor.

    files   (path, text), the most useful last
    cursor  (path, text before, text after) of the file that is written in

    The file with the cursor comes first in the budget; what it leaves over goes to the last of the other files, each
    whole or not at all. Where not even the names fit this is `infill_prompt`.
    """
    path, prefix, suffix = cursor
    header = [REPO_NAME, *tokenizer.encode(name)]
    own_path = path_ids(tokenizer, path)
    room = budget_tokens - len(header) - 1 - len(own_path) - (MARKERS - 1)
    if room <= 0:
        return infill_prompt(tokenizer, prefix, suffix, budget_tokens=budget_tokens, layout=layout)
    before, after = _around_cursor(tokenizer, prefix, suffix, room)
    room -= len(before) + len(after)
    context = repository_context(tokenizer, name, files, budget_tokens=len(header) + room)
    return [*context, FILE_SEP, *prompt([*own_path, *before], after, layout)]


def repository_context(
    tokenizer: Tokenizer, name: str | None, files: Sequence[tuple[str, str]], *, budget_tokens: int
) -> list[int]:
    """The files that stand before the one that is written in: the last of them that fit, each whole or not at all.

    Without a name of the repository the files have none either, as in half the training data. What follows is a
    <file_sep>, and the path if there is a name.
    """
    header = [] if name is None else [REPO_NAME, *tokenizer.encode(name)]
    room = budget_tokens - len(header)
    others: list[list[int]] = []
    for path, text in reversed(files):
        named = [] if name is None else path_ids(tokenizer, path)
        other = [FILE_SEP, *named, *tokenizer.encode(text)]
        if len(other) > room:
            break
        room -= len(other)
        others.append(other)
    return [*header, *(token_id for other in reversed(others) for token_id in other)]


def shorten_prompt(ids: Sequence[int], budget_tokens: int) -> list[int]:
    """A prompt that somebody else put together, in at most `budget_tokens` ids, with its format whole.

    Of an infill other files go first, the oldest before the rest; then the end of the suffix, which keeps up to a
    quarter of the room; then the start of the prefix. Its three control tokens stay (so that the least is 3 ids). Of
    any other prompt the beginning goes; the control token that the rest stands behind stays.
    """
    if len(ids) <= budget_tokens:
        return list(ids)
    places = _infill_places(ids)
    if places is None:
        return _without_beginning(ids, max(budget_tokens, 1))
    begin, after, middle = places
    runs = ids[begin + 1 : after], ids[after + 1 : middle], ids[middle + 1 :]
    context = _newest_files(ids[:begin], budget_tokens - sum(map(len, runs)) - (MARKERS - 1))
    room = max(budget_tokens - len(context) - (MARKERS - 1), 0)
    prefix, suffix, typed = runs
    suffix = suffix[: max(room // 4, room - len(prefix) - len(typed))]
    typed = typed[max(len(typed) - (room - len(suffix)), 0) :]
    prefix = prefix[max(len(prefix) - (room - len(suffix) - len(typed)), 0) :]
    return [*context, FIM_PREFIX, *prefix, FIM_SUFFIX, *suffix, FIM_MIDDLE, *typed]


def is_infill(ids: Sequence[int]) -> bool:
    """Whether a prompt that somebody else put together asks for the middle of a text."""
    return _infill_places(ids) is not None


def _infill_places(ids: Sequence[int]) -> tuple[int, int, int] | None:
    """Where the control tokens of the last infill stand, in the order of either layout; None where there is none."""
    places = {token: place for place, token in enumerate(ids) if token in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)}
    found = [places.get(token, -1) for token in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)]
    return (found[0], found[1], found[2]) if -1 < found[0] < found[1] < found[2] else None


def _without_beginning(ids: Sequence[int], budget_tokens: int) -> list[int]:
    start = len(ids) - budget_tokens
    control = next((ids[place] for place in range(start, -1, -1) if ids[place] in STOP_TOKENS), None)
    kept = list(ids[start:])
    return kept if control is None else [control, *kept[1:]]


def _newest_files(context: Sequence[int], room: int) -> list[int]:
    """What fits of a repository's other files, whole files with their separators; the last separator always."""
    starts = [place for place, token in enumerate(context) if token in STOP_TOKENS]
    parts = [list(context[start:end]) for start, end in pairwise([*starts, len(context)])]
    last = parts.pop() if parts and len(parts[-1]) == 1 else []
    name = parts.pop(0) if parts and parts[0][0] == REPO_NAME else []
    room -= len(last)
    name = name if len(name) <= room else []
    room -= len(name)
    while parts and sum(map(len, parts)) > room:
        parts.pop(0)
    return [*name, *(token for part in parts for token in part), *last]


def path_ids(tokenizer: Tokenizer, path: str) -> list[int]:
    """The ids of a path as it stands before a file's code; encoded apart from it, in training as in serving."""
    return tokenizer.encode(path + "\n")


def cut(tokenizer: Tokenizer, texts: Sequence[Text], spans: Sequence[tuple[int, int]]) -> list[Cut]:
    """Cut each text before and after the bytes of its middle.

    An editor's cursor stands inside tokens as often as between them, so training has to cut there too. Only the
    tokens around each cut are encoded again, those of all texts in one call; the rest keep their ids. With SEAM_TOKENS
    on either side 98 % of the cuts are token for token what encoding the three parts anew would give (measured on
    Python's standard library with StarCoder2's vocabulary); the others differ in where a run of tokens is divided.
    """
    plans = [_plan(text, *span) for text, span in zip(texts, spans, strict=True)]
    seams = [part for plan in plans for part in plan.parts if isinstance(part, str)]
    encoded = iter(tokenizer.encode_batch(seams))
    return [plan.carry_out(encoded) for plan in plans]


def cut_between_tokens(text: Text, span: tuple[int, int]) -> Cut:
    """Cut at the token borders at or before the places, which adds no token."""
    first, second = (_token_at(text, place)[0] for place in span)
    return Cut(text.ids[:first], text.ids[first:second], text.ids[second:])


def shorten(whole: Cut, tokens: int) -> Cut | None:
    """Leave `tokens` ids out at the outer ends, never of the middle; None where there are not so many."""
    before, after = len(whole.prefix), len(whole.suffix)
    if tokens > before + after:
        return None
    from_start = min(max((tokens + before - after + 1) // 2, 0), before, tokens)  # so that both stay alike in length
    from_end = min(tokens - from_start, after)
    from_start = tokens - from_end
    return Cut(whole.prefix[from_start:], whole.middle, whole.suffix[: after - from_end])


@dataclass(frozen=True)
class _Plan:
    """Runs of ids that are kept and texts to be encoded, and how many of them make up the prefix and the middle."""

    parts: tuple[Ids | str, ...]
    prefix_parts: int
    middle_parts: int

    def carry_out(self, encoded: Iterator[list[int]]) -> Cut:
        runs = [next(encoded) if isinstance(part, str) else part for part in self.parts]
        first, second = self.prefix_parts, self.prefix_parts + self.middle_parts
        return Cut(join([(), *runs[:first]]), join([(), *runs[first:second]]), join([(), *runs[second:]]))


def _plan(text: Text, start: int, end: int) -> _Plan:
    first, last = _seam(text, start), _seam(text, end)
    ids = text.ids
    if last[0] < first[1]:  # one stretch of tokens around both cuts
        low, high = first[0], max(first[1], last[1])
        parts = _recoded(text, (low, high), (start, end))
        return _Plan((ids[:low], *parts, ids[high:]), 2, 1)
    before, after = _recoded(text, first, (start,)), _recoded(text, last, (end,))
    return _Plan((ids[: first[0]], *before, ids[first[1] : last[0]], *after, ids[last[1] :]), 2, 3)


def _token_at(text: Text, place: int) -> tuple[int, bool]:
    """The token that begins at a byte, or that the byte stands in; and whether it is the latter."""
    token = int(np.searchsorted(text.offsets, place, "left"))
    inside = bool(text.offsets[token] != place)
    return token - inside, inside


def _seam(text: Text, place: int) -> tuple[int, int]:
    """The tokens around a place, SEAM_TOKENS on either side and more where that is inside a character."""
    token, inside = _token_at(text, place)
    low, high = max(token - SEAM_TOKENS, 0), min(token + inside + SEAM_TOKENS, len(text.ids))
    while low > 0 and _continues(text, low):
        low -= 1
    while high < len(text.ids) and _continues(text, high):
        high += 1
    return low, high


def _continues(text: Text, token: int) -> bool:
    """True when the token does not begin with the first byte of a UTF-8 character."""
    offset = int(text.offsets[token])
    return offset < len(text.content) and text.content[offset] & 0xC0 == 0x80


def _recoded(text: Text, tokens: tuple[int, int], places: Sequence[int]) -> list[Ids | str]:
    """The parts of a stretch of tokens between the places: texts to encode, or ids where that would lose something."""
    offsets = text.offsets[tokens[0] : tokens[1] + 1]
    controls = bool((offsets[1:] == offsets[:-1]).any())  # a control token has no bytes
    try:
        if not controls:
            borders = [int(offsets[0]), *places, int(offsets[-1])]
            return [text.content[start:end].decode("utf-8") for start, end in pairwise(borders)]
    except UnicodeDecodeError:  # the document itself begins or ends inside a character
        pass
    borders = [tokens[0], *(_token_at(text, place)[0] for place in places), tokens[1]]
    return [text.ids[start:end] for start, end in pairwise(borders)]
