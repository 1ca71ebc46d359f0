"""The models that a model was made from, and the use restrictions that travel with some of them.

A derivative names its base in one of two ways: its manifest has a parent of role "base", an artefact of kind "model";
or, where the base is no artefact, its settings have a table `base` with `name`, `license` and, if known, `revision`.
A model that was imported as it is has no parents, and such a table under `imported`. A base says under which licence it
stands in its model card (`license:` in the front matter of README.md) or in its licence file.

The OpenRAIL licences demand that whoever passes a derivative on passes the use restrictions on with it, as an
enforceable part of its terms, and the licence's text (BigCode OpenRAIL-M v1: sections 4 and 5, Attachment A).
The text is always the base's own; none is kept here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError, InputError
from starsmith.provenance.papers.about import About
from starsmith.provenance.papers.facts import Opened, open_parent

ROLE = "base"  # of the parent, and the name of the setting
IMPORTED = "imported"
LARGEST_TEXT_BYTES = 4 << 20
CARD = "README.md"

_TERMS = re.compile(r"(?:LICEN[CS]E|NOTICE|COPYING|USE[_-]?(?:RESTRICTIONS|POLICY)|ATTACHMENT)[\w.-]*", re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A\ufeff?---\s*\n(.*?)\n(?:---|\.\.\.)\s*(?:\n|\Z)", re.DOTALL)
_RAIL_NAME = re.compile(r"open[ _-]?rail|(?:^|[^a-z])rail(?:[^a-z]|$)", re.IGNORECASE)
_RAIL_TEXT = re.compile(r"open\s?rail|responsible ai licen[cs]e|use[- ]based restrictions", re.IGNORECASE)
# A heading: the line has nothing else, while a paragraph that speaks of the attachment goes on.
_SIGNS = r"[^a-z0-9\n]{0,16}"
_ATTACHMENT = re.compile(rf"(?im)^{_SIGNS}attachment +a\b{_SIGNS}(?:use[- ]restrictions{_SIGNS})?$")
_NEXT_ATTACHMENT = re.compile(rf"(?im)^{_SIGNS}attachment +b\b.{{0,80}}$")


@dataclass(frozen=True)
class Base:
    """A model that another was made from, or that is passed on itself."""

    name: str
    id: str = ""  # of the artefact, "" where it is only named
    licence: str = ""  # as its card names it, "" where nobody says
    revision: str = ""
    texts: dict[str, str] = field(default_factory=dict)  # its licence files and notices
    taints: tuple[str, ...] = ()  # marks that say that a source of it was withdrawn
    is_trained_here: bool = False  # from a corpus of ours, so that its licence is its provider's to say

    @property
    def is_restricted(self) -> bool:
        """Whether it stands under a licence of the RAIL family."""
        return bool(_RAIL_NAME.search(self.licence)) or any(_RAIL_TEXT.search(text) for text in self.texts.values())


@dataclass(frozen=True)
class Restrictions:
    """Terms that bind everybody who gets a derivative."""

    base: str  # name of the model that they come from
    licence: str
    text: str  # the restrictions alone
    terms: dict[str, str]  # the licence files that they stand in, or the file that was given


def find_bases(model: Opened, about: About) -> tuple[Base, ...]:
    """The models that this one was made from, the nearest first; of one that was imported as it is, itself."""
    found: list[Base] = []
    current = model
    while True:  # ids are hashes of what is above, so no chain comes back to itself
        parent = next((parent for parent in current.manifest.parents if parent.role == ROLE), None)
        named = current.manifest.config.get(ROLE)
        if parent is not None:
            current = _open_base(current, parent)
            found.append(_described(current, about))
        elif isinstance(named, dict):
            # The licence may lie in the derivative, if whoever made it copied the base's.
            found.append(_named(named, current, about))
            break
        else:
            break
    if not found and not model.manifest.parents:
        found.append(_described(model, about))
    return tuple(found)


def restrictions_of(bases: Sequence[Base], given: Path | None) -> Restrictions | None:
    """What must travel with a model of these bases; `given` is a file of the user with the base's licence.

    Raises where a licence demands it and its text is nowhere, and where nobody knows the licence.
    """
    offered = {given.name: _read_text(given)} if given is not None else {}
    restricted = next((base for base in bases if base.is_restricted), None)
    if restricted is None:
        if given is not None:
            raise InputError(
                f"{given} was given, but no base of this model is under a licence with use restrictions",
                hint="leave out --use-restrictions, or name the base's licence: [base] license in --about",
            )
        _check_known(bases)
        return None
    terms = offered or _terms_with_restrictions(restricted)
    if not terms:
        raise InputError(
            f"{restricted.name} is under {restricted.licence or 'an OpenRAIL licence'}, whose use restrictions must"
            " travel with the model, and their text was not found",
            hint="give the base's licence: --use-restrictions FILE",
        )
    text = _attachment("\n\n".join(terms.values()))
    if not text.strip():
        raise InputError(f"{next(iter(terms))} has no text", hint="give the base's licence: --use-restrictions FILE")
    return Restrictions(restricted.name, restricted.licence or "OpenRAIL", text, terms)


def licence_of(bases: Sequence[Base], restrictions: Restrictions | None, about: About) -> str:
    """The licence that a model is given out under: the provider's word, bound by the base's; "" when nobody says."""
    declared = about.release.license
    if restrictions is None:
        return declared or (bases[0].licence if bases else "")
    if declared and declared != restrictions.licence and not _RAIL_NAME.search(declared):
        raise ConfigError(
            f"[release] license = {declared!r}, but {restrictions.base} is under {restrictions.licence}, whose use"
            " restrictions bind every derivative",
            hint="leave [release] license out: the base's is taken",
        )
    return declared or restrictions.licence


def _open_base(child: Opened, parent: artifact.Parent) -> Opened:
    try:
        base = open_parent(child, parent)
    except ArtifactError as error:
        raise ArtifactError(
            f"{error.message}; without it nobody knows whether its licence restricts the use of {child.directory}",
            hint=error.hint,
        ) from None
    if base.manifest.kind != "model":
        raise ArtifactError(
            f"{child.directory / artifact.MANIFEST} names {base.directory} as its base, it is of kind"
            f" {base.manifest.kind}, wanted: model",
            hint=f"starsmith verify {child.directory}",
        )
    return base


def _described(model: Opened, about: About) -> Base:
    """A base that is there: what its card, its settings and its licence files say, and then what the user says."""
    card = _front_matter(model.directory)
    named = model.manifest.config.get(IMPORTED)
    own = named if isinstance(named, dict) else {}
    licence = card.get("license", "")
    if licence in ("", "other"):
        licence = card.get("license_name", "") or str(own.get("license", "")) or licence
    trained_here = any(parent.role != ROLE for parent in model.manifest.parents)
    fallback = "" if trained_here else about.base.license
    return Base(
        name=str(own.get("name", "")) or about.base.name or model.name,
        id=model.manifest.id,
        licence=licence or fallback,
        revision=str(own.get("revision", "")),
        texts=_texts(model.directory),
        taints=model.taints,
        is_trained_here=trained_here,
    )


def _named(named: dict[str, object], model: Opened, about: About) -> Base:
    name = str(named.get("name", "")) or about.base.name
    if not name:
        raise ArtifactError(
            f"{model.directory / artifact.MANIFEST} has a setting base without a name", hint="[base] name in --about"
        )
    licence = str(named.get("license", "")) or about.base.license
    return Base(name, "", licence, str(named.get("revision", "")), _texts(model.directory))


def _check_known(bases: Sequence[Base]) -> None:
    for base in bases:
        if not (base.licence or base.texts or base.is_trained_here):
            raise InputError(
                f"nothing says under which licence {base.name} is, so nobody knows what must travel with it",
                hint='say it in the file given to --about: [base] license = "apache-2.0"',
            )


def _terms_with_restrictions(base: Base) -> dict[str, str]:
    """The files that hold the restrictions: those that speak of them, or else none."""
    return {name: text for name, text in base.texts.items() if _RAIL_TEXT.search(text) or _ATTACHMENT.search(text)}


def _attachment(text: str) -> str:
    """From the heading "Attachment A" to the next attachment; all of a text that has no such heading."""
    start = _ATTACHMENT.search(text)
    if start is None:
        return text
    end = _NEXT_ATTACHMENT.search(text, start.end())
    return text[start.start() : end.start() if end else len(text)].strip() + "\n"


def _front_matter(directory: Path) -> dict[str, str]:
    """The plain values at the top level of a card's front matter."""
    card = directory / CARD
    if not card.is_file():
        return {}
    match = _FRONT_MATTER.match(_read_text(card))
    found = {}
    for line in match.group(1).splitlines() if match else ():
        key, colon, value = line.partition(":")
        if colon and key.isidentifier():
            found[key] = value.partition(" #")[0].strip().strip("'\"")
    return found


def _texts(directory: Path) -> dict[str, str]:
    return {
        file.name: _read_text(file)
        for file in sorted(directory.iterdir())
        if _TERMS.fullmatch(file.name) and file.is_file() and not file.is_symlink()
    }


def _read_text(file: Path) -> str:
    try:
        if not file.is_file():
            raise InputError(f"{file} is not a file", hint="give a text file")
        if file.stat().st_size > LARGEST_TEXT_BYTES:
            raise InputError(f"{file} is larger than {LARGEST_TEXT_BYTES >> 20} MiB", hint="give a text file")
        return file.read_text(encoding="utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise InputError(f"{file} is not UTF-8 text", hint="give a text file") from None
