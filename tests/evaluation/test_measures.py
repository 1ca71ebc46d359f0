"""What is measured: every byte once, holes by a fixed rule, honest intervals."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from starsmith.core.records import read_files
from starsmith.evaluation.bits_per_byte import measure, score_document
from starsmith.evaluation.infilling import Filled, Hole, choose_holes
from starsmith.evaluation.statistics import wilson
from starsmith.evaluation.syntax import parses
from starsmith.inference.engine import GeneratedToken, GenerationRequest, never
from starsmith.tokenizer.bpe import Tokenizer


class Positions:
    """An engine whose score of a token is minus the history it was given."""

    vocab_size = 400

    def __init__(self, context_tokens: int) -> None:
        self.context_tokens = context_tokens

    def generate(self, request: GenerationRequest, cancelled: Callable[[], bool] = never) -> Iterator[GeneratedToken]:
        return iter(())

    def score(self, ids: Sequence[int]) -> list[float]:
        assert len(ids) <= self.context_tokens
        return [-float(history) for history in range(1, len(ids))]


@pytest.mark.parametrize("context", [4, 7, 16])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 15, 16, 17, 40])
def test_every_token_is_scored_once_with_at_least_half_a_context(length: int, context: int) -> None:
    scores = score_document(Positions(context), list(range(length)))

    assert len(scores) == length - 1
    for place, score in enumerate(scores, start=1):
        assert -score >= min(place, context - context // 2)


def test_bits_per_byte_of_a_uniform_guess_over_bytes_is_eight(tokenizer_directory: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_directory)
    single = [next(t for t in range(38, 400) if tokenizer.decode_bytes([t]) == bytes([b])) for b in b"hello world"]

    found = measure(lambda ids: [math.log(1 / 256)] * (len(ids) - 1), tokenizer, [single])

    assert found.value == pytest.approx(8.0)
    assert found.size_bytes == len("hello world") - 1


def test_a_hole_is_the_end_of_a_line_and_the_parts_make_the_file(corpus: Path) -> None:
    files = list(read_files(corpus))

    holes = choose_holes(files, 60)

    assert len(holes) == 60
    for hole in holes:
        assert hole.prefix + hole.truth + hole.suffix == hole.file.text
        assert hole.suffix.startswith("\n")
        assert len(hole.truth) >= 3
        assert not hole.truth[0].isspace()
        assert hole.file.text.splitlines()[hole.line - 1].endswith(hole.truth)


def test_whole_line_holes_begin_at_the_indentation(corpus: Path) -> None:
    for hole in choose_holes(list(read_files(corpus)), 20, whole_lines=True):
        assert hole.prefix.rsplit("\n", 1)[-1].strip() == ""


def test_holes_are_spread_over_the_files_and_depend_on_nothing_else(corpus: Path) -> None:
    files = list(read_files(corpus))

    holes = choose_holes(files, 44)
    again = choose_holes(files[::-1], 44)

    assert len({hole.file.swhid for hole in holes}) == 44
    assert [(hole.file.swhid, hole.start) for hole in holes] == [(hole.file.swhid, hole.start) for hole in again]


def test_fewer_lines_than_asked_for_give_fewer_holes(corpus: Path) -> None:
    one = list(read_files(corpus))[:1]

    holes = choose_holes(one, 1000)

    assert 5 < len(holes) <= one[0].text.count("\n")
    assert len({hole.line for hole in holes}) == len(holes)


def test_exact_and_valid_judge_the_first_line_only(corpus: Path) -> None:
    file = next(iter(read_files(corpus)))
    start = file.text.index("value") + len("value")
    hole = Hole(file, start, file.text.index("\n"))

    right = Filled(hole, "psm", hole.truth + "\n    garbage(", "stop", 3)
    wrong = Filled(hole, "psm", "(((", "stop", 3)

    assert (right.exact, right.valid, right.similarity) == (True, True, 1.0)
    assert (wrong.exact, wrong.valid) == (False, False)


def test_syntax_is_checked_for_python_alone() -> None:
    assert parses("Python", "def f():\n    return 1\n") is True
    assert parses("Python", "def f(:\n") is False
    assert parses("Python", "x = '\\d'\n") is True
    assert parses("Python", "x = 1\0") is False
    assert parses("Rust", "fn main() {}") is None


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(0, 100, 0.0, 0.0370), (1, 100, 0.0018, 0.0545), (49, 164, 0.2340, 0.3728)]
)
def test_wilson_intervals_are_the_published_ones(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))
