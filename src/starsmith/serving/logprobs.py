"""Tokens become OpenAI's four parallel lists, whether a model's vocabulary is ours or only its spelling is known."""

import codecs
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starsmith.inference.completion import CompletionChunk
from starsmith.inference.engine import GeneratedToken
from starsmith.inference.text_engine import TextChunk, TextToken
from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from starsmith.tokenizer.fim import STOP_TOKENS

Written = GeneratedToken | TextToken  # of our vocabulary, or of a backend's


def written_in(chunk: CompletionChunk) -> Sequence[Written]:
    """The tokens of a chunk, as far as they are told."""
    return chunk.text_tokens if isinstance(chunk, TextChunk) else chunk.tokens


@dataclass(frozen=True)
class _Spelt:
    """A token as it is shown; its own bytes may be a part of a character."""

    text: str
    content: bytes
    logprob: float | None
    top: dict[str, float]


class Table:
    """The lists of one choice, piece by piece.

    tokenizer  of our own vocabulary; None: all tokens are text
    start      offset of the first token in the choice's text
    """

    def __init__(self, tokenizer: Tokenizer | None, *, start: int = 0) -> None:
        self._tokenizer = tokenizer
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._offset = start

    def add(self, tokens: Sequence[Written], *, end: int | None = None) -> dict[str, Any]:
        """The lists of the next tokens.

        end  offset behind all that the client gets; tokens from there on belong to a stop string, and are left out
        """
        shown: list[tuple[_Spelt, int]] = []
        for token in itertools.takewhile(_is_text, tokens):
            spelt, begin = self._spell(token), self._offset
            self._offset += len(self._decode(spelt.content))
            if end is None or begin < end:
                shown.append((spelt, begin))
        return {
            "tokens": [spelt.text for spelt, _ in shown],
            "token_logprobs": [spelt.logprob for spelt, _ in shown],
            "top_logprobs": [spelt.top for spelt, _ in shown],
            "text_offset": [begin for _, begin in shown],
        }

    def _spell(self, token: Written) -> _Spelt:
        if isinstance(token, TextToken):
            content = token.text.encode("utf-8", "surrogatepass")
            return _Spelt(token.text, content, token.logprob, dict(token.top_logprobs))
        tokenizer = self._tokenizer
        assert tokenizer is not None, "ids without their vocabulary"
        known = [pair for pair in token.top_logprobs if pair[0] < tokenizer.vocab_size]  # not of padding
        top = {text_of(tokenizer, [other]): value for other, value in known}
        content = tokenizer.decode_bytes([token.id])
        return _Spelt(content.decode("utf-8", errors="replace"), content, token.logprob, top)


def echo_logprobs_json(tokenizer: Tokenizer, tokens: Sequence[GeneratedToken]) -> dict[str, Any]:
    """The same four lists for an echoed prompt, whose control tokens show; its alternatives are not known."""
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    lengths = [len(decode(_named_bytes(tokenizer, token.id))) for token in tokens]
    return {
        "tokens": [text_of(tokenizer, [token.id]) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [None] * len(tokens),
        "text_offset": list(itertools.accumulate(lengths, initial=0))[: len(tokens)],
    }


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of ids, control tokens by their names."""
    return b"".join(_named_bytes(tokenizer, token) for token in ids).decode("utf-8", errors="replace")


def _is_text(token: Written) -> bool:
    return isinstance(token, TextToken) or token.id not in STOP_TOKENS


def _named_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    return SPECIAL_TOKENS[token].encode() if token < len(SPECIAL_TOKENS) else tokenizer.decode_bytes([token])
