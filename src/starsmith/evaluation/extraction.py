"""One teacher-forced pass over a prompt and the true tokens after it says whether a model would give them back.

Greedy decoding writes the true tokens as long as each is the most probable one given those before, so its outcome is
read off without decoding (Carlini et al. 2022, arXiv 2202.07646, decode for it). The product of the true tokens'
probabilities under a sampling scheme is the chance q that one sample is the whole truth, and of n samples at least one
is with 1 - (1 - q)**n ((n, p)-discoverable extraction: Hayes et al. 2024, arXiv 2410.19482).

Shapes: B batch, T positions, N predicted tokens, H hidden, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from starsmith.core.errors import ArtifactError, InputError
from starsmith.inference.engine import SamplingParams
from starsmith.model.transformer import Transformer

BATCH_TOKENS = 4_096  # read in one pass
LOGITS_AT_ONCE = 2**22  # numbers: 16 MB


@dataclass(frozen=True)
class Task:
    """A prompt, and the tokens that are or are not given back after it."""

    prompt: Sequence[int]
    truth: Sequence[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.truth)


@dataclass(frozen=True)
class Score:
    """What a pass says of a task; natural logarithms."""

    log_prob: float  # of the truth under the unmodified distribution
    scheme_log_prob: float  # under the sampling scheme; minus infinity where it can never give the truth
    right_tokens: int  # that greedy decoding gives before its first mistake
    extracted: bool  # greedy decoding gives all

    def samples_needed(self, probability: float) -> float:
        """The smallest n of samples of which one is the truth with this probability; infinite where none ever is."""
        chance = math.exp(self.scheme_log_prob)
        if chance == 0:
            return math.inf
        if chance >= 1:
            return 1
        # The division may end a hair above a whole number that is meant.
        return max(math.ceil(math.log1p(-probability) / math.log1p(-chance) - 1e-9), 1)


def score(
    model: Transformer, tasks: Sequence[Task], params: SamplingParams, advance: Callable[[int], None]
) -> list[Score]:
    """A score for each task, in order. Batches are of like length and bounded in memory."""
    context = model.config.max_position_embeddings
    if (longest := max((len(task) for task in tasks), default=0)) > context:
        raise InputError(
            f"a prompt and its truth have {longest} tokens, the model's context has {context}",
            hint="ask for less at once, or give a model with a longer context",
        )
    scores: list[Score | None] = [None] * len(tasks)
    for places in _batches(tasks):
        chosen = [tasks[place] for place in places]
        for place, found in zip(places, _score_batch(model, chosen, params), strict=True):
            if math.isnan(found.log_prob):
                raise ArtifactError(
                    "the model's probabilities are no numbers", hint="its training diverged: train it again"
                )
            scores[place] = found
        advance(len(places))
    return [found for found in scores if found is not None]


def scheme_log_probs(logits_NV: Tensor, truth_N: Tensor, params: SamplingParams) -> Tensor:
    """(N,) log-probability of each true token after temperature, top-k and nucleus, as `inference.sampling` has them.

    Only what is left of a row after top-k is sorted for the nucleus.
    """
    logits_NV = logits_NV / params.temperature
    truth_logits_N = logits_NV.gather(1, truth_N[:, None])[:, 0]
    if params.top_k is not None and params.top_k < logits_NV.size(1):
        kept_NK = logits_NV.topk(params.top_k).values
    elif params.top_p < 1:
        kept_NK = logits_NV.sort(descending=True).values
    else:
        return truth_logits_N - logits_NV.logsumexp(-1)
    if params.top_p < 1:
        probabilities_NK = kept_NK.softmax(-1)
        before_NK = probabilities_NK.cumsum(-1) - probabilities_NK
        # What comes after the nucleus: the most probable token never does.
        kept_NK = kept_NK.masked_fill(before_NK >= params.top_p, torch.inf)
    least_N = kept_NK.min(-1).values
    total_N = kept_NK.masked_fill(kept_NK == torch.inf, -torch.inf).logsumexp(-1)
    return torch.where(truth_logits_N >= least_N, truth_logits_N - total_N, -torch.inf)


def _batches(tasks: Sequence[Task]) -> Iterator[list[int]]:
    """Places of tasks, the longest first, as many together as BATCH_TOKENS holds when all are as long as the first."""
    order = sorted(range(len(tasks)), key=lambda place: (-len(tasks[place]), place))
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) + 1) * len(tasks[batch[0]]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@torch.inference_mode()
def _score_batch(model: Transformer, tasks: Sequence[Task], params: SamplingParams) -> list[Score]:
    device = next(model.parameters()).device
    longest = max(map(len, tasks))
    # Filled up on the right: attention is causal, so nothing that counts sees it.
    rows = [[*task.prompt, *task.truth, *[0] * (longest - len(task))] for task in tasks]
    hidden_BTH = model.hidden(torch.tensor(rows, device=device))
    row_N = [row for row, task in enumerate(tasks) for _ in task.truth]
    place_N = [len(task.prompt) - 1 + step for task in tasks for step in range(len(task.truth))]
    truth_N = torch.tensor([token for task in tasks for token in task.truth], device=device)
    hidden_NH = hidden_BTH[row_N, place_N]
    values: list[Tensor] = []
    step = max(LOGITS_AT_ONCE // model.config.vocab_size, 1)
    for start in range(0, len(truth_N), step):
        logits_NV = model.lm_head(hidden_NH[start : start + step]).float()
        truth = truth_N[start : start + step]
        plain_N = logits_NV.gather(1, truth[:, None])[:, 0] - logits_NV.logsumexp(-1)
        is_best_N = (logits_NV.argmax(-1) == truth).double()
        values.append(torch.stack([plain_N.double(), scheme_log_probs(logits_NV, truth, params).double(), is_best_N]))
    return _split(torch.cat(values, dim=1).cpu(), tasks)


def _split(values_3N: Tensor, tasks: Sequence[Task]) -> list[Score]:
    scores: list[Score] = []
    for plain, scheme, is_best in zip(
        *(row.split([len(task.truth) for task in tasks]) for row in values_3N), strict=True
    ):
        right = int(is_best.cumprod(0).sum())
        scores.append(Score(float(plain.sum()), float(scheme.sum()), right, right == len(is_best)))
    return scores
