"""The names that people give to licences, in manifests and in notices, become SPDX ids: `3-clause BSD`, `GPLv2+`."""

import re
from functools import cache

from starsmith.corpus import license_library
from starsmith.corpus.license_library import APPENDIX

PROPRIETARY = "LicenseRef-proprietary"
PUBLIC_DOMAIN = "LicenseRef-scancode-public-domain"  # ScanCode's name for a dedication in any words

# Names that people write instead of an id, without case, punctuation and the words of `_FILLER`.
_NAMES = {
    "apache": "Apache-2.0",
    "apache software": "Apache-2.0",
    "apache software 2 0": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache software foundation 2 0": "Apache-2.0",
    "apache 2 0": "Apache-2.0",
    "apache2": "Apache-2.0",
    "asl 2 0": "Apache-2.0",
    "al 2 0": "Apache-2.0",
    "expat": "MIT",
    "x11 mit": "MIT",
    "mit mit": "MIT",
    "bsd 2 clause simplified": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "2 clause bsd": "BSD-2-Clause",
    "bsd 2": "BSD-2-Clause",
    "new bsd": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "revised bsd": "BSD-3-Clause",
    "3 clause bsd": "BSD-3-Clause",
    "bsd 3 clause new": "BSD-3-Clause",
    "bsd 3 clause new or revised": "BSD-3-Clause",
    "bsd 3": "BSD-3-Clause",
    "isc iscl": "ISC",
    "mozilla public 2 0": "MPL-2.0",
    "mozilla public 2 0 mpl 2 0": "MPL-2.0",
    "bsd 0 clause": "0BSD",
    "common development and distribution 1 0": "CDDL-1.0",
    "common development and distribution 1 1": "CDDL-1.1",
    "eclipse distribution 1 0": "BSD-3-Clause",  # SPDX lists no text of its own for it
    "eclipse public 1 0": "EPL-1.0",
    "eclipse public 2 0": "EPL-2.0",
    "boost software 1 0": "BSL-1.0",
    "boost software 1 0 bsl 1 0": "BSL-1.0",
    "python software foundation": "PSF-2.0",
    "python software foundation 2": "PSF-2.0",
    "psf": "PSF-2.0",
    "psf 2": "PSF-2.0",
    "cc0 1 0 universal cc0 1 0 public domain dedication": "CC0-1.0",
    "cc0": "CC0-1.0",
    "creative commons cc0 1 0 universal public domain dedication": "CC0-1.0",
    "creative commons zero 1 0 universal": "CC0-1.0",
    "zope public 2 1": "ZPL-2.1",
    "zope public zpl 2 1": "ZPL-2.1",
    "sil open font 1 1": "OFL-1.1",
    "unicode 3": "Unicode-3.0",
    "unlicense unlicense": "Unlicense",
    "wtfpl 2": "WTFPL",
    "unlicensed": PROPRIETARY,
    "proprietary": PROPRIETARY,
    "other proprietary": PROPRIETARY,
    "commercial": PROPRIETARY,
    "public domain": PUBLIC_DOMAIN,
}
_FILLER = frozenset(("the", "license", "licence", "version", "v"))
_GNU = re.compile(
    r"^(?:gnu )?(?P<kind>lesser|library|affero|l|a)? ?(?:or lesser )?(?:general public|gpl)(?: \w?gpl)? ?v? ?"
    r"(?P<version>\d(?: \d)?)"
    r"(?P<later> ?(?:or|and) (?:any )?(?:later|newer)|\+)?"
)
# What names the licence, without the ending of a page or a sentence; isc-license.txt is `isc-license-txt` today.
_ADDRESS = re.compile(
    r"https?://(?:www\.)?(?:licenses\.nuget\.org/|opensource\.org/licenses?/|spdx\.org/licenses/)"
    r"([\w.+-]{1,80}?)(?:[.-](?:php|html?|txt))?[^\w+]{0,4}(?=[/?#\s]|$)"
)
# Names in old addresses of opensource.org that are neither ids nor usual names. Not there: bsd-license, gpl-license,
# lgpl-license and artistic-license, which do not say which version they mean.
_OLD_ADDRESSES = {
    "apache2.0": "Apache-2.0",
    "mozilla1.0": "MPL-1.0",
    "mozilla1.1": "MPL-1.1",
    "eclipse-1.0": "EPL-1.0",
    "cddl1": "CDDL-1.0",
    "cpl1.0": "CPL-1.0",
    "uoi-ncsa": "NCSA",
}
_APACHE_ADDRESS = re.compile(r"https?://(?:www\.)?apache\.org/licenses/license-2\.0")
_SHORT_FORM = re.compile(r" ?\([\w .-]{2,12}\)")
GNU_VERSIONS = {"GPL": ("1.0", "2.0", "3.0"), "LGPL": ("2.0", "2.1", "3.0"), "AGPL": ("1.0", "3.0")}


def plain(name: str) -> str:
    """A name without case, punctuation and words that say nothing."""
    words = re.sub(r"[^a-z0-9+]+", " ", name.lower()).split()
    return " ".join(word for word in words if word not in _FILLER)


def named(name: str) -> str:
    """The id of a licence by a usual name or an id in any case, "" when it is not known."""
    words = plain(name)
    if gnu := _GNU.match(words):
        family = {"lesser": "L", "library": "L", "l": "L", "affero": "A", "a": "A"}.get(gnu["kind"] or "", "") + "GPL"
        number = gnu["version"].replace(" ", ".") if " " in gnu["version"] else f"{gnu['version']}.0"
        later = gnu["later"] or "+" in words or "or later" in words
        found = f"{family}-{number}-{'or-later' if later else 'only'}"
        found += " WITH Classpath-exception-2.0" if "classpath exception" in words else ""
        return found if number in GNU_VERSIONS[family] else ""
    if found := _NAMES.get(words) or _by_id().get(words, ""):
        return found
    shorter = _SHORT_FORM.sub("", name)  # Eclipse Public License (EPL) 2.0
    return named(shorter) if shorter != name else ""


def by_address(address: str) -> str:
    """The id in the address of a licence's text, "" for another address."""
    lower = address.lower()
    if found := _ADDRESS.match(lower):
        return ids_by_lower().get(found[1]) or _OLD_ADDRESSES.get(found[1]) or named(found[1])
    return "Apache-2.0" if _APACHE_ADDRESS.match(lower) else ""


@cache
def ids_by_lower() -> dict[str, str]:
    """The ids of SPDX's texts by their lower case."""
    names = license_library.shipped().names
    return {name.lower(): name for name in names if not name.startswith((APPENDIX, "LicenseRef-"))}


@cache
def _by_id() -> dict[str, str]:
    return {re.sub(r"[^a-z0-9+]+", " ", lower): name for lower, name in ids_by_lower().items()}
