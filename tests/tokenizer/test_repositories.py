"""Files in the order in which they make sense."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.tokenizer.repositories import Listed, import_ranks, imports_of, name_of

pytestmark = pytest.mark.slow  # tries thousands of graphs


def ordered(files: dict[str, str], language: str) -> list[str]:
    """The paths in import order."""
    listed = [Listed(path, language, imports_of(text, language)) for path, text in files.items()]
    return [path for _, path in sorted(zip(import_ranks(listed), files, strict=True))]


PROJECTS = {
    "Python": {
        "app/main.py": "import os\nfrom app import store, views as v\nfrom .zeta import (\n    Thing)\n",
        "app/store.py": "import app.zeta\n",
        "app/views.py": "from .store import get\n",
        "app/zeta.py": "import sys\n",
    },
    "JavaScript": {
        "src/a.js": "import x from './lib/z.js';\nconst y = require('../src/b');\n",
        "src/b.js": 'export * from "./lib";\n',
        "src/lib/index.js": "import('./z')\n",
        "src/lib/z.js": "import fs from 'fs'\n",
    },
    "Go": {
        "cmd/main.go": 'import (\n\t"fmt"\n\tst "example.org/team/app/store"\n)\n',
        "model/types.go": "package model\n",
        "store/db.go": 'import "example.org/team/app/model"\n',
        "store/sql.go": "package store\n",
    },
    "Java": {
        "src/org/app/Main.java": "package org.app;\nimport org.app.store.Table;\nimport static org.app.Names.ONE;\n",
        "src/org/app/Names.java": "package org.app;\n",
        "src/org/app/store/Row.java": "import java.util.List;\n",
        "src/org/app/store/Table.java": "import org.app.store.Row;\n",
    },
    "C": {
        "a.c": '#include <stdio.h>\n#include "include/store.h"\n',
        "include/store.h": '  # include "types.h"\n',
        "include/types.h": "typedef int number;\n",
    },
    "Rust": {
        "src/lib.rs": "pub mod store;\nuse crate::types::Row;\n",
        "src/store/mod.rs": "use super::types::{Row};\nuse std::fs;\n",
        "src/types.rs": "pub struct Row;\n",
    },
}
AFTER = {
    "Python": [("app/main.py", "app/views.py"), ("app/views.py", "app/store.py"), ("app/store.py", "app/zeta.py")],
    "JavaScript": [("src/a.js", "src/b.js"), ("src/b.js", "src/lib/index.js"), ("src/lib/index.js", "src/lib/z.js")],
    "Go": [("cmd/main.go", "store/db.go"), ("cmd/main.go", "store/sql.go"), ("store/db.go", "model/types.go")],
    "Java": [
        ("src/org/app/Main.java", "src/org/app/store/Table.java"),
        ("src/org/app/Main.java", "src/org/app/Names.java"),
        ("src/org/app/store/Table.java", "src/org/app/store/Row.java"),
    ],
    "C": [("a.c", "include/store.h"), ("include/store.h", "include/types.h")],
    "Rust": [("src/lib.rs", "src/store/mod.rs"), ("src/store/mod.rs", "src/types.rs")],
}


@pytest.mark.parametrize("language", sorted(PROJECTS))
def test_a_file_stands_after_those_that_it_imports(language: str) -> None:
    for order in itertools.islice(itertools.permutations(PROJECTS[language].items()), 12):
        found = ordered(dict(order), language)

        for later, earlier in AFTER[language]:
            assert found.index(earlier) < found.index(later)


def test_a_circle_is_broken_by_path_whatever_the_order_of_the_files() -> None:
    files = {"b.py": "import c\n", "c.py": "import a\n", "a.py": "import b\n", "d.py": ""}

    found = {tuple(ordered(dict(order), "Python")) for order in itertools.permutations(files.items())}

    assert found == {("c.py", "b.py", "a.py", "d.py")}


def test_of_two_modules_of_one_name_the_nearer_one_is_meant() -> None:
    files = {"one/use.py": "import helper\n", "one/z/helper.py": "", "two/helper.py": "import use\n"}

    found = ordered(files, "Python")

    assert found == ["one/z/helper.py", "one/use.py", "two/helper.py"]


@given(st.lists(st.lists(st.integers(0, 11), max_size=5), min_size=1, max_size=12))
def test_any_graph_of_imports_gives_every_file_a_place(graph: list[list[int]]) -> None:
    listed = [
        Listed(f"m{number}.py", "Python", tuple(f"m{other}" for other in row)) for number, row in enumerate(graph)
    ]

    ranks = import_ranks(listed)

    assert sorted(ranks) == list(range(len(graph)))


def test_deep_chains_of_imports_need_no_deep_stack() -> None:
    count = 5_000
    listed = [Listed(f"m{number}.py", "Python", (f"m{number + 1}",)) for number in range(count)]

    ranks = import_ranks(listed)

    assert ranks == list(range(count - 1, -1, -1))


def test_a_language_without_a_rule_imports_nothing() -> None:
    assert imports_of("import os\n", "Text") == ()


def test_imports_of_a_file_are_bounded() -> None:
    assert len(imports_of("".join(f"import m{number}\n" for number in range(1000)), "Python")) == 256


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("https://github.com/owner/project.git", "owner/project"),
        ("https://example.org/tiny.git", "tiny"),
        ("git@host.org:group/sub/project", "sub/project"),
        ("project", "project"),
        ("", ""),
    ],
)
def test_a_repository_is_called_by_owner_and_name(repository: str, name: str) -> None:
    assert name_of(repository) == name
