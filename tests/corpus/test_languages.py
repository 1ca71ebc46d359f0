import pytest

from starsmith.corpus import languages
from starsmith.corpus.languages import known_languages, language_of


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
    _, _, by_extension = languages._tables()
    chosen = [*languages._USUAL.items()]
    chosen += [(extension, name) for extension, rules in languages._BY_CONTENT.items() for name, _ in rules]

    assert [pair for pair in chosen if pair[1] not in by_extension[pair[0]]] == []
