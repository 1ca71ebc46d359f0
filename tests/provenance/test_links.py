"""Addresses of lines at the hosts that have lasting ones."""

import pytest

from starsmith.provenance.links import url_of


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("https://github.com/o/r", "https://github.com/o/r/blob/abc/a%20b/c.py#L3-L9"),
        ("https://github.com/o/r.git", "https://github.com/o/r/blob/abc/a%20b/c.py#L3-L9"),
        ("git@github.com:o/r.git", "https://github.com/o/r/blob/abc/a%20b/c.py#L3-L9"),
        ("ssh://git@github.com:22/o/r", "https://github.com/o/r/blob/abc/a%20b/c.py#L3-L9"),
        ("https://user:secret@gitlab.com/g/s/r", "https://gitlab.com/g/s/r/-/blob/abc/a%20b/c.py#L3-9"),
        ("https://codeberg.org/o/r/", "https://codeberg.org/o/r/src/commit/abc/a%20b/c.py#L3-L9"),
        ("https://bitbucket.org/o/r", "https://bitbucket.org/o/r/src/abc/a%20b/c.py#lines-3:9"),
    ],
)
def test_lines_at_a_known_host_have_an_address(repository: str, url: str) -> None:
    assert url_of(repository, "abc", "a b/c.py", 3, 9) == url


@pytest.mark.parametrize(
    "repository",
    ["", "o/r", "/srv/git/r", "https://git.example.com/o/r", "javascript:github.com/o/r", "https://github.com"],
)
def test_what_is_at_no_known_host_has_none(repository: str) -> None:
    assert url_of(repository, "abc", "c.py", 3, 9) == ""


def test_without_a_commit_there_is_no_lasting_address() -> None:
    assert url_of("https://github.com/o/r", "", "c.py", 3, 9) == ""
