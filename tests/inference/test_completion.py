"""Text out of tokens: no half characters, no stop strings, no control tokens."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from starsmith.inference.completion import Completer, CompletionRequest
from starsmith.inference.engine import GeneratedToken, GenerationRequest, SamplingParams, never
from starsmith.inference.trimming import Manners
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import END_OF_TEXT, FILE_SEP, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, REPO_NAME, Tokenizer


class Scripted:
    """An engine that writes given ids whatever it is asked, and remembers that."""

    vocab_size = 400

    def __init__(self, ids: Sequence[int], *, context_tokens: int = 64) -> None:
        self.context_tokens = context_tokens
        self.written = 0
        self.ids = list(ids)
        self.requests: list[GenerationRequest] = []

    def generate(self, request: GenerationRequest, cancelled: Callable[[], bool] = never) -> Iterator[GeneratedToken]:
        self.requests.append(request)
        for token_id in self.ids[: request.params.max_tokens]:
            if cancelled():
                return
            self.written += 1
            yield GeneratedToken(token_id)
            if token_id in request.params.stop_tokens:
                return

    @property
    def prompt(self) -> list[int]:
        return list(self.requests[-1].prompt)

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

    completion = completer.complete(request(stop=("\n\n\n",), params=SamplingParams(max_tokens=4)))

    assert completion.text == "ab\n\n"
    assert completion.finish_reason == "length"


@pytest.mark.parametrize("control", [END_OF_TEXT, FILE_SEP, FIM_PREFIX])
def test_a_control_token_ends_the_completion_and_is_no_text(tokenizer: Tokenizer, control: int) -> None:
    completer = Completer(Scripted([*tokenizer.encode("alpha"), control, *tokenizer.encode("beta")]), tokenizer)

    completion = completer.complete(request())

    assert completion.text == "alpha"
    assert completion.finish_reason == "stop"


def test_an_id_that_the_vocabulary_does_not_have_ends_the_completion(tokenizer: Tokenizer) -> None:
    engine = Scripted([*tokenizer.encode("alpha"), tokenizer.vocab_size, *tokenizer.encode("beta")])

    completion = Completer(engine, tokenizer).complete(request())

    assert (completion.text, completion.finish_reason) == ("alpha", "stop")
    assert completion.completion_tokens == len(tokenizer.encode("alpha"))


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


def test_an_empty_file_has_a_prompt_too(tokenizer: Tokenizer) -> None:
    engine = Scripted([])

    for layout in ("psm", "spm", "anchored"):
        Completer(engine, tokenizer).complete(request("", suffix="", layout=layout))

    assert [sorted(asked.prompt) for asked in engine.requests] == [[FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX]] * 3


# prompts that do not fit, and prompts with other files


def test_a_rendered_infill_that_does_not_fit_keeps_its_control_tokens(tokenizer: Tokenizer) -> None:
    engine = Scripted([])
    rendered = f"<fim_prefix>{'alpha = 1' * 100}near = <fim_suffix>{'omega = 2' * 100}<fim_middle>"

    for prefix in (rendered, tokenizer.encode_prompt(rendered)):
        Completer(engine, tokenizer).complete(
            request(prefix, special_tokens=True, params=SamplingParams(max_tokens=16))  # type: ignore[arg-type]
        )

        assert len(engine.prompt) == 64 - 16
        assert [token_id for token_id in engine.prompt if token_id < 38] == [FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE]
        assert "near = " in tokenizer.decode(engine.prompt)


def test_without_tokens_to_write_a_prompt_still_leaves_the_engine_room(tokenizer: Tokenizer) -> None:
    engine = Scripted([])

    Completer(engine, tokenizer).complete(request("alpha = 1\n" * 100, params=SamplingParams(max_tokens=0)))

    assert len(engine.prompt) == 63


def test_other_files_stand_in_front_as_the_files_of_a_repository(tokenizer: Tokenizer) -> None:
    engine = Scripted([], context_tokens=400)
    repository = fim.Repository("team/fib", "own.py", (("other.py", "alpha = 1\n"),))

    Completer(engine, tokenizer).complete(request("a = ", suffix="\nb", repository=repository, layout="spm"))

    encode = tokenizer.encode
    assert engine.prompt == [
        REPO_NAME, *encode("team/fib"), FILE_SEP, *encode("other.py\n"), *encode("alpha = 1\n"),
        FILE_SEP, FIM_PREFIX, FIM_SUFFIX, *encode("\nb"), FIM_MIDDLE, *encode("own.py\n"), *encode("a = "),
    ]  # fmt: skip


def test_without_a_name_of_the_repository_its_files_have_none(tokenizer: Tokenizer) -> None:
    engine = Scripted([], context_tokens=400)
    repository = fim.Repository(None, "own.py", (("other.py", "alpha = 1\n"),))

    Completer(engine, tokenizer).complete(request("a = ", suffix="\nb", repository=repository))

    encode = tokenizer.encode
    assert engine.prompt == [
        FILE_SEP, *encode("alpha = 1\n"), FILE_SEP,
        FIM_PREFIX, *encode("a = "), FIM_SUFFIX, *encode("\nb"), FIM_MIDDLE,
    ]  # fmt: skip


def test_other_files_stay_while_the_file_grows_and_never_have_more_than_a_third(tokenizer: Tokenizer) -> None:
    engine = Scripted([], context_tokens=350)
    completer = Completer(engine, tokenizer)
    files = tuple((f"other_{number}.py", "alpha = 1\n" * 4) for number in range(20))
    repository = fim.Repository("team/fib", "own.py", files)
    contexts = set()

    for length in range(0, 400, 20):
        completer.complete(request("x = 1\n" * length, suffix="\nb" * 300, repository=repository))
        assert len(engine.prompt) <= 300
        contexts.add(tuple(engine.prompt[: engine.prompt.index(FIM_PREFIX)]))

    (context,) = contexts
    assert 50 < len(context) <= 100
    assert "other_19" in tokenizer.decode(context)


# sessions: what is remembered, superseded, drafted


def editor(prefix: str, **changes: object) -> CompletionRequest:
    return request(prefix, **{"suffix": "\nb", "session": "s", **changes})


def test_typing_a_suggestion_costs_no_call_of_the_model(tokenizer: Tokenizer) -> None:
    engine = Scripted([*tokenizer.encode("alpha + beta"), END_OF_TEXT])
    completer = Completer(engine, tokenizer)

    texts = [completer.complete(editor(prefix)).text for prefix in ("x = ", "x = al", "x = alpha +", "x = ")]

    assert texts == ["alpha + beta", "pha + beta", " beta", "alpha + beta"]
    assert len(engine.requests) == 1
    assert completer.counts == {"completions": 4, "typed_along": 3}


def test_typing_something_else_asks_the_model_again(tokenizer: Tokenizer) -> None:
    engine = Scripted([*tokenizer.encode("alpha"), END_OF_TEXT])
    completer = Completer(engine, tokenizer)

    for prefix, suffix in (("x = ", "\nb"), ("x = be", "\nb"), ("x = al", ")\nb"), ("x = alpha", "\nb")):
        completer.complete(editor(prefix, suffix=suffix))

    assert len(engine.requests) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"session": None},
        {"suffix": None},
        {"params": SamplingParams(max_tokens=50, top_logprobs=0)},
        {"params": SamplingParams(max_tokens=50, temperature=0.5)},
    ],
)
def test_only_an_editors_repeated_question_is_answered_from_memory(
    tokenizer: Tokenizer, changes: dict[str, object]
) -> None:
    engine = Scripted([*tokenizer.encode("alpha"), END_OF_TEXT])
    completer = Completer(engine, tokenizer)

    for _ in range(2):
        completer.complete(editor("x = ", **changes))

    assert len(engine.requests) == 2


def test_a_completion_that_was_broken_off_is_not_the_answer_but_the_draft_of_the_next(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("alpha + beta")
    engine = Scripted([*ids, END_OF_TEXT])
    completer = Completer(engine, tokenizer, drafting=True)
    stream = completer.stream(editor("x = "))
    for _ in ids:
        next(stream)
    stream.close()  # type: ignore[attr-defined]

    again = completer.complete(editor("x = "))

    assert again.text == "alpha + beta"
    drafter = engine.requests[1].drafter
    assert drafter is not None
    assert list(drafter.propose([*engine.prompt, *ids[:2]], 1)) == [ids[2]]


def test_drafts_come_from_the_prompt_and_from_the_given_lookup_if_wanted(tokenizer: Tokenizer) -> None:
    engine = Scripted([])
    Completer(engine, tokenizer).complete(request())
    Completer(engine, tokenizer, drafting=True, lookup=lambda ids, limit: [99]).complete(request())

    without, drafter = (asked.drafter for asked in engine.requests)

    assert without is None
    assert drafter is not None
    assert list(drafter.propose([50, 51, 52], 4)) == [99]


def test_an_engine_that_stops_early_was_told_to_by_a_newer_request(tokenizer: Tokenizer) -> None:
    engine = Scripted(tokenizer.encode("alpha"))
    completer = Completer(engine, tokenizer)

    completion = completer.complete(editor("x = "))

    assert (completion.text, completion.finish_reason) == ("alpha", "cancelled")
    assert engine.requests[0].session == "s"


# manners


def test_where_a_manner_ends_the_text_the_engine_stops(tokenizer: Tokenizer) -> None:
    engine = Scripted(single_bytes(tokenizer, "g()\n    x = 1\n" + "y" * 20))
    completer = Completer(engine, tokenizer)

    completion = completer.complete(request("        ", suffix="\n", manners=Manners(end_of_block=True)))

    assert (completion.text, completion.finish_reason) == ("g()", "stop")
    assert engine.written < 12
    assert completion.completion_tokens == engine.written


def test_an_editors_manners_hold_for_what_is_remembered(tokenizer: Tokenizer) -> None:
    engine = Scripted([*single_bytes(tokenizer, "value)"), END_OF_TEXT])
    completer = Completer(engine, tokenizer)
    manners = Manners.of_editor()

    texts = [
        completer.complete(editor(prefix, suffix=")\n", manners=manners)).text for prefix in ("print(", "print(val")
    ]

    assert texts == ["value", "ue"]
