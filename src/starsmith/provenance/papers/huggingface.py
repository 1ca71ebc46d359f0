"""A corpus or a model becomes a directory that can be uploaded to the Hugging Face hub as it is.

A corpus' rows are written into files of their split, so that nobody who loads "train" gets what was held out; the rows
stay what they are, and so do the proofs that they belong to the corpus.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from starsmith.core import artifact, merkle
from starsmith.core.console import progress
from starsmith.core.errors import ArtifactError
from starsmith.core.records import HELD_OUT, TRAIN
from starsmith.provenance.papers import croissant, dataset_card, model_card
from starsmith.provenance.papers.about import About
from starsmith.provenance.papers.bases import LARGEST_TEXT_BYTES, Restrictions
from starsmith.provenance.papers.facts import CorpusFacts, Opened
from starsmith.provenance.papers.markdown import cell
from starsmith.provenance.papers.model_facts import ModelFacts

CARD, CROISSANT, RESTRICTIONS, LICENSE = "README.md", "croissant.json", "USE_RESTRICTIONS.md", "LICENSE"
PROVENANCE = "provenance"  # folder of the manifests
INCLUDES = "data/*.parquet"
_ROWS_IN_GROUP = 1024


def write_corpus(corpus: CorpusFacts, about: About, out: Path) -> None:
    """Parquet files by split, the card, Croissant and the manifest, into the new directory `out`."""
    names = _write_splits(corpus, out / "data")
    files = [(f"data/{name}", _sha256(out / "data" / name), (out / "data" / name).stat().st_size) for name in names]
    patterns = {
        split: f"data/{split}-*.parquet" for split in corpus.splits if any(name.startswith(split) for name in names)
    }
    write_text(out / CARD, dataset_card.write(corpus, about, data_files=patterns))
    write_json(out / CROISSANT, croissant.write(corpus, about, files=files, includes=INCLUDES))
    _copy_manifest(corpus.artefact, out)
    shutil.copyfile(corpus.artefact.directory / merkle.FILE, out / PROVENANCE / merkle.FILE)


def write_model(model: ModelFacts, about: About, out: Path) -> None:
    """The checkpoint's files, the card, the terms that travel with it and the manifests, into the new directory."""
    own = model.artefact.manifest.files
    terms, link = _terms(model)
    original = _free_name(f"ORIGINAL_{CARD}", own, "ORIGINAL_")  # a card of somebody else's must not stand for this one
    with progress("export: copying", total=len(own), unit="files") as advance:
        for name in own:
            place = out / (original if name == CARD else name)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.artefact.directory / name, place)
            advance()
    write_text(out / CARD, model_card.write(model, about, license_link=link))
    for name, text in terms.items():
        write_text(out / name, text)
    for one in (model.artefact, *model.chain):
        _copy_manifest(one, out)


def write_text(place: Path, text: str) -> None:
    """A text file with Unix line ends."""
    place.write_bytes(text.encode())


def write_json(place: Path, value: Any) -> None:
    """A JSON file that people can read."""
    write_text(place, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_splits(corpus: CorpusFacts, folder: Path) -> list[str]:
    """The rows of every shard, each split in a file of its own; returns the files' names."""
    folder.mkdir(parents=True)
    shards = sorted((corpus.artefact.directory / "shards").glob("*.parquet"))
    written: list[str] = []
    with progress("export: writing", total=len(shards), unit="shards") as advance:
        for shard in shards:
            written += _divide(shard, folder)
            advance()
    return sorted(written)


def _divide(shard: Path, folder: Path) -> list[str]:
    writers: dict[str, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        for rows in _row_groups(shard):
            for split in (TRAIN, HELD_OUT):
                part = rows.filter(pc.equal(rows["split"], split))
                if part.num_rows and split not in writers:
                    place = folder / f"{split}-{shard.stem}.parquet"
                    writer = pq.ParquetWriter(place, rows.schema, compression="zstd", write_page_checksum=True)
                    writers[split] = stack.enter_context(writer)
                if part.num_rows:
                    writers[split].write_table(part, row_group_size=_ROWS_IN_GROUP)
    return [f"{split}-{shard.stem}.parquet" for split in writers]


def _row_groups(shard: Path) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{shard} is not readable Parquet: {error}", hint="restore it, or rebuild") from None


def _terms(model: ModelFacts) -> tuple[dict[str, str], str]:
    """What the licence of a base wants to stand beside the weights, and the name of the file that has the licence.

    The names are such as the checkpoint does not use.
    """
    texts: list[tuple[str, str]] = []
    terms: dict[str, str] = {}
    if model.restrictions is not None:
        terms = model.restrictions.terms
        texts.append((RESTRICTIONS, _restrictions_page(model.restrictions)))
        texts += [(LICENSE if len(terms) == 1 else name, text) for name, text in terms.items()]
    for base in model.bases:
        texts += base.texts.items()
    own = model.artefact
    places = {_text_of(own.directory / name): name for name, _, size in own.files if size <= LARGEST_TEXT_BYTES}
    found: dict[str, str] = {}
    for name, text in texts:
        if text not in places:
            places[text] = _free_name(name, {*own.manifest.files, *found}, "BASE_")
            found[places[text]] = text
    link = places[terms.get(LICENSE) or next(iter(terms.values()))] if terms else ""
    return found, link


def _free_name(name: str, taken: Collection[str], prefix: str) -> str:
    while name in taken:
        name = prefix + name
    return name


def _text_of(file: Path) -> str:
    """The text of a file; "" for what is none."""
    try:
        return file.read_text(encoding="utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return ""


def _restrictions_page(restrictions: Restrictions) -> str:
    base, licence = cell(restrictions.base), cell(restrictions.licence)
    head = (
        f"# Use restrictions\n\nThis model derives from {base}, which is under {licence}. The restrictions below bind"
        " whoever uses it or anything made from it, and travel with every copy.\n\n"
    )
    return head + restrictions.text


def _copy_manifest(one: Opened, out: Path) -> None:
    (out / PROVENANCE).mkdir(exist_ok=True)
    shutil.copyfile(
        one.directory / artifact.MANIFEST, out / PROVENANCE / f"{one.manifest.kind}-{one.manifest.id[:16]}.json"
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
