"""What is found, and that nothing else is: against planted copies, a naive search and the text itself."""

import inspect
import json
import random
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starsmith.core.records import SourceFile
from starsmith.provenance.attribution import MAX_SOURCES, Attributor, Match
from starsmith.provenance.fingerprints import FingerprintTable, Grams
from starsmith.provenance.index import IndexConfig, write_index
from worlds import batch_of

pytestmark = pytest.mark.slow  # builds an index for each

MakeIndex = Callable[..., Path]

TOKEN = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]+|[^\s\x00-\x20\x7f]")  # of characters, where the product's is of bytes


def tokens_of(text: str) -> list[str]:
    return TOKEN.findall(text)


def lines_of(text: str, first: int, last: int) -> str:
    return "\n".join(text.split("\n")[first - 1 : last])


def contains(tokens: Sequence[str], part: Sequence[str]) -> bool:
    return any(tokens[start : start + len(part)] == part for start in range(len(tokens) - len(part) + 1))


def code(seed: int, tokens: int) -> str:
    """Lines of random code, in which hardly any two names are the same."""
    draw = random.Random(seed)
    words = []
    for number in range(tokens):
        words.append(draw.choice("=+(),.") if number % 2 else f"name_{draw.randrange(10**6)}")
        words.append(draw.choice(["\n", "\n    ", " "]))
    return "".join(words).rstrip()


def respaced(text: str, style: str, draw: random.Random) -> str:
    """The same tokens with other white space."""
    if style == "verbatim":
        return text
    if style == "crlf":
        return text.replace("\n", "\r\n")
    if style == "indented":
        return textwrap.indent(text, "\t\t")
    tokens = tokens_of(text)
    gaps = [" ", "\n", "\t", "  \n\n  ", "\r\n"]
    return "".join(token + draw.choice(gaps) for token in tokens)


def plant(source: str, tokens: int, style: str, draw: random.Random) -> tuple[str, int, int]:
    """A stretch of `source` between two pieces of new code: the text, and where the stretch begins and ends."""
    spans = [found.span() for found in TOKEN.finditer(source)]
    first = draw.randrange(len(spans) - tokens + 1)
    copy = respaced(source[spans[first][0] : spans[first + tokens - 1][1]], style, draw).strip()
    before, after = code(draw.randrange(10**9), 60), code(draw.randrange(10**9), 60)
    return f"{before}\n{copy}\n{after}", len(before) + 1, len(before) + 1 + len(copy)


@pytest.fixture(scope="module")
def real_texts() -> list[str]:
    """Modules of the standard library, as they are."""
    modules = [textwrap, json.decoder, json.encoder, inspect, random, re]
    return [Path(inspect.getfile(module)).read_text(encoding="utf-8") for module in modules]


@pytest.fixture(scope="module")
def real_index(real_texts: list[str], make_index: MakeIndex) -> Attributor:
    return Attributor.open(make_index(real_texts))


@pytest.mark.slow
@pytest.mark.parametrize("style", ["verbatim", "crlf", "indented", "respaced"])
def test_every_planted_copy_of_40_tokens_is_found(style: str, real_texts: list[str], real_index: Attributor) -> None:
    draw = random.Random(style)
    missed = []

    for _ in range(150):
        source = draw.choice(real_texts)
        text, start, end = plant(source, 40, style, draw)
        if not any(reports(match, start, end) for match in real_index.attribute(text)):
            missed.append(text[start:end])

    assert missed == []


def reports(match: Match, start: int, end: int) -> bool:
    """True for a match that holds the whole copy, or that labels a part of it as separators or common code."""
    if match.kind == "source":
        return match.start <= start and end <= match.end
    return match.start < end and start < match.end


def test_what_is_reported_equals_the_named_lines(real_texts: list[str], real_index: Attributor) -> None:
    draw = random.Random(1)

    for _ in range(50):
        text, _, _ = plant(draw.choice(real_texts), draw.randrange(24, 300), "respaced", draw)
        for match in real_index.attribute(text):
            assert_equal_to_its_sources(text, match, real_texts)


def assert_equal_to_its_sources(text: str, match: Match, corpus: Sequence[str]) -> None:
    copied = tokens_of(text[match.start : match.end])
    assert len(copied) == match.tokens
    assert 1 <= len(match.sources) <= min(match.count, MAX_SOURCES)
    for source in match.sources:
        lines = lines_of(corpus[int(source.path.removesuffix(".py"))], source.first_line, source.last_line)
        assert contains(tokens_of(lines), copied)


def test_new_code_matches_nothing(real_index: Attributor) -> None:
    assert [real_index.attribute(code(seed, 400)) for seed in range(20)] == [[]] * 20


def open_table(
    texts: Sequence[str],
    grams: Grams,
    directory: Path,
    make_file: Callable[..., SourceFile],
    max_places: int = 10**6,
) -> FingerprintTable:
    files = [make_file(f"{number}.py", text) for number, text in enumerate(texts)]
    settings = IndexConfig(ngram_tokens=grams.k, window=grams.window, max_places=max_places)
    write_index([batch_of(files)], directory, settings, lambda _: None)
    return FingerprintTable(directory)


def naive_matches(query: Sequence[str], corpus: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, int, int]]:
    """(start, end) in the query, document and token there of every equal stretch that cannot be made longer."""
    for number, document in enumerate(corpus):
        for first in range(len(query)):
            for place in range(len(document)):
                if query[first] != document[place] or (first and place and query[first - 1] == document[place - 1]):
                    continue
                length = 0
                while (
                    first + length < len(query)
                    and place + length < len(document)
                    and query[first + length] == document[place + length]
                ):
                    length += 1
                yield first, first + length, number, place


few_words = st.lists(st.sampled_from(["a", "b", "cc", "é"]), max_size=30)


@pytest.mark.slow
@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(few_words, min_size=1, max_size=3), few_words, st.integers(1, 4), st.integers(1, 4))
def test_long_matches_are_those_of_a_naive_search(
    tmp_path: Path,
    make_file: Callable[..., SourceFile],
    corpus: list[list[str]],
    query: list[str],
    k: int,
    window: int,
) -> None:
    table = open_table([" ".join(words) for words in corpus], Grams(k, window), tmp_path, make_file)
    text = " ".join(query)
    starts = [0]
    for word in query:
        starts.append(starts[-1] + len(word) + 1)

    matches = Attributor(table, max_places=10**6).attribute(text)

    naive = list(naive_matches(query, corpus))
    spans = {(start, end) for start, end, _, _ in naive if end - start >= table.grams.guarantee}
    maximal = {
        (start, end)
        for start, end in spans
        if not any(other != (start, end) and other[0] <= start and end <= other[1] for other in spans)
    }
    found = {(match.start, match.end): match for match in matches if match.tokens >= table.grams.guarantee}
    assert set(found) == {(starts[start], starts[end] - 1) for start, end in maximal}
    for start, end in maximal:
        match = found[starts[start], starts[end] - 1]
        places = [(number, place) for first, last, number, place in naive if (first, last) == (start, end)]
        assert match.count == len(places)
        assert [source.path for source in match.sources] == [
            f"{number}.py" for number in sorted({n for n, _ in places})
        ]


@pytest.mark.slow
@settings(
    max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(few_words, min_size=1, max_size=3), few_words, st.integers(3, 4), st.integers(1, 4), st.integers(1, 3))
def test_nothing_unequal_is_reported_and_every_long_copy_is_touched_whatever_is_common(
    tmp_path: Path,
    make_file: Callable[..., SourceFile],
    corpus: list[list[str]],
    query: list[str],
    k: int,
    window: int,
    max_places: int,
) -> None:
    texts = ["\n".join(words) for words in corpus]
    table = open_table(texts, Grams(k, window), tmp_path, make_file, max_places)
    text = " ".join(query)

    matches = Attributor(table, max_places=max_places).attribute(text)

    copied: set[int] = set()  # characters
    for match in matches:
        assert match.tokens >= k
        assert match.count > max_places if match.kind == "common" else match.count >= 1
        if match.kind == "common":  # a run of them: its sources hold one of its fingerprints
            assert_made_of_common_code(text, match, texts, k)
        else:
            assert_equal_to_its_sources(text, match, texts)
        copied |= set(range(match.start, match.end))
    for start, end, _, _ in naive_matches(query, corpus):
        if end - start >= table.grams.guarantee:
            first = len(" ".join([*query[:start], ""]))
            assert copied & set(range(first, first + len(" ".join(query[start:end]))))


def assert_made_of_common_code(text: str, match: Match, corpus: Sequence[str], k: int) -> None:
    copied, documents = tokens_of(text[match.start : match.end]), [tokens_of(content) for content in corpus]
    grams = [copied[start : start + k] for start in range(len(copied) - k + 1)]
    equal = [sum(places_of(gram, document) for document in documents) for gram in grams]
    assert all(any(equal[max(token - k + 1, 0) : token + 1]) for token in range(len(copied)))
    assert match.count in equal
    for source in match.sources:
        lines = tokens_of(lines_of(corpus[int(source.path.removesuffix(".py"))], source.first_line, source.last_line))
        assert any(contains(lines, gram) for gram in grams)


def places_of(part: Sequence[str], tokens: Sequence[str]) -> int:
    return sum(tokens[start : start + len(part)] == part for start in range(len(tokens)))


def test_offsets_are_characters_when_the_text_is_not_ascii(make_index: MakeIndex) -> None:
    copied = "größe = länge × breite  # 面積を計算する 🙂\nvolumen = größe × höhe\n"
    attributor = Attributor.open(make_index([f"# αβγ\n\n{copied}rest = 1\n"], ngram_tokens=4, window=3))
    text = f'"""🙂🙂 naïve"""\n{copied}other = 2\n'

    (match,) = attributor.attribute(text)

    assert text[match.start : match.end].startswith("größe = länge")
    assert text[match.start : match.end].endswith("höhe")
    assert (match.sources[0].first_line, match.sources[0].last_line) == (3, 4)


def test_a_lone_surrogate_in_the_query_is_an_ordinary_character(make_index: MakeIndex) -> None:
    attributor = Attributor.open(make_index(["alpha beta gamma delta\n"], ngram_tokens=3, window=1))

    (match,) = attributor.attribute("\udc80 alpha beta gamma delta")

    assert (match.start, match.end) == (2, 24)


def test_a_query_shorter_than_one_window_is_found(make_index: MakeIndex) -> None:
    words = [f"word{number}" for number in range(200)]
    attributor = Attributor.open(make_index([" ".join(words)], ngram_tokens=4, window=8))

    found = [bool(attributor.attribute(" ".join(words[start : start + 6]))) for start in range(190)]

    assert 50 < sum(found) < 190  # below the guarantee: when its own fingerprint is stored
    assert all(attributor.attribute(" ".join(words[start : start + 11])) for start in range(190))
    assert attributor.attribute(" ".join(words[:3])) == []


def test_only_matches_that_reach_beyond_start_are_reported(make_index: MakeIndex) -> None:
    first, second = code(1, 30), code(2, 30)
    attributor = Attributor.open(make_index([first, second], ngram_tokens=6, window=2))
    text = f"{first}\nunrelated = 1\n{second}"

    assert [match.sources[0].path for match in attributor.attribute(text)] == ["0.py", "1.py"]
    assert [match.sources[0].path for match in attributor.attribute(text, start=len(first))] == ["1.py"]
    inside = attributor.attribute(text, start=len(text) - 10)
    assert [text[match.start : match.end] for match in inside] == [second]
    assert attributor.attribute(text, start=len(text)) == []


def test_the_longest_stretch_is_reported_once_with_all_its_files(make_index: MakeIndex) -> None:
    whole = code(3, 90)
    part = " ".join(tokens_of(whole)[20:60])
    attributor = Attributor.open(make_index([part, whole, f"x = 1\n{whole}", part], ngram_tokens=6, window=4))

    (match,) = attributor.attribute(whole)

    assert (match.tokens, match.count) == (90, 2)
    assert [(source.path, source.first_line) for source in match.sources] == [("1.py", 1), ("2.py", 2)]


def test_stretches_inside_others_are_reported_when_they_are_asked_for(make_index: MakeIndex) -> None:
    whole = code(3, 90)
    part = " ".join(tokens_of(whole)[20:60])
    attributor = Attributor.open(make_index([part, whole], ngram_tokens=6, window=4))

    found = [attributor.attribute(whole, nested_tokens=tokens) for tokens in (40, 41)]

    assert [[(match.tokens, match.sources[0].path) for match in matches] for matches in found] == [
        [(90, "1.py"), (40, "0.py")],
        [(90, "1.py")],
    ]


def test_copies_from_two_files_that_overlap_are_both_reported(make_index: MakeIndex) -> None:
    words = tokens_of(code(4, 90))
    attributor = Attributor.open(make_index([" ".join(words[:60]), " ".join(words[30:])], ngram_tokens=6, window=4))

    matches = attributor.attribute(" ".join(words))

    assert [(match.tokens, match.sources[0].path) for match in matches] == [(60, "0.py"), (60, "1.py")]


def test_at_most_five_files_are_named_and_all_places_counted(make_index: MakeIndex) -> None:
    copied = code(5, 30)
    texts = [f"{code(seed, 20)}\n{copied}\n{code(seed + 100, 20)}" for seed in range(10, 18)]
    attributor = Attributor.open(make_index(texts, ngram_tokens=6, window=4))

    (match,) = attributor.attribute(copied)

    assert (match.kind, match.count) == ("source", 8)
    assert [source.path for source in match.sources] == ["0.py", "1.py", "2.py", "3.py", "4.py"]


def test_a_file_that_has_it_twice_is_named_once(make_index: MakeIndex) -> None:
    copied = code(6, 30)
    attributor = Attributor.open(make_index([f"a = 1\n{copied}\nb = 2\n{copied}"], ngram_tokens=6, window=4))

    (match,) = attributor.attribute(copied)

    assert (match.count, len(match.sources), match.sources[0].first_line) == (2, 1, 2)


def test_what_is_in_too_many_places_is_common_and_counted(make_index: MakeIndex) -> None:
    header = "Licensed under the terms of the example licence; see the file of that name for what it grants to you"
    texts = [f"{code(seed, 20)}\n{header}\n{code(seed + 100, 20)}" for seed in range(20, 32)]
    attributor = Attributor.open(make_index(texts, ngram_tokens=6, window=4, max_places=10))

    (match,) = attributor.attribute(f"new = 1\n{header}\nother = 2")

    assert (match.kind, match.count, match.tokens) == ("common", 12, len(tokens_of(header)))
    assert len(match.sources) == MAX_SOURCES


def test_a_rare_copy_around_common_code_is_a_source(make_index: MakeIndex) -> None:
    header = "Licensed under the terms of the example licence; see the file of that name for what it grants to you"
    texts = [f"{code(seed, 20)}\n{header}\n{code(seed + 100, 20)}" for seed in range(20, 32)]
    attributor = Attributor.open(make_index(texts, ngram_tokens=6, window=4, max_places=10))

    (match,) = attributor.attribute(texts[7])

    assert (match.kind, match.count, match.sources[0].path) == ("source", 1, "7.py")


@pytest.mark.parametrize(
    "text",
    [
        "-" * 60,
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20",
        "xx = yy * xx + yy * xx - " * 4,
        ", ".join("abcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_fewer_than_eight_distinct_words_are_low_information(text: str, make_index: MakeIndex) -> None:
    attributor = Attributor.open(make_index([f"start = 1\n{text}\nend = 2\n"], max_places=100))

    kinds = {match.kind for match in attributor.attribute(f"other\n{text}\nlast")}

    assert kinds == {"low-information"}


def test_a_short_fingerprint_asks_for_fewer_distinct_words(make_index: MakeIndex) -> None:
    attributor = Attributor.open(
        make_index(["aa = bb(cc, 1, 2) + dd\n", "ee = ff(1, 2, 3, 4)\n"], ngram_tokens=9, window=1)
    )

    (three,) = attributor.attribute("aa = bb(cc, 1, 2) + dd\n")
    (two,) = attributor.attribute("ee = ff(1, 2, 3, 4)\n")

    assert (three.kind, two.kind) == ("source", "low-information")


def test_repetitive_text_gives_a_few_matches_that_cover_it(make_index: MakeIndex) -> None:
    attributor = Attributor.open(make_index(["start = 1\n" + "0, " * 30 + "\nend = 2\n"], max_places=100))
    text = "0, " * 80

    matches = attributor.attribute(text)

    assert 3 <= len(matches) <= 4
    covered = {number for match in matches for number in range(match.start, match.end)}
    assert covered >= {number for number, character in enumerate(text) if character != " "}


def test_a_match_ends_where_its_document_ends(make_index: MakeIndex) -> None:
    words = tokens_of(code(8, 60))
    texts = [" ".join(words[:30]), " ".join(words[30:])]
    attributor = Attributor.open(make_index(texts, ngram_tokens=6, window=4))

    matches = attributor.attribute(" ".join(words))

    assert [match.tokens for match in matches] == [30, 30]


def test_a_copy_is_extended_backwards_over_words_of_any_length(make_index: MakeIndex) -> None:
    draw = random.Random(0)
    words = [f"w{number}" + "x" * draw.choice([0, 3, 400, 511, 512, 3000]) for number in range(200)]
    gaps = [draw.choice([" ", "\n" * 600, "\t"]) for _ in words]
    copied = "".join(word + gap for word, gap in zip(words, gaps, strict=True))
    attributor = Attributor.open(make_index([f"before {copied} after"], ngram_tokens=3, window=190))

    (match,) = attributor.attribute(f"other {copied} another")

    assert match.tokens == 200
    assert (match.start, match.end) == (6, 6 + len(copied.rstrip()))


def test_text_that_only_has_the_same_hash_is_not_reported(tmp_path: Path, make_file: Callable[..., SourceFile]) -> None:
    table = open_table(["e f x x x e f g h"], Grams(4, 1), tmp_path, make_file)
    query = "e f g h"
    assert Attributor(table, max_places=9).attribute(query) != []

    table.positions = np.zeros_like(table.positions)  # as if "e f x x" had the hash of "e f g h"
    other = Attributor(table, max_places=9)

    assert other.attribute(query) == []


def test_text_without_tokens_has_no_matches(real_index: Attributor) -> None:
    assert real_index.attribute("") == []
    assert real_index.attribute(" \n\t") == []


def test_threads_share_an_attributor(real_texts: list[str], real_index: Attributor) -> None:
    queries = [text[start : start + 2000] for text in real_texts for start in (0, 3000)]
    alone = [real_index.attribute(query) for query in queries]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(real_index.attribute, queries))

    assert together == alone


def test_a_match_is_plain_json(real_texts: list[str], real_index: Attributor) -> None:
    (match,) = real_index.attribute(real_texts[0])

    found = json.loads(json.dumps(match.to_json()))

    assert found["kind"] == "source"
    assert found["sources"][0] == {
        "swhid": match.sources[0].swhid,
        "repository": "https://example.org/tiny.git",
        "commit": "c" * 40,
        "path": "0.py",
        "first_line": 1,
        "last_line": len(real_texts[0].rstrip().split("\n")),
        "license": "MIT",
        "url": "",
    }
