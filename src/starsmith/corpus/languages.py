"""The language of a file, named as GitHub Linguist names it, from its name, its first line or its text."""

import json
import re
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

# Extensions that several languages share, and the one that nearly all files with them are in. Where content decides,
# `_BY_CONTENT` is asked first.
_USUAL = {
    ".asc": "AsciiDoc",
    ".bas": "BASIC",
    ".bb": "BitBake",
    ".bs": "Bikeshed",
    ".cake": "C#",
    ".cfg": "INI",
    ".cgi": "Perl",
    ".cl": "OpenCL",
    ".cls": "TeX",
    ".cs": "C#",
    ".csl": "XML",
    ".d": "D",
    ".e": "Eiffel",
    ".es": "JavaScript",
    ".ex": "Elixir",
    ".f": "Fortran",
    ".fcgi": "PHP",
    ".for": "Fortran",
    ".fr": "Text",
    ".frag": "GLSL",
    ".fs": "F#",
    ".ftl": "FreeMarker",
    ".fx": "HLSL",
    ".gd": "GDScript",
    ".gml": "XML",
    ".gs": "JavaScript",
    ".h": "C",
    ".html": "HTML",
    ".i": "SWIG",
    ".inc": "PHP",
    ".j": "Objective-J",
    ".jq": "jq",
    ".json": "JSON",
    ".jsx": "JavaScript",
    ".l": "Lex",
    ".lisp": "Common Lisp",
    ".ls": "LiveScript",
    ".lua": "Lua",
    ".m": "Objective-C",
    ".md": "Markdown",
    ".ml": "OCaml",
    ".mm": "Objective-C++",
    ".mod": "AMPL",
    ".ms": "Roff",
    ".n": "Nemerle",
    ".nb": "Wolfram Language",
    ".nu": "Nushell",
    ".pc": "pkg-config",
    ".php": "PHP",
    ".pl": "Perl",
    ".plist": "XML Property List",
    ".pm": "Perl",
    ".pp": "Puppet",
    ".pro": "Prolog",
    ".properties": "Java Properties",
    ".q": "q",
    ".qs": "Qt Script",
    ".r": "R",
    ".re": "Reason",
    ".rs": "Rust",
    ".s": "Assembly",
    ".sc": "Scala",
    ".sch": "Scheme",
    ".scm": "Scheme",
    ".shader": "ShaderLab",
    ".sls": "Scheme",
    ".spec": "RPM Spec",
    ".sql": "SQL",
    ".st": "Smalltalk",
    ".sv": "SystemVerilog",
    ".svg": "SVG",
    ".t": "Perl",
    ".tex": "TeX",
    ".toc": "TeX",
    ".ts": "TypeScript",
    ".tsx": "TSX",
    ".txt": "Text",
    ".v": "Verilog",
    ".vba": "VBA",
    ".vcf": "vCard",
    ".w": "CWeb",
    ".x": "RPC",
    ".xml": "XML",
    ".yaml": "YAML",
    ".yml": "YAML",
}

# extension -> (language, what its text has), the first that fits
_BY_CONTENT = {
    ".h": (
        (
            "C++",
            r"^\s*(class\s+\w+|template\s*<|namespace\s+\w|using\s+namespace|public:|private:)|std::|\bconstexpr\b",
        ),
        ("Objective-C", r"^\s*(@interface|@protocol|@class|@property|#import)\b"),
    ),
    ".m": (
        ("Objective-C", r"^\s*(@interface|@implementation|@end|#import)\b"),
        ("MATLAB", r"^\s*(function\b|%|end\s*;?\s*$)"),
        ("Wolfram Language", r"\(\*"),
    ),
    ".pl": (("Prolog", r"^[a-z]\w*(\([^)]*\))?\s*:-"),),
    ".ts": (("XML", r"\A\s*<(\?xml|!DOCTYPE TS|TS\b)"),),
    ".v": (("Rocq Prover", r"^\s*(Require|Theorem|Lemma|Proof|Qed|Inductive|Definition)\b"),),
    ".fs": (("GLSL", r"^\s*(#version|precision|uniform|varying|void main)\b"), ("Forth", r"^: \S+")),
    ".inc": (
        ("PHP", r"<\?(php|=)"),
        ("C++", r"^\s*#\s*(include|define|if)"),
        ("Pascal", r"^\s*(procedure|function)\b"),
    ),
}
_CONTENT_HEAD = 20_000  # characters looked at


def language_of(path: str, text: str) -> str | None:
    """Linguist's name of the language, or None when neither name nor first line tells."""
    name = PurePosixPath(path).name
    by_name, by_interpreter, by_extension = _tables()
    if name in by_name:
        return by_name[name]
    suffixes = PurePosixPath(name.lower()).suffixes
    for start in range(len(suffixes)):  # the longest extension first: .d.ts before .ts
        extension = "".join(suffixes[start:])
        if extension in by_extension:
            return _choose(extension, by_extension[extension], text)
    return by_interpreter.get(_interpreter(text) or "")


def known_languages() -> list[str]:
    """Every name that `language_of` can give."""
    by_name, by_interpreter, by_extension = _tables()
    languages = {
        *by_name.values(),
        *by_interpreter.values(),
        *(name for names in by_extension.values() for name in names),
    }
    return sorted(languages)


def _choose(extension: str, candidates: list[str], text: str) -> str:
    for language, pattern in _BY_CONTENT.get(extension, ()):
        if re.search(pattern, text[:_CONTENT_HEAD], re.MULTILINE):
            return language
    usual = _USUAL.get(extension)
    return usual if usual in candidates else candidates[0]


def _interpreter(text: str) -> str | None:
    """The program of a `#!` line: python3 for `#!/usr/bin/env -S python3 -u`."""
    if not text.startswith("#!"):
        return None
    words = [word for word in text[2:].split("\n", 1)[0].split() if not word.startswith("-") and "=" not in word]
    programs = [PurePosixPath(word).name for word in words]
    if programs and programs[0] == "env":
        programs = programs[1:]
    return programs[0] if programs else None


@cache
def _tables() -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """By file name, by interpreter, and by extension with every candidate, programming languages first."""
    raw = resources.files("starsmith.corpus").joinpath("data/languages.json").read_text(encoding="utf-8")
    languages = sorted(json.loads(raw), key=lambda language: (language["type"] != "programming", language["name"]))
    by_name: dict[str, str] = {}
    by_interpreter: dict[str, str] = {}
    by_extension: dict[str, list[str]] = {}
    for language in languages:
        for name in language["filenames"]:
            by_name.setdefault(name, language["name"])
        for name in language["interpreters"]:
            by_interpreter.setdefault(name, language["name"])
        for extension in language["extensions"]:
            by_extension.setdefault(extension.lower(), []).append(language["name"])
    return by_name, by_interpreter, by_extension
