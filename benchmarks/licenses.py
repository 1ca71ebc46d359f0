"""Licences against ScanCode 32.5.0: CPU time on the same licence files, and how far both say the same.

Files: the distinct LICENSE and COPYING files below Python's prefixes, node modules, Rust's toolchains and
/usr/share/common-licenses. Texts: those of SPDX's list. Two answers agree where the sets of SPDX ids in them are equal,
deprecated ids as their current ones, an exception as an id of its own; no credit for a part. A looser figure, named as
such, asks only whether the first id of the peer's answer is in ours. The ids that SPDX does not have (LicenseRef-…) and
that the peer gives beside or instead of others count as disagreement, and how many do is shown.

A text of SPDX counts as recognised under its own id, or that of a text that is the same word for word but for the
lines of its holder (the GPL does not say whether a later version may be chosen).

Where the peer is wrong on licence files, as read by us, each counted against us all the same (`--verbose` lists them):
- Python-2.0 for the licence of Python 2.0.1 and later, which SPDX lists as Python-2.0.1; for the PSF's part alone too,
  PSF-2.0; GPL-1.0-or-later and BSD-3-Clause beside them, from the sentences on compatibility and history.
- Apache-2.0 AND BSD-3-Clause for "either of the licenses found in LICENSE.APACHE or LICENSE.MIT": a file that points
  to others, which are read anyway.
- BSD-3-Clause beside BSD-2-Clause where the title of a two-clause text is "The BSD License".
- CDDL and GPL in chownr's Blue Oak text, LGPL-3.0 in Highway's, MPL-1.1 in Hypothesis' MPL-2.0: none is mentioned.
- Zlib beside MIT where the text says that the code was under Zlib before.
Where ours is: long bundles (numpy, Pillow, matplotlib, pyarrow, docutils, Rust's), in which it misses licences that are
given by a sentence or with many changes, CNRI's named in a sentence, and protobuf's note on generated code, which
has no SPDX id. Of SPDX's texts it takes OLDAP-2.2.2 for OLDAP-2.3: the number is all that differs.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from gzip import decompress
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import TypeVar

from starsmith.core.console import table
from starsmith.corpus import license_texts
from starsmith.corpus.licenses import LARGEST_LICENSE_BYTES, canonical_id, looks_like_license_file

Item = TypeVar("Item")
ROOT = Path(__file__).resolve().parent.parent
PEER = "scancode-toolkit-mini==32.5.0"
PEER_PINS = ("pluggy<1.6",)  # with a later one it does not start
SPEED_BAR, AGREEMENT_BAR = 50.0, 0.99
PEER_FILES = {True: 60, False: None}
PEER_TEXTS = {True: 40, False: None}
ROUNDS = 5
_NAME = re.compile(r"(?i)licen[cs]e|copying")

# Deprecated ids for which there is an expression now.
EXPRESSIONS = {
    "GPL-2.0-with-GCC-exception": "GPL-2.0-only WITH GCC-exception-2.0",
    "GPL-2.0-with-autoconf-exception": "GPL-2.0-only WITH Autoconf-exception-2.0",
    "GPL-2.0-with-bison-exception": "GPL-2.0-only WITH Bison-exception-2.2",
    "GPL-2.0-with-classpath-exception": "GPL-2.0-only WITH Classpath-exception-2.0",
    "GPL-2.0-with-font-exception": "GPL-2.0-only WITH Font-exception-2.0",
    "GPL-3.0-with-GCC-exception": "GPL-3.0-only WITH GCC-exception-3.1",
    "GPL-3.0-with-autoconf-exception": "GPL-3.0-only WITH Autoconf-exception-3.0",
    "eCos-2.0": "GPL-2.0-or-later WITH eCos-exception-2.0",
}

# Runs in the peer's environment: names and texts in, for each its expression and CPU seconds out.
PEER_PROGRAM = """
import json, sys, tempfile, time
from pathlib import Path
from licensedcode.cache import get_index
from scancode.api import get_licenses
get_index()
found = []
with tempfile.TemporaryDirectory() as folder:
    for number, (name, text) in enumerate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))):
        path = Path(folder) / str(number) / name
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
        started = time.process_time()
        expression = get_licenses(str(path))["detected_license_expression_spdx"]
        found.append((expression or "", time.process_time() - started))
Path(sys.argv[2]).write_text(json.dumps(found))
"""


@dataclass(frozen=True)
class Answers:
    """Of both on the same texts."""

    names: list[str]
    ours: list[frozenset[str]]
    theirs: list[frozenset[str]]
    first: list[str]  # id of the peer's

    @property
    def strict(self) -> float:
        """Share of equal answers."""
        return sum(a == b for a, b in zip(self.ours, self.theirs, strict=True)) / len(self.ours)

    @property
    def loose(self) -> float:
        """Share of ours that have the peer's first id."""
        return sum(one in ours or not one for one, ours in zip(self.first, self.ours, strict=True)) / len(self.ours)

    @property
    def outside_spdx(self) -> int:
        """How many disagree where the peer gives an id that SPDX does not have."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return sum(a != b and any(name.startswith("licenseref-scancode") for name in b) for a, b in pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the peer reads a sample")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--verbose", action="store_true", help="every disagreement")
    arguments = parser.parse_args()

    texts, files = spdx_texts(), list(license_files())
    sampled_files = spread(files, PEER_FILES[arguments.quick])
    sampled_texts = spread(list(texts.items()), PEER_TEXTS[arguments.quick])
    python = peer_environment()
    peer_files = ask_peer(python, [(path.name, text) for path, text in sampled_files])
    peer_texts = ask_peer(python, [("LICENSE", text) for _, text in sampled_texts])

    ours = statistics.median(our_seconds([text for _, text in sampled_files]) for _ in range(ROUNDS))
    peer = sum(seconds for _, seconds in peer_files)
    rows = [
        ("starsmith", rate(sampled_files, ours)),
        (PEER, rate(sampled_files, peer)),
        ("ratio", f"{peer / ours:.0f}"),
    ]
    table(
        f"Licence files, {len(sampled_files)} of {len(files)}, {ROUNDS} rounds of ours, library loaded before",
        ("", "files per CPU-second"),
        rows,
        right=("files per CPU-second",),
    )

    same = same_texts(texts)
    own = sum(recognised(name, our_ids(text), same) for name, text in texts.items()) / len(texts)
    theirs = [
        recognised(name, ids(found), same) for (name, _), (found, _) in zip(sampled_texts, peer_texts, strict=True)
    ]
    answers = {
        "licence files": compare([(str(path), text) for path, text in sampled_files], peer_files),
        "SPDX texts": compare(sampled_texts, peer_texts),
    }
    table(
        "SPDX texts recognised under their own id or that of an equal text",
        ("", "texts", "share"),
        [("starsmith", str(len(texts)), f"{own:.4f}"), (PEER, str(len(theirs)), f"{sum(theirs) / len(theirs):.4f}")],
        right=("texts", "share"),
    )
    table(
        "Agreement with the peer",
        ("", "texts", "equal id sets", "looser: its first id in ours", "differ, it with ids outside SPDX"),
        [
            (name, str(len(one.ours)), f"{one.strict:.4f}", f"{one.loose:.4f}", str(one.outside_spdx))
            for name, one in answers.items()
        ],
        right=("texts", "equal id sets", "looser: its first id in ours", "differ, it with ids outside SPDX"),
    )
    if arguments.verbose:
        for name, one in answers.items():
            list_disagreements(name, one)
        missed = [name for name, text in texts.items() if not recognised(name, our_ids(text), same)]
        table(
            "SPDX texts not recognised by ours",
            ("id", "ours"),
            [(one, " ".join(our_ids(texts[one]))) for one in missed],
        )
    if arguments.json:
        print(json.dumps(results(ours, peer, own, sum(theirs) / len(theirs), answers["licence files"].strict)))


def results(ours: float, peer: float, own: float, theirs: float, agreement: float) -> list[dict[str, object]]:
    """One object a claim; `holds` says whether its bar is reached."""
    return [
        {"name": "licenses", "ours": ours, "peer": peer, "peer_name": PEER, "unit": "CPU-seconds",
         "ratio": peer / ours, "bar": SPEED_BAR, "holds": peer / ours >= SPEED_BAR},
        {"name": "licenses_spdx_texts", "ours": own, "peer": theirs, "peer_name": PEER, "unit": "share recognised",
         "ratio": own / theirs, "bar": AGREEMENT_BAR, "holds": own >= AGREEMENT_BAR},
        {"name": "licenses_agreement", "ours": agreement, "peer": 1.0, "peer_name": PEER, "unit": "equal id sets",
         "ratio": agreement, "bar": AGREEMENT_BAR, "holds": agreement >= AGREEMENT_BAR},
    ]  # fmt: skip


def rate(files: list[tuple[Path, str]], seconds: float) -> str:
    """Files a second."""
    return f"{len(files) / seconds:,.1f}"


def spdx_texts() -> dict[str, str]:
    """SPDX id -> text."""
    packed = resources.files("starsmith.corpus").joinpath("data/licenses.json.gz").read_bytes()
    texts: dict[str, str] = json.loads(decompress(packed))
    return texts


def license_files() -> Iterator[tuple[Path, str]]:
    """Path and text of each distinct licence file, folder by folder in the order of their names."""
    base = Path(sys.base_prefix)
    folders = [Path(sys.prefix), base.parent if base.parent.name == "versions" else base, Path.home() / ".rustup"]
    folders += map(Path, ("/usr/lib/python3", "/usr/local/lib", "/usr/lib/node_modules", "/usr/share/common-licenses"))
    seen: set[str] = set()
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            named = _NAME.search(path.name) and looks_like_license_file(path.name)
            if (named or folder.name == "common-licenses") and path.is_file():
                content = path.read_bytes()
                digest = sha256(content).hexdigest()
                if content.strip() and len(content) <= LARGEST_LICENSE_BYTES and digest not in seen:
                    seen.add(digest)
                    yield path, content.decode("utf-8", "replace")


def spread(items: list[Item], most: int | None) -> list[Item]:
    """All, or about so many from everywhere in the list."""
    return items if most is None else items[:: max(1, len(items) // most)][:most]


def our_seconds(texts: list[str]) -> float:
    """CPU seconds for the texts, nothing remembered from before."""
    license_texts.recognise("the library is loaded before")
    started = time.process_time()
    for text in texts:
        license_texts.recognise_anew(text)
    return time.process_time() - started


def our_ids(text: str) -> frozenset[str]:
    """Current ids in our answer, without case."""
    return ids(" AND ".join(license_texts.recognise(text)))


def ids(expression: str) -> frozenset[str]:
    """Current ids in an expression, without case; those of exceptions too."""
    return frozenset(canonical_id(name) for name in in_order(expression))


def in_order(expression: str) -> list[str]:
    """Names in an expression."""
    return [name for name in re.findall(r"[^\s()]+", expression) if name not in ("AND", "OR", "WITH")]


def same_texts(texts: dict[str, str]) -> dict[str, set[frozenset[str]]]:
    """Id -> the answers that are right for its text."""
    by_words: dict[str, list[str]] = {}
    for name, text in texts.items():
        lines = (line for line in text.lower().splitlines() if not re.match(r"\W*(portions )?copyright\b", line))
        by_words.setdefault(" ".join(re.findall(r"[^\W_]+", " ".join(lines))), []).append(name)
    same = {
        name: {ids(one) for one in (*group, EXPRESSIONS.get(name, name))}
        for group in by_words.values()
        for name in group
    }
    for name in texts:  # GPL-2.0+ is now GPL-2.0-or-later, whose text is that of GPL-2.0-only
        same[name] |= same.get(name.removesuffix("+") + "-or-later", set())
    return same


def recognised(name: str, answer: frozenset[str], same: dict[str, set[frozenset[str]]]) -> bool:
    """Whether the answer for SPDX's text `name` is right."""
    return answer in same[name]


def compare(texts: list[tuple[str, str]], answered: list[tuple[str, float]]) -> Answers:
    """Both on the same texts."""
    first = [next(map(canonical_id, in_order(found)), "") for found, _ in answered]
    return Answers(
        [name for name, _ in texts], [our_ids(text) for _, text in texts], [ids(one) for one, _ in answered], first
    )


def list_disagreements(title: str, answers: Answers) -> None:
    """Each pair of answers that differ, with the files."""
    pairs: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for name, ours, theirs in zip(answers.names, answers.ours, answers.theirs, strict=True):
        if ours != theirs:
            key = (" ".join(sorted(ours - theirs)), " ".join(sorted(theirs - ours)))
            pairs[key] += 1
            examples.setdefault(key, name)
    rows = [
        (str(number), only_ours, only_theirs, examples[only_ours, only_theirs])
        for (only_ours, only_theirs), number in pairs.most_common()
    ]
    table(f"Disagreements: {title}", ("files", "only ours", "only the peer's", "for example"), rows)


def peer_environment() -> Path:
    """The peer's Python, below .bench/."""
    folder = ROOT / ".bench" / "scancode"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "scancode").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PEER, *PEER_PINS], check=True)
    return python


def ask_peer(python: Path, texts: Iterable[tuple[str, str]]) -> list[tuple[str, float]]:
    """Expression and CPU seconds for each, its index loaded before."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "asked.json", Path(folder) / "answered.json"
        asked.write_text(json.dumps(list(texts)), encoding="utf-8")
        subprocess.run(
            [str(python), "-W", "ignore", "-c", PEER_PROGRAM, str(asked), str(answered)],
            check=True,
            capture_output=True,
        )
        return [(found, seconds) for found, seconds in json.loads(answered.read_text())]


if __name__ == "__main__":
    main()
