"""Files that hold a benchmark's texts are left out: a model that saw the answers cannot be measured by them.

Two tests, against every text of a *benchmarks* artefact (`starsmith evaluate export`):

exact  the text occurs in the file, white space and the case of letters aside. StarCoder2 (Lozhkov et al. 2024, section
       3.3) searches for each string in turn; here one rolling hash goes over the file, whatever the number of texts.
near   at least `least_share` of the text's n-grams of blinded tokens stand close together in the file. Blinding
       replaces a variable's name by one symbol, so a copy with other names, other spacing or a few other lines is
       still found. Words of prose, numbers, keywords and the names of calls and attributes stay what they are.

A text too short to mean anything (`return x + y`) is looked for in neither way.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError
from starsmith.corpus.decontamination_exact import WINDOW, ExactIndex, find_exact, index_exact
from starsmith.corpus.decontamination_guards import index_near
from starsmith.corpus.decontamination_near import NearIndex, find_near
from starsmith.corpus.decontamination_text import byte_of, normalise_each, read, token_end
from starsmith.corpus.files import Drop
from starsmith.corpus.known_hashes import KnownHashes

TEXTS = "texts.parquet"  # what `starsmith evaluate export` writes: benchmark, task_id, part, text
EXACT, NEAR = "exact", "near"
_COLUMNS = ("benchmark", "task_id", "part", "text")
_SHOWN = 60  # characters of a match in the detail of its drop


@dataclass(frozen=True, kw_only=True)
class DecontaminationConfig:
    """When a file counts as contaminated."""

    least_characters: int = 40  # bytes of a text without its white space: a shorter one is not looked for as a whole
    ngram: int = 10  # blinded tokens in one n-gram: more is stricter, and finds fewer edited copies
    least_ngrams: int = 20  # distinct n-grams of a text: one with fewer is not looked for by its n-grams
    least_share: float = 0.65  # of a text's n-grams that make a near copy
    most_tasks: int = 24  # an n-gram that more tasks share is boilerplate, and does not count

    def __post_init__(self) -> None:
        least = {"least_characters": WINDOW, "ngram": 1, "least_ngrams": 1, "most_tasks": 1}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(
                    f"{name}={getattr(self, name)}: must be at least {lowest}",
                    hint=f"the default is {type(self).__dataclass_fields__[name].default}",
                )
        if not 0 < self.least_share <= 1:
            raise ConfigError(
                f"least_share={self.least_share}: must be above 0 and at most 1", hint="the default is 0.65"
            )


@dataclass(frozen=True)
class Match:
    """Where a file has a benchmark's text."""

    benchmark: str
    task_id: str
    part: str  # of the task: "prompt", "solution", "tests" or "description"
    kind: str  # EXACT or NEAR
    share: float  # of the text's n-grams that were found; 1 of an exact copy
    start: int  # character offsets of the copy
    end: int


class Decontaminator:
    """The index of a benchmarks artefact; it can be pickled, and used by several threads at a time."""

    def __init__(self, texts: list[tuple[str, str, str, str]], config: DecontaminationConfig) -> None:
        """`texts` are rows of benchmark, task id, part and text."""
        self._names, contents, normal = _distinct(texts)
        tasks: dict[tuple[str, str], int] = {}
        numbers = [tasks.setdefault((benchmark, task_id), len(tasks)) for benchmark, task_id, _ in self._names]
        exact = index_exact(*_joined(normal), config.least_characters)
        near = index_near(
            *_joined(contents),
            np.array(numbers, np.int64),
            ngram=config.ngram,
            least_ngrams=config.least_ngrams,
            least_share=config.least_share,
            most_tasks=config.most_tasks,
        )
        self._tables = (*exact.windows, *exact[1:], *near.guards, *near[1:])

    @classmethod
    def load(cls, directory: Path, config: DecontaminationConfig) -> "Decontaminator":
        """Index the benchmarks artefact in `directory`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        artifact.read(directory, kind="benchmarks")
        try:
            with pq.ParquetFile(directory / TEXTS) as file:  # read_table would import pandas
                table = file.read(columns=list(_COLUMNS))
            rows = list(zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True))
        except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
            raise ArtifactError(
                f"{directory / TEXTS} is not a readable table of texts: {error}",
                hint="make it again: starsmith evaluate export DATA --out DIR",
            ) from None
        return cls(rows, config)

    def check(self, text: str) -> Match | None:
        """The longest exact copy of a benchmark's text, or else the nearest copy, if there is one."""
        content = text.encode("utf-8", "surrogatepass")
        data = np.frombuffer(content, np.uint8)
        number, is_exact, share, start, end = _search(data, *self._tables)
        if number < 0:
            return None
        first, last = (len(content[:place].decode("utf-8", "surrogatepass")) for place in (start, end))
        return Match(*self._names[number], EXACT if is_exact else NEAR, share, first, last)

    def judge(self, text: str) -> Drop | None:
        """The drop of a contaminated file; its detail names the task, the place and the beginning of the copy."""
        match = self.check(text)
        if match is None:
            return None
        first, last = (text.count("\n", 0, place) + 1 for place in (match.start, match.end))
        copy = " ".join(text[match.start : match.end][: 4 * _SHOWN].split())[:_SHOWN]
        likeness = "a copy" if match.kind == EXACT else f"{match.share:.0%} of the n-grams"
        return Drop(
            "contaminated",
            f"lines {first}-{last} have {likeness} of the {match.part} of {match.benchmark} {match.task_id}: {copy!r}",
        )


@njit(cache=True, nogil=True)
def _search(data: NDArray[np.uint8], *tables: Any) -> tuple[int, bool, float, int, int]:
    """Number of the text, -1 for none, whether it is there as it is, the share of it, and the bytes.

    `tables` are the fields of both indexes: a tuple of tuples costs a call more than a small file takes to search.
    """
    exact = ExactIndex(KnownHashes(*tables[:5]), *tables[5:10])
    near = NearIndex(KnownHashes(*tables[10:15]), *tables[15:])
    normal, values, starts = read(data)
    number, begin, size = find_exact(normal, exact)
    if number >= 0:
        start = byte_of(data, begin)
        return number, True, 1.0, start, start + byte_of(data[start:], size - 1) + 1
    number, share, first, last = find_near(values, near)
    if number >= 0:
        return number, False, share, starts[first], token_end(data, starts[last])
    return -1, False, 0.0, 0, 0


def _distinct(texts: list[tuple[str, str, str, str]]) -> tuple[list[tuple[str, str, str]], list[bytes], list[bytes]]:
    """Each text once, by what is left of it without case and white space, under the first task that has it."""
    contents = [text.encode("utf-8", "surrogatepass") for *_, text in texts]
    normal, bounds = normalise_each(*_joined(contents))
    seen: dict[bytes, int] = {}
    for number in range(len(texts)):
        seen.setdefault(normal[bounds[number] : bounds[number + 1]].tobytes(), number)
    return [texts[number][:3] for number in seen.values()], [contents[number] for number in seen.values()], list(seen)


def _joined(contents: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of all, one after the other, and the bounds of each."""
    bounds = np.append(0, np.cumsum([len(content) for content in contents], dtype=np.int64))
    return np.frombuffer(b"".join(contents), np.uint8), bounds
