"""The data card of a corpus: what is in it, from where, under which licences, and what was left out and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from starsmith.core.records import read_files
from starsmith.corpus.sources import Source

CARD = "card.md"


def write(corpus: Path, sources: Sequence[Source], counts: Mapping[str, int]) -> None:
    """Write `card.md` beside the shards."""
    languages: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for file in read_files(corpus):
        languages[file.language] += 1
        licenses[file.license or "none found"] += 1
        sizes[file.language] += len(file.text.encode())
    dropped = {name.removeprefix("dropped_"): count for name, count in counts.items() if name.startswith("dropped_")}
    parts = [
        "# Data card\n",
        f"{counts['kept']:,} files, {counts['kept_bytes'] / 1e6:.2f} MB, of which {counts.get('held_out', 0):,} files "
        "are held out and never trained on.\n",
        "## Sources\n",
        _table(("source", "commit"), [(source.repository, source.commit or "-") for source in sources]),
        "## Languages\n",
        _table(
            ("language", "files", "MB"),
            [(name, f"{count:,}", f"{sizes[name] / 1e6:.2f}") for name, count in _ordered(languages)],
        ),
        "## Licences\n",
        _table(("licence", "files"), [(name, f"{count:,}") for name, count in _ordered(licenses)]),
        "## Left out\n",
        _table(("reason", "files"), [(name, f"{count:,}") for name, count in _ordered(dropped)]),
    ]
    (corpus / CARD).write_text("\n".join(parts), encoding="utf-8")


def _ordered(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest first, equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
