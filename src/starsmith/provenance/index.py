"""Stage: a corpus becomes an index of fingerprints that finds where a piece of code was seen."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from starsmith.core import artifact
from starsmith.core.console import progress
from starsmith.core.errors import ConfigError, InputError
from starsmith.core.records import TRAIN, read_columns
from starsmith.core.winnowing import fingerprints
from starsmith.provenance.fingerprints import DOCUMENTS, DOCUMENTS_SCHEMA, LONGEST_TEXT, ORIGIN, Grams, write_array
from starsmith.provenance.postings import Postings

COLUMNS = ("text", *ORIGIN)  # that are read of a corpus
SPILL = "postings.tmp"

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
    counts = artifact.read(corpus, kind="corpus").counts
    rooms = ("core", "provenance")
    with artifact.create(out, kind="index", config=config, rooms=rooms, parents={"corpus": corpus}) as draft:
        total = counts["kept"] - counts.get("held_out", 0) if "kept" in counts else None
        with progress("index: fingerprinting files", total=total, unit="files") as advance:
            batches = read_columns(corpus, COLUMNS, split=TRAIN)
            draft.counts.update(write_index(batches, draft.path, config, advance))
        if not draft.counts["documents"]:
            raise InputError(f"{corpus} has no training file", hint="lower corpus.held_out, or add sources")


def write_index(
    batches: Iterable[pa.RecordBatch], directory: Path, config: IndexConfig, advance: Callable[[int], None]
) -> Counts:
    """Write the files of an index from batches with `COLUMNS`, calling `advance` with the rows of each that is done."""
    grams = config.grams
    postings = Postings(directory / SPILL)
    documents = 0
    with (
        write_array(directory, "text", 1, grams) as text,
        pq.ParquetWriter(directory / DOCUMENTS, DOCUMENTS_SCHEMA, compression="zstd") as table,
    ):
        for batch in batches:
            content, bounds = _joined(batch["text"])
            if text.items + len(content) > LONGEST_TEXT:
                raise InputError(
                    f"the texts have more than {LONGEST_TEXT:,} bytes, as far as an index reaches",
                    hint="build a corpus of each part, and an index of each",
                )
            hashes, places = fingerprints(content, bounds, grams.k, grams.window)
            postings.add(hashes, places + text.items)
            columns = [pa.array(bounds[:-1] + text.items), *(batch[name] for name in ORIGIN)]
            table.write_batch(pa.record_batch(columns, schema=DOCUMENTS_SCHEMA))
            text.append(content)
            documents += len(batch)
            advance(len(batch))
    counts = postings.write(directory, grams, max_places=config.max_places, text_bytes=text.items)
    return {"documents": documents, "bytes": text.items, **counts}


def _joined(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The texts one after the other, and where each begins and the last ends."""
    if not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, content = texts.cast(pa.large_string()).buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    joined = np.frombuffer(content, np.uint8)[bounds[0] : bounds[-1]] if content else np.zeros(0, np.uint8)
    return joined, bounds - bounds[0]
