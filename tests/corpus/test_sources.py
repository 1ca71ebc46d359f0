import os
import pickle
from pathlib import Path

import pytest

from starsmith.core.errors import InputError
from starsmith.corpus import trees
from starsmith.corpus.files import RawFile, Unreadable
from starsmith.corpus.git import GitSource
from starsmith.corpus.sources import FolderReader, FolderSource, Source, open_source, open_sources, standard_library
from worlds import MIT, Commit, Write

CODE = "def f():\n    return 1\n"
LARGEST = 1_000_000


def read(source: Source, largest_bytes: int = LARGEST) -> list[RawFile | Unreadable]:
    units = [pickle.loads(pickle.dumps(unit)) for unit in source.units(largest_bytes=largest_bytes)]
    return [file for unit in units for file in unit.files()]


def paths_of(source: Source) -> list[str]:
    return [file.path for file in read(source)]


def contents_of(source: Source) -> dict[str, bytes]:
    return {file.path: file.content for file in read(source) if isinstance(file, RawFile)}


def test_a_folder_has_its_regular_files_and_follows_no_link(tmp_path: Path, write: Write) -> None:
    outside = write(tmp_path / "outside", {"secret.py": CODE})
    folder = write(tmp_path / "project", {"b.py": CODE, "pkg/a.py": "x = 1\n", ".git_not/c.py": CODE})
    (folder / "link.py").symlink_to(outside / "secret.py")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "pipe")

    source = open_source(folder)

    assert contents_of(source) == {".git_not/c.py": CODE.encode(), "b.py": CODE.encode(), "pkg/a.py": b"x = 1\n"}
    assert paths_of(source) == [".git_not/c.py", "b.py", "pkg/a.py"]
    assert (source.repository, source.commit) == ("project", "")


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


def test_the_nearest_licence_file_above_a_file_is_its_licence(tmp_path: Path, write: Write) -> None:
    folder = write(
        tmp_path / "project",
        {
            "a.py": CODE,
            "lib/LICENSE": MIT,
            "lib/deep/er/b.py": CODE,
            "lib/other/LICENSE": "All mine.",
            "lib/other/c.py": "",
        },
    )

    licenses = {file.path: file.license for file in read(open_source(folder)) if isinstance(file, RawFile)}

    assert licenses["a.py"].expression == ""
    assert (licenses["lib/deep/er/b.py"].expression, licenses["lib/deep/er/b.py"].evidence) == (
        "MIT",
        "text of lib/LICENSE",
    )
    assert licenses["lib/other/c.py"].expression == "LicenseRef-unrecognised"


def test_a_large_tree_is_cut_into_units_that_know_its_licence(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "project", {"LICENSE": MIT, **{f"pkg/{number:03d}.py": "x" * 100 for number in range(100)}})
    monkeypatch.setattr(trees, "UNIT_FILES", 30)

    units = open_source(tmp_path / "project").units(largest_bytes=LARGEST)

    assert [unit.label for unit in units] == [
        "project files 1-30 of 101",
        "project files 31-60 of 101",
        "project files 61-90 of 101",
        "project files 91-101 of 101",
    ]
    assert units[1].size_bytes == 3000
    assert {file.license.expression for unit in units for file in unit.files()} == {"MIT"}
    assert len({unit.fingerprint for unit in units}) == 4


def test_a_unit_has_about_as_many_bytes_as_asked_for(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", {f"{number}.py": "x" * 400 for number in range(10)} | {"5.py": "y" * 5000})
    source = FolderSource(folder, "project")
    tree = trees.Tree(repository="project", reader=FolderReader())
    items = trees.in_path_order(source.entries(), "project")

    units = trees.plan_units(tree, items, largest_bytes=LARGEST, unit_bytes=1000)

    assert [unit.size_bytes for unit in units] == [800, 800, 400, 5000, 800, 800]


def test_a_file_of_4_gigabytes_is_too_large_without_being_read(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", {"a.py": CODE})
    with (folder / "huge.py").open("wb") as file:
        file.truncate(2**32)

    (small, huge) = read(open_source(folder))

    assert isinstance(small, RawFile)
    assert isinstance(huge, Unreadable)
    assert (huge.drop.reason, huge.drop.detail) == ("too_large", "4,294,967,296 bytes, at most 1,000,000")


def test_what_changed_since_the_listing_is_not_waited_for_nor_followed(tmp_path: Path, write: Write) -> None:
    folder = write(
        tmp_path / "project", {"gone.py": CODE, "grown.py": CODE, "link.py": CODE, "pipe.py": CODE, "ok.py": CODE}
    )
    (unit,) = open_source(folder).units(largest_bytes=1000)
    for name in ("gone.py", "link.py", "pipe.py"):
        (folder / name).unlink()
    (folder / "link.py").symlink_to(folder / "ok.py")
    os.mkfifo(folder / "pipe.py")
    (folder / "grown.py").write_text("x" * 2000)

    found = {file.path: file.drop.reason if isinstance(file, Unreadable) else "read" for file in unit.files()}

    assert found == {
        "gone.py": "unreadable",
        "grown.py": "too_large",
        "link.py": "unreadable",
        "ok.py": "read",
        "pipe.py": "unreadable",
    }


def test_the_fingerprint_changes_with_a_file_or_the_licence_and_with_nothing_else(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", {"a.py": CODE, "LICENSE": MIT})

    def fingerprint(largest_bytes: int = LARGEST) -> str:
        return open_source(folder).units(largest_bytes=largest_bytes)[0].fingerprint

    before = fingerprint()
    assert fingerprint() == before
    assert fingerprint(largest_bytes=1) != before

    os.utime(folder / "a.py", ns=(1, 1))
    assert fingerprint() != before


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
    [("nowhere", "nowhere does not exist"), ("a.py", "a.py is a file"), ("*.nothing", "has no table")],
)
def test_what_is_no_source_is_an_error_that_names_it(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.py").write_text(CODE)

    with pytest.raises(InputError, match=message) as caught:
        open_source(tmp_path / name)

    assert caught.value.hint


def test_an_empty_folder_is_an_error_and_a_folder_has_no_revision(tmp_path: Path, write: Write) -> None:
    with pytest.raises(InputError, match="has no file"):
        open_source(write(tmp_path, {})).units(largest_bytes=LARGEST)

    with pytest.raises(InputError, match="no git repository: it has no revision 'main'"):
        open_source(tmp_path, revision="main")


def test_the_standard_library_is_there_and_has_no_tests_in_it() -> None:
    source = standard_library()

    paths = {entry.path for entry in source.entries()}

    assert {"ast.py", "json/decoder.py"} <= paths
    assert not [path for path in paths if "/tests/" in path or path.startswith(("test/", "site-packages/"))]
    (unit, *_) = source.units(largest_bytes=LARGEST)
    assert next(file for file in unit.files() if file.path == "ast.py").license.expression.startswith("Python-2.0")
