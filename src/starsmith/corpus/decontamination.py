"""Files that hold a benchmark's texts are left out: a model that saw the answers cannot be measured by them.

Two tests, against every text of a *benchmarks* artefact (`starsmith evaluate export`):

exact  the text occurs in the file, white space and the case of letters aside. StarCoder2 (Lozhkov et al. 2024, section
       3.3) searches for each string in turn; here one rolling hash goes over the file, whatever the number of texts.
near   at least `least_share` of the text's n-grams of blinded tokens stand close together in the file. Blinding
       replaces a variable's name by one symbol, so a copy with other names, other spacing or a few other lines is
       still found. Words of prose, numbers, keywords and the names of calls and attributes stay what they are.

A text too short to mean anything (`return x + y`) is looked for in neither way.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError
from starsmith.corpus import decontamination_kernels as kernels
from starsmith.corpus.files import Drop

TEXTS = "texts.parquet"  # what `starsmith evaluate export` writes: benchmark, task_id, part, text
EXACT, NEAR = "exact", "near"
_COLUMNS = ("benchmark", "task_id", "part", "text")
_ANCHOR_CANDIDATES = 16  # windows of a text, those of the lowest hashes, of which the rarest becomes its anchor
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
        least = {"least_characters": kernels.WINDOW, "ngram": 1, "least_ngrams": 1, "most_tasks": 1}
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
        self._names, contents = _distinct(texts)
        self._config = config
        self._exact = _index_exact(contents, config.least_characters)
        self._near = _index_near(contents, [name[:2] for name in self._names], config)

    @classmethod
    def load(cls, directory: Path, config: DecontaminationConfig) -> "Decontaminator":
        """Index the benchmarks artefact in `directory`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        artifact.read(directory, kind="benchmarks")
        try:
            table = pq.read_table(directory / TEXTS, columns=list(_COLUMNS))
            rows = list(zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True))
        except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
            raise ArtifactError(
                f"{directory / TEXTS} is not a readable table of texts: {error}",
                hint="make it again: starsmith evaluate export DATA --out DIR",
            ) from None
        return cls(rows, config)

    def check(self, text: str) -> Match | None:
        """The first exact copy of a benchmark's text, or else the nearest copy, if there is one."""
        content = text.encode("utf-8", "surrogatepass")
        data = np.frombuffer(content, np.uint8)
        number, start, end = kernels.find_exact(data, *self._exact)
        kind, share = EXACT, 1.0
        if number < 0:
            config = self._config
            least_found = math.ceil(config.least_share * config.least_ngrams)
            number, share, start, end = kernels.find_near(
                data, *self._near, config.ngram, config.least_share, least_found
            )
            kind = NEAR
        if number < 0:
            return None
        first, last = (len(content[:place].decode("utf-8", "surrogatepass")) for place in (start, end))
        return Match(*self._names[number], kind, share, first, last)

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


class _Exact(NamedTuple):
    """What `find_exact` looks up: texts in order of their anchors, longer ones first."""

    bits: NDArray[np.uint64]  # a bitmap of the anchors' hashes: most windows of a clean file end here
    keys: NDArray[np.uint64]  # (A,) hashes of the anchors, sorted
    begins: NDArray[np.int64]  # where the keys with each high bits begin
    firsts: NDArray[np.int64]  # (A + 1,) anchor -> its texts
    numbers: NDArray[np.int64]  # (N,) text -> its number among all
    offsets: NDArray[np.int64]  # (N,) place of the anchor in the text
    starts: NDArray[np.int64]  # (N + 1,) text -> its bytes
    joined: NDArray[np.uint8]  # all texts, normalised


class _Near(NamedTuple):
    """What `find_near` looks up: the chosen n-grams of each text."""

    bits: NDArray[np.uint64]
    keys: NDArray[np.uint64]  # (G,) hashes of n-grams, sorted
    begins: NDArray[np.int64]
    firsts: NDArray[np.int64]  # (G + 1,) n-gram -> the texts that have it
    owners: NDArray[np.int64]  # text
    places: NDArray[np.int64]  # number of the n-gram within the text, below MOST_CHOSEN
    sizes: NDArray[np.int64]  # (N,) text -> its chosen n-grams
    lengths: NDArray[np.int64]  # (N,) text -> its tokens


def _distinct(texts: list[tuple[str, str, str, str]]) -> tuple[list[tuple[str, str, str]], list[NDArray[np.uint8]]]:
    """Each text once, by what is left of it without case and white space, under the first task that has it."""
    seen: dict[bytes, tuple[tuple[str, str, str], NDArray[np.uint8]]] = {}
    for benchmark, task_id, part, text in texts:
        data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
        seen.setdefault(kernels.normalise(data).tobytes(), ((benchmark, task_id, part), data))
    return [name for name, _ in seen.values()], [data for _, data in seen.values()]


def _index_exact(contents: list[NDArray[np.uint8]], least_characters: int) -> _Exact:
    """Choose an anchor in each text: the window that the fewest texts have, so that boilerplate is none."""
    normal = ((number, kernels.normalise(content)) for number, content in enumerate(contents))
    texts = [(number, text) for number, text in normal if len(text) >= least_characters]
    hashes = [kernels.window_hashes(text) for _, text in texts]
    candidates = [np.unique(windows)[:_ANCHOR_CANDIDATES] for windows in hashes]
    windows, counts = np.unique(_join(candidates), return_counts=True)
    rarest = [own[counts[np.searchsorted(windows, own)].argmin()] for own in candidates]
    anchors = np.array(rarest, np.uint64)
    offsets = np.array([int((own == anchor).argmax()) for own, anchor in zip(hashes, rarest, strict=True)], np.int64)
    sizes = np.array([len(text) for _, text in texts], np.int64)
    order = np.lexsort((-sizes, anchors))
    keys, firsts = _group(anchors[order])
    return _Exact(
        bits=kernels.bitmap(keys),
        keys=keys,
        begins=kernels.directory(keys),
        firsts=firsts,
        numbers=np.array([number for number, _ in texts], np.int64)[order],
        offsets=offsets[order],
        starts=np.append(0, np.cumsum(sizes[order])).astype(np.int64),
        joined=np.concatenate([np.zeros(0, np.uint8), *(texts[place][1] for place in order)]),
    )


def _index_near(
    contents: list[NDArray[np.uint8]], tasks: list[tuple[str, str]], config: DecontaminationConfig
) -> _Near:
    """Choose n-grams of each text: all but boilerplate, or those of the lowest hashes where there are many."""
    hashed = [np.unique(kernels.ngram_hashes(content, config.ngram)) for content in contents]
    common = _shared_by_many(hashed, tasks, config.most_tasks)
    owners = np.repeat(np.arange(len(hashed)), [len(grams) for grams in hashed])
    grams = _join(hashed)
    rare = ~np.isin(grams, common)
    grams, owners = grams[rare], owners[rare]
    sizes = np.bincount(owners, minlength=len(hashed))
    places = np.arange(len(grams)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = (places < kernels.MOST_CHOSEN) & (sizes[owners] >= config.least_ngrams)
    grams, owners, places = grams[chosen], owners[chosen], places[chosen]
    order = np.lexsort((owners, grams))
    keys, firsts = _group(grams[order])
    return _Near(
        bits=kernels.bitmap(keys),
        keys=keys,
        begins=kernels.directory(keys),
        firsts=firsts,
        owners=owners[order].astype(np.int64),
        places=places[order].astype(np.int64),
        sizes=np.bincount(owners, minlength=len(hashed)).astype(np.int64),
        lengths=np.array([len(kernels.blind(content)[0]) for content in contents], np.int64),
    )


def _shared_by_many(hashed: list[NDArray[np.uint64]], tasks: list[tuple[str, str]], most: int) -> NDArray[np.uint64]:
    """The n-grams that stand in the texts of more than `most` tasks."""
    by_task: dict[tuple[str, str], list[NDArray[np.uint64]]] = {}
    for task, grams in zip(tasks, hashed, strict=True):
        by_task.setdefault(task, []).append(grams)
    grams, counts = np.unique(_join([np.unique(_join(own)) for own in by_task.values()]), return_counts=True)
    return np.asarray(grams[counts > most])


def _group(ordered: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The distinct values of a sorted array, and where each begins in it, and the end."""
    keys, firsts = np.unique(ordered, return_index=True)
    return keys, np.append(firsts, len(ordered)).astype(np.int64)


def _join(hashes: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate([np.zeros(0, np.uint64), *hashes])
