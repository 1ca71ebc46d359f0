"""Writes src/starsmith/provenance/data/licence_fingerprints.npy: the wording of SPDX's licences, as fingerprints.

python tools/make_licence_fingerprints.py

Run it again after a change of `corpus/data/licenses.json.gz`, or of how words are hashed.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np

from starsmith.core.hashing import code_tokens, winnow
from starsmith.provenance.licence_texts import DATA, WINDOW, shingles_of

SOURCE = Path("src/starsmith")


def main() -> None:
    """Hash every text and keep what winnowing chooses, each once."""
    texts: dict[str, str] = json.loads(gzip.decompress((SOURCE / "corpus/data/licenses.json.gz").read_bytes()))
    kept = set()
    for text in texts.values():
        content = text.encode()
        tokens = code_tokens(content)
        shingles = shingles_of(np.frombuffer(content, np.uint8), tokens.starts, tokens.ends)
        kept.update(shingles[winnow(shingles.astype(np.uint64), WINDOW)].tolist())
    place = SOURCE / "provenance" / DATA
    np.save(place, np.array(sorted(kept), np.uint32))
    sys.stdout.write(f"{len(texts)} texts, {len(kept):,} fingerprints, {place.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
