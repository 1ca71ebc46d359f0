"""Facts become Markdown that a stranger's name cannot break, with YAML in front that any parser reads the same."""

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST_NAME = 300
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*( [A-Za-z0-9_./+-]+)*")
_WORDS_WITH_A_MEANING = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def render(template: str, **values: Any) -> str:
    """A paper from its template; no line ends in a space, and no two empty lines follow each other."""
    text = _environment().get_template(template).render(**values)
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"


def front_matter(values: Mapping[str, Any]) -> str:
    """A YAML block between two lines of dashes."""
    return "---\n" + "\n".join(_yaml(values, 0)) + "\n---\n"


def cell(value: object) -> str:
    """Text that means itself in a line or a table's cell of Markdown, on one line and with nothing hidden in it."""
    text = str(value)
    return _escaped(text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…")


def prose(text: str) -> str:
    """What the provider says, as one paragraph: it is not cut, and may come in several lines."""
    return _escaped(" ".join(text.split()))


def size(size_bytes: int) -> str:
    """A number of bytes as people say it."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale * 0.995:
            return f"{size_bytes / scale:{'.3g' if size_bytes < 999.5 * scale else ',.0f'}} {unit}"
    return f"{size_bytes / 1e3:.3g} KB" if size_bytes >= 1000 else f"{size_bytes:,} bytes"


def fenced(text: str) -> str:
    """A text as a code block that nothing in it can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


def plural(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else many}"


def percent(part: float, whole: float) -> str:
    """A share, one digit after the point; what is little but not nothing says so."""
    if part and part < whole * 0.0005:
        return "< 0.1 %"
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _yaml(values: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(values, Mapping):
        return [line for key, value in values.items() for line in _entry(f"{indent}{_scalar(key)}:", value, depth)]
    lines = []
    for value in values:
        if isinstance(value, Mapping | list) and value:
            inner = _yaml(value, depth + 1)
            lines += [f"{indent}- {inner[0].lstrip()}", *inner[1:]]
        else:
            lines.append(f"{indent}- {_scalar(value)}")
    return lines


def _entry(key: str, value: Any, depth: int) -> list[str]:
    if isinstance(value, Mapping | list) and value:
        return [key, *_yaml(value, depth + 1)]
    return [f"{key} {_scalar(value)}"]


def _scalar(value: Any) -> str:
    """A value that YAML 1.1 and 1.2 read alike: JSON, or a plain word."""
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)e", r"\1.0e", json.dumps(value))  # YAML 1.1 wants the point
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS_WITH_A_MEANING:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _escaped(text: str) -> str:
    return re.sub(r"[\\|`*_\[\]<>&#~]", r"\\\g<0>", "".join(map(_visible, text)))


def _visible(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
    return character


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("starsmith.provenance.papers", "templates"),
        autoescape=False,  # noqa: S701 Markdown: what is not ours goes through `cell` or `fenced`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "prose": prose, "fenced": fenced}
    environment.filters |= {"size": size, "number": "{:,}".format, "plural": plural}
    environment.globals |= {"percent": percent}
    return environment
