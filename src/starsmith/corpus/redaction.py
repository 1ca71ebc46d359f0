"""Takes secrets and personal data out of a text: a control token in their place, a private address for an address.

`<EMAIL> <KEY> <PASSWORD> <NAME>` are special tokens of StarCoder2. Where they were put in is told by character offsets,
so that a file which has the same characters as text is no matter. Nothing outside a span changes. A span never
covers the quotes of a literal, a part of an escape sequence or a control token that was there before: what parsed
still parses. BigCode's rules add a space where a secret begins a file, replace overlapping spans twice and miss keys
of several lines; the tests hold that these do not.
"""

import ipaddress
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from starsmith.core.errors import ConfigError
from starsmith.corpus.secrets import A_NAME, EMAIL, IP_ADDRESS, KEY, NAME, PASSWORD, Span, scanner

CONTROL_TOKENS = {EMAIL: "<EMAIL>", KEY: "<KEY>", PASSWORD: "<PASSWORD>", NAME: "<NAME>"}

Names = Callable[[str], Sequence[tuple[int, int]]]  # a model: the text -> character spans of people's names

_QUOTES = "\"'`"
_BODY = re.compile(r"[A-Za-z0-9+/=]{8,}")  # of a key that is written as several literals
_AFTER_BACKSLASH = {"x": 3, "u": 5, "U": 9}  # characters of an escape sequence; any other has one
_LONGEST_TOKEN = 64  # characters of a control token, brackets included
_FIRST_V4 = ipaddress.IPv4Address("10.0.0.1")
_FIRST_V6 = ipaddress.IPv6Address("fd00::1")


@dataclass(frozen=True, kw_only=True)
class RedactionConfig:
    """What is taken out."""

    emails: bool = True  # <EMAIL>, but for addresses of nobody such as user@example.com and git@github.com
    keys: bool = True  # <KEY>: tokens, private keys, credentials
    passwords: bool = True  # <PASSWORD>
    ip_addresses: bool = True  # public addresses become private ones of the same version
    names: bool = True  # <NAME>, where a model that finds names is given
    least_characters: int = 4  # in a value; shorter ones stay, as in the paper

    def __post_init__(self) -> None:
        if self.least_characters < 1:
            raise ConfigError(
                f"least_characters={self.least_characters}: at least 1 is needed", hint="the paper's value is 4"
            )

    @cached_property
    def kinds(self) -> frozenset[str]:
        """What the scanner looks for; names are a model's matter."""
        wanted = {EMAIL: self.emails, KEY: self.keys, PASSWORD: self.passwords, IP_ADDRESS: self.ip_addresses}
        return frozenset(kind for kind, on in wanted.items() if on)


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without its secrets."""

    text: str
    controls: tuple[int, ...]  # character offsets of all control tokens, those that were there before included
    counts: dict[str, int]  # what was taken out, by kind


def redact(
    text: str, config: RedactionConfig, controls: tuple[int, ...] = (), *, names: Names | None = None
) -> Redacted:
    """The text with replacements, or the same object where nothing was found.

    controls  character offsets of the control tokens that stand in `text` already, ascending
    """
    spans = _found(text, config, names)
    if not spans:
        return Redacted(text, controls, {})
    protected = [(start, _end_of_token(text, start)) for start in controls]
    pieces = [piece for span in merged(spans) for piece in _pieces(text, span)]
    fitted = [span for piece in pieces for span in _beside(piece, protected)]
    kept = [span for span in (_within_literal(text, span) for span in fitted) if span.end > span.start]
    return _replaced(text, kept, controls) if kept else Redacted(text, controls, {})


def _found(text: str, config: RedactionConfig, names: Names | None) -> list[Span]:
    """Spans in characters, values that are too short left out."""
    spans: list[Span] = []
    if config.kinds:
        data = text.encode("utf-8", "surrogatepass")
        spans = scanner(config.kinds).find(data)
        if spans and len(data) != len(text):
            spans = _in_characters(data, spans)
    if names is not None and config.names:
        spans += [Span(start, end, NAME, A_NAME, "name") for start, end in names(text) if 0 <= start < end <= len(text)]
    return [span for span in spans if span.end - span.start >= config.least_characters]


def _in_characters(data: bytes, spans: list[Span]) -> list[Span]:
    """Byte offsets made character offsets, each part of the file decoded once."""
    offsets: dict[int, int] = {}
    seen = characters = 0
    for offset in sorted({offset for span in spans for offset in (span.start, span.end)}):
        part = data[seen:offset]
        characters += len(part) if part.isascii() else _characters(part)
        seen = offset
        offsets[offset] = characters
    return [replace(span, start=offsets[span.start], end=offsets[span.end]) for span in spans]


def _characters(part: bytes) -> int:
    return len(part.decode("utf-8", "surrogatepass"))


def merged(spans: list[Span]) -> list[Span]:
    """Overlapping spans made one, of the kind that comes first in the order of `secrets`. Spans that touch stay two."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        last = result[-1] if result else None
        if last is None or span.start >= last.end:
            result.append(span)
            continue
        strongest = min(last, span, key=lambda each: each.rank)
        result[-1] = replace(strongest, start=last.start, end=max(last.end, span.end))
    return result


def _pieces(text: str, span: Span) -> Iterator[Span]:
    """One span, or the parts of a private key that is written as several literals."""
    value = text[span.start : span.end]
    body, end = value.find("-----", 10) + 5, value.rfind("-----END")
    if span.kind != KEY or not value.startswith("-----BEGIN") or not any(quote in value for quote in _QUOTES):
        yield span
        return
    for run in _BODY.finditer(value, body, end if end > body else len(value)):
        yield replace(span, start=span.start + run.start(), end=span.start + run.end())


def _beside(span: Span, protected: list[tuple[int, int]]) -> Iterator[Span]:
    """What of a span lies outside the control tokens that were there before."""
    start = span.start
    first = max(0, bisect_left(protected, (span.start, 0)) - 1)
    for token_start, token_end in protected[first:]:
        if token_start >= span.end:
            break
        if token_start > start:
            yield replace(span, start=start, end=token_start)
        start = max(start, token_end)
    if start < span.end:
        yield replace(span, start=start)


def _end_of_token(text: str, start: int) -> int:
    return text.find(">", start, start + _LONGEST_TOKEN) + 1 or start + 1


def _within_literal(text: str, span: Span) -> Span:
    """The span without the quotes around its value, and without parts of escape sequences at its ends."""
    start, end = span.start, span.end
    while end - start > 1 and text[start] in _QUOTES and text[end - 1] == text[start]:
        start, end = start + 1, end - 1
    while span.kind == KEY and start < end and text[start] in _QUOTES:  # no key has one
        start += 1
    if start < end and _odd_backslashes(text, start):
        start += _AFTER_BACKSLASH.get(text[start], 1)
    stops = {KEY: _QUOTES + "\r\n", PASSWORD: "\r\n"}.get(span.kind, "")
    value = text[start:end]
    if "PRIVATE KEY" not in value:  # a value that runs past its literal or line is cut there
        end = start + min((at for at in map(value.find, stops) if at >= 0), default=len(value))
    while end > start and _odd_backslashes(text, end):
        end -= 1
    return replace(span, start=start, end=end)


def _odd_backslashes(text: str, at: int) -> bool:
    first = at
    while first > 0 and text[first - 1] == "\\":
        first -= 1
    return (at - first) % 2 == 1


def _replaced(text: str, spans: list[Span], controls: tuple[int, ...]) -> Redacted:
    """The parts between the spans and the replacements, joined; every control token's place in the result."""
    addresses = _Addresses(text)
    parts: list[str] = []
    placed: list[int] = []
    moved: list[int] = []
    seen = length = 0
    waiting = list(reversed(controls))
    for span in spans:
        while waiting and waiting[-1] < span.start:
            moved.append(waiting.pop() - seen + length)
        before = text[seen : span.start]
        value = text[span.start : span.end]
        new = addresses.private(value) if span.kind == IP_ADDRESS else CONTROL_TOKENS[span.kind]
        if span.kind != IP_ADDRESS:
            placed.append(length + len(before))
        parts += (before, new)
        length += len(before) + len(new)
        seen = span.end
    moved += [offset - seen + length for offset in reversed(waiting)]
    parts.append(text[seen:])
    return Redacted("".join(parts), tuple(sorted(placed + moved)), dict(Counter(span.kind for span in spans)))


class _Addresses:
    """Private addresses for public ones: one and the same for each, in the order in which they come."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._given: dict[str, str] = {}
        self._next: dict[int, ipaddress.IPv4Address | ipaddress.IPv6Address] = {4: _FIRST_V4, 6: _FIRST_V6}

    def private(self, value: str) -> str:
        """Of the same version, and not one that the file uses itself."""
        key = value.lower()
        if key not in self._given:
            version = 6 if ":" in value else 4
            while str(self._next[version]) in self._text:
                self._next[version] += 1
            self._given[key] = str(self._next[version])
            self._next[version] += 1
        return self._given[key]
