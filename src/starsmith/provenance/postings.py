"""Fingerprints and their places, sorted by fingerprint in bounded memory: runs on disk, merged by hash prefix.

What comes in is collected into runs of a few million entries, each written in order of the first bits of its hashes.
The merge takes one range of prefixes after the other: a piece of each run, whose entries are put into their buckets
and sorted there. So memory is that of a run, however many there are, and one index is written, not one a run: a query
looks into one place for each fingerprint.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from starsmith.provenance.fingerprints import COMMON_SAMPLES, FEWEST_BUCKETS, Grams, write_array

RUN_ENTRIES = 2_000_000  # 32 MB of hashes and places
BUCKET_ENTRIES = 8  # of a bucket, on average: one cache line of remainders
_PREFIX_BITS = 12  # of a run's order: the smallest range that a merge step takes
_FEWEST_BITS, _MOST_BITS = FEWEST_BUCKETS.bit_length() - 1, 32  # of a bucket's number
_INSERTION_SORT = 64  # entries up to which it is the faster way

_Block = tuple[NDArray[np.uint64], NDArray[np.uint64]]


class Postings:
    """Collects fingerprints in the order of their places, and writes the arrays of an index."""

    def __init__(self, spill: Path, *, run_entries: int = RUN_ENTRIES) -> None:
        """`spill` is a new file for the runs, which is there only while it is needed."""
        self._path = spill
        self._run_entries = run_entries
        self._pending: list[_Block] = []
        self._pending_entries = 0
        self._runs: list[tuple[int, NDArray[np.int64]]] = []  # where each begins in the file, in entries; its bounds
        self.entries = 0

    def add(self, hashes: NDArray[np.uint64], places: NDArray[np.int64]) -> None:
        """Add fingerprints; places never descend."""
        self._pending.append((hashes, places.view(np.uint64)))
        self._pending_entries += len(hashes)
        self.entries += len(hashes)
        if self._pending_entries >= self._run_entries:
            self._spill()

    def write(self, directory: Path, grams: Grams, *, max_places: int, text_bytes: int) -> dict[str, int]:
        """Write `directory`, `remainders`, `positions`, `common` and `counts`; returns what was counted."""
        self._spill()
        bits = max(_FEWEST_BITS, min(_MOST_BITS, int(np.log2(max(self.entries, 1) / BUCKET_ENTRIES))))
        place_bytes = 4 if text_bytes <= 1 << 32 else 5
        sizes, common, counts = [], [], []
        with (
            write_array(directory, "remainders", 4, grams) as remainders,
            write_array(directory, "positions", place_bytes, grams) as positions,
        ):
            for first, last in self._ranges():
                merged = _merge(*self._read(first, last), first, last, bits, max_places)
                remainders.append(merged[0])
                positions.append(merged[1])
                sizes.append(merged[2])
                common.append(merged[3])
                counts.append(merged[4])
        self._path.unlink(missing_ok=True)
        begins = np.concatenate(([0], np.cumsum(np.concatenate(sizes), dtype=np.int64)))
        with write_array(directory, "directory", 4 if begins[-1] < 1 << 32 else 8, grams) as file:
            file.append(begins)
        for name, arrays in (("common", common), ("counts", counts)):
            with write_array(directory, name, 8, grams) as file:
                file.append(np.concatenate(arrays))
        return {"fingerprints": int(begins[-1]), "common": sum(map(len, common))}

    def _spill(self) -> None:
        """Write what is pending as a run."""
        if not self._pending_entries:
            return
        hashes = np.concatenate([block[0] for block in self._pending])
        places = np.concatenate([block[1] for block in self._pending])
        entries, bounds = _by_prefix(hashes, places)
        begins = self._runs[-1][0] + int(self._runs[-1][1][-1]) if self._runs else 0
        with self._path.open("ab") as file:
            file.write(entries.data)
        self._runs.append((begins, bounds))
        self._pending, self._pending_entries = [], 0

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Ranges of prefixes, each with about as many entries as a run, if one prefix has not more."""
        sizes = sum((np.diff(bounds) for _, bounds in self._runs), start=np.zeros(1 << _PREFIX_BITS, np.int64))
        # A range holds whole buckets, of which there are at least 2 ** _FEWEST_BITS.
        step = 1 << (_PREFIX_BITS - _FEWEST_BITS)
        first, held = 0, 0
        for end in range(step, len(sizes) + 1, step):
            held += int(sizes[end - step : end].sum())
            if end == len(sizes) or held + int(sizes[end : end + step].sum()) > self._run_entries:
                yield first, end
                first, held = end, 0

    def _read(self, first: int, last: int) -> _Block:
        """The entries with these prefixes, run by run: those of one hash ascend by place."""
        pieces = [np.zeros((0, 2), np.uint64)]
        if self._runs:
            stored = np.memmap(self._path, np.uint64, "r").reshape(-1, 2)
            pieces += [stored[begin + bounds[first] : begin + bounds[last]] for begin, bounds in self._runs]
        entries = np.concatenate(pieces)
        return np.ascontiguousarray(entries[:, 0]), np.ascontiguousarray(entries[:, 1])


def _merge(
    hashes: NDArray[np.uint64], places: NDArray[np.uint64], first: int, last: int, bits: int, max_places: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Sort the entries of prefixes first..last; (remainders, places, entries of each bucket, common, counts)."""
    scale = 1 << abs(bits - _PREFIX_BITS)
    low, high = (first * scale, last * scale) if bits >= _PREFIX_BITS else (first // scale, last // scale)
    return _merge_buckets(hashes, places, low, high - low, bits, max_places, min(COMMON_SAMPLES, max_places))


@njit(cache=True, nogil=True)
def _by_prefix(hashes: NDArray[np.uint64], places: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(N, 2) hashes and places in order of the hashes' prefixes, and where each prefix begins."""
    shift = np.uint64(64 - _PREFIX_BITS)
    bounds = np.zeros((1 << _PREFIX_BITS) + 1, np.int64)
    for value in hashes:
        bounds[np.int64(value >> shift) + 1] += 1
    for prefix in range(1 << _PREFIX_BITS):
        bounds[prefix + 1] += bounds[prefix]
    following = bounds[:-1].copy()
    entries = np.empty((len(hashes), 2), np.uint64)
    for entry in range(len(hashes)):
        own = np.int64(hashes[entry] >> shift)
        entries[following[own], 0], entries[following[own], 1] = hashes[entry], places[entry]
        following[own] += 1
    return entries, bounds


@njit(cache=True, nogil=True)
def _merge_buckets(
    hashes: NDArray[np.uint64],
    places: NDArray[np.uint64],
    low: int,
    buckets: int,
    bits: int,
    max_places: int,
    samples: int,
) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
    shift, key_shift = np.uint64(64 - bits), np.uint64(32 - bits)
    begins = np.zeros(buckets + 1, np.int64)
    for value in hashes:
        begins[np.int64(value >> shift) - low + 1] += 1
    for bucket in range(buckets):
        begins[bucket + 1] += begins[bucket]
    following = begins[:-1].copy()
    keys, sorted_places = np.empty(len(hashes), np.uint64), np.empty(len(hashes), np.uint64)
    for entry in range(len(hashes)):
        own = np.int64(hashes[entry] >> shift) - low
        keys[following[own]] = hashes[entry] >> key_shift
        sorted_places[following[own]] = places[entry]
        following[own] += 1
    sizes = np.zeros(buckets, np.int64)
    kept, frequent = 0, 0
    common, counts = np.empty(len(hashes) // (max_places + 1) + 1, np.uint64), np.empty_like(keys)
    remainders = np.empty(len(hashes), np.uint32)
    for bucket in range(buckets):
        begin, end = begins[bucket], begins[bucket + 1]
        _sort(keys, sorted_places, begin, end)
        before = kept
        while begin < end:
            after = begin + 1
            while after < end and keys[after] == keys[begin]:
                after += 1
            taken = after - begin
            if taken > max_places:
                common[frequent], counts[frequent] = keys[begin], np.uint64(taken)
                frequent += 1
                taken = samples
            for entry in range(begin, begin + taken):
                remainders[kept] = np.uint32(keys[entry] & np.uint64(0xFFFFFFFF))
                sorted_places[kept] = sorted_places[entry]  # never behind what is still to be read
                kept += 1
            begin = after
        sizes[bucket] = kept - before
    return remainders[:kept], sorted_places[:kept], sizes, common[:frequent].copy(), counts[:frequent].copy()


@njit(cache=True, nogil=True)
def _sort(keys: NDArray[np.uint64], places: NDArray[np.uint64], begin: int, end: int) -> None:
    """Sort entries begin..end by key; those with one key keep their order."""
    if end - begin > _INSERTION_SORT:
        order = np.argsort(keys[begin:end], kind="mergesort")
        keys[begin:end] = keys[begin:end][order]
        places[begin:end] = places[begin:end][order]
        return
    for entry in range(begin + 1, end):
        key, place = keys[entry], places[entry]
        back = entry - 1
        while back >= begin and keys[back] > key:
            keys[back + 1], places[back + 1] = keys[back], places[back]
            back -= 1
        keys[back + 1], places[back + 1] = key, place
