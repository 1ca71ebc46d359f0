"""Bad input is a clear error, or a counted drop beside the files that are good."""

import os
import subprocess
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builds import build, config, dropped, drops, module, modules, rows_of
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import swhid_of
from starsmith.corpus import build as stage
from starsmith.corpus.build import run
from starsmith.corpus.sources import open_source
from worlds import MIT, Commit, Write

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, write: Write) -> Path:
    return write(tmp_path / "project", modules())


def test_bad_files_are_dropped_and_the_good_ones_kept(project: Path, write: Write) -> None:
    outside = write(project.parent / "outside", {"secret.py": module(70)})
    (project / "link.py").symlink_to(outside / "secret.py")
    (project / "linked").symlink_to(outside)
    with (project / "huge.py").open("wb") as huge:
        huge.truncate(4 * 2**30)  # a hole on disk: nobody reads it
    write(
        project,
        {
            "nul.py": b"x = 1\0\n" * 9,
            "broken.py": b"def f():\n    return '\xff\xfe\xfa\x81\x8d'\n\xc3\x28\x9d\x90\n",
            "wide.py": module(30).encode("utf-16"),
            "dos.py": module(31).replace("\n", "\r\n"),
            "new\nline.py": module(32),
            "Case.py": module(33),
            "case.py": module(34),
            "marked.py": f"END = '<|endoftext|>'\n{module(35)}",
        },
    )

    manifest = build(project.parent / "corpus", project)

    kept, gone = rows_of(project.parent / "corpus"), dropped(project.parent / "corpus")
    assert {path for path in kept if not path.startswith("pkg/")} == {
        "wide.py",
        "dos.py",
        "new\nline.py",
        "Case.py",
        "case.py",
        "marked.py",
    }
    assert gone["huge.py"]["reason"] == "too_large"
    assert gone["nul.py"]["reason"] == "binary"
    assert gone["broken.py"]["reason"] == "unknown_encoding"
    assert kept["wide.py"]["text"] == module(30)
    assert kept["marked.py"]["controls"] == []
    assert not {"link.py", "linked/secret.py"} & (kept.keys() | gone.keys())
    assert manifest.counts["kept"] == len(kept)


def test_what_cannot_be_opened_is_counted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = project / "pkg" / "m3.py"
    source = open_source(project)
    units = source.units(largest_bytes=1_000_000)
    gone.unlink()  # after the listing, as when a build runs beside other work

    monkeypatch.setattr(stage.withheld, "units_of", lambda *_: [(0, unit) for unit in units])
    run(config(), sources=[source], out=project.parent / "corpus")

    assert dropped(project.parent / "corpus")["pkg/m3.py"]["reason"] == "unreadable"


def test_paths_that_lead_out_of_an_archive_are_dropped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        for name, text in (
            ("LICENSE", MIT),
            ("a.py", module(1)),
            ("../../evil.py", module(2)),
            ("/evil.py", module(3)),
        ):
            archive.writestr(name, text)

    manifest = build(tmp_path / "corpus", tmp_path / "source.zip")

    assert manifest.counts["kept"] == 1
    assert sum(drops(manifest).values()) == 3
    assert not (tmp_path.parent / "evil.py").exists()


def test_a_zip_bomb_costs_no_more_than_the_largest_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("LICENSE", MIT)
        archive.writestr("a.py", module(1))
        with archive.open("bomb.py", "w") as bomb:
            for _ in range(64):
                bomb.write(bytes(2**20))

    manifest = build(tmp_path / "corpus", tmp_path / "bomb.zip")

    assert manifest.counts["kept"] == 1
    assert sum(drops(manifest).values()) == 2


def test_an_archive_that_is_broken_is_a_clear_error(tmp_path: Path, project: Path, write: Write) -> None:
    broken = write(tmp_path, {"broken.zip": b"PK\x03\x04 and then nothing"}) / "broken.zip"

    with pytest.raises(InputError, match=r"broken\.zip is not a readable archive") as caught:
        build(tmp_path / "corpus", project, broken)

    assert caught.value.hint
    assert not (tmp_path / "corpus").exists()


def test_a_bare_repository_and_a_shallow_clone_are_read(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"LICENSE": MIT, "a.py": module(1)})
    commit(tmp_path / "project", {"b.py": module(2)})
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    url = (tmp_path / "project").as_uri()
    for options in (("--bare", url, "bare.git"), ("--depth", "1", url, "shallow")):
        subprocess.run(["git", "clone", "--quiet", *options], check=True, cwd=tmp_path, env=environment)

    bare = build(tmp_path / "one", tmp_path / "bare.git")
    shallow = build(tmp_path / "two", tmp_path / "shallow")

    assert bare.counts["kept"] == shallow.counts["kept"] == 2


def test_a_submodule_is_not_entered(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project" / "inner", {"LICENSE": MIT, "theirs.py": module(2)})
    commit(tmp_path / "project", {"LICENSE": MIT, "a.py": module(1)})  # git records `inner` as a link to a commit

    build(tmp_path / "corpus", tmp_path / "project")

    assert set(rows_of(tmp_path / "corpus")) == {"a.py"}


def spoil(repository: Path) -> None:
    """Make every object of a repository unreadable."""
    for file in (repository / ".git" / "objects").rglob("*"):
        if file.is_file():
            file.chmod(0o644)
            file.write_bytes(b"no object")


def test_a_repository_that_cannot_be_read_is_a_clear_error(tmp_path: Path, project: Path, commit: Commit) -> None:
    commit(tmp_path / "damaged", {"LICENSE": MIT, "a.py": module(1)})
    spoil(tmp_path / "damaged")

    with pytest.raises(InputError, match=r"git cannot read .*damaged") as caught:
        build(tmp_path / "corpus", project, tmp_path / "damaged")

    assert "git log" in caught.value.hint


def test_a_broken_repository_among_many_is_a_counted_drop(tmp_path: Path, commit: Commit) -> None:
    for number in range(3):
        commit(tmp_path / "all" / f"r{number}", {"LICENSE": MIT, f"a{number}.py": module(number)})
    spoil(tmp_path / "all" / "r1")

    manifest = build(tmp_path / "corpus", tmp_path / "all")

    assert set(rows_of(tmp_path / "corpus")) == {"a0.py", "a2.py"}
    reasons = set(drops(manifest)) - {"plain_text"}
    assert len(reasons) == 1, reasons


def test_an_object_that_a_repository_lost_is_a_counted_drop(tmp_path: Path, commit: Commit) -> None:
    commit(tmp_path / "project", {"LICENSE": MIT, "a.py": module(1), "b.py": module(2)})
    lost = swhid_of(module(1).encode()).rpartition(":")[2]
    (tmp_path / "project" / ".git" / "objects" / lost[:2] / lost[2:]).unlink()

    build(tmp_path / "corpus", tmp_path / "project")

    assert set(rows_of(tmp_path / "corpus")) == {"b.py"}
    assert dropped(tmp_path / "corpus")["a.py"]["reason"] == "unreadable"


def test_a_table_in_no_known_schema_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"words": ["a", "b"]}), tmp_path / "words.parquet")

    with pytest.raises(InputError, match=r"words\.parquet has the columns words"):
        build(tmp_path / "corpus", tmp_path / "words.parquet")


def test_a_recipe_that_asks_for_an_unknown_licence_is_refused() -> None:
    with pytest.raises(ConfigError, match="no SPDX licence ids") as caught:
        config(licenses={"allow": ["Apache2"]})

    assert caught.value.hint


def test_nothing_of_a_repository_is_executed(tmp_path: Path, commit: Commit) -> None:
    traps = dict.fromkeys(("setup.py", ".git-hooks/post-checkout", "conftest.py"), "#!/bin/sh\ntouch ran\n")
    commit(tmp_path / "project", {"LICENSE": MIT, "a.py": module(1), ".gitattributes": "* filter=trap\n", **traps})
    marker = tmp_path / "ran"
    with (tmp_path / "project" / ".git" / "config").open("a") as settings:
        settings.write(f'[filter "trap"]\n  smudge = touch {marker}\n  clean = touch {marker}\n')
        settings.write(
            f"[core]\n  fsmonitor = touch {marker}\n  sshCommand = touch {marker}\n  pager = touch {marker}\n"
        )

    build(tmp_path / "corpus", tmp_path / "project")

    assert not marker.exists()
    assert not (tmp_path / "project" / "ran").exists()


def test_a_file_in_an_older_encoding_is_kept_as_utf_8(tmp_path: Path, write: Write) -> None:
    text = module(1) + "# Grüße aus Köln, schöne Straße\n"
    folder = write(tmp_path / "project", {"LICENSE": MIT, "a.py": text.encode("cp1252")})

    build(tmp_path / "corpus", folder)

    assert rows_of(tmp_path / "corpus")["a.py"]["text"] == text
