"""Real source files of this machine as Parquet, for benchmarks that need hundreds of megabytes of them.

Every Python's library and packages, headers, shared files, node modules, and the environments of the peers in .bench/:
the same package in several versions gives natural near-duplicates. Where that is too little, wheels of well-known
packages in several versions are downloaded with pip and read in place: nothing is unpacked and nothing is run.
Not a fair sample of the world's code: Python, JavaScript and C headers dominate.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.core.console import note, table

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / ".bench"
TARGET_BYTES = 450_000_000
LARGEST = 1_000_000  # bytes of a file, as in the paper's pipeline
SMALLEST = 64  # below it a file is hardly a text
PART_FILES = 8192  # in a Parquet file
SCHEMA = pa.schema([("id", pa.int64()), ("repo", pa.string()), ("path", pa.string()), ("content", pa.string())])
SUFFIXES = frozenset(
    """
    .ada .adb .ads .asm .awk .bash .bat .c .cc .cfg .cjs .cmake .coffee .cpp .cs .css .csv .cts .cu .cuh .cxx .d .dtd
    .el .erl .f .f90 .for .go .h .hh .hpp .hs .htm .html .hxx .inc .ini .ipp .java .jinja .jl .js .json .jsx .kt .less
    .lisp .lua .m4 .mak .md .mjs .ml .mli .mts .php .pl .pm .po .pod .ps1 .pxd .pxi .py .pyi .pyx .r .rb .rs .rst .s
    .sass .scala .scm .scss .sh .sql .svg .swift .tcl .td .tex .toml .ts .tsx .txt .vim .vue .xml .xsd .xsl .xslt .yaml
    .yml
    """.split()  # noqa: SIM905 one a line would be a hundred lines
)
WHEELS = {
    "django": "3.2.25 4.2.16 5.1.4",
    "sympy": "1.9 1.11.1 1.12 1.13.3",
    "sqlalchemy": "1.4.54 2.0.36",
    "networkx": "2.8.8 3.4.2",
    "nltk": "3.7 3.9.1",
    "pandas": "2.1.4 2.2.3",
    "scikit-learn": "1.3.2 1.5.2",
    "twisted": "22.10.0 24.10.0",
    "faker": "18.13.0 33.1.0",
    "botocore": "1.29.165 1.35.76",
}


@dataclass(frozen=True)
class Place:
    """A folder with files of one kind."""

    kind: str
    folder: Path


@dataclass(frozen=True)
class Found:
    """A file that was read."""

    kind: str
    repository: str
    path: str
    content: bytes


def main() -> None:
    """Gather and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 MB instead of 450")
    parser.add_argument("--json", action="store_true", help="accepted, as everywhere; this measures nothing")
    arguments = parser.parse_args()
    folder = gather(60_000_000 if arguments.quick else TARGET_BYTES)
    parts = [pq.ParquetFile(part).metadata.num_rows for part in sorted(folder.glob("*.parquet"))]
    print(f"{folder.relative_to(ROOT)}: {sum(parts):,} files in {len(parts)} parts")


def gather(target_bytes: int = TARGET_BYTES) -> Path:
    """A folder of Parquet files (id, repo, path, content) with distinct texts, together about `target_bytes`.

    They stand in the order of a hash of their content: a shuffle, and the same one for the same files. A folder that
    is there is used again.
    """
    folder = BENCH / "real-files" / f"{target_bytes // 1_000_000}MB"
    if folder.exists():
        return folder
    found = {hashlib.blake2b(file.content, digest_size=16).digest(): file for file in _found(target_bytes)}
    chosen, size = [], 0
    for key in sorted(found):
        if size >= target_bytes:
            break
        chosen.append(found[key])
        size += len(found[key].content)
    _report(chosen, list(found.values()))
    _write(chosen, folder)
    return folder


def _found(target_bytes: int) -> Iterator[Found]:
    """The files of the machine; then, if they are too few, those of the wheels."""
    size, seen = 0, set()
    for place in places():
        for file in _files(place, seen):
            size += len(file.content)
            yield file
    if size < target_bytes * 1.2:  # some are the same
        note(f"{size / 1e6:.0f} MB on this machine: downloading wheels")
        yield from _wheel_files()


def places() -> list[Place]:
    """Where source files lie, as far as there is such a folder."""
    pythons = {Path(sys.prefix), Path(sys.base_prefix), *(Path.home() / ".pyenv" / "versions").glob("*")}
    environments = [found.parent for found in BENCH.glob("*/pyvenv.cfg")]
    modules = [found for found in BENCH.glob("*/**/node_modules") if "node_modules" not in found.parent.parts]
    candidates = [
        *(Place("python", prefix / "lib") for prefix in sorted(pythons)),
        Place("python", Path("/usr/lib/python3")),
        *(Place("python of the peers", environment / "lib") for environment in sorted(environments)),
        Place("headers", Path("/usr/include")),
        Place("node", Path("/usr/lib/node_modules")),
        Place("node", Path("/usr/share/node_modules")),
        *(Place("node", folder) for folder in sorted(modules)),
        Place("shared files", Path("/usr/share")),
    ]
    return [place for place in candidates if place.folder.is_dir()]


def _files(place: Place, seen: set[tuple[int, int]]) -> Iterator[Found]:
    """Texts below a folder, links not followed; `seen` has the device and inode of those that were."""
    for root, directories, names in os.walk(place.folder):
        directories.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() not in SUFFIXES or path.is_symlink():
                continue
            status = path.stat()
            if not SMALLEST <= status.st_size <= LARGEST or (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            content = path.read_bytes()
            if _is_text(content):
                repository, inner = _named(place, path)
                yield Found(place.kind, repository, inner, content)


def _named(place: Place, path: Path) -> tuple[str, str]:
    """(repository, path in it): the package where there is one, else the first folder below the place."""
    parts = path.relative_to(place.folder).parts
    start = max((number + 1 for number, part in enumerate(parts) if part.endswith("-packages")), default=0)
    depth = start + (2 if parts[start].startswith("@") else 1)
    if len(parts) <= depth:
        depth = start
    return "/".join((place.folder.parent.name, place.folder.name, *parts[:depth])), "/".join(parts[depth:])


def _wheel_files() -> Iterator[Found]:
    folder = BENCH / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    for name, versions in WHEELS.items():
        for version in versions.split():
            stem = f"{name.replace('-', '_')}-{version}-"
            if not any(path.name.lower().startswith(stem) for path in folder.glob("*.whl")):
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
                done = subprocess.run([*command, "--dest", str(folder), f"{name}=={version}"], check=False)
                if done.returncode:
                    note(f"{name}=={version}: no wheel for this Python, left out")
    for wheel in sorted(folder.glob("*.whl")):
        yield from _members(wheel)


def _members(wheel: Path) -> Iterator[Found]:
    repository = "-".join(wheel.name.split("-")[:2])
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if Path(entry.filename).suffix.lower() in SUFFIXES and SMALLEST <= entry.file_size <= LARGEST:
                with archive.open(entry) as stream:
                    content = stream.read(LARGEST + 1)  # whatever size it claims
                if len(content) <= LARGEST and _is_text(content):
                    yield Found("wheels", repository, entry.filename, content)


def _is_text(content: bytes) -> bool:
    if b"\0" in content:
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _write(files: list[Found], folder: Path) -> None:
    """All parts or none."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for start in range(0, len(files), PART_FILES):
        part = files[start : start + PART_FILES]
        columns = {
            "id": range(start, start + len(part)),
            "repo": [file.repository for file in part],
            "path": [file.path for file in part],
            "content": [file.content.decode() for file in part],
        }
        place = partial / f"{start // PART_FILES:03d}.parquet"
        pq.write_table(pa.table(columns, schema=SCHEMA), place, compression="zstd", row_group_size=1024)
    partial.rename(folder)


def _report(chosen: list[Found], found: list[Found]) -> None:
    """By kind: what was taken of what is there."""
    counted: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    for number, files in enumerate((chosen, found)):
        for file in files:
            for row in (counted[file.kind], counted["all"]):
                row[2 * number] += 1
                row[2 * number + 1] += len(file.content) / 1e6
    rows = [
        (kind, *(f"{value:,.0f}" for value in values))
        for kind, values in sorted(counted.items(), key=lambda item: (item[0] == "all", item[0]))
    ]
    columns = ("kind", "files taken", "MB", "files there", "MB there")
    table("Real files: distinct UTF-8 texts", columns, rows, right=columns[1:])


if __name__ == "__main__":
    main()
