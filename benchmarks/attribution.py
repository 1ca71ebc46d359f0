"""Attribution on real files: build, size, what is found and what is reported wrongly, and how long an answer takes.

About 440 MB of real files are indexed, in a process of its own on one core, Parquet reading included. Asked are pieces
of eight packages of which no version is indexed (novel), pieces of indexed files indented by a tab more (copied), and
spans of exactly 40 tokens, planted between novel pieces, as they are or with every gap changed.

Found is a planted span of which a match, of whatever kind, holds the 24 tokens of a fingerprint at least: where all its
fingerprints are common, no more is compared. Right is a `source` whose tokens stand in the lines that it names; the
texts are compared. Boilerplate is a `source` in a 20-line block of the held-out packages whose text has three
of a few words of licences, or hardly any letters: a rule that knows nothing of the index' own; `--show` prints them.
Streams are indexed files cut at random places, as a model would write on, with every kind of match held against them.

Cold is with the index' pages dropped from the page cache before each query, which major page faults confirm. The peers
get a part of the same files and the same queries; what we take for that part is measured beside them.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import real_files
from attributing import peers, queries, streams
from real_files import BENCH

from starsmith.core.console import note, table
from starsmith.core.hashing import TOKEN
from starsmith.provenance.attribution import Attributor, Match
from starsmith.provenance.fingerprints import FingerprintTable
from starsmith.provenance.index import IndexConfig, write_index
from starsmith.provenance.streaming import AttributionStream

BUILD_BAR, SIZE_BAR = 50.0, 0.22  # MB/s, bytes per corpus byte
P50_BAR, P99_BAR, COLD_BAR, STREAM_BAR = 0.2, 10.0, 15.0, 1.0  # ms
BOILERPLATE_BAR = 0.001  # of held-out blocks
COMPLETION_CHARACTERS = 200
MAX_PLACES = IndexConfig().max_places
_LICENCE_WORDS = re.compile(
    r"licen[cs]e|copyright|warrant|permission|redistribut|liab|merchantab|infring|granted", re.IGNORECASE
)


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    corpus_bytes: int
    infini_gram_bytes: int
    suffix_array_bytes: int
    planted: int
    asked: int  # queries of each kind
    cold: int


FULL = Sizes(450_000_000, 20_000_000, 100_000_000, 3000, 1500, 60)
QUICK = Sizes(60_000_000, 3_000_000, 20_000_000, 500, 300, 15)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of it, within two minutes")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--show", action="store_true", help="print what was taken for boilerplate")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)  # what the processes that build are started with
    parser.add_argument("--bytes", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    folder = real_files.gather(sizes.corpus_bytes)
    if arguments.build:
        print(json.dumps(build(folder, arguments.build, arguments.bytes)))
        return
    place = BENCH / "attribution" / folder.name
    built = sorted((_build_apart(place, sizes) for _ in range(3)), key=lambda one: one["mb_per_s"])
    attributor = Attributor(FingerprintTable(place), max_places=MAX_PLACES)
    novel, copied, blocks = _queries(folder, place, sizes)
    quality = measure_quality(place, attributor, blocks, sizes, show=arguments.show)
    speed = measure_speed(place, attributor, {"novel": novel, "copied": copied}, sizes)
    compared = compare(folder, {"novel": novel, "copied": copied}, sizes)
    holds = report(built, quality, speed, compared)
    if arguments.json:
        print(json.dumps(lines(built, speed, compared, holds)))


def build(folder: Path, place: Path, most_bytes: int) -> dict[str, float]:
    """Index a part of the files; MB/s, and the greatest memory of this process."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    began = time.perf_counter()
    counts = write_index(queries.batches(folder, most_bytes=most_bytes), place, IndexConfig(), lambda _: None)
    seconds = time.perf_counter() - began
    size = sum(path.stat().st_size for path in place.iterdir() if path.name != "text.bin")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"mb": counts["bytes"] / 1e6, "seconds": seconds, "mb_per_s": counts["bytes"] / 1e6 / seconds,
            "share": size / counts["bytes"], "peak_mb": peak}  # fmt: skip


def _build_apart(place: Path, sizes: Sizes, most_bytes: int | None = None) -> dict[str, float]:
    command = [sys.executable, __file__, "--build", str(place), "--bytes", str(most_bytes or sizes.corpus_bytes)]
    command += ["--quick"] if sizes is QUICK else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:1])
    told, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    outcome: dict[str, float] = json.loads(told)
    note(f"built {outcome['mb']:,.0f} MB: {outcome['mb_per_s']:.1f} MB/s, peak {outcome['peak_mb']:,.0f} MB")
    return outcome


def _queries(folder: Path, place: Path, sizes: Sizes) -> tuple[list[str], list[str], list[str]]:
    """50 lines that are novel, 50 lines that are copied, and the 20-line blocks of all held-out files."""
    draw, unseen = random.Random(1), queries.held_out(folder)
    index = FingerprintTable(place)
    novel = queries.blocks(unseen, 50)
    return (
        draw.sample(novel, min(sizes.asked, len(novel))),
        queries.copies(index.text, index.offsets, sizes.asked, draw),
        queries.blocks(unseen, 20),
    )


@dataclass(frozen=True)
class Quality:
    """What was found, and what was reported wrongly."""

    found: dict[str, float]  # share of planted spans, verbatim and respaced
    whole: dict[str, float]  # share of them that one match holds whole
    wrong: int  # source reports that are not equal
    checked: int
    blocks: int
    reported: Counter[str]  # blocks by kind of match
    boilerplate: int
    streams: int
    blocked: int
    leaked: int


def measure_quality(place: Path, attributor: Attributor, blocks: Sequence[str], sizes: Sizes, *, show: bool) -> Quality:
    """Planted spans and held-out blocks."""
    index, draw = FingerprintTable(place), random.Random(2)
    found, held, wrong, checked = {}, {}, 0, 0
    for name, respaced, number in (("verbatim", False, sizes.planted), ("respaced", True, sizes.planted // 2)):
        hits = whole = 0
        for _ in range(number):
            one = queries.plant(index.text, index.offsets, blocks, 40, respaced=respaced, draw=draw)
            matches = attributor.attribute(one.text)
            first, last = (len(one.text.encode()[:byte].decode()) for byte in (one.start, one.end))
            hits += any(_holds(match, one.text, first, last) for match in matches)
            whole += any(match.start <= first and last <= match.end for match in matches)
            for match in matches:
                if match.kind == "source":
                    checked += len(match.sources)
                    wrong += sum(not _is_equal(index, one.text, match, number) for number in range(len(match.sources)))
        found[name], held[name] = hits / number, whole / number
    reported: Counter[str] = Counter()
    boilerplate = 0
    for block in blocks:
        matches = attributor.attribute(block)
        reported.update({match.kind for match in matches})
        suspect = [block[match.start : match.end] for match in matches if match.kind == "source"]
        suspect = [text for text in suspect if _is_boilerplate(text)]
        boilerplate += bool(suspect)
        if show and suspect:
            note("\n".join(("-" * 40, *suspect)))
    blocked, leaked = streams.leaks(index, attributor, sizes.planted, random.Random(4))
    return Quality(found, held, wrong, checked, len(blocks), reported, boilerplate, sizes.planted, blocked, leaked)


def _holds(match: Match, text: str, first: int, last: int) -> bool:
    inside = text[max(match.start, first) : min(match.end, last)]
    return len(TOKEN.findall(inside.encode())) >= IndexConfig().ngram_tokens


def _is_equal(index: FingerprintTable, text: str, match: Match, number: int) -> bool:
    """Whether the tokens stand in the lines of a file with that path, as the texts have them."""
    source = match.sources[number]
    wanted = TOKEN.findall(text[match.start : match.end].encode())
    for document in _documents(index, source.repository, source.path):
        low, high = index.bounds(document)
        lines = index.text[low:high].tobytes().split(b"\n")[source.first_line - 1 : source.last_line]
        seen = TOKEN.findall(b"\n".join(lines))
        if any(seen[start : start + len(wanted)] == wanted for start in range(len(seen) - len(wanted) + 1)):
            return True
    return False


_PLACES: dict[tuple[str, str], list[int]] = {}


def _documents(index: FingerprintTable, repository: str, path: str) -> list[int]:
    if not _PLACES:
        columns = (index.documents[name].to_pylist() for name in ("repository", "path"))
        for number, key in enumerate(zip(*columns, strict=True)):
            _PLACES.setdefault(key, []).append(number)
    return _PLACES[repository, path]


def _is_boilerplate(text: str) -> bool:
    visible = [character for character in text if not character.isspace()]
    letters = sum(character.isalpha() for character in visible)
    return letters < 0.3 * len(visible) or len({word.lower() for word in _LICENCE_WORDS.findall(text)}) >= 3


@dataclass(frozen=True)
class Speed:
    """Milliseconds of a query, by kind of query."""

    warm: dict[str, list[float]]
    cold: dict[str, list[float]]
    stream: list[float]  # of a growing completion, the end of 50 novel lines


def measure_speed(place: Path, attributor: Attributor, asked: dict[str, list[str]], sizes: Sizes) -> Speed:
    """Each query warm, some cold, and novel ones as they grow."""
    warm: dict[str, list[float]] = {}
    for name, texts in asked.items():
        for text in texts:  # this reads the pages
            attributor.attribute(text)
        warm[name] = [_asked(attributor, text) for text in texts]
    _grow(attributor, asked["novel"][0])
    stream = [_grow(attributor, text) for text in asked["novel"][:200]]
    apart = place.with_name("cold")  # nothing else maps these files
    shutil.rmtree(apart, ignore_errors=True)
    shutil.copytree(place, apart)
    os.sync()
    cold = {name: [_cold(apart, text) for text in texts[: sizes.cold]] for name, texts in asked.items()}
    return Speed(warm, cold, stream)


def _grow(attributor: Attributor, text: str) -> float:
    """Milliseconds of all looks at a completion that is held against copies as it grows, and of its matches."""
    before, completion = text[:-COMPLETION_CHARACTERS], text[-COMPLETION_CHARACTERS:]
    began = time.perf_counter()
    follower = AttributionStream(attributor, before)
    for start in range(0, len(completion), 4):  # about a model's token
        follower.feed(completion[start : start + 4])
        follower.release(lambda match: match.kind == "source")
    follower.release(lambda match: match.kind == "source", final=True)
    follower.matches()
    return (time.perf_counter() - began) * 1e3


def _cold(place: Path, text: str) -> float:
    for path in place.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # pages that are mapped stay
    attributor = Attributor(FingerprintTable(place), max_places=MAX_PLACES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    took = _asked(attributor, text)
    if resource.getrusage(resource.RUSAGE_SELF).ru_majflt == before:
        raise SystemExit("a query that should be cold read no page from the disk")
    return took


def _asked(attributor: Attributor, text: str) -> float:
    """Milliseconds of a query."""
    began = time.perf_counter()
    attributor.attribute(text)
    return (time.perf_counter() - began) * 1e3


@dataclass(frozen=True)
class Compared:
    """A peer and us, on the same part of the files."""

    name: str
    mb: float
    ours: peers.Outcome
    theirs: peers.Outcome


def compare(folder: Path, asked: dict[str, list[str]], sizes: Sizes) -> list[Compared]:
    """Both peers, each on as much as it can take in a minute."""
    found = []
    for name, most_bytes, number in (
        ("infini-gram 2.6.0", sizes.infini_gram_bytes, 40),
        ("pydivsufsort 0.0.20", sizes.suffix_array_bytes, 300),
    ):
        place = BENCH / "attribution" / f"part-{most_bytes}"
        built = _build_apart(place, sizes, most_bytes)
        index = FingerprintTable(place)
        attributor = Attributor(index, max_places=MAX_PLACES)
        draw = random.Random(3)
        exact = [text.replace("\n\t", "\n")[1:] for text in queries.copies(index.text, index.offsets, number, draw)]
        part = {"novel": asked["novel"][:number], "exact": exact, "indented": [_indented(text) for text in exact]}
        times = {kind: [_asked(attributor, text) / 1e3 for text in texts] for kind, texts in part.items()}
        hits = {kind: sum(bool(attributor.attribute(text)) for text in texts) for kind, texts in part.items()}
        size = sum(path.stat().st_size for path in place.iterdir())
        ours = peers.Outcome(built["seconds"], size, times, hits)
        if name.startswith("infini"):
            texts = [
                text for batch in queries.batches(folder, most_bytes=most_bytes) for text in batch["text"].to_pylist()
            ]
            theirs = peers.infini_gram(texts, part)
        else:
            theirs = peers.suffix_array(index.text.tobytes(), part)
        found.append(Compared(name, built["mb"], ours, theirs))
    return found


def _indented(text: str) -> str:
    return "".join(f"    {row}\n" for row in text.split("\n"))


def report(built: Sequence[dict[str, float]], quality: Quality, speed: Speed, compared: Sequence[Compared]) -> bool:
    """Print the tables; whether every bar holds."""
    middle = built[len(built) // 2]
    claims = [
        ("build, one core, MB/s", middle["mb_per_s"], f">= {BUILD_BAR}", middle["mb_per_s"] >= BUILD_BAR),
        ("index beside the text, bytes a byte", middle["share"], f"<= {SIZE_BAR}", middle["share"] <= SIZE_BAR),
        ("peak memory of the build, MB", middle["peak_mb"], "", True),
        *((f"planted spans found, {name}, %", 100 * share, "100", share == 1) for name, share in quality.found.items()),
        *((f"  whole, by one match, {name}, %", 100 * share, "", True) for name, share in quality.whole.items()),
        (f"source reports that are not equal, of {quality.checked:,}", quality.wrong, "0", quality.wrong == 0),
        (f"boilerplate as source, % of {quality.blocks:,} blocks", 100 * quality.boilerplate / quality.blocks,
         f"<= {100 * BOILERPLATE_BAR}", quality.boilerplate <= BOILERPLATE_BAR * quality.blocks),
        *((f"blocks with a {kind} match, %", 100 * number / quality.blocks, "", True)
          for kind, number in quality.reported.most_common()),
        (f"streams of which a 65th token left, {quality.blocked:,} of {quality.streams:,} ended", quality.leaked,
         "0", quality.leaked == 0),
        *_latencies(speed),
    ]  # fmt: skip
    rows = [
        (claim, f"{value:.3g}", bar, "" if not bar else "holds" if holds else "MISSED")
        for claim, value, bar, holds in claims
    ]
    table("Attribution", ("claim", "measured", "bar", ""), rows, right=("measured", "bar"))
    columns = ("peer", "MB", "what", "ours", "theirs", "ratio")
    table("Side by side", columns, [row for one in compared for row in _side_by_side(one)], right=columns[3:])
    return all(holds for *_, holds in claims)


def _latencies(speed: Speed) -> list[tuple[str, float, str, bool]]:
    found = []
    for name, times in speed.warm.items():
        ordered = sorted(times)
        p50, p99 = statistics.median(ordered), ordered[int(0.99 * len(ordered))]
        found.append((f"warm, 50 lines {name}, p50 ms", p50, f"<= {P50_BAR}", p50 <= P50_BAR))
        found.append((f"warm, 50 lines {name}, p99 ms", p99, f"<= {P99_BAR}", p99 <= P99_BAR))
    for name, times in speed.cold.items():
        p50 = statistics.median(times)
        found.append((f"cold, 50 lines {name}, p50 ms", p50, f"<= {COLD_BAR}", p50 <= COLD_BAR))
    p50 = statistics.median(speed.stream)
    what = f"a completion of {COMPLETION_CHARACTERS} characters watched as it grows, p50 ms"
    return [*found, (what, p50, f"<= {STREAM_BAR}", p50 <= STREAM_BAR)]


def _side_by_side(one: Compared) -> list[tuple[object, ...]]:
    ours, theirs = one.ours, one.theirs
    rows: list[tuple[object, ...]] = [
        (one.name, f"{one.mb:.0f}", "build, MB/s", f"{one.mb / ours.build_s:.1f}", f"{one.mb / theirs.build_s:.1f}",
         f"{theirs.build_s / ours.build_s:.1f}"),
        ("", "", "bytes a byte, text included", f"{ours.index_bytes / one.mb / 1e6:.2f}",
         f"{theirs.index_bytes / one.mb / 1e6:.2f}", f"{theirs.index_bytes / ours.index_bytes:.1f}"),
    ]  # fmt: skip
    for kind in ours.times_s:
        own, other = (statistics.median(outcome.times_s[kind]) * 1e3 for outcome in (ours, theirs))
        rows.append(("", "", f"50 lines {kind}, p50 ms", f"{own:.3f}", f"{other:.3f}", f"{other / own:.0f}"))
        rows.append(("", "", f"  of {len(ours.times_s[kind])}, found", ours.found[kind], theirs.found[kind], ""))
    return rows


def lines(
    built: Sequence[dict[str, float]], speed: Speed, compared: Sequence[Compared], holds: bool
) -> list[dict[str, object]]:
    """What `--json` prints."""
    middle = built[len(built) // 2]
    found: list[dict[str, object]] = [
        {"name": "attribution", "ours": middle["mb_per_s"], "peer": None, "peer_name": None, "unit": "MB/s",
         "ratio": None, "bar": BUILD_BAR, "holds": holds,
         "warm_p50_ms": {name: statistics.median(times) for name, times in speed.warm.items()}}
    ]  # fmt: skip
    for one in compared:
        own, other = (statistics.median(outcome.times_s["exact"]) * 1e3 for outcome in (one.ours, one.theirs))
        found.append({"name": "attribution", "ours": own, "peer": other, "peer_name": one.name, "unit": "ms",
                      "ratio": other / own, "bar": None, "holds": None})  # fmt: skip
    return found


if __name__ == "__main__":
    main()
