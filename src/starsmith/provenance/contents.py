"""The tables inside an artefact are held against its manifest's counts, the Merkle root and the digests in them.

A digest shows that a file is as it was sealed. This shows that what was sealed agrees with itself, which somebody who
changes a row and seals the artefact anew must see to as well.
"""

import codecs
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from starsmith.core import merkle
from starsmith.core.ancestry import parent_directory
from starsmith.core.artifact import MANIFEST, Manifest
from starsmith.core.errors import ArtifactError
from starsmith.core.records import HELD_OUT
from starsmith.provenance.fingerprints import FingerprintTable
from starsmith.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from starsmith.tokenizer.tokens import token_dtype

DOCUMENTS = "documents.parquet"
_SPLITS = ("train", HELD_OUT)
_COLUMNS = ("split", "text", "size_bytes", "redactions", *merkle.COLUMNS)  # of a corpus' shard
_ROWS_AT_ONCE = 1024
# A text in one of these may have as many bytes as it has in UTF-8: two for each letter, or more and fewer in turn.
_ENCODINGS = ("euc_jp", "cp932", "shift_jis", "iso2022_jp", "cp949", "euc_kr", "gb18030", "gbk", "gb2312", "big5")
_MARKED = {
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


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
    # A pipe would be waited for; that it is none of the artefact's files is told elsewhere.
    yield from (file for file in sorted((directory / "shards").glob("*.parquet")) if file.is_file())
    if (directory / DOCUMENTS).is_file():
        yield directory / DOCUMENTS


def _check_corpus(directory: Path, manifest: Manifest) -> list[str]:
    if merkle.FILE not in manifest.files:
        return [f"{directory} has no {merkle.FILE}, which every corpus has"]
    found = Counter(kept=0, kept_bytes=0, held_out=0, redactions=0)
    leaves: list[bytes] = []
    other_texts: list[str] = []
    for shard in shards_of(directory):
        try:
            for batch in _batches(shard):
                _count_rows(batch, found)
                leaves += map(merkle.leaf, merkle.values_of(batch))
                other_texts += _find_other_texts(batch)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            return [f"{shard} is not readable as a shard of a corpus: {error}"]
    redactions = found.pop("redactions")
    problems = _compare(directory, manifest.counts, found) + _compare_redactions(directory, manifest.counts, redactions)
    problems += _compare_tree(directory, leaves)
    if other_texts:
        more = f" (and {len(other_texts) - 1} more)" if len(other_texts) > 1 else ""
        problems.append(f"{directory / 'shards'}: {other_texts[0]} has a text of another sha256 than it says{more}")
    return problems


def _batches(shard: Path) -> Iterator[pa.RecordBatch]:
    yield from pq.ParquetFile(shard).iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(_COLUMNS))


def _count_rows(batch: pa.RecordBatch, found: Counter[str]) -> None:
    found["kept"] += len(batch)
    found["kept_bytes"] += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
    found["held_out"] += pc.sum(pc.equal(batch.column("split"), HELD_OUT)).as_py() or 0
    found["redactions"] += pc.sum(batch.column("redactions")).as_py() or 0


def _find_other_texts(batch: pa.RecordBatch) -> Iterator[str]:
    """The places of code whose text is not what its digest is of.

    The digest is of the content as its repository has it. The text has the same bytes if nothing was redacted, and it
    was not decoded from another encoding: then it has, all but always, another size, and cannot be judged.
    """
    is_code = pc.equal(batch.column("kind"), "code")
    is_whole = pc.equal(batch.column("redactions"), 0)
    is_as_long = pc.equal(pc.binary_length(batch.column("text")), batch.column("size_bytes"))
    chosen = batch.filter(pc.and_(pc.and_(is_code, is_whole), is_as_long))
    columns = (chosen.column(name).to_pylist() for name in ("text", "sha256", "repository", "path"))
    for text, digest, repository, path in zip(*columns, strict=True):
        if _sha256(text.encode()) != digest and not _is_of_another_encoding(text, digest):
            yield f"{repository}:{path}"


def _is_of_another_encoding(text: str, digest: str) -> bool:
    """Whether the digest is of the text in an encoding that by chance takes as many bytes."""
    if text.isascii():
        return False
    marked = (mark + text.encode(encoding) for encoding, mark in _MARKED.items())
    others = (text.encode(encoding, "ignore") for encoding in _ENCODINGS)
    return any(_sha256(content) == digest for contents in (marked, others) for content in contents)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _compare_redactions(directory: Path, counts: Mapping[str, int], seen: int) -> list[str]:
    """A row holds the number of its redactions, the manifest their number by kind."""
    total = sum(number for name, number in counts.items() if name.startswith("redacted_"))
    return [] if seen == total else [f"{directory / MANIFEST} counts redacted_… {total} in all, its files have {seen}"]


def _compare(directory: Path, counts: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """A count that is absent is one of none."""
    return [
        f"{directory / MANIFEST} counts {name}={counts.get(name, 0)}, its files have {seen}"
        for name, seen in found.items()
        if counts.get(name, 0) != seen
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
    table = pq.read_table(directory / DOCUMENTS, columns=["shard", "start", "end", "bytes", "split"])
    tokens = pc.subtract(table["end"], table["start"])
    found = {}
    for split in _SPLITS:
        chosen = pc.equal(table["split"], split)
        found[f"{split}_documents"] = pc.sum(chosen).as_py() or 0
        found[f"{split}_tokens"] = pc.sum(pc.filter(tokens, chosen)).as_py() or 0
        found[f"{split}_bytes"] = pc.sum(pc.filter(table["bytes"], chosen)).as_py() or 0
    problems = _compare(directory, manifest.counts, found)
    if (others := len(table) - sum(found[f"{split}_documents"] for split in _SPLITS)) != 0:
        problems.append(f"{directory / DOCUMENTS} has {others} documents of no split, wanted: {', '.join(_SPLITS)}")
    return problems or _check_token_shards(directory, table)


def _check_token_shards(directory: Path, table: pa.Table) -> list[str]:
    """The documents must fill the shards one after the other, in ids of one width, and there must be no other shard."""
    ends = {0: 0}  # tokens of each shard; the first is there without a document, too
    for shard, start, end in zip(*(table[name].to_pylist() for name in ("shard", "start", "end")), strict=True):
        if shard not in (len(ends) - 1, len(ends)) or start != ends.setdefault(shard, 0) or end < start:
            return [f"{directory / DOCUMENTS}: tokens {start} to {end} of shard {shard} do not follow those before"]
        ends[shard] = end
    vocabulary = _vocabulary_of(directory)
    widths = [token_dtype(vocabulary.vocab_size).itemsize] if vocabulary else [2, 4]
    problems = min((_compare_shards(directory, ends, width) for width in widths), key=len)
    return problems or (_compare_ids(directory, table, vocabulary) if vocabulary else [])


def _compare_shards(directory: Path, ends: Mapping[int, int], width: int) -> list[str]:
    wanted = {f"{shard:05d}.bin": end for shard, end in ends.items()}
    sizes = {file.name: file.stat().st_size for file in (directory / "shards").iterdir()}
    problems = [f"{directory / 'shards' / name} is a shard of no document" for name in sorted(sizes.keys() - wanted)]
    return problems + [
        f"{directory / 'shards' / name} has {sizes.get(name, 'no')} bytes, "
        f"{directory / DOCUMENTS} ends it after {end} tokens of {width} bytes"
        for name, end in wanted.items()
        if sizes.get(name) != width * end
    ]


def _compare_ids(directory: Path, table: pa.Table, vocabulary: Tokenizer) -> list[str]:
    """The tokens of a document must stand for as many bytes as its text has; whether for its text, `--deep` finds."""
    plain = range(len(SPECIAL_TOKENS), vocabulary.vocab_size)
    sizes = np.array([*map(len, SPECIAL_TOKENS), *(len(vocabulary.decode_bytes([token])) for token in plain)])
    dtype = token_dtype(vocabulary.vocab_size)
    opened, content = -1, np.zeros(0, dtype)
    columns = (table[name].to_pylist() for name in ("shard", "start", "end", "bytes"))
    for shard, start, end, size_bytes in zip(*columns, strict=True):
        file = directory / "shards" / f"{shard:05d}.bin"
        if shard != opened:  # an empty file cannot be mapped
            opened, content = shard, np.memmap(file, dtype, mode="r") if file.stat().st_size else np.zeros(0, dtype)
        ids = content[start:end]
        if (ids >= len(sizes)).any():
            return [f"{file}: tokens {start} to {end} are not all of the tokenizer"]
        if (seen := int(sizes[ids].sum())) != size_bytes:
            return [f"{file}: tokens {start} to {end} stand for {seen} bytes, {DOCUMENTS} has bytes={size_bytes}"]
    return []


def _vocabulary_of(directory: Path) -> Tokenizer | None:
    """The tokenizer that the ids are of, if it is there."""
    try:
        return Tokenizer.load(parent_directory(directory, "tokenizer"))
    except ArtifactError:
        return None


def _check_index(directory: Path, manifest: Manifest) -> list[str]:
    table = FingerprintTable(directory)
    seen = {"documents": len(table.documents), "bytes": len(table.text), "fingerprints": len(table.remainders)}
    return _compare(directory, manifest.counts, seen)


_CHECKS: dict[str, Callable[[Path, Manifest], list[Any]]] = {
    "corpus": _check_corpus,
    "tokens": _check_tokens,
    "index": _check_index,
}
