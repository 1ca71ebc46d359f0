"""Stage: a corpus becomes an index of fingerprints that finds where a piece of code was seen."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.console import progress
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import TRAIN, SourceFile, read_files
from starsmith.provenance.fingerprints import Grams, write_array, write_documents

Counts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Fingerprints of the training files. Every copy of `ngram_tokens + window - 1` code tokens is found."""

    ngram_tokens: int = 24  # code tokens in a fingerprint: the shortest copy that is reported
    window: int = 17  # consecutive fingerprints of which at least one is stored: larger is smaller, and finds less
    max_places: int = 64  # a fingerprint in more places than this is common code

    def __post_init__(self) -> None:
        if min(self.ngram_tokens, self.window, self.max_places) < 1:
            raise ConfigError(
                f"ngram_tokens={self.ngram_tokens}, window={self.window}, max_places={self.max_places}: "
                "each must be at least 1",
                hint="the defaults are 24, 17 and 64",
            )

    @property
    def grams(self) -> Grams:
        """The choice of fingerprints."""
        return Grams(self.ngram_tokens, self.window)


def run(config: IndexConfig, *, corpus: Path, out: Path) -> None:
    """Fingerprint every training file of `corpus`; the index holds the text too, to compare with."""
    total = artifact.read(corpus, kind="corpus").counts.get("kept")
    rooms = ("core", "provenance")
    with artifact.create(out, kind="index", config=config, rooms=rooms, parents={"corpus": corpus}) as draft:
        with progress("index: fingerprinting files", total=total, unit="files") as advance:
            draft.counts.update(write_index(read_files(corpus, split=TRAIN), draft.path, config.grams, advance))
        if not draft.counts["documents"]:
            raise InputError(f"{corpus} has no training file", hint="lower corpus.held_out, or add sources")


def write_index(files: Iterable[SourceFile], directory: Path, grams: Grams, advance: Callable[[], None]) -> Counts:
    """Write the files of an index, calling `advance` after each source file."""
    hashes, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    rows: list[dict[str, Any]] = []
    with write_array(directory, "text", 1, grams) as text:
        for file in files:
            content = file.text.encode()
            found, starts = grams.select(content)
            hashes.append(found)
            places.append(starts + text.items)
            rows.append(_row(file, offset=text.items))
            text.append(np.frombuffer(content, np.uint8))
            advance()
    fingerprints = _write_sorted(directory, np.concatenate(hashes), np.concatenate(places), grams)
    write_documents(rows, directory)
    return {"documents": len(rows), "bytes": text.items, "fingerprints": fingerprints}


def _row(file: SourceFile, *, offset: int) -> dict[str, Any]:
    origin = {name: getattr(file, name) for name in ("swhid", "repository", "commit", "path", "license")}
    return {"offset": offset, **origin}


def _write_sorted(directory: Path, hashes: NDArray[np.uint64], places: NDArray[np.int64], grams: Grams) -> int:
    """Write fingerprints in ascending order with their places, which ascend where the fingerprint is the same."""
    order = np.argsort(hashes, kind="stable")
    width = np.uint32 if not len(places) or places.max() < 2**32 else np.uint64
    with write_array(directory, "fingerprints", 8, grams) as file:
        file.append(hashes[order])
    with write_array(directory, "positions", np.dtype(width).itemsize, grams) as file:
        file.append(places[order].astype(width))
    return len(hashes)
