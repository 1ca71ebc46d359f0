import gzip
import json
from importlib import resources

import pytest

from starsmith.corpus.license_texts import recognise
from starsmith.corpus.licenses import (
    NOTHING,
    UNRECOGNISED,
    Finding,
    find_license,
    folder_findings,
    is_permissive,
    looks_like_license_file,
    unknown_ids,
)
from worlds import MIT

GPL_HEADER = """/*
 * This program is free software; you can redistribute it and/or modify
 * it under the terms of the GNU General Public License as published by
 * the Free Software Foundation; either version 2 of the License, or
 * (at your option) any later version.
 */
int main(void) { return 0; }
"""
APACHE_HEADER = """# Copyright 2026 Somebody
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
"""


def text_of(name: str) -> str:
    packed = resources.files("starsmith.corpus").joinpath("data/licenses.json.gz").read_bytes()
    texts: dict[str, str] = json.loads(gzip.decompress(packed))
    return texts[name]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "MIT",
            "Apache-2.0",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "ISC",
            "Zlib",
            "Unlicense",
            "CC0-1.0",
            "BSL-1.0",
            "0BSD",
        ),
        *("MPL-2.0", "GPL-2.0-only", "GPL-3.0-only", "LGPL-2.1-only", "AGPL-3.0-only", "EPL-2.0", "CC-BY-SA-4.0"),
    ],
)
def test_the_text_of_a_common_licence_is_recognised_alone_and_broken_otherwise(name: str) -> None:
    text = text_of(name)
    wrapped = "\n".join(f" *  {word}" for word in text.split())

    # The GPL's text does not say whether a later version may be chosen, so it stands under either name.
    families = {name, name.replace("-only", "-or-later")}
    assert len(recognise(text)) == 1
    assert set(recognise(text)) <= families
    assert set(recognise(wrapped)) <= families


def test_another_holder_and_year_change_nothing() -> None:
    assert recognise(MIT.replace("Somebody", "The Regents of Nowhere, Inc.")) == ("MIT",)


def test_a_text_with_a_part_missing_is_no_licence() -> None:
    assert recognise(MIT[: len(MIT) // 2]) == ()


def test_several_licences_in_one_file_are_all_found() -> None:
    assert set(recognise(MIT + "\n\n" + text_of("Apache-2.0"))) == {"MIT", "Apache-2.0"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (APACHE_HEADER, ("Apache-2.0",)),
        (GPL_HEADER, ("GPL-2.0-or-later",)),
        (GPL_HEADER.replace(", or\n * (at your option) any later version", ""), ("GPL-2.0-only",)),
        (
            "# Proprietary and confidential. Unauthorized copying is prohibited.",
            ("LicenseRef-proprietary",),
        ),
        ("# see the licence of the project", ()),
    ],
)
def test_a_notice_is_recognised_by_its_wording(text: str, names: tuple[str, ...]) -> None:
    assert recognise(text) == names


def test_the_commons_clause_is_never_lost_beside_a_permissive_text() -> None:
    text = "“Commons Clause” License Condition v1.0\n\n" + text_of("Apache-2.0")

    found = recognise(text)

    assert "LicenseRef-Commons-Clause" in found
    assert not is_permissive(" AND ".join(found))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *((name, True) for name in ("LICENSE", "pkg/COPYING.txt", "LICENCE.md", "LICENSE-MIT", "UNLICENSE", "NOTICE")),
        *((name, True) for name in ("MIT-LICENSE.txt", "COPYING.LESSER", "docs/license.rst")),
        *((name, False) for name in ("license.py", "licenses.json", "copyright_check.js", "a.py", "LICENSE.spdx")),
    ],
)
def test_licence_files_are_told_from_code_about_licences(path: str, expected: bool) -> None:
    assert looks_like_license_file(path) is expected


class TestWhichLicenceHolds:
    def test_a_tag_in_the_file_goes_before_everything(self) -> None:
        text = "// SPDX-License-Identifier: MIT OR GPL-2.0-only\n" + GPL_HEADER

        found = find_license("src/a.c", text, {".": Finding("ISC", "text of LICENSE")})

        assert found == Finding("MIT OR GPL-2.0-only", "SPDX-License-Identifier in the file")

    def test_a_notice_in_the_file_goes_before_the_folder(self) -> None:
        found = find_license("src/a.c", GPL_HEADER, {".": Finding("MIT", "text of LICENSE")})

        assert found.expression == "GPL-2.0-or-later"

    def test_the_nearest_folder_goes_before_those_above(self) -> None:
        by_folder = folder_findings([("LICENSE", MIT), ("vendor/x/COPYING", text_of("GPL-3.0-only"))])

        assert find_license("src/a.py", "x", by_folder) == Finding("MIT", "text of LICENSE")
        assert find_license("vendor/x/lib/a.py", "x", by_folder).expression.startswith("GPL-3.0")

    def test_two_texts_in_a_folder_hold_together(self) -> None:
        by_folder = folder_findings([("LICENSE-MIT", MIT), ("LICENSE-APACHE", text_of("Apache-2.0"))])

        assert by_folder["."] == Finding("Apache-2.0 AND MIT", "text of LICENSE-APACHE, LICENSE-MIT")

    def test_an_unknown_licence_text_hides_the_one_above_it(self) -> None:
        by_folder = folder_findings([("LICENSE", MIT), ("vendor/LICENSE", "You may look at it on Sundays.")])

        assert find_license("vendor/a.py", "x", by_folder).expression == UNRECOGNISED

    def test_what_is_declared_comes_last_and_else_nothing_is_found(self) -> None:
        declared = Finding("ISC", "declared")

        assert find_license("a.py", "x", {}, declared) == declared
        assert find_license("a.py", "x", {}) == NOTHING


@pytest.mark.parametrize(
    ("expression", "allow", "expected"),
    [
        ("MIT", (), True),
        ("mit", (), True),
        ("Python-2.0.1", (), True),
        ("MIT AND Apache-2.0", (), True),
        ("MIT AND GPL-2.0-only", (), False),
        ("MIT OR GPL-2.0-only", (), True),
        ("(MIT OR GPL-2.0-only) AND LGPL-2.1-or-later", (), False),
        ("Apache-2.0 WITH LLVM-exception", (), True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", (), False),
        ("GPL-3.0-only", ("GPL-3.0-only",), True),
        ("GPL-3.0-only", ("GPL-3.0",), True),
        ("LicenseRef-house", ("LicenseRef-house",), True),
        ("LicenseRef-house", (), False),
        ("MIT AND", (), False),
        ("no licence at all )(", (), False),
        ("", (), False),
    ],
)
def test_the_policy_reads_expressions(expression: str, allow: tuple[str, ...], expected: bool) -> None:
    assert is_permissive(expression, allow=allow) is expected


def test_a_misspelt_licence_id_is_found_out() -> None:
    assert unknown_ids(["MIT", "GPL-3.0-only", "GPL-3.0", "LicenseRef-house", "Apache2", "Unicode-3.0"]) == ["Apache2"]
