"""The settings of a corpus: from a recipe, and none that means nothing."""

from typing import Any

import pytest

from starsmith.core.config import apply_overrides, build, to_table
from starsmith.core.errors import ConfigError
from starsmith.corpus.config import CorpusConfig

pytestmark = pytest.mark.slow  # reads every recipe


def corpus(*overrides: str) -> CorpusConfig:
    tables = apply_overrides({}, [f"corpus.{override}" for override in overrides], known=["corpus"])
    return build(CorpusConfig, tables.get("corpus", {}), where="here")


def test_the_papers_values_are_the_defaults() -> None:
    config = CorpusConfig()

    assert (config.duplicates.threshold, config.duplicates.words) == (0.7, 5)
    assert config.duplicates.bands * config.duplicates.rows == 250
    assert (config.filters.longest_mean_line, config.filters.longest_line) == (100.0, 1000)
    assert config.filters.least_alphabetic == 0.25
    assert config.licenses.base == "scancode_permissive"
    assert config.languages == ()


def test_every_concern_has_its_table_in_a_recipe() -> None:
    config = corpus(
        'languages=["C++", "Python"]',
        "filters.longest_line=500",
        "duplicates.threshold=none",
        "licenses.unlicensed=true",
        'licenses.deny=["MIT"]',
        "redaction.emails=false",
        "sampling.languages.HTML=0.5",
        'notebooks=["script"]',
    )

    assert config.languages == ("C++", "Python")
    assert config.filters.longest_line == 500
    assert config.duplicates.threshold is None
    assert (config.licenses.unlicensed, config.licenses.deny) == (True, ("MIT",))
    assert not config.redaction.emails
    assert config.sampling.languages == {"HTML": 0.5}
    assert config.notebooks == ("script",)


def test_the_settings_survive_the_manifest() -> None:
    config = corpus("filters.longest_line=500", "sampling.most_bytes.Java=1e9", "duplicates.threshold=none")

    table = to_table(config)
    table["duplicates"] = {**table["duplicates"], "threshold": "none"}  # TOML has no null

    def without_none(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: without_none(item) for key, item in value.items() if item is not None}

    assert build(CorpusConfig, without_none(table), where="here") == config


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ('licenses.allow=["Apache2"]', "no SPDX licence ids", "Apache-2.0"),
        ('licenses.deny=["MTI"]', "no SPDX licence ids", ""),
        ('licenses.base="permissive"', "no such list of licences", "scancode_permissive"),
        ('licenses.allow_categories=["copylefts"]', "no categories of licences", "copyleft"),
        ('languages=["python"]', "no languages that Linguist knows", "'Python'"),
        ("held_out=1.0", "held_out=1.0", "0.03"),
        ("held_out=-0.1", "held_out=-0.1", "0.03"),
        ("largest_bytes=0", "largest_bytes=0", "1000000"),
        ('notebooks=["pdf"]', "no forms of a notebook", "script, structured"),
        ("duplicates.threshold=0.0", "threshold=0.0", "0.7"),
        ("duplicates.treshold=0.5", "has no setting 'treshold'", "'threshold'"),
        ("filters.least_alphabetic=2.0", "least_alphabetic=2.0", ""),
        ("near_duplicate_threshold=0.5", "has no setting 'near_duplicate_threshold'", ""),
        ("redaction.least_characters=0", "least_characters=0", "4"),
        ("sampling.languages.C=-1", "languages C = -1.0", "natural"),
    ],
)
def test_settings_that_mean_nothing_are_refused(override: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        corpus(override)

    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.hint
