"""Near-duplicates: of a group, only those go that are truly similar to one that stays."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import ConfigError
from starsmith.corpus.duplicates import COMPARED_WITH_ALL, Duplicate, DuplicateConfig, Member, groups, left_out
from starsmith.corpus.sketch import BANDS, ROWS, SHINGLE_WORDS, jaccard, keys_of, shingle_set

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def text(seed: int, words: int = 400) -> str:
    numbers = np.random.default_rng(seed).integers(0, 10_000, words)
    return " ".join(f"name_{number}" for number in numbers)


def with_changes(content: str, count: int) -> str:
    """`count` words changed, spread evenly."""
    words = content.split()
    for place in np.linspace(0, len(words) - 1, count).astype(int):
        words[place] = f"changed_{place}"
    return " ".join(words)


def member(number: int, content: str) -> Member:
    keys, _ = keys_of(content.encode(), words=SHINGLE_WORDS, bands=BANDS, rows=ROWS)
    return Member(number, keys, shingle_set(content.encode()))


def similarity(one: str, other: str) -> float:
    """Jaccard of the sets of five words, without a kernel."""
    sets = []
    for words in (one.split(), other.split()):
        sets.append({tuple(words[start : start + 5]) for start in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def find(texts: list[str], threshold: float = 0.7) -> dict[int, Duplicate]:
    members = (member(number, content) for number, content in enumerate(texts))
    return {duplicate.number: duplicate for duplicate in left_out(members, threshold)}


def plain_groups(pairs: list[tuple[int, int]], count: int) -> list[int]:
    labels = list(range(count))
    for _ in range(count):
        for one, other in pairs:
            labels[one] = labels[other] = min(labels[one], labels[other])
    return labels


def test_a_near_copy_goes_and_its_true_similarity_is_told() -> None:
    original = text(1)
    copy = with_changes(original, 8)

    found = find([text(2), original, copy, text(3)])

    assert found == {2: Duplicate(2, 1, similarity(original, copy))}
    assert 0.7 <= found[2].similarity < 1


def test_no_file_goes_that_is_less_similar_than_the_threshold() -> None:
    original = text(1)
    family = [original, *(with_changes(original, count) for count in range(2, 60, 2))]

    found = find(family)

    assert len(found) > 5
    for number, duplicate in found.items():
        assert duplicate.of not in found  # the one that it goes for stays
        assert duplicate.similarity == similarity(family[number], family[duplicate.of]) >= 0.7
    left = [number for number in range(len(family)) if number not in found]
    # A group so small is compared as a whole: no two that stay are near-duplicates.
    assert all(similarity(family[one], family[other]) < 0.7 for one, other in itertools.combinations(left, 2))


def test_a_file_goes_for_the_one_it_is_most_similar_to() -> None:
    original = text(1, 600)
    far = with_changes(original, 40)
    copy = with_changes(far, 2)

    found = find([original, far, copy], threshold=0.6)

    assert similarity(original, far) < 0.6
    assert found[2].of == 1


def test_of_equally_similar_ones_it_goes_for_the_first() -> None:
    one, other = text(1, 40), text(2, 40)
    both = one + " " + other

    found = find([one, other, both], threshold=0.4)

    assert similarity(both, one) == similarity(both, other)
    assert found[2].of == 0


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9, 1.0])
def test_the_threshold_means_what_it_says(threshold: float) -> None:
    original = text(4)
    copies = [with_changes(original, count) for count in range(1, 40)]

    gone = {number for number, copy in enumerate(copies) if 1 in find([original, copy], threshold)}

    assert gone == {number for number, copy in enumerate(copies) if similarity(original, copy) >= threshold}


def test_with_many_kept_files_only_those_that_share_a_key_are_compared() -> None:
    def kept(count: int) -> list[Member]:
        rows = [
            (np.array([number, 10**6 + number], np.uint64), shingle_set(text(number, 60).encode()))
            for number in range(count)
        ]
        return [Member(number, keys, elements) for number, (keys, elements) in enumerate(rows)]  # fmt: skip

    def copy_of(member: Member, keys: list[int]) -> Member:
        return Member(10**5, np.array(keys, np.uint64), member.elements)

    few, many = kept(COMPARED_WITH_ALL), kept(COMPARED_WITH_ALL + 20)

    assert [gone.of for gone in left_out([*few, copy_of(few[3], [7, 7])], 0.7)] == [3]
    assert [gone.of for gone in left_out([*many, copy_of(many[3], [7, 7])], 0.7)] == []
    assert [gone.of for gone in left_out([*many, copy_of(many[3], [7, 10**6 + 3])], 0.7)] == [3]


def test_members_without_a_shingle_stay() -> None:
    assert find(["x", "x", ""]) == {}


@given(pairs=PAIRS)
def test_groups_are_the_connected_parts(pairs: list[tuple[int, int]]) -> None:
    found = groups(np.array(pairs, np.int64).reshape(-1, 2), 20)

    assert found.tolist() == plain_groups(pairs, 20)


def test_a_long_chain_is_one_group() -> None:
    count = 100_000
    chain = np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)

    for pairs in (chain, chain[::-1], chain[:, ::-1]):
        assert not groups(np.ascontiguousarray(pairs), count).any()


def test_jaccard_of_sets_of_32_bits_is_that_of_the_words() -> None:
    original = text(7, 3_000)

    for count in (10, 100, 500):
        other = with_changes(original, count)
        sets = [shingle_set(content.encode()) for content in (original, other)]
        assert abs(jaccard(*sets) - similarity(original, other)) < 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"threshold": 1.1}, "threshold=1.1"),
        ({"words": 0}, "words=0"),
        ({"bands": 100, "rows": 100}, "bands=100"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DuplicateConfig(**settings)  # type: ignore[arg-type]
