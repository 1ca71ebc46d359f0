import os
import pickle
import subprocess
from datetime import date
from pathlib import Path

import pytest

from starsmith.core.errors import InputError
from starsmith.corpus import git
from starsmith.corpus.files import RawFile, Unreadable
from starsmith.corpus.sources import Source, open_source, open_sources
from worlds import MIT, Commit

pytestmark = pytest.mark.slow

CODE = "def f():\n    return 1\n"
LARGEST = 1_000_000


def read(source: Source, largest_bytes: int = LARGEST) -> list[RawFile | Unreadable]:
    units = [pickle.loads(pickle.dumps(unit)) for unit in source.units(largest_bytes=largest_bytes)]
    return [file for unit in units for file in unit.files()]


def contents_of(source: Source) -> dict[str, bytes]:
    return {file.path: file.content for file in read(source) if isinstance(file, RawFile)}


def run_git(folder: Path, *arguments: str, stdin: bytes = b"", **variables: str) -> str:
    names = ("user.name=Somebody", "user.email=somebody@example.org", "protocol.file.allow=always")
    command = ["git", "-C", str(folder), *(part for name in names for part in ("-c", name)), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, **variables}
    result = subprocess.run(command, check=True, capture_output=True, input=stdin, env=environment)
    return result.stdout.decode().strip()


def commit_at(folder: Path, day: str, files: dict[str, str | None]) -> str:
    """Write files, or remove them, and commit on a day."""
    folder.mkdir(exist_ok=True)
    if not (folder / ".git").exists():
        run_git(folder, "init", "--quiet")
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(content)
    run_git(folder, "add", "--all")
    when = f"{day}T12:00:00+00:00"
    run_git(folder, "commit", "--quiet", "-m", "work", GIT_COMMITTER_DATE=when, GIT_AUTHOR_DATE=when)
    return run_git(folder, "rev-parse", "HEAD")


def loose_object(folder: Path, name: str) -> Path:
    blob = run_git(folder, "rev-parse", f"HEAD:{name}")
    return folder / ".git" / "objects" / blob[:2] / blob[2:]


def test_a_repository_is_read_at_its_commit_and_not_as_it_lies_there(tmp_path: Path, commit: Commit) -> None:
    head = commit(tmp_path / "project", {"a.py": CODE, "pkg/b\nc.py": "y = 2\n", "LICENSE": MIT})
    (tmp_path / "project" / "a.py").write_text("changed\n")
    (tmp_path / "project" / "new.py").write_text("new\n")

    source = open_source(tmp_path / "project")

    files = read(source)
    assert contents_of(source) == {"a.py": CODE.encode(), "pkg/b\nc.py": b"y = 2\n", "LICENSE": MIT.encode()}
    assert [file.path for file in files] == ["LICENSE", "a.py", "pkg/b\nc.py"]
    assert {(file.commit, file.repository, file.license.expression, len(file.date)) for file in files} == {
        (head, "project", "MIT", 25)
    }


def test_links_and_submodules_are_no_files(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "inner", {"inner.py": CODE})
    commit(tmp_path / "project", {"a.py": CODE})
    (tmp_path / "project" / "link.py").symlink_to("../../etc/passwd")
    run_git(tmp_path / "project", "submodule", "--quiet", "add", str(tmp_path / "inner"), "vendor")
    commit(tmp_path / "project", {"b.py": CODE})

    assert list(contents_of(open_source(tmp_path / "project"))) == [".gitmodules", "a.py", "b.py"]
    assert list(contents_of(open_source(tmp_path / "project" / "vendor"))) == ["inner.py"]


def test_bare_and_shallow_clones_and_worktrees_have_the_same_files(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"a.py": "old\n"})
    head = commit(tmp_path / "project", {"a.py": CODE})
    origin = f"file://{tmp_path / 'project'}"
    run_git(tmp_path, "clone", "--quiet", "--bare", origin, "bare.git")
    run_git(tmp_path, "clone", "--quiet", "--depth=1", origin, "shallow")
    run_git(tmp_path / "project", "worktree", "add", "--quiet", str(tmp_path / "tree"))

    for name in ("bare.git", "shallow", "tree"):
        source = open_source(tmp_path / name)

        assert (contents_of(source), source.commit) == ({"a.py": CODE.encode()}, head)


def test_a_partial_clone_fetches_nothing_and_says_which_objects_it_lacks(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"a.py": CODE, "b.py": "b = 1\n"})
    run_git(tmp_path / "project", "config", "uploadpack.allowFilter", "true")
    run_git(
        tmp_path,
        *("clone", "--quiet", "--bare", "--filter=blob:none", f"file://{tmp_path / 'project'}", "partial.git"),
    )

    files = read(open_source(tmp_path / "partial.git"))

    assert [(file.path, file.drop.reason) for file in files if isinstance(file, Unreadable)] == [
        ("a.py", "unreadable"),
        ("b.py", "unreadable"),
    ]


def test_a_revision_is_a_branch_a_tag_or_a_commit(tmp_path: Path, commit: Commit) -> None:
    first = commit(tmp_path / "project", {"a.py": "first\n"})
    run_git(tmp_path / "project", "tag", "-m", "annotated", "v1")
    run_git(tmp_path / "project", "branch", "old")
    commit(tmp_path / "project", {"a.py": CODE})

    for revision in ("v1", "old", first, first[:10]):
        source = open_source(tmp_path / "project", revision=revision)

        assert (contents_of(source), source.commit) == ({"a.py": b"first\n"}, first)


@pytest.mark.parametrize("revision", ["nowhere", "--output=x", "HEAD:a.py", ""])
def test_what_is_no_revision_is_an_error(tmp_path: Path, commit: Commit, revision: str) -> None:
    commit(tmp_path / "project", {"a.py": CODE})

    with pytest.raises(InputError) as caught:
        open_source(tmp_path / "project", revision=revision)

    assert caught.value.hint


def test_since_a_date_gives_each_version_once_with_the_newest_commit_that_wrote_it(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    commit_at(folder, "2020-01-01", {"a.py": "a = 0\n", "kept.py": "kept\n"})
    second = commit_at(folder, "2021-01-01", {"a.py": "a = 1\n", "gone.py": "gone\n"})
    head = commit_at(folder, "2022-01-01", {"a.py": "a = 2\n", "gone.py": None, "same.py": "kept\n"})

    source = open_source(folder, since=date(2020, 6, 1))

    assert [(file.path, file.content, file.commit, file.date[:4]) for file in read(source)] == [
        ("a.py", b"a = 2\n", head, "2022"),
        ("a.py", b"a = 1\n", second, "2021"),
        ("gone.py", b"gone\n", second, "2021"),
        ("kept.py", b"kept\n", head, "2022"),
    ]


def test_since_a_date_has_what_a_merge_wrote_itself(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    commit_at(folder, "2021-01-01", {"a.py": "a\n"})
    run_git(folder, "checkout", "--quiet", "-b", "side")
    commit_at(folder, "2021-01-02", {"a.py": "side\n"})
    run_git(folder, "checkout", "--quiet", "-")
    commit_at(folder, "2021-01-03", {"a.py": "trunk\n"})
    subprocess.run(["git", "-C", folder, "merge", "--quiet", "side"], capture_output=True, check=False)
    merge = commit_at(folder, "2021-01-04", {"a.py": "merged\n"})
    head = commit_at(folder, "2021-01-05", {"a.py": "after\n"})

    files = read(open_source(folder, since=date(2021, 1, 2)))

    assert [(file.content, file.commit) for file in files][:2] == [(b"after\n", head), (b"merged\n", merge)]
    assert {file.content for file in files} == {b"after\n", b"merged\n", b"trunk\n", b"side\n"}


def test_a_corrupt_object_costs_only_its_own_file(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"a.py": "a = 1\n", "b.py": "b = 1\n", "c.py": "c = 1\n", "d.py": "d = 1\n"})
    source = open_source(tmp_path / "project")
    units = source.units(largest_bytes=LARGEST)
    for name in ("b.py", "c.py"):
        path = loose_object(tmp_path / "project", name)
        path.chmod(0o644)
        path.write_bytes(b"no object")

    (found,) = [list(unit.files()) for unit in units]

    assert [file.path for file in found] == ["a.py", "b.py", "c.py", "d.py"]
    assert [type(file) for file in found] == [RawFile, Unreadable, Unreadable, RawFile]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"a.py": CODE, "large.py": "x" * 5000})

    files = read(open_source(tmp_path / "project"), largest_bytes=1000)

    assert isinstance(files[1], Unreadable)
    assert (files[1].drop.reason, files[1].drop.detail) == ("too_large", "5,000 bytes, at most 1,000")


def test_names_that_are_no_utf8_and_differ_only_in_case_are_all_kept(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"Read.py": "upper\n", "read.py": "lower\n"})
    Path(os.fsdecode(os.fsencode(tmp_path / "project") + b"/caf\xe9.py")).write_text(CODE)
    commit(tmp_path / "project", {})

    assert list(contents_of(open_source(tmp_path / "project"))) == ["Read.py", "caf\ufffd.py", "read.py"]


def test_a_tree_that_stands_for_billions_of_files_is_cut(
    tmp_path: Path, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tmp_path / "project", {"a.py": CODE})
    tree = run_git(tmp_path / "project", "rev-parse", "HEAD^{tree}")
    for _ in range(10):
        lines = "".join(f"040000 tree {tree}\tf{number}\n" for number in range(10))
        tree = run_git(tmp_path / "project", "mktree", stdin=lines.encode())
    bomb = run_git(tmp_path / "project", "commit-tree", tree, "-m", "bomb")
    monkeypatch.setattr("starsmith.corpus.trees.MOST_ENTRIES", 1000)

    files = read(open_source(tmp_path / "project", revision=bomb))

    assert len(files) == 1001
    assert isinstance(files[-1], Unreadable)
    assert files[-1].drop.reason == "too_many_files"


def test_a_repository_that_cannot_be_read_is_one_drop_inside_a_folder_and_an_error_by_itself(
    tmp_path: Path, commit: Commit
) -> None:
    head = commit(tmp_path / "code" / "good", {"a.py": CODE})
    run_git(tmp_path, "init", "--quiet", str(tmp_path / "code" / "empty"))
    commit(tmp_path / "code" / "torn", {"a.py": CODE})
    for path in (tmp_path / "code" / "torn" / ".git" / "objects").glob("??/*"):
        path.unlink()

    sources = open_sources([tmp_path / "code"])

    assert [(source.repository, source.commit) for source in sources] == [("empty", ""), ("good", head), ("torn", "")]
    for source in (sources[0], sources[2]):
        (drop,) = read(source)
        assert isinstance(drop, Unreadable)
        assert (drop.path, drop.drop.reason) == ("", "unreadable_repository")
        assert "git cannot read" in drop.drop.detail
        with pytest.raises(InputError, match="git cannot read"):
            open_source(tmp_path / "code" / source.repository)


def test_a_corrupt_tree_is_an_error_that_names_the_repository(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"a.py": CODE, "pkg/b.py": CODE})
    tree = run_git(tmp_path / "project", "rev-parse", "HEAD:pkg")
    (tmp_path / "project" / ".git" / "objects" / tree[:2] / tree[2:]).unlink()

    with pytest.raises(InputError, match="project"):
        open_source(tmp_path / "project").units(largest_bytes=LARGEST)

    (drop,) = read(git.found_repository(tmp_path / "project"))
    assert isinstance(drop, Unreadable)
    assert drop.drop.reason == "unreadable_repository"


def test_without_git_a_repository_is_an_error_that_says_so(
    tmp_path: Path, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tmp_path / "project", {"a.py": CODE})
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InputError, match="git is not installed"):
        open_source(tmp_path / "project")


def test_the_remote_is_the_repository_and_its_password_stays_at_home(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"a.py": CODE})
    for url in ("https://me:secret@example.org/team/project.git", "git@example.org:team/project.git"):
        with (tmp_path / "project" / ".git" / "config").open("a") as config:
            config.write(f'[remote "origin"]\n\turl = {url}\n')

        assert open_source(tmp_path / "project").repository == url.replace("me:secret@", "")


def test_a_folder_of_a_repository_is_that_part_with_the_licence_above_it(tmp_path: Path, commit: Commit) -> None:
    head = commit(tmp_path / "project", {"LICENSE": MIT, "a.py": CODE, "src/b.py": CODE, "src/pkg/c.py": CODE})

    source = open_source(tmp_path / "project" / "src")

    assert list(contents_of(source)) == ["LICENSE", "src/b.py", "src/pkg/c.py"]
    assert (source.commit, source.repository) == (head, "project")
    assert {file.license.expression for file in read(source)} == {"MIT"}


def test_a_variable_that_names_another_repository_is_not_followed(
    tmp_path: Path, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = commit(tmp_path / "project", {"a.py": CODE})
    commit(tmp_path / "other", {"b.py": CODE})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))

    assert open_source(tmp_path / "project").commit == head


def test_a_url_is_fetched_bare_into_the_cache_and_again_when_it_moves_on(tmp_path: Path, commit: Commit) -> None:
    first = commit(tmp_path / "project", {"a.py": "first\n"})
    url, cache = f"file://{tmp_path / 'project'}", tmp_path / "cache"

    assert open_source(url, cache=cache).commit == first

    head = commit(tmp_path / "project", {"a.py": CODE})
    source = open_source(url, cache=cache)

    assert (contents_of(source), source.commit, source.repository) == ({"a.py": CODE.encode()}, head, url)
    assert contents_of(open_source(url, revision=first, cache=cache)) == {"a.py": b"first\n"}
    assert len(list(cache.iterdir())) == 1
    since = open_source(url, since=date(2020, 1, 1), cache=cache)
    assert [file.content for file in read(since)] == [CODE.encode(), b"first\n"]


def test_a_url_that_leads_nowhere_is_an_error_without_its_password(tmp_path: Path) -> None:
    url = f"file://me:secret@{tmp_path}/nowhere"

    with pytest.raises(InputError) as caught:
        open_source(url, cache=tmp_path / "cache")

    assert "secret" not in caught.value.message
    assert "nowhere" in caught.value.message


def test_the_fingerprint_follows_the_commit_and_the_slice(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"a.py": CODE})
    source = open_source(tmp_path / "project")
    before = [unit.fingerprint for unit in source.units(largest_bytes=LARGEST)]

    assert [unit.fingerprint for unit in source.units(largest_bytes=LARGEST)] == before

    commit(tmp_path / "project", {"b.py": CODE})

    assert [unit.fingerprint for unit in open_source(tmp_path / "project").units(largest_bytes=LARGEST)] != before


@pytest.mark.parametrize(
    ("place", "is_url"),
    [
        ("https://example.org/a.git", True),
        ("git@example.org:a/b.git", True),
        ("ssh://git@example.org/a", True),
        ("file:///srv/a", True),
        ("ext::sh -c touch% x", False),
        ("s3://bucket/a", False),
        ("src/package", False),
        ("--upload-pack=x", False),
    ],
)
def test_only_known_schemes_are_urls_of_repositories(place: str, is_url: bool) -> None:
    assert git.is_url(place) == is_url
