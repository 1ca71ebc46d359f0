"""The staged files in the order in which they are to be kept, and which of them are the same."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from starsmith.corpus import storage

# Without the texts: what the driver knows of each file that was staged.
KNOWN = [
    "identity",
    "swhid",
    "repository",
    "commit",
    "path",
    "language",
    "size_bytes",
    "stars",
    "date",
    "license_rank",
]


def ranked(parts: Sequence[str], bands: int) -> tuple[pa.Table, NDArray[np.uint64]]:
    """What is known of every staged file and its (N, bands) keys, those to be kept most first.

    The order is the paper's: licence, stars, date of the revision (the later first); then repository and path.
    """
    tables = []
    for number, place in enumerate(parts):
        table = storage.read_table(place, [*KNOWN, "keys"])
        tables.append(
            table.append_column("part", pa.array(np.full(len(table), number, np.int32))).append_column(
                "row", pa.array(np.arange(len(table), dtype=np.int32))
            )
        )
    table = pa.concat_tables(tables)
    ordering = [("license_rank", "ascending"), ("stars", "descending"), ("date", "descending")]
    ordering += [(name, "ascending") for name in ("repository", "path", "part", "row")]
    table = table.take(pc.sort_indices(table, sort_keys=ordering))
    keys = table["keys"].combine_chunks()
    values = np.zeros((len(table), bands), np.uint64)  # no row of zeros is a key: it marks a text of few words
    filled = pc.list_value_length(keys).to_numpy(zero_copy_only=False) > 0
    values[filled] = keys.flatten().to_numpy(zero_copy_only=False).reshape(-1, bands)
    return table.drop_columns(["keys"]), values


def first_of_each(identities: pa.ChunkedArray) -> NDArray[np.int64]:
    """(N,) for each row the first one with the same value."""
    codes = identities.combine_chunks().dictionary_encode().indices.to_numpy()
    firsts = np.full(codes.max(initial=-1) + 1, len(codes), np.int64)
    np.minimum.at(firsts, codes, np.arange(len(codes)))
    found: NDArray[np.int64] = firsts[codes]
    return found
