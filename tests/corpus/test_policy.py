import pytest

from starsmith.core.errors import ConfigError
from starsmith.corpus.files import Drop
from starsmith.corpus.licenses import NOTHING, UNRECOGNISED, Finding
from starsmith.corpus.policy import LicensePolicy, categories, category_of


def found(expression: str) -> Finding:
    return Finding(expression, "text of LICENSE")


@pytest.mark.parametrize(
    ("settings", "expression", "kept"),
    [
        ({"base": "blue_oak"}, "MIT", True),
        ({"base": "blue_oak"}, "mit", True),
        ({"base": "blue_oak"}, "LicenseRef-scancode-public-domain", False),
        ({"base": "scancode_permissive"}, "LicenseRef-scancode-public-domain", True),
        ({}, "GPL-3.0-only", False),
        ({"base": "none"}, "MIT", False),
        ({"base": "none", "allow": ("MIT",)}, "MIT", True),
        ({"base": "none", "allow_categories": ("permissive",)}, "MIT", True),
        ({"allow_categories": ("weak-copyleft",)}, "LGPL-2.1-or-later", True),
        ({"allow_categories": ("weak-copyleft",)}, "GPL-2.0-or-later", False),
        ({"allow": ("GPL-3.0",)}, "GPL-3.0-only", True),
        ({"deny": ("MIT",)}, "MIT", False),
        ({"deny": ("MIT",)}, "MIT OR ISC", True),
        ({"deny": ("MIT",)}, "MIT AND ISC", False),
        ({}, "MIT OR GPL-2.0-only", True),
        ({}, "MIT AND GPL-2.0-only", False),
        ({}, "Apache-2.0 WITH LLVM-exception", True),
        ({}, "GPL-2.0-only WITH Classpath-exception-2.0", False),
        ({}, UNRECOGNISED, False),
        ({"unlicensed": True}, UNRECOGNISED, False),
        ({"allow_categories": ("unstated",)}, UNRECOGNISED, True),
        ({}, "Apache-2.0 AND LicenseRef-Commons-Clause", False),
        ({}, "no licence at all )(", False),
    ],
)
def test_a_policy_lets_in_what_it_names(settings: dict[str, object], expression: str, kept: bool) -> None:
    policy = LicensePolicy(**settings)  # type: ignore[arg-type]

    assert (policy.decide(found(expression)) is None) is kept


def test_the_drop_names_the_expression_the_evidence_and_what_is_in_the_way() -> None:
    drop = LicensePolicy(deny=("ISC",)).decide(found("(MIT AND GPL-3.0-only) OR ISC"))

    assert drop == Drop(
        "not_permissive",
        "(MIT AND GPL-3.0-only) OR ISC (text of LICENSE): GPL-3.0-only is copyleft and not allowed, ISC is denied",
    )


def test_a_file_without_a_licence_comes_in_only_where_the_policy_says_so() -> None:
    drop = LicensePolicy().decide(NOTHING)

    assert drop is not None
    assert drop.reason == "no_license"
    assert LicensePolicy(unlicensed=True).decide(NOTHING) is None


def test_permissive_ranks_before_otherwise_allowed_before_none() -> None:
    policy = LicensePolicy(allow_categories=("copyleft",), unlicensed=True)

    assert [policy.rank(finding) for finding in (found("MIT"), found("GPL-2.0-only"), NOTHING)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"base": "blueoak"}, "'blue_oak'"),
        ({"allow": ("Apache2.0",)}, "'Apache-2.0'"),
        ({"deny": ("GPL-3.0-olny",)}, "'GPL-3.0-only'"),
        ({"allow_categories": ("copy-left",)}, "'copyleft'"),
        ({"allow": ("qqqqqqqqqqqqqqqq",)}, "spdx.org"),
    ],
)
def test_an_unknown_name_is_an_error_that_suggests_one(settings: dict[str, object], hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        LicensePolicy(**settings)  # type: ignore[arg-type]

    assert hint in error.value.hint


def test_categories_are_those_of_scancode_by_spdx_id() -> None:
    assert category_of("MIT") == "permissive"
    assert category_of("GPL-3.0") == category_of("GPL-3.0-or-later") == "copyleft"
    assert category_of("MPL-2.0") == "weak-copyleft"
    assert category_of("LicenseRef-proprietary") == "commercial"
    assert category_of("LicenseRef-house") == ""
    assert len(categories()) == 11
