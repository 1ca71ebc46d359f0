import itertools

import numpy as np

from starsmith.core.hashing import code_tokens, shingles
from starsmith.corpus.duplicates import SHINGLE_TOKENS, _permutations, _sketch, near_duplicates


def text(seed: int, words: int = 400) -> str:
    numbers = np.random.default_rng(seed).integers(0, 10_000, words)
    return " ".join(f"name_{number}" for number in numbers)


def shingle_set(content: str) -> set[int]:
    return set(shingles(code_tokens(content.encode()).hashes, SHINGLE_TOKENS).tolist())


def jaccard(one: str, other: str) -> float:
    mine, theirs = shingle_set(one), shingle_set(other)
    return len(mine & theirs) / len(mine | theirs)


def with_changes(content: str, count: int) -> str:
    """`count` words changed, spread evenly."""
    words = content.split()
    for place in np.linspace(0, len(words) - 1, count).astype(int):
        words[place] = f"changed_{place}"
    return " ".join(words)


def find(texts: list[str], threshold: float = 0.7) -> dict[int, tuple[int, float]]:
    found = near_duplicates((content.encode() for content in texts), threshold=threshold)
    return {duplicate.number: (duplicate.of, duplicate.similarity) for duplicate in found}


def test_a_near_copy_goes_and_its_true_similarity_is_told() -> None:
    original = text(1)
    copy = with_changes(original, 8)

    found = find([text(2), original, copy, text(3)])

    assert list(found) == [2]
    assert found[2][0] == 1
    assert found[2][1] == jaccard(original, copy)
    assert 0.7 <= found[2][1] < 1


def test_spacing_and_line_ends_are_no_difference() -> None:
    original = text(1)

    assert find([original, original.replace(" ", "\r\n\t")]) == {1: (0, 1.0)}


def test_no_file_goes_that_is_less_similar_than_the_threshold() -> None:
    original = text(1)
    family = [original, *(with_changes(original, count) for count in range(2, 60, 2))]

    found = find(family)

    left = [content for number, content in enumerate(family) if number not in found]
    assert len(found) > 5
    for number, (of, similarity) in found.items():
        assert of not in found
        assert similarity == jaccard(family[number], family[of]) >= 0.7
    assert all(jaccard(one, other) < 0.9 for one, other in itertools.combinations(left, 2))


def test_files_without_a_shingle_are_never_near_duplicates() -> None:
    assert find(["x = 1", "x = 1", ""]) == {}


def test_the_sketch_estimates_the_true_similarity() -> None:
    permutations = _permutations()
    original = text(7, 2_000)
    errors = []
    for count in (10, 50, 150, 400):
        other = with_changes(original, count)
        sketches = [_sketch(np.array(sorted(shingle_set(one)), np.uint64), permutations) for one in (original, other)]
        estimate = float((sketches[0] == sketches[1]).mean())
        errors.append(estimate - jaccard(original, other))

    # 250 draws have a standard deviation of 0.032 at most.
    assert max(map(abs, errors)) < 0.1
