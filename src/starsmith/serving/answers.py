"""Results become the JSON that both protocols of `/v1/completions` accept: OpenAI's shape, a superset of Tabby's.

Every choice carries `starsmith`: the model that wrote it and, when the server has an index, the sources of its text.
"""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from starsmith.inference.engine import GeneratedToken
from starsmith.serving.service import Finished, ModelCard, Piece
from starsmith.tokenizer.bpe import Tokenizer
from starsmith.tokenizer.fim import STOP_TOKENS


def envelope(card: ModelCard) -> dict[str, Any]:
    """What every answer, and every chunk of a stream, begins with."""
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": card.id,
    }


def choice_json(finished: Finished, card: ModelCard, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    """One choice of a whole answer."""
    return {
        "index": finished.job.index,
        "text": finished.job.echo + finished.completion.text,
        "finish_reason": finished.completion.finish_reason,
        "logprobs": logprobs,
        "starsmith": provenance_json(finished.sources, card),
    }


def piece_json(piece: Piece, card: ModelCard, text: str, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    """One choice of a chunk; the provenance comes with the last chunk."""
    choice = {
        "index": piece.job.index,
        "text": text,
        "finish_reason": piece.chunk.finish_reason,
        "logprobs": logprobs,
    }
    if piece.chunk.finish_reason is not None:
        choice["starsmith"] = provenance_json(piece.sources, card)
    return choice


def provenance_json(sources: list[dict[str, Any]] | None, card: ModelCard) -> dict[str, Any]:
    """Who wrote the text and where it was seen; no `sources` key means that nobody looked."""
    written: dict[str, Any] = {"model": {"id": card.id, "artefact": card.artefact}}
    return written if sources is None else {"sources": sources, **written}


def usage_json(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's account of an answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def usage_of(answers: Sequence[Finished]) -> dict[str, int]:
    """The account of all choices; a prompt that several choices share counts for each."""
    completions = [finished.completion for finished in answers]
    return usage_json(sum(done.prompt_tokens for done in completions), sum(done.completion_tokens for done in completions))


def logprobs_json(
    tokenizer: Tokenizer,
    tokens: Sequence[GeneratedToken],
    *,
    start: int = 0,
    length: int | None = None,
) -> dict[str, Any]:
    """OpenAI's four parallel lists.

    start   offset of the first token in the choice's text
    length  characters that the client gets; tokens behind them belong to a stop string, and are left out
    """
    table: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    written = b""
    for token in tokens:
        offset = len(written.decode("utf-8", errors="ignore"))
        if token.id in STOP_TOKENS or (length is not None and offset >= length):
            break
        table["tokens"].append(tokenizer.decode([token.id]))
        table["token_logprobs"].append(token.logprob)
        table["top_logprobs"].append({tokenizer.decode([other]): value for other, value in token.top_logprobs})
        table["text_offset"].append(start + offset)
        written += tokenizer.decode_bytes([token.id])
    return table
