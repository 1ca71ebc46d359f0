"""Infilling formats of other people's models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import ConfigError
from starsmith.inference.backends.templates import TEMPLATES, Around, fit, named, recognise
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, SPECIAL_TOKENS

AROUND = Around("BEFORE", "AFTER", "")
# As the papers and model cards of the families have them.
PUBLISHED = {
    "starcoder": "<fim_prefix>BEFORE<fim_suffix>AFTER<fim_middle>",
    "granite": "<fim_prefix>BEFORE<fim_suffix>AFTER<fim_middle>",
    "qwen": "<|fim_prefix|>BEFORE<|fim_suffix|>AFTER<|fim_middle|>",
    "deepseek": "<｜fim▁begin｜>BEFORE<｜fim▁hole｜>AFTER<｜fim▁end｜>",
    "codellama": "<PRE> BEFORE <SUF>AFTER <MID>",
    "codestral": "[SUFFIX]AFTER[PREFIX]BEFORE",
    "santacoder": "<fim-prefix>BEFORE<fim-suffix>AFTER<fim-middle>",
    "mellum": "<fim_suffix>AFTER<fim_prefix>BEFORE<fim_middle>",
}


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_prompt_is_written_as_its_family_was_trained(family: str) -> None:
    assert TEMPLATES[family].render(AROUND, "psm") == PUBLISHED[family]


@pytest.mark.parametrize("layout", ["psm", "spm", "anchored"])
def test_starcoders_format_is_the_one_of_our_own_prompts(layout: fim.PromptLayout) -> None:
    ids = Around([100, 101], [102], [103] if layout == "anchored" else [])

    parts = TEMPLATES["starcoder"].arrange(ids, ([FIM_PREFIX], [FIM_SUFFIX], [FIM_MIDDLE]), layout)

    ours = fim.prompt(ids.before, ids.after, layout, typed=ids.typed)
    assert [token for part in parts for token in part] == ours


def test_the_suffix_comes_first_only_where_a_family_learnt_it() -> None:
    assert TEMPLATES["starcoder"].render(AROUND, "spm") == "<fim_prefix><fim_suffix>AFTER<fim_middle>BEFORE"
    assert TEMPLATES["qwen"].render(AROUND, "spm") == PUBLISHED["qwen"]


def test_what_is_typed_of_a_line_stands_behind_the_middle_token() -> None:
    prompt = TEMPLATES["qwen"].render(Around("one\n", "three\n", "tw"), "anchored")

    assert prompt == "<|fim_prefix|>one\n<|fim_suffix|>three\n<|fim_middle|>tw"


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_control_token_in_a_users_file_is_none_in_the_prompt(family: str) -> None:
    template = TEMPLATES[family]
    text = "".join(template.controls)

    prompt = template.render(Around(text, text, text), "psm")

    plain = template.render(Around("", "", ""), "psm")
    assert all(prompt.count(token) == plain.count(token) for token in template.ends)


@pytest.mark.parametrize(
    ("model", "vocabulary", "family"),
    [
        ("StarCoder2 3B", SPECIAL_TOKENS, "starcoder"),
        ("granite-3b-code", SPECIAL_TOKENS, "granite"),
        ("Mellum-4b-base", SPECIAL_TOKENS, "mellum"),
        ("Qwen2.5 Coder 7B", ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"), "qwen"),
        ("deepseek-coder-6.7b", ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"), "deepseek"),
        ("codellama_codellama-7b-hf", ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"), "codellama"),
        ("codestral-22b", ("[PREFIX]", "[SUFFIX]", "[MIDDLE]"), "codestral"),
        ("granite-4-chat", ("<|begin_of_text|>",), None),
        ("llama-3-8b", ("<|begin_of_text|>",), None),
    ],
)
def test_a_model_is_known_by_its_vocabulary_or_its_name(
    model: str, vocabulary: tuple[str, ...], family: str | None
) -> None:
    assert recognise(model, vocabulary) is (TEMPLATES[family] if family else None)


def test_no_completion_ends_at_what_may_be_html() -> None:
    assert not any("</s>" in template.ends for template in TEMPLATES.values())


def test_an_unknown_family_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="no infilling template 'qwem'") as raised:
        named("qwem")

    assert raised.value.hint == "did you mean 'qwen'?"


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=10), st.integers(-3, 100))
def test_what_fits_is_as_much_as_fits_and_lies_around_the_cursor(
    before: str, after: str, typed: str, room: int
) -> None:
    fitted = fit(Around(before, after, typed), room)

    size = len(fitted.before) + len(fitted.after) + len(fitted.typed)
    assert size == min(max(room, 0), len(before) + len(after) + len(typed))
    assert before.endswith(fitted.before)
    assert after.startswith(fitted.after)
    assert typed.endswith(fitted.typed)
