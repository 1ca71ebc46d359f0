"""A corpus without some files is, bit for bit, the corpus that a build of sources without them gives."""

import io
import json
import random
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from builds import GPL_TAG, benchmarks_of, build, config, dropped, drops, module, modules, near_copy, rows_of
from starsmith.cli.corpus import corpus as command
from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.records import swhid_of
from starsmith.corpus import build as stage
from starsmith.corpus import origins, removal, removal_alone
from starsmith.corpus.removal_requests import Removals, Request, read_requests
from starsmith.corpus.sources import open_sources
from worlds import MIT, Commit, Write

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "held_out": 0.2,
    "notebooks": ["script"],
    "licenses": {"unlicensed": True},
    "sampling": {"languages": {"C": 0.5}, "most_bytes": {"Python": 3000}, "repositories": {"three": 2.0}},
}
NOTEBOOK = {
    "cells": [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1, "source": [module(70)]}],
    "metadata": {"language_info": {"name": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def files_of(number: int) -> dict[str, str]:
    """A project with exact and near copies, several licences, secrets, a notebook, and files that are dropped."""
    first = 10 * number
    near = {f"near{copy}.py": module(first).replace("value_7", f"other_{copy}") for copy in range(3)}
    return {
        "LICENSE": MIT,
        **{f"pkg/m{at}.py": module(at) for at in range(first, first + 6)},
        **near,
        "pkg/exact.py": module(1),
        "sub/LICENSE": "Apache License\nVersion 2.0, January 2004\nhttp://www.apache.org/licenses/\n",
        "sub/near.py": near_copy(2),
        "sub/secret.py": module(first + 7) + f"OWNER = 'jane{number}.doe@corporation.org'\n",
        "gpl.py": GPL_TAG + module(first + 8),
        "study.ipynb": json.dumps(NOTEBOOK),
        "add.c": f"int add_{number}(int value) {{\n    return value + {number};\n}}\n",
        "empty.py": "  \n",
    }


def all_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def assert_equal(one: Path, other: Path) -> None:
    """Every file, the whole manifest, and the list of what was left out."""
    first, second = artifact.read(one), artifact.read(other)
    assert first.files == second.files
    assert (first.id, first.counts, first.seal) == (second.id, second.counts, second.seal)
    assert (one / "run" / "dropped.jsonl").read_bytes() == (other / "run" / "dropped.jsonl").read_bytes()
    assert (one / "run" / "sources.json").read_bytes() == (other / "run" / "sources.json").read_bytes()


def remove(corpus: Path, requests: Sequence[Request], out: Path, *places: Path) -> list[origins.Removed]:
    return removal.run(removal.prepare(removal.plan(corpus, requests), places, out=out))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, write: Write) -> Path:
    """Three folders `one`, `two`, `three`, and the corpus of them."""
    folder = tmp_path_factory.mktemp("world")
    for number, name in enumerate(("one", "two", "three")):
        write(folder / name, files_of(number))
    build(folder / "corpus", *(folder / name for name in ("one", "two", "three")), **SETTINGS)
    return folder


@pytest.fixture
def again(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that builds the corpus of the same folders, without some of their files."""

    def make(*gone: str) -> Path:
        copy = tmp_path / f"again{len(list(tmp_path.iterdir()))}"
        for name in ("one", "two", "three"):
            shutil.copytree(world / name, copy / name)
        for name in gone:
            (copy / name).unlink()
        build(copy / "corpus", *(copy / name for name in ("one", "two", "three")), **SETTINGS)
        return copy / "corpus"

    return make


def request(what: str) -> tuple[Request, ...]:
    return read_requests(what)


def places(world: Path) -> list[str]:
    return [f"{name}/{path}" for name in ("one", "two", "three") for path in all_files(world / name)]


@hypothesis_settings(max_examples=25)
@given(seed=st.integers(0, 10**9))
def test_what_is_left_is_what_a_build_without_the_files_gives(
    seed: int, world: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    named = chance.sample(places(world), chance.randint(1, 5))
    content = (world / chance.choice(places(world))).read_bytes()
    gone = {*named, *(name for name in places(world) if (world / name).read_bytes() == content)}
    out = tmp_path_factory.mktemp("out")
    for name in ("one", "two", "three"):
        shutil.copytree(world / name, out / name)
    for name in gone:
        (out / name).unlink()
    build(out / "without", *(out / name for name in ("one", "two", "three")), **SETTINGS)
    wanted = [*(one for name in named for one in request(name.replace("/", ":", 1))), *request(swhid_of(content))]

    remove(world / "corpus", wanted, world / f"removed{seed}")

    assert_same_data(world / f"removed{seed}", out / "without")
    shutil.rmtree(world / f"removed{seed}")
    shutil.rmtree(out)


def assert_same_data(one: Path, other: Path) -> None:
    """All but `run/sources.json`, which has the places of the sources."""
    first, second = artifact.read(one), artifact.read(other)
    assert first.files == second.files
    assert (first.id, first.counts, first.seal) == (second.id, second.counts, second.seal)
    assert (one / "run" / "dropped.jsonl").read_bytes() == (other / "run" / "dropped.jsonl").read_bytes()


def test_a_source_of_which_all_is_removed_is_forgotten(world: Path, tmp_path: Path) -> None:
    build(tmp_path / "without", world / "one", world / "three", **SETTINGS)

    removed = remove(world / "corpus", request("two"), tmp_path / "removed")

    assert_equal(tmp_path / "removed", tmp_path / "without")
    assert {one.repository for one in removed} == {"two"}
    kept = [path for path in (tmp_path / "removed").rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert all(b'"two"' not in path.read_bytes() for path in kept)


def test_another_copy_comes_in_where_the_one_that_stood_for_it_goes(world: Path, tmp_path: Path) -> None:
    (kept,) = [path for path in rows_of(world / "corpus") if path in {f"near{number}.py" for number in range(3)}][:1]
    name = rows_of(world / "corpus")[kept]["repository"]

    remove(world / "corpus", request(f"{name}:{kept}"), tmp_path / "removed")

    came = removal.came_in(world / "corpus", tmp_path / "removed")
    assert len(came) == 1
    assert came[0][0] == name


def test_a_content_goes_wherever_it_lies(world: Path, tmp_path: Path) -> None:
    swhid = swhid_of(module(1).encode())

    removed = remove(world / "corpus", request(swhid), tmp_path / "removed")

    assert {f"{one.repository}/{one.path}" for one in removed} == {
        "one/pkg/m1.py", "one/pkg/exact.py", "two/pkg/exact.py", "three/pkg/exact.py"
    }  # fmt: skip
    text = b"".join(path.read_bytes() for path in (tmp_path / "removed").rglob("*") if path.is_file())
    assert swhid.encode() not in text
    assert all(row["text"] != module(1) for row in rows_of(tmp_path / "removed").values())


def test_copies_of_a_file_go_and_those_that_were_left_out_for_them_too(
    world: Path, tmp_path: Path, again: Callable[..., Path], write: Write
) -> None:
    write(tmp_path, {"theirs.py": "import os\n\n" + module(10).replace("    ", "\t") + "print(os.name)\n"})

    removed = remove(world / "corpus", request(f"copies_of={tmp_path / 'theirs.py'}"), tmp_path / "removed")

    gone = {f"{one.repository}/{one.path}" for one in removed}
    assert gone == {"two/pkg/m10.py"} | {f"two/near{number}.py" for number in range(3)}
    assert_same_data(tmp_path / "removed", again(*gone))


def test_a_corpus_can_be_taken_through_one_removal_after_the_other(
    world: Path, tmp_path: Path, again: Callable[..., Path]
) -> None:
    first, second = request("one:pkg/m3.py"), request("two:add.c")
    remove(world / "corpus", first, tmp_path / "first")

    with pytest.raises(InputError, match="is not what") as caught:
        remove(tmp_path / "first", second, tmp_path / "second")
    remove(tmp_path / "first", (*first, *second), tmp_path / "second")

    assert first[0].id in caught.value.hint
    assert not (tmp_path / "second.partial").exists()
    assert_same_data(tmp_path / "second", again("one/pkg/m3.py", "two/add.c"))
    known = json.loads((tmp_path / "second" / "run" / "removals.json").read_text())
    assert {one["id"] for one in known["requests"]} == {first[0].id, second[0].id}
    assert known["corpora"] == [artifact.read(place).id for place in (world / "corpus", tmp_path / "first")]


def test_an_earlier_request_need_not_be_given_once_its_files_are_gone(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", modules())
    build(tmp_path / "corpus", folder)
    remove(tmp_path / "corpus", request("project:pkg/m1.py"), tmp_path / "first")
    (folder / "pkg/m1.py").unlink()

    remove(tmp_path / "first", request("project:pkg/m2.py"), tmp_path / "second")

    assert set(rows_of(tmp_path / "second")) == {f"pkg/m{number}.py" for number in range(12) if number not in (1, 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pkg/m1.py": "x = 1\n"}, "is not what .* was made from"),
        ({"pkg/new.py": "x = 1\n"}, "14 files were read, 13 then"),
        ({"LICENSE": MIT + "And no more.\n"}, "is not what .* was made from"),
    ],
)
def test_sources_that_changed_since_are_refused(
    change: dict[str, str], message: str, tmp_path: Path, write: Write
) -> None:
    folder = write(tmp_path / "project", modules())
    build(tmp_path / "corpus", folder)
    write(folder, change)

    with pytest.raises(InputError, match=message) as caught:
        remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "removed")

    assert caught.value.hint
    assert not list(tmp_path.glob("removed*"))


def test_what_is_removed_may_have_changed_in_no_way_either(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", modules())
    build(tmp_path / "corpus", folder)
    (folder / "pkg/m2.py").unlink()

    with pytest.raises(InputError, match="12 files were read, 13 then"):
        remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "removed")


def test_a_repository_is_read_at_the_commit_that_was_recorded(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", modules())
    build(tmp_path / "corpus", tmp_path / "project")
    (tmp_path / "project/pkg/m1.py").unlink()
    commit(tmp_path / "project", {"pkg/new.py": module(50)})

    remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "removed")
    remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "given", tmp_path / "project")

    assert set(rows_of(tmp_path / "removed")) == set(rows_of(tmp_path / "corpus")) - {"pkg/m2.py"}
    assert_equal(tmp_path / "removed", tmp_path / "given")


def test_sources_that_moved_are_given_again_and_all_of_them(tmp_path: Path, write: Write) -> None:
    for name, first in (("one", 0), ("two", 20)):
        write(tmp_path / name, {"LICENSE": MIT, **{f"m{at}.py": module(at) for at in range(first, first + 5)}})
    build(tmp_path / "corpus", tmp_path / "one", tmp_path / "two")
    (tmp_path / "new").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    wanted = request("one:m1.py")

    with pytest.raises(InputError, match=r"is not at .* any more") as moved:
        remove(tmp_path / "corpus", wanted, tmp_path / "removed")
    with pytest.raises(InputError, match="two is not among the sources"):
        remove(tmp_path / "corpus", wanted, tmp_path / "removed", tmp_path / "new/one")
    remove(tmp_path / "corpus", wanted, tmp_path / "removed", tmp_path / "new/one", tmp_path / "new/two")

    assert "SOURCE" in moved.value.hint
    assert len(rows_of(tmp_path / "removed")) == 9


def test_a_list_of_opt_outs_that_changed_is_refused(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", modules())
    list_ = write(tmp_path, {"optouts.txt": "project:pkg/m7.py\n"}) / "optouts.txt"
    build(tmp_path / "corpus", folder, opt_outs=[str(list_)])
    list_.write_text("octocat\n")

    with pytest.raises(InputError, match=r"optouts\.txt has changed since"):
        remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "removed")


def test_a_corpus_that_does_not_remember_its_sources_says_so(tmp_path: Path, write: Write) -> None:
    build(tmp_path / "corpus", write(tmp_path / "project", modules()))
    (tmp_path / "corpus/run/sources.json").write_text("[")
    with pytest.raises(ArtifactError, match=r"sources\.json is damaged"):
        remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "removed")
    (tmp_path / "corpus/run/sources.json").unlink()

    with pytest.raises(ArtifactError, match="does not remember its sources") as caught:
        remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "removed")

    assert "build it again" in caught.value.hint


def test_places_in_object_storage_are_not_opened_unasked(tmp_path: Path, write: Write) -> None:
    build(tmp_path / "corpus", write(tmp_path / "project", modules()))
    file = tmp_path / "corpus/run/sources.json"
    known = json.loads(file.read_text())
    known["sources"][0]["place"] = "s3://bucket/stack"
    file.write_text(json.dumps(known))

    with pytest.raises(InputError, match="nothing is fetched"):
        remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "removed")


def test_an_interrupted_build_of_another_removal_leaves_nothing(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "SHARD_BYTES", 2_000)  # the first has more shards than the second
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_account", stop)
        with pytest.raises(KeyboardInterrupt):
            remove(world / "corpus", request("one:pkg/m1.py"), tmp_path / "removed")
    remove(world / "corpus", request("two"), tmp_path / "removed")
    build(tmp_path / "without", world / "one", world / "three", **SETTINGS)

    assert_equal(tmp_path / "removed", tmp_path / "without")


def test_an_interrupted_removal_goes_on_and_tells_the_same(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    whole = remove(world / "corpus", request("one:pkg/"), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_decide", stop)
        with pytest.raises(KeyboardInterrupt):
            remove(world / "corpus", request("one:pkg/"), tmp_path / "removed")
    monkeypatch.setattr("starsmith.corpus.work._read_unit", stop)  # what was read is not read again

    removed = remove(world / "corpus", request("one:pkg/"), tmp_path / "removed")

    assert removed == whole
    assert len(removed) == 7
    assert_equal(tmp_path / "removed", tmp_path / "whole")


def test_a_build_leaves_out_what_requests_name(world: Path, tmp_path: Path) -> None:
    build(tmp_path / "without", world / "one", world / "three", **SETTINGS)
    removed = origins.Removal(Removals(request("two")))

    sources = open_sources([world / name for name in ("one", "two", "three")])
    stage.run(config(**SETTINGS), sources=sources, out=tmp_path / "corpus", removal=removed)

    assert_equal(tmp_path / "corpus", tmp_path / "without")
    assert (tmp_path / "corpus" / "run" / "removals.json").exists()


def test_the_build_command_takes_requests(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", modules())
    list_ = write(tmp_path, {"requests.txt": "project:pkg/m2.py\nproject:pkg/m3.py\n"}) / "requests.txt"
    out = str(tmp_path / "corpus")

    result = CliRunner().invoke(command, ["build", str(folder), "--out", out, "--without", str(list_)])

    assert result.exit_code == 0
    assert set(rows_of(tmp_path / "corpus")) == {f"pkg/m{number}.py" for number in range(12) if number not in (2, 3)}


def test_nothing_left_is_an_error_and_leaves_nothing_behind(tmp_path: Path, write: Write) -> None:
    build(tmp_path / "corpus", write(tmp_path / "project", modules()))

    with pytest.raises(InputError, match="no file is left"):
        remove(tmp_path / "corpus", request("project"), tmp_path / "removed")

    assert not list(tmp_path.glob("removed*"))


def test_rows_of_tables_are_removed_by_owner(tmp_path: Path, write: Write) -> None:
    names = ("https://github.com/Octocat/hello", "https://github.com/somebody/else", "octocat/tools")
    rows = [{"repository_name": name, "path": "a.py", "content": module(at)} for at, name in enumerate(names)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    build(tmp_path / "corpus", write(tmp_path / "in", {"rows.jsonl": text}), licenses={"unlicensed": True})

    remove(tmp_path / "corpus", request("octocat"), tmp_path / "removed")

    assert [row["repository"] for row in rows_of(tmp_path / "removed").values()] == [names[1]]
    assert b"ctocat" not in b"".join(
        path.read_bytes() for path in (tmp_path / "removed").rglob("*.*") if path.is_file()
    )


def pack(place: Path, files: dict[str, str]) -> Path:
    """An archive of its name's kind."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w") as packed:
            for name, text in files.items():
                packed.writestr(name, text)
        return place
    with tarfile.open(place, "w:gz") as written:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            written.addfile(member, io.BytesIO(text.encode()))
    return place


@pytest.mark.parametrize("name", ["project.zip", "project.tar.gz"])
@pytest.mark.parametrize("gone", ["LICENSE", "sub/LICENSE", "pkg/m1.py", "pkg/exact.py"])
def test_a_file_of_an_archive_is_removed_as_though_it_had_not_been_packed(name: str, gone: str, tmp_path: Path) -> None:
    files = files_of(0)
    settings = {"licenses": {"unlicensed": True}}
    build(tmp_path / "corpus", pack(tmp_path / "all" / name, files), **settings)
    rest = {path: text for path, text in files.items() if path != gone}
    build(tmp_path / "without", pack(tmp_path / "rest" / name, rest), **settings)

    remove(tmp_path / "corpus", request(f"{name}:{gone}"), tmp_path / "removed")

    assert_same_data(tmp_path / "removed", tmp_path / "without")


def test_a_file_of_a_repository_is_removed_as_though_it_had_not_been_committed(tmp_path: Path, commit: Commit) -> None:
    files = files_of(0)
    commit(tmp_path / "all" / "project", files)
    commit(tmp_path / "rest" / "project", {path: text for path, text in files.items() if path != "LICENSE"})
    for name in ("all", "rest"):
        build(tmp_path / name / "corpus", tmp_path / name / "project", licenses={"unlicensed": True})

    remove(tmp_path / "all" / "corpus", request("project:LICENSE"), tmp_path / "removed")

    own = ("commit", "date")
    rows, others = rows_of(tmp_path / "removed"), rows_of(tmp_path / "rest" / "corpus")
    assert {path: {**row, **dict.fromkeys(own)} for path, row in rows.items()} == {
        path: {**row, **dict.fromkeys(own)} for path, row in others.items()
    }


def test_what_depends_on_benchmarks_is_decided_by_the_same_ones(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", modules())
    benchmarks = benchmarks_of(tmp_path / "benchmarks", module(4))
    build(tmp_path / "corpus", folder, benchmarks=benchmarks)

    remove(tmp_path / "corpus", request("project:pkg/m2.py"), tmp_path / "removed")

    assert set(rows_of(tmp_path / "removed")) == {f"pkg/m{number}.py" for number in range(12) if number not in (2, 4)}
    assert artifact.read(tmp_path / "removed").parents == artifact.read(tmp_path / "corpus").parents


def test_tasks_in_other_processes_leave_out_the_same(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = request("one:pkg/m1.py") + request(f"copies_of={world / 'two/pkg/m12.py'}")
    here = remove(world / "corpus", wanted, tmp_path / "here")

    monkeypatch.setattr("starsmith.corpus.engine.IN_PROCESS_BYTES", 0)
    there = remove(world / "corpus", wanted, tmp_path / "there")

    assert here == there
    assert_equal(tmp_path / "here", tmp_path / "there")


def test_a_file_that_could_not_be_read_is_no_longer_named(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path / "project", modules())
    write(folder, {"large.py": "x = 1\n" * 2000})
    build(tmp_path / "corpus", folder, largest_bytes=5000)

    remove(tmp_path / "corpus", request("project:large.py"), tmp_path / "removed")

    assert "large.py" in dropped(tmp_path / "corpus")
    assert "large.py" not in dropped(tmp_path / "removed")
    assert drops(artifact.read(tmp_path / "removed")) == {"plain_text": 1}


def test_the_plan_tells_what_goes_and_writes_nothing(world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}

    found = removal.plan(world / "corpus", request("one:pkg/m1.py") + request("one:gpl.py"))

    goes = [(one.repository, one.path) for one in found.documents]
    assert goes in ([("one", "pkg/m1.py")], [])
    assert [(one.path, one.reason) for one in found.left_out if one.path == "gpl.py"] == [("gpl.py", "not_permissive")]
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_without_the_sources_rows_are_taken_away_and_what_could_not_be_done_is_told(
    world: Path, tmp_path: Path
) -> None:
    stood = next(
        row for row in rows_of(world / "corpus").values() if row["cluster_size"] > 1 and row["redactions"] == 0
    )
    secret = next(row for row in rows_of(world / "corpus").values() if row["redactions"])
    wanted = request(stood["swhid"]) + request(f"{secret['repository']}:{secret['path']}")

    missing = removal_alone.run(removal.plan(world / "corpus", wanted), out=tmp_path / "removed")

    from starsmith.provenance.lineage import verify_chain

    assert verify_chain(tmp_path / "removed").verdict == "holds"
    assert artifact.read(tmp_path / "removed").counts["kept"] == artifact.read(world / "corpus").counts["kept"] - 2
    assert missing
    text = b"".join(path.read_bytes() for path in (tmp_path / "removed").rglob("*") if path.is_file())
    assert stood["swhid"].encode() not in text
    assert all(row["swhid"] != stood["swhid"] for row in rows_of(tmp_path / "removed").values())


@pytest.mark.parametrize("gone", ["b/near.py", "m1.py", "x.py", "odd\nname.py"])
def test_without_the_sources_no_list_names_what_goes(gone: str, tmp_path: Path, write: Write) -> None:
    files = {f"m{number}.py": module(number) for number in range(4)} | {"odd\nname.py": module(9), "z.py": module(9)}
    files |= {"b/near.py": near_copy(1), "x.py": module(1)}
    build(tmp_path / "corpus", write(tmp_path / "project", files), licenses={"unlicensed": True})
    assert dropped(tmp_path / "corpus")["x.py"]["detail"] == "of project:m1.py"  # which went for another itself
    wanted = [Request("R-1", repository="project", path=gone)]

    removal_alone.run(removal.plan(tmp_path / "corpus", wanted), out=tmp_path / "removed")

    lines = (tmp_path / "removed" / "run" / "dropped.jsonl").read_text().splitlines()
    assert not [line for line in lines if f"project:{gone}" in line.encode().decode("unicode_escape")]
    counts = artifact.read(tmp_path / "removed").counts
    assert drops(artifact.read(tmp_path / "removed")) == Counter(json.loads(line)["reason"] for line in lines)
    sizes = {path: row["cluster_size"] for path, row in rows_of(tmp_path / "removed").items()}
    wanted_sizes = {"b/near.py": 3, "odd\nname.py": 2}
    wanted_sizes["b/near.py"] -= gone in ("m1.py", "x.py")
    assert sizes == {path: wanted_sizes.get(path, 1) for path in sizes}
    assert counts["kept"] == len(sizes)


def test_without_the_sources_a_damaged_list_is_named(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "corpus", tmp_path / "corpus")
    file = tmp_path / "corpus" / "run" / "dropped.jsonl"
    wanted = removal.plan(tmp_path / "corpus", request("one"))
    for content in ("[", "3\n", '{"repository": "a"}\n', '{"repository": "a", "path": 3, "stage": "", "reason": ""}\n'):
        file.write_text(content)
        with pytest.raises(InputError, match=r"dropped\.jsonl"):
            removal_alone.run(wanted, out=tmp_path / "removed")
    file.unlink()
    with pytest.raises(InputError, match="is not there"):
        removal_alone.run(wanted, out=tmp_path / "removed")

    assert not list(tmp_path.glob("removed*"))


def test_what_an_earlier_removal_left_is_marked_too_when_the_requests_grow(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "run")
    run = tmp_path / "run"
    use = ["--corpus", str(run / "corpus"), "--out", str(run / "new")]
    first, second = (run / name for name in ("one.toml", "two.toml"))
    first.write_text('[[request]]\nid = "R-1"\nwho = "one:pkg/"\n')
    second.write_text(first.read_text() + '[[request]]\nid = "R-2"\nwho = "three"\n')
    assert CliRunner().invoke(command, ["remove", str(first), *use]).exit_code == 0
    for name, parent in (("old-model", "corpus"), ("model", "new")):
        with artifact.create(
            run / name, kind="model", config=config(), rooms=("core",), parents={"corpus": run / parent}
        ) as draft:
            (draft.path / "content").write_text(name)

    again = CliRunner().invoke(command, ["remove", str(first), *use, "--json"])
    assert again.exit_code == 0
    assert not (run / "model" / "tainted.json").exists()
    grown = CliRunner().invoke(command, ["remove", str(second), *use, "--json"])

    assert grown.exit_code == 0
    assert json.loads((run / "model" / "tainted.json").read_text()) == {"requests": [{"id": "R-2"}]}
    assert json.loads((run / "old-model" / "tainted.json").read_text())["requests"] == [{"id": "R-1"}, {"id": "R-2"}]
    assert not (run / "new" / "tainted.json").exists()
    told = [Path(one["path"]).name for one in json.loads(grown.stdout)["downstream"]]
    assert sorted(told) == ["corpus", "model", "old-model"]


def test_nothing_is_said_to_be_marked_that_is_not(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "corpus", tmp_path / "corpus")  # its sources do not lie beside it

    result = CliRunner().invoke(
        command, ["remove", "one", "--corpus", str(tmp_path / "corpus"), "--out", str(tmp_path / "new")]
    )

    assert isinstance(result.exception, InputError)
    assert "files of" in result.stdout
    assert "Marked" not in result.stdout


def test_marks_that_only_the_sources_give_reason_for_are_told(tmp_path: Path, write: Write) -> None:
    secrets = "".join(f"PASSWORD_{number} = 'jane{number}.doe@corporation.org'\n" for number in range(30))
    folder = write(tmp_path / "run" / "project", modules() | {"secret.py": module(60) + secrets})
    write(tmp_path, {"theirs.py": module(60) + secrets})
    corpus = tmp_path / "run" / "corpus"
    build(corpus, folder)
    what = f"copies_of={tmp_path / 'theirs.py'}"
    use = ["remove", what, "--corpus", str(corpus), "--id", "R-1"]
    assert "no file of" in CliRunner().invoke(command, [*use, "--dry-run"]).stdout

    result = CliRunner().invoke(command, [*use, "--out", str(tmp_path / "run" / "new")])

    assert result.exit_code == 0
    assert "Also marked" in result.stdout
    assert json.loads((corpus / "tainted.json").read_text()) == {"requests": [{"id": "R-1"}]}


def test_the_command_shows_the_plan_and_then_does_it(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "run")
    corpus, run = tmp_path / "run" / "corpus", CliRunner().invoke
    (kept,) = [path for path in rows_of(corpus) if path.startswith("near")][:1]
    what = f"{rows_of(corpus)[kept]['repository']}:{kept}"

    dry = run(command, ["remove", what, "--corpus", str(corpus), "--id", "R-7", "--dry-run"])
    done = run(
        command, ["remove", what, "--corpus", str(corpus), "--id", "R-7", "--out", str(tmp_path / "run" / "new")]
    )
    again = run(
        command,
        ["remove", what, "--corpus", str(corpus), "--id", "R-7", "--out", str(tmp_path / "run" / "new"), "--json"],
    )

    assert (dry.exit_code, done.exit_code, again.exit_code) == (0, 0, 0)
    assert "1 file of" in dry.stdout
    assert "decided about anew" in dry.stdout
    assert "To be marked" in dry.stdout
    assert "came in for those" in done.stdout
    assert json.loads((corpus / "tainted.json").read_text()) == {"requests": [{"id": "R-7"}]}
    assert json.loads(again.stdout[again.stdout.index("{") :])["removed"][0]["path"] == kept


def test_the_command_takes_rows_away_where_the_sources_are_gone(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "corpus", tmp_path / "corpus")  # its sources do not lie beside it
    stood = next(row for row in rows_of(tmp_path / "corpus").values() if row["cluster_size"] > 1)
    use = ["remove", stood["swhid"], "--corpus", str(tmp_path / "corpus"), "--out", str(tmp_path / "new")]

    refused = CliRunner().invoke(command, use)
    done = CliRunner().invoke(command, [*use, "--without-sources"])

    assert isinstance(refused.exception, InputError)
    assert done.exit_code == 0
    assert "not re-admitted: " in done.stdout
    assert json.loads((tmp_path / "new" / "run" / "removals.json").read_text())["requests"]


def test_the_corpus_that_takes_a_marked_ones_place_is_not_marked(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world, tmp_path / "run")
    corpus, new = tmp_path / "run" / "corpus", tmp_path / "run" / "new"

    for what in ("nobody:nothing.py", "one"):  # the first gives the same corpus again
        result = CliRunner().invoke(command, ["remove", what, "--corpus", str(corpus), "--out", str(new)])
        assert result.exit_code == 0

    assert (corpus / "tainted.json").exists()
    assert not (new / "tainted.json").exists()


def test_a_plan_alone_leaves_no_mark(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "corpus", tmp_path / "corpus")

    result = CliRunner().invoke(command, ["remove", "one", "--corpus", str(tmp_path / "corpus"), "--dry-run"])

    assert result.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert not (tmp_path / "corpus" / "tainted.json").exists()


def test_the_commands_wrong_uses_are_errors(world: Path, tmp_path: Path) -> None:
    uses: list[list[str]] = [
        ["one"],
        ["one", str(world / "one"), "--without-sources", "--out", str(tmp_path / "new")],
        ["one", "--out", str(world / "corpus")],
        ["one", "--out", str(world / "corpus" / "new")],
        ["one", "--out", str(world / "corpus" / "run" / "new"), "--without-sources"],
        ["one", "--downstream", str(tmp_path / "nowhere"), "--dry-run"],
    ]
    for use in uses:
        result = CliRunner().invoke(command, ["remove", *use, "--corpus", str(world / "corpus")])
        assert isinstance(result.exception, InputError), use
    assert not (world / "corpus" / "tainted.json").exists()
    assert not artifact.verify(world / "corpus")
