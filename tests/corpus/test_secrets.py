import base64
import json
import math
import random
import string
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from itertools import product
from pathlib import Path
from re import _compiler as compiler  # type: ignore[attr-defined]
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.labelled_secrets import hard_negatives, labelled_set, library_files, private_key, python_form, values
from starsmith.corpus.secrets import (
    EMAIL,
    IP_ADDRESS,
    KEY,
    PASSWORD,
    Rule,
    Scanner,
    can_be_generic_key,
    compile_pattern,
    entropy,
    gitleaks_rules,
    more_entropy,
    scanner,
)

ALL = frozenset({EMAIL, KEY, PASSWORD, IP_ADDRESS})
# longer than what is looked at of a value, and than what stands around a match
BLOB = random.Random(1).randbytes(200).hex()
NOISE = "".join(random.Random(9).choices(string.ascii_letters + string.digits, k=200))
HEX = random.Random(9).randbytes(100).hex()
# Texts in which one match, or one part that is looked at, runs into the next, and matches are as long as they can be.
PIECES = st.sampled_from(
    [
        *("api_key", "token", "password", "discord", "twitter", "sourcegraph", "curl -u ", "https://user:k3vD9zQ"),
        *(
            "\r\n",
            " ",
            "\n",
            " = ",
            "=",
            ":=",
            '"',
            "'",
            "`",
            "\\n",
            ";",
            ".",
            "-",
            "/",
            "@",
            "é",
            " " * 200,
            "x\n" * 200,
        ),
        *(
            "a8Kd03mXz91L",
            "0123456789abcdef" * 2,
            "AKIA7QWERTYUIOPASDFG",
            "52.94.236.248",
            "2a01:4f8",
            ":1c0c::2",
            ".7",
        ),
        *(
            "pass",
            "db_pass",
            "--password ",
            "'] = '",
            "', '",
            " value=",
            "Server=a;",
            "Password=",
            "SECRET_KEY",
            "key=",
        ),
        *("PASSWORD '", "psk", "base64:", "whsec_", "123456789:AA", "define('DB_PASSWORD', '", "login a ", '\\"'),
    ]
)
ASSIGNMENTS = st.tuples(
    st.sampled_from(["", "my_", "x." * 30, "é"]),
    st.sampled_from(["key", "API", "credential", "secret_key", "passwd", "asana", "twitter", "password", "dbPass"]),
    st.sampled_from(["", "_id", " of the thing", "-" * 20, "' '", "\n"]),
    st.sampled_from(["=", " = ", ":", ":::=", "=>", ",", ">"]),
    st.sampled_from(["", '"', "'", "= \n\n'", " ", "\n  "]),
    st.sampled_from(["a8Kd03mXz91L", "0123456789abcdef" * 2, BLOB[:150], "some_long_name", "hunter2hunter", BLOB]),
    st.sampled_from(["", '"', "'", ";", "\n", "\\n", "\n" + "x\n" * 200]),
).map("".join)
ADDRESSES = st.tuples(
    st.sampled_from(["joe", "a.b" * 21, "x" * 80]),
    st.just("@"),
    st.sampled_from(["elsewhere.de", "sub-domain." * 5 + "org", ("y" * 60 + ".") * 6 + "technology", "example.com"]),
    st.sampled_from(["", " ", "\n" + "x\n" * 400]),
).map("".join)


def found(text: str) -> list[tuple[str, str]]:
    data = text.encode()
    return [(span.kind, data[span.start : span.end].decode()) for span in scanner(ALL).find(data)]


@pytest.mark.slow
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


@pytest.mark.slow
@settings(max_examples=300)
@given(st.lists(ASSIGNMENTS | ADDRESSES | PIECES, max_size=12))
def test_looking_only_near_the_gates_finds_what_a_run_over_the_whole_file_finds(pieces: list[str]) -> None:
    pytest.importorskip("hyperscan")
    data = "".join(pieces).encode()

    assert scanner(ALL, prefilter=True).find(data) == scanner(ALL, prefilter=False).find(data)


# what a part of a far match is of, as far as the pattern takes it
ALPHABETS = (string.ascii_letters + string.digits, string.printable[:95], " \t", "\"'`", "\\\"'", "\n ")
FAR_MATCHES, WITH_A_HINT, TRIES = 10, 200, 400


def far_matches(rule: Rule, rng: random.Random) -> Iterator[bytes]:
    """Texts with a match each, most of its parts as long as the pattern lets them be: without end, past the reach."""
    wanted, tree = WITH_A_HINT if rule.hint else FAR_MATCHES, parser.parse(python_form(rule.pattern))
    for attempt in range(TRIES):
        drawn = draw(tree, rule.reach + 50, 1.0 if attempt % 2 else 0.7, rng, ALPHABETS[0])
        text = b"\n".join((*rule.keywords[:1], drawn.encode(), b"x", b""))
        if compile_pattern(rule.pattern).search(text):
            wanted -= 1
            yield text
        if not wanted:
            return


def draw(tree: Any, longest: int, share: float, rng: random.Random, letters: str) -> str:
    """A text for a pattern, this share of its repeats as long as they can be; `longest` ends those without end."""
    parts = []
    for kind, argument in tree:
        if kind is op.BRANCH:
            parts.append(draw(rng.choice(argument[1]), longest, share, rng, letters))
        elif kind is op.SUBPATTERN:
            parts.append(draw(argument[3], longest, share, rng, letters))
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, inner = argument
            count = least if rng.random() > share else longest if most is op.MAXREPEAT else most
            alphabet = rng.choice(ALPHABETS)
            parts += [draw(inner, longest, share, rng, alphabet) for _ in range(max(count, least))]
        elif kind is not op.AT:
            one = (kind, tuple(argument) if isinstance(argument, list) else argument)
            parts.append(rng.choice(fitting(one, letters) or fitting(one, string.printable)))
    return "".join(parts)


@cache
def fitting(one: tuple[Any, Any], letters: str) -> str:
    """Those that a part of a pattern for one byte takes."""
    kind, argument = one
    part = parser.SubPattern(parser.State(), [(kind, list(argument) if isinstance(argument, tuple) else argument)])
    return "".join(filter(compiler.compile(part).match, letters))


@pytest.mark.slow
def test_matches_at_the_far_ends_of_what_patterns_allow_are_found_with_and_without_hyperscan() -> None:
    pytest.importorskip("hyperscan")
    rules = tuple(
        replace(rule, judge=None, **({} if rule.hint else {"entropy": 0.0, "allowed": ()}))  # what a hint relies on
        for rule in scanner(ALL).rules
    )
    fast, plain = Scanner(rules, prefilter=True), Scanner(rules, prefilter=False)
    texts = {rule.name: list(far_matches(rule, random.Random(rule.name))) for rule in rules}

    lost = [name for name, far in texts.items() if any(fast.find(text) != plain.find(text) for text in far)]

    assert [name for name, far in texts.items() if not far] == []
    assert lost == []


def test_a_vertical_tab_is_a_blank_with_hyperscan_no_more_than_without() -> None:
    pytest.importorskip("hyperscan")
    data = b"redis://joe:k3v\vD9zQ@cache:6379/0"

    spans = scanner(ALL, prefilter=True).find(data)

    assert [data[span.start : span.end] for span in spans] == [b"k3v\vD9zQ"]
    assert spans == scanner(ALL, prefilter=False).find(data)


def test_without_a_home_the_compiled_rules_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hyperscan")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    rule = Rule(name="n", kind=KEY, rank=0, pattern="k[0-9]")

    assert len(Scanner((rule,), prefilter=True).find(b"k1")) == 1


def test_matches_far_apart_and_side_by_side_are_all_found_and_each_once() -> None:
    pytest.importorskip("hyperscan")
    rule = Rule(name="n", kind=KEY, rank=0, pattern=r"\bk[0-9]{1,9}\b", gate="k[0-9]", reach=10)
    data = b"k1 k23 ak4 k5" + b"." * 50 + b"k6k k7\nk8" + b"\n" * 30 + b"k999999999 k9999999999"

    spans = Scanner((rule,), prefilter=True).find(data)

    found = [data[span.start : span.end] for span in spans]
    assert found == [b"k1", b"k23", b"k5", b"k7", b"k8", b"k999999999"]


def test_a_file_with_very_many_places_is_run_through_as_a_whole() -> None:
    pytest.importorskip("hyperscan")
    data = b"a@b " * 20_000 + b"joe" + b"@elsewhere.de"

    assert [(span.start, span.end) for span in scanner(ALL).find(data)] == [(80_000, len(data))]


@pytest.mark.parametrize(
    ("value", "can"),
    [
        ("a8Kd03mXz91L", True),
        ("some_long.name-Of", False),
        ("aaaa1111bbbb2222", False),
        ("a" * 300 + "1", True),
        ("a/bcdefghijk", True),
    ],
)
def test_a_place_where_a_generic_key_cannot_be_is_told_by_its_value(value: str, can: bool) -> None:
    data = f"key = {value};".encode()

    assert can_be_generic_key(data, len("key = ") + 10) is can


def test_what_is_told_of_a_generic_value_is_what_its_rule_asks_for() -> None:
    rule = next(rule for rule in gitleaks_rules() if rule.name == "generic-api-key")

    assert rule.entropy > math.log2(11)
    assert any(allowed.target == "secret" and "^[a-zA-Z_.-]+$" in allowed.patterns for allowed in rule.allowed)


def test_few_different_bytes_have_little_entropy() -> None:
    for value, least in product((b"abab", b"abcd", b"abcdefgh1234", b"a8Kd03mXz91L"), (0.5, 1.0, 2.0, 3.0, 3.5)):
        assert more_entropy(value, least) == (entropy(value) > least)


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


def test_a_private_key_is_one_span_from_begin_to_end() -> None:
    key = private_key(random.Random(1))

    assert found(f"x = 1\n{key}\ny = 2\n") == [(KEY, key)]


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ('"client_secret": "{}", "x": 1', "GOCSPX-" + NOISE[:28]),
        ('src="https://maps.googleapis.com/maps/api/js?key={}&callback=f"', "AIza" + NOISE[:35]),
        ("discord.Client().login('{}');", "MT" + NOISE[:22] + "." + NOISE[22:28] + "." + NOISE[30:68]),
        ('URL = "https://discord.com/api/webhooks/986063799538749032/{}"', NOISE[:68]),
        ('tgbotapi.NewBotAPI("{}")', "5110642232:AA" + NOISE[:33]),
        ("https://api.telegram.org/bot{}/getMe", "5110642232:AA" + NOISE[:33]),
        ("echo {} | docker login -u acme --password-stdin", "dckr_" + "pat_" + NOISE[:27]),
        ('Api("{}").table(ID)', "pat" + NOISE[:14] + "." + HEX[:64]),
        ("Authorization: SSWS {}", "00" + NOISE[:40]),
        ('key: "{}"', "AAAA" + NOISE[:7] + ":APA91b" + NOISE[20:154]),
        ('default = "{}"', "whsec_" + NOISE[:32]),
        ("conn = 'AccountName=a;{};EndpointSuffix=x'", "AccountKey=" + NOISE[:86] + "=="),
        ('proxy_set_header Authorization "Bearer {}";', NOISE[:40]),
    ],
)
def test_keys_are_found_by_the_form_that_their_service_documents(form: str, value: str) -> None:
    spans = found(form.format(value) + "\n")

    assert any(kind == KEY and value in secret for kind, secret in spans), spans


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ('SECRET_KEY = "{}"', "8aD2l**VCwbqT0VKs-" + "RJ0X-dJ-VHjw1Y*T=UtvaW"),
        ("SECRET_KEY = 'django-insecure-{}'", "k(s9=w#2b!x7^v" + "$1q&zc8_m)4t%e6r3y5"),
        ("APP_KEY=base64:{}", base64.b64encode(random.Random(9).randbytes(32)).decode()),
        ("  - DD_API_KEY={}", "dbf7ac22bb322d82" + "cb279efb17c5d8fa"),
        ("$config['encryption_key'] = '{}';", NOISE[:32]),
        ("define('AUTH_KEY',         '{}');", "wiCHy!e=^0y5-0b2 rJ1V9Z" + "VFr+xWvJQq8wQ0HLu2Zg#5D5se6^oOI"),
        ('<add key="EncryptionKey" value="{}" />', base64.b64encode(random.Random(8).randbytes(32)).decode()),
        ("<key>ClientSecret</key>\n\t<string>{}</string>", "4b6ce5ee6481e05d" + "bbb415ca99069ef4"),
        ("Set-Cookie: sessionid={}; HttpOnly; Path=/", "qdcw76fdfw7ofh1a" + "w5yfxraoly3736f3"),
        ('"source": ["api_key = \\"{}\\"\\n"]', NOISE[:40]),
    ],
)
def test_keys_are_found_by_their_name(form: str, value: str) -> None:
    spans = found(form.format(value) + "\n")

    assert any(kind == KEY and value in secret for kind, secret in spans), spans


@pytest.mark.parametrize(
    "line",
    [
        'storageKey: "com.app.settings.v2.user"',
        'session_key = "2021-01-01T00:00:00Z"',
        "client_secret: ${{ secrets.CLIENT_SECRET_2 }}",
        'api_key = "<your-api-key-12345>"',
        'api_key = "insert_9_letters_here_please"',
        'secret_key = "change-me-in-production-2"',
        '"AWS::AppSync::ApiKey": "3d104ea0be48564b",',
        "define('AUTH_KEY', 'put your unique phrase here');",
        "define('CACHE_KEY_SALT', 'example.com:wordpress-2');",
        'app_key = "1.2.840.113549.1.1.11"',
        'private_key = "/etc/ssl/private/server2.pem"',
        'master_secret = "LabelOfTheMasterSecretVersion2"',
        'cookieSecret: "Local.Development.Cookie2"',
        '<string name="key_title_2">Reihenfolge2DerTasten</string>',
        '<add key="TokenUrl" value="https://login.acme.io/oauth2/v2.0/token" />',
        "Cookie: sessionid=...; token=<value>",
        "APP_KEY=base64:",
        "Markers.Nothing.Discord MTextAreaElementWithName.prefix.abcdefghijklmnopqrstuvwxyzabc",
        "time 12345678:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "whsec_..., gsk_..., r8_...",
    ],
)
def test_names_paths_dates_and_placeholders_are_no_keys(line: str) -> None:
    assert found(line + "\n") == [], line


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
        ("iptables -A INPUT -s 52.94.236.248 -j DROP", "52.94.236.248"),
        ("ping 2.5.29.17", "2.5.29.17"),
    ],
)
def test_public_addresses_are_found(line: str, value: str) -> None:
    assert found(line) == [(IP_ADDRESS, value)]


@pytest.mark.parametrize(
    "line",
    [
        "1.2.3.4.5",
        "lib-52.94.236.248.jar",
        "requests==52.94.236.1",
        "300.94.236.248",
        "5.6.7.9",
        "2.5.29.17 subjectAltName",
        'ED25519 = ObjectIdentifier("1.3.101.112")',
        "Fixed in 3.2.14.1, with the rest",
        "deps: patch V8 to 9.4.146.26",
    ],
)
def test_dotted_numbers_that_are_no_address_are_left(line: str) -> None:
    assert found(line) == []
