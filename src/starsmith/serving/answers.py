"""Results become the JSON that both protocols of `/v1/completions` accept: OpenAI's shape, a superset of Tabby's.

Every choice carries `starsmith`: the model that wrote it and, where attribution is on, what its text shares with the
corpus. The headers of an answer have the sum of that.
"""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from starsmith.inference.text_engine import Usage
from starsmith.serving.attribution import Attribution, count_kinds
from starsmith.serving.cards import ModelCard
from starsmith.serving.service import Asker, Finished, Piece, Service

# Values are dictionaries as RFC 9651 has them, so that proxies and logs can read them: policy=block, source=1, ...
ATTRIBUTION_HEADER = "X-Starsmith-Attribution"
INDEX_HEADER = "X-Starsmith-Index"
TAINTED_HEADER = "X-Starsmith-Tainted"
PROVENANCE_HEADERS = (ATTRIBUTION_HEADER, INDEX_HEADER, TAINTED_HEADER)
ID_DIGITS = 16  # of an artefact's id, in a header


def envelope(card: ModelCard) -> dict[str, Any]:
    """What every answer, and every chunk of a stream, begins with."""
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": card.id,
    }


def choice_json(finished: Finished, service: Service, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    """One choice of a whole answer."""
    return {
        "index": finished.job.index,
        "text": finished.job.echo + finished.text,
        "finish_reason": finished.finish_reason,
        "logprobs": logprobs,
        "starsmith": provenance_json(finished.attribution, service),
    }


def piece_json(piece: Piece, service: Service, text: str, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    """One choice of a chunk; the provenance comes with the last chunk."""
    choice = {"index": piece.job.index, "text": text, "finish_reason": piece.finish_reason, "logprobs": logprobs}
    if piece.finish_reason is not None:
        choice["starsmith"] = provenance_json(piece.attribution, service)
    return choice


def provenance_json(attribution: Attribution | None, service: Service) -> dict[str, Any]:
    """Who wrote the text and where it was seen; no `attribution` key means that nobody looked."""
    written: dict[str, Any] = {"model": {"id": service.card.id, "artefact": service.card.artefact}}
    if taints := service.taints.read():
        written["tainted"] = [taint.to_json() for taint in taints]
    if attribution is None:
        return written
    return {
        "attribution": [finding.to_json() for finding in attribution.findings],
        "attribution_ms": attribution.milliseconds,
        "index": service.index_id,
        **written,
    }


def provenance_headers(
    service: Service, asker: Asker, attributions: Sequence[Attribution | None] | None = None
) -> dict[str, str]:
    """The same in short, over all choices; a stream's headers leave before anything is found, so it has none."""
    found = [attribution for attribution in attributions or () if attribution is not None]
    counts = [f"{name}={count}" for name, count in count_kinds(found).items()] if found else []
    headers = {ATTRIBUTION_HEADER: ", ".join([f"policy={asker.policy}", *counts])}
    if asker.policy != "off" and service.index_id is not None:
        headers[INDEX_HEADER] = service.index_id[:ID_DIGITS]
    if requests := service.taints.header():
        headers[TAINTED_HEADER] = requests
    return headers


def usage_json(usages: Sequence[Usage | None]) -> dict[str, Any] | None:
    """OpenAI's account of all choices of an answer; None where a backend did not count one of them.

    A prompt that several choices share counts for each.
    """
    counted = [usage for usage in usages if usage is not None]
    if len(counted) < len(usages):
        return None
    read = sum(usage.prompt_tokens for usage in counted)
    written = sum(usage.completion_tokens for usage in counted)
    cached = [usage.cached_tokens for usage in counted if usage.cached_tokens is not None]
    details = {"prompt_tokens_details": {"cached_tokens": sum(cached)}} if len(cached) == len(counted) else {}
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, **details}
