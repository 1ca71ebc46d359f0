"""From logits to a token: temperature, top-k and nucleus, as pure functions of logits and a generator."""

import torch
from torch import Tensor

from starsmith.inference.engine import GeneratedToken, SamplingParams


def choose(logits_V: Tensor, params: SamplingParams, generator: torch.Generator | None) -> GeneratedToken:
    """The next token, with its log-probability under the unmodified distribution where that is asked for."""
    if params.temperature == 0:
        token = int(logits_V.argmax())
    else:
        probabilities_V = distribution(logits_V, params)
        token = int(torch.multinomial(probabilities_V, 1, generator=generator))
    if params.top_logprobs is None:
        return GeneratedToken(token)
    logprobs_V = logits_V.float().log_softmax(-1)
    values, ids = logprobs_V.topk(min(params.top_logprobs, logits_V.numel()))
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return GeneratedToken(token, float(logprobs_V[token]), top)


def distribution(logits_V: Tensor, params: SamplingParams) -> Tensor:
    """(V,) probabilities after temperature, then top-k, then nucleus (Holtzman et al. 2019, arXiv 1904.09751)."""
    logits_V = logits_V.float() / params.temperature
    if params.top_k is not None and params.top_k < logits_V.numel():
        least = logits_V.topk(params.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < least, -torch.inf)
    probabilities_V = logits_V.softmax(-1)
    if params.top_p < 1:
        ordered, ids = probabilities_V.sort(descending=True, stable=True)
        # A token stays when what comes before it does not yet reach top_p: the most probable one always does.
        cut = ids[ordered.cumsum(-1) - ordered >= params.top_p]
        probabilities_V = probabilities_V.index_fill(-1, cut, 0.0)
        probabilities_V = probabilities_V / probabilities_V.sum()
    return probabilities_V
