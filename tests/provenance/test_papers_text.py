"""The pieces that papers are set from."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from starsmith.provenance.papers import licences, markdown
from starsmith.provenance.papers.dataset_card import size_category
from starsmith.provenance.papers.eu_summary import size_range
from starsmith.provenance.papers.facts import Amount, largest, place_of

pytestmark = pytest.mark.slow

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    TEXTS | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e6, 1e6),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(TEXTS, inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_front_matter_reads_back_as_it_was(values: dict[str, Any]) -> None:
    block = markdown.front_matter(values)

    assert block.startswith("---\n")
    assert block.endswith("\n---\n")
    assert yaml.safe_load(block.removeprefix("---\n").removesuffix("---\n")) == values


@given(TEXTS)
def test_a_name_stays_in_its_cell(text: str) -> None:
    shown = markdown.cell(text)

    assert len(shown.splitlines()) <= 1
    assert "|" not in shown.replace("\\\\", "").replace("\\|", "")


@given(TEXTS)
def test_prose_is_one_paragraph_and_breaks_no_table(text: str) -> None:
    shown = markdown.prose(text)

    assert len(shown.splitlines()) <= 1
    assert "|" not in shown.replace("\\\\", "").replace("\\|", "")


@given(st.text("`a\n", max_size=40))
def test_nothing_ends_a_block_of_text_early(text: str) -> None:
    first, *inner, last = markdown.fenced(text).splitlines()

    assert first == last + "text"
    assert not any(last in line for line in inner)


@pytest.mark.parametrize(
    ("expressions", "one"),
    [
        (["MIT", "Apache-2.0"], "Apache-2.0 AND MIT"),
        (["MIT AND 0BSD", "MIT"], "0BSD AND MIT"),
        (["MIT OR Apache-2.0", "MIT"], "(MIT OR Apache-2.0) AND MIT"),
        (["MIT OR Apache-2.0"], "MIT OR Apache-2.0"),
        (["(MIT OR ISC) AND Zlib"], "(MIT OR ISC) AND Zlib"),
        (["GPL-2.0-only WITH Classpath-exception-2.0"], "GPL-2.0-only WITH Classpath-exception-2.0"),
        ([], ""),
    ],
)
def test_licences_of_many_files_are_one_expression(expressions: list[str], one: str) -> None:
    assert licences.concluded(expressions) == one
    assert not one or licences.is_expression(one)


def test_a_licence_that_spdx_does_not_list_is_a_reference() -> None:
    assert licences.as_expression("MIT") == "MIT"
    assert licences.as_expression("bigcode openrail_m") == "LicenseRef-bigcode-openrail-m"


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("bigcode-openrail-m", {"license": "bigcode-openrail-m"}),
        ("MIT AND 0BSD", {"license": "other", "license_name": "mit-and-0bsd"}),
        ("", {}),
    ],
)
def test_the_hub_gets_a_name_that_it_takes(licence: str, fields: dict[str, str]) -> None:
    assert licences.hub_fields(licence) == fields


@pytest.mark.parametrize(
    ("repository", "place"),
    [
        ("https://github.com/python/cpython.git", ("github.com", "python")),
        ("https://user@Git.Example.org:8443/team/x", ("git.example.org", "team")),
        ("git@gitlab.com:group/sub/x.git", ("gitlab.com", "group")),
        ("octocat/hello", ("", "octocat")),
        ("a folder", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_repository_has_a_host_and_an_owner(repository: str, place: tuple[str, str]) -> None:
    assert place_of(repository) == place


def test_what_is_beyond_the_top_is_one_row() -> None:
    amounts = {name: Amount(1, size) for name, size in (("a", 1), ("b", 3), ("c", 2), ("d", 3))}

    rows = largest(amounts, 2)

    assert [(name, amount.files, amount.size_bytes) for name, amount in rows] == [
        ("b", 1, 3),
        ("d", 1, 3),
        ("2 more", 2, 3),
    ]


@pytest.mark.parametrize(
    ("rows", "name"), [(5, "n<1K"), (1000, "1K<n<10K"), (10**9, "1B<n<10B"), (10**11, "100B<n<1T")]
)
def test_a_size_category_is_the_hubs(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_tokens_fall_in_the_ranges_of_the_template() -> None:
    assert size_range(10**9 - 1) == "less than 1 billion tokens"
    assert size_range(10**9) == "1 billion to 10 trillion tokens"
    assert size_range(10**13) == "more than 10 trillion tokens"
