"""Text out of tokens: no half characters, no stop strings, no control tokens."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from starsmith.inference.completion import Completer, CompletionRequest
from starsmith.inference.engine import GeneratedToken, SamplingParams, never
from starsmith.tokenizer.bpe import END_OF_TEXT, FILE_SEP, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer


class Scripted:
    """An engine that writes given ids whatever the prompt, and remembers the prompt."""

    context_tokens = 64
    vocab_size = 400

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self.prompt: list[int] = []

    def generate(
        self, prompt: Sequence[int], params: SamplingParams, cancelled: Callable[[], bool] = never
    ) -> Iterator[GeneratedToken]:
        self.prompt = list(prompt)
        for token_id in self.ids[: params.max_tokens]:
            if cancelled():
                return
            yield GeneratedToken(token_id)
            if token_id in params.stop_tokens:
                return

    def score(self, ids: Sequence[int]) -> list[float]:
        return [0.0] * (len(ids) - 1)


@pytest.fixture
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_directory)


def single_bytes(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text with one token for each byte, the hardest case for decoding as it goes."""
    by_byte = {tokenizer.decode_bytes([token_id]): token_id for token_id in range(38, tokenizer.vocab_size)}
    return [by_byte[bytes([byte])] for byte in text.encode()]


def request(prefix: str = "x = ", **changes: object) -> CompletionRequest:
    return CompletionRequest(**{"prefix": prefix, "params": SamplingParams(max_tokens=50), **changes})  # type: ignore[arg-type]


def test_characters_come_whole_though_their_bytes_come_one_by_one(tokenizer: Tokenizer) -> None:
    text = "é漢🙂x"
    completer = Completer(Scripted(single_bytes(tokenizer, text)), tokenizer)

    pieces = [chunk.text for chunk in completer.stream(request()) if chunk.text]

    assert pieces == list(text)


def test_a_stop_string_across_tokens_is_never_shown(tokenizer: Tokenizer) -> None:
    completer = Completer(Scripted(single_bytes(tokenizer, "ab\n\ncd")), tokenizer)

    chunks = list(completer.stream(request(stop=("\n\nc", "zz"))))

    assert "".join(chunk.text for chunk in chunks) == "ab"
    assert chunks[-1].finish_reason == "stop"


def test_what_only_began_like_a_stop_string_is_shown_in_the_end(tokenizer: Tokenizer) -> None:
    completer = Completer(Scripted(single_bytes(tokenizer, "ab\n\n")), tokenizer)

    completion = completer.complete(request(stop=("\n\n\n",)))

    assert completion.text == "ab\n\n"
    assert completion.finish_reason == "length"


@pytest.mark.parametrize("control", [END_OF_TEXT, FILE_SEP, FIM_PREFIX])
def test_a_control_token_ends_the_completion_and_is_no_text(tokenizer: Tokenizer, control: int) -> None:
    completer = Completer(Scripted([*tokenizer.encode("alpha"), control, *tokenizer.encode("beta")]), tokenizer)

    completion = completer.complete(request())

    assert completion.text == "alpha"
    assert completion.finish_reason == "stop"


def test_the_length_limit_is_named_as_the_reason(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("alpha beta gamma")
    completer = Completer(Scripted(ids), tokenizer)

    completion = completer.complete(request(params=SamplingParams(max_tokens=2)))

    assert completion.finish_reason == "length"
    assert completion.completion_tokens == 2
    assert completion.text == tokenizer.decode(ids[:2])


def test_a_cancelled_completion_says_so(tokenizer: Tokenizer) -> None:
    completer = Completer(Scripted(tokenizer.encode("alpha beta gamma")), tokenizer)
    calls = iter([False, False])

    completion = completer.complete(request(), lambda: next(calls, True))

    assert completion.finish_reason == "cancelled"
    assert completion.completion_tokens == 2


def test_tokens_of_all_chunks_are_the_tokens_of_the_completion(tokenizer: Tokenizer) -> None:
    ids = single_bytes(tokenizer, "é漢 x\n\ny")
    completer = Completer(Scripted(ids), tokenizer)

    chunks = list(completer.stream(request(stop=("\n\ny",))))

    assert [token.id for chunk in chunks for token in chunk.tokens] == ids


def test_a_suffix_makes_an_infilling_prompt(tokenizer: Tokenizer) -> None:
    engine = Scripted([])
    Completer(engine, tokenizer).complete(request("a = ", suffix="\nb"))

    assert engine.prompt == [
        FIM_PREFIX, *tokenizer.encode("a = "), FIM_SUFFIX, *tokenizer.encode("\nb"), FIM_MIDDLE,
    ]  # fmt: skip


def test_markers_in_the_prefix_are_text_unless_asked_for(tokenizer: Tokenizer) -> None:
    engine = Scripted([])
    completer = Completer(engine, tokenizer)
    rendered = "<fim_prefix>a<fim_suffix>b<fim_middle>"

    completer.complete(request(rendered))
    as_text = engine.prompt
    completer.complete(request(rendered, special_tokens=True))

    assert min(as_text) >= 38
    assert [token_id for token_id in engine.prompt if token_id < 38] == [FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE]


def test_a_long_prefix_keeps_its_end(tokenizer: Tokenizer) -> None:
    engine = Scripted([])
    prefix = "alpha = 1\n" * 100 + "omega = "

    Completer(engine, tokenizer).complete(request(prefix, params=SamplingParams(max_tokens=16)))

    assert len(engine.prompt) == 64 - 16
    assert prefix.endswith(tokenizer.decode(engine.prompt))


def test_an_empty_prefix_begins_a_new_text(tokenizer: Tokenizer) -> None:
    engine = Scripted([])

    Completer(engine, tokenizer).complete(request(""))

    assert engine.prompt == [END_OF_TEXT]
