"""Stage: how much likelier does a model find a planted secret than others that could have stood there?

exposure = log2 |R| - log2 rank  (Carlini et al. 2019, arXiv 1802.08232), the rank by likelihood among all strings R of
the canary's space. A large space is sampled: log2(m + 1) - log2 rank among m others estimates the same, up to
log2(m + 1) bits, which a secret likelier than all m others has at least. A secret that was never seen has a rank drawn
evenly, whatever the model is like, so what chance gives is known.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.console import note, progress
from starsmith.core.errors import ConfigError
from starsmith.core.records import TRAIN, read_files
from starsmith.evaluation import canaries as planting
from starsmith.evaluation.audited import check_lineage, load_network
from starsmith.evaluation.canaries import Canary
from starsmith.evaluation.extraction import Task, score
from starsmith.evaluation.memorization_figures import DIGITS
from starsmith.inference.engine import SamplingParams
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer

RESULTS = "exposure.json"
DRAWS = 10_000  # of the tests against chance
MOST_ALTERNATIVES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ExposureConfig:
    """How exactly a rank is found."""

    alternatives: int = 1023  # random others that each secret is ranked among; a space no larger is ranked whole
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.alternatives <= MOST_ALTERNATIVES:
            raise ConfigError(
                f"alternatives={self.alternatives}: must be from 1 to {MOST_ALTERNATIVES:,}", hint="the default is 1023"
            )
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: must be 0 or more", hint="the default is 0")


@dataclass(frozen=True)
class Exposed:
    """A canary, ranked."""

    canary: Canary
    in_corpus: int  # places in the training files in which its line stands
    rank: int  # 1: likelier than every other
    ranked: int  # strings that it was ranked among, itself with them
    extracted: bool  # greedy decoding gives it

    @property
    def exposure(self) -> float:
        """Bits."""
        return math.log2(self.ranked) - math.log2(self.rank)


def run(config: ExposureConfig, *, model: Path, canaries: Path, corpus: Path, out: Path) -> None:
    """Rank every canary that was planted into `corpus` under `model`, which was trained on it."""
    artifact.read(model, kind="model")
    artifact.read(corpus, kind="corpus")
    planted = planting.read(canaries)
    check_lineage(model, corpus, None)
    tokenizer = Tokenizer.load(model)
    network = load_network(model, tokenizer)
    rooms = ("core", "evaluation", "inference", "model", "tokenizer")
    parents = {"model": model, "canaries": canaries, "corpus": corpus}
    with artifact.create(out, kind="exposure-audit", config=config, rooms=rooms, parents=parents) as draft:
        texts = (file.text for file in read_files(corpus, split=TRAIN))
        counts = count_lines(texts, [canary.before + canary.secret for canary in planted])
        if not any(counts):
            note(f"audit: no canary stands in {corpus}; was it built with {canaries / planting.FILES}?")
        with progress("audit: ranking canaries", total=len(planted), unit="canaries") as advance:
            found = [
                rank(network, tokenizer, canary, count, config, advance)
                for canary, count in zip(planted, counts, strict=True)
            ]
        results = summary(found, seed=config.seed)
        (draft.path / RESULTS).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        draft.counts.update(canaries=len(found), extracted=sum(one.extracted for one in found))


def count_lines(texts: Iterable[str], lines: Sequence[str]) -> list[int]:
    """In how many places of the texts each line stands: what governance left of the copies."""
    pattern = re.compile("|".join(map(re.escape, lines)))
    counts = dict.fromkeys(lines, 0)
    for text in texts:
        for match in pattern.finditer(text):
            counts[match.group()] += 1
    return [counts[line] for line in lines]


def rank(
    network: Transformer,
    tokenizer: Tokenizer,
    canary: Canary,
    in_corpus: int,
    config: ExposureConfig,
    advance: Callable[[], None],
) -> Exposed:
    """The place of a secret among others by likelihood, ties against it."""
    key = [config.seed, *canary.id.encode()]
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    strings = [canary.secret, *planting.draw_others(canary, config.alternatives, random)]
    prompt = tokenizer.encode("\n" + canary.before)
    tasks = [Task(prompt, ids) for ids in tokenizer.encode_batch(strings)]
    scores = score(network, tasks, SamplingParams(temperature=1.0), lambda _: None)
    likelihoods = np.array([found.log_prob for found in scores])
    place = 1 + int((likelihoods[1:] >= likelihoods[0]).sum())
    advance()
    return Exposed(canary, in_corpus, place, len(strings), scores[0].extracted)


def summary(found: Sequence[Exposed], *, seed: int) -> dict[str, Any]:
    """Exposure by form and planted copies, beside chance; and each canary, without its secret."""
    forms: dict[str, Any] = {}
    for form in dict.fromkeys(one.canary.form for one in found):
        of_form = [one for one in found if one.canary.form == form]
        groups = [
            _group([one for one in of_form if one.canary.copies == copies], copies, seed)
            for copies in sorted({one.canary.copies for one in of_form})
        ]
        copies, exposures = ([one.in_corpus for one in of_form], [one.exposure for one in of_form])
        forms[form] = {"by_copies": groups, **correlation(copies, exposures, seed=seed)}
    return {"task": "exposure", "seed": seed, "forms": forms, "canaries": [_row(one) for one in found]}


def correlation(copies: Sequence[float], exposures: Sequence[float], *, seed: int) -> dict[str, float | None]:
    """Spearman's rank correlation, and the chance of one so high or higher if copies made no difference."""
    seen = spearman(copies, exposures)
    if seen is None:
        return {"rank_correlation": None, "p_value": None}
    random = np.random.default_rng(seed)
    ours, theirs = _centred_ranks(copies), _centred_ranks(exposures)
    least = float(ours @ theirs) - 1e-9
    as_high = sum(float(random.permutation(theirs) @ ours) >= least for _ in range(DRAWS))
    return {"rank_correlation": round(seen, DIGITS), "p_value": round((1 + as_high) / (1 + DRAWS), 5)}


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Correlation of ranks, ties with their mean rank; None where one side is all equal."""
    first, second = _centred_ranks(one), _centred_ranks(other)
    size = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / size if size else None


def chance(ranked: int) -> float:
    """Mean exposure of a secret that was never seen."""
    return float(np.mean(math.log2(ranked) - np.log2(np.arange(1, ranked + 1))))


def _group(group: Sequence[Exposed], copies: int, seed: int) -> dict[str, Any]:
    mean = sum(one.exposure for one in group) / len(group)
    random = np.random.default_rng([seed, copies])
    ranked = group[0].ranked  # of one form, all are drawn from one space
    by_chance = np.log2(ranked) - np.log2(random.integers(1, ranked + 1, (DRAWS, len(group))))
    as_high = int((by_chance.mean(axis=1) >= mean - 1e-9).sum())
    return {
        "copies": copies,
        "canaries": len(group),
        "in_corpus": sum(one.in_corpus for one in group),  # of copies * canaries
        "exposure": round(mean, DIGITS),
        "exposure_by_chance": round(chance(ranked), DIGITS),
        "most": round(math.log2(ranked), DIGITS),
        "p_value": round((1 + as_high) / (1 + DRAWS), 5),  # of a mean so high or higher by chance
        "first_of_all": sum(one.rank == 1 for one in group),
        "extracted": sum(one.extracted for one in group),
    }


def _row(one: Exposed) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(one.canary).items() if name in ("id", "form", "copies")}
    return {
        **shown,
        "in_corpus": one.in_corpus,
        "rank": one.rank,
        "ranked": one.ranked,
        "exposure": round(one.exposure, DIGITS),
        "extracted": one.extracted,
    }


def _centred_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    _, group, sizes = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks = (last - (sizes - 1) / 2)[group]
    centred: NDArray[np.float64] = ranks - ranks.mean()
    return centred
