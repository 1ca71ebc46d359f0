"""Requests for removal are read from every form of file, and copies are what the definition says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builds import SHIPPED, module
from starsmith.core.errors import InputError
from starsmith.core.hashing import TOKEN
from starsmith.corpus.copies import MATCH_TOKENS, Copies, Original
from starsmith.corpus.removal_requests import Removals, read_requests
from worlds import Write


def reference_share(original: bytes, candidate: bytes) -> float:
    """The definition, by its words: tokens of the candidate in stretches that both have."""
    own, others = TOKEN.findall(original), TOKEN.findall(candidate)
    if len(others) < MATCH_TOKENS:
        return float(bool(others) and own == others)
    grams = {tuple(own[at : at + MATCH_TOKENS]) for at in range(len(own) - MATCH_TOKENS + 1)}
    covered = [False] * len(others)
    for at in range(len(others) - MATCH_TOKENS + 1):
        if tuple(others[at : at + MATCH_TOKENS]) in grams:
            covered[at : at + MATCH_TOKENS] = [True] * MATCH_TOKENS
    return sum(covered) / len(covered)


PIECES = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 80)), min_size=1, max_size=6)


def text_of(pieces: list[tuple[int, int]]) -> bytes:
    return b"\n".join(b" ".join(b"w%d_%d;" % (kind, at) for at in range(length)) for kind, length in pieces)


@given(one=PIECES, other=PIECES, threshold=st.sampled_from([0.1, 0.5, 0.8, 1.0]))
def test_copies_are_those_of_which_enough_tokens_stand_in_the_original(
    one: list[tuple[int, int]], other: list[tuple[int, int]], threshold: float
) -> None:
    original, candidate = text_of(one), text_of(other)
    share = reference_share(original, candidate)

    found = Original(original, threshold).share_of(candidate)

    assert found == (share if share >= threshold else 0.0)
    assert Copies([("x", Original(original, threshold))]).of(candidate) == (["x"] if share >= threshold else [])


def test_a_copy_in_another_encoding_is_one() -> None:
    text = module(1).replace("value_7", "größe")

    assert Original(text.encode(), 0.8).share_of(text.encode("utf-16")) == 1.0


def test_requests_are_read_from_every_form_of_file(tmp_path: Path, write: Write) -> None:
    toml = (
        '[[request]]\nid = "R-1"\nwho = "Octocat/Hello.git"\n[[request]]\nrepository = "My tools 3"\npath = "a b.py"\n'
    )
    toml += '[[request]]\nid = "R-2"\ncopies_of = "theirs.py"\nthreshold = 0.9\n'
    lines = '{"id": "R-1", "who": "octocat"}\n\n{"who": "swh:1:cnt:' + "0" * 40 + '"}\n'
    files = {"r.toml": toml, "r.jsonl": lines, "r.csv": "who,since\noctocat,2026-01-31\n", "theirs.py": SHIPPED}
    write(tmp_path, {**files, "o.toml": '[[optout]]\nwho = "octocat"\n'})

    found = {name: read_requests(str(tmp_path / name)) for name in ("r.toml", "r.jsonl", "r.csv", "o.toml")}

    assert [one.id for one in found["r.toml"]][::2] == ["R-1", "R-2"]
    assert (found["r.toml"][0].repository, found["r.toml"][1].path) == ("octocat/hello", "a b.py")
    assert Removals(found["r.toml"]).holding("my Tools 3", "a b.py") == (found["r.toml"][1].id,)
    assert found["r.toml"][2].original is not None
    assert found["r.jsonl"][1].swhid.endswith("0" * 40)
    assert found["r.csv"] == found["o.toml"] == read_requests("OCTOCAT")  # a stable id, whoever is asked for


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.toml", "", "no request|only .* tables"),
        ("r.toml", "request = 3\n", "no list of tables"),
        ("r.toml", "[[request]]\n", "has nothing, wanted is one of"),
        ("r.toml", '[[request]]\nwho = "a"\ncopies_of = "b"\n', "wanted is one of"),
        ("r.toml", '[[request]]\nwho = "a"\nthreshold = 0.5\n', "wanted is one of"),
        ("r.toml", "[[request]]\nwho = 3\n", "is no text"),
        ("r.toml", '[[request]]\nwhom = "a"\n', "unknown key 'whom'"),
        ("r.toml", '[[request]]\nwho = "two words"\n', "names no owner"),
        ("r.toml", '[[request]]\nid = "two words"\nwho = "a"\n', "id 'two words' is none"),
        ("r.toml", '[[request]]\ncopies_of = "nowhere.py"\n', "is no file"),
        ("r.toml", '[[request]]\ncopies_of = "empty.py"\n', "has no code"),
        ("r.toml", '[[request]]\ncopies_of = "r.toml"\nthreshold = 2\n', "threshold = 2"),
        ("r.toml", "[[request]\n", "r.toml"),
        ("r.toml", "a = " + "[" * 100_000, "r.toml"),
        ("r.toml", '[[request]]\nwho = "a"\n[[optout]]\nwho = "b"\n', "only .* tables are wanted, not 'optout'"),
        ("r.toml", '[[request]]\nrepository = "/"\npath = "a.py"\n', "'/' names nothing"),
        ("r.toml", '[[request]]\nwho = ".git"\n', "names nothing"),
        ("r.jsonl", "[]\n", "is no table"),
        ("r.jsonl", "{\n", "is no JSON"),
        ("r.jsonl", "[" * 100_000, "is no JSON"),
        ("r.txt", "two words\n", "names no owner"),
        ("r.txt", b"\xff\n", "is not UTF-8"),
    ],
)
def test_a_bad_request_is_named_with_what_is_wanted(
    name: str, text: str | bytes, message: str, tmp_path: Path, write: Write
) -> None:
    write(tmp_path, {"empty.py": " \n", name: text})

    with pytest.raises(InputError, match=message) as caught:
        read_requests(str(tmp_path / name))

    assert caught.value.hint


@pytest.mark.parametrize("what", ["./nowhere.toml", "nowhere.toml", "two words", "nul\0", "", "copies_of=nowhere.py"])
def test_what_is_neither_a_file_nor_a_name_is_an_error(what: str) -> None:
    with pytest.raises(InputError):
        read_requests(what)


def test_a_name_that_no_file_can_have_is_still_a_name() -> None:
    (found,) = read_requests("a" * 300)

    assert found.repository == "a" * 300


def test_of_several_originals_each_copy_is_told_of_its_own() -> None:
    one, other = module(1), module(2)
    found = Copies([("one", Original(one.encode(), 0.8)), ("other", Original(other.encode(), 0.4))])

    assert found.of(one.encode()) == ["one"]
    assert found.of(other.replace("    ", "\t").encode()) == ["other"]
    assert found.of((one + other).encode()) == ["other"]  # half of it is either's
    assert found.of(module(3).encode()) == []
    assert found.of(b"") == []
