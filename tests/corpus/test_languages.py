import pytest

from starsmith.corpus import languages
from starsmith.corpus.languages import explain_language, known_languages, language_of


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("a.py", "", "Python"),
        ("A.PY", "", "Python"),
        ("Makefile", "", "Makefile"),
        ("src/Dockerfile", "", "Dockerfile"),
        ("a.rs", "fn main() {}", "Rust"),
        ("a.ts", "const x: number = 1", "TypeScript"),
        ("a.ts", '<?xml version="1.0"?><TS/>', "XML"),
        ("a.h", "int f(void);", "C"),
        ("a.h", "namespace a { class B; }\ntemplate <typename T> T f();", "C++"),
        ("a.h", "@interface A : NSObject\n@end", "Objective-C"),
        ("a.m", "function y = f(x)\n  y = x;\nend", "MATLAB"),
        ("a.v", "Theorem t : True.\nProof. trivial. Qed.", "Rocq Prover"),
        ("a.v", "module m(input a);\nendmodule", "Verilog"),
        ("setup.cfg", "[metadata]\nname = x\n", "INI"),
        ("run", "#!/usr/bin/env -S python3 -u\n", "Python"),
        ("run", "#!/bin/bash\n", "Shell"),
        ("run", "#!/usr/bin/env VAR=1 node\n", "JavaScript"),
        ("README", "words", None),
        ("data.unknownext", "", None),
    ],
)
def test_language_by_name_first_line_and_text(path: str, text: str, language: str | None) -> None:
    assert language_of(path, text) == language


def test_the_list_has_what_linguist_has() -> None:
    known = known_languages()

    assert len(known) > 600
    assert {"Python", "C++", "Go", "TypeScript", "COBOL"} <= set(known)


def test_no_rule_names_a_language_that_the_extension_cannot_have() -> None:
    by_extension = languages._tables().by_extension
    chosen = [*languages._USUAL.items()]
    chosen += [(extension, name) for extension, rules in languages._OURS.items() for name, _ in rules]

    assert [pair for pair in chosen if pair[1] not in by_extension[pair[0]]] == []


def test_every_heuristic_compiles_and_names_a_known_language() -> None:
    rules = [rule for rules in languages._heuristics().values() for rule in rules]

    assert {rule.language for rule in rules} <= set(known_languages())
    for rule in rules:
        rule.fits(b"")


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a.py", "", ("Python", "extension .py")),
        ("Makefile", "", ("Makefile", "file name Makefile")),
        ("vector", "// -*- C++ -*-\n", ("C++", "modeline C++")),
        ("a.txt", "x\n# vim: set ts=4 ft=python :\n", ("Python", "modeline python")),
        ("run", "#!/usr/bin/python3.11\n", ("Python", "interpreter python3")),
        ("a.h", "int f(void);", ("C", "extension .h, heuristic")),
        ("feed", '<?xml version="1.0"?>\n<a/>', ("XML", "XML declaration")),
        ("ls.1", ".TH LS 1\n.SH NAME\n", ("Roff Manpage", "extension .1, heuristic")),
        ("log.1", "words", (None, "no heuristic fits log.1")),
        ("a.pl", "foo(X) :- bar(X).\n", ("Prolog", "extension .pl, heuristic")),
        ("a.json", '{"openapi": "3.0.1"}', ("OASv3-json", "extension .json, heuristic")),
        ("a.cl", "", ("OpenCL", "extension .cl, usual of several")),
        ("data.unknownext", "", (None, "no rule fits data.unknownext")),
    ],
)
def test_the_reason_is_told(path: str, text: str, expected: tuple[str | None, str]) -> None:
    assert explain_language(path, text) == expected
