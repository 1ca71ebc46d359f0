"""The baseline against a Kneser-Ney written out plainly."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from starsmith.evaluation.ngram import ORDER, NGram

VOCABULARY = 7
RANDOM = np.random.default_rng(0)
DOCUMENTS = [RANDOM.integers(0, VOCABULARY, size).tolist() for size in (60, 3, 41, 1, 0, 25)]


class Plain:
    """Interpolated Kneser-Ney from its definition, with dictionaries."""

    def __init__(self, documents: list[list[int]]) -> None:
        grams = [
            tuple(document[start : start + ORDER])
            for document in documents
            for start in range(len(document) - ORDER + 1)
        ]
        self.levels: dict[int, Counter[tuple[int, ...]]] = {ORDER: Counter(grams)}
        for order in range(ORDER - 1, 0, -1):
            self.levels[order] = Counter(gram[1:] for gram in self.levels[order + 1])

    def probability(self, history: list[int], token: int) -> float:
        found = 1 / VOCABULARY
        for order in range(1, ORDER + 1):
            if len(history) < order - 1:
                break
            counts = self.levels[order]
            context = tuple(history[len(history) - (order - 1) :])
            after: dict[int, int] = defaultdict(int)
            for gram, count in counts.items():
                if gram[:-1] == context:
                    after[gram[-1]] = count
            values = list(counts.values())
            once, twice = values.count(1), values.count(2)
            discount = once / (once + 2 * twice) if once else 0.5
            if total := sum(after.values()):
                kept = max(after.get(token, 0) - discount, 0)
                found = (kept + discount * len(after) * found) / total
        return found


@pytest.fixture(scope="module")
def model() -> NGram:
    return NGram(DOCUMENTS, vocab_size=VOCABULARY)


def test_probabilities_equal_the_plain_definition(model: NGram) -> None:
    plain = Plain(DOCUMENTS)
    text = np.random.default_rng(1).integers(0, VOCABULARY, 50).tolist()

    found = model.probabilities(text)

    wanted = [plain.probability(text[:place], token) for place, token in enumerate(text)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("history", [[], [3], [1, 2], DOCUMENTS[0][:20], [6, 6, 6, 6, 6]])
def test_the_next_token_has_a_distribution_that_agrees(model: NGram, history: list[int]) -> None:
    found = model.next_probabilities(history)

    assert found.sum() == pytest.approx(1)
    assert found.min() > 0
    for token in range(VOCABULARY):
        assert found[token] == pytest.approx(model.probabilities([*history, token])[-1])


def test_text_that_was_counted_is_likelier_than_other_text(model: NGram) -> None:
    seen, other = DOCUMENTS[0], np.random.default_rng(5).integers(0, VOCABULARY, 60).tolist()

    assert np.log(model.probabilities(seen)).sum() > np.log(model.probabilities(other)).sum() + 10


def test_nothing_counted_gives_the_uniform_distribution() -> None:
    np.testing.assert_allclose(NGram([], vocab_size=5).next_probabilities([1, 2]), 0.2)


def test_a_vocabulary_that_does_not_fit_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bits"):
        NGram([], vocab_size=70_000)
