"""Finds what must not be learned: bytes of a file in, spans of keys, passwords and personal data out.

One Hyperscan database of all rules says in one pass which rules can match anywhere in the file; only those are run, by
re2, which gives the spans. So a file without a secret costs one fast scan, and the spans are re2's whether or not
Hyperscan is there: without it every rule whose keyword occurs is run, several times slower, with the same result.
Entropy, allow-lists and stop words are gitleaks', whose rules come in
`data/secrets.json` (see tools/make_secret_rules.py).
Paths play no part: a secret is one in any file.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from itertools import chain
from pathlib import Path
from threading import local
from typing import Any

EMAIL, KEY, PASSWORD, NAME, IP_ADDRESS = "email", "key", "password", "name", "ip_address"

# Where spans overlap, the first in this order decides what stands in their place: a key of a known form, a password,
# a key by its name alone ("generic"), then addresses and names.
KNOWN_KEY, A_PASSWORD, GENERIC_KEY, AN_EMAIL, AN_IP_ADDRESS, A_NAME = range(6)

_LARGEST_AUTOMATON = 64 << 20  # bytes that re2 may use for one rule; past it, it is slower and as right
_EXAMPLE = b"example"  # AKIAIOSFODNN7EXAMPLE and its like are in documentation everywhere


@dataclass(frozen=True, slots=True)
class Span:
    """Something found, by its place."""

    start: int
    end: int
    kind: str
    rank: int = field(compare=False)  # of KNOWN_KEY .. A_NAME
    rule: str = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What makes a match no secret."""

    patterns: tuple[Any, ...]  # compiled by re2
    stopwords: tuple[bytes, ...]  # lower case; one of them in the secret is enough
    target: str  # what the patterns look at: "secret", "match" or "line"

    def covers(self, data: bytes, match: Any, secret: bytes) -> bool:
        """Whether this list lets the secret stand."""
        looked_at = secret
        if self.target == "match":
            looked_at = match.group()
        elif self.target == "line":
            end = data.find(b"\n", match.end())
            looked_at = data[data.rfind(b"\n", 0, match.start()) + 1 : end if end >= 0 else len(data)]
        if any(pattern.search(looked_at) for pattern in self.patterns):
            return True
        return self._stopping is not None and self._stopping.search(secret.lower()) is not None

    @cached_property
    def _stopping(self) -> Any:
        """All stop words as one pattern: some rules have more than a thousand."""
        words = sorted(self.stopwords)
        return compile_pattern("|".join(re.escape(word.decode("latin-1")) for word in words)) if words else None


Judge = Callable[[bytes, int, int], bool]  # (file, start, end) -> whether the span is what its rule looks for


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One pattern, and what its matches must still pass."""

    name: str
    kind: str
    rank: int
    pattern: str  # re2 syntax over bytes
    gate: str = ""  # a simpler pattern that matches in every file in which `pattern` does; "" takes `pattern`
    group: int = 0  # which group is the secret; 0 the first that is not empty, or the whole match
    entropy: float = 0.0  # bits a character that the secret must have more of; 0 asks nothing
    keywords: tuple[bytes, ...] = ()  # lower case; one of them must be in the file, where there are any
    allowed: tuple[Allowed, ...] = ()
    judge: Judge | None = None

    def find(self, data: bytes, compiled: Any) -> Iterator[Span]:
        """Every match in a file that is a secret."""
        for match in compiled.finditer(data):
            start, end = self._secret(match)
            secret = data[start:end]
            if start == end or (self.entropy and entropy(secret) <= self.entropy):
                continue
            if any(allowed.covers(data, match, secret) for allowed in self.allowed):
                continue
            if self.judge is None or self.judge(data, start, end):
                yield Span(start, end, self.kind, self.rank, self.name)

    def _secret(self, match: Any) -> tuple[int, int]:
        if self.group:
            return int(match.start(self.group)), int(match.end(self.group))
        spans = (match.span(group) for group in range(1, match.re.groups + 1))
        start, end = next((span for span in spans if span[0] < span[1]), match.span())
        return int(start), int(end)


class Scanner:
    """All rules of some kinds, compiled once; `find` may be called from any thread."""

    def __init__(self, rules: tuple[Rule, ...], *, prefilter: bool | None = None) -> None:
        """`prefilter` asks for Hyperscan or for none; None takes it where it can be imported."""
        self.rules = rules
        self._compiled = [compile_pattern(rule.pattern) for rule in rules]
        self._gate = _by_keyword(rules) if prefilter is False else _gate(rules, required=prefilter is True)

    def find(self, data: bytes) -> list[Span]:
        """The spans of a file, in order, overlapping ones included."""
        candidates = self._gate(data) if data else []
        if not candidates:
            return []
        lowered = data.lower()
        spans: list[Span] = []
        for index in sorted(candidates):
            rule = self.rules[index]
            if not rule.keywords or any(word in lowered for word in rule.keywords):
                spans += rule.find(data, self._compiled[index])
        return sorted(spans, key=lambda span: (span.start, span.end, span.rank, span.rule))


@cache
def scanner(kinds: frozenset[str], *, prefilter: bool | None = None) -> Scanner:
    """The scanner for these kinds. Hyperscan needs about a second to compile it, once a process."""
    from starsmith.corpus.personal_data import own_rules

    chosen = tuple(rule for rule in chain(gitleaks_rules(), own_rules()) if rule.kind in kinds)
    return Scanner(chosen, prefilter=prefilter)


@cache
def gitleaks_rules() -> tuple[Rule, ...]:
    """The rules of `data/secrets.json`."""
    raw = json.loads(resources.files("starsmith.corpus").joinpath("data/secrets.json").read_text(encoding="utf-8"))
    everywhere = _allowed(raw["allowed"])
    example = Allowed(patterns=(), stopwords=(_EXAMPLE,), target="secret")
    return tuple(
        Rule(
            name=rule["id"],
            kind=rule["kind"],
            rank=_rank(rule),
            pattern=rule["regex"],
            group=rule["group"],
            entropy=rule["entropy"],
            keywords=tuple(word.encode() for word in rule["keywords"]),
            allowed=(example, everywhere, *map(_allowed, rule["allowed"])),
            judge=_JUDGES.get(rule["id"]),
        )
        for rule in raw["rules"]
    )


def _rank(rule: dict[str, Any]) -> int:
    if rule["kind"] == PASSWORD:
        return A_PASSWORD
    return GENERIC_KEY if rule["id"].startswith("generic") else KNOWN_KEY


def _allowed(raw: dict[str, Any]) -> Allowed:
    return Allowed(
        patterns=tuple(map(compile_pattern, raw.get("regexes", []))),
        stopwords=tuple(word.lower().encode() for word in raw.get("stopwords", [])),
        target=raw.get("regexTarget", "secret"),
    )


def entropy(value: bytes) -> float:
    """Shannon's, in bits a byte."""
    counts = [value.count(byte) for byte in set(value)]
    return math.log2(len(value)) - sum(count * math.log2(count) for count in counts) / len(value) if value else 0.0


_LONGEST_KEY = 20_000  # bytes; a 16,384-bit RSA key has 13,000
_LEAST_BODY = 40  # characters in the longest run of base64: a line of a key has 64, a short curve's key 44


def private_key_body(data: bytes, start: int, end: int) -> bool:
    """Whether what stands between BEGIN and END is a key: the two lines alone are in every program that reads keys."""
    if end - start > _LONGEST_KEY:
        return False
    head = data.index(b"-----", start + 5) + 5
    foot = data.rfind(b"-----END", head, end)
    body = data[head : foot if foot >= 0 else end - 5]
    runs = [match.end() - match.start() for match in compile_pattern(r"[a-zA-Z0-9+/=]{8,}").finditer(body)]
    return bool(runs) and max(runs) >= _LEAST_BODY and sum(runs) >= len(body) // 2


# with a separator: a word without one can be a token with few digits
_NUMBERED_NAME = r"^[A-Za-z]+(?:[0-9]{0,4}[A-Za-z]*[_./+-][A-Za-z]*|[_./+-][A-Za-z]*[0-9]{0,4})[A-Za-z_./+=-]*$"


def no_name(data: bytes, start: int, end: int) -> bool:
    """Whether a value is more than a name with a number in it, such as `win32api.RegEnumKey` or `Europe/Dublin`."""
    return not compile_pattern(_NUMBERED_NAME).search(data[start:end])


_JUDGES: dict[str, Judge] = {"private-key": private_key_body, "generic-api-key": no_name}


@cache
def compile_pattern(pattern: str) -> Any:
    """A pattern over bytes: Latin-1 to re2, so that a byte is a character and offsets are those of the file."""
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _LARGEST_AUTOMATON
    options.log_errors = False
    return re2.compile(pattern.encode("latin-1"), options)


def _gate(rules: tuple[Rule, ...], *, required: bool) -> Callable[[bytes], list[int]]:
    try:
        import hyperscan
    except ImportError:  # no wheel for this processor
        if required:
            raise
        return _by_keyword(rules)
    return _by_hyperscan(rules, hyperscan)


def _by_keyword(rules: tuple[Rule, ...]) -> Callable[[bytes], list[int]]:
    """Every rule: `Scanner.find` asks for the keywords itself."""
    return lambda data: list(range(len(rules)))  # noqa: ARG005


def _database(expressions: list[bytes], hyperscan: Any) -> Any:
    """The expressions compiled, or as they were compiled before: that takes a second, and reading it 20 ms."""
    name = hashlib.sha256(b"\0".join([hyperscan.__version__.encode(), *expressions])).hexdigest()[:24]
    cached = Path.home() / ".cache/starsmith" / f"secrets-{name}.hs"
    with suppress(OSError, hyperscan.HyperscanError):  # of another processor, or damaged
        return hyperscan.loadb(cached.read_bytes(), hyperscan.HS_MODE_BLOCK)
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    flags = [hyperscan.HS_FLAG_SINGLEMATCH] * len(expressions)
    database.compile(expressions=expressions, ids=list(range(len(expressions))), elements=len(expressions), flags=flags)
    with suppress(OSError):
        partial = cached.with_name(f"{cached.name}.{os.getpid()}")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(hyperscan.dumpb(database))
        partial.replace(cached)
    return database


def _by_hyperscan(rules: tuple[Rule, ...], hyperscan: Any) -> Callable[[bytes], list[int]]:
    """The rules that match somewhere. One report a rule: where else it matches is for re2 to say."""
    database = _database([(rule.gate or rule.pattern).encode("latin-1") for rule in rules], hyperscan)
    first_scratch = hyperscan.Scratch(database)
    of_thread = local()

    def report(rule: int, start: int, end: int, flags: int, found: list[int]) -> None:  # noqa: ARG001
        found.append(rule)

    def scan(data: bytes) -> list[int]:
        scratch = getattr(of_thread, "scratch", None)
        if scratch is None:  # a scan in progress owns its scratch space
            scratch = of_thread.scratch = first_scratch.clone()
        found: list[int] = []
        database.scan(data, match_event_handler=report, context=found, scratch=scratch)
        return found

    return scan
