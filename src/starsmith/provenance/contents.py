"""The tables inside an artefact are held against its manifest's counts and against the Merkle root.

A digest shows that a file is as it was sealed. This shows that what was sealed agrees with itself, which somebody who
changes a row and seals the artefact anew must see to as well.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from starsmith.core import merkle
from starsmith.core.artifact import MANIFEST, Manifest
from starsmith.core.errors import ArtifactError
from starsmith.core.records import HELD_OUT
from starsmith.provenance.fingerprints import FingerprintTable

DOCUMENTS = "documents.parquet"
_SPLITS = ("train", HELD_OUT)


def check_contents(directory: Path, manifest: Manifest) -> list[str]:
    """Every way in which what is inside differs from what the manifest says, each naming file and field."""
    check = _CHECKS.get(manifest.kind)
    if check is None:
        return []
    try:
        return check(directory, manifest)
    except ArtifactError as error:
        return [error.message]
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        return [f"{directory}: its tables cannot be read: {error}"]


def shards_of(directory: Path) -> Iterator[Path]:
    """The Parquet files with the documents of a corpus, tokens or index artefact."""
    yield from sorted((directory / "shards").glob("*.parquet"))
    if (directory / DOCUMENTS).is_file():
        yield directory / DOCUMENTS


def _check_corpus(directory: Path, manifest: Manifest) -> list[str]:
    has_tree = merkle.FILE in manifest.files
    if not (has_tree or "kept" in manifest.counts):
        return []
    found: Counter[str] = Counter()
    leaves: list[bytes] = []
    for shard in shards_of(directory):
        try:
            for batch in _batches(shard, has_tree):
                _count_rows(batch, found)
                leaves += map(merkle.leaf, merkle.values_of(batch)) if has_tree else []
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            return [f"{shard} is not readable as a shard of a corpus: {error}"]
    problems = _compare(directory, manifest.counts, found) + _compare_redactions(directory, manifest.counts, found)
    return problems + (_compare_tree(directory, leaves) if has_tree else [])


def _batches(shard: Path, has_tree: bool) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(shard)
    columns = {"split", "text", *(merkle.COLUMNS if has_tree else ())}
    yield from file.iter_batches(columns=sorted(columns | {"redactions"} & set(file.schema_arrow.names)))


def _count_rows(batch: pa.RecordBatch, found: Counter[str]) -> None:
    found["kept"] += len(batch)
    found["kept_bytes"] += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
    found["held_out"] += pc.sum(pc.equal(batch.column("split"), HELD_OUT)).as_py() or 0
    if "redactions" in batch.schema.names:
        found["redactions"] += pc.sum(batch.column("redactions")).as_py() or 0


def _compare_redactions(directory: Path, counts: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """A row holds the number of its redactions, the manifest their number by kind."""
    total = sum(number for name, number in counts.items() if name.startswith("redacted_"))
    if found.get("redactions", total) == total:
        return []
    return [f"{directory / MANIFEST} counts redacted_… {total} in all, its files have {found['redactions']}"]


def _compare(directory: Path, counts: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    return [
        f"{directory / MANIFEST} counts {name}={counts[name]}, its files have {seen}"
        for name, seen in found.items()
        if name in counts and counts[name] != seen
    ]


def _compare_tree(directory: Path, leaves: list[bytes]) -> list[str]:
    tree = merkle.read_tree(directory)
    problems = []
    if tree.leaves != len(leaves):
        problems.append(f"{directory / merkle.FILE} counts leaves={tree.leaves}, the shards have {len(leaves)} rows")
    if (seen := merkle.root(leaves)) != tree.root:
        problems.append(f"{directory / merkle.FILE} has root {tree.root.hex()[:16]}…, the rows give {seen.hex()[:16]}…")
    return problems


def _check_tokens(directory: Path, manifest: Manifest) -> list[str]:
    if not (names := {f"{split}_documents" for split in _SPLITS} & set(manifest.counts)):
        return []
    table = pq.read_table(directory / DOCUMENTS, columns=["shard", "start", "end", "bytes", "split"])
    tokens = pc.subtract(table["end"], table["start"])
    found = {}
    for split in (name.removesuffix("_documents") for name in sorted(names)):
        chosen = pc.equal(table["split"], split)
        found[f"{split}_documents"] = pc.sum(chosen).as_py() or 0
        found[f"{split}_tokens"] = pc.sum(pc.filter(tokens, chosen)).as_py() or 0
        found[f"{split}_bytes"] = pc.sum(pc.filter(table["bytes"], chosen)).as_py() or 0
    return _compare(directory, manifest.counts, found) + _check_token_shards(directory, table)


def _check_token_shards(directory: Path, table: pa.Table) -> list[str]:
    """Every shard must end where its last document does; ids have two bytes, or four."""
    problems = []
    ends = table.group_by("shard").aggregate([("end", "max")]).to_pydict()
    for shard, end in zip(ends["shard"], ends["end_max"], strict=True):
        file = directory / "shards" / f"{shard:05d}.bin"
        size = file.stat().st_size if file.is_file() else -1
        if size not in (2 * end, 4 * end):
            problems.append(f"{file} has {size} bytes, {directory / DOCUMENTS} ends it after {end} tokens")
    return problems


def _check_index(directory: Path, manifest: Manifest) -> list[str]:
    if "documents" not in manifest.counts:
        return []
    table = FingerprintTable(directory)
    seen = {"documents": len(table.documents), "bytes": len(table.text), "fingerprints": len(table.fingerprints)}
    return _compare(directory, manifest.counts, seen)


_CHECKS: dict[str, Callable[[Path, Manifest], list[Any]]] = {
    "corpus": _check_corpus,
    "tokens": _check_tokens,
    "index": _check_index,
}
