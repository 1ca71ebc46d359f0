#!/usr/bin/env python3
"""Train the starter model, which is shipped as `src/starsmith/data/starter`, by the project's own stages.

    tools/make_starter.py --out runs/starter          train and measure (two hours)
    tools/make_starter.py --out runs/starter --ship   the same, and put it into the package

Trained on: the standard library of the running Python and the Python packages installed beside it, each as a wheel that
is packed again from its own list of files, so that the licence stage sees a distribution with its licence texts. What
is not permissively licensed by what that stage finds is dropped there and counted. Run in the environment of `make
setup` for the same packages; the corpus' statistics name each with its version.

Interrupted, the same command goes on.
"""

import argparse
import shutil
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.cli import checkpoints
from starsmith.cli.options import STAGES
from starsmith.cli.run import run_stages
from starsmith.core.config import load_recipe
from starsmith.core.console import note
from starsmith.core.errors import StarsmithError
from starsmith.core.records import TRAIN, read_files
from starsmith.corpus.sources import Source, open_source, standard_library
from starsmith.provenance.papers import about
from starsmith.provenance.papers import export as papers

ROOT = Path(__file__).resolve().parents[1]
RECIPE, ABOUT = ROOT / "recipes" / "starter.toml", ROOT / "tools" / "starter.toml"
SHIPPED = ROOT / "src" / "starsmith" / "data" / "starter"
LARGEST_BYTES = 12_000_000  # of the shipped directory
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member: the same packages give the same wheels


def main() -> None:
    """Run what is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "starter", help="where the artefacts go")
    parser.add_argument("--only", choices=STAGES, help="run this stage alone")
    parser.add_argument("--ship", action="store_true", help="put the model into the package")
    arguments = parser.parse_args()
    tables = load_recipe(RECIPE, known=STAGES)
    with tempfile.TemporaryDirectory() as folder:
        for stage in [arguments.only] if arguments.only else STAGES:
            sources = _sources(Path(folder)) if stage == "corpus" else []
            run_stages(tables, sources=sources, out=arguments.out, only=stage, where=str(RECIPE))
    if arguments.ship:
        ship(arguments.out)


def ship(runs: Path) -> None:
    """Put the model into the package: its weights as bfloat16, its card and its data's, and a list of all its files."""
    said = about.load(ABOUT)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "starter"
        checkpoints.export(runs / "model", "safetensors", "bf16", place, about=said, use_restrictions=None)
        papers.export(runs / "corpus", "dataset-card", place / "DATA.md", about=said, use_restrictions=None)
        rows = [
            {
                "repository": file.repository,
                "commit": file.commit,
                "path": file.path,
                "license": file.license,
                "swhid": file.swhid,
            }
            for file in read_files(runs / "corpus", split=TRAIN)
        ]
        pq.write_table(pa.Table.from_pylist(rows), place / "training-files.parquet", compression="zstd")
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        if size > LARGEST_BYTES:
            raise StarsmithError(f"the starter has {size:,} bytes, at most {LARGEST_BYTES:,}", hint="make it smaller")
        shutil.rmtree(SHIPPED, ignore_errors=True)
        shutil.copytree(place, SHIPPED)
        for file in SHIPPED.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
    note(f"{SHIPPED}: {size:,} bytes, {len(rows):,} training files")


def _sources(folder: Path) -> list[Source]:
    wheels = [_packed(found, folder) for found in _distributions()]
    return [standard_library(), *(open_source(wheel) for wheel in wheels if wheel is not None)]


def _distributions() -> list[metadata.Distribution]:
    """What is installed, without ourselves, in the order of the names."""
    found = {one.metadata["Name"].lower(): one for one in metadata.distributions()}
    return [found[name] for name in sorted(found) if name != "starsmith"]


def _packed(distribution: metadata.Distribution, folder: Path) -> Path | None:
    """The distribution's Python files and what says its licence, as a wheel; None where it has no Python file."""
    files = sorted((file for file in distribution.files or [] if _is_wanted(str(file))), key=str)
    if not any(file.suffix == ".py" for file in files):
        return None
    wheel = folder / f"{distribution.metadata['Name']}-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in files:
            place = Path(str(file.locate()))
            if place.is_file():
                archive.writestr(zipfile.ZipInfo(str(file), EPOCH), place.read_bytes())
    return wheel


def _is_wanted(path: str) -> bool:
    """Python source, or the distribution's own papers; nothing outside of the packages' folder."""
    is_paper = ".dist-info/" in path and not path.endswith(("RECORD", "direct_url.json"))
    return not path.startswith(("..", "/")) and (path.endswith(".py") or is_paper)


if __name__ == "__main__":
    main()
