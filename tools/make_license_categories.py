"""Writes src/starsmith/corpus/data/license_categories.json from ScanCode's licence index (data under CC-BY-4.0).

python -m venv .bench/scancode && .bench/scancode/bin/pip install scancode-toolkit-mini==32.5.0 "pluggy<1.6"
python tools/make_license_categories.py .bench/scancode/lib/python3.*/site-packages/licensedcode/data/licenses

Only two facts of each licence are taken: its SPDX ids and its category. A deprecated entry yields to a current one.
"""

import json
import re
import sys
from pathlib import Path

CATEGORIES = {
    "Permissive": "permissive",
    "Public Domain": "public-domain",
    "Copyleft Limited": "weak-copyleft",
    "Copyleft": "copyleft",
    "Source-available": "source-available",
    "Free Restricted": "free-restricted",
    "Proprietary Free": "proprietary",
    "Commercial": "commercial",
    "Patent License": "patent",
    "CLA": "contributor-agreement",
    "Unstated License": "unstated",
}
OUT = Path("src/starsmith/corpus/data/license_categories.json")
_ID = re.compile(r"^[A-Za-z0-9.+-]+$")


def main() -> None:
    """Read every entry and write category -> sorted ids, one line a category."""
    found: dict[str, str] = {}
    heads = [path.read_text(encoding="utf-8").split("---", 2)[1] for path in Path(sys.argv[1]).glob("*.LICENSE")]
    for head in sorted(heads, key=lambda head: ("is_deprecated: yes" in head, head)):
        category = re.search(r"^category: (.+)$", head, re.MULTILINE)
        if category and "is_exception: yes" not in head:
            for name in _spdx_ids(head):
                found.setdefault(name, CATEGORIES[category[1].strip()])
    by_category = {
        category: sorted(name for name, of in found.items() if of == category) for category in CATEGORIES.values()
    }
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(ids)}" for name, ids in by_category.items())
    OUT.write_text("{\n" + rows + "\n}\n", encoding="utf-8")


def _spdx_ids(head: str) -> list[str]:
    first = re.search(r"^spdx_license_key: (\S+)$", head, re.MULTILINE)
    others = re.search(r"^other_spdx_license_keys:\n((?:[ ]*- .+\n)+)", head, re.MULTILINE)
    names = [first[1]] if first else []
    names += [line.strip(" -") for line in others[1].splitlines()] if others else []
    return [name for name in names if _ID.match(name)]


if __name__ == "__main__":
    main()
