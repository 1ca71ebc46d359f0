import pytest

from starsmith.core.errors import ConfigError
from starsmith.evaluation import problem
from starsmith.evaluation.answers import answer_key
from starsmith.evaluation.problem import Protocol, cut_at


def test_an_answer_ends_before_the_stop_word_that_comes_first() -> None:
    assert cut_at("a\ndef b\nclass c", ("\nclass", "\ndef")) == "a"
    assert cut_at("a", ("", "x")) == "a"


def test_what_is_not_the_published_protocol_is_named_with_both_values() -> None:
    published = Protocol(samples=20, temperature=0.2)

    used = Protocol(samples=5, temperature=0.2, seed=7)

    assert used.deviations(published) == {"samples": {"published": 20, "used": 5}}


@pytest.mark.parametrize(
    "fields", [{"samples": 0}, {"max_tokens": 0}, {"layout": "pms"}, {"temperature": -1.0}, {"top_p": 0.0}]
)
def test_a_protocol_that_cannot_be_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Protocol(**fields)


def test_a_key_changes_with_all_that_decides_a_text_and_with_nothing_else() -> None:
    asked = problem.Problem(id="a", prompt="def f():\n")
    base = Protocol(temperature=0.2, samples=5)

    keys = [
        answer_key("m", asked, base, 0, chat=False),
        answer_key("other", asked, base, 0, chat=False),
        answer_key("m", asked, base, 1, chat=False),
        answer_key("m", asked, base, 0, chat=True),
        answer_key("m", asked, Protocol(temperature=0.3), 0, chat=False),
        answer_key("m", asked, Protocol(temperature=0.2, seed=1), 0, chat=False),
        answer_key("m", problem.Problem(id="a", prompt="def g():\n"), base, 0, chat=False),
    ]

    assert len(set(keys)) == len(keys)
    assert answer_key("m", asked, Protocol(temperature=0.2, samples=50), 0, chat=False) == keys[0]
