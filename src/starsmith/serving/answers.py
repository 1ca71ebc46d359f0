"""Results become the JSON that both protocols of `/v1/completions` accept: OpenAI's shape, a superset of Tabby's.

Every choice carries `starsmith`: the model that wrote it and, where attribution is on, what its text shares with the
corpus. The headers of an answer have the sum of that.
"""

import codecs
import itertools
import time
import uuid
from collections.abc import Sequence
from typing import Any

from starsmith.inference.engine import GeneratedToken
from starsmith.serving.attribution import Attribution, count_kinds
from starsmith.serving.service import Asker, Finished, ModelCard, Piece, Service
from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from starsmith.tokenizer.fim import STOP_TOKENS

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


def usage_json(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's account of an answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def usage_of(answers: Sequence[Finished]) -> dict[str, int]:
    """The account of all choices; a prompt that several choices share counts for each."""
    return usage_json(sum(done.prompt_tokens for done in answers), sum(len(done.tokens) for done in answers))


def logprobs_json(
    tokenizer: Tokenizer, tokens: Sequence[GeneratedToken], *, start: int = 0, length: int | None = None
) -> dict[str, Any]:
    """OpenAI's four parallel lists, for tokens that the model wrote.

    start   offset of the first token in the choice's text
    length  characters that the client gets; tokens behind them belong to a stop string, and are left out
    """
    written = list(itertools.takewhile(lambda token: token.id not in STOP_TOKENS, tokens))
    offsets = _offsets([tokenizer.decode_bytes([token.id]) for token in written])
    shown = [pair for pair in zip(written, offsets, strict=True) if length is None or pair[1] < length]
    return {
        "tokens": [tokenizer.decode([token.id]) for token, _ in shown],
        "token_logprobs": [token.logprob for token, _ in shown],
        "top_logprobs": [
            {text_of(tokenizer, [other]): value for other, value in token.top_logprobs} for token, _ in shown
        ],
        "text_offset": [start + offset for _, offset in shown],
    }


def echo_logprobs_json(tokenizer: Tokenizer, tokens: Sequence[GeneratedToken]) -> dict[str, Any]:
    """The same four lists for an echoed prompt, whose control tokens show; its alternatives are not known."""
    return {
        "tokens": [text_of(tokenizer, [token.id]) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [None] * len(tokens),
        "text_offset": _offsets([_named_bytes(tokenizer, token.id) for token in tokens]),
    }


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids, control tokens by their names."""
    return b"".join(_named_bytes(tokenizer, token) for token in ids).decode("utf-8", errors="replace")


def _named_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    return SPECIAL_TOKENS[token].encode() if token < len(SPECIAL_TOKENS) else tokenizer.decode_bytes([token])


def _offsets(pieces: Sequence[bytes]) -> list[int]:
    """How many whole characters stand before each piece."""
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    lengths = [len(decode(piece)) for piece in pieces]
    return list(itertools.accumulate(lengths, initial=0))[: len(pieces)]
