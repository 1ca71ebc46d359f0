"""However many runs there were, the arrays are those of one sort."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from starsmith.provenance.fingerprints import COMMON_SAMPLES, Grams
from starsmith.provenance.postings import Postings

GRAMS = Grams(24, 17)


def write(directory: Path, hashes: NDArray[np.uint64], *, run_entries: int, text_bytes: int, step: int = 1) -> None:
    directory.mkdir()
    postings = Postings(directory / "spill", run_entries=run_entries)
    places = np.arange(len(hashes), dtype=np.int64) * step
    for start in range(0, len(hashes), 97):
        postings.add(hashes[start : start + 97], places[start : start + 97])
    counts = postings.write(directory, GRAMS, max_places=20, text_bytes=text_bytes)
    assert counts["fingerprints"] == len(read(directory, "remainders", "<u4"))
    assert not (directory / "spill").exists()


def read(directory: Path, name: str, kind: str) -> NDArray[np.uint64]:
    return np.frombuffer((directory / f"{name}.bin").read_bytes()[64:], kind)


@pytest.fixture(scope="module")
def hashes() -> NDArray[np.uint64]:
    """Many that stand alone, some that stand often, some that differ in their last bits only."""
    draw = np.random.default_rng(5)
    alone = draw.integers(0, 2**64, 30_000, np.uint64)
    often = draw.choice(draw.integers(0, 2**64, 30, np.uint64), 3_000)
    alike = np.uint64(7 << 60) + draw.integers(0, 50, 2_000, np.uint64)
    return draw.permutation(np.concatenate((alone, often, alike)))


def test_runs_on_disk_give_the_files_of_a_sort_in_memory(hashes: NDArray[np.uint64], tmp_path: Path) -> None:
    write(tmp_path / "one", hashes, run_entries=10**6, text_bytes=10**6)
    write(tmp_path / "many", hashes, run_entries=1_000, text_bytes=10**6)

    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["common.bin", "counts.bin", "directory.bin", "positions.bin", "remainders.bin"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


@pytest.mark.parametrize("far", [False, True])
def test_every_place_is_there_but_of_common_fingerprints_only_the_first(
    far: bool, hashes: NDArray[np.uint64], tmp_path: Path
) -> None:
    step = 10**7 if far else 1  # positions of five bytes, or of four
    write(tmp_path / "index", hashes, run_entries=5_000, text_bytes=len(hashes) * step, step=step)

    directory = read(tmp_path / "index", "directory", "<u4").astype(int)
    bits = (len(directory) - 1).bit_length() - 1
    keys = hashes >> np.uint64(32 - bits)
    order = np.argsort(keys, kind="stable")
    totals = Counter(keys.tolist())
    wanted, seen = [], Counter[int]()
    for number in order.tolist():
        key = int(keys[number])
        seen[key] += 1
        if totals[key] <= 20 or seen[key] <= COMMON_SAMPLES:
            wanted.append((key, number * step))
    buckets = np.repeat(np.arange(len(directory) - 1), np.diff(directory))
    remainders = read(tmp_path / "index", "remainders", "<u4").astype(np.uint64)
    raw = np.frombuffer((tmp_path / "index" / "positions.bin").read_bytes()[64:], np.uint8)
    raw = raw.reshape(len(remainders), -1)
    places = [int.from_bytes(row.tobytes(), "little") for row in raw]
    assert raw.shape[1] == (5 if far else 4)
    assert (
        list(zip(((buckets.astype(np.uint64) << np.uint64(32)) | remainders).tolist(), places, strict=True)) == wanted
    )
    common = {key: total for key, total in sorted(totals.items()) if total > 20}
    assert common
    assert read(tmp_path / "index", "common", "<u8").tolist() == list(common)
    assert read(tmp_path / "index", "counts", "<u8").tolist() == list(common.values())


def test_no_fingerprint_at_all_gives_empty_arrays(tmp_path: Path) -> None:
    write(tmp_path / "index", np.zeros(0, np.uint64), run_entries=10, text_bytes=0)

    assert read(tmp_path / "index", "directory", "<u4").tolist() == [0] * 257
