"""Typing along: the rest of a suggestion, where it goes on, and nothing anywhere else."""

from hypothesis import given
from hypothesis import strategies as st

from starsmith.inference.typing_along import Ended, Rest, Suggestion, TypingAlong, place_of

PREFIX, SUFFIX = "def f(x):\n    ", "\nprint(f(1))\n"
TEXT = "return x + 1"


def remembered(prefix: str = PREFIX, text: str = TEXT, ended: Ended | None = "stop") -> TypingAlong:
    memory = TypingAlong()
    memory.remember("s", Suggestion(place_of(prefix, SUFFIX, "manner"), text, ended))
    return memory


def rest(
    memory: TypingAlong,
    prefix: str,
    *,
    suffix: str = SUFFIX,
    manner: str = "manner",
    session: str = "s",
    repeats: bool = True,
) -> Rest | None:
    return memory.rest(session, prefix, place_of(prefix, suffix, manner), repeats=repeats)


@given(typed=st.integers(0, len(TEXT) - 1))
def test_who_types_a_suggestion_gets_the_rest_of_it(typed: int) -> None:
    assert rest(remembered(), PREFIX + TEXT[:typed]) == Rest(TEXT[typed:], "stop")


def test_who_types_something_else_gets_nothing() -> None:
    memory = remembered()

    assert rest(memory, PREFIX + "res") is None
    assert rest(memory, PREFIX + TEXT + "x") is None
    assert rest(memory, "x" + PREFIX) is None
    assert rest(memory, "D" + PREFIX[1:] + "re") is None
    assert rest(memory, PREFIX[:-1]) is None


def test_a_suggestion_that_is_typed_to_its_end_asks_the_model_again() -> None:
    assert rest(remembered(), PREFIX + TEXT) is None
    assert rest(remembered(text=TEXT + "\n  "), PREFIX + TEXT) is None


def test_another_suffix_manner_or_session_has_no_part_in_it() -> None:
    memory = remembered()

    assert rest(memory, PREFIX + "re", suffix=")" + SUFFIX) is None
    assert rest(memory, PREFIX + "re", manner="other") is None
    assert rest(memory, PREFIX + "re", session="other") is None


def test_a_request_that_is_drawn_anew_is_not_answered_from_memory_until_something_is_typed() -> None:
    memory = remembered()

    assert rest(memory, PREFIX, repeats=False) is None
    assert rest(memory, PREFIX + "r", repeats=False) == Rest(TEXT[1:], "stop")


def test_an_answer_that_was_broken_off_is_only_a_draft() -> None:
    memory = remembered(ended=None)

    assert rest(memory, PREFIX) is None
    assert memory.latest("s") == (PREFIX, TEXT)
    assert memory.latest("other") == ("", "")


def test_deleting_goes_back_to_what_was_suggested_there() -> None:
    memory = remembered()
    memory.remember("s", Suggestion(place_of(PREFIX + "if", SUFFIX, "manner"), " x > 1:", "stop"))

    assert rest(memory, PREFIX + "if") == Rest(" x > 1:", "stop")
    assert rest(memory, PREFIX) == Rest(TEXT, "stop")


def test_a_window_that_moved_by_a_line_is_the_same_place() -> None:
    lines = [f"line_{number} = {number}\n" for number in range(100)]
    memory = remembered(prefix="".join(lines), text="a = 1\nb = 2\n")

    assert rest(memory, "".join(lines[1:]) + "a = 1\nb") == Rest(" = 2\n", "stop")
    assert rest(memory, "".join(lines[2:]).replace("line_98", "line_x") + "a = 1\nb") is None


def test_an_empty_answer_is_remembered_for_its_own_place_only() -> None:
    memory = remembered(text="")

    assert rest(memory, PREFIX) == Rest("", "stop")
    assert rest(memory, PREFIX + "r") is None


def test_the_session_that_was_used_least_lately_is_forgotten() -> None:
    memory = TypingAlong(sessions=2)
    for session in ("a", "b", "a", "c"):
        memory.remember(session, Suggestion(place_of(PREFIX, SUFFIX, "manner"), TEXT, "stop"))

    assert [rest(memory, PREFIX, session=name) is not None for name in "abc"] == [True, False, True]
