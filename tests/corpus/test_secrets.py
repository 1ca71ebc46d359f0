import json
import random
from importlib import resources

import pytest

from corpus.labelled_secrets import hard_negatives, labelled_set, library_files, private_key, values
from starsmith.corpus.secrets import EMAIL, IP_ADDRESS, KEY, PASSWORD, Scanner, entropy, gitleaks_rules, scanner

ALL = frozenset({EMAIL, KEY, PASSWORD, IP_ADDRESS})


def found(text: str) -> list[tuple[str, str]]:
    data = text.encode()
    return [(span.kind, data[span.start : span.end].decode()) for span in scanner(ALL).find(data)]


def test_every_rule_is_applied_to_samples_of_its_pattern() -> None:
    samples = [sample for sample in labelled_set(0) if sample.value is not None]

    missed = [sample.group for sample in samples if not scanner(ALL).find(sample.text.encode())]

    assert len({sample.group for sample in samples}) == len(gitleaks_rules())
    assert len(missed) <= 0.01 * len(samples), missed


def test_rules_come_from_the_data_file_and_each_has_a_pattern() -> None:
    raw = json.loads(resources.files("starsmith.corpus").joinpath("data/secrets.json").read_text())

    assert len(raw["rules"]) == len(gitleaks_rules()) >= 220
    assert all(rule.pattern and rule.kind in (KEY, PASSWORD) for rule in gitleaks_rules())


@pytest.mark.slow
def test_hyperscan_and_re2_alone_find_the_same() -> None:
    pytest.importorskip("hyperscan")
    texts = [sample.text.encode() for sample in labelled_set(10)]
    texts += [path.read_bytes() for path in library_files(60)]
    rules = scanner(ALL).rules

    fast, plain = Scanner(rules, prefilter=True), Scanner(rules, prefilter=False)

    assert [fast.find(text) for text in texts] == [plain.find(text) for text in texts]


def test_an_empty_file_and_one_of_bytes_that_are_no_text_have_no_secret() -> None:
    assert scanner(ALL).find(b"") == []
    assert scanner(ALL).find(bytes(range(256)) * 4) == []


@pytest.mark.parametrize("place", range(14))
def test_a_value_is_found_in_its_usual_place(place: int) -> None:
    kind, line, value = values(random.Random(place))[place]

    spans = found(line + "\n")

    assert any(kind == seen and value in secret for seen, secret in spans), (line, spans)


@pytest.mark.parametrize("sample", list(hard_negatives(random.Random(5))), ids=lambda sample: sample.text[:30])
def test_what_only_looks_like_a_secret_is_left(sample: object) -> None:
    assert found(sample.text) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line",
    [
        "DB_PASSWORD=hunter2hunter",
        "export MYSQL_PWD=x9vbnm",
        "password: k3!vD9_zQ",
        'password := "k3vD9zQ"',
        '"password" => "k3vD9zQ",',
        'const password: string = "k3vD9zQ";',
        '#define WIFI_PASSWORD "k3vD9zQ"',
        "<db:password>k3vD9zQ</db:password>",
        "ALTER USER a IDENTIFIED BY 'k3vD9zQ';",
        "tool --password k3!vD9zQ run",
        r"body = \"{\\\"password\\\": 1}\", \"password\": \"k3vD9zQ\"",
        "redis://:k3vD9zQ@cache:6379/0",
        "if (password == 'k3vD9zQ') {",
        "db.password = `k3vD9zQ`;\r",
    ],
)
def test_passwords_are_found_in_the_ways_languages_assign_them(line: str) -> None:
    assert [kind for kind, _ in found(line + "\n")] == [PASSWORD], line


@pytest.mark.parametrize(
    "line",
    [
        "password = user.password2",
        "password = value2",
        "password = sha256",
        'type="password" name="login2"',
        "password: '%(password)s'",
        'PASSWORD="$(cat file2)"',
        "PWD=$HOME/x2",
        'password = "Passwort"',
        "pwd = '/home/x1'",
        "password = request.form['pass1']",
        '"passwordRegex": "^[a-z0-9]{8,}$"',
        "password = '********'",
        "password = 'test1234'",
        "password = get_secret('db1')",
        '"password": "#{pw1}"',
        "https://host:8080@",
    ],
)
def test_placeholders_names_and_calls_are_no_passwords(line: str) -> None:
    assert found(line + "\n") == [], line


def test_a_private_key_is_one_span_from_begin_to_end() -> None:
    key = private_key(random.Random(1))

    assert found(f"x = 1\n{key}\ny = 2\n") == [(KEY, key)]


def test_entropy_is_shannons_in_bits() -> None:
    assert entropy(b"") == 0
    assert entropy(b"aaaa") == 0
    assert entropy(b"abcd") == pytest.approx(2)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("server = '52.94.236.248'", "52.94.236.248"),
        ("ping 52.94.236.248:", "52.94.236.248"),
        ("dns server 5.6.7.9", "5.6.7.9"),
        ("at 2a01:4f8:1c0c:8a1::2.", "2a01:4f8:1c0c:8a1::2"),
        ("52.94.236.248.", "52.94.236.248"),
    ],
)
def test_public_addresses_are_found(line: str, value: str) -> None:
    assert found(line) == [(IP_ADDRESS, value)]


@pytest.mark.parametrize(
    "line", ["1.2.3.4.5", "lib-52.94.236.248.jar", "requests==52.94.236.1", "300.94.236.248", "5.6.7.9"]
)
def test_dotted_numbers_that_are_no_address_are_left(line: str) -> None:
    assert found(line) == []
