import gzip
import json
from dataclasses import fields
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.corpus import license_kernels as kernels
from starsmith.corpus import license_library, license_places
from starsmith.corpus.license_library import APPENDIX, INDEX, LEAST_BEYOND_SPDX, LEAST_CONTAINMENT
from starsmith.corpus.license_names import PUBLIC_DOMAIN, by_address, named
from starsmith.corpus.license_texts import recognise, recognise_file
from starsmith.corpus.licenses import Finding, find_license, folder_findings
from starsmith.corpus.policy import LicensePolicy
from worlds import MIT

pytestmark = pytest.mark.slow  # builds the library of all licences


@cache
def beyond_spdx() -> dict[str, str]:
    packed = resources.files("starsmith.corpus").joinpath("data/licenses_beyond_spdx.json.gz").read_bytes()
    texts: dict[str, str] = json.loads(gzip.decompress(packed))
    return texts


@cache
def text_of(name: str) -> str:
    return license_library.texts()[name]


class TestTheShippedIndex:
    @pytest.mark.slow
    def test_it_is_what_the_texts_give(self) -> None:
        packed = resources.files("starsmith.corpus").joinpath(INDEX).read_bytes()

        assert license_library.packed(license_library.build(license_library.texts())) == packed

    def test_reading_it_back_gives_the_same_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = {name: text_of(name) for name in ("MIT", "OpenSSL", "GPL-2.0-only", "Apache-2.0")}
        texts["LicenseRef-x"] = MIT + " You may look at it on Sundays only, please."
        built = license_library.build(texts)
        path = tmp_path / "few.npz"
        path.write_bytes(license_library.packed(built))
        monkeypatch.setattr(license_library, "INDEX", str(path))

        read = license_library.shipped.__wrapped__()

        assert built.names == [
            "MIT",
            "OpenSSL",
            "Apache-2.0",
            "GPL-2.0-only",
            "LicenseRef-x",
            f"{APPENDIX}GPL-2.0-only",
        ]
        assert built.least.tolist() == [*[LEAST_CONTAINMENT] * 4, LEAST_BEYOND_SPDX, LEAST_CONTAINMENT]
        assert built.lengths.any(), "a text that repeats itself far apart is among them"
        for field in fields(license_library.Library):
            assert same_content(getattr(read, field.name), getattr(built, field.name)), field.name

    def test_its_table_finds_every_shingle(self) -> None:
        library = license_library.shipped()

        assert (kernels.find(library.keys, library.keys, library.table) == np.arange(len(library.keys))).all()

    @pytest.mark.slow
    def test_most_texts_beyond_spdx_are_recognised_alone_under_their_own_name(self) -> None:
        wrong = [name for name, text in beyond_spdx().items() if name not in recognise(text)]

        assert len(wrong) <= 0.03 * len(beyond_spdx())


def same_content(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_content, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


class TestTextsThatSpdxDoesNotHave:
    def test_a_known_text_with_a_restriction_is_not_taken_for_the_text_without(self) -> None:
        found = recognise(beyond_spdx()["LicenseRef-scancode-mit-proprietary"])

        assert found == ("LicenseRef-scancode-mit-proprietary",)
        assert LicensePolicy().decide(Finding(found[0], "text of LICENSE")) is not None

    def test_a_disclaimer_alone_is_no_licence(self) -> None:
        disclaimer = text_of("BSD-3-Clause").partition("THIS SOFTWARE IS")[2]

        assert recognise("This software is" + disclaimer) == ()

    def test_another_name_in_a_known_text_leaves_its_id(self) -> None:
        text = text_of("X11").replace("X Consortium", "Somebody Else Limited")

        assert recognise(text) == ("X11",)


class TestBundles:
    def test_a_text_scattered_over_others_is_not_put_together(self) -> None:
        words = text_of("BSD-Systemics").split()
        filler = [f"word{number}" for number in range(400)]
        pieces = [words[at : at + 12] + filler for at in range(0, len(words), 12)]

        assert recognise(" ".join(word for piece in pieces for word in piece)) == ()

    def test_a_text_that_repeats_itself_is_found_where_it_stands(self) -> None:
        bundle = "\n\n".join([text_of("BSD-3-Clause"), "word " * 500, text_of("OpenSSL"), "word " * 500, MIT])

        assert set(recognise(bundle)) == {"BSD-3-Clause", "OpenSSL", "MIT"}

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            ("License: 3-clause BSD", "BSD-3-Clause"),
            ("License: http://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"),
            ("License: http://www.opensource.org/licenses/mit-license.php", "MIT"),
            ("License: https://opensource.org/licenses/MIT.", "MIT"),
            ("License: https://opensource.org/licenses/GPL-2.0", "GPL-2.0-only"),
            ("License: Zope Public License (ZPL) Version 2.1", "ZPL-2.1"),
            ("License: GPL-3.0-or-later WITH GCC-exception-3.1", "GPL-3.0-or-later WITH GCC-exception-3.1"),
            ("License: GPL-2+", "GPL-2.0-or-later"),
            ("License: expat", "MIT"),
            ("SPDX-License-Identifier: LicenseRef-Sunday", "LicenseRef-sunday"),
        ],
    )
    def test_a_line_that_declares_a_licence_is_read(self, line: str, name: str) -> None:
        assert name in recognise(f"Name: a library\nFiles: lib/*\n{line}\nCopyright: somebody\n")

    def test_a_line_with_an_address_that_names_no_licence_declares_none(self) -> None:
        assert recognise("Name: a library\nLicense: http://www.opensource.org/licenses/bsd-license.php\n") == ()

    def test_headings_over_lists_of_files_are_read_beside_a_text(self) -> None:
        lists = "\n\nBSD 3-Clause\n------------\na/b.js\n\nEclipse Public License (EPL) 2.0\n-----\nc.jar\n"

        assert set(recognise(text_of("Apache-2.0") + lists)) == {"Apache-2.0", "BSD-3-Clause", "EPL-2.0"}

    def test_a_heading_over_changed_terms_grants_nothing(self) -> None:
        changed = "MIT License\n-----------\nPermission is granted to look at it on Sundays.\n"

        assert "MIT" not in recognise(text_of("Apache-2.0") + "\n\n" + changed)


class TestWindowsAgainstPlainPython:
    @given(st.lists(st.integers(-1, 5), max_size=300), st.sampled_from([0.5, 0.8, 1.0]))
    def test_a_text_that_repeats_itself_stands_where_most_of_it_is_together(
        self, steps: list[int], least: float
    ) -> None:
        found = license_places._windows(np.array(steps, np.int32), 6, 9, least)

        assert found.tolist() == plain_windows(steps, 6, 9 + 9 // 5 + license_places.LONGEST_GAP, least)


def plain_windows(steps: list[int], size: int, width: int, least: float) -> list[list[int]]:
    found, start = [], 0
    while start < len(steps):
        best, first, last = 0, -1, -1
        for place in range(start, len(steps)):
            inside = [at for at in range(max(start, place - width + 1), place + 1) if steps[at] >= 0]
            distinct = len({steps[at] for at in inside})
            if distinct > best:
                best, first, last = distinct, inside[0], place
            elif best >= least * size and place - last > width:
                break
        if best < least * size:
            break
        while steps[first] < 0 or steps[first] in steps[first + 1 : last + 1]:
            first += 1
        for place in range(last + 1, min(len(steps), first + width)):
            if place - last >= license_places.LONGEST_GAP:
                break
            last = place if steps[place] >= 0 else last
        found.append([first, last, best])
        start = last + 1
    return found


class TestGnuLicences:
    def test_how_to_apply_the_terms_is_no_notice(self) -> None:
        assert recognise(text_of("GPL-2.0-only")) == ("GPL-2.0-only",)

    def test_a_notice_beside_the_text_says_whether_later_versions_hold(self) -> None:
        notice = (
            "This is free software under the terms of the GNU General Public License, version 3 or any later version."
        )

        assert set(recognise(f"{notice}\n\n{text_of('GPL-3.0-only')}")) == {"GPL-3.0-only", "GPL-3.0-or-later"}

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("It is under GNU LGPLv2.1+ .", {"LGPL-2.1-or-later"}),
            ("It is under GNU GPLv2+ or GNU GPLv3+ .", {"GPL-2.0-or-later", "GPL-3.0-or-later"}),
            ("It is under the GNU AGPL v3.", {"AGPL-3.0-only"}),
            ("It is under the GNU Library General Public License.", {"LGPL-2.0-or-later"}),
        ],
    )
    def test_short_forms_are_read(self, text: str, names: set[str]) -> None:
        assert set(recognise(text)) == names

    def test_a_licence_offered_at_the_end_of_another_is_read(self) -> None:
        offer = "may be used under the terms of the GNU Lesser General Public License Version 2.1 or later."

        assert set(recognise(f"{text_of('MPL-1.1')} Alternatively, it {offer}")) == {"MPL-1.1", "LGPL-2.1-or-later"}


LINKING = (
    "As a special exception, the copyright holders give you permission to link this library with independent modules to"
    " produce an executable, regardless of the license terms of these independent modules."
)


class TestExceptions:
    def test_beside_an_lgpl_an_exception_names_no_gpl(self) -> None:
        notice = "It is under the terms of the GNU Lesser General Public License, version 3 or any later version."

        assert recognise(f"{notice} {LINKING}") == ("LGPL-3.0-or-later",)
        assert recognise(f"{text_of('LGPL-3.0-only')}\n\n{LINKING}") == ("LGPL-3.0-only",)

    def test_beside_a_gpl_it_stands_with_it_whatever_else_is_there(self) -> None:
        notice = "It is under GNU GPLv2+ or GNU LGPLv3+ ."

        assert set(recognise(f"{notice} {LINKING}")) == {
            "GPL-2.0-or-later WITH Classpath-exception-2.0",
            "LGPL-3.0-or-later",
        }

    def test_alone_it_names_the_licence_that_it_was_written_for(self) -> None:
        assert recognise(LINKING) == ("GPL-2.0-only WITH Classpath-exception-2.0",)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The MIT License\n", ("MIT",)),
        ("Apache License, Version 2.0", ("Apache-2.0",)),
        ('license="MIT",', ()),
        ("Apache", ()),
        ("GPL 3 headers are checked", ()),
    ],
)
def test_a_name_alone_is_enough_where_it_is_one(text: str, names: tuple[str, ...]) -> None:
    assert recognise(text) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The changes are in public domain.", (PUBLIC_DOMAIN,)),
        ("It has been released by the author into the public domain.", (PUBLIC_DOMAIN,)),
        ("It is not in the public domain.", ()),
        ("Released under both the Apache license v2.0 and the BSD 2-clause license.", ("Apache-2.0", "BSD-2-Clause")),
        ("It is licensed under CNRI's Python 1.6 license.", ("CNRI-Python",)),
        ("It is under the Python Software Foundation License.", ("PSF-2.0",)),
        ("It uses the zlib license.", ("Zlib",)),
        ("It is compatible with the MIT license.", ()),
        ("See https://creativecommons.org/publicdomain/zero/1.0/", ("CC0-1.0",)),
    ],
)
def test_wordings_of_notices(text: str, names: tuple[str, ...]) -> None:
    assert set(recognise(text)) == set(names)


class TestShortLicenceFiles:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("`x` is licensed under GPL 2.0 or LGPL 2.1 or MPL 1.1.", {"GPL-2.0-only", "LGPL-2.1-only", "MPL-1.1"}),
            ("Either of the licenses found in LICENSE.APACHE2 or LICENSE.MIT.", {"Apache-2.0", "MIT"}),
            ("Photos under the CC BY-SA 4.0 license.", {"CC-BY-SA-4.0"}),
            ("This no longer has an MIT license.", set()),
            ("Proprietary. A part was taken from a project with the MIT license.", set()),
        ],
    )
    def test_names_count_in_any_words_unless_something_speaks_against_it(self, text: str, names: set[str]) -> None:
        assert set(recognise_file(text)) == names

    def test_the_same_words_in_source_code_are_no_notice(self) -> None:
        text = "# Reads GPL 2.0 and MIT license files.\nimport os\n"

        assert find_license("a.py", text, {}).expression == ""

    def test_a_folder_has_the_licences_that_its_file_names(self) -> None:
        found = folder_findings([("LICENSE", "Licensed under Apache 2.0.")])

        assert found["."].expression == "Apache-2.0"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("The MIT License (MIT)", "MIT"),
        ("3-Clause BSD License", "BSD-3-Clause"),
        ("GNU GPL v3 or later", "GPL-3.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GPL-7", ""),
        ("BSD", ""),
        ("a licence", ""),
    ],
)
def test_usual_names_are_known(name: str, expected: str) -> None:
    assert named(name) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("http://www.opensource.org/licenses/mit-license.php", "MIT"),
        ("http://www.opensource.org/licenses/mit-license.html).", "MIT"),
        ("https://opensource.org/licenses/mit.", "MIT"),
        ("https://opensource.org/license/mit/", "MIT"),
        ("https://opensource.org/license/apache-2-0", "Apache-2.0"),
        ("http://opensource.org/licenses/apache2.0.php", "Apache-2.0"),
        ("http://www.apache.org/licenses/LICENSE-2.0.txt", "Apache-2.0"),
        ("http://www.opensource.org/licenses/isc-license.txt", "ISC"),
        ("https://opensource.org/license/isc-license-txt", "ISC"),
        ("http://www.opensource.org/licenses/zlib-license.php The zlib/libpng License", "Zlib"),
        ("http://www.opensource.org/licenses/mozilla1.1.php", "MPL-1.1"),
        ("https://spdx.org/licenses/BSD-3-Clause-No-Nuclear-License.html", "BSD-3-Clause-No-Nuclear-License"),
        ("https://opensource.org/licenses/gpl-2.0.php", "GPL-2.0-only"),
        ("https://licenses.nuget.org/BSD-3-Clause", "BSD-3-Clause"),
        *(
            ("http://www.opensource.org/licenses/" + name, "")
            for name in ("bsd-license.php", "gpl-license", "index.php")
        ),
        ("https://licenses.nuget.org/GPL-2.0-only%20OR%20MIT", ""),
        ("https://example.org/licenses/MIT", ""),
        ("https://spdx.org/licenses/" + "-" * 100_000 + "a", ""),
    ],
)
def test_addresses_of_licences_are_known(address: str, expected: str) -> None:
    assert by_address(address) == expected
