import dataclasses

import pytest

from starsmith.core.errors import ConfigError
from starsmith.corpus import filters
from starsmith.corpus.files import Drop
from starsmith.corpus.filters import FILTERS, FilterConfig, FilterInput, first_drop
from starsmith.corpus.statistics import measure

CODE = "def total(values):\n    return sum(value * 2 for value in values)\n"


def given(text: str, *, path: str = "pkg/total.py", language: str = "Python", stars: int | None = None) -> FilterInput:
    content = text.encode()
    return FilterInput(path, language, text, content, measure(content), stars)


def reason(text: str, language: str = "Python", path: str = "a", **settings: object) -> str | None:
    drop = first_drop(given(text, path=path, language=language), FilterConfig(**settings))  # type: ignore[arg-type]
    return drop.reason if drop else None


@pytest.mark.parametrize("name", [name for name, _ in FILTERS])
def test_ordinary_code_passes_every_filter(name: str) -> None:
    strict = FilterConfig(extensions_left_out=(".csv",), xml_elsewhere=False, least_characters_per_token=2.0)

    assert dict(FILTERS)[name](given(CODE * 50), strict) is None


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("Python", "x = a\n" * 100_001, "too_many_lines"),
        ("Python", "x" * 1001, "long_line"),
        ("Python", ("y" * 101 + "\n") * 3, "long_line"),
        ("Python", ("y " * 48 + "\n") * 3, None),
        ("Markdown", "word " * 400, None),
        ("Markdown", "x" * 100_001, "long_line"),
    ],
)
def test_long_lines_are_measured_by_the_paper(language: str, text: str, expected: str | None) -> None:
    assert reason(text, language) == expected


def test_a_drop_says_what_was_seen_and_what_is_allowed() -> None:
    drop = first_drop(given("short = True\n" * 2 + "x " * 2000), FilterConfig())

    assert drop == Drop("long_line", "line 3 has 4,000 characters, at most 1,000 are allowed")


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("abc" + "1" * 9, "C", None),
        ("abc" + "1" * 10, "C", "not_alphabetic"),
        ("abc" + "1" * 10, "WebAssembly", None),
        ("äöü" + "1" * 9, "C", None),
        ("äöü" + "1" * 10, "C", "not_alphabetic"),
        ("\u4e2d\u6587" * 50 + "。" * 100, "Markdown", None),
        ("", "C", None),
    ],
)
def test_letters_are_a_quarter_of_a_text_at_least(text: str, language: str, expected: str | None) -> None:
    assert reason(text, language) == expected


@pytest.mark.parametrize("blob", ["QUJD" * 300, "0x1f," * 300, "\\u00e9" * 300, "QUJDREVGR0hJSktMTU5PUFFS" * 4])
def test_encoded_data_is_told_from_code(blob: str) -> None:
    asked = given(f"data = '{blob}'\n")

    drop = filters.encoded_data(asked, FilterConfig())

    assert drop is not None
    assert drop.reason == "encoded_data"
    assert filters.encoded_data(given(CODE * 400 + "key = '0x1f'\n"), FilterConfig()) is None


@pytest.mark.parametrize(
    ("path", "language", "lines", "expected"),
    [
        ("a.json", "JSON", 513, "long_data_file"),
        ("a.json", "JSON", 512, None),
        ("words.txt", "Text", 10, "plain_text"),
        ("README.txt", "Text", 10, None),
        ("dev-requirements.txt", "Text", 10, None),
        ("README.txt", "Text", 513, "long_data_file"),
    ],
)
def test_data_languages_are_short_and_text_is_about_the_code(
    path: str, language: str, lines: int, expected: str | None
) -> None:
    assert reason("a line\n" * lines, language, path) == expected


TABLES = {
    "dictionary": "T = {\n" + "".join(f"    0x{code:04x}: 'n {code}',  # LATIN LETTER\n" for code in range(60)) + "}\n",
    "strings": "decoding_table = (\n" + "".join(f"    '\\x{code:02x}'\n" for code in range(60)) + ")\n",
    "numbers": "static const int t[] = {\n" + "    1, -2, 3.5e7, 0xffULL,\n" * 60 + "};\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_module_that_is_a_table_is_dropped(name: str) -> None:
    drop = filters.data_table(given(TABLES[name]), FilterConfig())

    assert drop == Drop("data_table", "60 of 62 lines are nothing but literals, at most 50%")
    assert filters.data_table(given(TABLES[name]), FilterConfig(most_table_share=1.0)) is None


def test_a_module_with_a_table_in_it_stays() -> None:
    assert reason(TABLES["dictionary"] + CODE * 60) is None
    assert reason("KEYS = [\n" + "    'short',\n" * 30 + "]\n") is None


def test_html_shows_enough_of_itself() -> None:
    shown, script = "<p>" + "words that are shown " * 6 + "</p>", "<script>let hidden = call();</script>"

    assert reason(shown, "HTML") is None
    assert reason("<p>few words</p>", "HTML") == "little_visible_text"
    assert reason(shown + script * 30, "HTML") == "little_visible_text"
    assert reason(shown + script * 30, "HTML", least_visible_share=0.05) is None


@pytest.mark.parametrize(
    ("settings", "text", "language", "expected"),
    [
        ({"extensions_left_out": (".CSV", ".svg.in")}, CODE, "Text", "extension"),
        ({"xml_elsewhere": False}, '<?xml version="1.0"?>\n<a>text</a>\n', "Python", "xml"),
        ({"xml_elsewhere": False}, '<?xml version="1.0"?>\n<a>text</a>\n', "XSLT", None),
        ({"data_characters": (100, 5000)}, '{"name": "value"}', "JSON", "size_of_data"),
        ({"data_characters": (10, 5000)}, '{"name": "value"}', "JSON", None),
        ({"comment_ratio": (0.01, 0.8)}, CODE, "Python", "comment_ratio"),
        ({"comment_ratio": (0.01, 0.8)}, "# why\n" + CODE, "Python", None),
        ({"comment_ratio": (0.01, 0.8)}, CODE, "Brainfuck", None),
        ({"least_characters_per_token": 2.5}, "a = b + c;\n" * 30, "C", "short_tokens"),
    ],
)
def test_the_rules_that_are_off_by_default_hold_when_asked_for(
    settings: dict[str, object], text: str, language: str, expected: str | None
) -> None:
    assert reason(text, language, "data/a.csv", **settings) == expected
    assert expected is None or reason(text, language, "README.csv") is None


def test_few_stars_count_where_stars_are_known() -> None:
    config = FilterConfig(least_stars=5)

    assert first_drop(given(CODE, stars=5), config) is None
    assert first_drop(given(CODE, stars=None), config) is None
    assert first_drop(given(CODE, stars=4), config) == Drop(
        "few_stars", "the repository has 4 stars, at least 5 are wanted"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"least_alphabetic": 25.0},
        {"most_lines": 0},
        {"data_characters": (100,)},
        {"comment_ratio": (0.8, 0.01)},
        {"extensions_left_out": ("csv",)},
    ],
)
def test_a_bound_that_makes_no_sense_is_an_error_with_a_hint(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))) as caught:
        FilterConfig(**settings)  # type: ignore[arg-type]

    assert caught.value.hint


def test_the_settings_stay_few() -> None:
    assert len(dataclasses.fields(FilterConfig)) <= 18
