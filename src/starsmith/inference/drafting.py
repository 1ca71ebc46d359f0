"""Drafts that cost nothing: the next tokens are guessed to be those that followed the same tokens elsewhere.

Code repeats itself, in the open file and in the repository around it. A drafter looks up what is already there; the
model verifies several guesses in one step, and the text is the one it would have written without (Saxena 2023,
"prompt lookup decoding"; Yang et al. 2023, arXiv 2304.04487).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starsmith.inference.engine import Drafter
from starsmith.model.kernels.compiling import compiled, entry
from starsmith.tokenizer.bpe import FILE_SEP, Tokenizer
from starsmith.tokenizer.fim import STOP_TOKENS

Lookup = Callable[[Sequence[int], int], Sequence[int]]  # the last tokens and a limit -> guesses of the next ones

SHORTEST, LONGEST = 2, 16  # tokens of a match: less is chance, more proves nothing
PER_MATCHED = 2  # guesses for each token that matches: a short match is soon wrong
CANDIDATES = 16  # places of a repository that are compared for one look-up
GRAM = 4  # tokens by which a repository is looked up
MOST_TOKENS = 4_000_000  # of a repository: 16 bytes each
MOST_FILE_BYTES = 256 * 1024  # a larger file is generated, or data
FACTOR, SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)
BUCKETS, UPPER = 1 << 18, np.uint64(64 - 18)
_CONTROLS = max(STOP_TOKENS) + 1
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "target", "dist", "build"})


class PromptLookup:
    """Guesses from one request's own prompt, both sides of the cursor, and what was written since.

    Every token is compared at every step: a microsecond for a thousand of them, and no index to build before the first.

    references  more to look in, such as what was suggested before
    """

    def __init__(self, *references: Sequence[int]) -> None:
        known = [token for reference in references for token in (*reference, FILE_SEP)]
        self._ids = np.array(known, np.int32)
        self._size = self._first = len(known)  # where the prompt begins
        self.matched = 0  # tokens before the place that the last guesses come from

    def propose(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        """See `Drafter.propose`. `ids` only grow from call to call, so that each token is taken over once."""
        self._take(ids[self._size - self._first :])
        place, self.matched = _longest_match(self._ids, self._size, min(len(ids), LONGEST))
        if self.matched < SHORTEST or limit <= 0:
            return ()
        return _before_control(self._ids[place : min(place + min(limit, PER_MATCHED * self.matched), self._size)])

    def _take(self, ids: Sequence[int]) -> None:
        size = self._size + len(ids)
        if size > len(self._ids):
            grown = np.empty(2 * size, np.int32)
            grown[: self._size] = self._ids[: self._size]
            self._ids = grown
        self._ids[self._size : size] = ids
        self._size = size


@dataclass(frozen=True)
class Drafts:
    """Guesses from the open file and, where only a few tokens match there, from further away.

    far  a function that was handed in, such as an index of the user's repositories
    """

    near: PromptLookup
    far: Lookup

    def propose(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        """See `Drafter.propose`."""
        guesses = self.near.propose(ids, limit)
        if limit <= 0 or self.near.matched >= GRAM:
            return guesses
        return self.far(ids[-LONGEST:], limit) or guesses


def drafter_of(far: Lookup | None, *references: Sequence[int]) -> Drafter:
    """What a completion is drafted from."""
    near = PromptLookup(*references)
    return near if far is None else Drafts(near, far)


class RepositoryDrafts:
    """A table of every run of GRAM tokens in some files: 16 bytes a token, a few microseconds a look-up."""

    def __init__(self, ids: NDArray[np.int32]) -> None:
        self._ids = ids
        grams = np.empty(max(len(ids) - GRAM + 1, 0), np.uint64)
        _hash_runs(ids, grams)
        # Of equal hashes the later place comes later: what a repository repeats is rather like its last files.
        self._places = np.argsort(grams, kind="stable").astype(np.int32)
        self._grams = grams[self._places]
        # Where those begin that start with the same bits: a search in millions would miss every cache twenty times.
        self._starts = (self._grams >> UPPER).searchsorted(np.arange(BUCKETS + 1, dtype=np.uint64)).astype(np.int32)

    @classmethod
    def read(
        cls, tokenizer: Tokenizer, folders: Sequence[Path], *, most_tokens: int = MOST_TOKENS
    ) -> "RepositoryDrafts":
        """Index the text files below some folders, in the order of their paths, until `most_tokens` are full."""
        runs: list[NDArray[np.int32]] = []
        room = most_tokens
        for text in _texts(folders):
            run = np.array([*tokenizer.encode(text), FILE_SEP], np.int32)[:room]
            runs.append(run)
            room -= len(run)
            if room <= 0:
                break
        return cls(np.concatenate(runs) if runs else np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self._ids)

    def __call__(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        """What followed the longest run of tokens that `ids` end with; nothing where GRAM tokens occur nowhere."""
        if len(ids) < GRAM:
            return ()
        last = np.array(ids[-LONGEST:], np.int32)
        place, matched = _find_run(self._ids, self._grams, self._starts, self._places, last)
        return _before_control(self._ids[place : place + min(limit, PER_MATCHED * matched)]) if matched else ()


class Deferred:
    """A look-up that a thread prepares, and that has no guesses until it is there."""

    def __init__(self, prepare: Callable[[], Lookup]) -> None:
        self._prepare = prepare
        self._lookup: Lookup | None = None
        self._thread = threading.Thread(target=self._run, name="drafts", daemon=True)
        self._thread.start()

    def __call__(self, ids: Sequence[int], limit: int) -> Sequence[int]:
        """What the look-up has, if it is ready."""
        return self._lookup(ids, limit) if self._lookup is not None else ()

    def wait(self) -> None:
        """Return when it is ready."""
        self._thread.join()

    def _run(self) -> None:
        self._lookup = self._prepare()


def _before_control(ids: NDArray[np.int32]) -> list[int]:
    guesses: list[int] = ids.tolist()
    end = next((place for place, token in enumerate(guesses) if token < _CONTROLS), len(guesses))
    return guesses[:end]


def prepare() -> None:
    """Compile the look-ups, if that was not kept: now, and not with the first keystroke."""
    _longest_match.compile("(int32[::1], int64, int64)")
    _hash_runs.compile("(int32[::1], uint64[::1])")
    _find_run.compile("(int32[::1], uint64[::1], int32[::1], int32[::1], int32[::1])")


@entry
def _longest_match(ids: NDArray[np.int32], end: int, longest: int) -> tuple[int, int]:
    """The last place before which most tokens are those before `end`, and how many are; control tokens part texts."""
    best, most = 0, 0
    for place in range(end - 1, 0, -1):
        matched = _matched(ids, place, ids, end, min(longest, place))
        if matched > most:
            best, most = place, matched
            if most == longest:
                break
    return best, most


@entry
def _hash_runs(ids: NDArray[np.int32], out: NDArray[np.uint64]) -> None:
    """A hash of each run of GRAM ids, equal for equal runs; unequal ones are told apart later."""
    for place in range(len(out)):
        out[place] = _hash(ids, place)


@entry
def _find_run(
    ids: NDArray[np.int32],
    grams: NDArray[np.uint64],
    starts: NDArray[np.int32],
    places: NDArray[np.int32],
    last: NDArray[np.int32],
) -> tuple[int, int]:
    """Behind which place of `ids` the longest run that ends as `last` does is over, and how long that is, or 0.

    Of some of the latest places with the same last GRAM tokens; of equals the last.
    """
    wanted = _hash(last, len(last) - GRAM)
    bucket = np.int64(wanted >> UPPER)
    stop = _bound(grams, wanted, starts[bucket], starts[bucket + 1])
    best, most = 0, GRAM - 1
    for number in range(stop - 1, max(stop - CANDIDATES, 0) - 1, -1):
        if grams[number] != wanted:
            break
        place = places[number] + GRAM
        matched = _matched(ids, place, last, len(last), min(len(last), place))
        if matched > most:
            best, most = place, matched
    return best, most if best else 0


@compiled
def _hash(ids: NDArray[np.int32], place: int) -> np.uint64:
    mixed = np.uint64(0)
    for offset in range(GRAM):
        mixed = (mixed ^ np.uint64(ids[place + offset])) * FACTOR
    return mixed ^ (mixed >> SHIFT)


@compiled
def _bound(values: NDArray[np.uint64], wanted: np.uint64, low: int, high: int) -> int:
    """Where between two places of the sorted values those begin that are greater than the wanted one."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] <= wanted:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _matched(one: NDArray[np.int32], end: int, other: NDArray[np.int32], other_end: int, most: int) -> int:
    """How many tokens before two ends are the same, of `most`."""
    matched = 0
    while matched < most:
        token = one[end - 1 - matched]
        if token != other[other_end - 1 - matched] or token < _CONTROLS:
            break
        matched += 1
    return matched


def _texts(folders: Sequence[Path]) -> Iterator[str]:
    """The texts of source files; what cannot be read, or is none, has no drafts."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            if any(part.startswith(".") or part in _SKIPPED for part in parts) or path.is_symlink():
                continue
            with suppress(OSError, UnicodeDecodeError):
                if path.is_file() and path.stat().st_size <= MOST_FILE_BYTES:
                    text = path.read_bytes().decode("utf-8")
                    if "\0" not in text:
                        yield text
