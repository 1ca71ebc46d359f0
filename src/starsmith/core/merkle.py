"""One digest for all rows of a corpus, from which a proof of membership needs only a few others.

The tree of RFC 6962 (Certificate Transparency), section 2.1, over SHA-256: a leaf is hashed after a zero byte, a node
after a one byte, and n leaves are split at the largest power of two below n.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.statement import parse_json, read_bytes

FILE = "merkle.json"
COLUMNS = ("repository", "commit", "path", "swhid", "sha256", "license", "kind")  # of a row, in its leaf
ALGORITHM = "RFC 6962, SHA-256"


@dataclass(frozen=True)
class Tree:
    """What `merkle.json` says."""

    leaves: int
    root: bytes


@dataclass(frozen=True)
class Proof:
    """That a row is in a corpus: the row, its place, and the hashes that lead from it to the root."""

    values: tuple[str, ...]  # of COLUMNS
    index: int
    tree_size: int
    path: tuple[bytes, ...]  # from the leaf's neighbour upwards
    root: bytes

    @property
    def holds(self) -> bool:
        """Whether the path leads to the root."""
        return is_included(leaf(self.values), self.index, self.tree_size, self.path, self.root)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; with these and SHA-256 anyone can check it."""
        return {
            "algorithm": ALGORITHM,
            "columns": list(COLUMNS),
            "values": list(self.values),
            "leaf": leaf(self.values).hex(),
            "index": self.index,
            "tree_size": self.tree_size,
            "path": [node.hex() for node in self.path],
            "root": self.root.hex(),
            "holds": self.holds,
        }


def write_tree(corpus: Path) -> None:
    """Write the root over the rows of a corpus, in stored order, to `merkle.json`."""
    leaves = [leaf(values) for values in rows(corpus)]
    tree = {"algorithm": ALGORITHM, "leaf": list(COLUMNS), "leaves": len(leaves), "root": root(leaves).hex()}
    (corpus / FILE).write_text(json.dumps(tree) + "\n")


def read_tree(corpus: Path) -> Tree:
    """What `merkle.json` of a corpus says; whether its rows give that root is another question."""
    file = corpus / FILE
    try:
        found = parse_json(read_bytes(file))
        if found["algorithm"] != ALGORITHM or found["leaf"] != list(COLUMNS) or type(found["leaves"]) is not int:
            raise ValueError(f"not a tree by {ALGORITHM} over {', '.join(COLUMNS)}")
        return Tree(found["leaves"], bytes.fromhex(found["root"]))
    except FileNotFoundError:
        raise ArtifactError(
            f"{corpus} has no {FILE}", hint="build it: starsmith corpus build SOURCE --out DIR"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{file} is damaged: {error!r}", hint="restore it, or rebuild the corpus") from None


def rows(corpus: Path) -> Iterator[tuple[str, ...]]:
    """The values of every row's leaf, in stored order."""
    for shard in sorted((corpus / "shards").glob("*.parquet")):
        if not shard.is_file():  # a pipe would be waited for
            raise OSError(f"{shard} is no regular file")
        for batch in pq.ParquetFile(shard).iter_batches(columns=list(COLUMNS)):
            yield from values_of(batch)


def values_of(batch: pa.RecordBatch) -> Iterator[tuple[str, ...]]:
    """The values of the leaves of some rows."""
    yield from zip(*(batch.column(name).to_pylist() for name in COLUMNS), strict=True)


def prove(corpus: Path, swhid: str) -> list[Proof]:
    """A proof for every row of this SWHID; they are held against the root that the corpus states."""
    tree = read_tree(corpus)
    leaves: list[bytes] = []
    wanted: dict[int, tuple[str, ...]] = {}
    try:
        for values in rows(corpus):
            if values[COLUMNS.index("swhid")] == swhid:
                wanted[len(leaves)] = values
            leaves.append(leaf(values))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:  # a column is missing, or has a null
        raise ArtifactError(f"a shard of {corpus} has no rows that can be read: {error}", hint="restore it") from None
    if not wanted:
        raise InputError(f"{swhid} is not in {corpus}", hint="give the SWHID of a row: swh:1:cnt:…")
    return [
        Proof(values, index, len(leaves), tuple(inclusion_path(leaves, index)), tree.root)
        for index, values in wanted.items()
    ]


def leaf(values: Iterable[str]) -> bytes:
    """The hash of one row: its values as a JSON list without spaces."""
    row = "[" + ",".join(map(encode_basestring, values)) + "]"
    return hashlib.sha256(b"\0" + row.encode()).digest()


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes; of none, the hash of nothing."""
    # A stack of complete subtrees, as a binary counter: the split of the RFC without recursion.
    stack: list[tuple[int, bytes]] = []
    for node in leaves:
        size = 1
        while stack and stack[-1][0] == size:
            node = _join(stack.pop()[1], node)
            size *= 2
        stack.append((size, node))
    if not stack:
        return hashlib.sha256().digest()
    right = stack.pop()[1]
    while stack:
        right = _join(stack.pop()[1], right)
    return right


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from leaf `index` to the root, the leaf's neighbour first (RFC 6962, 2.1.1)."""
    path: list[bytes] = []
    while len(leaves) > 1:
        split = 1 << ((len(leaves) - 1).bit_length() - 1)
        left, right = leaves[:split], leaves[split:]
        path.append(root(right if index < split else left))
        leaves, index = (left, index) if index < split else (right, index - split)
    return path[::-1]


def is_included(leaf_hash: bytes, index: int, tree_size: int, path: Sequence[bytes], wanted: bytes) -> bool:
    """Whether `path` leads from the leaf at `index` of `tree_size` to the root `wanted` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < tree_size:
        return False
    place, last, node = index, tree_size - 1, leaf_hash
    for neighbour in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = _join(neighbour, node)
            while place and not place & 1:  # the right edge of the tree has no neighbour at these heights
                place, last = place >> 1, last >> 1
        else:
            node = _join(node, neighbour)
        place, last = place >> 1, last >> 1
    return last == 0 and node == wanted


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
