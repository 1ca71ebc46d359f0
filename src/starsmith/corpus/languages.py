"""The language of a file, named as GitHub Linguist names it, from its name, its first lines or its text.

Linguist's strategies in Linguist's order: modeline, file name, `#!` line, extension, XML declaration, manual page, then
its heuristics where several languages share an extension. It ends with a Bayesian classifier; we end with the language
that nearly all files of an extension are in, which costs nothing and can be explained.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

# Extensions that several languages share and heuristics leave open, and the language that nearly all of them are in.
_USUAL = {
    ".as": "ActionScript", ".asc": "AsciiDoc", ".asm": "Assembly", ".b": "Limbo", ".bas": "BASIC", ".bb": "BitBake",
    ".bi": "FreeBASIC", ".bs": "Bikeshed", ".bst": "BibTeX Style", ".cake": "C#", ".cfg": "INI", ".cgi": "Perl",
    ".ch": "xBase", ".cl": "OpenCL", ".cls": "TeX", ".cp": "C++", ".cs": "C#", ".csl": "XML", ".cue": "CUE", ".d": "D",
    ".ddl": "SQL", ".e": "Eiffel", ".ecl": "ECL", ".es": "JavaScript", ".ex": "Elixir", ".f": "Fortran", ".fcgi": "PHP",
    ".for": "Fortran", ".fpp": "Fortran", ".frag": "GLSL", ".frm": "Visual Basic 6.0", ".fs": "F#", ".ftl": "FreeMarker",  # noqa: E501
    ".fx": "HLSL", ".g": "GAP", ".gd": "GDScript", ".gs": "JavaScript", ".gst": "Gosu", ".hh": "C++", ".i": "SWIG",
    ".inc": "PHP", ".j": "Objective-J", ".jq": "jq", ".l": "Lex", ".lean": "Lean 4", ".lisp": "Common Lisp",
    ".lsp": "Common Lisp", ".m": "Objective-C", ".ml": "OCaml", ".mm": "Objective-C++", ".mo": "Modelica", ".mod": "AMPL",  # noqa: E501
    ".mojo": "Mojo", ".mqh": "MQL5", ".msg": "ROS Interface", ".n": "Nemerle", ".nas": "Assembly",
    ".nb": "Wolfram Language", ".ncl": "NCL", ".odin": "Odin", ".pc": "pkg-config", ".php": "PHP", ".pl": "Perl",
    ".plt": "Gnuplot", ".pm": "Perl", ".pp": "Puppet", ".prc": "PLSQL", ".pro": "Prolog", ".properties": "Java Properties",  # noqa: E501
    ".q": "q", ".qs": "Qt Script", ".r": "R", ".re": "Reason", ".res": "ReScript", ".rs": "Rust", ".s": "Assembly",
    ".sc": "Scala", ".scd": "SuperCollider", ".sch": "Scheme", ".scm": "Scheme", ".shader": "ShaderLab", ".sip": "SIP",
    ".sls": "Salt", ".spec": "RPM Spec", ".srt": "SubRip Text", ".st": "Smalltalk", ".sw": "Sway", ".t": "Perl",
    ".tl": "Teal", ".toc": "TeX", ".tpl": "Smarty", ".trigger": "Apex", ".tsp": "TypeSpec", ".uc": "UnrealScript",
    ".v": "Verilog", ".vcf": "vCard", ".vhost": "ApacheConf", ".w": "CWeb", ".workflow": "XML", ".x": "RPC",
}  # fmt: skip
# Rules of ours, asked where none of Linguist's that have a condition fits. Headers whose only C++ is in a macro, a
# qualified name or the headers they include are one in ten of those in C++ trees.
_OURS = {
    ".h": (
        ("C++", r"^[ \t]*#[ \t]*include[ \t]*(?:<[a-z_]+>|[<\"][^>\"]+\.(?:hpp|hh|cuh)[>\"])"),
        ("C++", r"^[^*/\"\n]*(?:\w::~?\w|\boperator[ \t]*[-+*/=<>!(\[]|\bnoexcept\b|\bstatic_cast<|[ \t]override;)"),
        ("C++", r"^[ \t]*(?:inline |static )?namespace(?:[ \t]+\w+)?[ \t]*\{|^[A-Z_]*NAMESPACE_BEGIN\b"),
    ),
    ".m": (("MATLAB", r"^[ \t]*(?:function\b|classdef\b|end[ \t]*;?[ \t]*$)"), ("Wolfram Language", r"\(\*")),
    ".inc": (("C++", r"^[ \t]*#[ \t]*(?:include|define|if|ifdef|ifndef|undef)\b|^[A-Z][A-Z0-9_]+\("),),
    ".v": (("Rocq Prover", r"^[ \t]*(?:Theorem|Lemma|Inductive|Fixpoint|Definition)[ \t]+\w+"),),
}
# So common outside of what Linguist knows that only content can tell: version numbers, too, end in .1.
_GENERIC = frozenset({".1", ".2", ".3", ".4", ".5", ".6", ".7", ".8", ".9", ".app", ".cmp", ".msg", ".resource", ".sol",
                      ".stl", ".tag", ".url"})  # fmt: skip
_MANUAL = re.compile(r"\.(?:[1-9][a-z_][a-z_0-9]*|[1-9]|0p|n|man|mdoc)(?:\.in)?\Z")
_CONTENT_HEAD = 20_000  # characters that heuristics look at
_EDGE = 2_000  # characters at either end in which a modeline is looked for
_MODELINES_WITHIN = 5  # lines from either end
_VIM = re.compile(
    r"(?:^|[ \t])(?:vi|[vV]im(?:[<=>]?\d{1,4})?|(?<=[ \t])ex):[ \t]*(set?[ \t][^:\n]*|[^\n]*)", re.MULTILINE
)
_VIM_TYPE = re.compile(r"(?:\A|[ \t:])(?:filetype|ft|syntax)[ \t]*=[ \t]*(\w+)(?=[\s:]|\Z)")
_EXEC = re.compile(r"exec (\w+).{1,200}\$0.{1,200}\$@")


@dataclass(frozen=True)
class _Tables:
    """Linguist's definitions, by what they are looked up with; candidates are in order, programming languages first."""

    names: tuple[str, ...]
    by_file_name: dict[str, tuple[str, ...]]
    by_interpreter: dict[str, tuple[str, ...]]
    by_extension: dict[str, tuple[str, ...]]
    by_alias: dict[str, str]


def language_of(path: str, text: str) -> str | None:
    """Linguist's name of the language, or None when neither name nor text tells."""
    return _decide(path, text)[0]


def explain_language(path: str, text: str) -> tuple[str | None, str]:
    """Give the language and what told it: `file name Makefile`, or `extension .h, heuristic`."""
    language, *why = _decide(path, text)
    return language, " ".join(part for part in why if part)


def known_languages() -> list[str]:
    """Every name that `language_of` can give."""
    return list(_tables().names)


def _decide(path: str, text: str) -> tuple[str | None, str, str]:
    tables = _tables()
    if (mode := _modeline(text)) and (language := tables.by_alias.get(mode.lower())):
        return language, "modeline", mode
    name = path.rpartition("/")[2]
    candidates = tables.by_file_name.get(name, ())
    if len(candidates) == 1:
        return candidates[0], "file name", name
    if text.startswith("#!") and (interpreter := _interpreter(text)):
        candidates = _narrow(candidates, tables.by_interpreter.get(interpreter, ()))
        if len(candidates) == 1:
            return candidates[0], "interpreter", interpreter
    extension = _extension(name.lower(), tables)
    if extension and extension not in _GENERIC:
        candidates = _narrow(candidates, tables.by_extension[extension])
        if len(candidates) == 1:
            return candidates[0], "extension", extension
    return _by_content(name, extension, candidates, text)


def _by_content(name: str, extension: str, candidates: tuple[str, ...], text: str) -> tuple[str | None, str, str]:
    """Choose between the candidates that names left, or find a language where they left none."""
    if not candidates and "<?xml version=" in "\n".join(text[:_EDGE].split("\n", 2)[:2]):
        return "XML", "XML declaration", ""
    rules_of = extension
    if not candidates and extension not in _GENERIC:
        if not _MANUAL.search(name.lower()):
            return None, "no rule fits", name
        rules_of = ".1"
    head = text[:_CONTENT_HEAD].replace("\r\n", "\n").encode()  # RE2's `$` is before \n alone
    for rule in _heuristics().get(rules_of, ()):
        if rule.fits(head):
            return rule.language, f"extension {extension}," if extension else "manual page,", "heuristic"
    if not candidates:
        return None, "no heuristic fits", name
    usual = _USUAL.get(extension)
    return usual if usual in candidates else candidates[0], f"extension {extension},", "usual of several"


def _narrow(candidates: tuple[str, ...], found: tuple[str, ...]) -> tuple[str, ...]:
    """Keep the candidates that a further strategy found too; one that rules all of them out is not heard."""
    both = tuple(name for name in candidates if name in found) if candidates else found
    return both or candidates


def _extension(name: str, tables: _Tables) -> str:
    """Give the longest extension that a language has: .d.ts before .ts; '' when there is none."""
    start = name.find(".")
    while start >= 0:
        if name[start:] in tables.by_extension or name[start:] in _GENERIC:
            return name[start:]
        start = name.find(".", start + 1)
    return ""


def _modeline(text: str) -> str | None:
    """The mode that an Emacs or Vim line in the first or last lines names."""
    first, last = first_lines(text, _MODELINES_WITHIN, _EDGE), _last_lines(text, _MODELINES_WITHIN, _EDGE)
    if not _may_have_mode(first) and not _may_have_mode(last):
        return None
    if "UseVimball" in first:
        return None  # an archive of Vim scripts, whose lines are those of the files in it
    lines = [*first.split("\n"), *last.split("\n")]
    modes = (mode(line) for mode in (_emacs_mode, _vim_mode) for line in lines)
    return next((mode for mode in modes if mode), None)


def _may_have_mode(text: str) -> bool:
    return "-*-" in text or "vi:" in text or "im:" in text or "ex:" in text


def first_lines(text: str, number: int, most: int) -> str:
    """The first lines of a text without the last one's end, of its first `most` characters."""
    end = -1
    for _ in range(number):
        end = text.find("\n", end + 1, most)
        if end < 0:
            return text[:most]
    return text[:end]


def _last_lines(text: str, number: int, most: int) -> str:
    """The last lines of a text, blank ones at its end left out, of its last `most` characters."""
    tail = text[-most:].rstrip("\n")
    start = len(tail)
    for _ in range(number):
        start = tail.rfind("\n", 0, start)
        if start < 0:
            return tail
    return tail[start + 1 :]


def _emacs_mode(line: str) -> str | None:
    """`-*- C++ -*-` or `-*- coding: utf-8; mode: python -*-`."""
    _, opened, rest = line.partition("-*-")
    inside, closed, _ = rest.partition("-*-")
    if not (opened and closed):
        return None
    if ":" not in inside:
        words = inside.split()
        return words[0] if len(words) == 1 and ";" not in inside else None
    for part in inside.split(";"):
        key, _, value = part.partition(":")
        if key.strip().lower() == "mode":
            return value.strip() or None
    return None


def _vim_mode(line: str) -> str | None:
    """`vim: ft=python` or `vi: set ts=4 ft=c :`."""
    found = _VIM.search(line)
    named = _VIM_TYPE.search(found[1]) if found else None
    return named[1] if named else None


def _interpreter(text: str) -> str | None:
    """The program of a `#!` line: python3 for `#!/usr/bin/env -S python3 -u`."""
    words = text[2:500].split("\n", 1)[0].split()
    if not words:
        return None
    program = words[0].rpartition("/")[2]
    if program == "env":
        rest = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        program = rest[0].rpartition("/")[2] if rest else ""
    if program == "sh" and (other := _EXEC.search("\n".join(text[:_EDGE].split("\n", 5)[:5]))):
        program = other[1]  # a script that hands itself to another interpreter
    if program == "osascript" and "-l" in words:
        return None  # the language that follows may be any
    return re.sub(r"\.\d+\Z", "", program) or None


class _Rule:
    """A language, and patterns that its text must and must not have; compiled when first asked."""

    def __init__(self, language: str, conditions: list[dict[str, str]]) -> None:
        self.language = language
        self.conditions = conditions
        self._patterns: list[tuple[Any, bool]] | None = None

    def fits(self, head: bytes) -> bool:
        """Whether every condition holds; a rule without one always fits."""
        if self._patterns is None:
            self._patterns = [(_compile(*condition.values()), "has" in condition) for condition in self.conditions]
        return all((pattern.search(head) is not None) is wanted for pattern, wanted in self._patterns)


def _compile(pattern: str) -> Any:
    """RE2 is linear in the text whatever the pattern; without groups to report it is also several times faster."""
    import re2

    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    return re2.compile("(?m)" + pattern, options)


@cache
def _heuristics() -> dict[str, tuple[_Rule, ...]]:
    """Give the rules by extension: Linguist's with a condition, ours, then Linguist's without, which always fits."""
    ours = {ext: [_Rule(name, [{"has": pattern}]) for name, pattern in rules] for ext, rules in _OURS.items()}
    found = {}
    for entry in _read("heuristics.json"):
        rules = [_Rule(rule["language"], rule["conditions"]) for rule in entry["rules"]]
        for extension in entry["extensions"]:
            asked = [rule for rule in rules if rule.conditions]
            found[extension] = (*asked, *ours.get(extension, ()), *(rule for rule in rules if not rule.conditions))
    return found


@cache
def _tables() -> _Tables:
    languages = sorted(
        _read("languages.json"), key=lambda language: (language["type"] != "programming", language["name"])
    )
    tables = _Tables(tuple(sorted(language["name"] for language in languages)), {}, {}, {}, {})
    for language in languages:
        name = language["name"]
        for table, keys in (
            (tables.by_file_name, language["filenames"]),
            (tables.by_interpreter, language["interpreters"]),
            (tables.by_extension, [extension.lower() for extension in language["extensions"]]),
        ):
            for key in dict.fromkeys(keys):
                table[key] = (*table.get(key, ()), name)
        for alias in (name.lower(), name.lower().replace(" ", "-"), *language["aliases"]):
            tables.by_alias.setdefault(alias, name)
    return tables


def _read(name: str) -> Any:
    return json.loads(resources.files("starsmith.corpus").joinpath("data", name).read_text(encoding="utf-8"))
