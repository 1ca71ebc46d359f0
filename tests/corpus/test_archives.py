import bz2
import io
import lzma
import pickle
import random
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from starsmith.core.errors import ConfigError, InputError
from starsmith.corpus.archives import ArchiveLimits, open_archive
from starsmith.corpus.files import RawFile, Unreadable
from starsmith.corpus.sources import Source, open_source
from worlds import MIT

pytestmark = pytest.mark.slow

CODE = b"def f():\n    return 1\n"
LARGEST = 1_000_000


def read(source: Source, largest_bytes: int = LARGEST) -> list[RawFile | Unreadable]:
    units = [pickle.loads(pickle.dumps(unit)) for unit in source.units(largest_bytes=largest_bytes)]
    return [file for unit in units for file in unit.files()]


def contents_of(files: list[RawFile | Unreadable]) -> dict[str, bytes]:
    return {file.path: file.content for file in files if isinstance(file, RawFile)}


def reasons_of(files: list[RawFile | Unreadable]) -> dict[str, str]:
    return {file.path: file.drop.reason for file in files if isinstance(file, Unreadable)}


def member(name: str, size_bytes: int = 0, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    for key, value in values.items():
        setattr(info, key, value)
    return info


def tar_bytes(files: Mapping[str, bytes], *others: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            archive.addfile(member(name, len(content)), io.BytesIO(content))
        for info in others:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def write_tar(path: Path, content: bytes) -> Path:
    packed = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}.get(path.suffix[1:])
    if packed:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, packed) as stream:
            stream.write(content)
        content = sink.getvalue().to_pybytes()
    path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


FILES = {"src/b.py": CODE, "LICENSE": MIT.encode(), "src/a\nb.py": b"x = 1\n", "empty.py": b""}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "zip"])
def test_every_kind_of_archive_gives_its_files_in_path_order_with_their_licence(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"code.{suffix}"
    if suffix == "zip":
        write_zip(path, FILES)
    else:
        write_tar(path, tar_bytes(FILES))

    files = read(open_source(path))

    assert [file.path for file in files] == sorted(FILES)
    assert contents_of(files) == FILES
    assert {(file.repository, file.license.expression) for file in files if isinstance(file, RawFile)} == {
        (f"code.{suffix}", "MIT")
    }
    assert list(tmp_path.iterdir()) == [path]


def test_paths_out_of_the_archive_are_counted_and_links_and_devices_are_no_files(tmp_path: Path) -> None:
    unsafe = {"/etc/passwd": b"x", "../up.py": b"x", "a/../../up.py": b"x", "C:/windows.py": b"x"}
    links = (
        member("link.py", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard.py", type=tarfile.LNKTYPE, linkname="ok.py"),
        member("device", type=tarfile.CHRTYPE),
        member("pipe", type=tarfile.FIFOTYPE),
    )
    tar = write_tar(tmp_path / "a.tar", tar_bytes({"./ok.py": CODE, **unsafe}, *links))
    packed = write_zip(tmp_path / "a.zip", {"./ok.py": CODE, **unsafe})

    for path in (tar, packed):
        files = read(open_source(path))

        assert contents_of(files) == {"ok.py": CODE}
        assert reasons_of(files) == dict.fromkeys(unsafe, "unsafe_path")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_a_name_that_comes_twice_the_last_one_counts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.py", b"first")
            archive.writestr("a.py", b"last")
    else:
        write_tar(path, tar_bytes({"a.py": b"first", "./a.py": b"last"}))

    assert contents_of(read(open_source(path))) == {"a.py": b"last"}


def test_an_archive_in_an_archive_is_a_file_like_any_other(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"hidden.py": CODE}).read_bytes()

    files = read(open_source(write_zip(tmp_path / "a.zip", {"a.py": CODE, "inner.zip": inner})))

    assert contents_of(files) == {"a.py": CODE, "inner.zip": inner}


def test_an_sdist_is_named_by_its_metadata_and_loses_its_only_folder(tmp_path: Path) -> None:
    metadata = b"Metadata-Version: 2.4\nName: demo\nVersion: 1.2\nLicense-Expression: MIT OR Apache-2.0\n\nLong text."
    files = {"demo-1.2/PKG-INFO": metadata, "demo-1.2/src/demo.py": CODE}

    source = open_source(write_tar(tmp_path / "demo-1.2.tar.gz", tar_bytes(files)))

    assert source.repository == "demo==1.2"
    found = [file for file in read(source) if isinstance(file, RawFile)]
    assert [file.path for file in found] == ["PKG-INFO", "src/demo.py"]
    assert (found[1].license.expression, found[1].license.evidence) == (
        "MIT OR Apache-2.0",
        "declared: License-Expression in demo-1.2/PKG-INFO",
    )


@pytest.mark.parametrize(
    ("header", "expression"), [("License: BSD-3-Clause", "BSD-3-Clause"), ("License: see the text", "MIT"), ("", "MIT")]
)
def test_a_wheel_is_under_the_licence_it_declares_or_else_ships(tmp_path: Path, header: str, expression: str) -> None:
    metadata = f"Metadata-Version: 2.1\nName: demo\nVersion: 1.2\n{header}\n".encode()
    files = {
        "demo/__init__.py": CODE,
        "demo-1.2.dist-info/METADATA": metadata,
        "demo-1.2.dist-info/LICENSE": MIT.encode(),
    }

    source = open_source(write_zip(tmp_path / "demo-1.2-py3-none-any.whl", files))

    (code,) = [file for file in read(source) if file.path == "demo/__init__.py"]
    assert isinstance(code, RawFile)
    assert (code.repository, code.license.expression) == ("demo==1.2", expression)


def test_a_zip_bomb_is_counted_without_being_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("bomb.txt", bytes(20_000_000))
        archive.writestr("a.py", CODE)

    files = read(open_source(path), largest_bytes=10**9)

    assert contents_of(files) == {"a.py": CODE}
    assert reasons_of(files) == {"bomb.txt": "archive_bomb"}


def test_members_of_a_zip_that_share_their_bytes_are_a_bomb(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.py": random.Random(1).randbytes(5000), "b.py": CODE})
    content = bytearray(path.read_bytes())
    second = content.rfind(b"PK\1\2")
    content[second + 42 : second + 46] = (40).to_bytes(4, "little")  # b.py begins within a.py
    path.write_bytes(content)

    assert reasons_of(read(open_source(path)))["a.py"] == "archive_bomb"


def test_a_tar_bomb_ends_the_listing_and_what_came_before_is_kept(tmp_path: Path) -> None:
    content = tar_bytes({"a.py": CODE}, member("bomb.txt", 200_000_000), member("after.py"))
    path = tmp_path / "bomb.tar.bz2"
    path.write_bytes(bz2.compress(content))

    files = read(open_source(path))

    assert contents_of(files) == {"a.py": CODE}
    assert reasons_of(files) == {"bomb.txt": "too_large", "": "archive_bomb"}


def test_more_members_or_bytes_than_allowed_are_counted_and_not_listed(tmp_path: Path) -> None:
    files = {f"{number}.py": CODE for number in range(10)}
    places = [write_zip(tmp_path / "a.zip", files), write_tar(tmp_path / "a.tar", tar_bytes(files))]

    for path in places:
        for limits in (ArchiveLimits(most_entries=4), ArchiveLimits(most_bytes=4 * len(CODE))):
            found = read(open_archive(path, limits))

            assert list(contents_of(found)) == ["0.py", "1.py", "2.py", "3.py"]
            assert reasons_of(found) == {"": "archive_too_large"}


def test_an_extended_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    header = member("././@LongLink", 2**32, type=tarfile.GNUTYPE_LONGNAME)
    content = tar_bytes({"a.py": CODE}).rstrip(b"\0")
    content = content.ljust(-(-len(content) // 512) * 512, b"\0") + header.tobuf(tarfile.GNU_FORMAT) + bytes(10240)

    files = read(open_source(write_tar(tmp_path / "a.tar.gz", content)))

    assert contents_of(files) == {"a.py": CODE}
    assert reasons_of(files) == {"": "unreadable_archive"}


def test_a_file_of_4_gigabytes_is_too_large_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(member("huge.py", 2**32).tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + 2**32 + 1024)

    files = read(open_source(path))

    assert reasons_of(files) == {"huge.py": "too_large"}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz"])
def test_an_archive_that_breaks_off_keeps_what_came_before(tmp_path: Path, suffix: str) -> None:
    noise = random.Random(7).randbytes(300_000)
    path = write_tar(tmp_path / f"a.{suffix}", tar_bytes({"a.py": CODE, "noise": noise, "last.py": CODE}))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    files = read(open_source(path))

    assert contents_of(files) == {"a.py": CODE}
    assert reasons_of(files) == {"": "unreadable_archive", "noise": "unreadable"}


def test_a_damaged_member_and_an_encrypted_one_cost_only_themselves(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.py": b"a" * 100, "b.py": CODE, "c.py": CODE})
    content = bytearray(path.read_bytes())
    content[content.find(b"a.py") + 4] ^= 0xFF
    last = content.rfind(b"PK\1\2")
    content[last + 8] |= 1  # says that it is encrypted
    path.write_bytes(content)

    files = read(open_source(path))

    assert contents_of(files) == {"b.py": CODE}
    assert reasons_of(files) == {"a.py": "unreadable", "c.py": "unreadable"}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst", "a.zip", "a.whl"])
def test_what_is_no_archive_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"print('no archive')\n" * 100)

    with pytest.raises(InputError, match=f"{name} is not a readable archive"):
        open_source(tmp_path / name)


def test_a_large_compressed_tar_is_read_in_few_passes_and_every_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:03d}.py" for number in range(200)]
    random.Random(3).shuffle(names)
    path = write_tar(tmp_path / "a.tar.gz", tar_bytes({name: name.encode() * 100 for name in names}))
    monkeypatch.setattr("starsmith.corpus.archives.UNIT_BYTES", 5000)

    units = open_source(path).units(largest_bytes=LARGEST)

    assert len(units) == 4
    assert contents_of([file for unit in units for file in unit.files()]) == {
        name: name.encode() * 100 for name in sorted(names)
    }


def test_a_limit_below_one_is_an_error() -> None:
    with pytest.raises(ConfigError, match="most_ratio=0"):
        ArchiveLimits(most_ratio=0)
