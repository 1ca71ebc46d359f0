"""One digest for all rows of a corpus, from which a proof of membership needs only a few others.

The tree of RFC 6962 (Certificate Transparency), section 2.1, over SHA-256: a leaf is hashed after a zero byte, a node
after a one byte, and n leaves are split at the largest power of two below n.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

FILE = "merkle.json"
COLUMNS = ("repository", "commit", "path", "swhid", "sha256", "license", "kind")  # of a row, in its leaf

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def write_tree(corpus: Path) -> None:
    """Write the root over the rows of a corpus, in stored order, to `merkle.json`."""
    leaves = list(_leaves(corpus))
    tree = {"algorithm": "RFC 6962, SHA-256", "leaf": list(COLUMNS), "leaves": len(leaves), "root": root(leaves).hex()}
    (corpus / FILE).write_text(json.dumps(tree) + "\n")


def leaf(values: Iterable[str]) -> bytes:
    """The hash of one row: its values as a JSON list without spaces."""
    return hashlib.sha256(b"\0" + _ENCODER.encode(list(values)).encode()).digest()


def root(leaves: list[bytes]) -> bytes:
    """The root over leaf hashes; of none, the hash of nothing."""
    if not leaves:
        return hashlib.sha256().digest()
    # A stack of complete subtrees, as a binary counter: the split of the RFC without recursion.
    stack: list[tuple[int, bytes]] = []
    for node in leaves:
        size = 1
        while stack and stack[-1][0] == size:
            node = _join(stack.pop()[1], node)
            size *= 2
        stack.append((size, node))
    right = stack.pop()[1]
    while stack:
        right = _join(stack.pop()[1], right)
    return right


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _leaves(corpus: Path) -> Iterable[bytes]:
    for shard in sorted((corpus / "shards").glob("*.parquet")):
        for batch in pq.ParquetFile(shard).iter_batches(columns=list(COLUMNS)):
            columns = [batch.column(name).to_pylist() for name in COLUMNS]
            yield from (leaf(values) for values in zip(*columns, strict=True))
