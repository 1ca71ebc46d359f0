"""Which code made an artefact."""

from pathlib import Path

import pytest

from starsmith.core import version


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "src" / "starsmith"
    for name in ("core/a.py", "core/page/b.js", "model/c.py", "core/__pycache__/a.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.setattr(version, "_PACKAGE", root)
    return root


@pytest.mark.parametrize("name", ["core/a.py", "core/page/b.js", "core/new.py"])
def test_the_digest_follows_every_file_of_its_rooms(name: str, package: Path) -> None:
    before = version.source_sha256(["core"])

    (package / name).write_text("changed")

    assert version.source_sha256(["core"]) != before


@pytest.mark.parametrize("name", ["model/c.py", "core/__pycache__/a.pyc"])
def test_other_rooms_and_compiled_files_make_no_difference(name: str, package: Path) -> None:
    before = version.source_sha256(["core"])

    (package / name).write_text("changed")

    assert version.source_sha256(["core"]) == before


def test_the_order_of_the_rooms_makes_no_difference(package: Path) -> None:
    assert version.source_sha256(["core", "model"]) == version.source_sha256(["model", "core"])
    assert version.source_sha256(["core", "model"]) != version.source_sha256(["core"])


def test_an_installed_package_has_no_commit(package: Path) -> None:
    assert version.commit() == ""
