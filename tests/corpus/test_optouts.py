from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import InputError
from starsmith.corpus.files import Drop
from starsmith.corpus.optouts import OptOuts, remove

CONTENT = "swh:1:cnt:" + "0123456789" * 4
OTHER = "swh:1:cnt:" + "a" * 40


def lists(folder: Path, text: str, name: str = "optouts.csv", today: date | None = None) -> OptOuts:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return OptOuts.load([path], today=today)


@pytest.mark.parametrize(
    ("who", "repository", "path", "hit"),
    [
        ("octocat", "https://github.com/octocat/hello", "a.py", True),
        ("OctoCat", "https://github.com/octocat/hello.git", "a.py", True),
        ("octocat", "git@github.com:Octocat/hello.git", "a.py", True),
        ("octocat", "ssh://git@gitlab.example.org:2222/octocat/hello.git", "a.py", True),
        ("octocat", "octocat/hello", "a.py", True),
        ("octocat", "https://github.com/octocat2/hello", "a.py", False),
        ("octocat", "https://github.com/someone/octocat", "a.py", False),
        ("octocat/hello", "https://codeberg.org/octocat/hello/", "a.py", True),
        ("octocat/hello", "https://github.com/octocat/hello-world", "a.py", False),
        ("https://github.com/octocat/hello", "git@github.com:octocat/hello.git", "a.py", True),
        ("https://github.com/octocat/hello", "https://gitlab.com/octocat/hello", "a.py", False),
        ("https://github.com/octocat", "https://github.com/octocat/hello", "a.py", True),
        ("git@github.com:octocat/hello.git", "https://github.com/octocat/hello", "a.py", True),
        ("group/sub", "https://gitlab.com/group/sub/repo", "a.py", True),
        ("octocat/hello:src/a.py", "https://github.com/octocat/hello", "src/a.py", True),
        ("octocat/hello:src/a.py", "https://github.com/octocat/hello", "src/A.py", False),
        ("octocat/hello:src/", "https://github.com/octocat/hello", "src/x/b.py", True),
        ("octocat/hello:src/", "https://github.com/octocat/hello", "srcs/b.py", False),
        ("https://github.com/octocat/hello:a.py", "https://github.com/octocat/hello", "a.py", True),
        ("https://github.com/octocat/hello:a.py", "https://github.com/octocat/hello", "b.py", False),
    ],
)
def test_an_entry_holds_for_what_it_names(tmp_path: Path, who: str, repository: str, path: str, hit: bool) -> None:
    optouts = lists(tmp_path, who + "\n")

    assert (optouts.match(repository, path, CONTENT) is not None) is hit


def test_a_content_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    optouts = lists(tmp_path, f"{CONTENT};origin=https://github.com/a/b,2026-01-02\n")

    assert optouts.match("https://github.com/x/y", "any/where.c", CONTENT) is not None
    assert optouts.match("https://github.com/x/y", "any/where.c", OTHER) is None


def test_the_drop_names_the_entry_its_date_and_its_line(tmp_path: Path) -> None:
    optouts = lists(tmp_path, "# asked by mail\n\nwho,since,reason\nowner/repo, 2026-01-02, private, by mistake\n")

    assert optouts.match("owner/repo", "a.py", CONTENT) == Drop(
        "opted_out", "owner/repo since 2026-01-02, list optouts.csv line 4 (private, by mistake)"
    )


def test_a_list_may_be_toml(tmp_path: Path) -> None:
    text = '[[optout]]\nwho = "octocat"\n\n[[optout]]\nwho = "a/b"\nsince = 2026-01-02\nreason = "moved"\n'

    optouts = lists(tmp_path, text, "list.toml")

    assert len(optouts) == 2
    drop = optouts.match("https://github.com/a/b", "x", CONTENT)
    assert drop is not None
    assert drop.detail == "a/b since 2026-01-02, list list.toml line 4 (moved)"


def test_an_entry_dated_ahead_does_not_hold_before_its_day(tmp_path: Path) -> None:
    text = "octocat,2026-06-01\n"

    assert len(lists(tmp_path, text, today=date(2026, 5, 31))) == 0
    assert len(lists(tmp_path, text, today=date(2026, 6, 1))) == 1
    assert len(lists(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("l.csv", "octocat\nnot a name!\n", "l.csv line 2"),
        ("l.csv", "octocat,yesterday\n", "l.csv line 1"),
        ("l.csv", "octocat,20260102\n", "l.csv line 1"),
        ("l.csv", "swh:1:cnt:12\n", "l.csv line 1"),
        ("l.csv", "swh:1:rev:" + "0" * 40 + "\n", "l.csv line 1"),
        ("l.csv", "who,when\noctocat,2026-01-02\n", "l.csv line 1"),
        ("l.csv", ",2026-01-02\n", "l.csv line 1"),
        ("l.toml", '[[optout]]\nname = "x"\n', "l.toml line 1"),
        ("l.toml", "optout = [\n", "l.toml"),
        ("l.toml", 'who = "octocat"\n', "l.toml"),
    ],
)
def test_a_bad_line_is_an_error_that_names_it(tmp_path: Path, name: str, text: str, place: str) -> None:
    with pytest.raises(InputError) as error:
        lists(tmp_path, text, name)

    assert place in error.value.message
    assert error.value.hint


def test_a_list_that_is_missing_or_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")

    for name in ("missing.txt", "latin.txt"):
        with pytest.raises(InputError, match=name):
            OptOuts.load([tmp_path / name])


def test_several_lists_add_up_and_the_first_entry_for_a_thing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("octocat\n")
    (tmp_path / "b.txt").write_text("Octocat\nother\n")

    optouts = OptOuts.load([tmp_path / "a.txt", tmp_path / "b.txt"])

    drop = optouts.match("octocat/x", "y", CONTENT)
    assert len(optouts) == 2
    assert drop is not None
    assert drop.detail == "octocat, list a.txt line 1"


@given(st.lists(st.tuples(st.sampled_from(["a/x", "b/y", "c/z"]), st.sampled_from(["p.py", "src/q.py"]))))
def test_to_remove_twice_is_to_remove_once(rows: list[tuple[str, str]]) -> None:
    optouts = OptOuts()
    optouts._add(*_entry("a"))
    optouts._add(*_entry("b/y:src/"))
    gone: list[tuple[tuple[str, str], Drop]] = []

    left = list(
        remove(rows, optouts, key=lambda row: (*row, CONTENT), removed=lambda row, drop: gone.append((row, drop)))
    )
    again = list(remove(left, optouts, key=lambda row: (*row, CONTENT), removed=lambda *_: pytest.fail("removed")))

    assert left == again == [row for row in rows if row[0] != "a/x" and row != ("b/y", "src/q.py")]
    assert len(gone) == len(rows) - len(left)


def _entry(who: str):  # type: ignore[no-untyped-def]
    from starsmith.corpus.optouts import Entry, parse_who

    entry = Entry(who, "", "", "here")
    return parse_who(entry), entry
