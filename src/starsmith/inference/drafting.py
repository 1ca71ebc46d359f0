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
from starsmith.tokenizer.bpe import FILE_SEP, Tokenizer
from starsmith.tokenizer.fim import STOP_TOKENS

Lookup = Callable[[Sequence[int], int], Sequence[int]]  # the last tokens and a limit -> guesses of the next ones

SHORTEST, LONGEST = 2, 16  # tokens of a match: less is chance, more proves nothing
PER_MATCHED = 2  # guesses for each token that matches: a short match is soon wrong
CANDIDATES = 16  # places of a repository that are compared for one look-up
GRAM = 4  # tokens by which a repository is looked up
MOST_TOKENS = 4_000_000  # of a repository: 16 bytes each
MOST_FILE_BYTES = 256 * 1024  # a larger file is generated, or data
_CONTROLS = max(STOP_TOKENS) + 1
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "target", "dist", "build"})


class PromptLookup:
    """Guesses from one request's own prompt, both sides of the cursor, and what was written since.

    Every token is compared at every step: some 20 us for thousands of them, and no index to build before the first.

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
        place, self.matched = self._longest_match(min(len(ids), LONGEST))
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

    def _longest_match(self, longest: int) -> tuple[int, int]:
        """The last place before which most tokens are those at the end, and how many are; control tokens part texts."""
        ids, end = self._ids, self._size
        places, matched = np.arange(1, end), 0
        while matched < longest and (token := int(ids[end - 1 - matched])) >= _CONTROLS:
            reaching = places[int(np.searchsorted(places, matched + 1)) :]  # with as many tokens before them
            narrower = reaching[ids[reaching - 1 - matched] == token]
            if not len(narrower):
                break
            places, matched = narrower, matched + 1
        return (int(places[-1]), matched) if matched else (0, 0)


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
        grams = _hashes(ids)
        # Of equal hashes the later place comes later: what a repository repeats is rather like its last files.
        self._places = np.argsort(grams, kind="stable").astype(np.int32)
        self._grams = grams[self._places]

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
        gram = _hashes(np.asarray(ids[-GRAM:], np.int32))[0]
        first, stop = (int(np.searchsorted(self._grams, gram, side)) for side in ("left", "right"))
        best, longest = 0, GRAM - 1
        for start in self._places[max(first, stop - CANDIDATES) : stop][::-1]:
            place = int(start) + GRAM
            matched = self._matched(place, ids)
            if matched > longest:
                best, longest = place, matched
        return _before_control(self._ids[best : best + min(limit, PER_MATCHED * longest)]) if best else ()

    def _matched(self, place: int, ids: Sequence[int]) -> int:
        """How many tokens before a place are equal to the last of `ids`."""
        most = min(place, len(ids), LONGEST)
        for back in range(1, most + 1):
            if self._ids[place - back] != ids[-back] or ids[-back] < _CONTROLS:
                return back - 1
        return most


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


def _hashes(ids: NDArray[np.int32]) -> NDArray[np.uint64]:
    """(N - GRAM + 1,) a hash of each run of GRAM ids, equal for equal runs; unequal ones are told apart later."""
    count = max(len(ids) - GRAM + 1, 0)
    mixed = np.zeros(count, np.uint64)
    for place in range(GRAM):
        mixed = (mixed ^ ids[place : place + count].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))


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
