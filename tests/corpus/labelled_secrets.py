"""A labelled set for the search for secrets, built at run time: no secret, real or made up, stands in the repository.

Samples drawn from each rule's pattern measure that the rules are applied, planted values in real files that they are
found where they usually stand, and hard negatives what is taken for a secret and is none. None of it measures how many
secrets of the world the rules know.
"""

import base64
import hashlib
import random
import string
import sysconfig
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from starsmith.corpus.secrets import Rule, compile_pattern, entropy, gitleaks_rules

_SEED = 3
_ALPHANUMERIC = string.ascii_letters + string.digits
_MORE_REPEATS = 8  # above the least that a pattern allows
_ATTEMPTS = 60


@dataclass(frozen=True)
class Labelled:
    """A text, and the value in it that must go; None in a hard negative."""

    group: str
    text: str
    value: str | None
    kind: str = ""


def labelled_set(files: int = 40) -> list[Labelled]:
    """Always the same set on one Python version: its library's files are what values are planted in."""
    rng = random.Random(_SEED)
    return [*rule_samples(rng, 3), *planted(rng, files), *hard_negatives(rng)]


def rule_samples(rng: random.Random, each: int) -> Iterator[Labelled]:
    """Texts that match a rule of gitleaks and have the entropy that it asks for."""
    for rule in gitleaks_rules():
        made = 0
        for _ in range(_ATTEMPTS):
            sample = _sample(rule, rng)
            if sample is not None:
                made += 1
                yield sample
            if made == each:
                break


def _sample(rule: Rule, rng: random.Random) -> Labelled | None:
    text = generate(rule.pattern, rng)
    if rule.keywords and not any(word.decode() in text.lower() for word in rule.keywords):
        text = f"# {rule.keywords[0].decode()}\n{text}"
    data = text.encode("latin-1")
    match = compile_pattern(rule.pattern).search(data)
    if match is None:
        return None
    groups = [rule.group] if rule.group else [*range(1, match.re.groups + 1), 0]
    start, end = next(match.span(group) for group in groups if match.span(group)[0] < match.span(group)[1])
    secret = data[start:end]
    if rule.entropy and entropy(secret) <= rule.entropy + 0.1:
        return None
    if any(allowed.covers(data, match, secret) for allowed in rule.allowed):
        return None
    return Labelled(f"rule {rule.name}", text + "\n", secret.decode("latin-1"), rule.kind)


def generate(pattern: str, rng: random.Random) -> str:
    """A random text that the pattern matches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return "".join(_draw(parser.parse(python_form(pattern)), rng))


def python_form(pattern: str) -> str:
    """RE2's dialect in Python's: flags in the middle become groups."""
    pattern = pattern.replace("[[:alnum:]]", "[a-zA-Z0-9]").replace(r"\z", r"\Z")
    out, open_flags, in_class, at = [], [0], False, 0
    while at < len(pattern):
        if pattern[at] == "\\":
            out.append(pattern[at : at + 2])
            at += 2
            continue
        if not in_class and pattern.startswith("(?i)", at):
            out.append("(?i:")
            open_flags[-1] += 1
            at += 4
            continue
        character = pattern[at]
        in_class = character == "[" or (in_class and character != "]")
        if not in_class and character == "(":
            open_flags.append(0)
        if not in_class and character == ")":
            out.append(")" * open_flags.pop())
        out.append(character)
        at += 1
    return "".join(out) + ")" * open_flags.pop()


def _draw(tree: Any, rng: random.Random) -> Iterator[str]:
    for kind, argument in tree:
        if kind is op.LITERAL:
            yield chr(argument)
        elif kind is op.ANY or kind is op.NOT_LITERAL:
            yield rng.choice(string.ascii_lowercase)
        elif kind is op.IN:
            yield _one_of(argument, rng)
        elif kind is op.BRANCH:
            yield from _draw(rng.choice(argument[1]), rng)
        elif kind is op.SUBPATTERN:
            yield from _draw(argument[3], rng)
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            least, most, inner = argument
            extra = 0 if kind is op.MIN_REPEAT else rng.randint(0, _MORE_REPEATS)
            for _ in range(min(int(most), int(least) + extra)):
                yield from _draw(inner, rng)


def _one_of(choices: Any, rng: random.Random) -> str:
    allowed: list[str] = []
    for kind, argument in choices:
        if kind is op.LITERAL:
            allowed.append(chr(argument))
        elif kind is op.RANGE:
            allowed += map(chr, range(argument[0], argument[1] + 1))
        elif kind is op.CATEGORY:
            allowed += {op.CATEGORY_DIGIT: string.digits, op.CATEGORY_SPACE: " "}.get(argument, _ALPHANUMERIC)
        elif kind is op.NEGATE:
            taken = [chr(value) for name, value in choices if name is op.LITERAL]
            return rng.choice([letter for letter in _ALPHANUMERIC if letter not in taken])
    solid = [letter for letter in allowed if letter in _ALPHANUMERIC]  # a space or slash would often end the secret
    return rng.choice(solid or allowed)


def _letters(rng: random.Random, count: int, alphabet: str = _ALPHANUMERIC) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def private_key(rng: random.Random, lines: int = 12, line_end: str = "\n") -> str:
    """A private key's form; its body is noise."""
    body = [base64.b64encode(rng.randbytes(48)).decode() for _ in range(lines)]
    return line_end.join(["-----BEGIN RSA PRIVATE" + " KEY-----", *body, "-----END RSA PRIVATE" + " KEY-----"])


def values(rng: random.Random) -> list[tuple[str, str, str]]:
    """(kind, line that holds it, value)."""
    word = _letters(rng, 5, string.ascii_lowercase) + str(rng.randint(10, 99)) + "!" + _letters(rng, 4)
    mail = f"{_letters(rng, 6, string.ascii_lowercase)}.{_letters(rng, 7, string.ascii_lowercase)}@"
    mail += f"{_letters(rng, 8, string.ascii_lowercase)}.org"
    address = f"{rng.choice((52, 81, 93, 151))}.{rng.randint(20, 250)}.{rng.randint(20, 250)}.{rng.randint(20, 250)}"
    address6 = f"2a01:4f8:{rng.randrange(4096, 65536):x}:{rng.randrange(4096, 65536):x}::{rng.randrange(1, 4096):x}"
    token = "ghp" + "_" + _letters(rng, 36)
    amazon = "AKIA" + _letters(rng, 16, "ABCDEFGHJKLMNPQRSTUVWXYZ234567")
    noise = _letters(rng, 40)
    claims = [base64.urlsafe_b64encode(text).decode().rstrip("=") for text in (b'{"alg":"HS256"}', rng.randbytes(30))]
    signed = f"{claims[0]}.ey{claims[1]}.{_letters(rng, 43)}"
    basic = base64.b64encode(f"admin7:{word}".encode()).decode()
    return [
        ("email", f'AUTHOR = "{mail}"', mail),
        ("email", f"# written by someone <{mail}>", mail),
        ("ip_address", f'HOST = "{address}"', address),
        ("ip_address", f'ENDPOINT = "http://[{address6}]:80/"', address6),
        ("password", f'password = "{word}"', word),
        ("password", f"config = {{'db_password': '{word}'}}", word),
        ("password", f"URL = 'postgres://service:{word}@db.internal/orders'", word),
        ("password", f"HEADERS = {{'Authorization': 'Basic {basic}'}}", basic),
        ("key", f'TOKEN = "{token}"', token),
        ("key", f"aws_access_key_id = '{amazon}'", amazon),
        ("key", f'api_key = "{noise}"', noise),
        ("key", f"jwt = '{signed}'", signed),
        ("key", f"PEM = '''{private_key(rng)}'''", "-----BEGIN"),
        ("key", f'PEM = "{private_key(rng, 12, chr(92) + "n")}"', "-----BEGIN"),
    ]


def library_files(count: int) -> list[Path]:
    """Modules of the running Python's library, always the same ones."""
    folder = Path(sysconfig.get_path("stdlib"))
    sizes = ((path, path.stat().st_size) for path in sorted(folder.glob("*.py")))
    return [path for path, size in sizes if 2_000 < size < 60_000][:count]


def planted(rng: random.Random, files: int) -> Iterator[Labelled]:
    """A line with a value ahead of a real file."""
    for path in library_files(files):
        text = path.read_text(encoding="utf-8")
        kind, line, value = rng.choice(values(rng))
        yield Labelled(f"planted {kind}", f"{line}\n{text}", value, kind)


def hard_negatives(rng: random.Random) -> Iterator[Labelled]:
    """One line each that looks like a secret."""
    noise = rng.randbytes(64)
    digest, digest1 = hashlib.sha256(noise).hexdigest(), hashlib.sha1(noise).hexdigest()
    sha512 = base64.b64encode(hashlib.sha512(noise).digest()).decode()
    lines = [
        f"commit {digest1}",
        f'"resolved": "https://host.invalid/p/-/p-1.0.0.tgz#{digest1}",',
        f'"integrity": "sha512-{sha512}"',
        f'<script integrity="sha384-{sha512[:64]}" crossorigin="anonymous"></script>',
        f"sha256 = '{digest}'",
        f"--hash=sha256:{digest} \\",
        f"EXPECTED = '{hashlib.md5(noise).hexdigest()}'  # md5 of the fixture",
        f'id = "{uuid.UUID(bytes=noise[:16])}"',
        f"vector = base64.b64decode('{base64.b64encode(noise).decode()}')",
        f"0x{digest[:16]}, 0x{digest[16:32]}, 0x{digest[32:48]},",
        "!function(e,t){var n=e[r(12)].a7b,o=t.prototype;return n(o,e.k9Xz2,t.Qp4)}(this,window);",
        "AWS_ACCESS_KEY_ID = '" + "AKIA" + "IOSFODNN7EXAMPLE'",
        "AWS_SECRET_ACCESS_KEY = '" + "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY'",
        "password = 'changeme'",
        'password = "${DB_PASSWORD}"',
        "password = os.environ['DB_PASSWORD']",
        "password = getpass.getpass('Password: ')",
        "password: <your-password-1>",
        '{"password": "{{ vault_password2 }}"}',
        "<input type='password' name='password2' placeholder='Password'>",
        "password_label = 'Enter a password with 8 characters'",
        "def connect(user: str, password: str = DEFAULT_2) -> None:",
        "url = 'postgres://user:password@localhost/test'",
        "url = f'https://{user}:{password}@{host}/'",
        "git clone git@github.com:owner/repository.git",
        "mail = 'user@example.com'",
        "y = x@weights.transpose(0, 1) + q@k.mT",
        "import x from 'lodash@4.17.21'",
        "@pytest.mark.parametrize('a', [1])",
        "BIND = '127.0.0.1', '0.0.0.0', '192.168.1.17', '203.0.113.9'",
        "DNS = ['8.8.8.8', '2001:4860:4860::8888']",
        "version = '12.34.56.78'",
        "# see section 15.4.4.18 of the standard",
        "AssemblyVersion('4.10.12.3')",
        "std::vector<dead::beef> abcd::add(1);",
        "time = '2024:01:02 10:11:12'",
        'BEGIN = "-----BEGIN PRIVATE' + ' KEY-----"\n' + "def read(text):\n    return text.strip()\n" * 3
        + 'END = "-----END PRIVATE' + ' KEY-----"',
        "token = next(tokens_by_name[current_token_index2])",
        "key = 'ctrl+shift+alt+f12'",
        "public_key = 'ssh-ed25519'",
    ]  # fmt: skip
    for line in lines:
        yield Labelled("negative", line + "\n", None)


def found_on_line(sample: Labelled, lines: set[int]) -> bool:
    """Whether any of these lines, from 1, holds the value."""
    assert sample.value is not None
    start = sample.text.find(sample.value)
    first = sample.text.count("\n", 0, start) + 1
    last = first + sample.value.count("\n")
    return any(first <= line <= last for line in lines)
