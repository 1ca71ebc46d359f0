import ast
import json
import random
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.labelled_secrets import library_files, private_key, values
from starsmith.core.errors import ConfigError
from starsmith.corpus.redaction import CONTROL_TOKENS, RedactionConfig, merged, redact
from starsmith.corpus.secrets import Span

CONFIG = RedactionConfig()
MAIL, MAIL2 = "jane.doe" + "@" + "somewhere.org", "joe" + "@" + "elsewhere.de"
PASSWORD = "k3vD9" + "zQ!"
TOKEN = "ghp" + "_" + "a8Kd03mXz91LqPvB47TnYc62WsRe5UhJfG0d"


def is_sound(text: str, controls: tuple[int, ...]) -> bool:
    return all(text.startswith(tuple(CONTROL_TOKENS.values()), offset) for offset in controls)


def test_a_text_without_secrets_is_returned_as_the_same_object() -> None:
    text = "def add(a, b):\n    return a + b\n"

    result = redact(text, CONFIG)

    assert result.text is text
    assert (result.controls, result.counts) == ((), {})


def test_each_kind_gets_its_token_and_nothing_else_changes() -> None:
    text = f"m = '{MAIL}'\r\npassword = \"{PASSWORD}\"\r\n\tt = '{TOKEN}'  # é\r\nh = '52.94.236.248'\r\n"

    result = redact(text, CONFIG)

    assert result.text == "m = '<EMAIL>'\r\npassword = \"<PASSWORD>\"\r\n\tt = '<KEY>'  # é\r\nh = '10.0.0.1'\r\n"
    assert [result.text[at:].split(">")[0] for at in result.controls] == ["<EMAIL", "<PASSWORD", "<KEY"]
    assert result.counts == {"email": 1, "password": 1, "key": 1, "ip_address": 1}


def test_no_space_is_put_in_where_a_secret_begins_the_file_or_two_touch() -> None:
    assert redact(f"{MAIL} = 1", CONFIG).text == "<EMAIL> = 1"
    assert redact(f"{TOKEN};{MAIL}", CONFIG).text == "<KEY>;<EMAIL>"


def test_offsets_are_characters_after_letters_of_several_bytes() -> None:
    result = redact(f"# Grüße 🦉 \ud800 {MAIL}\n# — {MAIL2}\n", CONFIG)

    assert result.text == "# Grüße 🦉 \ud800 <EMAIL>\n# — <EMAIL>\n"
    assert is_sound(result.text, result.controls)


def test_the_same_value_gets_the_same_replacement_and_versions_stay() -> None:
    text = "a='52.94.236.248' b='52.94.236.249' c='52.94.236.248' d='2A01:4F8::2:1' e='2a01:4f8::2:1' f='10.0.0.1'"

    parts = redact(text, CONFIG).text.split("'")[1::2]

    assert parts[0] == parts[2] != parts[1]
    assert parts[3] == parts[4]
    assert parts[5] == "10.0.0.1"
    assert "10.0.0.1" not in parts[:5]
    assert [ip_address(part).version for part in parts] == [4, 4, 4, 6, 6, 4]
    assert all(ip_address(part).is_private for part in parts)


def test_text_that_reads_like_a_token_is_none() -> None:
    result = redact(f"<EMAIL> {MAIL}", CONFIG)

    assert result.text == "<EMAIL> <EMAIL>"
    assert result.controls == (8,)


def test_controls_that_were_there_are_moved_and_never_touched() -> None:
    text = f"<jupyter_start>{MAIL}<jupyter_code>x = '52.94.236.248'<jupyter_output>{MAIL}"
    controls = tuple(text.index(token) for token in ("<jupyter_start>", "<jupyter_code>", "<jupyter_output>"))

    result = redact(text, CONFIG, controls)

    starts = [result.text[at:].split(">")[0] for at in result.controls]
    assert starts == ["<jupyter_start", "<EMAIL", "<jupyter_code", "<jupyter_output", "<EMAIL"]


def test_a_span_over_a_control_token_is_split_by_it() -> None:
    text = "Jane <file_sep> Doe"

    result = redact(text, CONFIG, (5,), names=lambda text: [(0, len(text))])

    assert result.text == "<NAME><file_sep><NAME>"
    assert result.controls == (0, 6, 16)


def test_names_go_only_where_a_model_finds_them() -> None:
    text = "# Author: Jane Doe\n"

    assert redact(text, CONFIG).text is text
    assert redact(text, CONFIG, names=lambda _: [(10, 18)]).text == "# Author: <NAME>\n"


def test_overlapping_spans_become_one_of_the_strongest_kind() -> None:
    spans = [Span(4, 9, "email", 3, "a"), Span(0, 5, "key", 0, "b"), Span(9, 12, "name", 5, "c")]

    assert merged(spans) == [Span(0, 9, "key", 0, "b"), Span(9, 12, "name", 5, "c")]


def test_short_values_stay() -> None:
    assert redact("a@b.de", RedactionConfig(least_characters=7)).text == "a@b.de"
    with pytest.raises(ConfigError, match="least_characters=0"):
        RedactionConfig(least_characters=0)


def test_kinds_can_be_left_alone() -> None:
    text = f"m = '{MAIL}', '52.94.236.248', '{TOKEN}'\npassword = '{PASSWORD}'\n"
    config = RedactionConfig(emails=False, keys=False, passwords=False, ip_addresses=False, names=False)

    assert redact(text, config).text is text


def test_an_escape_sequence_before_a_value_stays_whole() -> None:
    text = rf"a = 'x\n{MAIL}', '\x41{MAIL}', 'C:\\{MAIL}'"

    result = redact(text, CONFIG)

    assert result.text == r"a = 'x\n<EMAIL>', '\x41<EMAIL>', 'C:\\<EMAIL>'"
    ast.parse(result.text)


def test_a_key_in_escaped_quotes_goes_and_the_notebook_stays_json() -> None:
    text = json.dumps({"source": [f'key = "{TOKEN}"\n', f'pwd = "{PASSWORD}"\n', f'token="{TOKEN[4:]}"']})

    result = redact(text, CONFIG)

    assert json.loads(result.text) == {"source": ['key = "<KEY>"\n', 'pwd = "<PASSWORD>"\n', 'token="<KEY>"']}


def test_a_password_goes_from_a_connection_string_and_the_rest_stays() -> None:
    text = f'c = "Server=sql01;User Id=sa;Password={PASSWORD};Encrypt=True"'

    result = redact(text, CONFIG)

    assert result.text == 'c = "Server=sql01;User Id=sa;Password=<PASSWORD>;Encrypt=True"'


@pytest.mark.parametrize(
    "form",
    [
        "K = '''{0}'''",
        "# {1}",
        'K = "{2}"',
        "K = ({3})",
        "K = b'{2}' + x",
        "K = [\n{4}\n]",
    ],
)
def test_a_private_key_goes_in_every_form_in_which_it_is_written(form: str) -> None:
    rng = random.Random(7)
    key = private_key(rng, 6)
    lines = key.split("\n")
    text = form.format(
        key,
        "\n# ".join(lines),
        key.replace("\n", "\\n"),
        "\n    ".join(f'"{line}\\n"' for line in lines),
        ",\n".join(f"    '{line}'" for line in lines),
    )

    result = redact(text + "\nx = 1\n", CONFIG)

    assert set(result.counts) == {"key"}
    assert not any(line in result.text for line in lines[1:-1])
    assert result.text.endswith("\nx = 1\n")
    ast.parse(result.text)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_planted_files_still_parse_and_keep_every_other_line(seed: int) -> None:
    rng = random.Random(seed)
    path = library_files(20)[seed]
    original = path.read_text(encoding="utf-8")
    clean = redact(original, CONFIG).text
    for kind, line, value in values(rng):
        text = f"{line}\n{original}"

        result = redact(text, CONFIG)

        assert value not in result.text, line
        assert result.counts[kind] >= 1
        assert is_sound(result.text, result.controls)
        assert ast.parse(result.text)
        if kind != "ip_address":  # addresses are numbered in the order in which they come
            assert result.text.endswith("\n" + clean)


@given(
    st.lists(
        st.sampled_from([MAIL, MAIL2, TOKEN, "52.94.236.248", " ", "\n", "x = ", "'", '"', "\\", "é", "<file_sep>"])
    )
)
def test_what_lies_outside_the_spans_is_kept_in_order(parts: list[str]) -> None:
    text = "".join(parts)
    controls = tuple(at for at in range(len(text)) if text.startswith("<file_sep>", at))

    result = redact(text, CONFIG, controls)

    assert result.text.count("<file_sep>") == len(controls)
    assert len(result.controls) >= len(controls)
    assert [c for c in result.text if c in "\n'\"\\é"] == [c for c in text if c in "\n'\"\\é"]
    assert all(result.text[at] == "<" for at in result.controls)


def test_redacting_twice_changes_nothing_more() -> None:
    once = redact(f"m = '{MAIL}'; password = '{PASSWORD}'; h = '52.94.236.248'", CONFIG)

    twice = redact(once.text, CONFIG, once.controls)

    assert (twice.text, twice.controls) == (once.text, once.controls)
