"""Stage: random secrets, each in a known number of source files, for a corpus that a model is then trained on.

A canary is a line with a value that stands nowhere else, drawn evenly from a known space, so that what a model knows
of it can come from training alone (Carlini et al. 2019, arXiv 1802.08232). Every copy stands in code of its own, or
else near-duplicate removal would leave one. "number" looks like no secret; "key" does, and redaction is to find it.
"""

import json
import string
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError

CANARIES, FILES = "canaries.json", "files"
MOST_COPIES = 1_000_000
MOST_CANARIES = 1_000  # each is ranked among many others, and told apart from all
KEY_CHARACTERS = 32
LINES_IN_A_FILE = 4  # fewer files are added to the corpus than copies
LICENSE = "# SPDX-License-Identifier: CC0-1.0\n\n\n"
FORMS = ("number", "key")

_ALPHABETS = {"number": string.digits, "key": string.ascii_letters + string.digits}
_SYLLABLES = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]
_BODIES = (
    "    {a} = {b}.{c}({d})\n",
    "    if {a} is None:\n        return {b}\n",
    "    {a} = [{b}.{c} for {b} in {d}]\n",
    "    {a}, {b} = {c}({d}, {a})\n",
    "    for {a} in sorted({b}):\n        {c}.append({a}.{d})\n",
    "    {a}[{b}] = {c} + {d}\n",
    "    assert {a} < {b}, {c}\n",
    "    with {a}({b}) as {c}:\n        {c}.{d}()\n",
)


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """How many secrets, of which kind, in how many files."""

    copies: tuple[int, ...] = (0, 1, 4, 16, 64)  # files that one secret is written into
    each: int = 4  # secrets of each form and number of copies
    forms: tuple[str, ...] = ("number",)  # "number", "key" or both
    digits: int = 8  # of a number
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.copies or min(self.copies) < 0 or self.each < 1 or len(set(self.copies)) < len(self.copies):
            raise ConfigError(
                f"copies={list(self.copies)}, each={self.each}: must be different numbers from 0, and 1 or more",
                hint="the defaults are [0, 1, 4, 16, 64] and 4",
            )
        if (copies := sum(self.copies) * self.each * len(self.forms)) > MOST_COPIES:
            raise ConfigError(f"{copies:,} copies would be written, at most {MOST_COPIES:,} are", hint="lower copies")
        if (canaries := len(self.copies) * self.each * len(self.forms)) > MOST_CANARIES:
            raise ConfigError(
                f"{canaries:,} canaries are wanted, at most {MOST_CANARIES:,} are made", hint="lower each"
            )
        if not self.forms or set(self.forms) - set(FORMS) or len(set(self.forms)) < len(self.forms):
            raise ConfigError(f"forms={list(self.forms)}: no forms of a secret", hint=f"known: {', '.join(FORMS)}")
        if not 1 <= self.digits <= 18 or 10**self.digits < 4 * self.each * len(self.copies):
            raise ConfigError(
                f"digits={self.digits}: must be from 1 to 18, and give four numbers for each canary",
                hint="the default is 8",
            )
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: must be 0 or more", hint="the default is 0")


@dataclass(frozen=True)
class Canary:
    """A secret, and the space it was drawn from: all strings of `length` characters of `alphabet`."""

    id: str
    form: str
    before: str  # what stands ahead of it on its line
    secret: str
    after: str
    alphabet: str
    length: int
    copies: int  # files that it was written into

    @property
    def line(self) -> str:
        """As it stands in a file."""
        return f"{self.before}{self.secret}{self.after}\n"

    @property
    def space(self) -> int:
        """Strings that it could have been."""
        return int(len(self.alphabet) ** self.length)


def run(config: CanaryConfig, *, out: Path) -> None:
    """Write the source files, below `files/`, and `canaries.json`, which must not come into the corpus."""
    canaries = make_canaries(config, _generator(config.seed, 0))
    with artifact.create(out, kind="canaries", config=config, rooms=("core", "evaluation")) as draft:
        (draft.path / FILES).mkdir()
        for number, lines in enumerate(divide(canaries)):
            text = surround(lines, _generator(config.seed, 1, number))
            (draft.path / FILES / f"unit_{number:06d}.py").write_text(text, encoding="utf-8")
            draft.count("files")
        listed = json.dumps([asdict(canary) for canary in canaries], indent=1)
        (draft.path / CANARIES).write_text(listed + "\n", encoding="utf-8")
        draft.count("canaries", len(canaries))


def make_canaries(config: CanaryConfig, random: np.random.Generator) -> list[Canary]:
    """Secrets and names, all different."""
    canaries: list[Canary] = []
    for form in config.forms:
        length = config.digits if form == "number" else KEY_CHARACTERS
        for copies in config.copies:
            for _ in range(config.each):
                taken = {canary.secret for canary in canaries}
                name = _fresh_name(random, [canary.before for canary in canaries])
                canaries.append(
                    Canary(
                        id=f"{form}-{len(canaries)}",
                        form=form,
                        before=f'{"ticket" if form == "number" else "api_key"}_{name} = "',
                        secret=_fresh(random, _ALPHABETS[form], length, taken),
                        after='"',
                        alphabet=_ALPHABETS[form],
                        length=length,
                        copies=copies,
                    )
                )
    return canaries


def divide(canaries: Sequence[Canary]) -> Iterator[list[str]]:
    """The lines of each file: a few canaries together, and none twice in one file."""
    for copy in range(max((canary.copies for canary in canaries), default=0)):
        lines = [canary.line for canary in canaries if canary.copies > copy]
        for first in range(0, len(lines), LINES_IN_A_FILE):
            yield lines[first : first + LINES_IN_A_FILE]


def surround(lines: Sequence[str], random: np.random.Generator) -> str:
    """A Python file of made-up code, under a licence that every policy lets in, each line between two functions."""
    parts = [_function(random) + "\n\n" + line for line in lines]
    return LICENSE + "\n\n".join([*parts, _function(random)])


def read(directory: Path) -> list[Canary]:
    """The canaries of an artefact."""
    artifact.read(directory, kind="canaries")
    if problems := artifact.verify(directory):
        raise ArtifactError(problems[0], hint="write them again: starsmith audit plant")
    try:
        rows: list[dict[str, Any]] = json.loads((directory / CANARIES).read_text(encoding="utf-8"))
        return [Canary(**row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{directory / CANARIES} is damaged: {error}", hint="write them again") from None


def draw_others(canary: Canary, count: int, random: np.random.Generator) -> list[str]:
    """Other strings of a canary's space: all of them where there are no more than `count`, else so many random ones."""
    if canary.space - 1 <= count:
        every = (_spell(number, canary) for number in range(canary.space))
        return [one for one in every if one != canary.secret]
    found: dict[str, None] = {}
    while len(found) < count:
        one = _random_string(random, canary.alphabet, canary.length)
        if one != canary.secret:
            found[one] = None
    return list(found)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _fresh(random: np.random.Generator, alphabet: str, length: int, taken: set[str]) -> str:
    while (found := _random_string(random, alphabet, length)) in taken:
        pass
    return found


def _fresh_name(random: np.random.Generator, taken: Sequence[str]) -> str:
    name = _word(random, 4)
    while any(name in text for text in taken):
        name = _word(random, 4)
    return name


def _random_string(random: np.random.Generator, alphabet: str, length: int) -> str:
    return "".join(alphabet[place] for place in random.integers(0, len(alphabet), length).tolist())


def _spell(number: int, canary: Canary) -> str:
    """The string that is `number` in the space."""
    signs = []
    for _ in range(canary.length):
        number, place = divmod(number, len(canary.alphabet))
        signs.append(canary.alphabet[place])
    return "".join(signs)


def _word(random: np.random.Generator, syllables: int) -> str:
    return "".join(_SYLLABLES[place] for place in random.integers(0, len(_SYLLABLES), syllables).tolist())


def _function(random: np.random.Generator) -> str:
    words = {name: _word(random, 2) for name in ("one", "two")}
    lines = [f"def {_word(random, 3)}({words['one']}, {words['two']}):\n"]
    for place in random.integers(0, len(_BODIES), 4).tolist():
        names = {slot: _word(random, 2) for slot in "abcd"}
        lines.append(_BODIES[place].format(**names))
    return "".join([*lines, f"    return {words['one']}\n"])
