"""Writes two files of src/starsmith/corpus/data: licence texts beyond SPDX's list, and the index of all known ones.

python -m venv .bench/scancode && .bench/scancode/bin/pip install scancode-toolkit-mini==32.5.0 "pluggy<1.6"
python tools/make_license_library.py .bench/scancode/lib/python3.*/site-packages/licensedcode/data/licenses

From ScanCode's licence index (data under CC-BY-4.0) it takes texts that have no SPDX id, each as it is, under the
LicenseRef- that ScanCode gives it; never its detection rules. All permissive texts and public-domain dedications are
taken; of the others those that are short, or that would be taken for a licence that we know: a BSD text with a further
restriction is not BSD. Run it again after a change of `licenses.json.gz`, or of how texts are cut into words.
"""

import gzip
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starsmith.corpus import license_kernels as kernels
from starsmith.corpus import license_library
from starsmith.corpus.license_texts import whole_texts

DATA = Path("src/starsmith/corpus/data")
FREE, OTHERS_NOT = ("Permissive", "Public Domain"), ("CLA", "Unstated License", "Patent License")
LONGEST, LONGEST_RESTRICTIVE = 20_000, 6_000  # characters
FEWEST_WORDS = 40  # a shorter text is a sentence that stands in many licences
_GRANT = re.compile(r"permi|grant|\bmay\b|free|allow|licen[cs]|redistrib")  # without one a text only disclaims
ALIKE = 0.95  # shared part of all shingles of two texts, from which on they are one licence


@dataclass(frozen=True)
class Entry:
    """A licence of ScanCode's."""

    name: str
    category: str
    text: str


def main() -> None:
    """Choose the texts, write them, and index them with those of SPDX."""
    spdx: dict[str, str] = json.loads(gzip.decompress((DATA / "licenses.json.gz").read_bytes()))
    known = license_library.build(spdx)
    sets = {name: set(known.keys[own].tolist()) for name, own in zip(known.names, known.sets, strict=True)}
    chosen = {entry.name: entry.text for entry in entries(Path(sys.argv[1])) if wanted(entry, known, sets)}
    content = json.dumps(chosen, ensure_ascii=False).encode()
    (DATA / "licenses_beyond_spdx.json.gz").write_bytes(gzip.compress(content, 9, mtime=0))
    index = license_library.packed(license_library.build({**spdx, **chosen}))
    (DATA / "licenses.npz").write_bytes(index)
    sys.stdout.write(f"{len(chosen)} texts beyond SPDX, {len(content):,} bytes; index of {len(index):,} bytes\n")


def entries(folder: Path) -> Iterator[Entry]:
    """Current licences with a text and no SPDX id; exceptions and what stands for no certain licence left out."""
    for path in sorted(folder.glob("*.LICENSE")):
        _, head, text = path.read_text(encoding="utf-8").split("---", 2)
        name = re.search(r"^spdx_license_key: (LicenseRef-scancode-\S+)$", head, re.MULTILINE)
        category = re.search(r"^category: (.+)$", head, re.MULTILINE)
        if name and category and not re.search(r"^is_(deprecated|exception|unknown|generic): yes$", head, re.MULTILINE):
            yield Entry(name[1], category[1].strip(), text.strip())


def wanted(entry: Entry, known: license_library.Library, sets: dict[str, set[int]]) -> bool:
    """Whether a text adds something."""
    if entry.category in OTHERS_NOT or len(entry.text) > LONGEST or len(entry.text.split()) < FEWEST_WORDS:
        return False
    if not _GRANT.search(entry.text.lower()):
        return False
    found, _ = whole_texts(entry.text.lower(), known)
    if len(found) > 1:
        return False  # a collection of licences that are known by themselves
    if found and found[0] in sets and is_only_renamed(entry, sets[found[0]]):
        return False
    return entry.category in FREE or len(entry.text) <= LONGEST_RESTRICTIVE or bool(found)


def is_only_renamed(entry: Entry, other: set[int]) -> bool:
    """Whether a text is one of SPDX's: the same, or a free one in which more is replaced (by names) than added."""
    own = set(kernels.shingles(license_library.words(entry.text.lower())).tolist())
    missing, added = len(other - own), len(own - other)
    return len(own & other) >= ALIKE * len(own | other) or (entry.category in FREE and 2 * missing >= added)


if __name__ == "__main__":
    main()
