import os
import subprocess
from pathlib import Path

import pytest

from starsmith.core.errors import InputError
from starsmith.corpus.sources import FolderSource, GitSource, Source, open_source, open_sources, standard_library
from worlds import MIT, Commit, Write

CODE = "def f():\n    return 1\n"


def paths_of(source: Source) -> list[str]:
    return [entry.path for entry in source.entries()]


def contents_of(source: Source) -> dict[str, bytes]:
    with source.reader() as read:
        return {entry.path: read(entry) for entry in source.entries()}


def test_a_folder_has_its_regular_files_and_follows_no_link(tmp_path: Path, write: Write) -> None:
    outside = write(tmp_path / "outside", {"secret.py": CODE})
    folder = write(tmp_path / "project", {"b.py": CODE, "pkg/a.py": "x = 1\n", ".git_not/c.py": CODE})
    (folder / "link.py").symlink_to(outside / "secret.py")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "pipe")

    source = open_source(folder)

    assert contents_of(source) == {".git_not/c.py": CODE.encode(), "b.py": CODE.encode(), "pkg/a.py": b"x = 1\n"}
    assert source.repository == "project"
    assert source.commit == ""


def test_installed_packages_and_caches_are_nobodys_source(tmp_path: Path, write: Write) -> None:
    folder = write(
        tmp_path / "project",
        {
            "a.py": CODE,
            "node_modules/x/index.js": "x",
            "__pycache__/a.py": CODE,
            "env/pyvenv.cfg": "home = /usr\n",
            "env/lib/b.py": CODE,
            ".venv/c.py": CODE,
        },
    )

    assert paths_of(open_source(folder)) == ["a.py"]


def test_a_file_name_that_is_no_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.py")).write_text(CODE)

    assert contents_of(open_source(folder)) == {"caf\ufffd.py": CODE.encode()}


def test_a_repository_is_read_at_its_commit_and_not_as_it_lies_there(tmp_path: Path, commit: Commit) -> None:
    head = commit(tmp_path / "project", {"a.py": CODE, "pkg/b\nc.py": "y = 2\n"})
    (tmp_path / "project" / "a.py").write_text("changed\n")
    (tmp_path / "project" / "new.py").write_text("new\n")
    (tmp_path / "project" / "link.py").symlink_to("a.py")

    source = open_source(tmp_path / "project")

    assert contents_of(source) == {"a.py": CODE.encode(), "pkg/b\nc.py": b"y = 2\n"}
    assert source.commit == head
    assert source.repository == "project"


def test_a_bare_clone_has_the_same_files(tmp_path: Path, commit: Commit) -> None:
    head = commit(tmp_path / "project", {"a.py": CODE})
    clone = ["git", "clone", "--quiet", "--bare", tmp_path / "project", tmp_path / "bare.git"]
    subprocess.run(clone, check=True)

    source = open_source(tmp_path / "bare.git")

    assert (paths_of(source), source.commit) == (["a.py"], head)


def test_the_remote_is_the_repository_and_its_password_stays_at_home(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"a.py": CODE})
    for url in ("https://me:secret@example.org/team/project.git", "git@example.org:team/project.git"):
        with (tmp_path / "project" / ".git" / "config").open("a") as config:
            config.write(f'[remote "origin"]\n\turl = {url}\n')

        assert open_source(tmp_path / "project").repository == url.replace("me:secret@", "")


def test_a_folder_of_a_repository_is_that_part_with_the_licence_above_it(tmp_path: Path, commit: Commit) -> None:
    head = commit(tmp_path / "project", {"LICENSE": MIT, "a.py": CODE, "src/b.py": CODE, "src/pkg/c.py": CODE})

    source = open_source(tmp_path / "project" / "src")

    assert paths_of(source) == ["LICENSE", "src/b.py", "src/pkg/c.py"]
    assert (source.commit, source.repository) == (head, "project")


def test_repositories_in_a_folder_are_sources_of_their_own(tmp_path: Path, write: Write, commit: Commit) -> None:
    heads = [commit(tmp_path / "code" / name, {"a.py": CODE}) for name in ("one", "group/two")]
    loose = write(tmp_path / "code", {"loose.py": CODE})

    found = open_sources([loose])

    assert [type(source) for source in found] == [FolderSource, GitSource, GitSource]
    assert paths_of(found[0]) == ["loose.py"]
    assert {source.commit for source in found[1:]} == set(heads)

    (loose / "loose.py").unlink()

    assert [type(source) for source in open_sources([loose])] == [GitSource, GitSource]


def test_a_linked_repository_and_one_among_installed_packages_are_no_sources(
    tmp_path: Path, write: Write, commit: Commit
) -> None:
    commit(tmp_path / "elsewhere", {"secret.py": CODE})
    folder = write(tmp_path / "code", {"a.py": CODE, "env/pyvenv.cfg": "home = /usr\n"})
    for name in ("env/src/package", "node_modules/package"):
        commit(folder / name, {"b.py": CODE})
    (folder / "link").symlink_to(tmp_path / "elsewhere")

    (source,) = open_sources([folder])

    assert paths_of(source) == ["a.py"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "nowhere does not exist"), ("a.py", "a.py is a file"), ("empty", "git cannot read")],
)
def test_what_is_no_source_is_an_error_that_names_it(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.py").write_text(CODE)
    subprocess.run(["git", "init", "--quiet", tmp_path / "empty"], check=True)

    with pytest.raises(InputError, match=message) as caught:
        open_source(tmp_path / name)

    assert caught.value.hint


def test_a_variable_that_names_another_repository_is_not_followed(
    tmp_path: Path, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = commit(tmp_path / "project", {"a.py": CODE})
    commit(tmp_path / "other", {"b.py": CODE})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))

    assert open_source(tmp_path / "project").commit == head


def test_the_standard_library_is_there_and_has_no_tests_in_it() -> None:
    paths = paths_of(standard_library())

    assert {"ast.py", "json/decoder.py"} <= set(paths)
    assert not [path for path in paths if "/tests/" in path or path.startswith(("test/", "site-packages/"))]
