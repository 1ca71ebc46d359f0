"""The wording of a notice becomes SPDX ids: `licensed under the Apache License, Version 2.0`, `License: GPL-2+`.

A pattern is searched for only where its cue stands, a plain substring: most texts have few of them.
"""

import re
from collections.abc import Collection, Iterator
from functools import cache
from itertools import islice

from starsmith.corpus import license_names
from starsmith.corpus.license_names import GNU_VERSIONS, PROPRIETARY, PUBLIC_DOMAIN, by_address, ids_by_lower, named

COMMONS_CLAUSE = "LicenseRef-Commons-Clause"
LONGEST_NAME = 40  # characters of a file that holds a licence's name and nothing else
MOST_NOTICES = 20  # of one wording that are looked at in one file

_MARKS = str.maketrans(dict.fromkeys("#*/;%!\"“”'‘’`()", " "))  # of comments and quotations
_GPL = re.compile(
    r"\b(?:under|terms of)\b.{0,50}?\bgnu (?P<kind>lesser |library |affero )?(?:or lesser )?"
    r"(?:general public licen[cs]e|(?P<letter>[al]?)gpl)"
)
_ALSO_GPL = re.compile(
    r"[\w.+-]{0,6},? (?:or|and) (?:the )?gnu (?P<kind>)(?P<letter>[al]?)gpl"
)  # GNU GPLv2+ or GNU GPLv3+
_VERSION = re.compile(r"(?:\bversion|\bv\.?|gplv?-?) ?(\d(?:\.\d)?)")
_OR_LATER = re.compile(r"\b(?:any|or) (?:later|newer)\b|\bat your option\b|gplv?-?\d(?:\.\d)?\+")
_EARLIEST = {"GPL": "1.0", "LGPL": "2.1", "AGPL": "1.0"}
_LETTERS = {"lesser ": "L", "library ": "L", "affero ": "A", "l": "L", "a": "A", "": ""}
_RESTRICTIONS = (  # a word without which it is not there, wording, id
    ("commons", re.compile(r"commons clause licen[cs]e condition"), COMMONS_CLAUSE),
    ("confidential", re.compile(r"proprietary and confidential"), PROPRIETARY),
    ("end user", re.compile(r"(?:under|to|by) the .{0,60}?end user licen[cs]e agreement"), PROPRIETARY),
    ("unauthori", re.compile(r"unauthori[sz]ed copying of this file"), PROPRIETARY),
)
_BESIDE = (
    r"(?:both |either |your choice of (?:either )?)?(?:(?:the )?[\w.-]+(?: [\w.-]+){0,3} (?:and|or) )?"  # the MIT and
)
_UNDER = rf"under (?:the )?(?:terms (?:and conditions )?of )?{_BESIDE}(?:the |a )?"
_V = r",? ?(?:version|v\.?|-)? ?"
_CLAUSES = r"{0}[ -]clause(?: [a-z]+)? bsd|(?:{1} )?bsd[ -]{0}[ -]clause|{1} bsd"
_TWO = _CLAUSES.format("(?:2|two)", "simplified")
_THREE = _CLAUSES.format("(?:3|three)", "(?:new|modified|revised)")
_NOTICES = (
    (
        "apache",
        re.compile(
            rf"(?:{_UNDER}|license: )apache (?:software )?licen[cs]e{_V}2|apache-2\.0 licen[cs]e"
            r"|apache licen[cs]e, version 2\.0 https?: www\.apache\.org"
        ),
        "Apache-2.0",
    ),
    (
        "mozilla",
        re.compile(r"(?:terms of|under) the mozilla public licen[cs]e,? ?(?:version|v\.?) ?([12]\.[01])"),
        r"MPL-\1",
    ),
    ("eclipse", re.compile(rf"(?:terms of|under) the eclipse public licen[cs]e{_V}([12]\.0)"), r"EPL-\1"),
    ("creativecommons", re.compile(r"creativecommons.org licenses by ([1-4]\.[05])"), r"CC-BY-\1"),
    ("creativecommons", re.compile(r"creativecommons.org licenses by-sa ([1-4]\.[05])"), r"CC-BY-SA-\1"),
    ("possible", re.compile(r"to the extent possible under law.{0,200}?(?:dedicated|waived) all copyright"), "CC0-1.0"),
    ("mit", re.compile(rf"{_UNDER}(?:standard )?(?:mit|expat)(?: x11|-style)? (?:licen[cs]e|terms)"), "MIT"),
    ("bsd", re.compile(rf"{_UNDER}(?:{_THREE}) licen[cs]e"), "BSD-3-Clause"),
    ("bsd", re.compile(rf"{_UNDER}(?:{_TWO}) licen[cs]e"), "BSD-2-Clause"),
    ("zlib", re.compile(rf"(?:{_UNDER}|uses the )zlib(?: libpng)? licen[cs]e"), "Zlib"),
    ("python 2", re.compile(rf"{_UNDER}python 2\.(?:0\.1|[1-9])(?:\.\d)? licen[cs]e"), "Python-2.0.1"),
    ("publicdomain", re.compile(r"creativecommons\.org publicdomain zero 1\.0"), "CC0-1.0"),
    ("cnri", re.compile(rf"{_UNDER}cnri(?: s)? (?:open source )?(?:python(?: 1\.6)?) licen[cs]e"), "CNRI-Python"),
    ("python", re.compile(rf"{_UNDER}(?:psf|python software foundation) licen[cs]e"), "PSF-2.0"),
    ("boost", re.compile(rf"{_UNDER}boost software licen[cs]e"), "BSL-1.0"),
    (
        "public domain",
        re.compile(
            r"\b(?:is|are) (?:hereby |all |now )?(?:placed )?in(?:to)? (?:the )?public domain"
            r"|\b(?:placed|put|released|dedicated|donated) (?:by [\w .,<>@-]{1,40} )?(?:in|to|into)"
            r" (?:the )?public domain"
        ),
        PUBLIC_DOMAIN,
    ),
)
_DECLARING = re.compile(r"^[^\w\n]{0,6}licen[cs]e: +(\S[^\n]{1,80})$", re.MULTILINE)  # License: 3-clause BSD
_HEADING = re.compile(r"^[ \t]*(\w[^\n]{2,70})\n[ \t]*[-=~]{4,}[ \t]*$", re.MULTILINE)
_TERMS = re.compile(r"permission|redistribut|granted|warrant|licensed")  # below a heading: it may be another licence
SECTION = 300  # characters below a heading that must be free of them
_MENTION = re.compile(
    r"\b(?:apache[ -](?:software )?(?:licen[cs]e,? )?(?:version |v)?2(?:\.0)?"
    r"|(?:gnu )?[al]?gpl[ -]?v?[123](?:\.[01])?\+?(?: or later)?|mpl[ -]?v?[12]\.[01]"
    r"|licen[cs]e[.-](?:apache2?|mit|isc|zlib)|(?:mit|expat|isc|zlib) licen[cs]e"
    r"|[23][ -]clause bsd|bsd[ -][23][ -]clause"
    r"|cc0|cc[ -]by(?:-sa|-nc|-nd|-nc-sa|-nc-nd)?[ -][1-4]\.[05])(?!\w)"
)
# Where one of these stands, a name may be that of a licence that does not hold.
_BUT = re.compile(r"\b(?:not|no longer|except|proprietary|confidential|commercial|prohibited|formerly|previously)\b")
LONGEST_MENTIONING = 2_000  # characters of a licence file that names its licences without a text
_APPLYING = re.compile(r"how to apply these terms to your new.{0,2500}")  # a GPL's appendix with changes
_DECLARED = re.compile(r"\blicen[cs]e: ([a-z0-9.+-]+(?: (?:and|or|with) [a-z0-9.+-]+){0,5})")  # License: MIT
_TAGGED = re.compile(r"spdx-licen[cs]e-identifier: ([a-z0-9.+-]+(?: (?:and|or|with) [a-z0-9.+-]+){0,5})")
# Debian's names of licences that are no ids: GPL-2+
_DEBIAN = re.compile(r"(?:[al]?gpl-[123](?:\.[01])?\+?|expat|public-domain)$")
# What may be all that a file holds; a bare `Apache` may be any word.
_ALONE = frozenset(("apache 2 0", "mit", "bsd 3 clause", "bsd 2 clause", "isc", "unlicense", "mpl 2 0"))
_NAME = re.compile(r"\s*\w[\w.,+ -]*")  # without what code has: `license="MIT"` is no name alone
# A word and the wording of an exception, its id, and its licence; with a version, that is named where none is beside.
_EXCEPTIONS = (
    ("llvm", r"with (?:the )?llvm.exceptions?|llvm exceptions to the apache", "LLVM-exception", "Apache"),
    ("independent modules", r"link this library with independent modules", "Classpath-exception-2.0", "GPL-2.0-only"),
    ("gcc runtime", r"gcc runtime library exception.{1,40}?version 3\.1", "GCC-exception-3.1", "GPL-3.0-only"),
    (
        "to link",
        r"unlimited permission to link the compiled version of this (?:file|library)",
        "GCC-exception-2.0",
        "GPL-2.0-only",
    ),
    ("configure script", r"autoconf configure script exception version 3\.0", "Autoconf-exception-3.0", "GPL-3.0-only"),
    ("autoconf", r"configure scripts that are the output of autoconf", "Autoconf-exception-2.0", "GPL-2.0-only"),
    ("bison parser", r"contains part or all of the bison parser skeleton", "Bison-exception-2.2", "GPL-2.0-only"),
    ("this font", r"create a document which uses this font", "Font-exception-2.0", "GPL-2.0-only"),
    (
        "header files",
        r"permission is hereby granted for all public header files",
        "LicenseRef-scancode-musl-exception",
        "MIT",
    ),
    ("exception", r"optional exception to the license", "fmt-exception", "MIT"),
)


def named_alone(text: str) -> str:
    """The licence whose name is all that a file holds, "" where it holds more."""
    is_name = len(text) <= LONGEST_NAME and _NAME.fullmatch(text.rstrip()) and license_names.plain(text) in _ALONE
    return named(text) if is_name else ""


def beside(whole: list[str], rest: str, within: Collection[str] = ()) -> tuple[str, ...]:
    """The licences whose text is there, and those that the wording of the rest names, with exceptions and restrictions.

    within  licences whose text is there as a part of another
    """
    plain = " ".join(rest.translate(_MARKS).split())
    families = {_family(name) for name in (*whole, *within)}
    written = [*_named(plain), *_declared_lines(rest), *(_headings(rest) if whole else ())]
    noticed = [name for name in written if not _says_no_more(name, families)]
    restrictions = [name for cue, pattern, name in _RESTRICTIONS if cue in plain and pattern.search(plain)]
    return tuple(dict.fromkeys((*_with_exceptions([*whole, *noticed], plain), *restrictions)))


def mentioned(text: str) -> tuple[str, ...]:
    """The licences that a short licence file names in any words; all of them, whatever it says of a choice."""
    plain = " ".join(text.lower().translate(_MARKS).split())
    if len(text) > LONGEST_MENTIONING or _BUT.search(plain):
        return ()
    names = (named(found[0]) for found in islice(_MENTION.finditer(plain), MOST_NOTICES))
    return tuple(dict.fromkeys(name for name in names if name))


def _says_no_more(name: str, families: set[str]) -> bool:
    """Whether a notice only names the family of a text that is there: `the GPL` beside a GPL, `MIT` beside MIT-CMU."""
    family = _family(name)
    if family == "PSF":
        return "Python" in families
    return family in families and (name == "MIT" or name == f"{family}-{_EARLIEST.get(family)}-or-later")


def _family(name: str) -> str:
    return name.partition("-")[0]


def _named(plain: str) -> list[str]:
    """Ids named by wording; the notice of a GPL includes whether a later version may be chosen."""
    names = [
        found.expand(name)
        for cue, pattern, name in _NOTICES
        if cue in plain
        for found in islice(pattern.finditer(plain), MOST_NOTICES)
    ]
    if "-identifier: " in plain:
        names += [name for found in islice(_TAGGED.finditer(plain), MOST_NOTICES) for name in _declared(found[1])]
    if ": " in plain:
        names += [name for found in islice(_DECLARED.finditer(plain), MOST_NOTICES) for name in _declared(found[1])]
    if "gnu " in plain:
        if "how to apply" in plain:
            plain = _APPLYING.sub("", plain)
        for found in islice(_GPL.finditer(plain), MOST_NOTICES):
            names.append(_gpl(plain, found))
            if also := _ALSO_GPL.match(plain, found.end()):  # under GNU LGPLv3+ or GNU GPLv2+
                names.append(_gpl(plain, also))
    return names


def _declared_lines(rest: str) -> Iterator[str]:
    """The ids in lines that declare a licence by a usual name or an address."""
    if "license: " in rest or "licence: " in rest:
        for found in islice(_DECLARING.finditer(rest), MOST_NOTICES):
            written = found[1].strip()
            if name := by_address(written) or named(written):
                yield name


def _headings(rest: str) -> Iterator[str]:
    """The licences that head lists of files in a file with several; a text below would be read by itself."""
    for found in islice(_HEADING.finditer(rest), MOST_NOTICES):
        if (
            " " in found[1]
            and not _TERMS.search(rest, found.end(), found.end() + SECTION)
            and (name := named(found[1]))
        ):
            yield name


def _declared(written: str) -> Iterator[str]:
    """The ids in an expression as people write it, as far as it is one."""
    operator, held = "", ""
    for number, word in enumerate(written.split(" ")):
        if number % 2:
            operator = word
            continue
        if operator == "with" and (exception := _exceptions_by_lower().get(word.rstrip("."))):
            held = f"{held} WITH {exception}"
            continue
        if held:
            yield held
        held = ids_by_lower().get(word.rstrip("."), "") or _otherwise(word.rstrip("."))
        if not held:
            return
    yield held


def _otherwise(word: str) -> str:
    """The id for Debian's name of a licence, or for one of somebody's own."""
    if word.startswith("licenseref-"):
        return f"LicenseRef-{word.removeprefix('licenseref-')}"
    return named(word) if _DEBIAN.match(word) else ""


@cache
def _exceptions_by_lower() -> dict[str, str]:
    return {exception.lower(): exception for _, _, exception, _ in _EXCEPTIONS}


def _gpl(plain: str, found: re.Match[str]) -> str:
    family = f"{_LETTERS[found['kind'] or found['letter'] or '']}GPL"
    around = plain[found.start("kind") if found["kind"] == "" else found.start() : found.end() + 250]
    version = _VERSION.search(around)
    number = (version[1] if "." in version[1] else f"{version[1]}.0") if version else ""
    if number not in GNU_VERSIONS[family]:
        # Section 9 of the GPL: where no version is named, the recipient may choose any.
        earliest = "2.0" if found["kind"] == "library " else _EARLIEST[family]
        return f"{family}-{earliest}-or-later"
    return f"{family}-{number}-{'or-later' if _OR_LATER.search(around) else 'only'}"


def _with_exceptions(names: list[str], plain: str) -> list[str]:
    """The names, with the exceptions in the wording beside the licences that they belong to."""
    for cue, wording, exception, licence in _EXCEPTIONS:
        if cue in plain and re.search(wording, plain):
            family = _family(licence)
            of_family = [name for name in names if _family(name) == family]
            # A GPL without a version is what the exception's own text says of it.
            own = [name for name in of_family if name != "GPL-1.0-or-later"]
            others = [name for name in names if _family(name) != family]
            if not own and "-" in licence and (of_family or "LGPL" not in map(_family, others)):
                own = [licence]  # beside an LGPL alone the wording belongs to that
            names = [*others, *(name if " WITH " in name else f"{name} WITH {exception}" for name in own)]
    return names
