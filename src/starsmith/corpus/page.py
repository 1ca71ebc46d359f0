"""The corpus as pages that load nothing: the data card drawn, and some of the files to read with where they come from.

Names and texts are strangers' and stay data: templates escape them, the files travel as JSON that cannot end its
element, the script puts them in as text nodes only, and the page's policy runs no script but the one that it hashes.
"""

import base64
import hashlib
import heapq
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq

from starsmith.core.errors import ArtifactError

if TYPE_CHECKING:
    from jinja2 import Environment

SAMPLES = 200
LARGEST_PAGE_BYTES = 2_900_000
_LARGEST_TEXT = 24_000  # characters shown of a file, fewer where the page would get too large
_LONGEST_NAME = 300  # characters shown of a path, a repository, a licence
_ROWS = 16_384  # read at a time, without texts
_TEXTS = 64  # read at a time

# What a reader would not see, or would be misled by: controls, marks of direction, characters without width.
_HIDDEN = re.compile(
    r"[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\U000e0000-\U000e007f]"
)
_CONTROL_TOKEN = re.compile(r"<[^<>\s]{1,40}>")
_SHOWN = ("path", "language", "license", "license_evidence", "repository", "commit", "swhid", "split", "kind", "stars")
_SIGNALS = ("date", "size_bytes", "cluster_size", "comment_ratio", "average_line", "alphabetic_share", "is_test")
_MEASURED = ("characters_per_token", "redactions", "weight")


class Place(NamedTuple):
    """A file of the corpus by where it stands in the shards; in the order of a draw."""

    swhid: str  # a hash of the content, so its order is a draw that anyone can repeat
    shard: int
    row: int


def shards(corpus: Path) -> list[Path]:
    """The Parquet files of a corpus, in order."""
    found = sorted((corpus / "shards").glob("*.parquet"))
    if not found:
        raise ArtifactError(f"{corpus} has no Parquet shards", hint="build it: starsmith corpus build SOURCE --out DIR")
    return found


def hues(languages: Sequence[str]) -> dict[str, int]:
    """A colour for each language, as an angle: from indigo over green to amber, the largest first, then round again."""
    return {name: (265 - 11 * (number % 25)) % 360 for number, name in enumerate(languages)}


def render(template: str, **values: Any) -> str:
    """A page from its template."""
    return _environment().get_template(template).render(**values)


def samples(corpus: Path, languages: Sequence[str]) -> str:
    """The page of sample files; `languages` in the order in which they get their colours."""
    from markupsafe import Markup

    script = _source("samples.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    places, total = draw(corpus)
    rows = sorted(_read(corpus, places), key=lambda row: (row["language"] or "", row["repository"], row["path"]))
    return render(
        "samples.html",
        script=Markup(script),  # noqa: S704 - ours, read from the package
        script_hash=digest,
        data=Markup(_data(rows, hues(languages))),  # noqa: S704 - escaped by _json
        shown=len(rows),
        total=total,
    )


def draw(corpus: Path, number: int = SAMPLES) -> tuple[list[Place], int]:
    """Places of at most `number` files, spread over the languages, and how many files there are.

    The seats of a language grow with the square root of its files: the small ones are seen, the large ones lead.
    """
    lowest: dict[str, list[Place]] = defaultdict(list)
    files: Counter[str] = Counter()
    for index, shard in enumerate(shards(corpus)):
        batch: dict[str, list[Place]] = defaultdict(list)
        for row, (language, swhid) in enumerate(_identities(shard)):
            files[language] += 1
            batch[language].append(Place(swhid, index, row))
            if len(batch[language]) >= 16 * number:
                batch[language] = heapq.nsmallest(number, batch[language])
        for language, places in batch.items():
            lowest[language] = heapq.nsmallest(number, [*lowest[language], *places])
    seats = _seats(files, number)
    return [place for language in sorted(seats) for place in lowest[language][: seats[language]]], files.total()


def _seats(files: Mapping[str, int], number: int) -> dict[str, int]:
    """Seats by D'Hondt's method over square roots, never more than there are files."""
    seats = dict.fromkeys(files, 0)
    queue = [(-(count**0.5), language) for language, count in sorted(files.items())]
    heapq.heapify(queue)
    while queue and sum(seats.values()) < number:
        _, language = heapq.heappop(queue)
        seats[language] += 1
        if seats[language] < files[language]:
            heapq.heappush(queue, (-(files[language] ** 0.5) / (seats[language] + 1), language))
    return seats


def _identities(shard: Path) -> Iterator[tuple[str, str]]:
    with pq.ParquetFile(shard) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=["language", "swhid"]):
            languages, swhids = (batch.column(name).to_pylist() for name in ("language", "swhid"))
            yield from ((language or "", swhid) for language, swhid in zip(languages, swhids, strict=True))


def _read(corpus: Path, places: Iterable[Place]) -> Iterator[dict[str, Any]]:
    """The rows at these places; only the row groups that hold one are read, a few texts at a time."""
    wanted: dict[int, set[int]] = defaultdict(set)
    for place in places:
        wanted[place.shard].add(place.row)
    columns = ["text", "controls", *_SHOWN, *_SIGNALS, *_MEASURED]
    for index, shard in enumerate(shards(corpus)):
        if index not in wanted:
            continue
        with pq.ParquetFile(shard) as file:
            first = 0
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                if inside := [row - first for row in wanted[index] if first <= row < last]:
                    yield from _pick(file, group, sorted(inside), columns)
                first = last


def _pick(file: Any, group: int, rows: Sequence[int], columns: list[str]) -> Iterator[dict[str, Any]]:
    first = 0
    for batch in file.iter_batches(batch_size=_TEXTS, row_groups=[group], columns=columns):
        inside = [row - first for row in rows if first <= row < first + batch.num_rows]
        yield from batch.take(inside).to_pylist() if inside else ()
        first += batch.num_rows


def _data(rows: Sequence[dict[str, Any]], colours: Mapping[str, int]) -> str:
    """All files as JSON, each cut as little as the page's size allows."""
    longest = _LARGEST_TEXT
    while True:
        data = _json([_sample(row, colours, longest) for row in rows])
        if len(data.encode()) <= LARGEST_PAGE_BYTES - 100_000:
            return data
        longest = longest * 2 // 3


def _json(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate({ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


def _sample(row: Mapping[str, Any], colours: Mapping[str, int], longest: int) -> dict[str, Any]:
    text: str = row["text"]
    cut = text.rfind("\n", longest // 2, longest) + 1 or longest
    shown = text if len(text) <= longest else text[:cut]
    return {
        **{name: visible(str(row[name] or "")) for name in _SHOWN if name != "stars"},
        "hue": colours.get(row["language"] or "", 265),
        "signals": _facts(row),
        "redactions": row["redactions"] or 0,
        "segments": segments(shown, row["controls"] or ()),
        "left_out": len(text) - len(shown),
    }


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The signals of a file that has them, each in words."""
    forms = (
        ("size", "size_bytes", "{:,} bytes"),
        ("stars", "stars", "{:,}"),
        ("revision of", "date", "{:.10}"),
        ("near-duplicate cluster", "cluster_size", "{:,} files"),
        ("comments", "comment_ratio", "{:.0%}"),
        ("letters", "alphabetic_share", "{:.0%}"),
        ("characters per line", "average_line", "{:.1f}"),
        ("characters per token", "characters_per_token", "{:.1f}"),
        ("redactions", "redactions", "{:,}"),
        ("sampling weight", "weight", "{:g}"),
    )
    silent = {"cluster_size": 1, "redactions": 0, "weight": 1, "date": ""}  # says nothing
    facts = [
        (label, visible(form.format(row[column])))
        for label, column, form in forms
        if row[column] is not None and row[column] != silent.get(column)
    ]
    return [*facts, ("test", "yes")] if row["is_test"] else facts


def segments(text: str, controls: Iterable[int]) -> list[str | list[str]]:
    """The text as plain strings and [kind, string] pairs: "control" for control tokens, "hidden" for the unseen."""
    marks = {start: ("control", match[0]) for start in controls if (match := _CONTROL_TOKEN.match(text, start))}
    marks |= {match.start(): ("hidden", match[0]) for match in _HIDDEN.finditer(text) if match[0] != "\r"}
    parts: list[str | list[str]] = []
    done = 0
    for start, (kind, token) in sorted(marks.items()):
        if start < done:
            continue  # a second token inside the first: its offsets were wrong
        parts += [text[done:start]] if start > done else []
        parts.append([kind, token if kind == "control" else f"U+{ord(token):04X}"])
        done = start + len(token)
    return [*parts, text[done:]] if done < len(text) else parts


def visible(name: str) -> str:
    """A name on one line with nothing hidden in it: `a\\u000ab` for a newline, cut where it is very long."""
    cut = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    return "".join(_escaped(character) for character in cut)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp"):
        return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
    return character


def _cell(value: object) -> str:
    """Text that means itself in a cell of a Markdown table."""
    return re.sub(r"[\\|`*\[\]<>&]", r"\\\g<0>", visible(str(value)))


def _size(size_bytes: int) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale * 0.995:
            return f"{size_bytes / scale:{'.3g' if size_bytes < 999.5 * scale else ',.0f'}} {unit}"
    return f"{size_bytes / 1e3:.3g} KB" if size_bytes >= 1000 else f"{size_bytes:,} bytes"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("starsmith.corpus", "page"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "visible": visible, "size": _size, "number": "{:,}".format}
    return environment


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
