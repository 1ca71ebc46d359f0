"""From logits to a token: temperature, top-k and nucleus, as pure functions of logits and one uniform number.

The number belongs to the seed and the token's place in the sequence, not to a generator that has a state. So a text
does not depend on what else runs, on how the prompt was read, or on whether tokens were guessed before.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from starsmith.core.errors import EngineError
from starsmith.inference.engine import GeneratedToken, SamplingParams

LOWEST_TEMPERATURE = 1e-6  # below, quotients of float32 logits overflow; the most probable token wins long before
NUCLEUS_FIRST = (
    256  # tokens sorted at first for a nucleus, then 16 times as many: a whole vocabulary takes milliseconds
)
_MASK = (1 << 64) - 1


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that chooses the token at `position`: splitmix64 (Steele et al. 2014), started at a hash."""
    state = (_mix(seed & _MASK) + (position + 1) * 0x9E3779B97F4A7C15) & _MASK
    return (_mix(state) >> 11) * 2.0**-53


def choices(logits_NV: Tensor, params: SamplingParams, seed: int, position: int) -> Iterator[GeneratedToken]:
    """The tokens at `position` and behind it, by a row of logits each; none is chosen before it is asked for."""
    if params.temperature == 0 and params.top_logprobs is None:  # all at once: a guess should cost next to nothing
        array = logits_NV.numpy()
        for row, token in enumerate(array.argmax(1).tolist()):
            if not math.isfinite(array[row, token]):  # not a number, if there is one, is the greatest
                raise not_numbers()
            yield GeneratedToken(token)
        return
    for row, logits_V in enumerate(logits_NV):
        yield choose(logits_V, params, uniform(seed, position + row))


def choose(logits_V: Tensor, params: SamplingParams, number: float) -> GeneratedToken:
    """The next token, with its log-probability under the unmodified distribution where that is asked for.

    logits_V  float32, on the CPU
    number    in [0, 1): equally likely numbers give tokens by their probabilities
    """
    most, at = logits_V.max(-1)  # not a number, if there is one, is the greatest
    if not math.isfinite(most):
        raise not_numbers()
    token = int(at) if params.temperature == 0 else _draw(*_candidates(logits_V, params), number)
    if params.top_logprobs is None:
        return GeneratedToken(token)
    logprobs_V = logits_V.log_softmax(-1)
    values, ids = logprobs_V.topk(min(params.top_logprobs, logits_V.numel()))
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return GeneratedToken(token, float(logprobs_V[token]), top)


def distribution(logits_V: Tensor, params: SamplingParams) -> Tensor:
    """(V,) probabilities after temperature, then top-k, then nucleus (Holtzman et al. 2019, arXiv 1904.09751)."""
    ids, probabilities = _candidates(logits_V, params)
    return probabilities if ids is None else torch.zeros_like(logits_V).index_copy(0, ids, probabilities)


def _candidates(logits_V: Tensor, params: SamplingParams) -> tuple[Tensor | None, Tensor]:
    """Tokens that may be drawn, in the order of ids, and their probabilities; None: all."""
    logits_V = logits_V / max(params.temperature, LOWEST_TEMPERATURE)
    ids = None
    if params.top_k is not None and params.top_k < logits_V.numel():
        ids = _greatest(logits_V, params.top_k)
        logits_V = logits_V[ids]
    probabilities = logits_V.softmax(-1)
    if params.top_p < 1:
        kept = _nucleus(probabilities, params.top_p)
        ids = kept if ids is None else ids[kept]
        probabilities = probabilities[kept] / probabilities[kept].sum()
    return ids, probabilities


def _greatest(values: Tensor, count: int) -> Tensor:
    """Where the greatest values are, in order, with all that are equal to the last of them."""
    array = values.numpy()
    return torch.from_numpy(np.flatnonzero(array >= np.partition(array, -count)[-count]))


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Where the most probable are, in order: one stays when what comes before it does not yet reach top_p."""
    for first in (NUCLEUS_FIRST, 16 * NUCLEUS_FIRST, probabilities.numel()):
        places = _greatest(probabilities, min(first, probabilities.numel()))
        ordered, order = probabilities[places].sort(descending=True, stable=True)
        reached = ordered.cumsum(-1)
        if reached[-1] >= top_p:
            break
    return places[order[reached - ordered < top_p].sort().values]


def _draw(ids: Tensor | None, probabilities: Tensor, number: float) -> int:
    """The token at which the sum of the probabilities exceeds `number` times their total."""
    sums = probabilities.double().cumsum(-1).numpy()
    total = float(sums[-1])
    place = int(sums.searchsorted(min(number * total, math.nextafter(total, 0)), side="right"))
    return place if ids is None else int(ids[place])


def not_numbers() -> EngineError:
    """The error for logits among which there is none to choose."""
    return EngineError(
        "the model gave logits that are not finite numbers", hint="check the checkpoint's weights: starsmith verify"
    )


def _mix(state: int) -> int:
    """A bijection of 64-bit numbers in which every bit depends on all."""
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK
    return state ^ state >> 31
