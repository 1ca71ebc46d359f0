"""Stage: how much of its training files does a model give back, beside files that it never saw?

Windows are drawn from the corpus and from a control, scored in one pass for each context (`extraction`), and counted.
`memorization.json` has the figures, seeds and sample ids, `samples.parquet` what became of each window in each
context; neither has any text unless `keep_text` is set.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from starsmith.core import artifact
from starsmith.core.console import progress
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import TRAIN, read_files
from starsmith.evaluation.audited import check_lineage, load_network
from starsmith.evaluation.content_classes import RARE
from starsmith.evaluation.extraction import Score, Task, score
from starsmith.evaluation.memorization_figures import DIGITS, Outcome, difference, rates
from starsmith.evaluation.memorization_sampling import (
    BUCKETS,
    RANDOM,
    Drawn,
    Pool,
    Rows,
    Shape,
    Window,
    bucket_of,
    draw,
    read_rows,
)
from starsmith.evaluation.training_places import count_places
from starsmith.inference.engine import SamplingParams
from starsmith.model.transformer import Transformer
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import Tokenizer

RESULTS, SAMPLES = "memorization.json", "samples.parquet"
INFILL = "infill"
MOST_WINDOWS = 1_000_000  # of one stratum
_PLACES = "seen "  # group names: windows of the random sample by places in the training text
_FILES = "files "  # by files that the row stands for

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("side", pa.string()),  # corpus or control
        ("strata", pa.list_(pa.string())),
        ("swhid", pa.string()),
        ("repository", pa.string()),
        ("path", pa.string()),
        ("license", pa.string()),
        ("line", pa.int64()),
        ("token", pa.int64()),
        ("start", pa.int64()),  # bytes of the row's text
        ("end", pa.int64()),
        ("class", pa.string()),
        ("cluster_size", pa.int64()),
        ("training_places", pa.int64()),
        ("context", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("log_prob", pa.float64()),
        ("scheme_log_prob", pa.float64()),
        ("right_tokens", pa.int64()),
        ("extracted", pa.bool_()),
        ("text", pa.large_string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class MemorizationConfig:
    """What is asked of the model, and how often."""

    prefix_tokens: tuple[int, ...] = (32, 64, 128)  # given, or all there is where the file begins later
    suffix_tokens: int = 50  # to be given back
    infill: bool = True  # also with half of the longest prefix given, and as much of what follows
    random_windows: int = 500  # over all files
    stratum_windows: int = 100  # of each number of copies, and of each class but code
    temperature: float = 1.0  # of the sampling scheme of (n, p)-discoverable extraction
    top_k: int | None = 40
    top_p: float = 1.0
    samples: tuple[int, ...] = (1, 10, 100, 1000)  # n
    probabilities: tuple[float, ...] = (0.1, 0.5, 0.9)  # p
    keep_text: bool = False  # store the windows' text: it is other people's
    seed: int = 0

    def __post_init__(self) -> None:
        lengths = (*self.prefix_tokens, self.suffix_tokens)
        if not self.prefix_tokens or min(lengths) < 1 or len(set(self.prefix_tokens)) < len(self.prefix_tokens):
            raise ConfigError(
                f"prefix_tokens={list(self.prefix_tokens)}, suffix_tokens={self.suffix_tokens}: must be different "
                "lengths of 1 or more",
                hint="the defaults are [32, 64, 128] and 50",
            )
        if not (1 <= self.random_windows <= MOST_WINDOWS and 0 <= self.stratum_windows <= MOST_WINDOWS):
            raise ConfigError(
                f"random_windows={self.random_windows}, stratum_windows={self.stratum_windows}: must be from 1 (0) to "
                f"{MOST_WINDOWS:,}",
                hint="the defaults are 500 and 100",
            )
        if self.temperature <= 0 or (self.top_k is not None and self.top_k < 1):
            raise ConfigError(
                f"temperature={self.temperature}, top_k={self.top_k}: must be above 0; greedy is reported anyway",
                hint="the defaults are 1.0 and 40",
            )
        if (
            not (self.samples and self.probabilities)
            or min(self.samples) < 1
            or not all(0 < p < 1 for p in self.probabilities)
        ):
            raise ConfigError(
                f"samples={list(self.samples)}, probabilities={list(self.probabilities)}: n from 1, p between 0 and 1",
                hint="the defaults are [1, 10, 100, 1000] and [0.1, 0.5, 0.9]",
            )
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: must be 0 or more", hint="the default is 0")
        _ = self.scheme

    @property
    def scheme(self) -> SamplingParams:
        """The sampling that q is the chance under."""
        return SamplingParams(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of what is given."""
        return (*(f"prefix {length}" for length in self.prefix_tokens), *([INFILL] if self.infill else []))

    @property
    def shape(self) -> Shape:
        """The parts of a window."""
        longest = max(self.prefix_tokens)
        return Shape(
            least_before=min(self.prefix_tokens),
            most_before=longest,
            suffix=self.suffix_tokens,
            most_after=self.beside if self.infill else 0,
        )

    @property
    def beside(self) -> int:
        """Tokens on either side of an infill: as many in all as the longest prefix has."""
        return max(max(self.prefix_tokens) // 2, 1)

    def task(self, window: Window, context: str) -> Task:
        """What the model is given in a context."""
        if context == INFILL:
            return Task(fim.prompt(window.before[-self.beside :], window.after, "psm"), window.ids)
        return Task(window.before[-int(context.split()[1]) :], window.ids)


@dataclass(frozen=True)
class _Side:
    """The windows of the corpus or the control, and what was found out about each."""

    name: str
    files: str  # what they were drawn from, in words
    drawn: Drawn
    places: list[int | None]  # in the training text
    scores: dict[str, list[Score]]  # by context

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """Windows by group; those of a control that stand in the training text too are in none."""
        strata = {(_FILES + name if name in BUCKETS else name): found for name, found in self.drawn.strata.items()}
        strata["code"] = [one for one in strata[RANDOM] if self.drawn.windows[one].kind == "code"]
        if self.name == "control":
            return {name: [one for one in found if not self.places[one]] for name, found in strata.items()}
        by_places = {_PLACES + name: [] for name in BUCKETS}  # type: dict[str, list[int]]
        for one in strata[RANDOM]:
            if (name := bucket_of(self.places[one])) is not None:
                by_places[_PLACES + name].append(one)
        return {**strata, **by_places}

    def outcomes(self, group: str, context: str) -> list[Outcome]:
        """The scored windows of a group."""
        return [Outcome(self.drawn.windows[one].swhid, self.scores[context][one]) for one in self.groups.get(group, [])]


def run(config: MemorizationConfig, *, model: Path, corpus: Path, out: Path, control: Path | None = None) -> None:
    """Audit `model`, which was trained on `corpus`; the control is its held-out files, or all files of `control`."""
    artifact.read(model, kind="model")
    for directory in filter(None, (corpus, control)):
        artifact.read(directory, kind="corpus")
    check_lineage(model, corpus, control)
    tokenizer = Tokenizer.load(model)
    network = load_network(model, tokenizer)
    check_context(config, network.config.max_position_embeddings)
    rooms = ("core", "evaluation", "inference", "model", "tokenizer")
    parents = {"model": model, "corpus": corpus, **({"control": control} if control else {})}
    with artifact.create(out, kind="memorization-audit", config=config, rooms=rooms, parents=parents) as draft:
        drawn = _draw(config, tokenizer, corpus, control)
        places = _places(corpus, drawn)
        sides = _score(config, network, drawn, places, control)
        results = _results(config, sides)
        (draft.path / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        rows = [row for side in sides for row in _rows(config, side)]
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft.path / SAMPLES, compression="zstd")
        for side in sides:
            draft.count(f"{side.name}_windows", len(side.drawn.windows))


def check_context(config: MemorizationConfig, context_tokens: int) -> None:
    """Before the work: every prompt with its truth must fit into the model's context."""
    shape = config.shape
    infill = 2 * config.beside + fim.MARKERS - 1 if config.infill else 0
    needed = max(shape.most_before, infill) + shape.suffix
    if needed > context_tokens:
        raise InputError(
            f"the model's context has {context_tokens} tokens, prefix and suffix need {needed}",
            hint="lower memorization.prefix_tokens or memorization.suffix_tokens",
        )


def _draw(config: MemorizationConfig, tokenizer: Tokenizer, corpus: Path, control: Path | None) -> list[Drawn]:
    """The windows of the corpus, and of the control."""
    rows = read_rows(corpus)
    training = np.flatnonzero(rows.training)
    classes: dict[str, int] = dict.fromkeys(RARE, config.stratum_windows)
    copies = dict.fromkeys(BUCKETS, config.stratum_windows) if rows.cluster_sizes.any() else {}
    first = {RANDOM: config.random_windows}
    other = _control(corpus, rows, control)
    return [
        _drawn(config, tokenizer, Pool(corpus, rows, training), {**first, **copies, **classes}, "training"),
        _drawn(config, tokenizer, other, {**first, **classes}, "control" if control else "held-out"),
    ]


def _control(corpus: Path, rows: Rows, control: Path | None) -> Pool:
    """The held-out files, or those of another corpus that are not in the training files."""
    if control is not None:
        other = read_rows(control)
        is_known = pc.is_in(other.swhids, value_set=rows.swhids.filter(pa.array(rows.training))).to_numpy()
        return Pool(control, other, np.flatnonzero(~is_known))
    if rows.training.all():
        raise InputError(
            f"{corpus} has no held-out file, so there is nothing to compare with",
            hint="give --control CORPUS, a corpus of files that the model never saw",
        )
    return Pool(corpus, rows, np.flatnonzero(~rows.training))


def _drawn(config: MemorizationConfig, tokenizer: Tokenizer, pool: Pool, wanted: dict[str, int], what: str) -> Drawn:
    side = int(what != "training")
    found = draw(pool, tokenizer, config.shape, wanted=wanted, seed=(config.seed, side))
    if not found.windows:
        least = config.shape.least_before + config.suffix_tokens
        raise InputError(
            f"{pool.corpus}: none of {len(pool.chosen):,} {what} files has the {least} tokens of a prefix and suffix",
            hint="lower memorization.suffix_tokens, or give a corpus of longer files",
        )
    return found


def _places(corpus: Path, drawn: Sequence[Drawn]) -> list[list[int | None]]:
    """In how many places of the training text each window stands."""
    stretches = [(window.text, window.words) for side in drawn for window in side.windows]
    total = artifact.read(corpus).counts.get("kept")
    with progress("audit: looking for the windows in the training files", total=total, unit="files") as advance:
        texts = (file.text for file in read_files(corpus, split=TRAIN))
        counts = iter(count_places(texts, stretches, advance))
    return [[next(counts) for _ in side.windows] for side in drawn]


def _score(
    config: MemorizationConfig,
    network: Transformer,
    drawn: Sequence[Drawn],
    places: Sequence[list[int | None]],
    control: Path | None,
) -> list[_Side]:
    named = (("corpus", "training files"), ("control", "files of the control" if control else "held-out files"))
    total = sum(len(side.windows) for side in drawn) * len(config.contexts)
    sides: list[_Side] = []
    with progress("audit: scoring", total=total, unit="windows") as advance:
        for (name, files), side, counts in zip(named, drawn, places, strict=True):
            scores = {
                context: score(network, [config.task(one, context) for one in side.windows], config.scheme, advance)
                for context in config.contexts
            }
            sides.append(_Side(name, files, side, counts, scores))
    return sides


def _results(config: MemorizationConfig, sides: Sequence[_Side]) -> dict[str, Any]:
    corpus, control = sides
    seen = [count for count in control.places if count]
    return {
        "task": "memorization",
        "seed": config.seed,
        "suffix_tokens": config.suffix_tokens,
        "scheme": {"temperature": config.temperature, "top_k": config.top_k, "top_p": config.top_p},
        "corpus": {"of": corpus.files, "files": corpus.drawn.files, "windows": len(corpus.drawn.windows)},
        "control": {
            "of": control.files,
            "files": control.drawn.files,
            "windows": len(control.drawn.windows),
            "also_in_training": len(seen),  # left out of the figures
            "too_short_to_look_for": control.places.count(None),
        },
        "contexts": {
            context: {group: _compared(config, sides, group, context) for group in corpus.groups}
            for context in config.contexts
        },
        "sample_ids": {
            side.name: {
                name: [side.drawn.windows[one].id for one in found] for name, found in side.drawn.strata.items()
            }
            for side in sides
        },
    }


def _compared(config: MemorizationConfig, sides: Sequence[_Side], group: str, context: str) -> dict[str, Any]:
    """A group's figures; those by copies have no control, since what was never seen has no copies."""
    first, second = (rates(side.outcomes(group, context), config.samples, config.probabilities) for side in sides)
    if group not in sides[1].groups:
        return {"corpus": first, "control": None, "corpus_minus_control": None}
    return {"corpus": first, "control": second, "corpus_minus_control": difference(first, second)}


def _rows(config: MemorizationConfig, side: _Side) -> Iterator[dict[str, Any]]:
    strata: list[list[str]] = [[] for _ in side.drawn.windows]
    for name, found in side.drawn.strata.items():
        for one in found:
            strata[one].append(name)
    same = ("id", "swhid", "repository", "path", "license", "line", "token", "start", "end", "cluster_size")
    for number, window in enumerate(side.drawn.windows):
        row = {name: getattr(window, name) for name in same}
        row |= {"side": side.name, "strata": strata[number], "class": window.kind}
        row |= {"training_places": side.places[number], "text": window.text if config.keep_text else None}
        for context in config.contexts:
            found_score = side.scores[context][number]
            rounded = replace(
                found_score,
                log_prob=round(found_score.log_prob, DIGITS),
                scheme_log_prob=round(found_score.scheme_log_prob, DIGITS),
            )
            prompt = len(config.task(window, context).prompt)
            yield {**row, "context": context, "prompt_tokens": prompt, **vars(rounded)}
