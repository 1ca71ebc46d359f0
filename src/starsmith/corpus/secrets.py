"""Finds what must not be learned: bytes of a file in, spans of keys, passwords and personal data out.

One Hyperscan database of all rules' gates says in one pass which rules can match and where in the file; only those are
run, by re2 and for most rules only near these places, which gives the spans. So a file without a secret costs one fast
scan, and the spans are re2's whether or not Hyperscan is there: without it every rule whose keyword occurs is run over
the whole file, several times slower, with the same result. Entropy, allow-lists and stop words are gitleaks', whose
rules come in `data/secrets.json` (see tools/make_secret_rules.py). Paths play no part: a secret is one in any file.
"""

import hashlib
import json
import math
import os
import re
import string
from collections.abc import Callable, Iterable, Iterator
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
_MOST_PLACES = 10_000  # that are looked at one by one; a file with more for one rule is run through as a whole
_EXAMPLE = "example"  # AKIAIOSFODNN7EXAMPLE and its like are in documentation everywhere
# Keywords that are in one source file of 200 or more. A rule without one of these is looked for by its keywords: words
# with no pattern behind them are what Hyperscan is fastest at.
_COMMON_WORDS = frozenset(
    b"s. ey sk sg. sc_ ext_ pat pat. api- _pub test_ key api auth token access secret linear credential curl "
    b"password passwd pwd authorization identified".split()
)


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

    patterns: tuple[str, ...]  # re2 syntax over bytes; one that is found is enough
    stopwords: tuple[str, ...]  # lower case; one of them in the secret is enough
    target: str  # what the patterns look at: "secret", "match" or "line"

    def covers(self, data: bytes, match: Any, secret: bytes) -> bool:
        """Whether this list lets the secret stand."""
        looked_at = secret
        if self.target == "match":
            looked_at = match.group()
        elif self.target == "line":
            end = data.find(b"\n", match.end())
            looked_at = data[data.rfind(b"\n", 0, match.start()) + 1 : end if end >= 0 else len(data)]
        if self.patterns and self._pattern.search(looked_at):
            return True
        return bool(self.stopwords and self._stopping.search(secret.lower()))

    @cached_property
    def _pattern(self) -> Any:
        """All patterns as one: a search costs more than the pattern it is for."""
        return compile_pattern("|".join(f"(?:{pattern})" for pattern in self.patterns))

    @cached_property
    def _stopping(self) -> Any:
        """All stop words as one pattern: some rules have more than a thousand."""
        return compile_pattern("|".join(map(re.escape, sorted(self.stopwords))))


Judge = Callable[[bytes, int, int], bool]  # (file, start, end) -> whether the span is what its rule looks for
Hint = Callable[[bytes, int], bool]  # (file, end of a match of the gate) -> whether it can be part of a secret


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One pattern, and what its matches must still pass."""

    name: str
    kind: str
    rank: int
    pattern: str  # re2 syntax over bytes
    gate: str = ""  # a simpler pattern that matches in every file in which `pattern` does; "" takes `pattern`
    # Every match of `pattern` has a match of the gate within it, begins at most so many bytes before the end of that,
    # and ends at most so many after it or with the line there; 0 where this does not hold.
    reach: int = 0
    hint: Hint | None = None  # spares re2 most places that the gate reports; only with `reach`
    group: int = 0  # which group is the secret; 0 the first that is not empty, or the whole match
    entropy: float = 0.0  # bits a character that the secret must have more of; 0 asks nothing
    keywords: tuple[bytes, ...] = ()  # lower case; one of them must be in the file, where there are any
    allowed: tuple[Allowed, ...] = ()
    judge: Judge | None = None

    def find(self, data: bytes, compiled: Any, windows: Iterable[tuple[int, int]]) -> Iterator[Span]:
        """Every match in these parts of a file that is a secret."""
        for match in chain.from_iterable(compiled.finditer(data, start, stop) for start, stop in windows):
            start, end = self._secret(match)
            secret = data[start:end]
            if start == end or (self.entropy and not more_entropy(secret, self.entropy)):
                continue
            if any(allowed.covers(data, match, secret) for allowed in self.allowed):
                continue
            if self.judge is None or self.judge(data, start, end):
                yield Span(start, end, self.kind, self.rank, self.name)

    def _secret(self, match: Any) -> tuple[int, int]:
        if self.group:
            return int(match.start(self.group)), int(match.end(self.group))
        for group in range(1, match.re.groups + 1):
            start, end = match.span(group)
            if start < end:
                return int(start), int(end)
        return int(match.start()), int(match.end())

    def has_keyword(self, lowered: bytes) -> bool:
        """Whether a file in lower case can have a match."""
        return not self.keywords or any(word in lowered for word in self.keywords)


class Scanner:
    """All rules of some kinds, compiled once; `find` may be called from any thread."""

    def __init__(self, rules: tuple[Rule, ...], *, prefilter: bool | None = None) -> None:
        """`prefilter` asks for Hyperscan or for none; None takes it where it can be imported."""
        self.rules = rules
        self._compiled = [compile_pattern(rule.pattern) for rule in rules]
        self._gate = _by_keyword(rules) if prefilter is False else _gate(rules, required=prefilter is True)

    def find(self, data: bytes) -> list[Span]:
        """The spans of a file, in order, overlapping ones included."""
        spans: list[Span] = []
        for index, ends in (self._gate(data) if data else {}).items():
            rule = self.rules[index]
            near = rule.reach and 0 < len(ends) <= _MOST_PLACES
            windows = _windows(data, ends, rule) if near else ((0, len(data)),)
            found = list(rule.find(data, self._compiled[index], windows))
            if found and rule.has_keyword(data.lower()):  # not every gate asks for one
                spans += found
        return sorted(spans, key=lambda span: (span.start, span.end, span.rank, span.rule))


def _windows(data: bytes, ends: list[int], rule: Rule) -> Iterator[tuple[int, int]]:
    """The parts of a file around matches of a gate in which a rule can find something, those that overlap made one.

    No match lies across the edge of a part, and re2 sees what stands before and after it. So the matches in all parts
    are, in order, those in the file, and a part can be left out without a change to the others.
    """
    start, stop, wanted = 0, -1, False
    for end in sorted(ends):
        if end - rule.reach > stop:
            if wanted:
                yield start, stop
            start, wanted = end - rule.reach, False
        if end + rule.reach >= stop:
            stop = data.find(b"\n", end + rule.reach) + 1 or len(data)
        wanted = wanted or rule.hint is None or rule.hint(data, end)
    if wanted:
        yield start, stop


@cache
def scanner(kinds: frozenset[str], *, prefilter: bool | None = None) -> Scanner:
    """The scanner for these kinds. Hyperscan compiles it, or reads what it compiled before, once a process."""
    from starsmith.corpus.personal_data import own_rules

    chosen = tuple(rule for rule in chain(gitleaks_rules(), own_rules()) if rule.kind in kinds)
    return Scanner(chosen, prefilter=prefilter)


@cache
def gitleaks_rules() -> tuple[Rule, ...]:
    """The rules of `data/secrets.json`."""
    raw = json.loads(resources.files("starsmith.corpus").joinpath("data/secrets.json").read_text(encoding="utf-8"))
    everywhere = _allowed({**raw["allowed"], "stopwords": [_EXAMPLE, *raw["allowed"]["stopwords"]]})
    return tuple(
        Rule(
            name=rule["id"],
            kind=rule["kind"],
            rank=_rank(rule),
            pattern=rule["regex"],
            gate=rule["gate"] or _word_gate(rule["keywords"]),
            reach=rule["reach"],
            group=rule["group"],
            entropy=rule["entropy"],
            keywords=tuple(word.encode() for word in rule["keywords"]),
            allowed=(*map(_allowed, rule["allowed"]), everywhere),  # its own lets most of its matches stand
            judge=_JUDGES.get(rule["id"]),
            hint=can_be_generic_key if rule["gate"] else None,
        )
        for rule in raw["rules"]
    )


def _word_gate(keywords: list[str]) -> str:
    """The keywords of a rule, if all of them are rare."""
    if any(word.encode() in _COMMON_WORDS for word in keywords):
        return ""
    return f"(?i)(?:{'|'.join(map(re.escape, keywords))})"


def _rank(rule: dict[str, Any]) -> int:
    if rule["kind"] == PASSWORD:
        return A_PASSWORD
    return GENERIC_KEY if rule["id"].startswith("generic") else KNOWN_KEY


def _allowed(raw: dict[str, Any]) -> Allowed:
    return Allowed(
        patterns=tuple(raw.get("regexes", [])),
        stopwords=tuple(word.lower() for word in raw.get("stopwords", [])),
        target=raw.get("regexTarget", "secret"),
    )


def entropy(value: bytes) -> float:
    """Shannon's, in bits a byte."""
    counts = [value.count(byte) for byte in set(value)]
    return math.log2(len(value)) - sum(count * math.log2(count) for count in counts) / len(value) if value else 0.0


def more_entropy(value: bytes, least: float) -> bool:
    """Whether it has more than so many bits a byte; few different bytes cannot, which is quick to see."""
    return len(set(value)) >= 2**least and entropy(value) > least


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


_GENERIC_HEAD = 10  # bytes of the value that the gate of the generic rule takes in
_LONGEST_LOOK = 300  # bytes of a value; a longer one is re2's matter
_GENERIC_VALUE = re.compile(rb"[\w.=+/-]{10,%d}" % _LONGEST_LOOK)
_LEAST_DIFFERENT = 12  # bytes: fewer have less than its 3.5 bits of entropy
_OF_NAMES = (string.ascii_letters + "_.-").encode()  # a value of these alone is on its list


def can_be_generic_key(data: bytes, end: int) -> bool:
    """Whether a generic key can start before the end of a gate: nine in ten are names, which is quick to see."""
    match = _GENERIC_VALUE.match(data, end - _GENERIC_HEAD)
    if match is None:
        return False
    value = match.group()
    if len(value) == _LONGEST_LOOK:
        return True
    return len(set(value)) >= _LEAST_DIFFERENT and bool(value.translate(None, _OF_NAMES))


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


# file -> by the number of each rule that can match, the ends of its gate's matches, or none for anywhere
Gate = Callable[[bytes], dict[int, list[int]]]


def _gate(rules: tuple[Rule, ...], *, required: bool) -> Gate:
    try:
        import hyperscan
    except ImportError:  # no wheel for this processor
        if required:
            raise
        return _by_keyword(rules)
    return _by_hyperscan(rules, hyperscan)


def _by_keyword(rules: tuple[Rule, ...]) -> Gate:
    """Every rule with a keyword in the file."""

    def scan(data: bytes) -> dict[int, list[int]]:
        lowered = data.lower()
        return {index: [] for index, rule in enumerate(rules) if rule.has_keyword(lowered)}

    return scan


def _kept(name: str) -> Path:
    """The file of a compiled database; RuntimeError where the account has no home."""
    return Path.home() / ".cache/starsmith" / f"secrets-{name}.hs"


def _database(expressions: list[bytes], flags: list[int], hyperscan: Any) -> Any:
    """The expressions compiled, or as they were compiled before: that takes 0.4 s, and reading it a few ms."""
    parts = [hyperscan.__version__.encode(), bytes(flags), *expressions]
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
    with suppress(OSError, RuntimeError, hyperscan.HyperscanError):  # none, no home, damaged or of another processor
        return hyperscan.loadb(_kept(name).read_bytes(), hyperscan.HS_MODE_BLOCK)
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=expressions, ids=list(range(len(expressions))), elements=len(expressions), flags=flags)
    with suppress(OSError, RuntimeError):
        partial = _kept(f"{name}.{os.getpid()}")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(hyperscan.dumpb(database))
        partial.replace(_kept(name))
    return database


def _by_hyperscan(rules: tuple[Rule, ...], hyperscan: Any) -> Gate:
    """The rules whose gates match: a report for each place where `reach` says what a place is worth, else one."""
    flags = [0 if rule.reach else hyperscan.HS_FLAG_SINGLEMATCH for rule in rules]
    database = _database([(rule.gate or rule.pattern).encode("latin-1") for rule in rules], flags, hyperscan)
    first_scratch = hyperscan.Scratch(database)
    of_thread, everywhere = local(), _by_keyword(rules)

    def report(rule: int, start: int, end: int, flags: int, found: dict[int, list[int]]) -> None:  # noqa: ARG001
        found.setdefault(rule, []).append(end)

    def scan(data: bytes) -> dict[int, list[int]]:
        if b"\v" in data:  # a blank to Hyperscan and none to re2
            return everywhere(data)
        scratch = getattr(of_thread, "scratch", None)
        if scratch is None:  # a scan in progress owns its scratch space
            scratch = of_thread.scratch = first_scratch.clone()
        found: dict[int, list[int]] = {}
        database.scan(data, match_event_handler=report, context=found, scratch=scratch)
        return found

    return scan
