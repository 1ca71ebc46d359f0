import pytest

from starsmith.serving.prompt import editor_stops, has_control_tokens, language_of


@pytest.mark.parametrize("suffix", ["", "\n", ")\n", '"):\n    pass', "  \nreturn x", "\r\nx"])
def test_at_the_end_of_a_line_a_completion_may_have_several_lines(suffix: str) -> None:
    assert "\n\n" in editor_stops("python", suffix)


@pytest.mark.parametrize("suffix", ["x\n", " + 1", ") + y\nz"])
def test_in_the_middle_of_a_line_it_has_one(suffix: str) -> None:
    assert editor_stops("python", suffix) == ("\n",)


def test_stops_follow_the_language_whatever_an_editor_calls_it() -> None:
    assert "\ndef " in editor_stops("Python", "")
    assert editor_stops("typescriptreact", "") == editor_stops("typescript", "")
    assert editor_stops("cobol", "") == editor_stops(None, "") == ("\n\n", "\n\r\n")


def test_a_language_is_known_by_its_extension() -> None:
    assert [language_of(name) for name in ("a.py", "b.H", "c.tsx", "Makefile")] == ["python", "c", "typescript", None]


def test_control_tokens_in_a_prompt_are_noticed() -> None:
    assert has_control_tokens("<fim_prefix>x")
    assert not has_control_tokens("if a < b > c: fim_prefix")
