"""One pass in compiled code gives what the definition in NumPy gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starsmith.core.hashing import code_tokens, shingles, winnow
from starsmith.core.winnowing import fingerprints, scan

pytestmark = pytest.mark.slow

texts = st.lists(st.sampled_from(["a", "b", "C1", "_", " ", "\n", ".", "(", "é", "面", "\x00", "\x7f"]), max_size=80)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(texts, st.integers(1, 7), st.integers(1, 9))
def test_tokens_and_fingerprints_are_those_of_the_definition(parts: list[str], k: int, window: int) -> None:
    content = "".join(parts).encode()

    found = scan(content, k, window)

    tokens = code_tokens(content)
    hashes = shingles(tokens.hashes, k)
    chosen = winnow(hashes, window)
    assert found.starts.tolist() == tokens.starts.tolist()
    assert found.ends.tolist() == tokens.ends.tolist()
    assert found.chosen.tolist() == chosen.tolist()
    assert found.hashes.tolist() == hashes[chosen].tolist()


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(texts, min_size=1, max_size=5))
def test_texts_in_one_array_give_what_each_gives_alone(parts: list[list[str]]) -> None:
    contents = ["".join(part).encode() for part in parts]
    bounds = np.cumsum([0, *map(len, contents)])

    hashes, places = fingerprints(np.frombuffer(b"".join(contents), np.uint8), bounds, 3, 4)

    alone = [scan(content, 3, 4) for content in contents]
    assert hashes.tolist() == [value for found in alone for value in found.hashes.tolist()]
    assert places.tolist() == [
        int(begin + found.starts[token])
        for begin, found in zip(bounds.tolist(), alone, strict=False)
        for token in found.chosen.tolist()
    ]
